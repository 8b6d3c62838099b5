//! Checkpoints of an instance that does not run, and what starts from one.

use std::path::Path;
use std::time::Instant;

use anyhow::{Context, bail, ensure};

use super::data_dir::DataDir;
use crate::checkpoint::{Checkpoint, CheckpointError, Header, Made, restore as restore_into, write};
use crate::journal::Reader;
use crate::payment::Timestamp;
use crate::projection::versions::serving_dir;
use crate::projection::{Payments, Standing, is_empty, versioned_name};
use crate::store::{Store, StoreError};

/// Writes the rows that the instance in `data_dir` would serve to `file`. Blocks.
pub fn create(data_dir: &Path, file: &Path) -> anyhow::Result<(Header, Made)> {
    let shown = data_dir.display();
    ensure!(data_dir.is_dir(), "there is no data directory {shown}: give another --data-dir");
    let data = DataDir::take(data_dir)?;
    let path = serving_dir::<Payments>(&data.stores())?;
    ensure!(has_rows(&path)?, "there are no rows in {shown}: start the instance once, and it folds them from the log");
    let rows = Store::open(&path)?.snapshot()?;
    Ok(write(file, &versioned_name::<Payments>(), &rows, Timestamp::now(), &mut |_, _| true)?)
}

/// Makes the rows of the instance in `data_dir`, which must not have any, of a checkpoint. Blocks.
pub fn restore(file: &Path, data_dir: &Path) -> anyhow::Result<(Header, u64)> {
    let checkpoint = Checkpoint::open(file).with_context(|| file.display().to_string())?;
    checkpoint.header().is_of(&versioned_name::<Payments>())?;
    let (header, data) = (checkpoint.header().clone(), DataDir::take(data_dir)?);
    let path = serving_dir::<Payments>(&data.stores())?;
    if has_rows(&path)? {
        bail!(
            "there are rows in {} already: they need no checkpoint; to have others, delete {} while the instance is stopped",
            data_dir.display(),
            path.display()
        );
    }
    make(checkpoint, &path).with_context(|| file.display().to_string()).map(|rows| (header, rows))
}

/// Before the rows in `store` are opened: if there are none, they are made of the checkpoint, if that is of this log. What
/// is wrong with it ends the start. Blocks.
pub(super) fn start_from(file: &Path, store: &Path, log: &dyn Reader) -> anyhow::Result<()> {
    let shown = file.display();
    match has_rows(store) {
        Ok(false) => {}
        Ok(true) => {
            tracing::info!(checkpoint = %shown, "there are rows: the checkpoint is not needed, and not looked at");
            return Ok(());
        }
        // It is met again, and told of, by whoever opens them.
        Err(error) if error.is_damage() => return Ok(()),
        Err(error) => return Err(error.into()),
    }
    let began = Instant::now();
    let made = Checkpoint::open(file).and_then(|checkpoint| {
        let header = checkpoint.header().clone();
        header.is_of(&versioned_name::<Payments>())?;
        header.compare(log)?;
        Ok((make(checkpoint, store)?, header))
    });
    match made {
        Ok((rows, header)) => {
            let (folded, created_at, seconds) = (header.offsets(), &header.created_at, began.elapsed().as_secs_f64());
            tracing::info!(checkpoint = %shown, rows, folded, created_at, seconds, "the rows were made of a checkpoint");
            Ok(())
        }
        // That the log does not answer says nothing of the checkpoint.
        Err(CheckpointError::Journal(error)) => Err(error.into()),
        Err(error) => Err(error).with_context(|| format!("cannot start from {shown} (--from-checkpoint)")),
    }
}

fn make(checkpoint: Checkpoint, store: &Path) -> Result<u64, CheckpointError> {
    if store.exists() {
        Store::discard(store)?; // there are no rows in it
    }
    restore_into(checkpoint, store)
}

/// Has anything been folded into it?
fn has_rows(store: &Path) -> Result<bool, StoreError> {
    if !store.is_dir() {
        return Ok(false);
    }
    let rows = Store::open(store)?.snapshot()?;
    match Standing::of(&rows)? {
        Some(standing) => Ok(!standing.is_at_the_start()),
        None => Ok(!is_empty(&rows)?),
    }
}
