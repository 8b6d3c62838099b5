//! How far a long piece of work has come, for whoever waits for it: on a terminal one line with a bar, which is written over;
//! elsewhere a line every few seconds. All of it on stderr, for what was asked for is on stdout.

use std::fmt;
use std::io::{IsTerminal, Write};
use std::time::{Duration, Instant};

const ON_A_TERMINAL: Duration = Duration::from_millis(200);
const IN_A_LOG: Duration = Duration::from_secs(5);
/// Calls between two looks at the clock.
const LOOK_EVERY: u32 = 256;
const BAR_WIDTH: usize = 24;
/// Back to the beginning of a terminal's line, and nothing on it.
const CLEAR: &str = "\r\x1b[K";

/// Counts, in a unit of which the whole is known before.
pub struct Progress {
    what: String,
    unit: &'static str,
    done: u64,
    total: u64,
    began: Instant,
    unlooked: u32,
    line: Line,
}

/// Where it is told.
pub struct Line {
    terminal: bool,
    told: Option<Instant>,
}

/// How far, and how fast.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Standing {
    pub what: String,
    pub unit: &'static str,
    pub done: u64,
    /// Of what, if that is known.
    pub total: Option<u64>,
    pub per_second: Option<f64>,
    pub seconds_left: Option<f64>,
}

impl Progress {
    #[must_use]
    pub fn new(what: &str, unit: &'static str, total: u64) -> Self {
        let line = Line::on_stderr();
        Self { what: what.to_owned(), unit, done: 0, total, began: Instant::now(), unlooked: 0, line }
    }

    /// What is done from now on, as a part of the same whole.
    pub fn begin(&mut self, what: &str) {
        what.clone_into(&mut self.what);
    }

    /// So many more. Cheap: most calls do not look at the clock.
    pub fn passed(&mut self, more: u64) {
        self.reached(self.done + more);
    }

    /// As [`Progress::passed`], counted from the beginning.
    pub fn reached(&mut self, done: u64) {
        self.done = done;
        self.unlooked += 1;
        if self.unlooked >= LOOK_EVERY {
            self.look();
        }
    }

    /// For whoever has waited.
    pub fn look(&mut self) {
        self.unlooked = 0;
        let now = Instant::now();
        if self.line.is_due(now) {
            let standing = self.standing(now);
            self.line.tell(&standing, now);
        }
    }

    pub fn end(&mut self) {
        self.line.end();
    }

    fn standing(&self, now: Instant) -> Standing {
        let Self { done, total, unit, .. } = *self;
        let seconds = now.duration_since(self.began).as_secs_f64();
        let per_second = (seconds > 0.0 && done > 0).then(|| done as f64 / seconds);
        let seconds_left = per_second.map(|rate| total.saturating_sub(done) as f64 / rate);
        Standing { what: self.what.clone(), unit, done, total: Some(total), per_second, seconds_left }
    }
}

impl Line {
    #[must_use]
    pub fn on_stderr() -> Self {
        Self { terminal: std::io::stderr().is_terminal(), told: None }
    }

    /// Now and then, for work that is watched.
    pub fn tell_of(&mut self, standing: &Standing) {
        let now = Instant::now();
        if self.is_due(now) {
            self.tell(standing, now);
        }
    }

    /// On a terminal soon, for somebody looks at it. In a log what is done quickly need not be said at all.
    fn is_due(&mut self, now: Instant) -> bool {
        let every = if self.terminal { ON_A_TERMINAL } else { IN_A_LOG };
        let told = *self.told.get_or_insert(now);
        now.duration_since(told) >= every
    }

    fn tell(&mut self, standing: &Standing, now: Instant) {
        self.told = Some(now);
        let text = if self.terminal { format!("{CLEAR}{standing:#}") } else { format!("{standing}\n") };
        // Nobody has to read it.
        drop(std::io::stderr().write_all(text.as_bytes()));
    }

    /// The line on the terminal is over.
    pub fn end(&mut self) {
        if self.terminal && self.told.is_some() {
            drop(std::io::stderr().write_all(CLEAR.as_bytes()));
        }
    }
}

/// With a bar if it is asked for (`{:#}`).
impl fmt::Display for Standing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { what, unit, done, total, per_second, seconds_left } = self;
        match total {
            Some(total) => {
                let part = if *total == 0 { 1.0 } else { (*done as f64 / *total as f64).min(1.0) };
                let full = (part * BAR_WIDTH as f64) as usize;
                let bar = format!(" [{}{}]", "#".repeat(full), ".".repeat(BAR_WIDTH - full));
                let after = if f.alternate() { &bar } else { ":" };
                write!(f, "{what}{after} {:.0} %, {done} of {total} {unit}", part * 100.0)?;
            }
            None => write!(f, "{what}: {done} {unit}")?,
        }
        if let Some(rate) = per_second {
            write!(f, ", {rate:.0} a second")?;
        }
        match seconds_left {
            Some(left) => write!(f, ", {left:.0} s left"),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{IN_A_LOG, Line, ON_A_TERMINAL, Progress, Standing};

    #[test]
    fn it_says_how_far_how_fast_and_how_long() {
        let mut progress = Progress::new("first fold", "offsets", 1_000);
        progress.passed(100);
        progress.passed(150);
        let standing = progress.standing(progress.began + Duration::from_millis(2_500));
        assert_eq!(standing.to_string(), "first fold: 25 %, 250 of 1000 offsets, 100 a second, 8 s left");
        progress.begin("second fold");
        progress.reached(500);
        let bar = format!("{:#}", progress.standing(progress.began + Duration::from_secs(5)));
        assert_eq!(bar, "second fold [############............] 50 %, 500 of 1000 offsets, 100 a second, 5 s left");
        let begun = Standing { what: "a fold".to_owned(), unit: "offsets", ..Standing::default() };
        assert_eq!(
            format!("{begun} {begun:#}"),
            "a fold: 0 offsets a fold: 0 offsets",
            "and nothing that nobody knows"
        );
        let nothing = Standing { total: Some(0), ..begun };
        assert_eq!(nothing.to_string(), "a fold: 100 %, 0 of 0 offsets");
        let over = Standing { done: 7, total: Some(5), ..nothing };
        assert!(over.to_string().contains("100 %, 7 of 5"), "{over}");
    }

    #[test]
    fn a_line_now_and_then() {
        for (terminal, every) in [(true, ON_A_TERMINAL), (false, IN_A_LOG)] {
            let mut progress = Progress { line: Line { terminal, told: None }, ..Progress::new("it", "records", 9) };
            let began = progress.began;
            assert!(!progress.line.is_due(began) && !progress.line.is_due(began + every / 2), "not at once");
            assert!(progress.line.is_due(began + every));
        }
    }
}
