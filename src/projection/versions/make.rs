//! The store of a version that has none yet, made from the whole log at once ([`bulk`](super::super::bulk)) while something else is
//! served: on threads that give way to all others.

use std::path::Path;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use tokio_util::sync::CancellationToken;

use super::super::bulk::{BATCH_MAX, Bulk, Done, RUN_BYTES};
use super::super::live::Served;
use super::super::{FoldError, Offsets, Rejections};
use super::build::{Effort, pause};
use super::report::Report;
use crate::journal::{JournalError, Reader};
use crate::priority;
use crate::schema::Codec;

pub(super) struct Making<'a> {
    pub log: &'a dyn Reader,
    pub rejections: &'a Rejections,
    pub codec: &'a Codec,
    pub store: &'a Path,
    pub report: &'a Report,
    pub effort: Effort,
    pub stop: &'a CancellationToken,
}

impl Making<'_> {
    /// Nobody is told of what it meets.
    pub fn run<P: Served>(&self, hearers: &P::Hearers) -> Result<Done, FoldError> {
        // What was rejected would have to be passed over, even if it can be folded by now.
        if !self.rejections.after(0).is_empty() {
            return Ok(Done::NotSorted("records of this log were rejected"));
        }
        let to = Offsets::ends_of(self.log)?;
        self.report.ends_at(&to);
        thread::scope(|scope| {
            let making = || self.make::<P>(&to, hearers);
            let made = thread::Builder::new().name("bulk".to_owned()).spawn_scoped(scope, making);
            let made = made.map_err(|e| JournalError::Unavailable(format!("cannot start a thread: {e}")))?;
            made.join().unwrap_or_else(|panicked| std::panic::resume_unwind(panicked))
        })
    }

    fn make<P: Served>(&self, to: &Offsets, hearers: &P::Hearers) -> Result<Done, FoldError> {
        // What it starts is as low.
        if self.effort != Effort::FULL {
            priority::lowest();
        }
        let bulk = Bulk {
            log: self.log,
            codec: self.codec,
            to,
            store: self.store,
            stop: self.stop,
            batch_max: self.effort.batch_max().unwrap_or(BATCH_MAX),
            run_bytes: RUN_BYTES,
            after: &|worked, done| self.passed(worked, done),
        };
        bulk.build(|store, progress| {
            let mut projection = P::open(store)?;
            projection.tell(hearers.clone(), Arc::clone(progress));
            Ok(projection)
        })
    }

    fn passed(&self, worked: Duration, done: u64) {
        self.report.passed(done, Instant::now());
        pause(self.effort.rest(worked), self.stop);
    }
}
