//! What time it is. Two clocks count: this machine's, and the log's own, which stamps each record as it takes it. Whoever
//! decides by time asks here, so that a test and the simulation can say what time it is.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::time::Duration;

use tokio::time::Instant;

use crate::payment::Timestamp;

/// This machine's clock may be this far behind the log's; further, and it decides nothing any more (DESIGN.md 8).
pub const BEHIND_MAX: Duration = Duration::from_secs(60);

/// A wall clock.
pub trait Clock: Send + Sync {
    fn now(&self) -> Timestamp;
}

/// The machine's.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        Timestamp::now()
    }
}

/// This machine's clock and the newest time of the log's that was seen. Cheap to clone; all clones see the same.
#[derive(Clone)]
pub struct Clocks {
    machine: Arc<dyn Clock>,
    /// Time that passes whatever is done to clocks is counted from here.
    since: Instant,
    /// What the log's clock said at `since`, at least: from the records that were folded.
    log_began_us: Arc<AtomicI64>,
    compared: Arc<AtomicBool>,
}

impl Clocks {
    #[must_use]
    pub fn new(machine: Arc<dyn Clock>) -> Self {
        let log_began_us = Arc::new(AtomicI64::new(i64::MIN));
        Self { machine, since: Instant::now(), log_began_us, compared: Arc::default() }
    }

    #[must_use]
    pub fn system() -> Self {
        Self::new(Arc::new(SystemClock))
    }

    /// The later of the two, so that a clock that was set back neither holds up work nor makes a key window look younger
    /// than it is.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        let machine = self.machine.now();
        self.log().map_or(machine, |log| log.max(machine))
    }

    /// What this machine says alone: for the time of an event that it writes.
    #[must_use]
    pub fn machine(&self) -> Timestamp {
        self.machine.now()
    }

    /// What the log's clock says now, at least: the newest time of it that was folded, and what has passed since.
    #[must_use]
    pub fn log(&self) -> Option<Timestamp> {
        let began_us = self.log_began_us.load(Ordering::Relaxed);
        Timestamp::from_micros(began_us.saturating_add(self.passed_us()))
    }

    /// A record was folded that the log took at this time.
    pub fn saw(&self, appended_at: Timestamp) {
        self.log_began_us.fetch_max(appended_at.as_micros() - self.passed_us(), Ordering::Relaxed);
    }

    fn passed_us(&self) -> i64 {
        i64::try_from(self.since.elapsed().as_micros()).unwrap_or(i64::MAX)
    }

    /// A record was folded that was taken by the log since this process began: what it said of the time is what the time is.
    pub fn compare(&self) {
        self.compared.store(true, Ordering::Release);
    }

    /// Is it known how this machine's clock stands to the log's? Old records do not tell: on a log that was quiet for hours, a
    /// clock that is hours behind looks right.
    #[must_use]
    pub fn are_compared(&self) -> bool {
        self.compared.load(Ordering::Acquire)
    }

    /// How far this machine's clock is behind the log's, if it is too far to be believed.
    #[must_use]
    pub fn too_far_behind(&self) -> Option<Duration> {
        let behind = self.log()?.since(self.machine.now());
        (behind > BEHIND_MAX).then_some(behind)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use super::{BEHIND_MAX, Clock, Clocks};
    use crate::payment::Timestamp;
    use crate::payment::samples::at;

    struct Stopped(Timestamp);

    impl Clock for Stopped {
        fn now(&self) -> Timestamp {
            self.0
        }
    }

    #[tokio::test(start_paused = true)]
    async fn now_is_the_later_of_the_two_clocks() {
        let clocks = Clocks::new(Arc::new(Stopped(at(100))));
        assert_eq!(clocks.now(), at(100));
        clocks.saw(at(130));
        clocks.saw(at(90));
        assert_eq!((clocks.now(), clocks.machine()), (at(130), at(100)));
        tokio::time::advance(Duration::from_secs(5)).await;
        assert_eq!(clocks.now(), at(135), "time passes, also where a clock was set back or stands still");
        clocks.saw(at(131));
        assert_eq!(clocks.now(), at(135));
    }

    #[tokio::test(start_paused = true)]
    async fn a_machine_that_is_far_behind_the_log_is_not_believed() {
        let clocks = Clocks::new(Arc::new(Stopped(at(100))));
        assert_eq!(clocks.too_far_behind(), None);
        clocks.saw(at(100).plus(BEHIND_MAX));
        assert_eq!(clocks.too_far_behind(), None);
        clocks.saw(at(161));
        assert_eq!(clocks.too_far_behind(), Some(Duration::from_secs(61)));
    }
}
