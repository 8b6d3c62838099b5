//! When and where the intake reads on after reading has failed somewhere.
//!
//! librdkafka stops reading a partition whose next offset is gone, and would skip a batch that is damaged. Neither is left to
//! it: every partition is taken again where it stands, or at the first record that the topic still has. A partition that
//! stands within the topic's ends may have lost its place all the same: the topic has lost its end, and others have written
//! there since. Nobody but librdkafka knows of which that is so, and only its statistics say.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use rdkafka::error::KafkaError;

use super::context::Context;
use super::error::is_out_of_range;
use crate::journal::{Incoming, Offset, Partition};

/// Between two tries to read on where reading failed.
const PAUSE: Duration = Duration::from_secs(1);
/// How long the statistics are waited for: they come every 5 s.
const TOLD_MAX: Duration = Duration::from_secs(15);

pub(super) struct Reseat {
    at: Option<Instant>,
    last: Instant,
    /// Some partition has lost its place: until when it is waited for to hear which.
    untold: Option<Instant>,
    /// Those that librdkafka has stopped reading, as far as that is told.
    stopped: BTreeSet<Partition>,
}

impl Reseat {
    pub(super) fn new() -> Self {
        Self { at: None, last: Instant::now() - PAUSE, untold: None, stopped: BTreeSet::new() }
    }

    pub(super) fn failed(&mut self, error: &KafkaError, context: &Context) {
        self.at = Some(self.last + PAUSE);
        if is_out_of_range(error) {
            context.take_stopped(); // as it was before
            self.untold = Some(Instant::now() + TOLD_MAX);
        }
    }

    pub(super) fn is_due(&mut self, context: &Context) -> bool {
        let now = Instant::now();
        if self.at.is_none_or(|at| at > now) {
            return false;
        }
        if let Some(until) = self.untold {
            match context.take_stopped() {
                Some(stopped) => self.stopped.extend(stopped),
                None if now < until => return false,
                None => {}
            }
            self.untold = None;
        }
        true
    }

    /// Where a partition that stands at `next` is read on: not there if that is `Some`, and then it begins at `low`.
    pub(super) fn judge(&mut self, partition: Partition, next: Offset, low: Offset, high: Offset) -> Option<Incoming> {
        let stopped = self.stopped.remove(&partition);
        if next < low {
            return Some(Incoming::Gone { partition, missing: Some(low.0 - next.0) });
        }
        (next > high || stopped).then_some(Incoming::Gone { partition, missing: None })
    }

    /// All are read again, or those of which it is known where.
    pub(super) fn done(&mut self, all: bool) {
        self.last = Instant::now();
        self.at = (!all).then_some(self.last + PAUSE);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_partition_is_read_on_where_it_stands_unless_it_has_lost_its_place() {
        let mut reseat = Reseat::new();
        reseat.stopped = BTreeSet::from([Partition(1)]);
        let mut judge = |partition, next| match reseat.judge(Partition(partition), Offset(next), Offset(10), Offset(20))
        {
            None => None,
            Some(Incoming::Gone { missing, .. }) => Some(missing),
            Some(other) => panic!("{other:?}"),
        };
        assert_eq!((judge(0, 10), judge(0, 20)), (None, None));
        assert_eq!((judge(0, 7), judge(0, 21)), (Some(Some(3)), Some(None)));
        assert_eq!(judge(1, 15), Some(None), "others have written there");
        assert_eq!(judge(1, 15), None, "told once");
    }
}
