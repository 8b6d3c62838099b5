//! Serves the intake of a process, on one thread: listens to the group, reads, moves on. Nothing else touches a partition of
//! requests, so a revoked one can never be moved on behind our back.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use tokio_util::sync::CancellationToken;

use super::batch::{Batch, Chooser, Counted, Taken};
use super::limiter::Limiter;
use super::source::{Blocked, Pace, Source};
use super::targets::Targets;
use super::{Intake, IntakeError};
use crate::holding::{HeldRequest, WaitsFor};
use crate::journal::{
    Assignment, Fate, Incoming, JournalError, Partition, Passage, Position, Requests, TransactionError,
};
use crate::schema::IdStanding;
use crate::telemetry::{self, HeldCount};

/// How long the loop waits at most before it looks at everything again.
const POLL: Duration = Duration::from_millis(100);
/// Records of one poll.
const POLL_MAX: usize = 1_000;
/// After a transaction that was aborted, the next one waits this long, twice as long each time.
const ABORT_PAUSE: Duration = Duration::from_millis(10);
const ABORT_PAUSE_MAX: Duration = Duration::from_secs(1);
/// Before a question that the log could not answer is asked again.
const ASK_PAUSE: Duration = Duration::from_secs(1);
/// How long leaving the group may take.
const LEAVE_DEADLINE: Duration = Duration::from_secs(5);

pub(super) struct Running {
    intake: Intake,
    requests: Box<dyn Requests>,
    sources: BTreeMap<Partition, Source>,
    /// Assigned, and not ours before an earlier owner's transactions have ended.
    unfenced: BTreeSet<Partition>,
    fence_not_before: Instant,
    targets: Targets,
    /// Where the next batch begins, so that one full partition starves none.
    round: usize,
    /// What the last transaction may have moved on or not: the group has to be asked before anything else is.
    in_doubt: Option<Batch>,
    aborts: u32,
    move_not_before: Instant,
    /// Shrinks while transactions abort without a culprit.
    batch_max: usize,
    /// More could be moved on at once.
    more: bool,
}

impl Running {
    pub fn new(intake: Intake, requests: Box<dyn Requests>) -> Self {
        let now = Instant::now();
        let batch_max = intake.bounds.batch_max;
        Self {
            intake,
            requests,
            sources: BTreeMap::new(),
            unfenced: BTreeSet::new(),
            fence_not_before: now,
            targets: Targets::default(),
            round: 0,
            in_doubt: None,
            aborts: 0,
            move_not_before: now,
            batch_max,
            more: false,
        }
    }

    pub fn run(mut self, stop: &CancellationToken) -> Result<(), IntakeError> {
        while !stop.is_cancelled() {
            self.turn()?;
        }
        let topic = self.requests.crossing().requests.clone();
        // Nothing is under way: what was read and not moved on is the next owner's.
        self.requests.leave(LEAVE_DEADLINE);
        self.intake.holding.leave(&topic);
        telemetry::requests_held(&topic, HeldCount::default());
        Ok(())
    }

    fn turn(&mut self) -> Result<(), IntakeError> {
        self.listen()?;
        self.fence()?;
        self.move_on()?;
        self.pace()
    }

    // === what comes in ===

    fn listen(&mut self) -> Result<(), IntakeError> {
        for incoming in self.requests.poll(POLL_MAX, self.patience())? {
            match incoming {
                Incoming::Record(record) => {
                    if let Some(source) = self.sources.get_mut(&record.position.partition) {
                        source.push(record, Instant::now());
                    }
                }
                Incoming::Group(Assignment::Assigned(partitions)) => self.assigned(&partitions)?,
                Incoming::Group(Assignment::Revoked { partitions, lost }) => self.revoked(&partitions, lost)?,
                Incoming::Gone { partition, missing } => self.gone(partition, missing),
            }
        }
        Ok(())
    }

    fn patience(&self) -> Duration {
        let now = Instant::now();
        if self.more {
            return self.move_not_before.saturating_duration_since(now).min(POLL);
        }
        let until = |source: &Source| match source.blocked {
            Some(Blocked::Slowed { until }) => until.saturating_duration_since(now),
            _ => POLL,
        };
        self.sources.values().map(until).min().map_or(POLL, |wait| wait.min(POLL))
    }

    fn assigned(&mut self, partitions: &[Partition]) -> Result<(), IntakeError> {
        self.unfenced.extend(partitions);
        self.fence_not_before = Instant::now();
        if partitions.is_empty() {
            self.requests.assign(&[])?; // the group waits for the answer
        }
        Ok(())
    }

    /// Takes what was assigned, as soon as an earlier owner's transactions are known to have ended.
    fn fence(&mut self) -> Result<(), IntakeError> {
        let now = Instant::now();
        if self.unfenced.is_empty() || now < self.fence_not_before {
            return Ok(());
        }
        let partitions: Vec<Partition> = self.unfenced.iter().copied().collect();
        match self.requests.assign(&partitions) {
            Ok(()) => {}
            Err(JournalError::Unavailable(reason)) => {
                tracing::warn!(reason, ?partitions, "requests cannot be taken yet");
                self.fence_not_before = Instant::now() + ASK_PAUSE;
                return Ok(());
            }
            Err(error) => return Err(error.into()),
        }
        self.unfenced.clear();
        let limiter = || Limiter::new(self.intake.bounds.dead_letters_per_minute, now);
        self.sources.extend(partitions.iter().map(|partition| (*partition, Source::new(limiter()))));
        tracing::info!(?partitions, "requests taken");
        Ok(())
    }

    /// What was read of them and not moved on is dropped before they are given up.
    fn revoked(&mut self, partitions: &[Partition], lost: bool) -> Result<(), IntakeError> {
        self.unfenced.retain(|partition| !partitions.contains(partition));
        self.sources.retain(|partition, _| !partitions.contains(partition));
        partitions.iter().for_each(|partition| self.forget_doubt(*partition));
        self.requests.unassign(partitions)?;
        tracing::info!(?partitions, lost, "requests given up");
        Ok(())
    }

    /// What was in doubt of it has been dropped: whether it was moved on or not, what is read now is something else.
    fn forget_doubt(&mut self, partition: Partition) {
        if let Some(batch) = &mut self.in_doubt {
            batch.taken.remove(&partition);
        }
    }

    /// Nothing can be done about it any more but to say it.
    fn gone(&mut self, partition: Partition, missing: Option<u64>) {
        let topic = &self.requests.crossing().requests;
        match missing {
            Some(offsets) => tracing::error!(
                topic,
                %partition,
                offsets,
                "requests were removed by the topic's retention before they were taken in: they are lost; let it keep them longer"
            ),
            None => tracing::error!(
                topic,
                %partition,
                "the topic of requests ends before what was taken in of it: it was made again or has lost its end; it is \
                 read from its beginning, and requests that are known change nothing"
            ),
        }
        telemetry::requests_gone(missing.unwrap_or(0));
        if missing.is_none() {
            self.forget_doubt(partition);
            if let Some(source) = self.sources.get_mut(&partition) {
                source.begin_anew();
            }
        }
    }

    // === what goes on ===

    fn move_on(&mut self) -> Result<(), IntakeError> {
        let now = Instant::now();
        if now < self.move_not_before {
            return Ok(());
        }
        if self.in_doubt.is_some() {
            return self.recycle();
        }
        if !self.ask(now)? {
            return Ok(());
        }
        let began = Instant::now();
        self.targets.pass(began);
        let batch = self.choose(began)?;
        self.more = batch.full;
        if batch.passage.next.is_empty() {
            return Ok(());
        }
        let committed = self.requests.commit(&batch.passage);
        telemetry::transaction_ended(committed.is_ok(), began.elapsed());
        match committed {
            Ok(()) => self.moved(batch, began),
            Err(error) => return self.aborted(batch, &error),
        }
        Ok(())
    }

    /// Asks which partitions take records, if something waits for one: `false` if that is not to be had now.
    fn ask(&mut self, now: Instant) -> Result<bool, IntakeError> {
        if self.sources.values().all(Source::is_empty) || !self.targets.are_unknown(now) {
            return Ok(true);
        }
        match self.requests.unwritable() {
            Ok(unwritable) => {
                self.targets.learn(unwritable, Instant::now());
                Ok(true)
            }
            Err(JournalError::Unavailable(reason)) => {
                tracing::warn!(reason, "requests are not moved on before it is known where to");
                (self.more, self.move_not_before) = (true, Instant::now() + ASK_PAUSE);
                Ok(false)
            }
            Err(error) => Err(error.into()),
        }
    }

    fn choose(&mut self, now: Instant) -> Result<Batch, IntakeError> {
        let Self { intake, requests, sources, targets, .. } = self;
        let chooser =
            Chooser { intake, crossing: requests.crossing(), targets, batch_max: self.batch_max, instant: now };
        let mut batch = Batch::default();
        let first = self.round % sources.len().max(1);
        self.round = self.round.wrapping_add(1);
        let mut order: Vec<(&Partition, &mut Source)> = sources.iter_mut().collect();
        order.rotate_left(first);
        for (partition, source) in order {
            let before = source.blocked;
            chooser.choose(&mut batch, source)?;
            source.looked_at(before, chooser.now());
            tell(*partition, before, source, intake.bounds.dead_letters_per_minute);
        }
        self.show_held();
        Ok(batch)
    }

    /// To the operator's routes, and as a measure. The first record of a batch that is about to move is not held.
    fn show_held(&self) {
        let topic = &self.requests.crossing().requests;
        let held: Vec<HeldRequest> = self.sources.values().filter_map(Source::held).collect();
        let mut count = HeldCount::default();
        for one in &held {
            match one.waits_for {
                WaitsFor::HaltedPartition(_) => count.halted += 1,
                WaitsFor::SchemaId(id) => match self.intake.requests.standing(id) {
                    IdStanding::Withheld(_) => count.schema_withheld += 1,
                    _ => count.registry_away += 1,
                },
            }
        }
        telemetry::requests_held(topic, count);
        self.intake.holding.tell(topic, held);
    }

    fn moved(&mut self, batch: Batch, at: Instant) {
        for (partition, taken) in &batch.taken {
            if let Some(source) = self.sources.get_mut(partition) {
                source.moved(taken.records);
                if taken.letters > 0 {
                    source.limiter.spend(at, taken.letters);
                }
            }
        }
        for counted in batch.counted {
            match counted {
                Counted::Accepted => telemetry::request_taken("accepted"),
                Counted::Repeat => telemetry::request_taken("repeat"),
                Counted::Conflict => telemetry::request_taken("conflict"),
                Counted::DeadLetter(code) => telemetry::dead_letter(code),
            }
        }
        (self.aborts, self.batch_max) = (0, self.intake.bounds.batch_max);
    }

    /// Nothing is read again: what was to be moved on is still there, and is chosen once more of what is still ours.
    fn aborted(&mut self, mut batch: Batch, error: &TransactionError) -> Result<(), IntakeError> {
        tracing::warn!(%error, fate = ?error.fate, "requests were not moved on");
        self.more = true;
        self.aborts += 1;
        // A transaction in doubt says nothing of its size: a slow broker must not be met with many small ones.
        if self.aborts > 2 && error.fate == Fate::Retry && error.culprit.is_none() {
            self.batch_max = (self.batch_max / 2).max(1);
        }
        let pause = ABORT_PAUSE.saturating_mul(1 << self.aborts.min(10)).min(ABORT_PAUSE_MAX);
        self.move_not_before = Instant::now() + pause;
        self.targets.failed(batch.passage.targets(), error.culprit, Instant::now());
        if error.culprit.is_some() {
            self.aborts = 0; // the others need not wait for it
        }
        match error.fate {
            Fate::Retry => Ok(()),
            Fate::Stop => Err(IntakeError::Stopped(error.reason.clone())),
            Fate::Recycle => {
                batch.passage = Passage::default();
                self.in_doubt = Some(batch);
                Ok(())
            }
        }
    }

    /// A new producer, then the question that only the group can answer: what of the last batch was moved on?
    fn recycle(&mut self) -> Result<(), IntakeError> {
        match self.requests.recycle() {
            Ok(stands) => {
                self.targets.begin_anew(Instant::now());
                let Some(batch) = self.in_doubt.take() else { return Ok(()) };
                // All of it was moved on, or nothing.
                let has =
                    |(partition, taken): (&Partition, &Taken)| stands.contains(&Position::new(*partition, taken.next));
                if !batch.taken.is_empty() && batch.taken.iter().all(has) {
                    self.moved(batch, Instant::now());
                }
            }
            Err(JournalError::Unavailable(reason)) => {
                tracing::warn!(reason, "there is no new producer for requests yet");
                self.move_not_before = Instant::now() + ASK_PAUSE;
            }
            Err(error) => return Err(error.into()),
        }
        Ok(())
    }

    /// Reads no further where enough is waiting: what holds up one partition must not fill the memory.
    fn pace(&mut self) -> Result<(), IntakeError> {
        let (mut pause, mut resume) = (Vec::new(), Vec::new());
        for (partition, source) in &mut self.sources {
            match source.pace() {
                Some(Pace::Pause) => pause.push(*partition),
                Some(Pace::Resume) => resume.push(*partition),
                None => {}
            }
        }
        if !pause.is_empty() {
            self.requests.pause(&pause)?;
        }
        if !resume.is_empty() {
            self.requests.resume(&resume)?;
        }
        Ok(())
    }
}

/// Says what holds up a partition of requests, once.
fn tell(partition: Partition, before: Option<Blocked>, source: &mut Source, per_minute: u32) {
    match source.blocked {
        Some(Blocked::Halted(home)) if before != source.blocked => tracing::error!(
            %partition,
            halted = %home,
            "a request waits, and all behind it on its partition: the partition of the log that it belongs to has halted"
        ),
        Some(Blocked::Registry { id }) if before != source.blocked => tracing::info!(
            %partition,
            id,
            "a request waits for the schema registry to say what its schema is, and all behind it on its partition"
        ),
        Some(Blocked::Slowed { .. }) if source.limiter.slows_first() => {
            tracing::error!(
                %partition,
                per_minute,
                "too many dead letters on one partition of requests: it is slowed to that rate; look at who writes there \
                 (paylog dead-letter ls)"
            );
            telemetry::dead_letters_slowed();
        }
        _ => {}
    }
}

#[cfg(test)]
#[path = "driver_tests.rs"]
mod tests;
