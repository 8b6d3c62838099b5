//! An archive as JSON lines: the header, a line a record, the trailer.
//!
//! ```json
//! {"partition":1,"offset":7,"timestamp_us":1764000000000000,"event":{"type":"PaymentSuccessful",...},
//!  "key":"cGF5X...","headers":[["ce_id","MDE5..."]],"value":"wwE...","digest":"9f86d0..."}
//! {"records":2,"digest":"9f86d0...","text":"60303a..."}
//! ```
//!
//! `key`, `headers` and `value` are the record, in base64. `event` is the value as people and `jq` read it, and nothing reads
//! it back; the digests do not cover it, so the trailer has the SHA-256 of everything before it in `text`.

use std::io::{BufRead, Read, Write};

use serde_json::value::RawValue;
use sha2::{Digest as _, Sha256};

use super::base64::Bytes;
use super::chain::Digest;
use super::{ArchiveError, Entry, HEADER_BYTES_MAX, Trailer};
use crate::contract::data_body;
use crate::journal::{Offset, Partition, Position, SourceRecord};
use crate::payment::{Event, EventData};
use crate::schema::Codec;

/// The largest line: a record of the largest size in base64, and its event.
const LINE_BYTES_MAX: u64 = 4 * 1024 * 1024;
/// With which the trailer begins, and no record.
const TRAILER: &[u8] = br#"{"records":"#;

#[derive(serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Line<E> {
    partition: u32,
    offset: u64,
    timestamp_us: i64,
    event: Option<E>,
    key: Option<Bytes>,
    headers: Option<Vec<(String, Option<Bytes>)>>,
    value: Option<Bytes>,
    digest: String,
}

/// The event in a record, if it is one that this version of paylog can read.
#[derive(serde::Serialize)]
struct EventLine<'a> {
    #[serde(rename = "type")]
    name: &'static str,
    id: String,
    payment_id: String,
    occurred_at: String,
    #[serde(serialize_with = "data")]
    data: &'a EventData,
}

fn data<S: serde::Serializer>(data: &&EventData, serializer: S) -> Result<S::Ok, S::Error> {
    serde::Serialize::serialize(&data_body(data), serializer)
}

#[derive(serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct TrailerLine {
    records: u64,
    digest: String,
    text: String,
}

impl<'a> EventLine<'a> {
    fn new(event: &'a Event) -> Self {
        Self {
            name: event.data.name(),
            id: event.event_id.to_string(),
            payment_id: event.payment_id.to_string(),
            occurred_at: event.occurred_at.to_string(),
            data: &event.data,
        }
    }
}

/// Writes the lines to `to`.
pub(super) struct LineWriter<W> {
    to: W,
    text: Sha256,
    line: Vec<u8>,
}

impl<W: Write> LineWriter<W> {
    pub(super) fn begin(to: W, header: &str) -> std::io::Result<Self> {
        let mut writer = Self { to, text: Sha256::new(), line: Vec::new() };
        writer.line.extend_from_slice(header.as_bytes());
        writer.end_line()?;
        Ok(writer)
    }

    pub(super) fn add(&mut self, record: &SourceRecord, digest: Digest, codec: &Codec) -> std::io::Result<()> {
        let event = record.value.as_deref().and_then(|value| codec.decode(value).ok());
        let bytes = |part: &Option<Vec<u8>>| part.clone().map(Bytes);
        let header = |(name, value): &(String, Option<Vec<u8>>)| (name.clone(), bytes(value));
        let line = Line {
            partition: record.position.partition.0,
            offset: record.position.offset.0,
            timestamp_us: record.timestamp_us,
            event: event.as_ref().map(EventLine::new),
            key: bytes(&record.key),
            headers: record.headers.as_ref().map(|headers| headers.iter().map(header).collect()),
            value: bytes(&record.value),
            digest: digest.to_string(),
        };
        serde_json::to_writer(&mut self.line, &line)?;
        self.end_line()
    }

    pub(super) fn finish(mut self, trailer: &Trailer) -> std::io::Result<W> {
        let text = Digest(self.text.clone().finalize().into()).to_string();
        let line = TrailerLine { records: trailer.records, digest: trailer.digest.to_string(), text };
        serde_json::to_writer(&mut self.line, &line)?;
        self.end_line()?;
        Ok(self.to)
    }

    fn end_line(&mut self) -> std::io::Result<()> {
        self.line.push(b'\n');
        self.text.update(&self.line);
        self.to.write_all(&self.line)?;
        self.line.clear();
        Ok(())
    }
}

/// Reads the lines from `from`. What it answers with is not verified but for `text`.
pub(super) struct LineReader<R> {
    from: R,
    text: Sha256,
    line: Vec<u8>,
}

impl<R: BufRead> LineReader<R> {
    /// Answers with the header's text too.
    pub(super) fn begin(from: R) -> Result<(Self, Vec<u8>), ArchiveError> {
        let mut reader = Self { from, text: Sha256::new(), line: Vec::new() };
        let unreadable = |why: String| ArchiveError::NotAnArchive(format!("this is no archive of paylog's: {why}"));
        let whole = reader.read_line(HEADER_BYTES_MAX as u64).map_err(|e| unreadable(e.to_string()))?;
        if !whole {
            return Err(unreadable("its first line is no header".to_owned()));
        }
        reader.text.update(&reader.line);
        let header = reader.line[..reader.line.len() - 1].to_vec();
        Ok((reader, header))
    }

    /// `Err` is what is wrong with the next line; `None` if there is none.
    pub(super) fn next(&mut self) -> Result<Option<Entry>, String> {
        let whole = self.read_line(LINE_BYTES_MAX).map_err(|e| e.to_string())?;
        if self.line.is_empty() {
            return Ok(None);
        }
        if !whole {
            return Err(match self.line.len() as u64 {
                LINE_BYTES_MAX => format!("its line is longer than {LINE_BYTES_MAX} bytes"),
                _ => "its line is cut off".to_owned(),
            });
        }
        if self.line.starts_with(TRAILER) {
            return self.trailer().map(Some);
        }
        self.text.update(&self.line);
        record(&self.line).map(Some)
    }

    /// Is there anything behind the trailer? Reading up to the end is what makes a decompressor look at its checksum.
    pub(super) fn has_more(&mut self) -> std::io::Result<bool> {
        Ok(!self.from.fill_buf()?.is_empty())
    }

    fn trailer(&self) -> Result<Entry, String> {
        let line: TrailerLine =
            serde_json::from_slice(&self.line).map_err(|e| format!("its trailer is not one: {e}"))?;
        let digest = Digest::parse(&line.digest).ok_or("its trailer has no digest")?;
        let text = Digest(self.text.clone().finalize().into()).to_string();
        if text != line.text {
            return Err("the text before the trailer is not the one that was written, though each record is".to_owned());
        }
        Ok(Entry::Trailer(Trailer { records: line.records, digest }))
    }

    /// Whether a whole line came.
    fn read_line(&mut self, max: u64) -> std::io::Result<bool> {
        self.line.clear();
        self.from.by_ref().take(max).read_until(b'\n', &mut self.line)?;
        Ok(self.line.last() == Some(&b'\n'))
    }
}

fn record(line: &[u8]) -> Result<Entry, String> {
    let line: Line<&RawValue> = serde_json::from_slice(line).map_err(|e| format!("its line cannot be read: {e}"))?;
    let digest = Digest::parse(&line.digest).ok_or("its line has no digest")?;
    let bytes = |part: Option<Bytes>| part.map(|Bytes(bytes)| bytes);
    let record = SourceRecord {
        position: Position::new(Partition(line.partition), Offset(line.offset)),
        timestamp_us: line.timestamp_us,
        key: bytes(line.key),
        headers: line.headers.map(|headers| headers.into_iter().map(|(name, value)| (name, bytes(value))).collect()),
        value: bytes(line.value),
    };
    Ok(Entry::Record(record, digest))
}
