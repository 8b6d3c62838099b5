//! Keeps up with the log of deliveries.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::{Deliveries, DeliveriesError, outcome};
use crate::journal::{Offset, Partition, Position, Record, Tail, TailItem};

/// Records that are taken at once.
const BATCH_MAX: usize = 1_000;
/// How long one read waits: the bound on how late a stop is noticed.
const POLL: Duration = Duration::from_millis(100);

/// Folds the log of deliveries, on a thread of its own.
pub struct Follower {
    pub(super) tail: Box<dyn Tail>,
    pub(super) deliveries: Deliveries,
}

impl Follower {
    /// Keeps up until told to stop. Blocks.
    pub fn run(mut self, stop: &CancellationToken) -> Result<(), DeliveriesError> {
        while !stop.is_cancelled() {
            self.turn(POLL)?;
        }
        Ok(())
    }

    /// Folds what has come, and waits for something for so long at most.
    pub fn turn(&mut self, wait: Duration) -> Result<(), DeliveriesError> {
        let mut next: BTreeMap<Partition, Offset> = BTreeMap::new();
        for item in self.tail.poll(BATCH_MAX, wait)? {
            let position = match item {
                TailItem::Record(record) => {
                    self.heed(&record)?;
                    record.position.next()
                }
                TailItem::CaughtUp(position) => position,
            };
            next.insert(position.partition, position.offset);
        }
        if next.is_empty() {
            return Ok(());
        }
        let next: Vec<Position> = next.into_iter().map(|(p, offset)| Position::new(p, offset)).collect();
        self.deliveries.fold.move_deliveries(&next)?;
        self.deliveries.publish(&next);
        Ok(())
    }

    /// What cannot be read says nothing: the worst that comes of it is that somebody is told twice.
    fn heed(&self, record: &Record) -> Result<(), DeliveriesError> {
        let fold = &self.deliveries.fold;
        match outcome::decode(fold.payments, &record.value) {
            Ok(Some(outcome)) => {
                fold.heed(&outcome, &record.value)?;
                self.deliveries.touch(outcome.work.partition, outcome.work.target);
            }
            Ok(None) => {}
            Err(reason) => {
                let position = record.position;
                tracing::error!(%position, reason, "a record of the log of deliveries cannot be read and has no effect here");
            }
        }
        Ok(())
    }
}
