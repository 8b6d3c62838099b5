//! The rows of a store as names and values, for whoever has to say what is different in them. Says nothing of what may be
//! about a person: such a field is shown by its digest.

use std::collections::BTreeMap;

use serde_json::Value;

use super::progress::{Folded, hash_of};
use super::rows::{FeedRow, decode, offset_of};
use super::{DueKey, ParkedKey, Row};
use crate::journal::{Partition, Position};
use crate::payment::{Event, PaymentId};
use crate::schema::Codec;

/// A table of [`super::Payments`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum TableName {
    Payments,
    Feed,
    Merchants,
    Others,
    Due,
    Parked,
}

/// What a row is about, as far as it can be told.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct About {
    /// Its key, for people.
    pub key: String,
    pub payment: Option<PaymentId>,
    pub position: Option<Position>,
}

/// What is said of a row, as a field of it, if it cannot be read.
const UNREADABLE: (&str, &str) = ("row", "cannot be read");
/// Fields whose values are shown by their digest alone.
const PRIVATE: [&str; 2] = ["payment.initiation.private", "payment.initiation.payment_method"];

impl About {
    /// A row of which nothing is known but its key.
    #[must_use]
    pub fn of_key(key: &[u8]) -> Self {
        Self { key: data_encoding::HEXLOWER.encode(key), ..Self::default() }
    }
}

/// Does the table belong to the fold itself, and not to its projection?
pub(super) fn is_of_engine(table: &str) -> bool {
    matches!(table, "meta" | "rejected")
}

/// `None` for a table of the projection.
pub(super) fn about_engine(table: &str, key: &[u8]) -> Option<About> {
    match table {
        "meta" => Some(About { key: meta_key(key), ..About::default() }),
        "rejected" => {
            let about =
                |position: Position| About { key: position.to_string(), payment: None, position: Some(position) };
            Some(position_in(key).map_or_else(|| About::of_key(key), about))
        }
        _ => None,
    }
}

/// `None` for a table of the projection.
pub(super) fn engine_fields(table: &str, key: &[u8], value: &[u8]) -> Option<BTreeMap<String, String>> {
    let value = match table {
        "rejected" => Some(Value::Object(serde_json::Map::new())),
        "meta" if key == b"log" => decode::<([u8; 16], u32)>(value).ok().map(|(log, partitions)| {
            serde_json::json!({"log": data_encoding::HEXLOWER.encode(&log), "partitions": partitions})
        }),
        "meta" => decode::<Folded>(value).ok().map(|folded| {
            let last = folded.last.map(|(offset, hash)| (offset, data_encoding::HEXLOWER.encode(&hash)));
            serde_json::json!({"next": folded.next, "last": last.map(|(offset, hash)| format!("{offset} {hash}"))})
        }),
        _ => return None,
    };
    Some(flat(value.as_ref()))
}

impl TableName {
    pub fn name(self) -> &'static str {
        match self {
            Self::Payments => "payments",
            Self::Feed => "feed",
            Self::Merchants => "merchants",
            Self::Others => "others",
            Self::Due => "due",
            Self::Parked => "parked",
        }
    }

    pub fn of(name: &str) -> Option<Self> {
        let all = [Self::Payments, Self::Feed, Self::Merchants, Self::Others, Self::Due, Self::Parked];
        all.into_iter().find(|table| table.name() == name)
    }

    pub fn about(self, codec: &Codec, key: &[u8], value: &[u8]) -> About {
        let about = match self {
            Self::Payments => {
                payment_in(key).map(|id| About { key: id.to_string(), payment: Some(id), position: None })
            }
            Self::Others => payment_in(key).zip(offset_of(key).ok()).map(|(id, offset)| {
                let key = format!("{id} at offset {offset}");
                About { key, payment: Some(id), position: None }
            }),
            Self::Feed => position_in(key).map(|position| {
                let payment = event_in(codec, value).map(|event| event.payment_id);
                About { key: format!("customer's event at {position}"), payment, position: Some(position) }
            }),
            Self::Merchants => position_in(key).map(|position| {
                let key = format!("merchant's event at {position}");
                About { key, payment: None, position: Some(position) }
            }),
            Self::Due => DueKey::parse(key).map(|due| {
                let key = format!("{} due at {}", due.payment_id, due.due_at);
                About { key, payment: Some(due.payment_id), position: None }
            }),
            Self::Parked => ParkedKey::parse(key).map(|parked| {
                let id = parked.payment_id();
                About { key: format!("{id} parked"), payment: Some(id), position: None }
            }),
        };
        about.unwrap_or_else(|| About::of_key(key))
    }

    /// The fields of a row, by their names.
    pub fn fields(self, value: &[u8]) -> BTreeMap<String, String> {
        let value = match self {
            Self::Payments => decode::<Row>(value).ok().and_then(|row| serde_json::to_value(row).ok()),
            Self::Feed | Self::Others => decode::<FeedRow<'_>>(value).ok().map(|row| {
                let FeedRow { version, appended_at, value } = row;
                serde_json::json!({"version": version, "appended_at": appended_at.to_string(), "event": digest(value)})
            }),
            Self::Merchants => Some(serde_json::json!({"customer": digest(value)})),
            Self::Due | Self::Parked => Some(Value::Object(serde_json::Map::new())),
        };
        flat(value.as_ref())
    }
}

/// `None` is a value that cannot be read.
pub(super) fn flat(value: Option<&Value>) -> BTreeMap<String, String> {
    let mut fields = BTreeMap::new();
    match value {
        Some(value) => flatten(String::new(), value, &mut fields),
        None => drop(fields.insert(UNREADABLE.0.to_owned(), UNREADABLE.1.to_owned())),
    }
    fields
}

/// Are these the fields of a row that could not be read?
pub(super) fn is_unreadable(fields: &BTreeMap<String, String>) -> bool {
    fields.get(UNREADABLE.0).is_some_and(|said| said == UNREADABLE.1)
}

/// The event in a row of `feed` or `others`.
pub(super) fn event_in(codec: &Codec, value: &[u8]) -> Option<Event> {
    FeedRow::read(codec, value).ok().map(|(event, _, _)| event)
}

/// For a value that may be about a person.
pub(super) fn digest(bytes: &[u8]) -> String {
    format!("digest {}", data_encoding::HEXLOWER.encode(&hash_of(bytes)))
}

fn payment_in(key: &[u8]) -> Option<PaymentId> {
    key.first_chunk::<16>().map(|bytes| PaymentId::from_bytes(*bytes))
}

/// At the end of a key of `feed`, `merchants` or `rejected`.
fn position_in(key: &[u8]) -> Option<Position> {
    let (partition, _) = key.last_chunk::<12>()?.split_first_chunk::<4>()?;
    Some(Position::new(Partition(u32::from_be_bytes(*partition)), offset_of(key).ok()?))
}

fn meta_key(key: &[u8]) -> String {
    match key {
        [b'p', partition @ ..] if partition.len() == 4 => {
            let number = partition.iter().fold(0_u32, |number, byte| number << 8 | u32::from(*byte));
            format!("partition {number}")
        }
        _ => String::from_utf8_lossy(key).escape_debug().to_string(),
    }
}

/// `{"a": {"b": 1}}` is the field `a.b`.
fn flatten(path: String, value: &Value, fields: &mut BTreeMap<String, String>) {
    let private = PRIVATE.iter().any(|private| path.starts_with(private));
    match value {
        Value::Object(members) if !private => {
            for (name, value) in members {
                let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
                flatten(path, value, fields);
            }
        }
        _ if private && !value.is_null() => drop(fields.insert(path, digest(value.to_string().as_bytes()))),
        Value::String(text) => drop(fields.insert(path, text.escape_debug().to_string())),
        _ => drop(fields.insert(path, value.to_string())),
    }
}
