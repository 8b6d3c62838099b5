//! Checkpoints of an instance that does not run, and what starts from one.

use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context, bail, ensure};

use super::data_dir::DataDir;
use crate::checkpoint::{Checkpoint, CheckpointError, Header, Made, restore as restore_into, write};
use crate::journal::Reader;
use crate::payment::Timestamp;
use crate::progress::Progress;
use crate::projection::totals::Totals;
use crate::projection::versions::serving_dir;
use crate::projection::{Payments, Projection, Standing, is_empty, versioned_name};
use crate::store::{Store, StoreError};

/// Writes the rows of a projection that the instance in `data_dir` would serve to `file`. Blocks.
pub fn create(projection: &str, data_dir: &Path, file: &Path) -> anyhow::Result<(Header, Made)> {
    let shown = data_dir.display();
    ensure!(data_dir.is_dir(), "there is no data directory {shown}: give another --data-dir");
    let data = DataDir::take(data_dir)?;
    let Some(Known { versioned, path }) = Known::all(&data)?.into_iter().find(|known| known.is_called(projection))
    else {
        bail!("there is no projection {projection}: give payments or totals");
    };
    if !has_rows(&path)? {
        bail!("there are no rows of {versioned} in {shown}: start the instance once, and it folds them from the log");
    }
    let rows = Store::open(&path)?.snapshot()?;
    Ok(write(file, &versioned, &rows, Timestamp::now(), &mut |_, _| true)?)
}

/// Makes the rows of the projection that the checkpoint is of, which must not be there yet. Blocks.
pub fn restore(file: &Path, data_dir: &Path) -> anyhow::Result<(Header, u64)> {
    let checkpoint = Checkpoint::open(file).with_context(|| file.display().to_string())?;
    is_known(checkpoint.header())?;
    let (header, data) = (checkpoint.header().clone(), DataDir::take(data_dir)?);
    let known = Known::all(&data)?.into_iter().find(|known| known.versioned == header.projection);
    let Some(Known { path, .. }) = known else { bail!("there is no projection {}", header.projection) };
    if has_rows(&path)? {
        bail!(
            "there are rows of {} in {} already: they need no checkpoint; to have others, delete {} while the instance is stopped",
            header.projection,
            data_dir.display(),
            path.display()
        );
    }
    let mut progress = Progress::new("restoring", "bytes", checkpoint.progress().1);
    let made = make(checkpoint, &path, |read| {
        progress.reached(read.progress().0);
        progress.look(); // a block is a long way
    });
    progress.end();
    made.with_context(|| file.display().to_string()).map(|rows| (header, rows))
}

/// Before the rows of a projection in `store` are opened: if there are none, they are made of the checkpoint among `files` that
/// is of this projection, if there is one. What is wrong with it ends the start. Blocks.
pub(super) fn start_from<P: Projection>(files: &[PathBuf], store: &Path, log: &dyn Reader) -> anyhow::Result<()> {
    if files.is_empty() {
        return Ok(());
    }
    let projection = versioned_name::<P>();
    match has_rows(store) {
        Ok(false) => {}
        Ok(true) => {
            tracing::info!(projection, "there are rows: no checkpoint is needed, and none is looked at");
            return Ok(());
        }
        // It is met again, and told of, by whoever opens them.
        Err(error) if error.is_damage() => return Ok(()),
        Err(error) => return Err(error.into()),
    }
    let Some((file, checkpoint)) = find(&projection, files)? else {
        tracing::info!(projection, "there is no checkpoint of it: it is folded from the start of the log");
        return Ok(());
    };
    let (began, header) = (Instant::now(), checkpoint.header().clone());
    match header.compare(log).and_then(|()| make(checkpoint, store, |_| {})) {
        Ok(rows) => {
            let (folded, created_at, seconds) = (header.offsets(), &header.created_at, began.elapsed().as_secs_f64());
            let checkpoint = file.display();
            tracing::info!(projection, %checkpoint, rows, folded, created_at, seconds, "the rows were made of a checkpoint");
            Ok(())
        }
        // That the log does not answer says nothing of the checkpoint.
        Err(CheckpointError::Journal(error)) => Err(error.into()),
        Err(error) => Err(error).with_context(|| cannot_start(file)),
    }
}

/// The one that is of `projection`.
fn find<'f>(projection: &str, files: &'f [PathBuf]) -> anyhow::Result<Option<(&'f Path, Checkpoint)>> {
    let mut found = None;
    for file in files {
        let checkpoint = Checkpoint::open(file).with_context(|| cannot_start(file))?;
        is_known(checkpoint.header()).with_context(|| cannot_start(file))?;
        if checkpoint.header().projection == projection {
            let another = found.replace((file.as_path(), checkpoint));
            ensure!(another.is_none(), "two checkpoints of {projection} are given (--from-checkpoint): give one");
        }
    }
    Ok(found)
}

fn cannot_start(file: &Path) -> String {
    format!("cannot start from {} (--from-checkpoint)", file.display())
}

/// Is it of a projection, in the version in which this paylog folds it?
fn is_known(header: &Header) -> Result<(), CheckpointError> {
    let totals = versioned_name::<Totals>();
    if header.projection == totals { Ok(()) } else { header.is_of(&versioned_name::<Payments>()) }
}

/// A projection of an instance, and where its rows are.
struct Known {
    versioned: String,
    path: PathBuf,
}

impl Known {
    fn all(data: &DataDir) -> std::io::Result<[Self; 2]> {
        let stores = data.stores();
        Ok([
            Self { versioned: versioned_name::<Payments>(), path: serving_dir::<Payments>(&stores)? },
            Self { versioned: versioned_name::<Totals>(), path: serving_dir::<Totals>(&stores)? },
        ])
    }

    fn is_called(&self, projection: &str) -> bool {
        self.versioned.split_once('@').is_some_and(|(name, _)| name == projection)
    }
}

fn make(checkpoint: Checkpoint, store: &Path, after: impl FnMut(&Checkpoint) + Send) -> Result<u64, CheckpointError> {
    if store.exists() {
        Store::discard(store)?; // there are no rows in it
    }
    restore_into(checkpoint, store, after)
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
