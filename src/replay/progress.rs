//! How far a long reading of the log has come: lines, every few seconds, with the rate and the time that is left.

use std::time::{Duration, Instant};

/// Between two lines.
const EVERY: Duration = Duration::from_secs(2);

/// Takes the lines.
pub type Tell = Box<dyn FnMut(&str) + Send>;

/// Counts offsets, over everything that is read.
pub struct Progress {
    tell: Tell,
    total: u64,
    done: u64,
    began: Instant,
    told: Instant,
    what: &'static str,
}

impl Progress {
    /// `total` offsets will be read, in all passes together.
    #[must_use]
    pub fn new(total: u64, tell: Tell) -> Self {
        let now = Instant::now();
        Self { tell, total, done: 0, began: now, told: now, what: "" }
    }

    /// What is done from now on.
    pub fn begin(&mut self, what: &'static str) {
        self.what = what;
    }

    /// So many offsets more have been read, at `now`.
    pub fn passed(&mut self, offsets: u64, now: Instant) {
        self.done += offsets;
        if now.duration_since(self.told) >= EVERY {
            self.told = now;
            let line = line(self.what, self.done, self.total, now.duration_since(self.began));
            (self.tell)(&line);
        }
    }
}

fn line(what: &str, done: u64, total: u64, elapsed: Duration) -> String {
    let rate = done as f64 / elapsed.as_secs_f64().max(0.001);
    let percent = if total == 0 { 100.0 } else { done as f64 * 100.0 / total as f64 };
    let left = if rate > 0.0 { (total.saturating_sub(done)) as f64 / rate } else { 0.0 };
    format!("{what}: {done} of {total} offsets ({percent:.0} %), {rate:.0} a second, {left:.0} s left")
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};
    use std::time::{Duration, Instant};

    use super::{EVERY, Progress};

    #[test]
    fn a_line_every_few_seconds_says_how_far_how_fast_and_how_long() {
        let lines = Arc::new(Mutex::new(Vec::new()));
        let heard = Arc::clone(&lines);
        let mut progress = Progress::new(1_000, Box::new(move |line| heard.lock().unwrap().push(line.to_owned())));
        let began = Instant::now();
        progress.began = began;
        progress.told = began;
        progress.begin("first fold");
        progress.passed(100, began + Duration::from_millis(500));
        progress.passed(150, began + EVERY + Duration::from_millis(500));
        progress.passed(50, began + EVERY + Duration::from_millis(600));
        let lines = lines.lock().unwrap();
        assert_eq!(lines[..], ["first fold: 250 of 1000 offsets (25 %), 100 a second, 8 s left"]);
    }
}
