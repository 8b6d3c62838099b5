//! What goes out: starts what is due in each lane, as far as the bounds allow.

use std::collections::VecDeque;
use std::sync::atomic::Ordering;
use std::sync::mpsc::Sender;
use std::sync::{Arc, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use super::driver::{Board, Input, LaneError, Running};
use super::due::{Epoch, Lane};
use super::{Memory, Start, Try, Verdict};
use crate::clock::Clocks;
use crate::journal::{Offset, Partition, Position};
use crate::payment::{PaymentId, Timestamp};
use crate::projection::DueKey;

/// Keys of the due index read at once: as many as there is room for, in these bounds.
const SCAN_MIN: usize = 16;
const SCAN_MAX: usize = 256;
/// Keys looked at in one lane and turn, so that no lane keeps the others waiting.
const LOOKED_AT_MAX: usize = 1_024;

/// Which effect, of which assignment.
#[derive(Clone, Copy)]
pub(super) struct Begun {
    pub(super) partition: Partition,
    pub(super) epoch: Epoch,
    pub(super) payment_id: PaymentId,
    pub(super) version: u64,
    pub(super) attempt: u32,
    /// How far its partition was folded, at least, when the payment was read.
    pub(super) folded: Offset,
    /// How often the clock had been set back.
    pub(super) set_back: u32,
}

/// Answers for an effect exactly once, even if it panics: then it is tried again, with the same key.
struct Reply {
    begun: Begun,
    clocks: Clocks,
    sender: Option<Sender<Input>>,
}

impl Reply {
    fn send(&mut self, verdict: Verdict) {
        if let Some(sender) = self.sender.take() {
            drop(sender.send(Input::Ended(self.begun, verdict)));
        }
    }
}

impl Drop for Reply {
    fn drop(&mut self) {
        // Whether it was sent is not known, so it counts as sent now.
        let (now, pause) = (self.clocks.now(), Duration::from_secs(1));
        let memory = Memory { last_post: Some(now), pause: Some(pause) };
        self.send(Verdict::TryAgain { at: now.plus(pause), memory });
    }
}

/// One look at one lane.
struct Round {
    now: Timestamp,
    /// Effects that ended at once.
    done: Vec<(Begun, Verdict)>,
    /// A bound is reached that all share.
    full: Option<Full>,
    looked_at: usize,
}

/// There is no room until something ends, or before a time.
#[derive(Clone, Copy)]
struct Full {
    until: Option<Timestamp>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Turn {
    /// Behind the payments of its merchant that wait already.
    InOrder,
    Now,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Began {
    Yes,
    /// A bound kept it back, its merchant's or that of all.
    No,
    /// There is nothing to do for it now.
    Nothing,
}

impl Round {
    fn may_go_on(&self) -> bool {
        self.full.is_none() && self.looked_at < LOOKED_AT_MAX
    }
}

impl Running {
    pub(super) fn dispatch(&mut self) -> Result<(), LaneError> {
        let mut partitions: Vec<Partition> = self.owned.keys().copied().collect();
        self.round = self.round.wrapping_add(1);
        let first = self.round % partitions.len().max(1);
        partitions.rotate_left(first);
        for partition in partitions {
            if !self.owned.get(&partition).is_some_and(|lane| self.may_dispatch(lane)) {
                continue;
            }
            if let Some(mut lane) = self.owned.remove(&partition) {
                let dispatched = self.dispatch_lane(&mut lane);
                self.owned.insert(partition, lane);
                for (begun, verdict) in dispatched? {
                    self.settle(begun, verdict);
                }
            }
        }
        Ok(())
    }

    /// Starts what is due, as far as the bounds allow. Answers with the effects that ended at once.
    fn dispatch_lane(&mut self, lane: &mut Lane) -> Result<Vec<(Begun, Verdict)>, LaneError> {
        let mut round = Round { now: self.now(), done: Vec::new(), full: None, looked_at: 0 };
        while !self.is_full(lane) && round.may_go_on() {
            let Some(id) = lane.next_timer(round.now) else { break };
            round.looked_at += 1;
            self.begin(lane, id, Turn::InOrder, &mut round)?;
        }
        // Merchants that wait and those that come new have the first choice in turn, each for as many rounds as there are lanes.
        if (self.round / (self.owned.len() + 1)).is_multiple_of(2) {
            self.dispatch_waiting(lane, &mut round)?;
            self.dispatch_due(lane, &mut round)?;
        } else {
            self.dispatch_due(lane, &mut round)?;
            self.dispatch_waiting(lane, &mut round)?;
        }
        Ok(round.done)
    }

    fn is_full(&self, lane: &Lane) -> bool {
        lane.in_flight() >= self.driver.bounds.in_flight_max
    }

    /// Merchants that had no room may have some again: one payment of each, then the next of each.
    fn dispatch_waiting(&mut self, lane: &mut Lane, round: &mut Round) -> Result<(), LaneError> {
        let ended = std::mem::take(&mut lane.may_have_room);
        let mut merchants = VecDeque::from(lane.waiting.ready(round.now, ended));
        merchants.rotate_left(self.round % merchants.len().max(1));
        while let Some(merchant) = merchants.pop_front() {
            if let Some(Full { until }) = round.full {
                lane.waiting.put_off(&merchant, until);
                continue;
            }
            if self.is_full(lane) || !round.may_go_on() {
                lane.may_have_room = true; // for those that had no turn
                break;
            }
            let Some(key) = lane.waiting.pop(&merchant) else { continue };
            round.looked_at += 1;
            if self.begin(lane, key.payment_id, Turn::Now, round)? != Began::No {
                merchants.push_back(merchant);
            }
        }
        Ok(())
    }

    fn dispatch_due(&mut self, lane: &mut Lane, round: &mut Round) -> Result<(), LaneError> {
        while lane.has_due(round.now) && !self.is_full(lane) && round.may_go_on() {
            self.read_due(lane, round)?;
            if round.full.is_some() {
                lane.read_until(None); // until what is held may be tried again
            }
        }
        Ok(())
    }

    /// Reads on in the due index.
    fn read_due(&mut self, lane: &mut Lane, round: &mut Round) -> Result<(), LaneError> {
        let room = self.driver.bounds.in_flight_max - lane.in_flight();
        let max = room.clamp(SCAN_MIN, SCAN_MAX);
        let keys = self.driver.view.due(lane.partition, lane.cursor(), max)?;
        if keys.len() < max {
            lane.read_until(None);
        }
        for key in keys {
            if key.due_at > round.now {
                lane.read_until(Some(key.due_at));
                break;
            }
            if self.is_full(lane) || !round.may_go_on() {
                lane.rewind(key);
                break;
            }
            lane.pass(key);
            round.looked_at += 1;
            if lane.is_free(key.payment_id) {
                self.begin(lane, key.payment_id, Turn::InOrder, round)?;
            }
        }
        Ok(())
    }

    /// Begins one effect, unless it is no longer due or a bound keeps it back.
    fn begin(&mut self, lane: &mut Lane, id: PaymentId, turn: Turn, round: &mut Round) -> Result<Began, LaneError> {
        let folded = self.driver.view.folded_to(lane.partition);
        let Some(row) = self.driver.view.payment(id)? else { return Ok(Began::Nothing) };
        let Some(due_at) = row.payment.due_at() else {
            lane.forget(id);
            return Ok(Began::Nothing);
        };
        let (key, merchant) = (DueKey { due_at, payment_id: id }, &row.payment.initiation.merchant_id);
        if due_at > round.now {
            lane.rewind(key); // passed already, where a clock that ran ahead has been set back
            return Ok(Began::Nothing);
        }
        let in_order = turn == Turn::InOrder && !row.payment.is_settled();
        if in_order && lane.waiting.has_any_of(merchant) && lane.waiting.has_room() {
            lane.waiting.join(merchant, key);
            return Ok(Began::No);
        }
        let recorded_since = row.events.last().is_some_and(|last| lane.is_new(*last));
        if recorded_since {
            self.driver.view.clocks().compare();
        }
        let attempt = lane.next_attempt(id, row.payment.attempt);
        let (memory, tenure) = (lane.memory(id), lane.tenure.clone());
        let initiation = row.events.first().copied().unwrap_or_default();
        let origin = self.driver.imports.origin(Position::new(lane.partition, initiation));
        let this = Try { attempt, may_defer: lane.may_defer(id), recorded_since, origin, memory, lane: tenure };
        match self.driver.worker.start(&row.payment, this) {
            Start::Running(effect) => {
                lane.begin(id);
                let (partition, epoch, set_back) = (lane.partition, lane.epoch, self.set_back);
                let version = row.payment.version;
                let begun = Begun { partition, epoch, payment_id: id, version, attempt, folded, set_back };
                round.done.extend(self.start(begun, effect).map(|verdict| (begun, verdict)));
                return Ok(Began::Yes);
            }
            Start::NotBefore(at) => {
                if lane.may_defer(id) {
                    lane.defer(id, at, attempt - 1, memory);
                } else {
                    lane.hold(key, Some(at));
                }
                return Ok(Began::Nothing);
            }
            Start::HeldMerchant { until } if lane.waiting.has_room() => lane.waiting.push(merchant, key, until),
            Start::Held { until } | Start::HeldMerchant { until } => {
                // What came out of the queue of those that wait goes back: only there does it keep its place.
                if turn == Turn::Now {
                    lane.waiting.push(merchant, key, until);
                } else {
                    lane.hold(key, until);
                }
                round.full = Some(Full { until });
            }
        }
        Ok(Began::No)
    }

    /// Polls once here, for what needs no waiting; the rest goes on in the runtime.
    fn start(
        &mut self,
        begun: Begun,
        mut effect: std::pin::Pin<Box<dyn Future<Output = Verdict> + Send>>,
    ) -> Option<Verdict> {
        if let Poll::Ready(verdict) = effect.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
            return Some(verdict);
        }
        self.running += 1;
        let clocks = self.driver.view.clocks().clone();
        let mut reply = Reply { begun, clocks, sender: Some(self.sender.clone()) };
        self.driver.executor.spawn(Box::pin(async move {
            let verdict = effect.await;
            reply.send(verdict);
        }));
        None
    }
}

/// Notes new due work and wakes the loop, at most once until it has looked.
pub(super) fn listener(board: Arc<Board>, sender: Sender<Input>) -> impl FnMut(&[(Partition, DueKey)]) -> bool + Send {
    move |new_due| {
        let mut noted = board.new_due.lock().unwrap_or_else(PoisonError::into_inner);
        for (partition, key) in new_due {
            noted.entry(*partition).and_modify(|first| *first = (*first).min(*key)).or_insert(*key);
        }
        drop(noted);
        board.told.swap(true, Ordering::AcqRel) || sender.send(Input::Folded).is_ok()
    }
}

#[cfg(test)]
#[path = "dispatch_tests.rs"]
mod tests;
