//! The writers' side of the embedded log: one member, which has every partition from the start to the end.

use std::sync::Arc;
use std::time::Duration;

use super::appender::Appender;
use crate::journal::{
    AppendError, Assignment, Fate, JournalError, Lanes, NewRecord, Partition, Position, Transaction, TransactionError,
};

pub(super) struct EmbeddedLanes {
    appender: Arc<Appender>,
    partitions: u32,
    member: u64,
    offered: bool,
}

impl EmbeddedLanes {
    pub(super) fn new(appender: Arc<Appender>, partitions: u32) -> Self {
        let member = appender.join();
        Self { appender, partitions, member, offered: false }
    }
}

impl Lanes for EmbeddedLanes {
    fn poll(&mut self, timeout: Duration) -> Result<Option<Assignment>, JournalError> {
        if self.offered {
            std::thread::sleep(timeout); // nobody else can join: there is nothing to hear of
            return Ok(None);
        }
        self.offered = true;
        Ok(Some(Assignment::Assigned((0..self.partitions).map(Partition).collect())))
    }

    fn assign(&mut self, _partitions: &[Partition]) -> Result<(), JournalError> {
        Ok(())
    }

    fn unassign(&mut self, _partitions: &[Partition]) -> Result<(), JournalError> {
        Ok(())
    }

    fn begin(&mut self) -> Result<Box<dyn Transaction + '_>, TransactionError> {
        Ok(Box::new(EmbeddedTransaction { lanes: self, records: Vec::new() }))
    }

    fn recycle(&mut self) -> Result<(), JournalError> {
        self.member = self.appender.join();
        Ok(())
    }

    fn commit_positions(&mut self, next: &[Position]) -> Result<(), JournalError> {
        let committed = self.commit(Vec::new(), next.to_vec());
        committed.map(|_| ()).map_err(|e| JournalError::Unavailable(e.to_string()))
    }

    fn leave(self: Box<Self>, _deadline: Duration) {}
}

impl EmbeddedLanes {
    fn commit(&self, records: Vec<NewRecord>, next: Vec<Position>) -> Result<Vec<Position>, TransactionError> {
        let failed = |fate, reason: String| TransactionError { fate, culprit: None, reason };
        let answer = self.appender.submit(records, next, Some(self.member));
        let answer = answer.map_err(|e| failed(Fate::Retry, e.to_string()))?;
        match answer.blocking_recv() {
            Ok(Ok(positions)) => Ok(positions),
            // Fenced, or the disk has failed: neither mends itself.
            Ok(Err(AppendError::NotAppended(reason))) => Err(failed(Fate::Stop, reason)),
            Ok(Err(AppendError::Unknown(reason))) => Err(failed(Fate::Stop, reason)),
            Err(_) => Err(failed(Fate::Stop, "the log was closed".to_owned())),
        }
    }
}

/// Nothing is written before the commit, so there is nothing to take back.
struct EmbeddedTransaction<'l> {
    lanes: &'l EmbeddedLanes,
    records: Vec<NewRecord>,
}

impl Transaction for EmbeddedTransaction<'_> {
    fn append(&mut self, record: NewRecord) -> Result<(), TransactionError> {
        self.records.push(record);
        Ok(())
    }

    fn commit(self: Box<Self>, next: &[Position]) -> Result<Vec<Position>, TransactionError> {
        self.lanes.commit(self.records, next.to_vec())
    }

    fn abort(self: Box<Self>) -> Result<(), TransactionError> {
        Ok(())
    }
}
