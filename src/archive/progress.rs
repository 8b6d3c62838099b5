//! How far a long piece of work is, for people: one line that is written over on a terminal, a line every few seconds in a
//! log.

use std::io::{IsTerminal, Write};
use std::time::{Duration, Instant};

const IN_A_LOG: Duration = Duration::from_secs(5);
const ON_A_TERMINAL: Duration = Duration::from_millis(200);
/// Records between two looks at the clock.
const LOOK_EVERY: u64 = 256;

pub struct Progress {
    doing: &'static str,
    /// How much there is to do, in the unit of `done`.
    total: u64,
    began: Instant,
    said: Instant,
    looked: u64,
    terminal: bool,
}

impl Progress {
    #[must_use]
    pub fn new(doing: &'static str, total: u64) -> Self {
        let now = Instant::now();
        Self { doing, total, began: now, said: now, looked: 0, terminal: std::io::stderr().is_terminal() }
    }

    /// Called for every record; says something now and then.
    pub fn tell(&mut self, records: u64, done: u64) {
        if records < self.looked + LOOK_EVERY {
            return;
        }
        self.looked = records;
        let every = if self.terminal { ON_A_TERMINAL } else { IN_A_LOG };
        if self.said.elapsed() < every {
            return;
        }
        self.said = Instant::now();
        let now = Standing::new(records, done, self.total, self.began.elapsed());
        if self.terminal {
            let Standing { per_second, percent, seconds_left } = now;
            let line = format!("{}: {records} records, {per_second}/s, {percent} %, {seconds_left} s left", self.doing);
            drop(write!(std::io::stderr(), "\r{line:<78}"));
        } else {
            let Standing { per_second, percent, seconds_left } = now;
            tracing::info!(records, per_second, percent, seconds_left, "{}", self.doing);
        }
    }

    /// The line on the terminal is over.
    pub fn end(&self) {
        if self.terminal && self.looked > 0 {
            drop(write!(std::io::stderr(), "\r{:<78}\r", ""));
        }
    }
}

#[derive(Debug, PartialEq, Eq)]
struct Standing {
    per_second: u64,
    percent: u64,
    seconds_left: u64,
}

impl Standing {
    fn new(records: u64, done: u64, total: u64, took: Duration) -> Self {
        let ms = u64::try_from(took.as_millis()).unwrap_or(u64::MAX).max(1);
        let left = total.saturating_sub(done);
        Self {
            per_second: records.saturating_mul(1000) / ms,
            percent: done.saturating_mul(100) / total.max(1),
            seconds_left: left.saturating_mul(ms) / done.max(1) / 1000,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Standing;
    use std::time::Duration;

    #[test]
    fn the_time_left_follows_from_what_is_done() {
        let half = Standing::new(1_000, 2_000, 4_000, Duration::from_secs(10));
        assert_eq!(half, Standing { per_second: 100, percent: 50, seconds_left: 10 });
        assert_eq!(Standing::new(0, 0, 0, Duration::ZERO).seconds_left, 0);
    }
}
