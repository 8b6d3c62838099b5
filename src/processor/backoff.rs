//! How long to wait before the next try: exponential, with full jitter over a minimum, so that what failed together does
//! not come back together.

use std::time::Duration;

#[derive(Clone, Copy, Debug)]
pub struct Backoff {
    pub min: Duration,
    pub max: Duration,
}

impl Default for Backoff {
    fn default() -> Self {
        Self { min: Duration::from_millis(500), max: Duration::from_secs(5 * 60) }
    }
}

impl Backoff {
    /// The pause after try number `attempt`, from 1: between `min` and `min * 3^attempt`, at most `max`.
    #[must_use]
    pub fn pause(self, attempt: u32) -> Duration {
        self.min + self.spread(attempt).mul_f64(rand::random::<f64>())
    }

    fn spread(self, attempt: u32) -> Duration {
        let factor = 3_u32.saturating_pow(attempt.min(20));
        self.min.saturating_mul(factor).min(self.max).saturating_sub(self.min)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::Backoff;

    #[test]
    fn a_pause_grows_with_the_tries_and_never_leaves_its_bounds() {
        let backoff = Backoff::default();
        assert_eq!(backoff.spread(1), Duration::from_secs(1));
        assert_eq!(backoff.spread(2), Duration::from_secs(4));
        for attempt in [0, 1, 2, 5, 30, u32::MAX] {
            let pause = backoff.pause(attempt);
            assert!((backoff.min..=backoff.max).contains(&pause), "{attempt}: {pause:?}");
        }
    }
}
