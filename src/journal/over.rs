//! For tests: a log that is another one but for what a test says of it.

use super::{Ends, Engine, History, JournalError, LogId, Offset, Partition, Position, Reader, Record, Span, Tail};

/// Whoever says over what it stands is a [`Reader`] of that, with its own word on the rest of these.
pub trait Over: Send + Sync {
    fn log(&self) -> &dyn Reader;

    fn record_at(&self, position: Position) -> Result<Option<Record>, JournalError> {
        self.log().read(position)
    }

    fn history_of(&self, spans: &[Span]) -> Result<Box<dyn History>, JournalError> {
        self.log().history(spans)
    }

    fn guards(&self) -> Result<(), JournalError> {
        self.log().check()
    }
}

impl<T: Over> Reader for T {
    fn engine(&self) -> Engine {
        self.log().engine()
    }

    fn log_id(&self) -> LogId {
        self.log().log_id()
    }

    fn partitions(&self) -> u32 {
        self.log().partitions()
    }

    fn tail(&self, from: &[Offset]) -> Result<Box<dyn Tail>, JournalError> {
        self.log().tail(from)
    }

    fn ends(&self, partition: Partition) -> Result<Ends, JournalError> {
        self.log().ends(partition)
    }

    fn read(&self, position: Position) -> Result<Option<Record>, JournalError> {
        self.record_at(position)
    }

    fn first_since(&self, taken_us: i64) -> Result<Vec<Offset>, JournalError> {
        self.log().first_since(taken_us)
    }

    fn history(&self, spans: &[Span]) -> Result<Box<dyn History>, JournalError> {
        self.history_of(spans)
    }

    fn check(&self) -> Result<(), JournalError> {
        self.guards()
    }
}
