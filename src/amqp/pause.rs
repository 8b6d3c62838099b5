//! How long to wait before a broker is asked again: twice as long each time, and never all at once.

use std::time::Duration;

const FIRST: Duration = Duration::from_secs(1);
const LONGEST: Duration = Duration::from_secs(30);

#[derive(Debug, Default)]
pub struct Pause {
    failures: u32,
}

impl Pause {
    /// Between half of the pause and all of it, by chance.
    pub fn after_failure(&mut self) -> Duration {
        let whole = FIRST.saturating_mul(1 << self.failures.min(8)).min(LONGEST);
        self.failures = self.failures.saturating_add(1);
        whole.mul_f64(0.5 + rand::random::<f64>() / 2.0)
    }

    /// It has worked.
    pub fn reset(&mut self) {
        self.failures = 0;
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::Pause;

    #[test]
    fn pauses_grow_to_their_bound_and_begin_anew() {
        let mut pause = Pause::default();
        let pauses: Vec<Duration> = (0..40).map(|_| pause.after_failure()).collect();
        assert!(pauses[0] <= Duration::from_secs(1) && pauses[0] >= Duration::from_millis(500), "{pauses:?}");
        assert!(pauses[10..].iter().all(|p| (15..=30).contains(&p.as_secs())), "{pauses:?}");
        pause.reset();
        assert!(pause.after_failure() <= Duration::from_secs(1));
    }
}
