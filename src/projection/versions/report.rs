//! How far the building of a version has come, for whoever watches: counted by its fold, read by anyone.

use std::collections::VecDeque;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use super::super::{Difference, Offsets};
use crate::lock::lock;

/// Differences that are kept with their keys and fields; all are counted.
pub const DIFFERENCES_SHOWN_MAX: usize = 100;
/// Over how long the rate is taken.
const RATE_OVER: Duration = Duration::from_secs(10);
/// Between two samples.
const SAMPLE_EVERY: Duration = Duration::from_millis(500);

/// Of one version, since the process has it.
#[derive(Default)]
pub(super) struct Report(Mutex<Inner>);

#[derive(Default)]
struct Inner {
    /// Where the log ended when it was last asked; nothing before the first time.
    end: Option<u64>,
    folded: u64,
    /// When, and the sum of the offsets then.
    samples: VecDeque<(Instant, u64)>,
    compared: Compared,
    follows: bool,
}

/// What has come of comparing it with the version that is served.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Compared {
    pub rows: u64,
    pub differences: u64,
    /// The first of them.
    pub shown: Vec<Difference>,
}

/// Offsets are summed over all partitions.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Pace {
    pub end: Option<u64>,
    pub per_second: Option<f64>,
    /// Until the end, at that rate.
    pub seconds_left: Option<f64>,
}

impl Report {
    pub fn ends_at(&self, ends: &Offsets) {
        lock(&self.0).end = Some(ends.sum());
    }

    /// So much is folded, at `now`.
    pub fn passed(&self, folded: u64, now: Instant) {
        let inner = &mut *lock(&self.0);
        inner.folded = folded;
        let samples = &mut inner.samples;
        if samples.back().is_some_and(|(at, _)| now.duration_since(*at) < SAMPLE_EVERY) {
            return;
        }
        samples.push_back((now, folded));
        while samples.len() > 2 && samples.front().is_some_and(|(at, _)| now.duration_since(*at) > RATE_OVER) {
            samples.pop_front();
        }
    }

    /// What it was last told.
    pub fn folded(&self) -> u64 {
        lock(&self.0).folded
    }

    pub fn pace(&self, folded: u64) -> Pace {
        let inner = lock(&self.0);
        let per_second = inner.samples.front().zip(inner.samples.back()).and_then(|(first, last)| {
            let seconds = last.0.duration_since(first.0).as_secs_f64();
            (seconds > 0.0).then(|| last.1.saturating_sub(first.1) as f64 / seconds)
        });
        let left = inner.end.map(|end| end.saturating_sub(folded) as f64);
        let seconds_left = left.zip(per_second.filter(|rate| *rate > 0.0)).map(|(left, rate)| left / rate);
        Pace { end: inner.end, per_second, seconds_left }
    }

    /// From now on it folds what comes as it comes.
    pub fn follows(&self) {
        lock(&self.0).follows = true;
    }

    pub fn does_follow(&self) -> bool {
        lock(&self.0).follows
    }

    /// The comparison begins anew.
    pub fn compares(&self) {
        lock(&self.0).compared = Compared::default();
    }

    pub fn compared_to(&self, rows: u64) {
        lock(&self.0).compared.rows = rows;
    }

    pub fn differs(&self, difference: Difference) {
        let compared = &mut lock(&self.0).compared;
        compared.differences += 1;
        if compared.shown.len() < DIFFERENCES_SHOWN_MAX {
            compared.shown.push(difference);
        }
    }

    pub fn compared(&self) -> Compared {
        lock(&self.0).compared.clone()
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::super::super::Offsets;
    use super::{RATE_OVER, Report};
    use crate::journal::{Offset, Partition, Position};

    fn at(offset: u64) -> Offsets {
        let mut offsets = Offsets::start(2);
        offsets.set(Position::new(Partition(1), Offset(offset)));
        offsets
    }

    #[test]
    fn the_rate_is_that_of_the_last_seconds_and_tells_how_long_it_still_takes() {
        let (report, began) = (Report::default(), Instant::now());
        assert_eq!(report.pace(0).per_second, None, "nothing is known yet");
        report.ends_at(&at(10_000));
        report.passed(5_000, began);
        for second in 1..=12_u64 {
            report.passed(5_000 + second * 100, began + Duration::from_secs(second));
        }
        let pace = report.pace(6_200);
        assert_eq!((pace.end, pace.per_second, pace.seconds_left), (Some(10_000), Some(100.0), Some(38.0)));
        report.passed(6_200, began + Duration::from_secs(12) + RATE_OVER);
        assert!(report.pace(6_200).per_second < Some(50.0), "it stands still");
    }
}
