//! `paylog reconcile`: what the provider's ledger says was charged, against what the log says. It reads both over HTTP and
//! changes nothing: what does not agree is for a person.

mod compare;

use std::io::Write;

use anyhow::{Context, bail};
use clap::Args;
use serde_json::Value;

use crate::client;
use crate::config::ClientArgs;
use compare::{Charged, Findings, Paid, compare};

/// Payments, or lines of the ledger, on one page.
const PAGE: usize = 200;
const LEDGER_PAGE: usize = 1000;

#[derive(Debug, Args)]
pub struct ReconcileArgs {
    #[command(flatten)]
    pub client: ClientArgs,
    /// Where the gateway's ledger is: the address of a `paylog gateway-simulator`.
    #[arg(long, env = "PAYLOG_LEDGER_URL")]
    pub ledger: String,
    /// Whose ledger it is. Payments that another gateway has charged are left out.
    #[arg(long, default_value = "stripe")]
    pub gateway: String,
}

/// Writes a line for each finding; an error if one of them is an alarm.
pub async fn run(args: &ReconcileArgs, out: &mut impl Write) -> anyhow::Result<()> {
    let reader = Reader { client: client::client()?, url: &args.client.url, ledger: &args.ledger };
    let mut found = look(&reader, &args.gateway, out).await?;
    if !found.is_empty() {
        // The two were not read in one moment. What moved in between agrees at a second look.
        let again = look(&reader, &args.gateway, out).await?;
        found.retain(|key, _| again.contains_key(key));
    }
    let mut alarms = 0;
    for ((payment, kind), text) in &found {
        alarms += usize::from(kind.is_alarm());
        let level = if kind.is_alarm() { "ALARM" } else { "info" };
        writeln!(out, "{level} {payment} {}: {text}", kind.name())?;
    }
    match alarms {
        0 => Ok(writeln!(out, "ledger and log agree")?),
        1 => bail!("ledger and log do not agree: 1 alarm"),
        _ => bail!("ledger and log do not agree: {alarms} alarms"),
    }
}

async fn look(reader: &Reader<'_>, gateway: &str, out: &mut impl Write) -> anyhow::Result<Findings> {
    let ledger = reader.ledger().await.context("reading the ledger")?;
    let log = reader.payments().await.context("reading the payments")?;
    writeln!(out, "{} payments, {} keys in the ledger", log.len(), ledger.len())?;
    Ok(compare(&ledger, &log, gateway))
}

struct Reader<'a> {
    client: reqwest::Client,
    url: &'a str,
    ledger: &'a str,
}

impl Reader<'_> {
    async fn ledger(&self) -> anyhow::Result<Vec<Charged>> {
        let (mut lines, mut after) = (Vec::<Charged>::new(), String::new());
        loop {
            let path = format!("/ledger?limit={LEDGER_PAGE}{after}");
            let page: Vec<Charged> = self.read(self.ledger, &path).await?;
            let last = page.len() < LEDGER_PAGE;
            lines.extend(page);
            match lines.last() {
                Some(line) if !last => after = format!("&after={}", line.key),
                _ => return Ok(lines),
            }
        }
    }

    async fn payments(&self) -> anyhow::Result<Vec<Paid>> {
        let (mut payments, mut cursor) = (Vec::new(), String::new());
        loop {
            let path = format!("/v1/operator/payments?limit={PAGE}{cursor}");
            let mut page: Value = self.read(self.url, &path).await?;
            let data: Vec<Paid> = serde_json::from_value(page["data"].take()).context("a list of another shape")?;
            payments.extend(data);
            match page["next_cursor"].as_str() {
                Some(next) => cursor = format!("&cursor={next}"),
                None => return Ok(payments),
            }
        }
    }

    async fn read<T: serde::de::DeserializeOwned>(&self, url: &str, path: &str) -> anyhow::Result<T> {
        let body = client::get(&self.client, &client::address(url, path)).await?;
        serde_json::from_value(body).with_context(|| format!("{path} has another shape"))
    }
}
