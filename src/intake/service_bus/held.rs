//! Messages that are held, since their partition has halted or does not take them, and what follows from it: no more are asked
//! for when there are many of one partition, or when they are held for long. A broker that locks a message for a while gives out
//! again what is held for longer, and counts each time: whoever goes on asking would get the same messages until the broker puts
//! them among its dead letters, which nobody has refused.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use tokio::time::Instant;

use crate::journal::Partition;
use crate::lock::lock;

/// Of one partition: with more, nothing is asked for until some are done.
const MANY: usize = 16;
/// Shorter than the shortest lock that is advised (docs/service-bus.md).
const LONG: Duration = Duration::from_secs(20);

#[derive(Clone, Debug, Default)]
pub(super) struct Held(Arc<Mutex<BTreeMap<Partition, Waiting>>>);

/// Of a partition; there is none without messages.
#[derive(Debug)]
struct Waiting {
    messages: usize,
    /// Some have been held ever since.
    since: Instant,
}

/// One message is held for as long as it lives.
#[derive(Debug)]
pub(super) struct Holding {
    held: Held,
    home: Partition,
}

impl Held {
    pub fn hold(&self, home: Partition) -> Holding {
        let mut by_partition = self.lock();
        by_partition.entry(home).or_insert_with(|| Waiting { messages: 0, since: Instant::now() }).messages += 1;
        Holding { held: self.clone(), home }
    }

    /// The partition for which no more messages may be asked for, of any: nobody can ask for those of one partition.
    pub fn in_the_way(&self) -> Option<Partition> {
        let by_partition = self.lock();
        let blocked = |waiting: &Waiting| waiting.messages >= MANY || waiting.since.elapsed() >= LONG;
        by_partition.iter().find(|(_, waiting)| blocked(waiting)).map(|(home, _)| *home)
    }

    pub fn messages(&self) -> usize {
        self.lock().values().map(|waiting| waiting.messages).sum()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<Partition, Waiting>> {
        lock(&self.0)
    }
}

impl Holding {
    /// Is no other message of its partition held?
    pub fn is_only_one(&self) -> bool {
        self.held.lock().get(&self.home).is_none_or(|waiting| waiting.messages <= 1)
    }
}

impl Drop for Holding {
    fn drop(&mut self) {
        let mut by_partition = self.held.lock();
        if let Some(waiting) = by_partition.get_mut(&self.home) {
            waiting.messages -= 1;
            if waiting.messages == 0 {
                by_partition.remove(&self.home);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{Held, Holding, LONG, MANY};
    use crate::journal::Partition;

    #[tokio::test(start_paused = true)]
    async fn many_messages_of_one_partition_are_in_the_way_and_as_many_of_several_are_not() {
        let held = Held::default();
        let spread: Vec<Holding> = (0..2 * MANY).map(|n| held.hold(Partition(u32::try_from(n % 4).unwrap()))).collect();
        assert_eq!((held.messages(), held.in_the_way()), (2 * MANY, None));
        let more: Vec<Holding> = (0..MANY).map(|_| held.hold(Partition(2))).collect();
        assert_eq!(held.in_the_way(), Some(Partition(2)));
        drop(more);
        assert_eq!(held.in_the_way(), None);
        drop(spread);
        assert_eq!(held.messages(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn one_that_is_held_for_long_is_in_the_way_until_it_is_done() {
        let held = Held::default();
        let first = held.hold(Partition(1));
        assert!(first.is_only_one());
        tokio::time::advance(LONG - Duration::from_secs(1)).await;
        let second = held.hold(Partition(1));
        assert!(!first.is_only_one());
        assert_eq!(held.in_the_way(), None);
        drop(first);
        tokio::time::advance(Duration::from_secs(1)).await;
        assert_eq!(held.in_the_way(), Some(Partition(1)), "some have been held for so long, whichever");
        assert!(second.is_only_one());
        drop(second);
        drop(held.hold(Partition(1)));
        assert_eq!(held.in_the_way(), None, "it is counted anew");
    }
}
