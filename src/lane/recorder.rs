//! What is recorded: the outcomes that may be, in one transaction after another, and how far each lane is.

use std::time::Duration;

use tokio::time::Instant;

use super::driver::{ASK_PAUSE, GROUP_POLL, LaneError, POSITIONS_EVERY, Running};
use super::due::CatchUp;
use super::outcomes::{Ready, commit};
use crate::journal::{Fate, JournalError, Position, TransactionError};
use crate::telemetry;

/// After a transaction that was aborted, the next one waits this long, twice as long each time.
const ABORT_PAUSE: Duration = Duration::from_millis(10);
const ABORT_PAUSE_MAX: Duration = Duration::from_secs(1);
/// A partition whose deliveries failed is left out this long, so that one bad leader does not stop the other lanes.
const LEFT_OUT: Duration = Duration::from_secs(5);

impl Running {
    pub(super) fn record(&mut self, now: bool) -> Result<(), LaneError> {
        let Some(oldest) = self.outcomes.oldest() else { return Ok(()) };
        let waited = oldest.elapsed() >= self.driver.bounds.linger || self.outcomes.len() >= self.batch_max;
        if !(now || waited) || Instant::now() < self.record_not_before {
            return Ok(());
        }
        let chosen = self.outcomes.choose(&mut self.owned, &self.driver.view, self.batch_max)?;
        if chosen.is_empty() {
            // What waits is of lanes that may not record yet: look again later, not at once.
            self.record_not_before = Instant::now() + GROUP_POLL;
            return Ok(());
        }
        let began = Instant::now();
        let committed = commit(&chosen, self.lanes.as_mut(), &self.driver.view, &self.driver.codec);
        telemetry::transaction_ended(committed.is_ok(), began.elapsed());
        match committed {
            Ok(positions) => self.recorded(&chosen, &positions),
            Err(error) => {
                self.outcomes.put_back(chosen);
                self.aborted(&error)?;
            }
        }
        Ok(())
    }

    fn recorded(&mut self, chosen: &[Ready], positions: &[Position]) {
        for (ready, position) in chosen.iter().zip(positions) {
            if let Some(lane) = self.owned.get_mut(&ready.partition) {
                lane.committed(ready.payment_id, position.offset);
                telemetry::outcome_recorded(&ready.event.data);
            }
        }
        (self.aborts, self.batch_max) = (0, self.driver.bounds.batch_max);
    }

    /// Nothing is charged again and nothing rewound: the outcomes wait for the next transaction.
    fn aborted(&mut self, error: &TransactionError) -> Result<(), LaneError> {
        tracing::warn!(%error, fate = ?error.fate, "a transaction did not commit");
        self.aborts += 1;
        // A transaction in doubt says nothing of its size: a slow broker must not be met with many small ones.
        if self.aborts > 2 && error.fate == Fate::Retry && error.culprit.is_none() {
            self.batch_max = (self.batch_max / 2).max(1);
        }
        let pause = ABORT_PAUSE.saturating_mul(1 << self.aborts.min(10)).min(ABORT_PAUSE_MAX);
        self.record_not_before = Instant::now() + pause;
        if let Some(lane) = error.culprit.and_then(|partition| self.owned.get_mut(&partition)) {
            lane.left_out_until = Some(Instant::now() + LEFT_OUT);
            self.aborts = 0; // the others need not wait for it
        }
        match error.fate {
            Fate::Retry => Ok(()),
            Fate::Stop => Err(LaneError::Stopped(error.reason.clone())),
            Fate::Recycle => self.recycle(),
        }
    }

    /// A new producer, then everything that a new owner does: what the old one did is on the log or it is not.
    fn recycle(&mut self) -> Result<(), LaneError> {
        match self.lanes.recycle() {
            Ok(()) => {}
            Err(JournalError::Unavailable(reason)) => {
                // The next transaction cannot begin either, and comes back here.
                tracing::warn!(reason, "there is no new producer yet");
                self.record_not_before = Instant::now() + ASK_PAUSE;
            }
            Err(error) => return Err(error.into()),
        }
        let now = Instant::now();
        // A culprit is asked only when it may be tried again: whether it takes records is told then.
        self.owned.values_mut().for_each(|lane| lane.catch_up = CatchUp::Unasked(lane.left_out_until.unwrap_or(now)));
        self.ask_ends();
        Ok(())
    }

    pub(super) fn tell_positions(&mut self) -> Result<(), LaneError> {
        if self.positions_told.elapsed() < POSITIONS_EVERY {
            return Ok(());
        }
        self.positions_told = Instant::now();
        let folded = self.driver.view.folded();
        // Of a lane that has not caught up the last owner told more.
        let caught_up = |partition| self.owned.get(&partition).is_some_and(|lane| lane.catch_up == CatchUp::Done);
        let next = folded.positions().filter(|next| caught_up(next.partition));
        let moved: Vec<Position> = next.filter(|next| self.told.get(&next.partition) != Some(next)).collect();
        if moved.is_empty() {
            return Ok(());
        }
        match self.lanes.commit_positions(&moved) {
            Ok(()) => self.told.extend(moved.into_iter().map(|next| (next.partition, next))),
            Err(error) => tracing::warn!(%error, "positions were not committed: lag looks larger than it is"),
        }
        Ok(())
    }
}
