//! A store made of rows that are there already, table after table and in the order of their keys: they go straight into
//! files, past the journal and the memtables, several times as fast as batches do. It bears its name only when it is whole
//! and on the disk: killed at any moment, there is no store, and the next one begins anew.
//!
//! Older versions of the engine lost sight of such rows at the next opening (fjall-rs/fjall#265): a test here opens them again,
//! and writes over them.

use std::path::{Path, PathBuf};

use fjall::{PersistMode, UserKey, UserValue};

use super::damage::{Damage, mark_of};
use super::files::{LOADED, beside, remove, sync_parent};
use super::{Kept, KeptRows, Row, Store, StoreError, Table};

/// A store on its way. Dropped before it is finished, it is gone.
pub struct Load {
    /// `None` only while it is let go.
    store: Option<Store>,
    part: PathBuf,
    whole: PathBuf,
}

impl Load {
    /// Where there is nothing yet. What one that was killed has left is deleted first.
    pub fn begin(path: &Path) -> Result<Self, StoreError> {
        let whole = path.to_owned();
        if path.exists() {
            return Err(StoreError::Open {
                path: whole,
                reason: "there is something under this name already".to_owned(),
            });
        }
        let part = beside(path, LOADED);
        forget(&part)?;
        Ok(Self { store: Some(Store::open(&part)?), part, whole })
    }

    /// What has been loaded so far.
    #[must_use]
    pub fn store(&self) -> Option<&Store> {
        self.store.as_ref()
    }

    /// Fills a table that has no rows, with keys that grow. Answers with how many there were.
    pub fn table<E: From<StoreError>>(&self, name: &str, rows: impl Iterator<Item = Result<Row, E>>) -> Result<u64, E> {
        let Some(store) = &self.store else { return Ok(0) };
        let table = store.table(name)?;
        let mut filling = table.fill(name)?;
        for row in rows {
            let (key, value) = row?;
            filling.row(key, value)?;
        }
        Ok(filling.finish()?)
    }

    /// Only now it bears its name.
    pub fn finish(mut self) -> Result<(), StoreError> {
        if let Some(Store { kept: Kept::OnDisk(db, _), .. }) = &self.store {
            db.persist(PersistMode::SyncAll)?;
        }
        self.store = None; // whoever renames it must have closed it
        std::fs::rename(&self.part, &self.whole)
            .and_then(|()| sync_parent(&self.whole))
            .map_err(|e| fjall::Error::from(e).into())
    }
}

/// Takes a row, or the end. (The engine's own type for it has no name outside.)
type Ingestion<'a> = Box<dyn FnMut(Option<Row>) -> fjall::Result<()> + 'a>;

/// A table that is being filled. What is written can be read once it is finished.
pub(super) struct Filling<'a> {
    name: String,
    rows: Ingestion<'a>,
    damage: &'a Damage,
    last: Option<UserKey>,
    count: u64,
}

impl Table {
    /// It has no rows.
    pub(super) fn fill(&self, name: &str) -> Result<Filling<'_>, StoreError> {
        let KeptRows::OnDisk(keyspace, damage) = &self.0 else {
            return Err(StoreError::Damaged("a store in memory is not filled".to_owned()));
        };
        let mut begun = Some(keyspace.start_ingestion().map_err(|e| damage.heed(e))?);
        let rows = Box::new(move |row: Option<Row>| match row {
            Some((key, value)) => begun.as_mut().map_or(Ok(()), |rows| rows.write(key, value)),
            None => begun.take().map_or(Ok(()), |rows| rows.finish()),
        });
        Ok(Filling { name: name.to_owned(), rows, damage, last: None, count: 0 })
    }
}

impl Filling<'_> {
    /// Behind all others.
    pub fn row(&mut self, key: UserKey, value: UserValue) -> Result<(), StoreError> {
        // The engine would panic.
        if self.last.as_ref().is_some_and(|last| key <= *last) {
            return Err(StoreError::Damaged(format!("the rows of the table {} are not in order", self.name)));
        }
        self.last = Some(key.clone());
        (self.rows)(Some((key, value))).map_err(|e| self.damage.heed(e))?;
        self.count += 1;
        Ok(())
    }

    pub fn finish(mut self) -> Result<u64, StoreError> {
        (self.rows)(None).map_err(|e| self.damage.heed(e))?;
        Ok(self.count)
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.store = None;
        if let Err(error) = forget(&self.part) {
            tracing::warn!(part = %self.part.display(), %error, "a store that did not become whole is left behind");
        }
    }
}

fn forget(part: &Path) -> Result<(), StoreError> {
    remove(part)
        .and_then(|()| match std::fs::remove_file(mark_of(part)) {
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(()),
            done => done,
        })
        .map_err(|e| fjall::Error::from(e).into())
}
