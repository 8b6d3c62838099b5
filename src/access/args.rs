//! The flags of a service that say who is let in, and where the key comes from that signs stream tokens.

use std::fs::{File, OpenOptions, Permissions};
use std::io::{ErrorKind, Read, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use anyhow::Context;
use clap::Args;
use data_encoding::HEXLOWER;

use super::Tokens;
use crate::http::{BadOrigin, Origin, Origins};
use crate::journal::LogId;

const TOKEN_KEY: &str = "PAYLOG_TOKEN_KEY";
/// Of a file in which the key is.
const FILE_MAX_BYTES: u64 = 64 * 1024;
const OWNER_ONLY: u32 = 0o600;

#[derive(Clone, Debug, Args)]
pub struct AccessArgs {
    /// Let in nobody without a key, not from this machine either: for where a proxy on this machine asks for others and does
    /// not say so. Keys are made with `paylog keys`.
    #[arg(long, env = "PAYLOG_REQUIRE_KEYS", value_parser = clap::builder::BoolishValueParser::new())]
    pub require_keys: bool,
    /// A file with the key that signs stream tokens, where it is not in the environment (PAYLOG_TOKEN_KEY): 32 characters at
    /// least, the same for every instance. Several with commas between: the first signs. Without either, an embedded
    /// journal has a key of its own in its data directory, and on Kafka no stream tokens are given out.
    #[arg(long, env = "PAYLOG_TOKEN_KEY_FILE", value_name = "FILE")]
    pub token_key_file: Option<PathBuf>,
    /// A page of this origin, as https://shop.example, may follow payments with a stream token, over every channel; may be
    /// repeated, or have `,` between. Without it browsers show answers to no page but paylog's own.
    #[arg(long, env = "PAYLOG_ALLOW_ORIGIN", value_name = "ORIGIN", value_parser = origins)]
    pub allow_origin: Vec<Vec<Origin>>,
}

impl AccessArgs {
    /// Whose pages are shown answers.
    #[must_use]
    pub fn origins(&self) -> Origins {
        Origins::new(&self.allow_origin.concat())
    }

    /// `own` is where one process keeps a key of its own. `None` where there is nothing to sign with.
    pub fn tokens(&self, log: LogId, own: Option<&Path>) -> anyhow::Result<Option<Tokens>> {
        let named = std::env::var(TOKEN_KEY).ok().filter(|key| !key.trim().is_empty());
        let (key, from) = match (named, &self.token_key_file, own) {
            (Some(key), ..) => (key, TOKEN_KEY.to_owned()),
            (None, Some(file), _) => (read(file)?, file.display().to_string()),
            (None, None, Some(own)) => (read_or_make(own)?, own.display().to_string()),
            (None, None, None) => return Ok(None),
        };
        Tokens::new(&key, log).with_context(|| format!("reading {from}")).map(Some)
    }
}

/// An empty variable, and a comma too much, name none.
fn origins(text: &str) -> Result<Vec<Origin>, BadOrigin> {
    text.split(',').map(str::trim).filter(|origin| !origin.is_empty()).map(str::parse).collect()
}

fn read(path: &Path) -> anyhow::Result<String> {
    let shown = || format!("cannot read the key that signs stream tokens from {}", path.display());
    let mut text = String::new();
    let file = File::open(path).with_context(shown)?;
    file.take(FILE_MAX_BYTES).read_to_string(&mut text).with_context(shown)?;
    Ok(text)
}

/// A key of its own, made once. Nobody else on this machine may read it, from the moment that it is there.
fn read_or_make(path: &Path) -> anyhow::Result<String> {
    let shown = || format!("cannot write the key that signs stream tokens to {}", path.display());
    match std::fs::metadata(path) {
        Ok(_) => {
            // A copy of the directory may have made it more.
            std::fs::set_permissions(path, Permissions::from_mode(OWNER_ONLY)).with_context(shown)?;
            return read(path);
        }
        Err(e) if e.kind() == ErrorKind::NotFound => {}
        Err(e) => return Err(e).with_context(shown),
    }
    let key = HEXLOWER.encode(&rand::random::<[u8; 32]>());
    let part = path.with_extension("part");
    let write = || {
        match std::fs::remove_file(&part) {
            Err(e) if e.kind() != ErrorKind::NotFound => return Err(e),
            _ => {}
        }
        let mut file = OpenOptions::new().write(true).create_new(true).mode(OWNER_ONLY).open(&part)?;
        file.write_all(key.as_bytes())?;
        file.sync_all()?;
        std::fs::rename(&part, path)
    };
    write().with_context(shown)?;
    Ok(key)
}

#[cfg(test)]
mod tests {
    use std::fs::Permissions;
    use std::os::unix::fs::PermissionsExt;

    use clap::Parser;

    use super::{AccessArgs, read_or_make};
    use crate::journal::LogId;

    #[derive(Parser)]
    struct Flags {
        #[command(flatten)]
        access: AccessArgs,
    }

    fn tokens(file: Option<std::path::PathBuf>) -> anyhow::Result<bool> {
        let args = AccessArgs { require_keys: false, token_key_file: file, allow_origin: Vec::new() };
        Ok(args.tokens(LogId([7; 16]), None)?.is_some())
    }

    #[test]
    fn origins_are_named_with_commas_between_and_an_empty_variable_names_none() {
        let named = |flags: &[&str]| {
            let args = Flags::try_parse_from([&["serve"], flags].concat())?.access;
            Ok::<_, clap::Error>(args.allow_origin.concat().len())
        };
        for (flags, count) in [
            (&[][..], 0),
            (&["--allow-origin", ""], 0),
            (&["--allow-origin", " , "], 0),
            (&["--allow-origin", "https://shop.example, http://localhost:3000,"], 2),
            (&["--allow-origin", "https://shop.example", "--allow-origin", "http://localhost:3000"], 2),
        ] {
            assert_eq!(named(flags).unwrap(), count, "{flags:?}");
        }
        assert!(
            named(&["--allow-origin", "https://shop.example,*"]).is_err_and(|e| e.to_string().contains("name each"))
        );
    }

    #[test]
    fn a_key_of_its_own_is_made_once_and_for_its_owner_alone() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("token-key");
        let made = read_or_make(&path).unwrap();
        let mode = || std::fs::metadata(&path).unwrap().permissions().mode() & 0o777;
        assert_eq!((made.len(), mode()), (64, 0o600));
        std::fs::set_permissions(&path, Permissions::from_mode(0o644)).unwrap();
        assert_eq!((read_or_make(&path).unwrap(), mode()), (made, 0o600));
    }

    #[test]
    fn a_file_that_is_not_there_or_too_short_ends_the_start() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("key");
        assert!(tokens(Some(file.clone())).is_err_and(|e| format!("{e:#}").contains("cannot read")));
        std::fs::write(&file, "hunter2").unwrap();
        assert!(tokens(Some(file.clone())).is_err_and(|e| !format!("{e:#}").contains("hunter2")));
        std::fs::write(&file, format!("{}\n", "k".repeat(32))).unwrap();
        assert_eq!(tokens(Some(file)).ok(), Some(true));
        assert_eq!(tokens(None).ok(), Some(false), "and without one there are none");
    }
}
