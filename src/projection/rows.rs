//! The rows of the projection `payments@3`, and their keys. Whatever is written here depends on the records of one
//! partition alone, so that a rebuild writes the same bytes.
//!
//! | table | key | value |
//! |---|---|---|
//! | `payments` | payment id | [`Row`] |
//! | `feed` | merchant, customer, partition, offset | [`FeedRow`] of an effective event |
//! | `others` | payment id, offset | [`FeedRow`] of an event without effect |
//! | `due` | partition, due at, payment id | nothing |
//! | `parked` | reason, parked since, payment id | nothing |
//! | `rejected` | partition, offset | nothing: an operator's word was followed there |
//! | `meta` | `log`, or `p` and the partition | which log, or [`Folded`] |

use sha2::{Digest, Sha256};

use crate::journal::{LogId, Offset, Partition, Position};
use crate::payment::{CustomerId, Event, MerchantId, Payment, PaymentId, Timestamp};
use crate::schema::Codec;
use crate::store::{Store, StoreError, Table};

/// Most rows are smaller.
const ROW_BYTES: usize = 512;

/// A payment, and where on its partition its effective events stand: version `n` at index `n - 1`.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Row {
    pub payment: Payment,
    #[serde(with = "offsets_as_numbers")]
    pub events: Vec<Offset>,
}

/// An event as it stood on the log, so that a stream or a history needs no other source.
#[derive(serde::Serialize, serde::Deserialize)]
pub(super) struct FeedRow<'a> {
    /// The version it made; 0 if it had no effect.
    pub version: u64,
    pub appended_at: Timestamp,
    #[serde(borrow, with = "serde_bytes")]
    pub value: &'a [u8],
}

/// How far one partition has been folded.
#[derive(Clone, Debug, Default, PartialEq, serde::Serialize, serde::Deserialize)]
pub(super) struct Folded {
    pub next: u64,
    /// The last record folded: its offset and a hash of its value, to be compared with the log again.
    pub last: Option<(u64, [u8; 16])>,
}

/// One piece of due work: what is due first comes first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DueKey {
    pub due_at: Timestamp,
    pub payment_id: PaymentId,
}

pub(super) struct Tables {
    pub store: Store,
    pub payments: Table,
    pub feed: Table,
    pub others: Table,
    pub due: Table,
    pub parked: Table,
    pub rejected: Table,
    pub meta: Table,
}

impl Tables {
    pub fn open(store: Store) -> Result<Self, StoreError> {
        Ok(Self {
            payments: store.table("payments")?,
            feed: store.table("feed")?,
            others: store.table("others")?,
            due: store.table("due")?,
            parked: store.table("parked")?,
            rejected: store.table("rejected")?,
            meta: store.table("meta")?,
            store,
        })
    }

    pub fn row(&self, id: PaymentId) -> Result<Option<Row>, StoreError> {
        self.payments.get(id.as_bytes())?.map(|bytes| decode(&bytes)).transpose()
    }

    pub fn folded(&self, partition: Partition) -> Result<Folded, StoreError> {
        match self.meta.get(&folded_key(partition))? {
            Some(bytes) => decode(&bytes),
            None => Ok(Folded::default()),
        }
    }

    pub fn has_passed_over(&self, position: Position) -> Result<bool, StoreError> {
        Ok(self.rejected.get(&rejected_key(position))?.is_some())
    }

    /// Every position that was passed over because an operator had rejected it.
    pub fn passed_over(&self) -> Result<Vec<Position>, StoreError> {
        let parse = |row: Result<crate::store::Row, StoreError>| {
            let (key, _) = row?;
            let bytes = key.first_chunk::<4>().ok_or_else(|| StoreError::Damaged("a key is too short".to_owned()))?;
            Ok(Position::new(Partition(u32::from_be_bytes(*bytes)), offset_of(&key)?))
        };
        self.rejected.range(&[], &[0xFF; 13]).map(parse).collect()
    }

    /// The log that these rows are of, with its number of partitions, if any record of it was ever folded.
    pub fn log(&self) -> Result<Option<(LogId, u32)>, StoreError> {
        let row: Option<([u8; 16], u32)> = self.meta.get(b"log")?.map(|bytes| decode(&bytes)).transpose()?;
        Ok(row.map(|(id, partitions)| (LogId(id), partitions)))
    }

    pub fn set_log(&self, log: LogId, partitions: u32) -> Result<(), StoreError> {
        let mut batch = self.store.batch();
        batch.insert(&self.meta, b"log", &encode(&(log.0, partitions))?);
        batch.commit()
    }
}

impl FeedRow<'_> {
    /// The event in a row of `feed` or `others`, with its version, if it has one.
    pub fn read(codec: &Codec, row: &[u8]) -> Result<(Event, Option<u64>, Timestamp), StoreError> {
        let row: FeedRow<'_> = decode(row)?;
        let event = codec.decode(row.value).map_err(|e| StoreError::Damaged(e.to_string()))?;
        Ok((event, (row.version > 0).then_some(row.version), row.appended_at))
    }
}

impl DueKey {
    /// Before every other.
    pub const FIRST: Self = Self { due_at: Timestamp::MIN, payment_id: PaymentId::ZERO };

    /// The key right behind this one.
    #[must_use]
    pub fn after(self) -> Self {
        let id = u128::from_be_bytes(*self.payment_id.as_bytes());
        Self { payment_id: PaymentId::from_bytes(id.saturating_add(1).to_be_bytes()), ..self }
    }

    pub(super) fn key(self, partition: Partition) -> [u8; 28] {
        let mut key = [0; 28];
        key[..4].copy_from_slice(&partition.0.to_be_bytes());
        key[4..12].copy_from_slice(&self.due_at.as_micros().to_be_bytes());
        key[12..].copy_from_slice(self.payment_id.as_bytes());
        key
    }

    pub(super) fn parse(key: &[u8]) -> Option<Self> {
        let due_at = Timestamp::from_micros(i64::from_be_bytes(key.get(4..12)?.try_into().ok()?))?;
        let payment_id = PaymentId::from_bytes(key.get(12..28)?.try_into().ok()?);
        Some(Self { due_at, payment_id })
    }
}

/// The partition of all events of a payment, and so of its rows.
#[must_use]
pub fn home_of(id: PaymentId, partitions: u32) -> Partition {
    crate::journal::partition_of(id.to_string().as_bytes(), partitions)
}

/// Both ids are at most 128 bytes long, so each length is one byte.
pub(super) fn customer_key(merchant: &MerchantId, customer: &CustomerId) -> Vec<u8> {
    let mut key = Vec::with_capacity(2 + merchant.as_str().len() + customer.as_str().len() + 12);
    for part in [merchant.as_str(), customer.as_str()] {
        key.push(part.len() as u8);
        key.extend_from_slice(part.as_bytes());
    }
    key
}

pub(super) fn feed_key(customer: &[u8], partition: Partition, offset: Offset) -> Vec<u8> {
    [customer, &partition.0.to_be_bytes(), &offset.0.to_be_bytes()].concat()
}

/// The offset at the end of a key of `feed`, `others` or `rejected`.
pub(super) fn offset_of(key: &[u8]) -> Result<Offset, StoreError> {
    let bytes = key.last_chunk::<8>().ok_or_else(|| StoreError::Damaged("a key is too short".to_owned()))?;
    Ok(Offset(u64::from_be_bytes(*bytes)))
}

pub(super) fn others_key(id: PaymentId, offset: Offset) -> Vec<u8> {
    [id.as_bytes().as_slice(), &offset.0.to_be_bytes()].concat()
}

pub(super) fn rejected_key(position: Position) -> Vec<u8> {
    [position.partition.0.to_be_bytes().as_slice(), &position.offset.0.to_be_bytes()].concat()
}

pub(super) fn folded_key(partition: Partition) -> [u8; 5] {
    let p = partition.0.to_be_bytes();
    [b'p', p[0], p[1], p[2], p[3]]
}

pub(super) fn encode<T: serde::Serialize>(row: &T) -> Result<Vec<u8>, StoreError> {
    postcard::to_extend(row, Vec::with_capacity(ROW_BYTES)).map_err(|e| StoreError::Damaged(e.to_string()))
}

pub(super) fn decode<'a, T: serde::Deserialize<'a>>(bytes: &'a [u8]) -> Result<T, StoreError> {
    postcard::from_bytes(bytes).map_err(|e| StoreError::Damaged(e.to_string()))
}

/// Enough of SHA-256 to know a record again.
pub(super) fn hash_of(value: &[u8]) -> [u8; 16] {
    let digest = Sha256::digest(value);
    let mut hash = [0; 16];
    hash.copy_from_slice(&digest[..16]);
    hash
}

mod offsets_as_numbers {
    use serde::{Deserialize, Deserializer, Serializer};

    use crate::journal::Offset;

    pub fn serialize<S: Serializer>(offsets: &[Offset], serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(offsets.iter().map(|offset| offset.0))
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Offset>, D::Error> {
        Ok(Vec::<u64>::deserialize(deserializer)?.into_iter().map(Offset).collect())
    }
}
