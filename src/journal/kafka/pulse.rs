//! Shows that a loop turns, to those who watch it from another thread; and measures a silence.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::journal::JournalError;

/// What of the time between two looks counts as silence at most. Who looks later than that stood still itself: the process was
/// stopped, or the machine slept, and then nobody could be heard.
const LOOK_MAX: Duration = Duration::from_secs(10);

/// What a member that nobody polls for this many times `max.poll.interval.ms` held has been given away long ago, and whoever
/// should poll it hangs.
const MEMBER_SILENT: u32 = 2;

/// How long nothing was heard, by one who looks again and again.
pub(super) struct Silence {
    looked: Instant,
    lasts: Duration,
}

impl Silence {
    pub(super) fn new(now: Instant) -> Self {
        Self { looked: now, lasts: Duration::ZERO }
    }

    /// How long the silence lasts. `heard`: it ended since the last look.
    pub(super) fn look(&mut self, now: Instant, heard: bool) -> Duration {
        let since = now.saturating_duration_since(self.looked).min(LOOK_MAX);
        *self = Self { looked: now, lasts: if heard { Duration::ZERO } else { self.lasts + since } };
        self.lasts
    }
}

/// Beats while there is a loop at all.
#[derive(Default)]
pub(super) struct Pulse(Mutex<Option<Watched>>);

struct Watched {
    beaten: bool,
    silence: Silence,
}

impl Pulse {
    pub(super) fn beat(&self) {
        self.watched().get_or_insert_with(|| Watched { beaten: true, silence: Silence::new(Instant::now()) }).beaten =
            true;
    }

    /// The loop has ended: nobody waits for it any more.
    pub(super) fn end(&self) {
        *self.watched() = None;
    }

    /// For how long there was no beat, as one sees it who looks again and again; nothing while there is no loop.
    pub(super) fn silent_for(&self, now: Instant) -> Duration {
        self.watched().as_mut().map_or(Duration::ZERO, |watched| {
            let heard = std::mem::take(&mut watched.beaten);
            watched.silence.look(now, heard)
        })
    }

    /// `Err` if the loop hangs: a group gives away what is not polled for `interval`. Looked at again and again.
    pub(super) fn must_be_served(&self, who: &str, interval: Duration) -> Result<(), JournalError> {
        let silent = self.silent_for(Instant::now());
        if silent <= interval * MEMBER_SILENT {
            return Ok(());
        }
        Err(JournalError::Broken(format!(
            "nobody has served the {who} for {} s: its loop hangs, and the group has given its partitions to others; \
             this process must be started again",
            silent.as_secs()
        )))
    }

    fn watched(&self) -> MutexGuard<'_, Option<Watched>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn a_silence_lasts_until_something_is_heard() {
        let start = Instant::now();
        let pulse = Pulse::default();
        let lasts = |seconds: u32| pulse.silent_for(start + SECOND * seconds).as_secs();
        assert_eq!(lasts(1), 0, "there is no loop");
        pulse.beat();
        assert_eq!((lasts(2), lasts(3), lasts(9)), (0, 1, 7));
        pulse.beat();
        assert_eq!((lasts(10), lasts(15)), (0, 5));
        pulse.end();
        assert_eq!(lasts(16), 0);
    }

    #[test]
    fn a_loop_that_hangs_is_told_by_its_name() {
        let pulse = Pulse::default();
        assert!(pulse.must_be_served("hub", Duration::ZERO).is_ok(), "there is no loop");
        pulse.beat();
        let deadline = Instant::now() + SECOND * 10;
        let hangs = loop {
            if let Err(error) = pulse.must_be_served("hub", Duration::ZERO) {
                break error.to_string();
            }
            assert!(Instant::now() < deadline, "nobody is missed");
        };
        assert!(hangs.contains("nobody has served the hub"), "{hangs}");
        pulse.beat();
        assert!(pulse.must_be_served("hub", SECOND * 60).is_ok());
    }

    #[test]
    fn a_process_that_stood_still_itself_has_heard_no_silence() {
        let start = Instant::now();
        let mut silence = Silence::new(start);
        assert_eq!(silence.look(start + SECOND, true), Duration::ZERO);
        // Stopped for ten minutes, then everything goes on at once, and who watches may come first.
        let woken = start + SECOND * 600;
        assert_eq!(silence.look(woken, false), LOOK_MAX);
        assert_eq!(silence.look(woken + SECOND, false), LOOK_MAX + SECOND, "from now on it counts");
        assert_eq!(silence.look(woken + SECOND * 2, true), Duration::ZERO);
    }
}
