//! When clients come back: each with its own share of a spread, so that an instance which rotates its streams or goes down is
//! not followed by all of its readers at once.

use std::time::Duration;

use tokio::time::Instant;

/// After a disconnect, in milliseconds: this, and up to the spread more.
const RETRY_MS: u64 = 1_000;
const RETRY_SPREAD_MS: u64 = 2_000;
/// The same for those whom a stop sends away, all at one time: 10,000 of them are then 2,000 a second for the others.
const DRAIN_RETRY_SPREAD_MS: u64 = 5_000;
/// The same for those who have as many streams as they may have.
const FULL_RETRY_MS: u64 = 30_000;
const FULL_RETRY_SPREAD_MS: u64 = 30_000;
/// A stream ends this much before its greatest age, at most, in per cent.
const AGE_SPREAD_PERCENT: u32 = 20;

/// What a client is told at the beginning of its stream.
pub(super) fn retry_ms() -> u64 {
    RETRY_MS + rand::random_range(0..RETRY_SPREAD_MS)
}

/// What it is told at the end, by an instance that stops.
pub(super) fn drain_retry_ms() -> u64 {
    RETRY_MS + rand::random_range(0..DRAIN_RETRY_SPREAD_MS)
}

/// What one is told that has to wait for another of the same client to end.
pub(super) fn full_retry_ms() -> u64 {
    FULL_RETRY_MS + rand::random_range(0..FULL_RETRY_SPREAD_MS)
}

/// When a stream that begins now is old: never later than `max_age`, and not with those that began with it.
pub(super) fn old_at(max_age: Duration) -> Instant {
    let spread = max_age * AGE_SPREAD_PERCENT / 100;
    Instant::now() + max_age - spread.mul_f64(rand::random_range(0.0..1.0))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::Instant;

    #[test]
    fn those_that_begin_together_do_not_end_together() {
        let (now, age) = (Instant::now(), Duration::from_secs(1_000));
        let ends: Vec<Duration> = (0..1_000).map(|_| super::old_at(age) - now).collect();
        let (first, last) = (*ends.iter().min().unwrap(), *ends.iter().max().unwrap());
        assert!(first >= age * 80 / 100 && last <= age + Duration::from_secs(1), "{first:?} {last:?}");
        assert!(last - first > age * 15 / 100, "they are spread: {first:?} {last:?}");
        let retries: Vec<u64> = (0..1_000).map(|_| super::drain_retry_ms()).collect();
        let (first, last) = (*retries.iter().min().unwrap(), *retries.iter().max().unwrap());
        assert!(first >= 1_000 && last < 6_000 && last - first > 4_000, "{first} {last}");
    }
}
