//! Shows that a loop turns, to those who watch it from another thread.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Beats while there is a loop at all.
#[derive(Default)]
pub(super) struct Pulse(Mutex<Option<Instant>>);

impl Pulse {
    pub(super) fn beat(&self) {
        self.set(Some(Instant::now()));
    }

    /// The loop has ended: nobody waits for it any more.
    pub(super) fn end(&self) {
        self.set(None);
    }

    /// Since the last beat; nothing while there is no loop.
    pub(super) fn silent_for(&self) -> Duration {
        let last = *self.0.lock().unwrap_or_else(PoisonError::into_inner);
        last.map_or(Duration::ZERO, |last| last.elapsed())
    }

    fn set(&self, last: Option<Instant>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = last;
    }
}
