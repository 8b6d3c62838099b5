//! Serves all the lanes of a process, on one thread: listens to the group, dispatches what is due, records what came of it.
//! Nothing else touches a lane, so nothing here is locked, and a revoked partition can never be written behind our back.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::dispatch::{Begun, listener};
use super::due::{CatchUp, Epoch, Lane};
use super::outcomes::{Outcomes, Ready, commit};
use super::{Bounds, Executor, Verdict, Worker};
use crate::journal::{Fate, Journal, JournalError, Lanes, Offset, Partition, Position};
use crate::payment::{Event, Timestamp};
use crate::projection::{DueKey, View};
use crate::schema::Codec;
use crate::store::StoreError;
use crate::telemetry;

/// How long the loop waits at most before it listens to the group again.
const GROUP_POLL: Duration = Duration::from_millis(20);
/// How often what a bound kept back is looked at again.
const HELD_PAUSE: Duration = Duration::from_millis(5);
/// How often a lane reads its due work from the start, for what it took for done and is not: a transaction may be lost after
/// its commit was acknowledged (librdkafka speaks protocol v1).
const LOOK_AGAIN_EVERY: Duration = Duration::from_secs(10);
/// How often an idle lane commits its position.
const POSITIONS_EVERY: Duration = Duration::from_secs(5);
/// After a transaction that was aborted, the next one waits this long, twice as long each time.
const ABORT_PAUSE: Duration = Duration::from_millis(10);
const ABORT_PAUSE_MAX: Duration = Duration::from_secs(1);
/// A partition whose deliveries failed is left out this long, so that one bad leader does not stop the other lanes.
const LEFT_OUT: Duration = Duration::from_secs(5);
/// Before a question that the log could not answer is asked again.
pub(super) const ASK_PAUSE: Duration = Duration::from_secs(1);
/// How long leaving the group may take.
const LEAVE_DEADLINE: Duration = Duration::from_secs(5);

#[derive(Debug, thiserror::Error)]
pub enum LaneError {
    #[error(transparent)]
    Journal(#[from] JournalError),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("this process may not record outcomes any more: {0}")]
    Stopped(String),
}

/// What a driver is made of.
pub struct Driver {
    pub journal: Arc<dyn Journal>,
    pub view: View,
    pub codec: Arc<Codec>,
    pub worker: Arc<dyn Worker>,
    pub bounds: Bounds,
    /// Where the effects run.
    pub executor: Arc<dyn Executor>,
}

/// What the loop is told. Unbounded as a channel, and bounded by what is in flight.
pub(super) enum Input {
    /// The fold has moved.
    Folded,
    /// Where a partition ended when its lane asked, or why that is not known.
    End(Partition, Epoch, Result<Offset, JournalError>),
    Ended(Begun, Verdict),
}

/// The earliest new due work of each partition that the loop has not heard of yet.
#[derive(Default)]
pub(super) struct Board {
    pub(super) new_due: Mutex<BTreeMap<Partition, DueKey>>,
    pub(super) told: AtomicBool,
}

/// A driver at work.
pub struct Running {
    pub(super) driver: Driver,
    pub(super) lanes: Box<dyn Lanes>,
    pub(super) owned: BTreeMap<Partition, Lane>,
    /// Assigned, and not ours before an earlier owner's transactions have ended.
    pub(super) unfenced: BTreeSet<Partition>,
    pub(super) fence_not_before: Instant,
    /// Where the next round of dispatch begins, so that a bound that all lanes share starves none of them.
    pub(super) round: usize,
    pub(super) epochs: u64,
    pub(super) board: Arc<Board>,
    pub(super) inbox: Receiver<Input>,
    pub(super) sender: Sender<Input>,
    pub(super) outcomes: Outcomes,
    /// Effects under way.
    pub(super) running: usize,
    /// Something ended, so what a bound kept back may go on.
    pub(super) ended: bool,
    pub(super) held_looked_at: Instant,
    pub(super) all_looked_at: Instant,
    pub(super) aborts: u32,
    pub(super) record_not_before: Instant,
    /// Shrinks while transactions abort without a culprit.
    pub(super) batch_max: usize,
    pub(super) positions_told: Instant,
    pub(super) told: BTreeMap<Partition, Position>,
}

impl Driver {
    /// Runs until told to stop, then drains. Blocks: give it a thread of its own. The effects wait by the clock of `runtime`.
    pub fn run(self, runtime: &Handle, stop: &CancellationToken) -> Result<(), LaneError> {
        let _context = runtime.enter();
        let Some(lanes) = self.join(stop)? else { return Ok(()) };
        let mut running = self.begin(lanes);
        while !stop.is_cancelled() {
            let wait = running.patience();
            running.turn(wait)?;
        }
        running.drain()
    }

    /// Joins the group. From then on somebody must call [`Running::turn`] again and again.
    pub fn start(self) -> Result<Running, LaneError> {
        let lanes = self.journal.lanes()?;
        Ok(self.begin(lanes))
    }

    /// A log that does not answer now is waited for: the rest of the process goes on. `None` at the stop.
    fn join(&self, stop: &CancellationToken) -> Result<Option<Box<dyn Lanes>>, LaneError> {
        while !stop.is_cancelled() {
            match self.journal.lanes() {
                Ok(lanes) => return Ok(Some(lanes)),
                Err(JournalError::Unavailable(reason)) => tracing::warn!(reason, "the group cannot be joined yet"),
                Err(error) => return Err(error.into()),
            }
            std::thread::sleep(ASK_PAUSE);
        }
        Ok(None)
    }

    fn begin(self, lanes: Box<dyn Lanes>) -> Running {
        let (sender, inbox) = channel();
        let board = Arc::new(Board::default());
        self.view.listen(listener(Arc::clone(&board), sender.clone()));
        let now = Instant::now();
        let batch_max = self.bounds.batch_max;
        Running {
            driver: self,
            lanes,
            owned: BTreeMap::new(),
            unfenced: BTreeSet::new(),
            fence_not_before: now,
            round: 0,
            epochs: 0,
            board,
            inbox,
            sender,
            outcomes: Outcomes::default(),
            running: 0,
            ended: false,
            held_looked_at: now,
            all_looked_at: now,
            aborts: 0,
            record_not_before: now,
            batch_max,
            positions_told: now,
            told: BTreeMap::new(),
        }
    }
}

impl Running {
    /// One round: hears the group, takes what has come in within `wait`, begins what is due, records what has ended.
    pub fn turn(&mut self, wait: Duration) -> Result<(), LaneError> {
        self.serve_group()?;
        self.fence()?;
        self.ask_ends();
        self.listen(wait)?;
        self.release();
        self.dispatch()?;
        self.record(false)?;
        self.tell_positions()
    }

    /// No new effect begins; those under way may end, and what came of them is recorded.
    fn drain(mut self) -> Result<(), LaneError> {
        let deadline = Instant::now() + self.driver.bounds.drain;
        while Instant::now() < deadline && (self.running > 0 || !self.outcomes.is_empty()) {
            self.serve_group()?;
            self.ask_ends(); // a lane that was recycled must catch up before it may record
            self.listen(GROUP_POLL)?;
            self.release();
            self.record(true)?;
        }
        if self.running > 0 {
            tracing::warn!(
                effects = self.running,
                "stopped with effects under way; their outcome will be asked for again"
            );
        }
        self.positions_told = Instant::now() - POSITIONS_EVERY;
        self.tell_positions()?;
        self.lanes.leave(LEAVE_DEADLINE);
        Ok(())
    }

    // === what comes in ===

    /// How long there is nothing to do unless somebody says something.
    fn patience(&self) -> Duration {
        let now = self.now();
        let mut wait = GROUP_POLL;
        for lane in self.owned.values() {
            if self.may_dispatch(lane) && lane.in_flight() < self.driver.bounds.in_flight_max {
                wait = lane.wake_at().map_or(wait, |at| wait.min(at.since(now)));
            }
        }
        if let Some(oldest) = self.outcomes.oldest() {
            let ready_at = (oldest + self.driver.bounds.linger).max(self.record_not_before);
            wait = wait.min(ready_at.saturating_duration_since(Instant::now()));
        }
        wait
    }

    pub(super) fn now(&self) -> Timestamp {
        self.driver.view.clocks().now()
    }

    /// May effects begin in it? The same for whoever begins them and whoever waits for their time.
    pub(super) fn may_dispatch(&self, lane: &Lane) -> bool {
        lane.catch_up == CatchUp::Done && !self.driver.view.is_halted(lane.partition)
    }

    fn listen(&mut self, wait: Duration) -> Result<(), LaneError> {
        match self.inbox.recv_timeout(wait) {
            Ok(input) => self.take(input)?,
            Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => return Ok(()),
        }
        while let Ok(input) = self.inbox.try_recv() {
            self.take(input)?;
        }
        Ok(())
    }

    fn take(&mut self, input: Input) -> Result<(), LaneError> {
        match input {
            Input::Folded => self.take_new_due(),
            Input::End(partition, epoch, end) => self.take_end(partition, epoch, end)?,
            Input::Ended(begun, verdict) => {
                self.running = self.running.saturating_sub(1);
                self.ended = true;
                self.settle(begun, verdict);
            }
        }
        Ok(())
    }

    fn take_new_due(&mut self) {
        self.board.told.store(false, Ordering::Release);
        let new_due = std::mem::take(&mut *self.board.new_due.lock().unwrap_or_else(PoisonError::into_inner));
        for (partition, key) in new_due {
            if let Some(lane) = self.owned.get_mut(&partition) {
                lane.rewind(key);
            }
        }
    }

    pub(super) fn settle(&mut self, begun: Begun, verdict: Verdict) {
        let Begun { partition, epoch, payment_id, version, attempt, folded } = begun;
        let Some(lane) = self.owned.get_mut(&partition).filter(|lane| lane.epoch == epoch) else { return };
        match verdict {
            Verdict::Record(data) => {
                let event = Box::new(Event::new(payment_id, self.driver.view.clocks().machine(), *data));
                self.outcomes.push(Ready { partition, epoch, payment_id, version, folded, event });
            }
            Verdict::TryAgain { at, memory } => lane.defer(payment_id, at, attempt, memory),
        }
    }

    /// Lets go of what the fold has passed, and lets lanes act that have caught up.
    fn release(&mut self) {
        let (now, folded) = (self.now(), self.driver.view.folded());
        for (partition, lane) in &mut self.owned {
            if lane.release(folded.of(*partition)) {
                self.driver.view.clocks().compare();
            }
            if matches!(lane.catch_up, CatchUp::To(end) if folded.of(*partition) >= end) {
                lane.catch_up = CatchUp::Done;
                lane.tenure = lane.tenure.renewed(now);
            }
        }
        if self.all_looked_at.elapsed() >= LOOK_AGAIN_EVERY {
            self.owned.values_mut().for_each(|lane| lane.rewind(DueKey::FIRST));
            self.all_looked_at = Instant::now();
        }
        let ended = self.ended && self.held_looked_at.elapsed() >= HELD_PAUSE;
        self.owned.values_mut().for_each(|lane| lane.retry_held(now, ended));
        if ended {
            (self.ended, self.held_looked_at) = (false, Instant::now());
        }
    }

    // === what is recorded ===

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
    fn aborted(&mut self, error: &crate::journal::TransactionError) -> Result<(), LaneError> {
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

    fn tell_positions(&mut self) -> Result<(), LaneError> {
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
