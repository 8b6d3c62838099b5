//! `keys`: API keys, by way of the HTTP face of an instance, or on the control log itself. A key that was made is the one
//! line on stdout, so that a script can take it; what there is to say about it goes to stderr.

use std::io::Write;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use clap::{Args, Subcommand};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use super::args::{Place, Signed};
use super::{get, line, post, text};
use crate::access::custody::{Hand, OVERLAP};
use crate::client::client;
use crate::contract::{KeyBody, NewKeyBody};
use crate::control::{Control, Holder, KeyId};
use crate::payment::{self, MerchantId, Timestamp};
use crate::projection::Rejections;
use crate::service::offline::Offline;

const PATH: &str = "/v1/operator/keys";
/// How long the control log is waited for.
const PATIENCE: Duration = Duration::from_secs(30);

#[derive(Debug, Subcommand)]
pub enum KeysCommand {
    /// Make a key and print it, this once: what is kept is a hash of it.
    Create(Create),
    /// List the keys: whose they are, and until when they are good.
    Ls {
        #[command(flatten)]
        place: Place,
    },
    /// Make another key for the same holder and print it; the old one stays good for the overlap.
    Rotate(Rotate),
    /// Let a key open nothing any more, from now on and for ever; streams that it opened end.
    Revoke(Revoke),
}

#[derive(Debug, Args)]
pub struct Create {
    #[command(flatten)]
    pub place: Place,
    #[command(flatten)]
    pub signed: Signed,
    /// A merchant's key, for its backend.
    #[arg(long, value_name = "ID", value_parser = merchant)]
    pub merchant: Option<MerchantId>,
    /// An operator's key, for /v1/operator/.
    #[arg(long, conflicts_with = "merchant", required_unless_present = "merchant")]
    pub for_operators: bool,
    /// Make none if the holder has a good one, and print nothing.
    #[arg(long)]
    pub if_none: bool,
}

#[derive(Debug, Args)]
pub struct Rotate {
    #[command(flatten)]
    pub place: Place,
    #[command(flatten)]
    pub signed: Signed,
    /// The key's id, as `keys ls` shows it.
    #[arg(value_parser = key_id)]
    pub id: KeyId,
    /// How long the old key stays good, in seconds.
    #[arg(long, default_value_t = OVERLAP.as_secs())]
    pub overlap_seconds: u64,
}

#[derive(Debug, Args)]
pub struct Revoke {
    #[command(flatten)]
    pub place: Place,
    #[command(flatten)]
    pub signed: Signed,
    /// The key's id, as `keys ls` shows it.
    #[arg(value_parser = key_id)]
    pub id: KeyId,
}

fn merchant(text: &str) -> Result<MerchantId, String> {
    MerchantId::parse(text).map_err(|invalid| invalid.detail)
}

/// Whoever gives the whole key by mistake is not shown it again.
fn key_id(text: &str) -> Result<KeyId, String> {
    KeyId::parse(text).ok_or_else(|| "is not the id of a key: the 16 characters between its underscores".to_owned())
}

pub async fn keys(command: KeysCommand, out: &mut impl Write) -> anyhow::Result<()> {
    match command {
        KeysCommand::Create(args) => create(&args, out).await,
        KeysCommand::Ls { place } => {
            let door = Door::open(&place, false).await?;
            for key in door.all().await? {
                show(&key, out)?;
            }
            door.close()
        }
        KeysCommand::Rotate(args) => {
            let door = Door::open(&args.place, false).await?;
            let made = door.rotate(&args).await?;
            let old = &made["replaces"];
            eprintln!("the key {} is good until {}", text(old, "id"), text(old, "expires_at"));
            print(&made, out)?;
            door.close()
        }
        KeysCommand::Revoke(args) => {
            let door = Door::open(&args.place, false).await?;
            let key = door.revoke(&args).await?;
            show(&key, out)?;
            door.close()
        }
    }
}

async fn create(args: &Create, out: &mut impl Write) -> anyhow::Result<()> {
    let holder = args.merchant.clone().map_or(Holder::Operator, Holder::Merchant);
    let door = Door::open(&args.place, true).await?;
    let mine = |key: &Value| {
        let merchant = holder.merchant().map(MerchantId::as_str);
        key["scope"] == holder.scope()
            && key["merchant_id"].as_str() == merchant
            && matches!(text(key, "status"), "good" | "expiring")
    };
    if args.if_none && door.all().await?.iter().any(mine) {
        eprintln!("there is a good key already: nothing was made");
        return door.close();
    }
    let made = door.create(&holder, &args.signed).await?;
    print(&made, out)?;
    door.close()
}

/// The key, alone on its line.
fn print(made: &Value, out: &mut impl Write) -> anyhow::Result<()> {
    eprintln!("this is the only time that the key is shown ({}, {}):", text(made, "id"), text(made, "scope"));
    line(out, text(made, "key"))
}

fn show(key: &Value, out: &mut impl Write) -> anyhow::Result<()> {
    let holder = key["merchant_id"].as_str().map_or("operators".to_owned(), |merchant| format!("merchant {merchant}"));
    let until = match text(key, "status") {
        "revoked" => format!("revoked at {} by {}", text(key, "revoked_at"), text(key, "revoked_by")),
        "good" => "good".to_owned(),
        status => format!("{status}, good until {}", text(key, "expires_at")),
    };
    let said = format!(
        "{}  {holder}: {until}; made at {} by {}: {}",
        text(key, "id"),
        text(key, "created_at"),
        text(key, "created_by"),
        text(key, "reason")
    );
    // What others have written is shown to a terminal, which must not obey it.
    line(out, &said.escape_debug().to_string())
}

// === who is asked ===

enum Door {
    Http(reqwest::Client, String),
    Offline(Box<Logs>),
}

/// The control log, without a service.
struct Logs {
    control: Control,
    stop: CancellationToken,
    following: std::thread::JoinHandle<anyhow::Result<()>>,
    /// Holds the directory.
    _logs: Offline,
}

impl Door {
    /// `makes` is whether the logs may be made if they are not there: the first key is before the first start.
    async fn open(place: &Place, makes: bool) -> anyhow::Result<Self> {
        if !place.offline {
            return Ok(Self::Http(client()?, place.client.url.clone()));
        }
        let (kafka, data_dir) = (place.kafka.clone(), place.data_dir.clone());
        let open = move || match makes && kafka.servers().is_none() {
            true => Logs::follow(Offline::embedded(kafka.partitions, &data_dir)?),
            false => Logs::follow(Offline::open(&kafka, &data_dir)?),
        };
        Ok(Self::Offline(Box::new(tokio::task::spawn_blocking(open).await??)))
    }

    async fn all(&self) -> anyhow::Result<Vec<Value>> {
        match self {
            Self::Http(client, url) => {
                let list = get(client, url, PATH, &[]).await?["data"].take();
                Ok(list.as_array().cloned().unwrap_or_default())
            }
            Self::Offline(logs) => {
                let (keys, now) = (logs.control.keys().all(), Timestamp::now());
                keys.iter().map(|key| Ok(serde_json::to_value(KeyBody::new(key, now))?)).collect()
            }
        }
    }

    async fn create(&self, holder: &Holder, by: &Signed) -> anyhow::Result<Value> {
        match self {
            Self::Http(client, url) => {
                let merchant = holder.merchant().map(MerchantId::as_str);
                let body = json!({"scope": holder.scope(), "merchant_id": merchant, "operator": by.operator, "reason": by.reason});
                Ok(post(client, url, PATH, &body).await?.1)
            }
            Self::Offline(logs) => {
                let signed = signed(by)?;
                let hand = logs.hand(&signed);
                let (made, key) = hand.create(holder.clone()).await?;
                Ok(serde_json::to_value(NewKeyBody::new(made.reveal(), &key, None, hand.now))?)
            }
        }
    }

    async fn rotate(&self, args: &Rotate) -> anyhow::Result<Value> {
        let (by, seconds) = (&args.signed, args.overlap_seconds);
        match self {
            Self::Http(client, url) => {
                let body = json!({"overlap_seconds": seconds, "operator": by.operator, "reason": by.reason});
                Ok(post(client, url, &format!("{PATH}/{}/rotate", args.id), &body).await?.1)
            }
            Self::Offline(logs) => {
                let signed = signed(by)?;
                let hand = logs.hand(&signed);
                let (made, key, old) = hand.rotate(&args.id, Duration::from_secs(seconds)).await?;
                Ok(serde_json::to_value(NewKeyBody::new(made.reveal(), &key, Some(&old), hand.now))?)
            }
        }
    }

    async fn revoke(&self, args: &Revoke) -> anyhow::Result<Value> {
        let by = &args.signed;
        match self {
            Self::Http(client, url) => {
                let body = json!({"operator": by.operator, "reason": by.reason});
                Ok(post(client, url, &format!("{PATH}/{}/revoke", args.id), &body).await?.1)
            }
            Self::Offline(logs) => {
                let signed = signed(by)?;
                let hand = logs.hand(&signed);
                let key = hand.revoke(&args.id).await?;
                Ok(serde_json::to_value(KeyBody::new(&key, hand.now))?)
            }
        }
    }

    fn close(self) -> anyhow::Result<()> {
        let Self::Offline(logs) = self else { return Ok(()) };
        logs.stop.cancel();
        match logs.following.join() {
            Ok(followed) => followed.context("reading the control log"),
            Err(_) => bail!("the reader of the control log has failed"),
        }
    }
}

impl Logs {
    fn follow(logs: Offline) -> anyhow::Result<Self> {
        let log = logs.journal.log_id();
        let (control, follower) = Control::open(Arc::clone(&logs.control), log, Rejections::default())?;
        let stop = CancellationToken::new();
        let stopped = stop.clone();
        let following = std::thread::spawn(move || Ok(follower.run(&stopped)?));
        Ok(Self { control, stop, following, _logs: logs })
    }

    fn hand<'a>(&'a self, signed: &'a payment::Signed) -> Hand<'a> {
        Hand { control: &self.control, signed, now: Timestamp::now(), patience: PATIENCE }
    }
}

fn signed(by: &Signed) -> anyhow::Result<payment::Signed> {
    payment::Signed::new(&by.operator, &by.reason).map_err(|invalid| anyhow::anyhow!("{}", invalid.detail))
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use crate::config::Cli;

    #[test]
    fn whose_key_it_is_has_to_be_said_and_a_whole_key_is_no_id() {
        let takes = |words: &[&str]| {
            let words = ["paylog", "keys"].iter().chain(words).chain(&["--reason", "x", "--operator", "ada"]);
            Cli::try_parse_from(words).map(drop).map_err(|e| e.to_string())
        };
        assert!(takes(&["create", "--merchant", "acme"]).is_ok() && takes(&["create", "--for-operators"]).is_ok());
        assert!(takes(&["create"]).is_err() && takes(&["create", "--merchant", "a", "--for-operators"]).is_err());
        assert!(takes(&["revoke", "abcdefghijklmn27"]).is_ok());
        assert!(takes(&["rotate", "abcdefghijklmn27", "--overlap-seconds", "0"]).is_ok());
        assert!(takes(&["revoke", "plk_abcdefghijklmn27_secret"]).is_err());
    }
}
