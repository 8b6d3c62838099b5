//! `paylog dead-letter`: what was refused and why, for people and for scripts. What others sent is shown so that no terminal
//! takes it for a command.

use std::io::Write;

use anyhow::{Context, bail};
use serde_json::{Value, json};

use super::DeadLetterCommand;
use super::dead_letter::{DETAIL, REASON, REFUSED_AT, SOURCE};
use crate::config::KafkaArgs;
use crate::journal::kafka::DeadLetters;
use crate::journal::{Offset, Partition, Position, SourceRecord};

/// Runs one of them. Blocks.
pub fn run(command: DeadLetterCommand, out: &mut impl Write) -> anyhow::Result<()> {
    match command {
        DeadLetterCommand::Ls { kafka, limit } => {
            let limit = usize::try_from(limit).unwrap_or(usize::MAX);
            for line in open(&kafka)?.newest(limit, line)? {
                writeln!(out, "{line}")?;
            }
        }
        DeadLetterCommand::Show { kafka, place, raw } => {
            let position = position(&place)?;
            let found = open(&kafka)?.read(position)?;
            let record = found.with_context(|| format!("there is no dead letter at {position}"))?;
            if raw {
                out.write_all(record.value.as_deref().unwrap_or_default())?;
            } else {
                writeln!(out, "{:#}", whole(&record))?;
            }
        }
    }
    Ok(())
}

fn open(kafka: &KafkaArgs) -> anyhow::Result<DeadLetters> {
    let config = kafka.config("dead-letter");
    let config = config
        .context("give --bootstrap-servers (PAYLOG_BOOTSTRAP_SERVERS): dead letters are on a topic of Kafka's")?;
    Ok(DeadLetters::open(&config)?)
}

fn position(place: &str) -> anyhow::Result<Position> {
    let numbers = place.split_once(':').and_then(|(p, o)| Some((p.parse().ok()?, o.parse().ok()?)));
    match numbers {
        Some((partition, offset)) => Ok(Position::new(Partition(partition), Offset(offset))),
        None => bail!("a dead letter's place is PARTITION:OFFSET, as `paylog dead-letter ls` shows it"),
    }
}

/// `2:17  2026-11-25T09:00:00.000000Z  unknown_format  payments.requests/0/5  12 bytes  the first bytes ...`
fn line(record: &SourceRecord) -> String {
    let said = |name| said(record, name);
    let bytes = record.value.as_ref().map_or(0, Vec::len);
    let (at, reason, source, detail) = (said(REFUSED_AT), said(REASON), said(SOURCE), said(DETAIL));
    format!("{}  {at}  {reason}  {source}  {bytes} bytes  {detail}", record.position)
}

/// What intake said in the last header of this name; `-` if that is not there, for anybody with the right may write here.
fn said(record: &SourceRecord, name: &str) -> String {
    let last = record.headers().iter().rev().find(|(other, _)| other == name);
    let text = last.and_then(|(_, value)| std::str::from_utf8(value.as_deref()?).ok());
    text.map_or_else(|| "-".to_owned(), |text| text.escape_debug().to_string())
}

fn whole(record: &SourceRecord) -> Value {
    let header = |(name, value): &(String, Option<Vec<u8>>)| json!({"name": printable(name), "value": shown(value)});
    json!({
        "place": record.position.to_string(),
        "reason": said(record, REASON),
        "detail": said(record, DETAIL),
        "source": said(record, SOURCE),
        "refused_at": said(record, REFUSED_AT),
        "key": shown(&record.key),
        "headers": record.headers.as_ref().map(|headers| headers.iter().map(header).collect::<Vec<_>>()),
        "bytes": record.value.as_ref().map(Vec::len),
        "value": shown(&record.value),
    })
}

/// `null`, or the text if it is one without control characters, or else its base64.
fn shown(bytes: &Option<Vec<u8>>) -> Value {
    let Some(bytes) = bytes else { return Value::Null };
    match std::str::from_utf8(bytes) {
        Ok(text) if !text.chars().any(char::is_control) => json!({ "text": text }),
        _ => json!({ "base64": data_encoding::BASE64.encode(bytes) }),
    }
}

fn printable(name: &str) -> String {
    if name.chars().any(char::is_control) { name.escape_debug().to_string() } else { name.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(reason: &str, value: Option<&[u8]>) -> SourceRecord {
        SourceRecord {
            position: Position::new(Partition(2), Offset(17)),
            timestamp_us: 0,
            key: None,
            headers: Some(vec![(REASON.to_owned(), Some(reason.as_bytes().to_vec()))]),
            value: value.map(<[u8]>::to_vec),
        }
    }

    #[test]
    fn a_line_says_where_and_why_and_no_terminal_obeys_it() {
        assert_eq!(line(&record("unknown_format", Some(b"abc"))), "2:17  -  unknown_format  -  3 bytes  -");
        let hostile = line(&record("\u{1b}[2J\nforged line", None));
        assert!(!hostile.chars().any(char::is_control), "{hostile}");
    }

    #[test]
    fn everything_is_shown_as_text_or_as_base64() {
        assert_eq!(whole(&record("x", Some(b"{}")))["value"], json!({"text": "{}"}));
        assert_eq!(whole(&record("x", Some("\u{9b}31m".as_bytes())))["value"], json!({"base64": "wpszMW0="}));
        assert_eq!(whole(&record("x", Some(&[0xFF])))["value"], json!({"base64": "/w=="}));
        assert_eq!(whole(&record("x", None))["value"], Value::Null);
    }

    #[test]
    fn a_place_is_two_numbers() {
        assert_eq!(position("2:17").unwrap(), Position::new(Partition(2), Offset(17)));
        for wrong in ["", "2", "2:", ":17", "2:-1", "a:b", "payments.requests/0/5"] {
            assert!(position(wrong).is_err(), "{wrong}");
        }
    }
}
