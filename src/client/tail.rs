//! `tail`: follows a payment, a customer or all payments, one line an event, over every disconnect.

use std::io::Write;
use std::time::Duration;

use anyhow::{Context, bail};
use reqwest::StatusCode;
use serde_json::Value;

use super::sse::{Message, Parser};
use super::{PATIENCE, address, client, success};

/// Longer than this without a byte, heartbeats included, and the connection is taken for dead.
const SILENCE_MAX: Duration = Duration::from_secs(45);
/// Between attempts, until the server says otherwise; doubled after each that brought nothing.
const RETRY_AFTER: Duration = Duration::from_secs(1);
const RETRY_AFTER_MAX: Duration = Duration::from_secs(30);

/// What to follow.
#[derive(Clone, Debug)]
pub enum Followed {
    Payment(String),
    Customer(String),
    All,
}

/// How one connection ended.
enum Ended {
    /// There is nothing more to come.
    ForGood,
    /// Come back with the id. Did it bring anything?
    Early { progress: bool },
}

/// Writes one line for each event, until the payment has ended (the others never do).
pub async fn tail(
    url: &str,
    followed: &Followed,
    last_event_id: Option<String>,
    out: &mut impl Write,
) -> anyhow::Result<()> {
    let client = client()?;
    let mut parser = Parser::resuming(&last_event_id.unwrap_or_default());
    let mut pause = RETRY_AFTER;
    loop {
        // An unfinished block of the connection before is not part of this one.
        let retry = parser.retry_ms().map_or(RETRY_AFTER, Duration::from_millis);
        parser = Parser::resuming(parser.last_event_id());
        match follow(&client, url, followed, &mut parser, out).await? {
            Ended::ForGood => return Ok(()),
            Ended::Early { progress: true } => pause = retry,
            Ended::Early { progress: false } => pause = (pause * 2).min(RETRY_AFTER_MAX),
        }
        eprintln!("disconnected; again in {:.1} s", pause.as_secs_f32());
        tokio::time::sleep(pause).await;
    }
}

/// One connection. An `Err` is what coming back would not mend.
async fn follow(
    client: &reqwest::Client,
    url: &str,
    followed: &Followed,
    parser: &mut Parser,
    out: &mut impl Write,
) -> anyhow::Result<Ended> {
    let query = match followed {
        Followed::Payment(id) => Some(("payment_id", id)),
        Followed::Customer(id) => Some(("customer_id", id)),
        Followed::All => None,
    };
    let stream = reqwest::Url::parse_with_params(&address(url, "/v1/stream"), query).context("reading --url")?;
    let mut request = client.get(stream);
    if !parser.last_event_id().is_empty() {
        request = request.header("last-event-id", parser.last_event_id());
    }
    let mut answer = match tokio::time::timeout(PATIENCE, request.send()).await {
        Ok(Ok(answer)) => answer,
        Ok(Err(_)) | Err(_) => return Ok(Ended::Early { progress: false }),
    };
    match answer.status() {
        StatusCode::OK => {}
        StatusCode::NO_CONTENT => return Ok(Ended::ForGood),
        status if status.is_server_error() => return Ok(Ended::Early { progress: false }),
        _ => return Err(success(answer).await.err().unwrap_or_else(|| anyhow::anyhow!("not a stream"))),
    }
    let mut progress = false;
    loop {
        let bytes = match tokio::time::timeout(SILENCE_MAX, answer.chunk()).await {
            Ok(Ok(Some(bytes))) => bytes,
            Ok(Ok(None) | Err(_)) | Err(_) => return Ok(Ended::Early { progress }),
        };
        for message in parser.feed(&bytes)? {
            progress = true;
            let ended = write_line(&message, out)?;
            if ended && matches!(followed, Followed::Payment(_)) {
                return Ok(Ended::ForGood);
            }
        }
    }
}

/// One line for people; `true` if the payment has ended with it.
fn write_line(message: &Message, out: &mut impl Write) -> anyhow::Result<bool> {
    let data: Value = serde_json::from_str(&message.data).context("reading a frame")?;
    let (line, ended) = match message.event.as_str() {
        "reset" => ("reset: the log was created anew".to_owned(), false),
        name => line(name, &data)?,
    };
    writeln!(out, "{line}").and_then(|()| out.flush()).context("writing a line")?;
    Ok(ended)
}

fn line(name: &str, data: &Value) -> anyhow::Result<(String, bool)> {
    let payment = &data["payment"];
    let text = |value: &Value| value.as_str().unwrap_or("-").to_owned();
    let (Some(version), Some(status)) = (payment["version"].as_u64(), payment["status"].as_str()) else {
        bail!("a frame has no payment in it");
    };
    let at = data["event"]["occurred_at"].as_str().map_or_else(|| text(&payment["updated_at"]), str::to_owned);
    let line = format!(
        "{at} {} v{version} {name} {status}/{} {} {}",
        text(&payment["id"]),
        text(&payment["phase"]),
        payment["amount"],
        text(&payment["currency"]),
    );
    Ok((line, status != "in_progress"))
}

#[cfg(test)]
mod tests {
    use super::write_line;
    use crate::client::sse::Message;

    #[test]
    fn a_line_says_what_happened_and_whether_it_was_the_end() {
        let mut out = Vec::new();
        let mut write =
            |event: &str, data: &str| write_line(&Message { event: event.to_owned(), data: data.to_owned() }, &mut out);
        let begun = r#"{"event":{"occurred_at":"T1"},"payment":{"id":"pay_x","version":1,"status":"in_progress","phase":"processing","amount":5,"currency":"EUR"}}"#;
        assert!(!write("PaymentInProgress", begun).unwrap());
        let ended = r#"{"payment":{"id":"pay_x","version":2,"status":"failed","phase":"done","amount":5,"currency":"EUR","updated_at":"T2"}}"#;
        assert!(write("snapshot", ended).unwrap());
        assert!(!write("reset", r#"{"log":"x"}"#).unwrap());
        assert!(write("snapshot", "{}").is_err());
        let expected = "T1 pay_x v1 PaymentInProgress in_progress/processing 5 EUR\n\
                        T2 pay_x v2 snapshot failed/done 5 EUR\n\
                        reset: the log was created anew\n";
        assert_eq!(String::from_utf8(out).unwrap(), expected);
    }
}
