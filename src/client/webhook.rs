//! `webhook`: who is told of payments, and what came of it, as a client of a running paylog.

use std::io::Write;

use anyhow::ensure;
use clap::{Args, Subcommand};
use reqwest::Method;
use serde_json::{Value, json};

use super::{ask, is_plain, line, shown_attempt, text, write_json};
use crate::config::ClientArgs;

const PATH: &str = "/v1/webhook_endpoints";
/// What opens the service of an endpoint. Never a flag: every process on the machine could read it.
const CREDENTIAL: &str = "PAYLOG_ENDPOINT_CREDENTIAL";
/// The kind that needs none.
const WEBHOOK: &str = "webhook";

#[derive(Debug, Subcommand)]
pub enum WebhookCommand {
    /// Create an endpoint; its secret is shown this once.
    Create(Create),
    /// List the endpoints.
    Ls(Place),
    /// Show one endpoint.
    Show(One),
    /// Give an endpoint a new secret, shown this once; those before go on signing for a while.
    Rotate(Rotate),
    /// Tell an endpoint nothing more.
    Disable(One),
    /// Tell an endpoint of what happens from now on.
    Enable(One),
    /// Delete an endpoint, with its secrets.
    Rm(One),
    /// List the attempts to tell an endpoint, the newest first.
    Attempts(Attempts),
    /// Send one event again, delivered or not.
    Resend(Resend),
    /// Send whatever an endpoint was not told since a time, from the log.
    Recover(Recover),
    /// Send something that says it is a test.
    Test(One),
}

#[derive(Debug, Args)]
pub struct Place {
    #[command(flatten)]
    pub client: ClientArgs,
}

#[derive(Debug, Args)]
pub struct One {
    #[command(flatten)]
    pub place: Place,
    /// The endpoint's id.
    pub endpoint: String,
}

#[derive(Debug, Args)]
pub struct Create {
    #[command(flatten)]
    pub place: Place,
    /// By what it is told: webhook, event_grid, service_bus or event_hubs. Every kind but webhook needs the credential of its service in
    /// PAYLOG_ENDPOINT_CREDENTIAL.
    #[arg(long, default_value = "webhook")]
    pub kind: String,
    /// Where to send to: the receiver, the topic, or the queue.
    #[arg(long = "to", value_name = "URL")]
    pub target: String,
    /// Only events of this name; may be repeated.
    #[arg(long = "event", value_name = "NAME")]
    pub events: Vec<String>,
    /// Send an event of a payment only when the one before has been delivered, or given up.
    #[arg(long)]
    pub ordered: bool,
    /// Send what happened to which payment, and nothing else of it.
    #[arg(long)]
    pub thin: bool,
    /// Send CloudEvents 1.0 in structured mode, as every kind but webhook is always sent.
    #[arg(long, conflicts_with = "thin")]
    pub cloudevents: bool,
}

#[derive(Debug, Args)]
pub struct Rotate {
    #[command(flatten)]
    pub one: One,
    /// For how long the secrets before go on signing, in seconds.
    #[arg(long, default_value_t = 86_400)]
    pub overlap_seconds: u64,
    /// Of an endpoint that is no webhook: put what stands in PAYLOG_ENDPOINT_CREDENTIAL in the place of its credential.
    #[arg(long, conflicts_with = "overlap_seconds")]
    pub credential: bool,
}

#[derive(Debug, Args)]
pub struct Attempts {
    #[command(flatten)]
    pub one: One,
    /// How many.
    #[arg(long, default_value_t = 50)]
    pub max: usize,
}

#[derive(Debug, Args)]
pub struct Resend {
    #[command(flatten)]
    pub one: One,
    /// The payment's id.
    #[arg(long)]
    pub payment: String,
    /// The version that the event made of it.
    #[arg(long)]
    pub version: u64,
}

#[derive(Debug, Args)]
pub struct Recover {
    #[command(flatten)]
    pub one: One,
    /// From this time on, by the log's clock: 2026-11-25T10:00:00Z.
    #[arg(long, value_name = "TIME")]
    pub since: String,
    /// To this time; to now, if it is left out.
    #[arg(long, value_name = "TIME")]
    pub until: Option<String>,
}

pub async fn webhook(command: WebhookCommand, out: &mut impl Write) -> anyhow::Result<()> {
    match command {
        WebhookCommand::Create(args) => create(&args, out).await,
        WebhookCommand::Ls(place) => ls(&place, out).await,
        WebhookCommand::Show(one) => write_json(&one.ask(Method::GET, "", None).await?, out),
        WebhookCommand::Rotate(args) => {
            let body = if args.credential {
                json!({"credential": credential()?})
            } else {
                json!({"overlap_seconds": args.overlap_seconds})
            };
            write_json(&args.one.ask(Method::POST, "/rotate", Some(body)).await?, out)
        }
        WebhookCommand::Disable(one) => write_json(&one.ask(Method::POST, "/disable", Some(json!({}))).await?, out),
        WebhookCommand::Enable(one) => write_json(&one.ask(Method::POST, "/enable", Some(json!({}))).await?, out),
        WebhookCommand::Rm(one) => {
            one.ask(Method::DELETE, "", None).await?;
            line(out, &format!("{} is deleted", one.endpoint))
        }
        WebhookCommand::Attempts(args) => attempts(&args, out).await,
        WebhookCommand::Resend(args) => {
            let body = json!({"payment_id": args.payment, "version": args.version});
            write_json(&args.one.ask(Method::POST, "/resend", Some(body)).await?, out)
        }
        WebhookCommand::Recover(args) => {
            let mut body = json!({"since": args.since});
            if let Some(until) = &args.until {
                body["until"] = json!(until);
            }
            write_json(&args.one.ask(Method::POST, "/recover", Some(body)).await?, out)
        }
        WebhookCommand::Test(one) => write_json(&one.ask(Method::POST, "/test", Some(json!({}))).await?, out),
    }
}

async fn create(args: &Create, out: &mut impl Write) -> anyhow::Result<()> {
    let credential = (args.kind != WEBHOOK).then(credential).transpose()?;
    write_json(&args.place.ask(Method::POST, "", Some(asked(args, credential))).await?, out)
}

fn asked(args: &Create, credential: Option<String>) -> Value {
    let mut body = json!({"url": args.target, "ordered": args.ordered});
    match (args.thin, args.cloudevents) {
        (true, _) => body["payload"] = json!("thin"),
        (_, true) => body["payload"] = json!("cloudevents"),
        _ => {} // what its kind is sent where nobody asks
    }
    // A server of a version before knows of no kinds, and refuses what it does not know.
    if let Some(credential) = credential {
        (body["kind"], body["credential"]) = (json!(args.kind), json!(credential));
    }
    if !args.events.is_empty() {
        body["events"] = json!(args.events);
    }
    body
}

fn credential() -> anyhow::Result<String> {
    let credential = std::env::var(CREDENTIAL).unwrap_or_default().trim().to_owned();
    ensure!(!credential.is_empty(), "set {CREDENTIAL} to the access key, or the connection string, of the service");
    Ok(credential)
}

async fn ls(place: &Place, out: &mut impl Write) -> anyhow::Result<()> {
    let answer = place.ask(Method::GET, "", None).await?;
    for endpoint in answer["data"].as_array().into_iter().flatten() {
        let events = endpoint["events"].as_array().map(|names| {
            let names: Vec<&str> = names.iter().filter_map(Value::as_str).collect();
            names.join(",")
        });
        let events = events.unwrap_or_else(|| "all".to_owned());
        let (id, status, url) = (text(endpoint, "id"), text(endpoint, "status"), text(endpoint, "url"));
        line(out, &format!("{id} {} {status} {events} {url}", text(endpoint, "kind")))?;
    }
    Ok(())
}

async fn attempts(args: &Attempts, out: &mut impl Write) -> anyhow::Result<()> {
    let (mut cursor, mut left) = (String::new(), args.max);
    while left > 0 {
        let page = args.one.ask(Method::GET, &format!("/attempts{cursor}"), None).await?;
        for attempt in page["data"].as_array().into_iter().flatten().take(left) {
            left -= 1;
            line(out, &shown_attempt(attempt))?;
        }
        match page["next_cursor"].as_str() {
            Some(next) => cursor = format!("?cursor={next}"),
            None => break,
        }
    }
    Ok(())
}

impl One {
    async fn ask(&self, method: Method, rest: &str, body: Option<Value>) -> anyhow::Result<Value> {
        ensure!(is_plain(&self.endpoint), "that is not the id of a webhook endpoint (we_...)");
        self.place.ask(method, &format!("/{}{rest}", self.endpoint), body).await
    }
}

impl Place {
    async fn ask(&self, method: Method, rest: &str, body: Option<Value>) -> anyhow::Result<Value> {
        ask(&self.client, method, &format!("{PATH}{rest}"), body).await
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;
    use serde_json::json;

    use super::{Create, asked};

    #[derive(Parser)]
    struct Flags {
        #[command(flatten)]
        create: Create,
    }

    #[test]
    fn a_plain_webhook_is_asked_for_as_it_always_was() {
        let create = |more: &[&str]| {
            let words = ["create", "--to", "https://shop.example/hook"];
            Flags::try_parse_from(words.iter().chain(more)).unwrap().create
        };
        let plain = json!({"url": "https://shop.example/hook", "ordered": false});
        assert_eq!(asked(&create(&[]), None), plain);
        let topic = asked(&create(&["--kind", "event_grid"]), Some("key".to_owned()));
        assert_eq!((&topic["kind"], &topic["credential"]), (&json!("event_grid"), &json!("key")));
    }
}
