//! What time it is. Two clocks count: this machine's, and the log's own, which stamps each record as it takes it. Whoever
//! decides by time asks here, so that a test and the simulation can say what time it is.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

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
    newest_append_us: Arc<AtomicI64>,
}

impl Clocks {
    #[must_use]
    pub fn new(machine: Arc<dyn Clock>) -> Self {
        Self { machine, newest_append_us: Arc::default() }
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
        self.newest_append().map_or(machine, |newest| newest.max(machine))
    }

    /// What this machine says alone: for the time of an event that it writes.
    #[must_use]
    pub fn machine(&self) -> Timestamp {
        self.machine.now()
    }

    /// The newest time of the log's own clock that was folded.
    #[must_use]
    pub fn newest_append(&self) -> Option<Timestamp> {
        Timestamp::from_micros(self.newest_append_us.load(Ordering::Relaxed))
    }

    /// A record was folded that the log took at this time.
    pub fn saw(&self, appended_at: Timestamp) {
        self.newest_append_us.fetch_max(appended_at.as_micros(), Ordering::Relaxed);
    }

    /// How far this machine's clock is behind the log's, if it is too far to be believed.
    #[must_use]
    pub fn too_far_behind(&self) -> Option<Duration> {
        let behind = self.newest_append()?.since(self.machine.now());
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

    #[test]
    fn now_is_the_later_of_the_two_clocks() {
        let clocks = Clocks::new(Arc::new(Stopped(at(100))));
        assert_eq!(clocks.now(), at(100));
        clocks.saw(at(130));
        clocks.saw(at(90));
        assert_eq!((clocks.now(), clocks.machine()), (at(130), at(100)));
    }

    #[test]
    fn a_machine_that_is_far_behind_the_log_is_not_believed() {
        let clocks = Clocks::new(Arc::new(Stopped(at(100))));
        assert_eq!(clocks.too_far_behind(), None);
        clocks.saw(at(100).plus(BEHIND_MAX));
        assert_eq!(clocks.too_far_behind(), None);
        clocks.saw(at(161));
        assert_eq!(clocks.too_far_behind(), Some(Duration::from_secs(61)));
    }
}
