//! When a delivery that has failed is tried again, and when an endpoint is given up. Pure: clocks and chance are passed in.

use std::time::Duration;

use crate::deliveries::Standing;
use crate::deliveries::outcome::Failure;
use crate::payment::Timestamp;

/// Whoever wants us to come back later than this is asked earlier all the same.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(24 * 60 * 60);

#[derive(Clone, Debug)]
pub struct Schedule {
    /// Before the second attempt, the third, and so on.
    pub pauses: Vec<Duration>,
    /// How long an endpoint may do nothing but fail.
    pub disable_after: Duration,
}

/// What is to be done after an attempt that has failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Next {
    /// Never, if it is `None`.
    pub at: Option<Timestamp>,
    /// Nothing else is sent to the endpoint before.
    pub pause_until: Option<Timestamp>,
    pub disable: Option<Disable>,
}

/// Why an endpoint is disabled by us.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Disable {
    Gone,
    Failing,
}

impl Disable {
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Gone => "gone",
            Self::Failing => "failing",
        }
    }
}

impl Schedule {
    /// That of Standard Webhooks: 5 s, 5 min, 30 min, 2 h, 5 h, 10 h, 14 h, 20 h, 24 h: ten attempts in 75 hours and a half.
    pub const DEFAULT_MS: [u64; 9] =
        [5_000, 300_000, 1_800_000, 7_200_000, 18_000_000, 36_000_000, 50_400_000, 72_000_000, 86_400_000];

    /// `chance` is between 0 and 1.
    #[must_use]
    pub fn after(
        &self,
        attempt: u32,
        failure: Failure,
        retry_after: Option<Duration>,
        standing: &Standing,
        now: Timestamp,
        chance: f64,
    ) -> Next {
        if failure == Failure::Gone {
            return Next { at: None, pause_until: None, disable: Some(Disable::Gone) };
        }
        if failure.is_final() {
            return Next { at: None, pause_until: None, disable: None };
        }
        let retry_after = retry_after.map(|wait| wait.min(RETRY_AFTER_MAX));
        let index = attempt.saturating_sub(1) as usize;
        let pause = self.pauses.get(index).map(|pause| pause.mul_f64(1.0 + chance.clamp(0.0, 1.0) / 5.0));
        let at = pause.map(|pause| now.plus(pause.max(retry_after.unwrap_or_default())));
        let failing_since = standing.failing_since.unwrap_or(now);
        let disable = (now.since(failing_since) >= self.disable_after).then_some(Disable::Failing);
        Next { at, pause_until: retry_after.map(|wait| now.plus(wait)), disable }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{Disable, Next, Schedule};
    use crate::deliveries::Standing;
    use crate::deliveries::outcome::Failure;
    use crate::payment::samples::at;

    fn schedule() -> Schedule {
        let pauses = Schedule::DEFAULT_MS.map(Duration::from_millis).to_vec();
        Schedule { pauses, disable_after: Duration::from_secs(5 * 86_400) }
    }

    fn after(attempt: u32, retry_after: Option<u64>, chance: f64) -> Next {
        let retry_after = retry_after.map(Duration::from_secs);
        schedule().after(attempt, Failure::Status, retry_after, &Standing::default(), at(0), chance)
    }

    #[test]
    fn ten_attempts_are_made_in_75_hours_and_a_half() {
        let pauses: Vec<u64> =
            (1..=9).map(|attempt| after(attempt, None, 0.0).at.unwrap().since(at(0)).as_secs()).collect();
        assert_eq!(pauses, [5, 300, 1_800, 7_200, 18_000, 36_000, 50_400, 72_000, 86_400]);
        assert_eq!(pauses.iter().sum::<u64>(), 75 * 3_600 + 35 * 60 + 5);
        assert_eq!(after(10, None, 0.0).at, None);
        assert_eq!(after(1, None, 1.0).at, Some(at(6)), "a fifth more at most");
    }

    #[test]
    fn who_asks_for_patience_gets_it_for_all_that_is_sent_there() {
        assert_eq!(after(1, Some(120), 0.5), Next { at: Some(at(120)), pause_until: Some(at(120)), disable: None });
        assert_eq!(after(2, Some(1), 0.0).at, Some(at(300)), "the schedule is not hurried");
        assert_eq!(after(1, Some(u64::MAX), 0.0).at, Some(at(86_400)), "nor put off for ever");
        assert_eq!(after(10, Some(5), 0.0).at, None);
    }

    #[test]
    fn an_endpoint_that_is_gone_or_does_nothing_but_fail_is_disabled() {
        let gone = schedule().after(1, Failure::Gone, None, &Standing::default(), at(0), 0.0);
        assert_eq!((gone.at, gone.disable), (None, Some(Disable::Gone)));
        let failing = |for_s: i64| {
            let mut standing = Standing::default();
            standing.failing_since = Some(at(0));
            schedule().after(1, Failure::Timeout, None, &standing, at(for_s), 0.0).disable
        };
        assert_eq!((failing(5 * 86_400 - 1), failing(5 * 86_400)), (None, Some(Disable::Failing)));
    }
}
