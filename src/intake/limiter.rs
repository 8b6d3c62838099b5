//! How many dead letters one partition of requests may make. Pure: every instant is passed in.

use std::time::{Duration, Instant};

const MINUTE: Duration = Duration::from_secs(60);

/// A minute's worth may pass at once; after that they pass at the rate. Kept as one instant: when all of it may pass at
/// once again.
#[derive(Clone, Debug)]
pub(super) struct Limiter {
    /// Between two at the rate.
    interval: Duration,
    full_at: Instant,
    /// Said that it is slowed, and not at rest since.
    told: bool,
}

impl Limiter {
    /// # Panics
    /// If `per_minute` is 0: then nothing would ever pass.
    pub(super) fn new(per_minute: u32, now: Instant) -> Self {
        Self { interval: MINUTE / per_minute, full_at: now, told: false }
    }

    /// How many may pass now.
    pub(super) fn allowed(&self, now: Instant) -> usize {
        let owed = self.full_at.saturating_duration_since(now);
        let free = MINUTE.saturating_sub(owed);
        usize::try_from(free.as_nanos() / self.interval.as_nanos()).unwrap_or(usize::MAX)
    }

    pub(super) fn spend(&mut self, now: Instant, count: usize) {
        if self.full_at <= now {
            (self.full_at, self.told) = (now, false);
        }
        self.full_at += self.interval * u32::try_from(count).unwrap_or(u32::MAX);
    }

    /// When the next may pass, if none may now.
    pub(super) fn next_at(&self) -> Instant {
        (self.full_at + self.interval).checked_sub(MINUTE).unwrap_or(self.full_at)
    }

    /// Is this the first time that it slows somebody since it was last at rest?
    pub(super) fn slows_first(&mut self) -> bool {
        !std::mem::replace(&mut self.told, true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_minute_s_worth_at_once_and_then_the_rate() {
        let start = Instant::now() + 2 * MINUTE;
        let mut limiter = Limiter::new(100, start);
        assert_eq!(limiter.allowed(start), 100);
        limiter.spend(start, 100);
        assert_eq!(limiter.allowed(start), 0);
        assert_eq!(limiter.next_at(), start + Duration::from_millis(600));
        let (mut now, mut passed) = (start, 0);
        while now < start + 10 * MINUTE {
            assert_eq!(limiter.allowed(now), 0, "never more than one is free");
            now = limiter.next_at();
            assert_eq!(limiter.allowed(now), 1);
            limiter.spend(now, 1);
            passed += 1;
        }
        assert_eq!(passed, 1_000, "100 a minute for 10 minutes");
    }

    #[test]
    fn below_the_rate_nobody_waits() {
        let mut now = Instant::now() + 2 * MINUTE;
        let mut limiter = Limiter::new(100, now);
        for _ in 0..1_000 {
            assert!(limiter.allowed(now) > 0);
            limiter.spend(now, 1);
            now += Duration::from_millis(601);
        }
    }

    #[test]
    fn it_says_once_that_it_slows_and_again_only_after_a_rest() {
        let start = Instant::now() + 2 * MINUTE;
        let mut limiter = Limiter::new(2, start);
        limiter.spend(start, 2);
        assert!(limiter.slows_first());
        assert!(!limiter.slows_first());
        limiter.spend(start + MINUTE / 2, 1);
        assert!(!limiter.slows_first(), "still the same trouble");
        limiter.spend(start + 10 * MINUTE, 2);
        assert!(limiter.slows_first(), "a new one");
    }
}
