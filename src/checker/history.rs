//! What was seen of a run, from outside: what clients asked and were told, what stands on the topics, what the provider
//! did. Nothing in it is believed; ids are the texts that were seen. Every list may be empty, and what cannot be judged
//! without one is said in the report.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::payment::Timestamp;

#[derive(Clone, Debug, Default)]
pub struct History {
    pub options: Options,
    pub operations: Vec<Operation>,
    /// The topic `payments`, read committed.
    pub log: Vec<LogRecord>,
    /// The topic `payments` with everything that was ever written, aborted or not.
    pub uncommitted: Vec<LogRecord>,
    /// The topic `payments`, read committed, as it was earlier.
    pub earlier: Vec<LogRecord>,
    pub partitions: Vec<PartitionEnds>,
    /// `None` where the provider's ledger is not known: an empty ledger is one that has charged nothing.
    pub ledger: Option<Vec<LedgerEntry>>,
    pub streams: Vec<Connection>,
    pub projections: Vec<ProjectionDigest>,
    pub offsets: Vec<GroupOffset>,
    pub dead_letters: Vec<DeadLetter>,
    /// What was produced and had to be refused.
    pub injected: Vec<DeadLetter>,
}

/// What the run was, and what may be asked of it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Options {
    /// How many partitions `payments` has; 0 if not known.
    pub partitions: u32,
    /// `None` where faults never ended: then only safety is judged.
    pub liveness: Option<Liveness>,
    /// How far the clocks of clients may be behind the log's.
    pub clock_skew_ms: u64,
    pub parking: Parking,
    /// Payments of which the provider first said no and charged later: its mistake, found by `paylog reconcile`.
    pub flipped: Vec<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Liveness {
    pub faults_ended_at: Timestamp,
    /// How long a payment may stay open after the faults ended, or after it was accepted if that was later.
    pub bar_ms: u64,
    /// When the log was read for the last time.
    pub observed_at: Timestamp,
    /// Reads from here on must show everything.
    pub rest_from: Option<Timestamp>,
}

/// Which payments may be parked: those of these reasons, and these.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Parking {
    pub reasons: Vec<String>,
    pub payments: Vec<String>,
}

// === what clients did ===

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Operation {
    pub client: String,
    /// Which instance was asked; empty if it is not known.
    #[serde(default)]
    pub instance: String,
    pub kind: Kind,
    pub merchant: String,
    /// Of a `pay`.
    #[serde(default)]
    pub key: Option<String>,
    /// Of a `pay`.
    #[serde(default)]
    pub body: Option<Body>,
    /// Of a `get` or a `history`: which payment.
    #[serde(default)]
    pub payment_id: Option<String>,
    /// The position that a `get` passed with `at_least`.
    #[serde(default)]
    pub at_least: Option<Place>,
    pub invoked_at: Timestamp,
    pub completed_at: Timestamp,
    pub outcome: Outcome,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// A payment was asked for, over HTTP or by a record on `payments.requests`.
    Pay,
    /// A payment was read.
    Get,
    /// The effective events of a payment were read.
    History,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Body {
    pub amount: i64,
    pub currency: String,
    pub customer_id: String,
    pub payment_method: String,
    #[serde(default)]
    pub description: Option<String>,
    #[serde(default)]
    pub metadata: Option<BTreeMap<String, String>>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Outcome {
    Ok(Box<Answer>),
    /// Certainly not done.
    Fail {
        status: u16,
        code: String,
    },
    /// Done or not: timeouts, broken connections, and answers that say so.
    Indeterminate {
        reason: String,
    },
}

/// A 2xx.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Answer {
    pub status: u16,
    pub payment_id: String,
    /// `false` if a `pay` was told no more than that it is on the log.
    pub confirmed: bool,
    /// The answer says that the payment is of an earlier request.
    pub replayed: bool,
    pub request_id: Option<String>,
    /// Where the record of this very `pay` stands, if it appended one.
    pub appended_at: Option<Place>,
    pub version: Option<u64>,
    /// The payment's status, as it stands in JSON.
    pub payment_status: Option<String>,
    /// The events that a `history` answered with: version and name.
    pub events: Vec<(u64, String)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Place {
    pub partition: u32,
    pub offset: u64,
}

// === what stands on the topics ===

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogRecord {
    #[serde(flatten)]
    pub place: Place,
    /// By the log's clock.
    pub appended_at: Timestamp,
    pub key: String,
    #[serde(with = "base64")]
    pub value: Vec<u8>,
    /// Who wrote it, where that is known.
    #[serde(default)]
    pub producer: Option<Producer>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Producer {
    pub id: i64,
    pub epoch: i16,
    pub transactional: bool,
}

/// The ends of a partition when the log was read for the last time.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PartitionEnds {
    pub partition: u32,
    /// The first offset that is still there.
    pub start: u64,
    pub committed: u64,
    pub uncommitted: u64,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GroupOffset {
    pub at: Timestamp,
    pub group: String,
    pub partition: u32,
    pub offset: u64,
    /// Somebody set it back on purpose.
    #[serde(default)]
    pub reset: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct DeadLetter {
    /// Where the record stood on `payments.requests`: topic, partition and offset, or whatever names it.
    pub source: String,
    #[serde(with = "base64")]
    pub value: Vec<u8>,
}

// === what the provider did ===

/// One key of the provider's ledger. A field that is not known here is passed over.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LedgerEntry {
    /// The idempotency key: the payment's id.
    pub key: String,
    /// Charges made: money that moved.
    pub charges: u64,
    /// What was charged, in minor units; what was asked for, if nothing was charged.
    pub amount: i64,
    /// Empty if nobody asked in a way that the provider understood.
    pub currency: String,
    /// Requests with this key.
    #[serde(default)]
    pub requests: u64,
    /// The digests of their bodies.
    #[serde(default)]
    pub body_digests: Vec<String>,
    /// The provider's names for the charges, where they are known.
    #[serde(default)]
    pub references: Vec<String>,
}

// === what streams carried ===

/// One connection of a stream; a stream is its connections, in the order of `number`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Connection {
    pub stream: String,
    pub number: u32,
    pub merchant: String,
    /// The payment that is followed, or else the customer.
    #[serde(default)]
    pub payment_id: Option<String>,
    #[serde(default)]
    pub customer_id: Option<String>,
    #[serde(default)]
    pub last_event_id: Option<String>,
    pub status: u16,
    pub frames: Vec<Frame>,
    /// It was read until all was at rest, or the server said that there is no more.
    #[serde(default)]
    pub to_the_end: bool,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Frame {
    /// `None` if it does not move the client's cursor.
    pub id: Option<String>,
    /// The event's name, `snapshot` or `reset`; empty for an id alone.
    pub event: String,
    pub payment_id: String,
    pub version: u64,
    pub payment_status: String,
    pub event_id: Option<String>,
    pub place: Option<Place>,
}

// === what projections hold ===

/// A digest of everything that a projection held when it had folded exactly up to `offsets`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProjectionDigest {
    pub instance: String,
    /// What the digest is over: `payments` is [`crate::checker::digest`], and held against the log; others are held against
    /// each other.
    pub kind: String,
    /// For each partition the next offset to fold.
    pub offsets: Vec<u64>,
    pub digest: String,
}

mod base64 {
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    pub fn serialize<S: Serializer>(bytes: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&data_encoding::BASE64.encode(bytes))
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<u8>, D::Error> {
        let text = String::deserialize(deserializer)?;
        data_encoding::BASE64.decode(text.as_bytes()).map_err(|_| D::Error::custom("not base64"))
    }
}

// === impl Operation, Place ===

impl Operation {
    #[must_use]
    pub fn answer(&self) -> Option<&Answer> {
        match &self.outcome {
            Outcome::Ok(answer) => Some(answer),
            Outcome::Fail { .. } | Outcome::Indeterminate { .. } => None,
        }
    }
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}", self.partition, self.offset)
    }
}
