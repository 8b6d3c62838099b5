//! What a refused record becomes: its own bytes, with headers that say why, from where and when. By design those bytes may
//! hold what was refused for being there, a card number too: who may read the topic of dead letters may read that. Pure.

use sha2::{Digest, Sha256};

use super::request::Refused;
use crate::journal::{Crossing, DeadLetter, Header, SourceRecord, partition_of};
use crate::payment::Timestamp;

pub(super) const REASON: &str = "paylog-reason";
pub(super) const DETAIL: &str = "paylog-detail";
pub(super) const SOURCE: &str = "paylog-source";
pub(super) const REFUSED_AT: &str = "paylog-refused-at";
/// Of a value that does not fit: how long it was, and its SHA-256 in hexadecimal.
pub(super) const LENGTH: &str = "paylog-length";
pub(super) const SHA256: &str = "paylog-sha256";
/// Headers and a key that do not fit either: how many, and how long.
const HEADERS_LEFT_OUT: &str = "paylog-headers-left-out";
const KEY_LENGTH: &str = "paylog-key-length";

/// What is kept of something that does not fit.
const KEPT_MAX: usize = 64 * 1024;
/// What Kafka adds to a record in a batch of its own, and to each header of it, at most.
const BATCH_OVERHEAD: usize = 128;
const HEADER_OVERHEAD: usize = 10;

/// The dead letter of `record`. Ours are the last of its headers: one that came with the same name stands before.
pub(super) fn dead_letter(record: &SourceRecord, refused: &Refused, crossing: &Crossing, at: Timestamp) -> DeadLetter {
    let partition = match &record.key {
        Some(key) => partition_of(key, crossing.dead_letter_partitions),
        None => crate::journal::Partition(record.position.partition.0 % crossing.dead_letter_partitions),
    };
    let said = vec![
        header(REASON, refused.code),
        header(DETAIL, &refused.detail),
        header(SOURCE, &source(record, crossing)),
        header(REFUSED_AT, &at.to_string()),
    ];
    let headers = [record.headers(), &said].concat();
    let (key, value) = (record.key.clone(), record.value.clone());
    let whole = DeadLetter { partition, key, headers, value };
    if bytes_of(&whole) <= crossing.dead_letter_bytes_max { whole } else { cut(record, whole, said) }
}

/// `topic/partition/offset`: where it stands, or stood.
pub(super) fn source(record: &SourceRecord, crossing: &Crossing) -> String {
    format!("{}/{}/{}", crossing.requests, record.position.partition, record.position.offset)
}

/// The beginning of the value; the key and the headers too if they fit.
fn cut(record: &SourceRecord, whole: DeadLetter, said: Vec<Header>) -> DeadLetter {
    let value = record.value.as_deref().unwrap_or_default();
    let mut headers = record.headers().to_vec();
    let mut left_out = Vec::new();
    if headers_bytes(&headers) > KEPT_MAX {
        left_out.push(header(HEADERS_LEFT_OUT, &headers.len().to_string()));
        headers.clear();
    }
    let key = record.key.as_ref().map(|key| {
        if key.len() > KEPT_MAX {
            left_out.push(header(KEY_LENGTH, &key.len().to_string()));
        }
        beginning(key)
    });
    headers.extend(said);
    headers.push(header(LENGTH, &value.len().to_string()));
    headers.push(header(SHA256, &data_encoding::HEXLOWER.encode(&Sha256::digest(value))));
    headers.extend(left_out);
    DeadLetter { key, headers, value: record.value.as_deref().map(beginning), ..whole }
}

fn beginning(bytes: &[u8]) -> Vec<u8> {
    bytes[..bytes.len().min(KEPT_MAX)].to_vec()
}

fn bytes_of(letter: &DeadLetter) -> usize {
    let length = |part: &Option<Vec<u8>>| part.as_ref().map_or(0, Vec::len);
    BATCH_OVERHEAD + length(&letter.key) + length(&letter.value) + headers_bytes(&letter.headers)
}

fn headers_bytes(headers: &[Header]) -> usize {
    headers.iter().map(|(name, value)| HEADER_OVERHEAD + name.len() + value.as_ref().map_or(0, Vec::len)).sum()
}

fn header(name: &str, value: &str) -> Header {
    (name.to_owned(), Some(value.as_bytes().to_vec()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::journal::{Offset, Partition, Position};
    use crate::payment::samples::at;

    fn letter(record: &SourceRecord, bytes_max: usize) -> DeadLetter {
        let refused = Refused { code: "unknown_format", detail: "no".to_owned() };
        let crossing = Crossing {
            requests: "payments.requests".to_owned(),
            dead_letter_partitions: 4,
            dead_letter_bytes_max: bytes_max,
        };
        dead_letter(record, &refused, &crossing, at(0))
    }

    fn record(key: Option<Vec<u8>>, headers: Vec<Header>, value: Option<Vec<u8>>) -> SourceRecord {
        let position = Position::new(Partition(6), Offset(42));
        SourceRecord { position, timestamp_us: 0, key, headers: Some(headers), value }
    }

    fn said<'l>(letter: &'l DeadLetter, name: &str) -> Option<&'l str> {
        let (_, value) = letter.headers.iter().rev().find(|(n, _)| n == name)?;
        value.as_deref().and_then(|value| std::str::from_utf8(value).ok())
    }

    #[test]
    fn it_is_the_record_and_why_it_was_refused() {
        let theirs = vec![("x".to_owned(), None), (REASON.to_owned(), Some(b"theirs".to_vec()))];
        let from = record(Some(b"21".to_vec()), theirs.clone(), Some(vec![0xFF, 0]));
        let letter = letter(&from, 1_000_000);
        assert_eq!((&letter.key, &letter.value), (&from.key, &from.value));
        assert_eq!(letter.headers[..2], theirs[..]);
        assert_eq!(letter.partition, partition_of(b"21", 4));
        assert_eq!(said(&letter, REASON), Some("unknown_format"), "ours is the last");
        assert_eq!(said(&letter, SOURCE), Some("payments.requests/6/42"));
        assert_eq!(said(&letter, REFUSED_AT), Some("2025-11-24T16:00:00.000000Z"));
        assert_eq!(said(&letter, LENGTH), None, "it fits");
    }

    #[test]
    fn nothing_stays_nothing() {
        let letter = letter(&record(None, Vec::new(), None), 1_000_000);
        assert_eq!((letter.key, letter.value, letter.partition), (None, None, Partition(2)));
    }

    #[test]
    fn what_does_not_fit_is_cut_and_named_by_length_and_digest() {
        let letter = letter(&record(Some(b"k".to_vec()), Vec::new(), Some(vec![b'a'; 1_000_000])), 1_000_000);
        assert_eq!(letter.value.as_ref().map(Vec::len), Some(KEPT_MAX));
        assert_eq!(said(&letter, LENGTH), Some("1000000"));
        // Of Python's hashlib.sha256(b"a" * 1000000): also the third vector of FIPS 180-4's examples.
        let digest = "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0";
        assert_eq!(said(&letter, SHA256), Some(digest));
        assert_eq!(letter.key.as_deref(), Some(&b"k"[..]));
    }

    #[test]
    fn a_key_and_headers_that_do_not_fit_are_named_too() {
        let theirs = vec![("x".to_owned(), Some(vec![b'h'; 500_000])), ("y".to_owned(), None)];
        let letter = letter(&record(Some(vec![b'k'; 600_000]), theirs, None), 1_000_000);
        assert_eq!((said(&letter, HEADERS_LEFT_OUT), said(&letter, KEY_LENGTH)), (Some("2"), Some("600000")));
        assert!(bytes_of(&letter) < 2 * KEPT_MAX && letter.value.is_none());
    }
}
