//! The log: the only module that knows how it is kept.
//!
//! Two engines stand behind one seam: [`embedded`] keeps the log on this machine's disk for a single process, `kafka`
//! keeps it on Apache Kafka for any number of them. Whatever is promised here is promised by both, and every behaviour
//! scenario under `tests/it` runs on both. What differs is listed at [`Engine`].
//!
//! The seam has five doors: [`Journal::append`] (idempotent, answers with a position), [`Reader::tail`] (read forward,
//! and know when one has caught up), [`Journal::lanes`] (be the one writer of some partitions, in transactions),
//! [`Journal::requests`] (take in what others ask for) and [`Reader::check`] (the guards). All but `append` block, and belong on a thread of their own.
//!
//! This module knows nothing of payments: keys, headers and values are bytes to it.

pub mod embedded;
mod history;
pub mod kafka;
#[cfg(test)]
pub mod over;
mod partitioner;
mod record;
mod requests;

use std::collections::BTreeMap;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

pub use history::{History, HistoryItem, Span};
pub use partitioner::partition_of;
pub use record::{LogId, NewRecord, Offset, Partition, Position, Record};
pub use requests::{Crossing, DeadLetter, Header, Incoming, Passage, Requests, SourceRecord, Target};

/// Which engine keeps the log. What differs between the two, by name and with the reason:
///
/// * `one process`: the embedded log belongs to the process that holds the lock on its directory; there is no
///   rebalance, because there is nobody to share with, and no second instance that could be further or less far.
/// * `no open transactions`: an embedded transaction is one atomic batch, so the end read uncommitted and the end read
///   committed are always the same.
/// * `no gaps`: for the same reason nothing that was aborted stands on an embedded log, and nothing that marks the end of a
///   transaction: every offset is a record. On Kafka both take offsets, at the end of the log too.
/// * `no foreign writers`: nobody but its process can write to an embedded log, so there are no requests to take in and no
///   dead letters.
/// * `no replicas`: the embedded log is as durable as its disk; replication factor and min ISR are Kafka's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Engine {
    Embedded,
    Kafka,
}

/// The answer of [`Journal::append`], which does not borrow the journal.
pub type Appending = Pin<Box<dyn Future<Output = Result<Position, AppendError>> + Send>>;

/// What [`Reader::originals`] hands out. Belongs to one thread, and blocks.
pub type Originals = Box<dyn Iterator<Item = Result<SourceRecord, JournalError>> + Send>;

/// A log of records in partitions, each partition in one order, for those who only read it: who holds this can append
/// nothing.
pub trait Reader: Send + Sync {
    fn engine(&self) -> Engine;

    /// Names this log and no other: a topic that was deleted and made again has another id.
    fn log_id(&self) -> LogId;

    /// How many partitions the log was created with. It never changes.
    fn partitions(&self) -> u32;

    /// Reads every partition, each from its own offset, committed records only. `from[p]` belongs to partition `p`.
    fn tail(&self, from: &[Offset]) -> Result<Box<dyn Tail>, JournalError>;

    /// Where a partition ends now. Blocks for at most the engine's request timeout.
    fn ends(&self, partition: Partition) -> Result<Ends, JournalError>;

    /// Reads the committed record at exactly this position, if there is one: `None` past the end or at a transaction
    /// marker. For guards and the odd look-up, not for a hot path.
    fn read(&self, position: Position) -> Result<Option<Record>, JournalError>;

    /// Of each partition the first offset that holds a record which the log took at `taken_us` (microseconds since 1970) or
    /// later, or one before it that holds none; its committed end if there is none. The log's clock runs forward, as far as
    /// brokers' clocks do. Blocks for at most the engine's request timeout.
    fn first_since(&self, taken_us: i64) -> Result<Vec<Offset>, JournalError>;

    /// Reads these spans, at most one of a partition, with the headers of the records, and ends.
    fn history(&self, _spans: &[Span]) -> Result<Box<dyn History>, JournalError> {
        Err(JournalError::Refused(format!("the {} journal here gives out no headers", self.engine())))
    }

    /// The committed records of one partition from `from` to before `to`, exactly as they stand there, in order. `to` is at most
    /// the partition's committed end.
    fn originals(&self, partition: Partition, from: Offset, to: Offset) -> Result<Originals, JournalError> {
        Ok(Box::new(history::Copies::of(self.history(&[Span { partition, from, to }])?)))
    }

    /// The guards of DESIGN.md 4 that can be asked of the log itself. `Err` says what is wrong and what to do; until it
    /// answers `Ok` nothing may be appended.
    fn check(&self) -> Result<(), JournalError>;
}

/// A log, for those who write it too.
pub trait Journal: Reader {
    /// Appends one record. `Ok` means durable: acknowledged by all in-sync replicas, or synced to disk.
    fn append(&self, record: NewRecord) -> Appending;

    /// Appends a record of another log to its partition, with the time at which that log took it. `Ok` means durable.
    fn restore(&self, record: &SourceRecord) -> Appending {
        let text = format!("the {} journal restores nothing, not {}", self.engine(), record.position);
        Box::pin(async move { Err(AppendError::NotAppended(text)) })
    }

    /// Joins the group of those who write outcomes.
    fn lanes(&self) -> Result<Box<dyn Lanes>, JournalError>;

    /// Can this partition take records now? `Unavailable` says why not: it has no leader, or too few replicas are in sync.
    /// A new owner asks before it acts, for an outcome that cannot be recorded should not come about. No promise: a broker
    /// can fail in the next moment.
    fn writable(&self, _partition: Partition) -> Result<(), JournalError> {
        Ok(())
    }

    /// Which partitions take no records now, and why not: the same of all of them, asked at once.
    fn unwritable(&self) -> Result<BTreeMap<Partition, String>, JournalError> {
        Ok(BTreeMap::new())
    }

    /// Are the lanes and the requests that were given out still served? `Err` if nobody has polled them for so long that the
    /// group has given them to others: whoever should have hangs, and the process is better ended than left half alive.
    fn check_members(&self) -> Result<(), JournalError> {
        Ok(())
    }

    /// Joins the group of those who take requests in. Refused by a journal that nobody else can write to.
    fn requests(&self) -> Result<Box<dyn Requests>, JournalError> {
        Err(JournalError::Refused(format!("the {} journal takes no requests from others", self.engine())))
    }
}

/// The ends of one partition: the offset that the next record will have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ends {
    /// As seen by a reader of committed records: nothing before it can change any more (Kafka's last stable offset).
    pub committed: Offset,
    /// As seen by a reader that does not wait for transactions (Kafka's high watermark).
    pub uncommitted: Offset,
}

/// Reads forward. Belongs to one thread.
pub trait Tail: Send {
    /// Waits up to `timeout` for something to read and answers with at most `max` items, in order within a partition.
    /// Transport errors are retried inside for ever (and logged); an `Err` is final.
    fn poll(&mut self, max: usize, timeout: Duration) -> Result<Vec<TailItem>, JournalError>;

    /// As [`Tail::poll`], with records that are lent: whoever reads millions and keeps them elsewhere spares two copies of each.
    /// Answers with how many items there were.
    fn each(&mut self, max: usize, timeout: Duration, take: &mut dyn FnMut(Seen<'_>)) -> Result<usize, JournalError> {
        let items = self.poll(max, timeout)?;
        for item in &items {
            take(match item {
                TailItem::Record(Record { position, appended_at_us, key, value }) => {
                    Seen::Record { position: *position, appended_at_us: *appended_at_us, key, value }
                }
                TailItem::CaughtUp(next) => Seen::CaughtUp(*next),
            });
        }
        Ok(items.len())
    }
}

/// A [`TailItem`] that is lent.
#[derive(Clone, Copy, Debug)]
pub enum Seen<'a> {
    Record { position: Position, appended_at_us: i64, key: &'a [u8], value: &'a [u8] },
    CaughtUp(Position),
}

#[derive(Clone, Debug)]
pub enum TailItem {
    Record(Record),
    /// Everything before this position has been handed out: the reader stands at the partition's committed end. Its
    /// offset counts transaction markers too, so it may be more than one past the last record.
    CaughtUp(Position),
}

/// The writers' side: membership in the group, and the transactions that only a member can commit. Belongs to one
/// thread, which must call [`Lanes::poll`] at least every few seconds.
pub trait Lanes: Send {
    /// Serves the group and answers with a change of assignment, if there is one. Nothing is in force until the caller
    /// says so by [`Lanes::assign`] or [`Lanes::unassign`].
    fn poll(&mut self, timeout: Duration) -> Result<Option<Assignment>, JournalError>;

    /// Takes the partitions that [`Assignment::Assigned`] offered, once every transaction that an earlier owner left open
    /// over them has ended. `Unavailable`: not yet; call it again, with the same partitions, in a moment (the transaction
    /// timeout bounds how often). It blocks only briefly, for other lanes act meanwhile. A partition may be taken with no
    /// work to do.
    fn assign(&mut self, partitions: &[Partition]) -> Result<(), JournalError>;

    /// Gives up partitions that [`Assignment::Revoked`] named. The caller has ended their lanes' epochs before.
    fn unassign(&mut self, partitions: &[Partition]) -> Result<(), JournalError>;

    /// Opens a transaction that carries the group's generation as it is now: if any partition has moved on by the time it
    /// commits, it aborts.
    fn begin(&mut self) -> Result<Box<dyn Transaction + '_>, TransactionError>;

    /// Drops the producer and makes a new one, whose epoch ends whatever the old one left in flight. After this the
    /// caller must catch up again before it acts.
    fn recycle(&mut self) -> Result<(), JournalError>;

    /// Commits positions outside a transaction, so that an idle lane's lag means what Kafka's tools say. On `Err` they are
    /// not committed, as while the group is changing, and the caller comes back with them.
    fn commit_positions(&mut self, next: &[Position]) -> Result<(), JournalError>;

    /// Leaves the group, within `deadline`, so that others take over at once.
    fn leave(self: Box<Self>, deadline: Duration);
}

/// A change of assignment, as a value for the loop to match on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Assignment {
    Assigned(Vec<Partition>),
    Revoked {
        partitions: Vec<Partition>,
        /// Another member may own them already: nothing more may be written.
        lost: bool,
    },
}

/// Records and positions that become visible together or not at all. Must be committed or aborted; one that is dropped
/// aborts and says so in the log.
#[must_use = "a transaction must be committed or aborted"]
pub trait Transaction {
    fn append(&mut self, record: NewRecord) -> Result<(), TransactionError>;

    /// Commits the records with, for each partition written, the next offset that its lane will fold. Answers with where
    /// each record went, in the order of the appends. On `Err` with [`Fate::Retry`] nothing became visible and the
    /// transaction has been aborted; with [`Fate::Recycle`] it may or may not have, and only the log can tell.
    fn commit(self: Box<Self>, next: &[Position]) -> Result<Vec<Position>, TransactionError>;

    fn abort(self: Box<Self>) -> Result<(), TransactionError>;
}

/// What became of an append that was not acknowledged.
#[derive(Debug, thiserror::Error)]
pub enum AppendError {
    /// It is certain that the record is not on the log, and never will be.
    #[error("the record was not appended: {0}")]
    NotAppended(String),
    /// It may be on the log, or arrive there later.
    #[error("the record may or may not have been appended: {0}")]
    Unknown(String),
}

/// What to do after a transaction failed. Decided in one place, `kafka/error.rs`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// Aborted cleanly: try again with the same records and fresh metadata.
    Retry,
    /// In doubt: drop the producer, make a new one, catch up, then look at the log.
    Recycle,
    /// This process may not go on writing (not authorised, fenced by a twin): stop.
    Stop,
}

#[derive(Debug, thiserror::Error)]
#[error("{reason}")]
pub struct TransactionError {
    pub fate: Fate,
    /// The partition whose deliveries failed, where one is known to be the culprit.
    pub culprit: Option<Partition>,
    pub reason: String,
}

/// An error of the log that its reader cannot mend. The text says what was attempted and, for a guard, what to do.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// A guard refuses: the log is not the one, or not set up as, paylog can trust.
    #[error("{0}")]
    Refused(String),
    /// The log cannot be reached or does not answer.
    #[error("{0}")]
    Unavailable(String),
    /// The log answered with something that must never happen.
    #[error("{0}")]
    Broken(String),
}

impl fmt::Display for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Engine::Embedded => "embedded",
            Engine::Kafka => "kafka",
        })
    }
}
