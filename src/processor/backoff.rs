//! How long to wait before the next try: decorrelated jitter ("Exponential Backoff And Jitter", AWS Architecture Blog, 2015),
//! so that what failed together does not come back together.

use std::time::Duration;

use sha2::{Digest, Sha256};

use crate::payment::PaymentId;

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
    /// The pause after try number `attempt` of a payment, given the pause before it: between `min` and three times that, at
    /// most `max`. The chance in it is drawn from the payment and the number of the try, so that two payments differ and a
    /// run can be repeated.
    #[must_use]
    pub fn pause(self, id: PaymentId, attempt: u32, before: Option<Duration>) -> Duration {
        let longest = before.unwrap_or_default().clamp(self.min, self.max).saturating_mul(3).min(self.max);
        let spread = longest.saturating_sub(self.min);
        (self.min + spread.mul_f64(draw(id, attempt))).min(self.max)
    }
}

/// Between 0 and 1.
fn draw(id: PaymentId, attempt: u32) -> f64 {
    let digest = Sha256::new().chain_update(id.as_bytes()).chain_update(attempt.to_be_bytes()).finalize();
    let number = u32::from_be_bytes([digest[0], digest[1], digest[2], digest[3]]);
    f64::from(number) / f64::from(u32::MAX)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::Backoff;
    use crate::payment::samples::payment_id;

    #[test]
    fn pauses_grow_and_never_leave_their_bounds() {
        let backoff = Backoff::default();
        let mut longest = Duration::ZERO;
        for n in 0..200 {
            let (id, mut before) = (payment_id(&format!("order-{n}")), None);
            for attempt in 1..=20 {
                let pause = backoff.pause(id, attempt, before);
                let bound = before.unwrap_or(backoff.min).max(backoff.min) * 3;
                assert!(pause >= backoff.min && pause <= backoff.max.min(bound), "{attempt}: {pause:?}");
                longest = longest.max(pause);
                before = Some(pause);
            }
        }
        assert!(longest > backoff.max / 2, "after many failures the pauses are long: {longest:?}");
    }

    #[test]
    fn payments_that_failed_together_do_not_come_back_together() {
        let pauses: std::collections::BTreeSet<Duration> =
            (0..100).map(|n| Backoff::default().pause(payment_id(&format!("order-{n}")), 3, None)).collect();
        assert!(pauses.len() > 95, "{} of 100 differ", pauses.len());
    }

    #[test]
    fn bounds_that_cross_are_no_panic() {
        let backoff = Backoff { min: Duration::from_secs(10), max: Duration::from_secs(10) };
        assert_eq!(backoff.pause(payment_id("a"), 1, Some(Duration::from_secs(99))), Duration::from_secs(10));
    }
}
