//! The seam for those who read a stretch of the log and then stop: records whole, with their headers, and an end that was
//! named before. The fold has no use for it; proofs and copies of a log have.

use std::time::Duration;

use crate::journal::{Header, JournalError, Offset, Partition, Record};

/// A stretch of one partition: `from <= offset < to`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    pub partition: Partition,
    pub from: Offset,
    /// At most the partition's committed end, which counts transaction markers too.
    pub to: Offset,
}

/// A record as it stands on the log, with its headers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Written {
    pub record: Record,
    /// `None` if they cannot be read, which is not the same as none.
    pub headers: Option<Vec<Header>>,
}

#[derive(Debug)]
pub enum HistoryItem {
    /// In order within a partition.
    Record(Written),
    /// All of this partition's span has been handed out. Said once for each span, an empty one too.
    Done(Partition),
}

/// Reads spans of the log, committed records only. Belongs to one thread.
pub trait History: Send {
    /// Waits up to `timeout` for something to read and answers with about `max` items at most; with none if nothing came in
    /// time. Transport errors are retried inside for ever (and logged); an `Err` is final.
    fn poll(&mut self, max: usize, timeout: Duration) -> Result<Vec<HistoryItem>, JournalError>;
}

impl Span {
    /// How many records there are in it at most: transaction markers take offsets too.
    #[must_use]
    pub fn len_max(&self) -> u64 {
        self.to.0.saturating_sub(self.from.0)
    }
}
