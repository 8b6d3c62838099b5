//! What goes out: starts what is due in each lane, as far as the bounds allow.

use std::sync::mpsc::Sender;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use super::driver::{Input, LaneError, Running};
use super::due::{Epoch, Lane};
use super::{Start, Try, Verdict};
use crate::clock::Clocks;
use crate::journal::{Offset, Partition};
use crate::payment::{Payment, PaymentId, Timestamp};
use crate::projection::DueKey;

/// Keys of the due index read at once: as many as there is room for, in these bounds.
const SCAN_MIN: usize = 16;
const SCAN_MAX: usize = 256;
/// Payments that a bound kept back, in one lane and turn, before the rest of the lane waits too.
const HELD_MAX: usize = 16;

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
}

impl Begun {
    fn new(lane: &Lane, payment: &Payment, attempt: u32, folded: Offset) -> Self {
        let (partition, epoch) = (lane.partition, lane.epoch);
        Self { partition, epoch, payment_id: payment.id, version: payment.version, attempt, folded }
    }
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
        self.send(Verdict::TryAgain { at: self.clocks.now().plus(Duration::from_secs(1)) });
    }
}

impl Running {
    pub(super) fn dispatch(&mut self) -> Result<(), LaneError> {
        let mut partitions: Vec<Partition> = self.owned.keys().copied().collect();
        self.round = (self.round + 1) % partitions.len().max(1);
        partitions.rotate_left(self.round);
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
        let (now, mut done, mut held) = (self.now(), Vec::new(), 0);
        let in_flight_max = self.driver.bounds.in_flight_max;
        let full = |lane: &Lane| lane.in_flight() >= in_flight_max;
        while !full(lane) {
            let Some(id) = lane.next_timer(now) else { break };
            held += usize::from(self.begin(lane, id, now, &mut done)?);
        }
        while lane.has_due(now) && !full(lane) && held < HELD_MAX {
            let max = (in_flight_max - lane.in_flight()).clamp(SCAN_MIN, SCAN_MAX);
            let keys = self.driver.view.due(lane.partition, lane.cursor(), max)?;
            if keys.len() < max {
                lane.read_until(None);
            }
            for key in keys {
                if key.due_at > now {
                    lane.read_until(Some(key.due_at));
                    break;
                }
                if full(lane) || held >= HELD_MAX {
                    lane.rewind(key);
                    break;
                }
                lane.pass(key);
                if lane.is_free(key.payment_id) {
                    held += usize::from(self.begin(lane, key.payment_id, now, &mut done)?);
                }
            }
        }
        if held >= HELD_MAX {
            lane.read_until(None); // until something ends
        }
        Ok(done)
    }

    /// Begins one effect. Answers `true` if a bound kept it back.
    fn begin(
        &mut self,
        lane: &mut Lane,
        id: PaymentId,
        now: Timestamp,
        done: &mut Vec<(Begun, Verdict)>,
    ) -> Result<bool, LaneError> {
        let folded = self.driver.view.folded_to(lane.partition);
        let Some(row) = self.driver.view.payment(id)? else { return Ok(false) };
        let Some(due_at) = row.payment.due_at().filter(|at| *at <= now) else {
            lane.forget(id);
            return Ok(false);
        };
        let attempt = lane.next_attempt(id, row.payment.attempt);
        match self.driver.worker.start(&row.payment, Try { attempt, may_defer: lane.may_defer() }) {
            Start::Held => {
                lane.hold(DueKey { due_at, payment_id: id });
                return Ok(true);
            }
            Start::NotBefore(at) if lane.may_defer() => lane.defer(id, at, attempt - 1),
            Start::NotBefore(_) => {
                lane.hold(DueKey { due_at, payment_id: id });
                return Ok(true);
            }
            Start::Running(effect) => {
                lane.begin(id);
                let begun = Begun::new(lane, &row.payment, attempt, folded);
                done.extend(self.start(begun, effect).map(|verdict| (begun, verdict)));
            }
        }
        Ok(false)
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
