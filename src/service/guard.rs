//! Watches over a running process: is the log still the one, and still set up as it must be; do the records that were folded
//! last still stand there; are the lanes served? A refusal ends the process, and with it everything that appends: nothing may
//! be written to a log that cannot be trusted. That the log cannot be asked is no verdict.

use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Context;
use tokio_util::sync::CancellationToken;

use crate::journal::{Engine, Journal, JournalError};
use crate::projection::FoldError;
use crate::projection::versions::Rebuilds;
use crate::telemetry;

/// How often this thread wakes at all: the bound on how late it notices a stop, or lanes that hang. An embedded log costs
/// nothing to ask, and is asked as often.
const TURN: Duration = Duration::from_millis(500);

/// Looks whether all groups are `served`, at a Kafka log again after each `every`, and at `others` that must be as they were. Blocks until told to stop, or
/// until something is wrong.
pub(super) fn watch(
    journal: &dyn Journal,
    served: &dyn Fn() -> Result<(), JournalError>,
    others: &dyn Fn() -> Result<(), JournalError>,
    rows: &[Arc<dyn Rebuilds>],
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
        served().context("a member of a group is not served")?;
        let damaged = rows.iter().any(|rows| rows.is_damaged());
        anyhow::ensure!(!damaged, "the rows of this process are damaged: the next start folds them anew");
        if looked.elapsed() < every {
            continue;
        }
        looked = Instant::now();
        let checked = journal.check().and_then(|()| others());
        let compared = || rows.iter().try_for_each(|rows| rows.compare());
        match checked.map_err(FoldError::from).and_then(|()| compared()) {
            Ok(()) => {}
            Err(FoldError::Journal(JournalError::Unavailable(reason))) => {
                tracing::warn!(reason, "the guards could not ask the log");
            }
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::time::Duration;

    use tokio_util::sync::CancellationToken;

    use super::watch;
    use crate::journal::embedded::EmbeddedJournal;
    use crate::journal::over::Over;
    use crate::journal::{Appending, Journal, JournalError, Lanes, NewRecord, Reader};

    /// A log that is well but for two things.
    struct Ailing {
        log: Arc<EmbeddedJournal>,
        check: fn() -> Result<(), JournalError>,
        check_members: fn() -> Result<(), JournalError>,
    }

    impl Over for Ailing {
        fn log(&self) -> &dyn Reader {
            self.log.as_ref()
        }

        fn guards(&self) -> Result<(), JournalError> {
            (self.check)()
        }
    }

    impl Journal for Ailing {
        fn append(&self, record: NewRecord) -> Appending {
            self.log.append(record)
        }

        fn lanes(&self) -> Result<Box<dyn Lanes>, JournalError> {
            self.log.lanes()
        }

        fn check_members(&self) -> Result<(), JournalError> {
            (self.check_members)()
        }
    }

    /// What the watch says before it is told to stop.
    fn watched(
        check: fn() -> Result<(), JournalError>,
        check_members: fn() -> Result<(), JournalError>,
        stop: &CancellationToken,
    ) -> anyhow::Result<()> {
        let directory = tempfile::tempdir()?;
        let log = EmbeddedJournal::open(&directory.path().join("journal"), 1)?;
        let log = Ailing { log, check, check_members };
        watch(&log, &|| log.check_members(), &|| Ok(()), &[], Duration::from_secs(60), stop)
    }

    #[test]
    fn lanes_that_hang_end_the_process() {
        let hang = || Err(JournalError::Broken("nobody has served the lanes for 120 s".to_owned()));
        let text = format!("{:#}", watched(|| Ok(()), hang, &CancellationToken::new()).unwrap_err());
        assert!(text.contains("not served") && text.contains("120 s"), "{text}");
    }

    #[test]
    fn a_refusal_ends_the_process_and_a_log_that_cannot_be_asked_does_not() {
        let refuse = || Err(JournalError::Refused("run kafka-configs.sh".to_owned()));
        let text = format!("{:#}", watched(refuse, || Ok(()), &CancellationToken::new()).unwrap_err());
        assert!(text.contains("kafka-configs.sh"), "{text}");
        static ASKED: AtomicUsize = AtomicUsize::new(0);
        let silent = || {
            ASKED.fetch_add(1, Ordering::AcqRel);
            Err(JournalError::Unavailable("no answer".to_owned()))
        };
        let stop = CancellationToken::new();
        let asked = std::thread::spawn({
            let stop = stop.clone();
            move || watched(silent, || Ok(()), &stop)
        });
        while ASKED.load(Ordering::Acquire) < 2 {
            assert!(!asked.is_finished(), "it goes on asking");
            std::thread::yield_now();
        }
        stop.cancel();
        asked.join().unwrap().unwrap();
    }
}
