//! `show`: one payment, as it is or as it was, and its history: where each event stands on the log, when it came there, who
//! wrote it, and what the payment was after it.

use std::io::Write;

use anyhow::Context;
use clap::Args;
use serde_json::Value;

use super::{address, client, get, write_json};
use crate::config::ClientArgs;
use crate::payment::{PaymentId, Timestamp};

/// The payment, and below it a line for each of its events, those without effect too. The times are the log's (appended) and
/// the writer's (occurred); the state is that after the event.
#[derive(Debug, Args)]
pub struct ShowArgs {
    #[command(flatten)]
    pub client: ClientArgs,
    /// The payment's id.
    pub payment: String,
    /// As it was at this time by the log's clock, like 2026-11-25T10:00:00Z: as the last record that the log had taken by
    /// then had made it.
    #[arg(long, value_name = "TIME", value_parser = timestamp)]
    pub at: Option<Timestamp>,
    /// Each event as JSON instead of a line.
    #[arg(long)]
    pub json: bool,
}

/// Writes a payment and its history.
pub async fn show(args: &ShowArgs, out: &mut impl Write) -> anyhow::Result<()> {
    let ShowArgs { client: to, payment, at, json } = args;
    let id = PaymentId::parse(payment).context("a payment's id is pay_ and 26 letters and digits")?;
    let (client, url) = (client()?, &to.url);
    let path = at.map_or_else(|| format!("/v1/payments/{id}"), |at| format!("/v1/payments/{id}?at={at}"));
    let missing = || at.map_or_else(|| format!("looking for {id}"), |at| format!("looking for {id} at {at}"));
    let payment = get(&client, &address(url, &path)).await.with_context(missing)?;
    let events = get(&client, &address(url, &format!("/v1/payments/{id}/events?all=true"))).await?;
    write_json(&payment, out)?;
    let events = events["data"].as_array().map(Vec::as_slice).unwrap_or_default();
    for event in events.iter().filter(|event| at.is_none_or(|at| is_by(event, at))) {
        match json {
            true => write_json(event, out)?,
            false => writeln!(out, "{}", line(event)).context("writing the answer")?,
        }
    }
    Ok(())
}

/// Had the log taken it by then?
fn is_by(event: &Value, at: Timestamp) -> bool {
    event["appended_at"].as_str().and_then(Timestamp::parse).is_some_and(|appended_at| appended_at <= at)
}

/// `v2 at 3:18, appended ..., occurred ...: PaymentSuccessful by processor -> successful/done, attempt 1`
fn line(event: &Value) -> String {
    let version = event["version"].as_u64().map_or_else(|| "no effect".to_owned(), |version| format!("v{version}"));
    let (state, text) = (&event["state"], |value: &Value| value.as_str().unwrap_or("?").escape_debug().to_string());
    let writer = &event["written_by"];
    let request = writer["request_id"].as_str().map(|request| format!(" for {}", request.escape_debug()));
    let operator = writer["operator"].as_str().map(|operator| format!(" for the operator {}", operator.escape_debug()));
    let due = state["due_at"].as_str().map(|due| format!(", due {due}"));
    format!(
        "{version} at {}:{}, appended {}, occurred {}: {} by {}{} -> {}/{}, attempt {}{}",
        event["partition"],
        event["offset"],
        text(&event["appended_at"]),
        text(&event["occurred_at"]),
        text(&event["type"]),
        text(&writer["part"]),
        request.or(operator).unwrap_or_default(),
        text(&state["status"]),
        text(&state["phase"]),
        state["attempt"],
        due.unwrap_or_default(),
    )
}

fn timestamp(text: &str) -> Result<Timestamp, String> {
    Timestamp::parse(text).ok_or_else(|| "is no time between 2000 and 2100, like 2026-11-25T10:00:00Z".to_owned())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{is_by, line};
    use crate::payment::Timestamp;

    #[test]
    fn a_line_says_where_when_by_whom_and_what_it_came_to() {
        let mut event = json!({
            "type": "PaymentRetryScheduled", "version": 2, "partition": 3, "offset": 18,
            "appended_at": "2026-11-25T10:00:01.000000Z", "occurred_at": "2026-11-25T10:00:00.000000Z",
            "written_by": {"part": "processor", "request_id": null, "operator": null},
            "state": {"status": "in_progress", "phase": "retrying", "version": 2, "attempt": 1, "due_at": "2026-11-25T10:01:00.000000Z"},
        });
        assert_eq!(
            line(&event),
            "v2 at 3:18, appended 2026-11-25T10:00:01.000000Z, occurred 2026-11-25T10:00:00.000000Z: \
             PaymentRetryScheduled by processor -> in_progress/retrying, attempt 1, due 2026-11-25T10:01:00.000000Z"
        );
        let at = |text| Timestamp::parse(text).unwrap();
        assert!(is_by(&event, at("2026-11-25T10:00:01Z")) && !is_by(&event, at("2026-11-25T10:00:00.999999Z")));
        event["version"] = json!(null);
        event["written_by"] = json!({"part": "api", "request_id": null, "operator": "ada\u{1b}[2J"});
        let shown = line(&event);
        assert!(shown.starts_with("no effect at 3:18") && shown.contains("by api for the operator ada"), "{shown}");
        assert!(!shown.chars().any(char::is_control), "no terminal obeys it: {shown}");
    }
}
