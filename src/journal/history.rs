//! The seam for those who read a stretch of the log and then stop: records exactly as they stand there, with their headers,
//! and an end that was named before. The fold has no use for it; proofs and copies of a log have.

use std::collections::VecDeque;
use std::time::Duration;

use crate::journal::{JournalError, Offset, Partition, SourceRecord};

/// Records of a copy that are read at once.
const READ_MAX: usize = 1_000;
/// How long the log may be silent before a copy is given up: it can be begun again, and a log that is away for longer is
/// somebody's to look at.
const SILENCE_MAX: Duration = Duration::from_secs(60);

/// A stretch of one partition: `from <= offset < to`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    pub partition: Partition,
    pub from: Offset,
    /// At most the partition's committed end, which counts transaction markers too.
    pub to: Offset,
}

#[derive(Debug)]
pub enum HistoryItem {
    /// In order within a partition.
    Record(SourceRecord),
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

/// One span as an iterator. Ends with an error if the log is silent for too long.
pub(super) struct Copies {
    history: Box<dyn History>,
    read: VecDeque<SourceRecord>,
    done: bool,
}

impl Copies {
    pub(super) fn of(history: Box<dyn History>) -> Self {
        Self { history, read: VecDeque::new(), done: false }
    }

    fn read(&mut self) -> Result<(), JournalError> {
        let items = self.history.poll(READ_MAX, SILENCE_MAX)?;
        if items.is_empty() {
            let text = format!("the log has not answered for {} s", SILENCE_MAX.as_secs());
            return Err(JournalError::Unavailable(text));
        }
        for item in items {
            match item {
                HistoryItem::Record(record) => self.read.push_back(record),
                HistoryItem::Done(_) => self.done = true,
            }
        }
        Ok(())
    }
}

impl Iterator for Copies {
    type Item = Result<SourceRecord, JournalError>;

    fn next(&mut self) -> Option<Self::Item> {
        while self.read.is_empty() && !self.done {
            if let Err(error) = self.read() {
                self.done = true;
                return Some(Err(error));
            }
        }
        self.read.pop_front().map(Ok)
    }
}
