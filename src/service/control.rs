//! The control log of a process, and the rows that must agree with it.

use std::path::Path;
use std::sync::Arc;

use crate::config::KafkaArgs;
use crate::control::{self, Control, Follower, Import};
use crate::journal::embedded::EmbeddedJournal;
use crate::journal::kafka::KafkaJournal;
use crate::journal::{Journal, LogId};
use crate::projection::{FoldError, Rejections};
use crate::store::Store;

use super::data_dir::DataDir;

/// Opens the control log, and reads it to its end: after this `rejections` has all that was decided before.
pub(super) fn open(
    kafka: &KafkaArgs,
    data: &DataDir,
    payments: LogId,
    rejections: &Rejections,
) -> anyhow::Result<(Control, Follower)> {
    let journal: Arc<dyn Journal> = match kafka.config(data.instance_id()) {
        Some(kafka) => KafkaJournal::open(kafka.control())?,
        None => EmbeddedJournal::open(&data.control(), control::PARTITIONS)?,
    };
    journal.check()?;
    let (control, follower) = Control::open(journal, payments, rejections.clone())?;
    if let Some(import) = control.import() {
        accept(&import)?;
    }
    Ok((control, follower))
}

/// A part of a log is not served: a payment whose end is missing would be taken for an open one.
fn accept(import: &Import) -> anyhow::Result<()> {
    let Import { archive, begun, finished, adopted, .. } = import;
    anyhow::ensure!(
        finished,
        "an import of {} records into this log was begun by {} at {} and is not finished: wait for it; if it has failed, delete \
         the log (with its control log) and import anew",
        archive.records,
        begun.operator,
        begun.at
    );
    if adopted.is_none() {
        tracing::warn!(
            records = archive.records,
            from_log = archive.log,
            "the log was imported: the gateway is only asked about its open payments, and nothing is charged for them, until \
             `paylog parked adopt`"
        );
    }
    Ok(())
}

/// Opens the rows; those that hold a record which was rejected since, and those that are damaged, are deleted, for the log
/// has everything.
pub(super) fn rows<T>(store: &Path, open: impl Fn(Store) -> Result<T, FoldError>) -> anyhow::Result<T> {
    let open = || open(Store::open(store)?);
    match open() {
        Err(FoldError::RejectedSince(position)) => {
            tracing::warn!(%position, "the rows hold a record that was rejected since: they are folded anew without it");
            Store::discard(store)?;
            Ok(open()?)
        }
        Err(FoldError::Store(error)) if error.is_damage() => {
            tracing::error!(%error, "the rows are damaged: they are folded anew from the log");
            Store::discard(store)?;
            Ok(open()?)
        }
        opened => Ok(opened?),
    }
}
