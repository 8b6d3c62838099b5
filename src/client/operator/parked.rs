//! `parked`: what waits for a person. Every decision is shown first, and is made only with `--apply`, about each payment at
//! the version that was shown: what has moved on since is left alone.

use std::io::Write;

use anyhow::{Context, bail};
use reqwest::StatusCode;
use serde_json::{Value, json};

use super::adopt::adopt;
use super::args::{Decided, ParkedCommand, ParkedLs, ParkedResume, ParkedSettle, Resumption};
use super::{PAGE, get, line, post, text};
use crate::client::{client, write_json};
use crate::payment::PaymentId;

/// One payment that is to be decided about, as it was seen.
struct Seen {
    payment: String,
    version: u64,
    shown: String,
}

pub async fn parked(command: ParkedCommand, out: &mut impl Write) -> anyhow::Result<()> {
    match command {
        ParkedCommand::Ls(args) => ls(&args, out).await,
        ParkedCommand::Show(args) => {
            let path = format!("/v1/operator/parked/{}", args.payment);
            write_json(&get(&client()?, &args.client.url, &path, &[]).await?, out)
        }
        ParkedCommand::Resume(args) => resume(&args, out).await,
        ParkedCommand::Settle(args) => settle(&args, out).await,
        ParkedCommand::Adopt(args) => adopt(&args, out).await,
    }
}

async fn ls(args: &ParkedLs, out: &mut impl Write) -> anyhow::Result<()> {
    let (client, url) = (client()?, &args.client.url);
    for parked in all(&client, url, args.reason.as_deref()).await? {
        line(out, &shown(&parked))?;
    }
    let summary = get(&client, url, "/v1/operator/parked/summary", &[]).await?;
    for (reason, count) in summary["reasons"].as_object().into_iter().flatten() {
        if args.reason.as_ref().is_none_or(|wanted| wanted == reason) {
            line(out, &format!("{count} parked: {reason}"))?;
        }
    }
    line(out, &format!("{} parked in all", summary["parked"]))
}

/// Every page of the list.
async fn all(client: &reqwest::Client, url: &str, reason: Option<&str>) -> anyhow::Result<Vec<Value>> {
    let (mut all, mut cursor) = (Vec::new(), None::<String>);
    loop {
        let mut query = vec![("limit", PAGE)];
        query.extend(reason.map(|reason| ("reason", reason)));
        query.extend(cursor.as_deref().map(|cursor| ("cursor", cursor)));
        let mut page = get(client, url, "/v1/operator/parked", &query).await?;
        match page["data"].take() {
            Value::Array(data) => all.extend(data),
            _ => bail!("the server's list has no data"),
        }
        cursor = page["next_cursor"].as_str().map(str::to_owned);
        if cursor.is_none() {
            return Ok(all);
        }
    }
}

fn shown(parked: &Value) -> String {
    format!(
        "{} v{} {} {} {} attempt {} since {} {}: {}",
        text(parked, "payment"),
        parked["version"],
        parked["amount"],
        text(parked, "currency"),
        text(parked, "gateway"),
        parked["attempt"],
        text(parked, "parked_since"),
        text(parked, "reason"),
        text(parked, "detail"),
    )
}

// === decisions ===

async fn resume(args: &ParkedResume, out: &mut impl Write) -> anyhow::Result<()> {
    if args.decided.at_version.is_some() && args.payments.len() != 1 {
        bail!("--at-version goes with one payment");
    }
    let (client, url) = (client()?, &args.client.url);
    let decision = match args.decision {
        Resumption::Inquire => json!({"decision": "inquire"}),
        Resumption::ChargeAgain => json!({"decision": "charge_again"}),
    };
    let mut seen = Vec::new();
    match &args.reason_is {
        Some(reason) => {
            for parked in all(&client, url, Some(reason)).await? {
                seen.push(Seen::new(&parked)?);
            }
        }
        None => {
            for payment in &args.payments {
                seen.push(look(&client, url, *payment).await?);
            }
        }
    }
    decide(&client, url, &seen, &decision, &args.decided, out).await
}

async fn settle(args: &ParkedSettle, out: &mut impl Write) -> anyhow::Result<()> {
    let (client, url) = (client()?, &args.client.url);
    let decision = match (&args.successful, &args.failed) {
        (Some(reference), _) => json!({"decision": "settle_successful", "reference": reference}),
        (None, Some(code)) => json!({"decision": "settle_failed", "code": code}),
        (None, None) => bail!("give --successful or --failed"), // clap requires one of them
    };
    let seen = look(&client, url, args.payment).await?;
    decide(&client, url, &[seen], &decision, &args.decided, out).await
}

async fn look(client: &reqwest::Client, url: &str, payment: PaymentId) -> anyhow::Result<Seen> {
    let answer = get(client, url, &format!("/v1/operator/parked/{payment}"), &[]).await.context(payment.to_string())?;
    if answer["parked"].is_null() {
        bail!("{payment} is not parked: it is {}", text(&answer["payment"], "phase"));
    }
    Seen::new(&answer["parked"])
}

/// Shows each; decides about each with `--apply`. One that has moved on keeps none of the others from being decided.
async fn decide(
    client: &reqwest::Client,
    url: &str,
    seen: &[Seen],
    decision: &Value,
    decided: &Decided,
    out: &mut impl Write,
) -> anyhow::Result<()> {
    let name = text(decision, "decision");
    let mut failed = 0;
    for Seen { payment, version, shown } in seen {
        let at_version = decided.at_version.unwrap_or(*version);
        if at_version != *version {
            bail!("{payment} is at version {version} and not {at_version}: look at it again");
        }
        if !decided.apply {
            line(out, &format!("would {name}: {shown}"))?;
            continue;
        }
        let mut body = decision.clone();
        body["at_version"] = at_version.into();
        body["operator"] = decided.signed.operator.as_str().into();
        body["reason"] = decided.signed.reason.as_str().into();
        match post(client, url, &format!("/v1/operator/parked/{payment}/resume"), &body).await {
            Ok((StatusCode::OK, answer)) => {
                let now = &answer["payment"];
                line(out, &format!("{name}: {payment} is {} at v{}", text(now, "phase"), now["version"]))?;
            }
            Ok(_) => line(out, &format!("{name}: {payment} is recorded, and not yet folded: look at it later"))?,
            Err(error) => {
                failed += 1;
                eprintln!("paylog: {payment}: {error:#}");
            }
        }
    }
    match (decided.apply, seen.len()) {
        (_, 0) => line(out, "nothing is parked for that reason")?,
        (false, count) => line(out, &format!("{count} would be decided about; nothing was done: add --apply"))?,
        (true, _) => {}
    }
    if failed > 0 {
        bail!("{failed} of {} were not decided", seen.len());
    }
    Ok(())
}

impl Seen {
    fn new(parked: &Value) -> anyhow::Result<Self> {
        let version = parked["version"].as_u64().context("the server's answer has no version")?;
        let payment = parked["payment"].as_str().context("the server's answer names no payment")?;
        Ok(Self { payment: payment.to_owned(), version, shown: shown(parked) })
    }
}
