//! The group: which partitions of the log of deliveries are ours, and when their lanes may act.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::NotifyError;
use super::lane::{CatchUp, Input, Lane, Running};
use crate::journal::{Assignment, JournalError, Offset, Partition, Position};
use crate::telemetry::Seldom;

/// How often a lane commits its position, so that its lag means what Kafka's tools say.
pub(super) const POSITIONS_EVERY: Duration = Duration::from_secs(5);
/// Before a question that the log could not answer is asked again.
const ASK_PAUSE: Duration = Duration::from_secs(1);

static NOT_TAKEN: Seldom = Seldom::new();

impl Running {
    pub(super) fn serve_group(&mut self) -> Result<(), NotifyError> {
        while let Some(change) = self.lanes.poll(Duration::ZERO)? {
            match change {
                Assignment::Assigned(partitions) if partitions.is_empty() => self.lanes.assign(&[])?,
                Assignment::Assigned(partitions) => {
                    self.unfenced.extend(partitions);
                    self.fence_not_before = Instant::now();
                }
                Assignment::Revoked { partitions, .. } => {
                    self.unfenced.retain(|partition| !partitions.contains(partition));
                    self.owned.retain(|partition, _| !partitions.contains(partition));
                    self.lanes.unassign(&partitions)?;
                    tracing::info!(?partitions, "notifier lanes given up");
                }
            }
        }
        self.fence()?;
        self.ask_ends();
        Ok(())
    }

    fn fence(&mut self) -> Result<(), NotifyError> {
        if self.unfenced.is_empty() || Instant::now() < self.fence_not_before {
            return Ok(());
        }
        let partitions: Vec<Partition> = self.unfenced.iter().copied().collect();
        match self.lanes.assign(&partitions) {
            Ok(()) => {}
            Err(JournalError::Unavailable(reason)) => {
                if NOT_TAKEN.now() {
                    tracing::warn!(reason, ?partitions, "notifier lanes cannot be taken yet");
                }
                self.fence_not_before = Instant::now() + ASK_PAUSE;
                return Ok(());
            }
            Err(error) => return Err(error.into()),
        }
        self.unfenced.clear();
        for partition in &partitions {
            self.epochs += 1;
            let lane = Lane { epoch: self.epochs, catch_up: CatchUp::Unasked(Instant::now()) };
            self.owned.insert(*partition, lane);
        }
        tracing::info!(?partitions, "notifier lanes taken");
        Ok(())
    }

    /// What an earlier owner has recorded must be folded before anything is sent.
    fn ask_ends(&mut self) {
        let now = Instant::now();
        for (partition, lane) in &mut self.owned {
            if !matches!(lane.catch_up, CatchUp::Unasked(from) if from <= now) {
                continue;
            }
            lane.catch_up = CatchUp::Asked;
            let (partition, epoch) = (*partition, lane.epoch);
            let (log, sender) = (Arc::clone(&self.attempts.log), self.sender.clone());
            self.attempts.means.executor.block(Box::new(move || {
                let end = log.writable(partition).and_then(|()| log.ends(partition)).map(|ends| ends.committed);
                drop(sender.send(Input::End(partition, epoch, end)));
            }));
        }
    }

    pub(super) fn take_end(
        &mut self,
        partition: Partition,
        epoch: u64,
        end: Result<Offset, JournalError>,
    ) -> Result<(), NotifyError> {
        let Some(lane) = self.owned.get_mut(&partition).filter(|lane| lane.epoch == epoch) else { return Ok(()) };
        match end {
            Ok(end) => lane.catch_up = CatchUp::To(end),
            Err(JournalError::Unavailable(reason)) => {
                if NOT_TAKEN.now() {
                    tracing::warn!(reason, %partition, "a notifier lane cannot catch up yet");
                }
                lane.catch_up = CatchUp::Unasked(Instant::now() + ASK_PAUSE);
            }
            Err(error) => return Err(error.into()),
        }
        Ok(())
    }

    pub(super) fn tell_positions(&mut self) -> Result<(), NotifyError> {
        if self.positions_told.elapsed() < POSITIONS_EVERY {
            return Ok(());
        }
        self.positions_told = Instant::now();
        let done = self.owned.iter().filter(|(_, lane)| lane.catch_up == CatchUp::Done);
        let next: Vec<Position> =
            done.map(|(p, _)| Position::new(*p, self.attempts.deliveries.folded_to(*p))).collect();
        match self.lanes.commit_positions(&next) {
            Ok(()) | Err(JournalError::Unavailable(_)) => Ok(()), // again in a moment
            Err(error) => Err(error.into()),
        }
    }
}
