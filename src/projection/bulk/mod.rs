//! Folds a whole log into a store that is not there yet, several times as fast as record by record: the log's records are sorted
//! by payment, so that each row is folded once, from all its events, and written once, in the order of its table.
//!
//! Gather: the records go to sorted runs beside the store, with how far the log has been read; killed there, it reads on. Load:
//! the runs are merged, payment after payment is folded, and the rows go straight to the files of a store that has no name yet;
//! killed there, it loads again. What comes out is the store that a fold record by record writes, row for row, because of two
//! payments it does not matter which comes first ([`Projection`]). A log in which something cannot be folded says where only in
//! its own order: then this says so, and the log is folded record by record. Memory is bounded and does not grow with the log.

mod gather;
mod load;
#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::Offsets;
use super::error::FoldError;
use super::fold::Projection;
use super::progress::{Last, Progress};
use crate::journal::Reader;
use crate::schema::Codec;
use crate::store::{Sorter, Store, StoreError, beside};

/// What is kept in memory of a table that has to be sorted before it goes to a run, in bytes; there are up to three times as many.
pub const RUN_BYTES: usize = 32 * 1024 * 1024;

/// Records that are gathered or folded at a stretch, where nobody is to be spared: what the threads hand on stays in the
/// processor's cache.
pub const BATCH_MAX: usize = 2_000;

/// A store to be made.
pub struct Bulk<'a> {
    pub log: &'a dyn Reader,
    pub codec: &'a Codec,
    /// How far it is read.
    pub to: &'a Offsets,
    /// Where there is none.
    pub store: &'a Path,
    pub stop: &'a CancellationToken,
    /// Records that are gathered or folded at a stretch.
    pub batch_max: usize,
    /// See [`RUN_BYTES`].
    pub run_bytes: usize,
    /// Called after each stretch, with how much work it was and how much of the whole is done, in offsets of the log.
    pub after: &'a (dyn Fn(Duration, u64) + Sync),
}

/// How it ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Done {
    /// The store is there.
    Whole,
    Stopped,
    /// Something on this log cannot be folded: fold it record by record. Nothing is there.
    NotSorted(&'static str),
}

/// How far the log has been read, as each run's note keeps it.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
struct Gathered {
    log: [u8; 16],
    /// By partition: the next offset, and the last record before it.
    partitions: Vec<(u64, Option<Last>)>,
}

impl Bulk<'_> {
    /// `open` opens the projection's tables. Blocks.
    pub fn build<P: Projection>(
        &self,
        open: impl Fn(&Store, &Arc<Progress>) -> Result<P, StoreError> + Sync,
    ) -> Result<Done, FoldError> {
        let Some(ordered) = P::BY_PAYMENT else { return Ok(Done::NotSorted("the projection is not by payment")) };
        let done = match self.gather_and_load(ordered, &open) {
            Err(FoldError::Store(error)) if error.is_damage() => {
                tracing::warn!(%error, "sorted runs are of no use: the log is gathered anew");
                Sorter::discard(&self.runs())?;
                self.gather_and_load(ordered, &open)
            }
            done => done,
        };
        if matches!(done, Ok(Done::Whole | Done::NotSorted(_))) {
            discard(self.store)?;
        }
        done
    }

    fn gather_and_load<P: Projection>(
        &self,
        ordered: &[&str],
        open: &(impl Fn(&Store, &Arc<Progress>) -> Result<P, StoreError> + Sync),
    ) -> Result<Done, FoldError> {
        match gather::gather(self)? {
            gather::Ended::There(gathered, merge, rows) => {
                let (offsets, others) = (self.to.sum(), load::Others::of(self.stop));
                load::Loading { bulk: self, gathered: &gathered, records: rows, offsets, others }
                    .run(merge, ordered, open)
            }
            gather::Ended::Stopped => Ok(Done::Stopped),
            gather::Ended::NotSorted(why) => Ok(Done::NotSorted(why)),
        }
    }

    fn runs(&self) -> PathBuf {
        runs(self.store)
    }
}

/// Deletes what a build that did not end has left beside `store`.
pub fn discard(store: &Path) -> Result<(), StoreError> {
    Sorter::discard(&runs(store))?;
    Sorter::discard(&rows(store))
}

/// Of the log, by payment.
fn runs(store: &Path) -> PathBuf {
    beside(store, "gathered")
}

/// Of tables that are not in the order of payments.
fn rows(store: &Path) -> PathBuf {
    beside(store, "sorted")
}
