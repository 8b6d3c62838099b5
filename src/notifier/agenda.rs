//! Which endpoints and browsers are looked at, and in what order: by time, and of those that wait for room the one that has
//! waited longest. Webhooks have a line, and each push service has one: whoever waits for one stands behind no other's.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet, VecDeque};
use std::ops::Bound;

use super::room::Pool;
use crate::control::TargetId;
use crate::journal::Partition;
use crate::payment::Timestamp;

/// Of those that wait by webhook, and of all browsers, so many are looked at in one turn: a turn takes no longer for there being
/// many of them.
const HELD_MAX: usize = 512;
/// And lines of push services that are asked in one turn, for the same reason.
const LINES_MAX: usize = 512;
/// And so many where there is less room: some of them may wait for room of their own.
const HELD_MIN: usize = 8;

pub(super) type Key = (Partition, TargetId);

#[derive(Default)]
pub(super) struct Agenda {
    /// By time; of one time, whoever came first.
    looks: BTreeSet<(Timestamp, u64, Key)>,
    next: HashMap<Key, (Timestamp, u64)>,
    /// Counts looks, so that none overtakes another of the same time.
    count: u64,
    webhooks: Line,
    /// By push service; those in whose line nobody stands are let go.
    services: BTreeMap<String, Line>,
    /// Behind which the next turn begins.
    behind: String,
    /// How often there may have been room again for browsers.
    times: u64,
}

/// Those that a bound kept back.
#[derive(Default)]
struct Line {
    /// Those that got nothing, and behind them those that got something; and how many of each are still to be looked at.
    waiting: VecDeque<Key>,
    served: VecDeque<Key>,
    to_look: (usize, usize),
    held: HashSet<Key>,
    /// As of which time that there may be room again.
    time: u64,
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

    /// Kept back until there may be room again: in the line of its push service, if it is a browser.
    pub fn hold(&mut self, key: Key, service: Option<&str>, served: bool) {
        let line = match service {
            None => &mut self.webhooks,
            Some(service) => {
                let new = || Line { time: self.times, ..Line::default() };
                self.services.entry(service.to_owned()).or_insert_with(new)
            }
        };
        if line.held.insert(key) {
            if served { &mut line.served } else { &mut line.waiting }.push_back(key);
        }
    }

    /// There may be room again for what a bound kept back.
    pub fn look_at_held(&mut self, pool: Pool) {
        match pool {
            Pool::Webhooks => self.webhooks.look_at_all(),
            Pool::Browsers => self.times += 1, // each line heeds it when its turn comes
        }
    }

    /// Looks at those for whom there may be room, some in each turn; `room` says how much there is in a line, and `left` how
    /// much all push services have together. None of them is always the first to be asked.
    pub fn release(&mut self, now: Timestamp, left: usize, room: impl Fn(Option<&str>) -> usize) {
        let mut keys = self.webhooks.take(most_of(room(None)));
        let most = most_of(left);
        let behind = std::mem::take(&mut self.behind);
        let (mut of_browsers, mut asked, mut first, mut last, mut empty) =
            (Vec::new(), 0, None, String::new(), Vec::new());
        let round = [
            (Bound::Excluded(behind.as_str()), Bound::Unbounded),
            (Bound::Unbounded, Bound::Included(behind.as_str())),
        ];
        let mut is_cut = false;
        'round: for part in round {
            for (name, line) in self.services.range_mut::<str, _>(part) {
                is_cut = of_browsers.len() >= most || asked == LINES_MAX;
                if is_cut {
                    break 'round;
                }
                asked += 1;
                first.get_or_insert_with(|| name.clone());
                last.clone_from(name);
                line.heed(self.times);
                of_browsers.extend(line.take(most_of(room(Some(name))).min(most - of_browsers.len())));
                if line.held.is_empty() {
                    empty.push(name.clone());
                }
            }
        }
        // Where all were asked, the second is the first of the next turn.
        self.behind = if !is_cut {
            first.unwrap_or_default()
        } else if asked == 0 {
            behind
        } else {
            last
        };
        empty.iter().for_each(|name| drop(self.services.remove(name)));
        keys.append(&mut of_browsers);
        keys.into_iter().for_each(|key| self.look_at(key, now));
    }
}

/// How many are looked at where there is so much room.
fn most_of(room: usize) -> usize {
    if room == 0 { 0 } else { room.saturating_add(HELD_MIN).min(HELD_MAX) }
}

impl Line {
    fn look_at_all(&mut self) {
        self.to_look = (self.waiting.len(), self.served.len());
    }

    fn heed(&mut self, time: u64) {
        if self.time != time {
            self.time = time;
            self.look_at_all();
        }
    }

    fn take(&mut self, most: usize) -> Vec<Key> {
        (0..most).map_while(|_| self.next()).collect()
    }

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
    use std::collections::HashSet;

    use super::{Agenda, HELD_MAX, HELD_MIN, Key, LINES_MAX, Pool};
    use crate::control::{EndpointId, SubscriptionId};
    use crate::journal::Partition;
    use crate::payment::samples::at;

    fn key(n: u8) -> Key {
        (Partition(0), EndpointId([n; 16]).into())
    }

    fn browser(n: usize) -> Key {
        let id = SubscriptionId(std::array::from_fn(|i| n.to_be_bytes().get(i).copied().unwrap_or(0)));
        (Partition(0), id.into())
    }

    fn looked_at(agenda: &mut Agenda) -> Vec<Key> {
        std::iter::from_fn(|| agenda.take(at(0))).collect()
    }

    /// One has room for nobody, and very many wait for it.
    #[test]
    fn who_waits_for_one_push_service_stands_behind_no_other() {
        let mut agenda = Agenda::default();
        (0..10 * HELD_MAX).for_each(|n| agenda.hold(browser(n), Some("https://a"), false));
        agenda.hold(browser(HELD_MAX * 11), Some("https://b"), false);
        agenda.look_at_held(Pool::Browsers);
        agenda.release(at(0), 1, |service| if service == Some("https://a") { 0 } else { 1 });
        assert_eq!(looked_at(&mut agenda), [browser(HELD_MAX * 11)]);
        agenda.release(at(0), 1, |_| 1);
        assert_eq!(looked_at(&mut agenda).len(), 1 + HELD_MIN, "with room for one nobody looks at all of them");
    }

    /// One slot is free, and browsers of very many push services wait for it: a turn is none the longer, and each has its turn.
    #[test]
    fn of_many_push_services_a_turn_looks_at_as_few_as_of_one() {
        const SERVICES: usize = 1_000;
        let mut agenda = Agenda::default();
        for n in 0..SERVICES * HELD_MIN {
            agenda.hold(browser(n), Some(&format!("https://{}", n % SERVICES)), false);
        }
        agenda.hold(key(1), None, false);
        [Pool::Webhooks, Pool::Browsers].into_iter().for_each(|pool| agenda.look_at_held(pool));
        let (mut seen, mut turns) = (HashSet::new(), 0);
        while seen.len() <= SERVICES * HELD_MIN {
            agenda.release(at(0), 1, |_| 1);
            let looked = looked_at(&mut agenda);
            assert!(!looked.is_empty() && looked.len() <= 2 + HELD_MIN, "{}", looked.len());
            assert_eq!(looked.contains(&key(1)), turns == 0, "who waits by webhook stands behind none of them");
            seen.extend(looked);
            turns += 1;
            agenda.look_at_held(Pool::Browsers); // something has ended
        }
        assert!(agenda.services.is_empty(), "those in whose line nobody stands are let go");
        let mut agenda = Agenda::default();
        (0..SERVICES).for_each(|n| agenda.hold(browser(n), Some(&format!("https://{n}")), false));
        agenda.look_at_held(Pool::Browsers);
        let asked = std::cell::Cell::new(0);
        agenda.release(at(0), 1, |service| {
            asked.set(asked.get() + usize::from(service.is_some()));
            0
        });
        assert_eq!(asked.get(), LINES_MAX, "though nobody has room");
        agenda.release(at(0), 1, |service| if service == Some("https://999") { 1 } else { 0 });
        assert_eq!(looked_at(&mut agenda), [browser(999)], "it goes on where it was");
    }

    /// What all of them share goes to each of them first in its turn.
    #[test]
    fn no_push_service_is_always_the_first() {
        let (mut agenda, mut first) = (Agenda::default(), Vec::new());
        for _ in 0..6 {
            (0..3).for_each(|n| agenda.hold(browser(n), Some(["https://a", "https://b", "https://c"][n]), false));
            agenda.look_at_held(Pool::Browsers);
            agenda.release(at(0), 1, |_| 1);
            first.push(looked_at(&mut agenda)[0]);
        }
        assert_eq!(first, [0, 1, 2, 0, 1, 2].map(browser));
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
            agenda.hold(key(n), None, false);
            agenda.hold(key(n), None, false);
        }
        let mut served = Vec::new();
        for _ in 0..6 {
            agenda.look_at_held(Pool::Webhooks);
            agenda.release(at(0), 1, |_| 1);
            let mut room = true;
            while let Some(key) = agenda.take(at(0)) {
                served.extend(room.then_some(key));
                agenda.hold(key, None, room); // it has more than there is room for
                room = false;
            }
        }
        assert_eq!(served, [3, 1, 2, 3, 1, 2].map(key));
    }

    /// However many they are, a turn looks at some of them, all come to their turn, and webhooks do not stand behind them.
    #[test]
    fn many_browsers_that_wait_are_looked_at_a_few_at_a_time() {
        let mut agenda = Agenda::default();
        (0..3 * HELD_MAX).for_each(|n| agenda.hold(browser(n), Some("https://one"), false));
        agenda.hold(key(1), None, false);
        [Pool::Webhooks, Pool::Browsers].into_iter().for_each(|pool| agenda.look_at_held(pool));
        let mut seen = Vec::new();
        for turn in 0..4 {
            agenda.release(at(0), usize::MAX, |_| usize::MAX);
            let looked: Vec<Key> = std::iter::from_fn(|| agenda.take(at(0))).collect();
            assert_eq!((looked.len() <= HELD_MAX + 1, looked.contains(&key(1))), (true, turn == 0));
            looked.iter().for_each(|key| agenda.hold(*key, key.1.endpoint().is_none().then_some("https://one"), false));
            seen.extend(looked);
        }
        assert_eq!(seen.len(), 3 * HELD_MAX + 1, "each of them once, for nothing has ended since");
    }
}
