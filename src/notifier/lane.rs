//! The lanes of a process, on one thread: hears the group, begins what is due, lets go of what the fold has.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::Duration;

use futures_util::future::join_all;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::agenda::Agenda;
use super::attempt::{Attempted, Attempts};
use super::group::POSITIONS_EVERY;
use super::reply::Reply;
use super::room::{Pool, Room};
use super::sweep::SWEEP_EVERY;
use super::target::Target;
use super::{Bounds, NotifyError};
use crate::control::TargetId;
use crate::deliveries::Due;
use crate::deliveries::outcome::WorkId;
use crate::journal::{JournalError, Lanes, Offset, Partition, Position};
use crate::payment::Timestamp;

/// How long the loop waits at most before it listens to the group again.
pub(super) const GROUP_POLL: Duration = Duration::from_millis(20);
/// After how long work is taken up again that could not be sent, or whose outcome could not be recorded.
const UNRECORDED_PAUSE: Duration = Duration::from_secs(1);
/// How long a target that wants to be left alone is passed over at most, before it is looked at whether it still does.
const PAUSED_LOOK: Duration = Duration::from_secs(10);
/// Targets that are looked at in one turn: a push service that is well again can have very many browsers.
const LOOKS_MAX: usize = 2_048;
/// How long leaving the group may take.
const LEAVE_DEADLINE: Duration = Duration::from_secs(5);

pub(super) enum Input {
    Folded,
    /// Where a partition of the log of deliveries ended when its lane asked.
    End(Partition, u64, Result<Offset, JournalError>),
    Ended(WorkId, Attempted),
}

/// A partition of ours.
pub(super) struct Lane {
    pub epoch: u64,
    pub catch_up: CatchUp,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum CatchUp {
    Unasked(Instant),
    Asked,
    To(Offset),
    Done,
}

/// Work on its way, until the fold has its outcome.
#[derive(Clone, Copy)]
enum OnItsWay {
    Sent,
    Recorded(Position),
    /// It is tried again then, from what stands in the rows.
    Unrecorded(Instant),
}

/// Give it its turns, or drain it.
pub struct Running {
    pub(super) attempts: Arc<Attempts>,
    bounds: Bounds,
    pub(super) lanes: Box<dyn Lanes>,
    /// Ends the waiting of attempts for a log that takes nothing.
    cut_off: CancellationToken,
    pub(super) sender: Sender<Input>,
    inbox: Receiver<Input>,
    told: Arc<AtomicBool>,
    pub(super) owned: BTreeMap<Partition, Lane>,
    pub(super) unfenced: BTreeSet<Partition>,
    pub(super) fence_not_before: Instant,
    pub(super) epochs: u64,
    in_flight: BTreeMap<WorkId, OnItsWay>,
    room: Room,
    agenda: Agenda,
    /// Until when targets want to be left alone, and by which work, until the fold has its outcome and says so too.
    paused: HashMap<TargetId, (WorkId, Timestamp)>,
    /// When it was last looked which subscriptions are over, and of which partitions it is still to be looked.
    swept: Instant,
    to_sweep: BTreeSet<Partition>,
    pub(super) positions_told: Instant,
}

impl Running {
    pub(super) fn new(attempts: Arc<Attempts>, bounds: Bounds, lanes: Box<dyn Lanes>) -> Self {
        let ((sender, inbox), told) = (channel(), Arc::new(AtomicBool::new(false)));
        let (hears, is_told) = (sender.clone(), Arc::clone(&told));
        attempts.deliveries.listen(move || {
            if !is_told.swap(true, Ordering::AcqRel) {
                drop(hears.send(Input::Folded));
            }
        });
        let now = Instant::now();
        Self {
            attempts,
            bounds,
            lanes,
            cut_off: CancellationToken::new(),
            sender,
            inbox,
            told,
            owned: BTreeMap::new(),
            unfenced: BTreeSet::new(),
            fence_not_before: now,
            epochs: 0,
            in_flight: BTreeMap::new(),
            room: Room::new(bounds),
            agenda: Agenda::default(),
            paused: HashMap::new(),
            swept: now,
            to_sweep: BTreeSet::new(),
            positions_told: now,
        }
    }

    /// One round; `wait` is how long it waits at most for something to happen.
    pub fn turn(&mut self, wait: Duration) -> Result<(), NotifyError> {
        self.serve_group()?;
        self.listen(self.patience(wait))?;
        self.release()?;
        self.take_touched();
        self.dispatch()?;
        self.tell_positions()
    }

    /// Nothing new is sent; what is on its way may end.
    pub fn drain(mut self) -> Result<(), NotifyError> {
        let deadline = Instant::now() + self.bounds.drain;
        while Instant::now() < deadline && self.room.sending() > 0 {
            self.serve_group()?;
            self.listen(GROUP_POLL)?;
        }
        self.cut_off.cancel();
        if self.room.sending() > 0 {
            tracing::warn!(webhooks = self.room.sending(), "stopped with webhooks on their way: they are sent again");
        }
        self.positions_told = Instant::now().checked_sub(POSITIONS_EVERY).unwrap_or(self.positions_told);
        self.tell_positions()?;
        self.lanes.leave(LEAVE_DEADLINE);
        Ok(())
    }

    /// Is there anything that could not be sent, and is to be tried again?
    #[cfg(test)]
    pub fn waits_for_another_try(&self) -> bool {
        self.in_flight.values().any(|way| matches!(way, OnItsWay::Unrecorded(_)))
    }

    #[cfg(test)]
    pub fn next_look(&self) -> Option<Timestamp> {
        self.agenda.first()
    }

    #[cfg(test)]
    pub fn is_sending(&self) -> bool {
        !self.in_flight.is_empty()
    }

    // === what comes in ===

    fn patience(&self, wait: Duration) -> Duration {
        let first = self.agenda.first().map(|at| at.since(self.attempts.clocks.now()));
        first.map_or(wait, |first| first.min(wait))
    }

    fn listen(&mut self, wait: Duration) -> Result<(), NotifyError> {
        match self.inbox.recv_timeout(wait) {
            Ok(input) => self.take(input)?,
            Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => return Ok(()),
        }
        while let Ok(input) = self.inbox.try_recv() {
            self.take(input)?;
        }
        Ok(())
    }

    fn take(&mut self, input: Input) -> Result<(), NotifyError> {
        match input {
            Input::Folded => {}
            Input::End(partition, epoch, end) => self.take_end(partition, epoch, end)?,
            Input::Ended(work, attempted) => self.settle(work, &attempted),
        }
        Ok(())
    }

    fn settle(&mut self, work: WorkId, attempted: &Attempted) {
        let now = self.attempts.clocks.now();
        if let Some(until) = attempted.pause_until {
            self.paused.insert(work.target, (work, until));
        }
        self.room.end(&work, attempted.answered, attempted.pause_until, now);
        self.agenda.look_at_held(Pool::of(work.target));
        if let Some(again_at) = attempted.again_at {
            // There may be very many of them, and this process will do none.
            self.let_go(&work);
            return self.agenda.look_at((work.partition, work.target), again_at);
        }
        let way = match attempted.recorded {
            Some(position) => OnItsWay::Recorded(position),
            None => OnItsWay::Unrecorded(Instant::now() + UNRECORDED_PAUSE),
        };
        self.in_flight.insert(work, way);
    }

    fn let_go(&mut self, work: &WorkId) {
        if self.paused.get(&work.target).is_some_and(|(by, _)| by == work) {
            self.paused.remove(&work.target);
        }
        if self.in_flight.remove(work).is_some() {
            self.room.let_go(work.target);
            self.agenda.look_at_held(Pool::of(work.target));
        }
    }

    /// Lets go of what the fold has passed, and lets lanes act that have caught up.
    fn release(&mut self) -> Result<(), NotifyError> {
        let (deliveries, instant) = (&self.attempts.deliveries, Instant::now());
        let is_over = |way: &OnItsWay| match way {
            OnItsWay::Sent => false,
            OnItsWay::Recorded(at) => deliveries.folded_to(at.partition) > at.offset,
            OnItsWay::Unrecorded(until) => *until <= instant,
        };
        let passed = self.in_flight.iter().filter(|(_, way)| is_over(way));
        let passed: Vec<WorkId> = passed.map(|(work, _)| *work).collect();
        // Others may have been told of the fold before it had all of this: what is still due is looked at here.
        let now = self.attempts.clocks.now();
        for work in &passed {
            self.let_go(work);
            self.agenda.look_at((work.partition, work.target), now);
        }
        let mut taken = Vec::new();
        for (partition, lane) in &mut self.owned {
            if matches!(lane.catch_up, CatchUp::To(end) if self.attempts.deliveries.folded_to(*partition) >= end) {
                lane.catch_up = CatchUp::Done;
                taken.push(*partition);
            }
        }
        for partition in &taken {
            let now = self.attempts.clocks.now();
            for target in self.attempts.deliveries.who_wait(*partition)? {
                self.agenda.look_at((*partition, target), now);
            }
        }
        self.sweep(taken);
        Ok(())
    }

    /// Of partitions that have just been taken, and now and then of all.
    fn sweep(&mut self, taken: Vec<Partition>) {
        self.to_sweep.extend(taken);
        if self.swept.elapsed() >= SWEEP_EVERY {
            self.swept = Instant::now();
            self.to_sweep.extend(self.owned.keys());
        }
        self.to_sweep.retain(|partition| self.owned.contains_key(partition));
        let partitions = || self.to_sweep.iter().copied().collect();
        if !self.to_sweep.is_empty() && self.attempts.begin_to_sweep(partitions(), &self.cut_off) {
            self.to_sweep.clear();
        }
    }

    fn take_touched(&mut self) {
        if self.told.swap(false, Ordering::AcqRel) {
            let now = self.attempts.clocks.now();
            for key in self.attempts.deliveries.touched() {
                self.agenda.look_at(key, now);
            }
        }
    }

    // === what goes out ===

    fn dispatch(&mut self) -> Result<(), NotifyError> {
        let now = self.attempts.clocks.now();
        let left = self.room.left(Pool::Browsers);
        self.agenda.release(now, left, |service| self.room.in_line(service, now));
        for _ in 0..LOOKS_MAX {
            let Some((partition, target)) = self.agenda.take(now) else { break };
            if self.owned.get(&partition).is_some_and(|lane| lane.catch_up == CatchUp::Done) {
                self.dispatch_to(partition, target, now)?;
            }
        }
        Ok(())
    }

    /// Begins what one target is to be told, as far as the bounds allow.
    fn dispatch_to(&mut self, partition: Partition, id: TargetId, now: Timestamp) -> Result<(), NotifyError> {
        let Some(target) = self.attempts.target(id) else {
            if id.endpoint().is_none() {
                self.attempts.deliveries.drop_all(id)?; // a browser that has gone does not come back for it
            }
            return Ok(());
        };
        let (key, service) = ((partition, id), target.service());
        let standing = target.standing(self.attempts.deliveries.standing(id)?);
        // Of what its push service has asked for nobody else knows: it ends when it ends.
        if let Some(until) = service.and_then(|service| self.room.paused_until(service)).filter(|until| *until > now) {
            self.agenda.look_at(key, until);
            return Ok(());
        }
        // What it has asked for itself, here and, as the fold knows it, of anybody.
        let until = self.paused.get(&id).map(|(_, until)| *until).max(standing.paused_until());
        if let Some(until) = until.filter(|until| *until > now) {
            // What it takes by another lane may end it, which this one is not told of.
            self.agenda.look_at(key, until.min(now.plus(PAUSED_LOOK)));
            return Ok(());
        }
        let room = self.room.for_target(id, service, standing.failing_since.is_some());
        if room == 0 {
            self.agenda.hold(key, service, false); // until something has ended
            return Ok(());
        }
        // What is on its way still stands among what is due.
        let is_on_its_way = |work: &WorkId| self.in_flight.contains_key(work);
        let found = self.attempts.deliveries.due(key, now, room + 1, is_on_its_way)?;
        let (mut chosen, mut voided) = (Vec::new(), false);
        for due in found.due {
            if chosen.len() >= room {
                self.agenda.hold(key, service, true);
                break;
            }
            if self.attempts.deliveries.is_void(&due.work, target.start_in(partition))? {
                voided = true;
            } else {
                chosen.push(due);
            }
        }
        if voided {
            self.agenda.look_at(key, now); // there may be more behind it
        } else if let Some(at) = found.next_at {
            if at > now {
                self.agenda.look_at(key, at);
            } else {
                self.agenda.hold(key, service, !chosen.is_empty());
            }
        }
        if target.takes_several() {
            self.begin(chosen, target);
        } else {
            chosen.into_iter().for_each(|due| self.begin(vec![due], target.clone()));
        }
        Ok(())
    }

    /// Those that go together.
    fn begin(&mut self, all: Vec<Due>, target: Target) {
        if all.is_empty() {
            return;
        }
        let mut replies = Vec::with_capacity(all.len());
        for due in &all {
            self.in_flight.insert(due.work, OnItsWay::Sent);
            self.room.begin(due.work, target.service());
            replies.push(Reply::new(due.work, self.sender.clone()));
        }
        let (attempts, cut_off) = (Arc::clone(&self.attempts), self.cut_off.clone());
        self.attempts.means.executor.spawn(Box::pin(async move {
            let at = attempts.clocks.machine();
            let sent = attempts.send_all(&all, &target, at).await;
            let each = all.into_iter().zip(sent).zip(replies);
            join_all(each.map(|((due, sent), mut reply)| {
                let (attempts, target, cut_off) = (&attempts, target.clone(), &cut_off);
                async move { reply.send(attempts.conclude(due, target, at, sent, cut_off).await) }
            }))
            .await;
        }));
    }
}
