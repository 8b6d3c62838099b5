//! The embedded key-value store under the projections and under the embedded log: fjall, with our settings and our errors.
//! Rows and offsets that go into one [`Batch`] are there together or not at all, whatever kills the process.
//!
//! A store may be kept in memory instead, with the same promises but that nothing outlives it.

mod damage;
mod error;
mod files;
mod load;
mod memory;
mod runs;
mod sink;
#[cfg(test)]
pub(crate) mod small_disk;
mod snapshot;
mod sorter;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use damage::{Damage, is_damage, mark_of};
use files::Found;
use fjall::{Database, KeyspaceCreateOptions, PersistMode};
use memory::{Memory, Rows};

pub use error::StoreError;
pub use files::{beside, write_whole};
pub use load::Load;
pub use runs::Merge;
pub use sink::Sink;
pub use snapshot::Snapshot;
pub use sorter::Sorter;

/// Journal kept before memtables are flushed, in bytes: what has to be read again at a reopen (0.3 s; 3 s with the default).
const JOURNAL_MAX: u64 = 128 * 1024 * 1024;
/// One table's rows in memory before they are written out, in bytes.
const MEMTABLE_MAX: u64 = 16 * 1024 * 1024;
/// Threads that write memtables out and merge tables. With two or more, fjall 3.1 has one of them ask over and over, as fast as
/// it can, whether there is a memtable to write while the others merge: a core that a rebuild needs (a fifth of all its work).
const WORKERS: usize = 1;
/// Blocks kept in memory for reads, in bytes, over all tables of a store.
const CACHE_MAX: u64 = 64 * 1024 * 1024;

/// One directory, owned by one process; or the memory of one.
#[derive(Clone)]
pub struct Store {
    kept: Kept,
    memtable_max: u64,
    /// Those that were opened, by name.
    tables: Arc<Mutex<BTreeMap<String, Table>>>,
}

#[derive(Clone)]
enum Kept {
    OnDisk(Database, Arc<Damage>),
    InMemory(Arc<Memory>),
}

/// Whether a store is open: itself, a table, a batch or a reader of it.
pub struct Open(Weak<dyn std::any::Any + Send + Sync>);

impl Open {
    /// As long as this is held.
    #[must_use]
    pub fn of<T: Send + Sync + 'static>(held: &Arc<T>) -> Self {
        Self(Arc::downgrade(held) as _)
    }

    #[must_use]
    pub fn is_open(&self) -> bool {
        self.0.strong_count() > 0
    }
}

/// A named set of rows, ordered by key.
#[derive(Clone)]
pub struct Table(KeptRows);

#[derive(Clone)]
enum KeptRows {
    OnDisk(fjall::Keyspace, Arc<Damage>),
    InMemory(Rows),
}

/// Writes that take effect together. Of two for one key the later counts. A reader that comes in the middle may see some of
/// them before the others: never those of a table before those of the tables that were written to earlier in the batch.
pub struct Batch {
    store: Store,
    /// In the order of their first write.
    tables: Vec<Table>,
    writes: Vec<Write>,
}

struct Write {
    /// Its place in [`Batch::tables`].
    table: usize,
    key: fjall::UserKey,
    /// `None` removes the row.
    value: Option<fjall::UserValue>,
}

/// A row as it was read.
pub type Row = (fjall::UserKey, fjall::UserValue);

impl Store {
    /// What a [`Store::discard`] or a [`Load`] that was killed has left is deleted first. A store that was marked as damaged
    /// stays shut.
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        Self::open_with(path, MEMTABLE_MAX)
    }

    /// With another bound than [`MEMTABLE_MAX`].
    pub(crate) fn open_with(path: &Path, memtable_max: u64) -> Result<Self, StoreError> {
        let damage = Damage::of(path);
        if damage.is_met() {
            let mark = mark_of(path);
            return Err(StoreError::Damaged(format!("{} says so: delete it when all is restored", mark.display())));
        }
        let shut = |error: fjall::Error| match StoreError::from(error) {
            StoreError::Failed(error) => StoreError::Open { path: path.to_owned(), reason: error.to_string() },
            error => error,
        };
        files::sweep(path).map_err(|e| shut(e.into()))?;
        match Found::at(path).map_err(|e| shut(e.into()))? {
            Found::Store => {}
            Found::Nothing => files::make(path).map_err(shut)?,
            Found::Damaged => return Err(StoreError::Damaged(format!("{} has lost its marker", path.display()))),
            Found::Foreign(found) => return Err(foreign(path, "a store", found)),
        }
        // It asserts on what it reads, too.
        let opened = std::panic::catch_unwind(|| {
            let settings = Database::builder(path).max_journaling_size(JOURNAL_MAX).cache_size(CACHE_MAX);
            settings.worker_threads(WORKERS).open()
        });
        match opened {
            Ok(Ok(db)) => Ok(Self { memtable_max, ..Self::new(Kept::OnDisk(db, Arc::new(damage))) }),
            Ok(Err(fjall::Error::Locked)) => Err(StoreError::Locked(path.to_owned())),
            Ok(Err(e)) if is_damage(&e) => Err(StoreError::Damaged(format!("{}: {e}", path.display()))),
            Ok(Err(e)) => Err(shut(e)),
            Err(_) => Err(StoreError::Damaged(format!("{} cannot be read", path.display()))),
        }
    }

    fn new(kept: Kept) -> Self {
        Self { kept, memtable_max: MEMTABLE_MAX, tables: Arc::default() }
    }

    /// Has anything that was read of it turned out not to be what was written? Then it is marked, and must be let go.
    #[must_use]
    pub fn is_damaged(&self) -> bool {
        matches!(&self.kept, Kept::OnDisk(_, damage) if damage.is_met())
    }

    /// Outlives it, and says whether anyone still has it open.
    #[must_use]
    pub fn open_state(&self) -> Open {
        Open(match &self.kept {
            Kept::OnDisk(_, damage) => Arc::downgrade(damage) as _,
            Kept::InMemory(memory) => Arc::downgrade(memory) as _,
        })
    }

    /// Deletes a store that nobody has open, with all that was left of its deletion before; one that is not there is no error.
    /// Killed at any moment, it is there whole or not at all: a store of which half the files are gone might still open, and
    /// answer.
    pub fn discard(path: &Path) -> Result<(), StoreError> {
        files::discard(path).map_err(|e| fjall::Error::from(e).into())
    }

    /// Refuses it if there are tables in it that are not `known`: it is something else than `expected`, then.
    pub fn holds_only(&self, known: &dyn Fn(&str) -> bool, expected: &str) -> Result<(), StoreError> {
        let (names, path): (Vec<String>, _) = match &self.kept {
            Kept::OnDisk(db, damage) => {
                (db.list_keyspace_names().iter().map(ToString::to_string).collect(), damage.store())
            }
            Kept::InMemory(memory) => (memory.names(), Path::new("the store in memory")),
        };
        match names.into_iter().filter(|name| !known(name)).min() {
            Some(name) => Err(foreign(path, expected, format!("the table {name}"))),
            None => Ok(()),
        }
    }

    /// An empty one, gone with its last clone.
    #[must_use]
    pub fn in_memory() -> Self {
        Self::new(Kept::InMemory(Arc::default()))
    }

    /// A store in memory as it is now, apart from this one; `None` if this one is on disk, where that is a matter of files.
    #[must_use]
    pub fn copy(&self) -> Option<Self> {
        match &self.kept {
            Kept::OnDisk(..) => None,
            Kept::InMemory(memory) => Some(Self::new(Kept::InMemory(Arc::new(memory.copy())))),
        }
    }

    pub fn table(&self, name: &str) -> Result<Table, StoreError> {
        let options = || KeyspaceCreateOptions::default().max_memtable_size(self.memtable_max);
        let table = Table(match &self.kept {
            Kept::OnDisk(db, damage) => {
                let rows = db.keyspace(name, options).map_err(|e| damage.heed(e))?;
                KeptRows::OnDisk(rows, Arc::clone(damage))
            }
            Kept::InMemory(memory) => KeptRows::InMemory(memory.table(name)),
        });
        self.tables.lock().unwrap_or_else(PoisonError::into_inner).insert(name.to_owned(), table.clone());
        Ok(table)
    }

    /// Every table that was opened, by name.
    #[must_use]
    pub fn tables(&self) -> Vec<(String, Table)> {
        let tables = self.tables.lock().unwrap_or_else(PoisonError::into_inner);
        tables.iter().map(|(name, table)| (name.clone(), table.clone())).collect()
    }

    /// Has all rows of the tables that are open in files, as those of a store that has grown are.
    #[cfg(test)]
    pub(crate) fn write_out(&self) {
        for (_, table) in self.tables() {
            if let KeptRows::OnDisk(rows, _) = &table.0 {
                rows.rotate_memtable_and_wait().unwrap();
            }
        }
    }

    #[must_use]
    pub fn batch(&self) -> Batch {
        Batch { store: self.clone(), tables: Vec::new(), writes: Vec::new() }
    }
}

fn foreign(path: &Path, expected: &str, found: String) -> StoreError {
    StoreError::Foreign { path: path.to_owned(), expected: expected.to_owned(), found }
}

impl Table {
    pub fn get(&self, key: &[u8]) -> Result<Option<fjall::UserValue>, StoreError> {
        match &self.0 {
            KeptRows::OnDisk(rows, damage) => Ok(rows.get(key).map_err(|e| damage.heed(e))?),
            KeptRows::InMemory(rows) => Ok(rows.get(key)),
        }
    }

    /// Rows with `from <= key < to`, in order; from the other end with `.rev()`.
    pub fn range(&self, from: &[u8], to: &[u8]) -> impl DoubleEndedIterator<Item = Result<Row, StoreError>> + use<> {
        match &self.0 {
            KeptRows::OnDisk(rows, damage) => Range::OnDisk(rows.range(from.to_vec()..to.to_vec()), Arc::clone(damage)),
            KeptRows::InMemory(rows) => Range::InMemory(rows.range(from, to)),
        }
    }

    fn is(&self, other: &Self) -> bool {
        match (&self.0, &other.0) {
            (KeptRows::OnDisk(one, _), KeptRows::OnDisk(other, _)) => one.id() == other.id(),
            (KeptRows::InMemory(one), KeptRows::InMemory(other)) => one.is(other),
            (KeptRows::OnDisk(..), KeptRows::InMemory(_)) | (KeptRows::InMemory(_), KeptRows::OnDisk(..)) => false,
        }
    }
}

enum Range {
    OnDisk(fjall::Iter, Arc<Damage>),
    InMemory(std::vec::IntoIter<Row>),
}

impl Iterator for Range {
    type Item = Result<Row, StoreError>;

    fn next(&mut self) -> Option<Self::Item> {
        match self {
            Self::OnDisk(rows, damage) => rows.next().map(|row| Ok(row.into_inner().map_err(|e| damage.heed(e))?)),
            Self::InMemory(rows) => rows.next().map(Ok),
        }
    }
}

impl DoubleEndedIterator for Range {
    fn next_back(&mut self) -> Option<Self::Item> {
        match self {
            Self::OnDisk(rows, damage) => {
                rows.next_back().map(|row| Ok(row.into_inner().map_err(|e| damage.heed(e))?))
            }
            Self::InMemory(rows) => rows.next_back().map(Ok),
        }
    }
}

impl Batch {
    pub fn insert(&mut self, table: &Table, key: &[u8], value: &[u8]) {
        let table = self.place_of(table);
        self.writes.push(Write { table, key: key.into(), value: Some(value.into()) });
    }

    pub fn remove(&mut self, table: &Table, key: &[u8]) {
        let table = self.place_of(table);
        self.writes.push(Write { table, key: key.into(), value: None });
    }

    /// A batch writes to a handful of tables.
    fn place_of(&mut self, table: &Table) -> usize {
        let place = self.tables.iter().position(|known| known.is(table));
        place.unwrap_or_else(|| {
            self.tables.push(table.clone());
            self.tables.len() - 1
        })
    }

    /// Survives the death of the process, but not that of the machine: for what can be folded again.
    pub fn commit(self) -> Result<(), StoreError> {
        self.commit_to(PersistMode::Buffer)
    }

    /// On the disk (fdatasync) when this returns.
    pub fn commit_synced(self) -> Result<(), StoreError> {
        self.commit_to(PersistMode::SyncData)
    }

    /// A table takes neighbours, one after the other, in half the time that it takes for keys here and there: its way to
    /// each is still in the processor's cache. But table after table, as the batch promises.
    fn commit_to(mut self, durability: PersistMode) -> Result<(), StoreError> {
        self.writes.sort_by(|a, b| (a.table, &a.key).cmp(&(b.table, &b.key)));
        match self.store.kept.clone() {
            Kept::OnDisk(db, damage) => self.write_to(db, durability).map_err(|e| damage.heed(e).into()),
            Kept::InMemory(_) => {
                self.write_to_memory();
                Ok(())
            }
        }
    }

    fn write_to(self, db: Database, durability: PersistMode) -> Result<(), fjall::Error> {
        let batch = fjall::OwnedWriteBatch::with_capacity(db, self.writes.len());
        let mut batch = batch.durability(Some(durability));
        for Write { table, key, value } in self.writes {
            match (&self.tables[table].0, value) {
                (KeptRows::OnDisk(rows, _), Some(value)) => batch.insert(rows, key, value),
                (KeptRows::OnDisk(rows, _), None) => batch.remove(rows, key),
                (KeptRows::InMemory(_), _) => {} // a batch writes to tables of its own store
            }
        }
        batch.commit()
    }

    fn write_to_memory(self) {
        let mut writes = self.writes.into_iter().peekable();
        for (place, table) in self.tables.iter().enumerate() {
            let of_table = std::iter::from_fn(|| writes.next_if(|write| write.table == place));
            if let KeptRows::InMemory(rows) = &table.0 {
                rows.write(of_table.map(|write| (write.key, write.value)));
            }
        }
    }
}
