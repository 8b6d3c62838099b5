//! One partition of requests while it is ours: what was read of it and has not been moved on. It begins with an assignment
//! and ends with it, so that nothing of an older assignment can ever be moved on: that is its epoch.

use std::collections::VecDeque;
use std::time::Instant;

use super::limiter::Limiter;
use crate::holding::{HeldRequest, WaitsFor};
use crate::journal::{Partition, Position, SourceRecord};
use crate::payment::Timestamp;

/// A partition of which so much is waiting is read no further, until half of it has been moved on.
const WAITING_MAX: usize = 2_000;
const WAITING_WEIGHT_MAX: usize = 8 * 1024 * 1024;

pub(super) struct Source {
    /// With when each was read.
    waiting: VecDeque<(SourceRecord, Instant)>,
    weight: usize,
    pub limiter: Limiter,
    pub paused: bool,
    /// Why its first record cannot be moved on now.
    pub blocked: Option<Blocked>,
    /// Which record that is, and since when it waits for just that.
    pub blocked_at: Option<Position>,
    since: Option<Timestamp>,
}

/// Why a record has to wait, and all that stand behind it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Blocked {
    /// Its partition of the log has halted: an operator has to look at it.
    Halted(Partition),
    /// The partition that it goes to did not take records a moment ago.
    LeftOut,
    /// Too many dead letters.
    Slowed { until: Instant },
    /// Its schema has this id in a registry, which has not said yet what that is.
    Registry { id: u32 },
}

impl Source {
    pub fn new(limiter: Limiter) -> Self {
        Self {
            waiting: VecDeque::new(),
            weight: 0,
            limiter,
            paused: false,
            blocked: None,
            blocked_at: None,
            since: None,
        }
    }

    pub fn push(&mut self, record: SourceRecord, read_at: Instant) {
        self.weight += record.weight();
        self.waiting.push_back((record, read_at));
    }

    pub fn waiting(&self) -> impl Iterator<Item = &(SourceRecord, Instant)> {
        self.waiting.iter()
    }

    /// It was looked at, and waited for `before` until then.
    pub fn looked_at(&mut self, before: Option<Blocked>, now: Timestamp) {
        if self.blocked != before || self.since.is_none() {
            self.since = Some(now);
        }
    }

    /// What it waits for, if somebody has to act.
    pub fn held(&self) -> Option<HeldRequest> {
        let waits_for = match self.blocked? {
            Blocked::Halted(home) => WaitsFor::HaltedPartition(home),
            Blocked::Registry { id } => WaitsFor::SchemaId(id),
            Blocked::LeftOut | Blocked::Slowed { .. } => return None,
        };
        Some(HeldRequest { position: self.blocked_at?, since: self.since?, waits_for })
    }

    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Forgets the first so many: they have been moved on.
    pub fn moved(&mut self, records: usize) {
        for (moved, _) in self.waiting.drain(..records.min(self.waiting.len())) {
            self.weight -= moved.weight();
        }
    }

    /// The topic begins anew: what was read of it is no longer there, and its offsets are those of other records now.
    pub fn begin_anew(&mut self) {
        self.waiting.clear();
        (self.weight, self.blocked) = (0, None);
    }

    /// Should it be read no further, or again? `None`: as it is.
    pub fn pace(&mut self) -> Option<Pace> {
        let full = self.waiting.len() >= WAITING_MAX || self.weight >= WAITING_WEIGHT_MAX;
        let half = self.waiting.len() <= WAITING_MAX / 2 && self.weight <= WAITING_WEIGHT_MAX / 2;
        let pace = match self.paused {
            false if full => Pace::Pause,
            true if half => Pace::Resume,
            _ => return None,
        };
        self.paused = pace == Pace::Pause;
        Some(pace)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Pace {
    Pause,
    Resume,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::journal::Offset;

    fn record(offset: u64, bytes: usize) -> SourceRecord {
        let position = Position::new(Partition(0), Offset(offset));
        SourceRecord { position, timestamp_us: 0, key: None, headers: Some(Vec::new()), value: Some(vec![0; bytes]) }
    }

    fn source() -> Source {
        Source::new(Limiter::new(100, Instant::now()))
    }

    #[test]
    fn it_is_paused_when_full_and_resumed_at_half() {
        let mut source = source();
        for offset in 0..WAITING_MAX as u64 {
            assert_eq!(source.pace(), None);
            source.push(record(offset, 1), Instant::now());
        }
        assert_eq!((source.pace(), source.pace()), (Some(Pace::Pause), None));
        source.moved(WAITING_MAX / 2 - 1);
        assert_eq!(source.pace(), None, "not yet half");
        source.moved(1);
        assert_eq!((source.pace(), source.pace()), (Some(Pace::Resume), None));
        assert_eq!(source.waiting().next().map(|(r, _)| r.position.offset), Some(Offset(WAITING_MAX as u64 / 2)));
    }

    #[test]
    fn a_few_large_records_fill_it_too() {
        let mut source = source();
        source.push(record(0, WAITING_WEIGHT_MAX), Instant::now());
        assert_eq!(source.pace(), Some(Pace::Pause));
        source.moved(1);
        assert_eq!((source.pace(), source.weight), (Some(Pace::Resume), 0));
    }

    #[test]
    fn empty_headers_fill_it_too() {
        let mut source = source();
        let headers = Some(vec![(String::new(), None); 100_000]);
        source.push(SourceRecord { headers, ..record(0, 0) }, Instant::now());
        assert_eq!(source.pace(), Some(Pace::Pause));
        source.moved(1);
        assert_eq!((source.pace(), source.weight), (Some(Pace::Resume), 0));
    }
}
