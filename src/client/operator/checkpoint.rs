//! `checkpoint create`, `checkpoint check` and `checkpoint restore`.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, bail};
use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::{get, line, post, text};
use crate::checkpoint::{Checkpoint, Header};
use crate::client::client;
use crate::config::ClientArgs;
use crate::progress::Progress;
use crate::service::checkpoint as offline;

const PATH: &str = "/v1/operator/checkpoints";
/// Between two looks at one that is being written.
const LOOK_EVERY: Duration = Duration::from_millis(250);

#[derive(Debug, Subcommand)]
pub enum CheckpointCommand {
    /// Copy the rows of an instance into a file, beside whatever runs: into the directory `checkpoints` of its data directory.
    /// Or, with --offline, those of one that does not run, into any file.
    Create(CreateArgs),
    /// Read a checkpoint from one end to the other, and say what it is of, and whether it is whole and unchanged.
    Check {
        /// The checkpoint.
        file: PathBuf,
    },
    /// Make the rows of an instance that has none yet, and does not run, of a checkpoint. Its next start compares them with the
    /// log, and folds what the log has since.
    Restore {
        /// The checkpoint.
        file: PathBuf,
        /// The instance's data directory.
        #[arg(long, env = "PAYLOG_DATA_DIR", default_value = "./paylog-data")]
        data_dir: PathBuf,
    },
}

#[derive(Debug, Args)]
pub struct CreateArgs {
    /// The projection: `payments` or `totals`.
    #[arg(default_value = "payments")]
    pub projection: String,
    #[command(flatten)]
    pub client: ClientArgs,
    /// In how much of the time it may work, in percent; what the instance was told for rebuilds if it is left out.
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=100), conflicts_with = "offline")]
    pub effort: Option<u32>,
    /// Afterwards, delete all but the latest so many of the instance's checkpoints.
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..), conflicts_with = "offline")]
    pub keep: Option<u32>,
    /// Open the data directory of an instance that does not run, in place of asking one that does.
    #[arg(long, requires = "file")]
    pub offline: bool,
    /// Which, with --offline.
    #[arg(long, env = "PAYLOG_DATA_DIR", default_value = "./paylog-data")]
    pub data_dir: PathBuf,
    /// Where to, with --offline.
    #[arg(long, value_name = "FILE", requires = "offline")]
    pub file: Option<PathBuf>,
}

pub async fn checkpoint(command: CheckpointCommand, out: &mut impl Write) -> anyhow::Result<()> {
    match command {
        CheckpointCommand::Create(CreateArgs { projection, offline: true, file: Some(file), data_dir, .. }) => {
            let (to, blocking) = (file.clone(), move || offline::create(&projection, &data_dir, &file));
            let (header, made) = tokio::task::spawn_blocking(blocking).await??;
            let (of, rows, bytes, digest) = (said(&header), made.rows, made.bytes, made.digest);
            line(out, &format!("{}: {rows} rows in {bytes} bytes, {of}, digest {digest}", to.display()))
        }
        CheckpointCommand::Create(args) => create(&args, out).await,
        CheckpointCommand::Check { file } => {
            let said = tokio::task::spawn_blocking(move || check(&file)).await??;
            line(out, &said)
        }
        CheckpointCommand::Restore { file, data_dir } => {
            let (header, rows) = tokio::task::spawn_blocking(move || offline::restore(&file, &data_dir)).await??;
            line(out, &format!("{rows} rows restored, {}; start the instance, and it folds the rest", said(&header)))
        }
    }
}

/// Asks a running instance for one, and waits for it.
async fn create(args: &CreateArgs, out: &mut impl Write) -> anyhow::Result<()> {
    let (client, url) = (client()?, &args.client.url);
    let mut body = json!({"projection": args.projection});
    for (field, value) in [("effort", args.effort), ("keep", args.keep)] {
        if let Some(value) = value {
            body[field] = json!(value);
        }
    }
    let (_, begun) = post(&client, url, PATH, &body).await?;
    let file = text(&begun["latest"], "file").to_owned();
    loop {
        let all = get(&client, url, PATH, &[]).await?;
        let ours = |of: &&Value| text(of, "projection") == args.projection;
        let latest = &all["data"].as_array().into_iter().flatten().find(ours).unwrap_or(&Value::Null)["latest"];
        if text(latest, "file") != file {
            bail!("the instance no longer knows of {file}: it was started again meanwhile, or was asked for another");
        }
        match text(latest, "state") {
            "whole" => {
                let (rows, bytes, digest) = (&latest["rows"], &latest["bytes"], text(latest, "digest"));
                return line(out, &format!("{file}: {rows} rows in {bytes} bytes, digest {digest}"));
            }
            "failed" => bail!("{file} could not be made: {}", text(latest, "error")),
            _ => tokio::time::sleep(LOOK_EVERY).await,
        }
    }
}

fn check(file: &Path) -> anyhow::Result<String> {
    let whole = Checkpoint::open(file).and_then(|checkpoint| {
        let mut progress = Progress::new("verifying", "bytes", checkpoint.progress().1);
        let verified = checkpoint.verify(|read| {
            progress.reached(read.progress().0);
            progress.look(); // a block is a long way
        });
        progress.end();
        verified
    });
    let whole = whole.with_context(|| file.display().to_string())?;
    Ok(format!("whole and unchanged: {} rows, {}, digest {}", whole.rows(), said(whole.header()), whole.digest()))
}

fn said(header: &Header) -> String {
    let Header { projection, log, created_at, .. } = header;
    format!("{projection} of the log {log} folded to {} (by partition), made at {created_at}", header.offsets())
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use crate::config::Cli;

    #[test]
    fn a_running_instance_is_given_no_path_and_one_that_does_not_run_needs_one() {
        let takes = |words: &[&str]| Cli::try_parse_from(["paylog", "checkpoint"].iter().chain(words)).is_ok();
        assert!(takes(&["create", "totals", "--effort", "50", "--keep", "3"]));
        assert!(takes(&["create", "--offline", "--data-dir", "x", "--file", "y"]));
        assert!(takes(&["check", "y"]) && takes(&["restore", "y", "--data-dir", "x"]));
        for wrong in [
            &["create", "--file", "y"][..],
            &["create", "--offline"],
            &["create", "--offline", "--file", "y", "--effort", "5"],
            &["create", "--effort", "0"],
            &["create", "--keep", "0"],
            &["check"],
            &["restore"],
        ] {
            assert!(!takes(wrong), "{wrong:?}");
        }
    }
}
