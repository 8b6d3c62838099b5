//! Which endpoints and browsers are looked at, and in what order: by time, and of those that wait for room the one that has waited longest.

use std::collections::{BTreeSet, HashMap, HashSet, VecDeque};

use super::room::Pool;
use crate::control::TargetId;
use crate::journal::Partition;
use crate::payment::Timestamp;

/// Of those that wait for room, so many are looked at in one turn: a turn takes no longer for there being many of them.
const HELD_MAX: usize = 512;

pub(super) type Key = (Partition, TargetId);

#[derive(Default)]
pub(super) struct Agenda {
    /// By time; of one time, whoever came first.
    looks: BTreeSet<(Timestamp, u64, Key)>,
    next: HashMap<Key, (Timestamp, u64)>,
    /// Counts looks, so that none overtakes another of the same time.
    count: u64,
    webhooks: Line,
    browsers: Line,
}

/// Those that a bound kept back.
#[derive(Default)]
struct Line {
    /// Those that got nothing, and behind them those that got something; and how many of each are still to be looked at.
    waiting: VecDeque<Key>,
    served: VecDeque<Key>,
    to_look: (usize, usize),
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
        let line = self.line(Pool::of(key.1));
        if line.held.insert(key) {
            if served { &mut line.served } else { &mut line.waiting }.push_back(key);
        }
    }

    /// There may be room again for what a bound kept back.
    pub fn look_at_held(&mut self, pool: Pool) {
        let line = self.line(pool);
        line.to_look = (line.waiting.len(), line.served.len());
    }

    /// Looks at those for whom there may be room, some in each turn.
    pub fn release(&mut self, pool: Pool, now: Timestamp) {
        for _ in 0..HELD_MAX {
            let Some(key) = self.line(pool).next() else { return };
            self.look_at(key, now);
        }
    }

    fn line(&mut self, pool: Pool) -> &mut Line {
        match pool {
            Pool::Webhooks => &mut self.webhooks,
            Pool::Browsers => &mut self.browsers,
        }
    }
}

impl Line {
    fn next(&mut self) -> Option<Key> {
        let (waiting, served) = self.to_look;
        let key = if waiting > 0 {
            self.to_look.0 -= 1;
            self.waiting.pop_front()
        } else if served > 0 {
            self.to_look.1 -= 1;
            self.served.pop_front()
        } else {
            None
        }?;
        self.held.remove(&key);
        Some(key)
    }
}

#[cfg(test)]
mod tests {
    use super::{Agenda, HELD_MAX, Key, Pool};
    use crate::control::{EndpointId, SubscriptionId};
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
            agenda.look_at_held(Pool::Webhooks);
            agenda.release(Pool::Webhooks, at(0));
            let mut room = true;
            while let Some(key) = agenda.take(at(0)) {
                served.extend(room.then_some(key));
                agenda.hold(key, room); // it has more than there is room for
                room = false;
            }
        }
        assert_eq!(served, [3, 1, 2, 3, 1, 2].map(key));
    }

    /// However many they are, a turn looks at some of them, all come to their turn, and webhooks do not stand behind them.
    #[test]
    fn many_browsers_that_wait_are_looked_at_a_few_at_a_time() {
        let mut agenda = Agenda::default();
        let browser = |n: usize| {
            let id = SubscriptionId(std::array::from_fn(|i| n.to_be_bytes().get(i).copied().unwrap_or(0)));
            (Partition(0), id.into())
        };
        (0..3 * HELD_MAX).for_each(|n| agenda.hold(browser(n), false));
        agenda.hold(key(1), false);
        Pool::ALL.into_iter().for_each(|pool| agenda.look_at_held(pool));
        let mut seen = Vec::new();
        for turn in 0..4 {
            Pool::ALL.into_iter().for_each(|pool| agenda.release(pool, at(0)));
            let looked: Vec<Key> = std::iter::from_fn(|| agenda.take(at(0))).collect();
            assert_eq!((looked.len() <= HELD_MAX + 1, looked.contains(&key(1))), (true, turn == 0));
            looked.iter().for_each(|key| agenda.hold(*key, false));
            seen.extend(looked);
        }
        assert_eq!(seen.len(), 3 * HELD_MAX + 1, "each of them once, for nothing has ended since");
    }
}
