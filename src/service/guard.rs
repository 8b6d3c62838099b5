//! Watches over a running process: is the log still the one, and still set up as it must be; do the records that were folded
//! last still stand there; are the lanes served? A refusal ends the process, and with it everything that appends: nothing may
//! be written to a log that cannot be trusted. That the log cannot be asked is no verdict.

use std::thread;
use std::time::{Duration, Instant};

use anyhow::Context;
use tokio_util::sync::CancellationToken;

use crate::journal::{Engine, Journal, JournalError};
use crate::projection::{FoldError, View};
use crate::telemetry;

/// How often this thread wakes at all: the bound on how late it notices a stop, or lanes that hang. An embedded log costs
/// nothing to ask, and is asked as often.
const TURN: Duration = Duration::from_millis(500);

/// Looks at a Kafka log again after each `every`. Blocks until told to stop, or until something is wrong.
pub(super) fn watch(
    journal: &dyn Journal,
    view: &View,
    every: Duration,
    stop: &CancellationToken,
) -> anyhow::Result<()> {
    let every = match journal.engine() {
        Engine::Embedded => TURN,
        Engine::Kafka => every,
    };
    let mut looked = Instant::now();
    while !stop.is_cancelled() {
        thread::sleep(TURN.min(every));
        telemetry::keep_up();
        journal.check_lanes().context("the lanes are not served")?;
        if looked.elapsed() < every {
            continue;
        }
        looked = Instant::now();
        match journal.check().map_err(FoldError::from).and_then(|()| view.compare(journal)) {
            Ok(()) => {}
            Err(FoldError::Journal(JournalError::Unavailable(reason))) => {
                tracing::warn!(reason, "the guards could not ask the log");
            }
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}
