//! What one lane has in hand: how far it has read its due index, what is on its way, and what waits in memory.

use std::collections::{BTreeSet, HashMap};

use tokio::time::Instant;

use super::waiting::Waiting;
use super::{Memory, Tenure};
use crate::journal::{Offset, Partition};
use crate::payment::{PaymentId, Timestamp};
use crate::projection::DueKey;

/// Tries that are kept in memory, for each lane, before they are recorded instead.
pub(super) const DEFERRED_MAX: usize = 20_000;

/// Counted up at every assignment: an outcome of an earlier one has no place in this.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Epoch(pub u64);

pub(super) struct Lane {
    pub partition: Partition,
    pub epoch: Epoch,
    pub catch_up: CatchUp,
    /// Where its partition ended when this lane was taken.
    pub taken_at: Option<Offset>,
    /// Its last deliveries failed: nothing is recorded in it before then.
    pub left_out_until: Option<Instant>,
    pub tenure: Tenure,
    pub waiting: Waiting,
    /// Something has ended since the waiting merchants were looked at.
    pub may_have_room: bool,
    /// Everything of the index before this is in hand, or was found to be no longer due.
    cursor: DueKey,
    /// The first work that a bound kept back: the cursor returns to it when something has ended.
    held: Option<DueKey>,
    /// The first work that can do nothing before a time, whatever ends, and the earliest such time.
    held_until: Option<(Timestamp, DueKey)>,
    /// When to read the index again; `None` if there is nothing more in it.
    next_due: Option<Timestamp>,
    in_flight: HashMap<PaymentId, InFlight>,
    deferred: HashMap<PaymentId, Deferred>,
    timers: BTreeSet<(Timestamp, PaymentId)>,
}

/// How far a new owner is from acting (DESIGN.md 7.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum CatchUp {
    /// The partition's end is not known, and is to be asked for from then on.
    Unasked(Instant),
    /// It has been asked for.
    Asked,
    /// The lane may act once the fold has reached this.
    To(Offset),
    Done,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum InFlight {
    /// The effect is under way, or its outcome waits to be committed.
    Open,
    /// Its outcome stands here: over when the fold has passed it.
    Committed(Offset),
}

#[derive(Clone, Copy, Debug)]
struct Deferred {
    at: Timestamp,
    attempt: u32,
    memory: Memory,
    due: bool,
}

impl Lane {
    pub fn new(partition: Partition, epoch: Epoch) -> Self {
        Self {
            partition,
            epoch,
            catch_up: CatchUp::Unasked(Instant::now()),
            taken_at: None,
            left_out_until: None,
            tenure: Tenure::new(Timestamp::MAX),
            waiting: Waiting::default(),
            may_have_room: false,
            cursor: DueKey::FIRST,
            held: None,
            held_until: None,
            next_due: Some(Timestamp::MIN),
            in_flight: HashMap::new(),
            deferred: HashMap::new(),
            timers: BTreeSet::new(),
        }
    }

    /// May outcomes be recorded in it now?
    pub fn may_record(&self) -> bool {
        self.catch_up == CatchUp::Done && self.left_out_until.is_none_or(|until| Instant::now() >= until)
    }

    pub fn cursor(&self) -> DueKey {
        self.cursor
    }

    pub fn in_flight(&self) -> usize {
        self.in_flight.len()
    }

    /// Is there room in memory for this payment's next try to wait in?
    pub fn may_defer(&self, id: PaymentId) -> bool {
        self.deferred.len() < DEFERRED_MAX || self.deferred.contains_key(&id)
    }

    /// Is nothing of this payment under way, and no later try agreed on?
    pub fn is_free(&self, id: PaymentId) -> bool {
        !self.in_flight.contains_key(&id)
            && !self.waiting.has(id)
            && self.deferred.get(&id).is_none_or(|deferred| deferred.due)
    }

    /// New work was folded: read the index again from there.
    pub fn rewind(&mut self, key: DueKey) {
        self.cursor = self.cursor.min(key);
        self.next_due = Some(Timestamp::MIN);
    }

    /// Is there anything to be read from the index now?
    pub fn has_due(&self, now: Timestamp) -> bool {
        self.next_due.is_some_and(|at| at <= now)
    }

    /// The index has been read up to what is due later, or to its end.
    pub fn read_until(&mut self, next_due: Option<Timestamp>) {
        self.next_due = next_due;
    }

    /// Something has `ended`, or time has passed: what was held back may be tried again.
    pub fn retry_held(&mut self, now: Timestamp, ended: bool) {
        self.may_have_room |= ended;
        let room = if ended { self.held.take() } else { None };
        let time = self.held_until.take_if(|(until, _)| *until <= now).map(|(_, key)| key);
        if let Some(key) = room.into_iter().chain(time).min() {
            self.rewind(key);
        }
    }

    /// Its clock was set back to `now`, with the partition folded to `folded`. What waits for a time that was counted by the
    /// clock before is tried at once; and all that was done before counts as done now, for it was, and not later.
    pub fn clock_set_back(&mut self, now: Timestamp, folded: Offset) {
        self.tenure = self.tenure.renewed(self.tenure.taken_at.min(now));
        self.taken_at = self.taken_at.map(|end| end.max(folded));
        self.timers.clear();
        for (id, deferred) in &mut self.deferred {
            deferred.memory.last_post = deferred.memory.last_post.map(|at| at.min(now));
            if !deferred.due {
                deferred.at = deferred.at.min(now);
                self.timers.insert((deferred.at, *id));
            }
        }
        if let Some((until, _)) = &mut self.held_until {
            *until = now.min(*until);
        }
        self.waiting.clock_set_back(now);
    }

    /// The work at `key` is in hand or needs nothing.
    pub fn pass(&mut self, key: DueKey) {
        self.cursor = self.cursor.max(key.after());
    }

    pub fn hold(&mut self, key: DueKey, until: Option<Timestamp>) {
        match until {
            None => self.held = Some(self.held.map_or(key, |held| held.min(key))),
            Some(until) => {
                let first = self.held_until.unwrap_or((until, key));
                self.held_until = Some((first.0.min(until), first.1.min(key)));
            }
        }
    }

    /// The number of the next try, given that of the last one on the log.
    pub fn next_attempt(&self, id: PaymentId, recorded: u32) -> u32 {
        self.deferred.get(&id).map_or(0, |deferred| deferred.attempt).max(recorded).saturating_add(1)
    }

    /// What the last try left behind in memory.
    pub fn memory(&self, id: PaymentId) -> Memory {
        self.deferred.get(&id).map_or_else(Memory::default, |deferred| deferred.memory)
    }

    pub fn begin(&mut self, id: PaymentId) {
        self.in_flight.insert(id, InFlight::Open);
    }

    pub fn committed(&mut self, id: PaymentId, offset: Offset) {
        self.in_flight.insert(id, InFlight::Committed(offset));
        self.deferred.remove(&id);
    }

    /// Whatever was under way has ended without a record.
    pub fn end(&mut self, id: PaymentId) {
        self.in_flight.remove(&id);
    }

    /// Tries again at `at`, from memory.
    pub fn defer(&mut self, id: PaymentId, at: Timestamp, attempt: u32, memory: Memory) {
        self.in_flight.remove(&id);
        if let Some(before) = self.deferred.insert(id, Deferred { at, attempt, memory, due: false }) {
            self.timers.remove(&(before.at, id));
        }
        self.timers.insert((at, id));
    }

    /// The next payment whose deferred try has come, if any. It keeps the number of its tries.
    pub fn next_timer(&mut self, now: Timestamp) -> Option<PaymentId> {
        let first = *self.timers.first()?;
        if first.0 > now {
            return None;
        }
        self.timers.remove(&first);
        if let Some(deferred) = self.deferred.get_mut(&first.1) {
            deferred.due = true;
        }
        Some(first.1)
    }

    /// It has ended otherwise: forget its tries.
    pub fn forget(&mut self, id: PaymentId) {
        if let Some(deferred) = self.deferred.remove(&id) {
            self.timers.remove(&(deferred.at, id));
        }
    }

    /// When this lane has something to do without being told, if ever.
    pub fn wake_at(&self) -> Option<Timestamp> {
        let timer = self.timers.first().map(|(at, _)| *at);
        let held = self.held_until.map(|(until, _)| until);
        [timer, self.next_due, held, self.waiting.wake_at()].into_iter().flatten().min()
    }

    /// Lets go of what the fold has passed. Answers whether there was anything.
    pub fn release(&mut self, folded: Offset) -> bool {
        let before = self.in_flight.len();
        self.in_flight.retain(|_, state| !matches!(state, InFlight::Committed(offset) if *offset < folded));
        self.in_flight.len() < before
    }

    /// Was this record written after the lane was taken?
    pub fn is_new(&self, offset: Offset) -> bool {
        self.taken_at.is_some_and(|end| offset >= end)
    }
}

impl Drop for Lane {
    /// Whatever is under way for it acts no more.
    fn drop(&mut self) {
        self.tenure.end();
    }
}

#[cfg(test)]
mod tests {
    use super::{Epoch, Lane};
    use crate::journal::{Offset, Partition};
    use crate::lane::Memory;
    use crate::payment::samples::{at, payment_id};
    use crate::projection::DueKey;

    fn lane() -> Lane {
        Lane::new(Partition(0), Epoch(1))
    }

    #[test]
    fn a_payment_is_free_again_only_when_the_fold_has_its_outcome() {
        let (mut lane, id) = (lane(), payment_id("a"));
        lane.begin(id);
        assert!(!lane.is_free(id));
        lane.committed(id, Offset(7));
        lane.release(Offset(7));
        assert!(!lane.is_free(id), "offset 7 is folded when 8 is next");
        lane.release(Offset(8));
        assert!(lane.is_free(id));
    }

    #[test]
    fn a_deferred_try_waits_for_its_time_and_counts_on() {
        let (mut lane, id) = (lane(), payment_id("a"));
        lane.begin(id);
        let memory = Memory { last_post: Some(at(3)), pause: None };
        lane.defer(id, at(10), 4, memory);
        assert!(!lane.is_free(id));
        lane.read_until(None);
        assert_eq!(lane.wake_at(), Some(at(10)));
        assert_eq!(lane.next_timer(at(9)), None);
        assert_eq!(lane.next_timer(at(10)), Some(id));
        assert!(lane.is_free(id));
        assert_eq!((lane.next_attempt(id, 1), lane.memory(id)), (5, memory));
    }

    #[test]
    fn the_cursor_goes_back_to_what_was_held_or_came_in_before_it() {
        let key = |seconds| DueKey { due_at: at(seconds), payment_id: payment_id("a") };
        let mut lane = lane();
        lane.pass(key(5));
        lane.hold(key(6), None);
        lane.hold(key(8), None);
        lane.pass(key(9));
        assert!(lane.cursor() > key(9));
        lane.retry_held(at(10), false);
        assert!(lane.cursor() > key(9), "nothing has ended");
        lane.retry_held(at(10), true);
        assert_eq!(lane.cursor(), key(6));
        lane.pass(key(9));
        lane.hold(key(9), Some(at(20)));
        lane.retry_held(at(19), true);
        assert_eq!(lane.wake_at(), Some(crate::payment::Timestamp::MIN));
        lane.read_until(None);
        assert_eq!(lane.wake_at(), Some(at(20)));
        lane.retry_held(at(20), false);
        assert_eq!(lane.cursor(), key(9));
        lane.rewind(key(3));
        assert_eq!(lane.cursor(), key(3));
    }
}
