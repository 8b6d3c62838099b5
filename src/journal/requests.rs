//! The seam for requests that others wrote: each is moved on exactly once, into the log or among the dead letters, in the
//! transaction that moves the group past it.
//!
//! Only a journal that others can write to has this door: see `no foreign writers` at [`crate::journal::Engine`].

use std::collections::BTreeMap;
use std::time::Duration;

use crate::journal::{Assignment, JournalError, NewRecord, Partition, Position, TransactionError};

/// A header as it came: its value may be missing, which is not the same as empty.
pub type Header = (String, Option<Vec<u8>>);

/// A record that anybody may have written, exactly as it came, and where it stood: on the topic of requests, among the dead
/// letters, or on the log when it is copied.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SourceRecord {
    pub position: Position,
    /// By the topic's clock or its producer's: microseconds since 1970, UTC.
    pub timestamp_us: i64,
    pub key: Option<Vec<u8>>,
    /// `None` if they cannot be read, which is not the same as none: what they ask for is not known.
    pub headers: Option<Vec<Header>>,
    pub value: Option<Vec<u8>>,
}

/// What a record, and what each header of it, takes of memory besides its bytes, at most.
const RECORD_WEIGHT: usize = 256;
const HEADER_WEIGHT: usize = 128;

impl SourceRecord {
    #[must_use]
    pub fn headers(&self) -> &[Header] {
        self.headers.as_deref().unwrap_or_default()
    }

    /// Everything that was sent, in bytes.
    #[must_use]
    pub fn bytes(&self) -> usize {
        let length = |part: &Option<Vec<u8>>| part.as_ref().map_or(0, Vec::len);
        let headers = self.headers().iter().map(|(name, value)| name.len() + length(value));
        length(&self.key) + length(&self.value) + headers.sum::<usize>()
    }

    /// What it takes of memory, in bytes: an empty header takes some too, and a record can have very many.
    #[must_use]
    pub fn weight(&self) -> usize {
        RECORD_WEIGHT + self.headers().len() * HEADER_WEIGHT + self.bytes()
    }
}

/// A record for the topic of dead letters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeadLetter {
    pub partition: Partition,
    pub key: Option<Vec<u8>>,
    pub headers: Vec<Header>,
    pub value: Option<Vec<u8>>,
}

/// The topics on both sides of the intake.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Crossing {
    /// The name of the topic of requests: with partition and offset it names a request for ever.
    pub requests: String,
    pub dead_letter_partitions: u32,
    /// The largest record that the topic of dead letters takes, with all its headers.
    pub dead_letter_bytes_max: usize,
}

/// What [`Requests::poll`] answers with, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Incoming {
    /// Of a partition that is ours, each once, in order within its partition.
    Record(SourceRecord),
    /// Nothing is in force until the caller says so by [`Requests::assign`] or [`Requests::unassign`].
    Group(Assignment),
    /// The topic no longer has what comes next in this partition: reading goes on at the first record that it has.
    /// `missing` offsets are gone, or an unknown number of them if the group stood past the topic's end.
    Gone { partition: Partition, missing: Option<u64> },
}

/// What one transaction moves: records in, and how far the group is then.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Passage {
    /// For the log.
    pub events: Vec<NewRecord>,
    pub dead_letters: Vec<DeadLetter>,
    /// The next offset to read of each partition of requests that something was taken from.
    pub next: Vec<Position>,
}

/// A partition on the other side: one that requests, or what was refused of them, are moved to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Target {
    Log(Partition),
    DeadLetters(Partition),
}

impl Passage {
    /// What it writes to.
    pub fn targets(&self) -> impl Iterator<Item = Target> {
        let letters = self.dead_letters.iter().map(|letter| Target::DeadLetters(letter.partition));
        self.events.iter().map(|event| Target::Log(event.partition)).chain(letters)
    }
}

/// Membership in the group of those who take requests in. Belongs to one thread, which must call [`Requests::poll`] at
/// least every few seconds.
pub trait Requests: Send {
    fn crossing(&self) -> &Crossing;

    /// Serves the group and waits up to `timeout` for something to read: at most `max` records, and never one that comes
    /// after a change of assignment that it hands out. Transport errors are retried inside for ever (and logged).
    fn poll(&mut self, max: usize, timeout: Duration) -> Result<Vec<Incoming>, JournalError>;

    /// Takes the partitions that [`Assignment::Assigned`] offered, once every transaction that an earlier owner left open over
    /// them has ended, and reads each from where the group stands; from its beginning where it never was. `Unavailable`: not
    /// yet; call it again, with the same partitions, in a moment. It blocks only briefly: others are read meanwhile.
    fn assign(&mut self, partitions: &[Partition]) -> Result<(), JournalError>;

    /// Gives up partitions that [`Assignment::Revoked`] named. The caller has dropped what it had of them.
    fn unassign(&mut self, partitions: &[Partition]) -> Result<(), JournalError>;

    /// Reads these partitions no further until [`Requests::resume`]. A rebalance that takes one away forgets it.
    fn pause(&mut self, partitions: &[Partition]) -> Result<(), JournalError>;

    fn resume(&mut self, partitions: &[Partition]) -> Result<(), JournalError>;

    /// Which targets can take no records now, and why not. Whoever moves something on asks first: a transaction over one of
    /// them can neither commit nor end, and holds up all who read any other partition that it wrote to. No promise: a broker
    /// can fail in the next moment.
    fn unwritable(&mut self) -> Result<BTreeMap<Target, String>, JournalError>;

    /// Commits all of `passage` in one transaction that carries the group's generation, or nothing. On `Err` with
    /// [`Fate::Retry`](crate::journal::Fate::Retry) nothing became visible; with
    /// [`Fate::Recycle`](crate::journal::Fate::Recycle) it may or may not have, and only [`Requests::recycle`] can tell.
    fn commit(&mut self, passage: &Passage) -> Result<(), TransactionError>;

    /// Drops the producer and makes a new one, whose epoch ends whatever the old one left in flight, then answers where
    /// the group stands in each partition that is ours: what lies before that has been moved on. `Unavailable`: not yet known;
    /// call it again in a moment.
    fn recycle(&mut self) -> Result<Vec<Position>, JournalError>;

    /// Leaves the group, within `deadline`, so that others take over at once.
    fn leave(self: Box<Self>, deadline: Duration);
}
