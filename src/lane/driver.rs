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
use super::outcomes::{Outcomes, Ready};
use super::{Bounds, Verdict, Worker};
use crate::control::Imports;
use crate::executor::Executor;
use crate::journal::{Journal, JournalError, Lanes, Offset, Partition, Position};
use crate::payment::{Event, Timestamp};
use crate::projection::{DueKey, View};
use crate::schema::Codec;
use crate::store::StoreError;
use crate::telemetry::Seldom;

/// How long the loop waits at most before it listens to the group again.
pub(super) const GROUP_POLL: Duration = Duration::from_millis(20);
/// How often what a bound kept back is looked at again.
const HELD_PAUSE: Duration = Duration::from_millis(5);
/// A clock that went back by more than this was set back; less is the tick of two clocks.
const SET_BACK: Duration = Duration::from_secs(1);
/// How often a lane reads its due work from the start, for what it took for done and is not: a transaction may be lost after
/// its commit was acknowledged (librdkafka speaks protocol v1).
const LOOK_AGAIN_EVERY: Duration = Duration::from_secs(10);
/// How often an idle lane commits its position.
pub(super) const POSITIONS_EVERY: Duration = Duration::from_secs(5);
/// Before a question that the log could not answer is asked again.
pub(super) const ASK_PAUSE: Duration = Duration::from_secs(1);
/// Before it is looked again whether rows are withheld.
const WITHHELD_PAUSE: Duration = Duration::from_millis(100);
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
    /// What the log has from another.
    pub imports: Imports,
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
    /// The time at the last look, and how often it went back.
    latest: Timestamp,
    pub(super) set_back: u32,
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

    /// A log that does not answer now is waited for: the rest of the process goes on. So is it until rows that are withheld may
    /// be acted on: other members have the partitions. Once they may, they stay so. `None` at the stop.
    fn join(&self, stop: &CancellationToken) -> Result<Option<Box<dyn Lanes>>, LaneError> {
        let seldom = Seldom::new();
        while !stop.is_cancelled() {
            if self.view.is_withheld() {
                if seldom.now() {
                    tracing::warn!("no lanes are taken before what is folded was compared, or accepted");
                }
                std::thread::sleep(WITHHELD_PAUSE);
                continue;
            }
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
            latest: Timestamp::MIN,
            set_back: 0,
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
        self.heed_clock();
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
        if self.ended {
            wait = wait.min(HELD_PAUSE.saturating_sub(self.held_looked_at.elapsed()));
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

    /// Waits that were counted by a clock that has been set back since would be long.
    fn heed_clock(&mut self) {
        let now = self.now();
        if self.latest.since(now) > SET_BACK {
            tracing::warn!("the clock was set back: what waited for its time is tried now");
            self.set_back += 1;
            let folded = self.driver.view.folded();
            self.owned.values_mut().for_each(|lane| lane.clock_set_back(now, folded.of(lane.partition)));
        }
        self.latest = now;
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
        let Begun { partition, epoch, payment_id, version, attempt, folded, set_back } = begun;
        let Some(lane) = self.owned.get_mut(&partition).filter(|lane| lane.epoch == epoch) else { return };
        // What it counted from may be a clock that was set back since.
        let verdict = if set_back == self.set_back { verdict } else { verdict.by(self.driver.view.clocks().now()) };
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
}
