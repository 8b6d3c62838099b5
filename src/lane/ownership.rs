//! The group: which partitions are ours, and how a new owner comes to act on them (DESIGN.md 7.1 to 7.3): fence, ask for the
//! end, catch up. Nothing of it holds up the lanes that already act.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::driver::{ASK_PAUSE, Input, LaneError, Running};
use super::due::{CatchUp, Epoch, Lane};
use crate::journal::{Assignment, JournalError, Offset, Partition};
use crate::telemetry::Seldom;

/// What waits for somebody's leader or transaction is asked about once a second, and may wait for hours.
static NOT_TAKEN: Seldom = Seldom::new();
static NOT_CAUGHT_UP: Seldom = Seldom::new();

impl Running {
    pub(super) fn serve_group(&mut self) -> Result<(), LaneError> {
        while let Some(change) = self.lanes.poll(Duration::ZERO)? {
            match change {
                Assignment::Assigned(partitions) => self.assigned(&partitions)?,
                Assignment::Revoked { partitions, lost } => self.revoked(&partitions, lost)?,
            }
        }
        Ok(())
    }

    fn assigned(&mut self, partitions: &[Partition]) -> Result<(), LaneError> {
        self.unfenced.extend(partitions);
        self.fence_not_before = Instant::now();
        if partitions.is_empty() {
            self.lanes.assign(&[])?; // the group waits for the answer
        }
        Ok(())
    }

    /// Takes what was assigned. Until an earlier owner's transactions are known to have ended, there is no lane.
    pub(super) fn fence(&mut self) -> Result<(), LaneError> {
        if self.unfenced.is_empty() || Instant::now() < self.fence_not_before {
            return Ok(());
        }
        let partitions: Vec<Partition> = self.unfenced.iter().copied().collect();
        match self.lanes.assign(&partitions) {
            Ok(()) => {}
            Err(JournalError::Unavailable(reason)) => {
                if NOT_TAKEN.now() {
                    tracing::warn!(reason, ?partitions, "lanes cannot be taken yet");
                }
                self.fence_not_before = Instant::now() + ASK_PAUSE;
                return Ok(());
            }
            Err(error) => return Err(error.into()),
        }
        self.unfenced.clear();
        for partition in &partitions {
            self.epochs += 1;
            self.owned.insert(*partition, Lane::new(*partition, Epoch(self.epochs)));
        }
        tracing::info!(?partitions, "lanes taken");
        Ok(())
    }

    /// Asks for the ends of partitions whose lanes must catch up: elsewhere, for a partition without a leader must not hold
    /// up the others.
    pub(super) fn ask_ends(&mut self) {
        let now = Instant::now();
        for lane in self.owned.values_mut() {
            if !matches!(lane.catch_up, CatchUp::Unasked(from) if from <= now) {
                continue;
            }
            lane.catch_up = CatchUp::Asked;
            let (journal, sender) = (Arc::clone(&self.driver.journal), self.sender.clone());
            let (partition, epoch) = (lane.partition, lane.epoch);
            self.driver.executor.block(Box::new(move || {
                let end = journal.writable(partition).and_then(|()| journal.ends(partition));
                let end = end.map(|ends| ends.uncommitted);
                drop(sender.send(Input::End(partition, epoch, end)));
            }));
        }
    }

    pub(super) fn take_end(
        &mut self,
        partition: Partition,
        epoch: Epoch,
        end: Result<Offset, JournalError>,
    ) -> Result<(), LaneError> {
        let Some(lane) = self.owned.get_mut(&partition).filter(|lane| lane.epoch == epoch) else { return Ok(()) };
        match (lane.catch_up, end) {
            (CatchUp::Asked, Ok(end)) => {
                lane.catch_up = CatchUp::To(end);
                lane.taken_at.get_or_insert(end);
            }
            (CatchUp::Asked, Err(JournalError::Unavailable(reason))) => {
                lane.catch_up = CatchUp::Unasked(Instant::now() + ASK_PAUSE);
                if NOT_CAUGHT_UP.now() {
                    let stuck = |lane: &&Lane| matches!(lane.catch_up, CatchUp::Unasked(_) | CatchUp::Asked);
                    let partitions: Vec<Partition> =
                        self.owned.values().filter(stuck).map(|lane| lane.partition).collect();
                    tracing::warn!(reason, %partition, ?partitions, "lanes cannot catch up yet");
                }
            }
            (_, Err(error @ (JournalError::Refused(_) | JournalError::Broken(_)))) => return Err(error.into()),
            (_, _) => {}
        }
        Ok(())
    }

    /// Ends the epochs before the partitions are given up: nothing of them can be committed once another owns them.
    fn revoked(&mut self, partitions: &[Partition], lost: bool) -> Result<(), LaneError> {
        if !lost {
            self.record(true)?;
        }
        self.unfenced.retain(|partition| !partitions.contains(partition));
        self.owned.retain(|partition, _| !partitions.contains(partition));
        self.told.retain(|partition, _| !partitions.contains(partition));
        self.lanes.unassign(partitions)?;
        tracing::info!(?partitions, lost, "lanes given up");
        Ok(())
    }
}
