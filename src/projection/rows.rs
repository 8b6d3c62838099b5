//! The rows of the projection `payments@4`, and their keys. Whatever is written here depends on the records of one
//! partition alone, so that a rebuild writes the same bytes.
//!
//! | table | key | value |
//! |---|---|---|
//! | `payments` | payment id | [`Row`] |
//! | `feed` | merchant, customer, partition, offset | [`FeedRow`] of an effective event |
//! | `merchants` | merchant, partition, offset | the customer of an effective event: where it is in `feed` |
//! | `others` | payment id, offset | [`FeedRow`] of an event without effect |
//! | `due` | partition, due at, payment id | nothing |
//! | `parked` | reason, parked since, payment id | nothing |

use crate::journal::{Offset, Partition};
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

/// An event as it stood on the log, so that a stream or a history needs no other source; in single-object encoding, whichever
/// frame it had there, so that it needs no registry either.
#[derive(serde::Serialize, serde::Deserialize)]
pub(super) struct FeedRow<'a> {
    /// The version it made; 0 if it had no effect.
    pub version: u64,
    pub appended_at: Timestamp,
    #[serde(borrow, with = "serde_bytes")]
    pub value: &'a [u8],
}

/// One piece of due work: what is due first comes first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DueKey {
    pub due_at: Timestamp,
    pub payment_id: PaymentId,
}

/// Read by [`super::View`].
#[derive(Clone)]
pub struct Tables {
    pub(super) payments: Table,
    pub(super) feed: Table,
    pub(super) merchants: Table,
    pub(super) others: Table,
    pub(super) due: Table,
    pub(super) parked: Table,
}

impl Tables {
    pub(super) fn open(store: &Store) -> Result<Self, StoreError> {
        Ok(Self {
            payments: store.table("payments")?,
            feed: store.table("feed")?,
            merchants: store.table("merchants")?,
            others: store.table("others")?,
            due: store.table("due")?,
            parked: store.table("parked")?,
        })
    }

    pub(super) fn row(&self, id: PaymentId) -> Result<Option<Row>, StoreError> {
        self.payments.get(id.as_bytes())?.map(|bytes| decode(&bytes)).transpose()
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
    customer_key_of(merchant, customer.as_str().as_bytes())
}

/// With the customer as it stands in `merchants`.
pub(super) fn customer_key_of(merchant: &MerchantId, customer: &[u8]) -> Vec<u8> {
    let mut key = Vec::with_capacity(2 + merchant.as_str().len() + customer.len() + 12);
    for part in [merchant.as_str().as_bytes(), customer] {
        key.push(part.len() as u8);
        key.extend_from_slice(part);
    }
    key
}

pub(super) fn merchant_key(merchant: &MerchantId) -> Vec<u8> {
    [&[merchant.as_str().len() as u8], merchant.as_str().as_bytes()].concat()
}

/// Of an event in `feed`, whose owner is a customer, or in `merchants`, whose owner is a merchant.
pub(super) fn feed_key(owner: &[u8], partition: Partition, offset: Offset) -> Vec<u8> {
    [owner, &partition.0.to_be_bytes(), &offset.0.to_be_bytes()].concat()
}

/// The offset at the end of a key.
pub(super) fn offset_of(key: &[u8]) -> Result<Offset, StoreError> {
    let bytes = key.last_chunk::<8>().ok_or_else(|| StoreError::Damaged("a key is too short".to_owned()))?;
    Ok(Offset(u64::from_be_bytes(*bytes)))
}

pub(super) fn others_key(id: PaymentId, offset: Offset) -> Vec<u8> {
    [id.as_bytes().as_slice(), &offset.0.to_be_bytes()].concat()
}

pub(super) fn encode<T: serde::Serialize>(row: &T) -> Result<Vec<u8>, StoreError> {
    postcard::to_extend(row, Vec::with_capacity(ROW_BYTES)).map_err(|e| StoreError::Damaged(e.to_string()))
}

pub(super) fn decode<'a, T: serde::Deserialize<'a>>(bytes: &'a [u8]) -> Result<T, StoreError> {
    postcard::from_bytes(bytes).map_err(|e| StoreError::Damaged(e.to_string()))
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
