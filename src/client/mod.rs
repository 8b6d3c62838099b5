//! The commands `pay`, `show` and `tail`, and the operator's `parked` and `rejected`: a client of the HTTP face like any
//! other, with what every client should do: one key over all retries of one payment, and a stream that is taken up where it
//! broke off.

mod args;
pub mod operator;
mod push;
mod show;
pub(crate) mod sse;
mod tail;
mod token;
mod webhook;

use std::io::Write;
use std::time::Duration;

use anyhow::{Context, bail};
use reqwest::header::{AUTHORIZATION, HeaderMap, HeaderValue};
use reqwest::{Method, StatusCode};
use serde_json::Value;

use crate::config::ClientArgs;

pub use args::{PayArgs, TailArgs};
pub use push::{PushCommand, push};
pub use show::{ShowArgs, show};
pub use tail::{Followed, tail};
pub use token::{TokenArgs, token};
pub use webhook::{WebhookCommand, webhook};

/// A merchant's or an operator's key, for those that ask for one. Never a flag: every process on the machine could read it.
const API_KEY: &str = "PAYLOG_API_KEY";
/// For a request to be connected and answered, beside what it was asked to wait.
const PATIENCE: Duration = Duration::from_secs(15);
/// How often a payment is sent before it is given up: with one key all of them are one payment.
const SENDS_MAX: u32 = 5;
/// Before the second sending; doubled before each further one.
const RESEND_AFTER: Duration = Duration::from_millis(500);

/// What to pay.
#[derive(Clone, Debug)]
pub struct Pay {
    /// In minor units.
    pub amount: i64,
    pub currency: String,
    pub customer: String,
    pub method: String,
    /// Without one, one is made and told on stderr.
    pub key: Option<String>,
    /// How long to wait for the end.
    pub wait_s: Option<u32>,
}

#[derive(serde::Serialize)]
struct PayBody<'a> {
    amount: i64,
    currency: &'a str,
    customer_id: &'a str,
    payment_method: &'a str,
}

/// Makes a payment and writes its JSON. What is not certain is sent again with the same key.
pub async fn pay(url: &str, pay: &Pay, out: &mut impl Write) -> anyhow::Result<()> {
    let key = pay.key.clone().unwrap_or_else(|| {
        let key = uuid::Uuid::new_v4().to_string();
        eprintln!("idempotency key: {key}");
        key
    });
    let client = client()?;
    let mut pause = RESEND_AFTER;
    for sending in 1.. {
        let failure = match send(&client, url, pay, &key).await {
            Ok(answer) if answer.status() != StatusCode::SERVICE_UNAVAILABLE => {
                return write_json(&success(answer).await?, out);
            }
            Ok(answer) => success(answer).await.err().unwrap_or_else(|| anyhow::anyhow!("503")),
            Err(e) => anyhow::Error::new(e),
        };
        if sending == SENDS_MAX {
            return Err(failure).context("the payment may or may not have been made: repeat it with the same key");
        }
        tokio::time::sleep(pause).await;
        pause *= 2;
    }
    Ok(())
}

async fn send(client: &reqwest::Client, url: &str, pay: &Pay, key: &str) -> reqwest::Result<reqwest::Response> {
    let body = PayBody {
        amount: pay.amount,
        currency: &pay.currency,
        customer_id: &pay.customer,
        payment_method: &pay.method,
    };
    let wait = Duration::from_secs(pay.wait_s.unwrap_or(0).into());
    let request = client.post(address(url, "/v1/payments")).json(&body).timeout(PATIENCE + wait);
    let request = request.header("idempotency-key", key);
    match pay.wait_s {
        Some(wait_s) => request.header("prefer", format!("wait={wait_s}")).send().await,
        None => request.send().await,
    }
}

pub(crate) async fn get(client: &reqwest::Client, address: &str) -> anyhow::Result<Value> {
    let answer = client.get(address).timeout(PATIENCE).send().await.context("asking the server")?;
    success(answer).await
}

pub(crate) fn client() -> anyhow::Result<reqwest::Client> {
    let builder = reqwest::Client::builder()
        .connect_timeout(PATIENCE)
        .default_headers(authorization(std::env::var(API_KEY).ok())?);
    builder.build().context("setting up the HTTP client")
}

/// With whose key it is asked, if there is one.
fn authorization(key: Option<String>) -> anyhow::Result<HeaderMap> {
    let mut headers = HeaderMap::new();
    if let Some(key) = key.as_deref().map(str::trim).filter(|key| !key.is_empty()) {
        let value =
            HeaderValue::from_str(&format!("Bearer {key}")).ok().with_context(|| format!("{API_KEY} is no key"))?;
        headers.insert(AUTHORIZATION, value);
        headers.values_mut().for_each(|value| value.set_sensitive(true));
    }
    Ok(headers)
}

pub(crate) fn address(url: &str, path: &str) -> String {
    format!("{}{path}", url.trim_end_matches('/'))
}

/// The JSON of a good answer; what the problem says of another.
async fn success(answer: reqwest::Response) -> anyhow::Result<Value> {
    let status = answer.status();
    let body: Value = answer.json().await.with_context(|| format!("reading an answer of {status}"))?;
    if status.is_success() {
        return Ok(body);
    }
    match (body["code"].as_str(), body["detail"].as_str()) {
        (Some(code), Some(detail)) => bail!("{detail} ({code}, {})", status.as_u16()),
        _ => bail!("the server answered with {status}"),
    }
}

fn write_json(value: &Value, out: &mut impl Write) -> anyhow::Result<()> {
    serde_json::to_writer_pretty(&mut *out, value).context("writing the answer")?;
    writeln!(out).context("writing the answer")
}

/// What there is about who is told of payments; `null` where the answer has no body.
async fn ask(to: &ClientArgs, method: Method, path: &str, body: Option<Value>) -> anyhow::Result<Value> {
    let request = client()?.request(method, address(&to.url, path));
    let request = match body {
        Some(body) => request.json(&body),
        None => request,
    };
    let answer = request.timeout(PATIENCE).send().await.context("asking the server")?;
    if answer.status() == StatusCode::NO_CONTENT {
        return Ok(Value::Null);
    }
    success(answer).await
}

/// An attempt to tell somebody of a payment, as a line.
fn shown_attempt(attempt: &Value) -> String {
    let (at, event, payment) = (text(attempt, "at"), text(attempt, "event"), text(attempt, "payment_id"));
    let (number, result, failure) = (&attempt["attempt"], text(attempt, "result"), text(attempt, "failure"));
    let (status, next_at) = (&attempt["status"], text(attempt, "next_at"));
    format!("{at} {event} {payment} attempt {number} {result} {status} {failure} next {next_at}")
}

/// May it stand in a path as it is, as all ids do?
fn is_plain(id: &str) -> bool {
    !id.is_empty() && id.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
}

fn text<'a>(value: &'a Value, field: &str) -> &'a str {
    value[field].as_str().unwrap_or("-")
}

fn line(out: &mut impl Write, line: &str) -> anyhow::Result<()> {
    writeln!(out, "{line}").context("writing the answer")
}
