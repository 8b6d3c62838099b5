//! Which endpoints and browsers are looked at, and in what order: by time, and of those that wait for room the one that has waited longest.

use std::collections::{BTreeSet, HashMap, HashSet, VecDeque};

use crate::control::TargetId;
use crate::journal::Partition;
use crate::payment::Timestamp;

pub(super) type Key = (Partition, TargetId);

#[derive(Default)]
pub(super) struct Agenda {
    /// By time; of one time, whoever came first.
    looks: BTreeSet<(Timestamp, u64, Key)>,
    next: HashMap<Key, (Timestamp, u64)>,
    /// Counts looks, so that none overtakes another of the same time.
    count: u64,
    /// Those that a bound kept back: those that got nothing, and behind them those that got something.
    waiting: VecDeque<Key>,
    served: VecDeque<Key>,
    held: HashSet<Key>,
}

impl Agenda {
    /// Looks at it then, or earlier.
    pub fn look_at(&mut self, key: Key, at: Timestamp) {
        let next = self.next.get(&key).copied();
        if next.is_some_and(|(next, _)| next <= at) {
            return;
        }
        if let Some((next, count)) = next {
            self.looks.remove(&(next, count, key));
        }
        self.count += 1;
        self.next.insert(key, (at, self.count));
        self.looks.insert((at, self.count, key));
    }

    /// When something is to be looked at next.
    pub fn first(&self) -> Option<Timestamp> {
        self.looks.first().map(|(at, ..)| *at)
    }

    pub fn take(&mut self, now: Timestamp) -> Option<Key> {
        let first = self.looks.first().copied().filter(|(at, ..)| *at <= now)?;
        self.looks.remove(&first);
        self.next.remove(&first.2);
        Some(first.2)
    }

    /// Kept back until there may be room again.
    pub fn hold(&mut self, key: Key, served: bool) {
        if self.held.insert(key) {
            let line = if served { &mut self.served } else { &mut self.waiting };
            line.push_back(key);
        }
    }

    /// There may be room again for what a bound kept back.
    pub fn look_at_held(&mut self, now: Timestamp) {
        self.held.clear();
        let (waiting, served) = (std::mem::take(&mut self.waiting), std::mem::take(&mut self.served));
        waiting.into_iter().chain(served).for_each(|key| self.look_at(key, now));
    }
}

#[cfg(test)]
mod tests {
    use super::{Agenda, Key};
    use crate::control::EndpointId;
    use crate::journal::Partition;
    use crate::payment::samples::at;

    fn key(n: u8) -> Key {
        (Partition(0), EndpointId([n; 16]).into())
    }

    #[test]
    fn it_is_looked_at_once_and_at_the_earliest_time_that_was_asked_for() {
        let mut agenda = Agenda::default();
        agenda.look_at(key(1), at(9));
        agenda.look_at(key(1), at(5));
        agenda.look_at(key(1), at(7));
        assert_eq!((agenda.first(), agenda.take(at(4))), (Some(at(5)), None));
        assert_eq!((agenda.take(at(5)), agenda.take(at(99))), (Some(key(1)), None));
    }

    /// Whichever ids they have: a slot that becomes free goes to who has waited longest.
    #[test]
    fn those_who_wait_for_room_get_it_in_turn() {
        let mut agenda = Agenda::default();
        for n in [3, 1, 2] {
            agenda.hold(key(n), false);
            agenda.hold(key(n), false);
        }
        let mut served = Vec::new();
        for _ in 0..6 {
            agenda.look_at_held(at(0));
            let mut room = true;
            while let Some(key) = agenda.take(at(0)) {
                served.extend(room.then_some(key));
                agenda.hold(key, room); // it has more than there is room for
                room = false;
            }
        }
        assert_eq!(served, [3, 1, 2, 3, 1, 2].map(key));
    }
}
