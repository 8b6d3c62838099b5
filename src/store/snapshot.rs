//! All rows of a store as they were at one moment, to be read at leisure.

use std::collections::BTreeMap;
use std::sync::Arc;

use fjall::Readable;

use super::damage::Damage;
use super::memory::Memory;
use super::{Kept, KeptRows, Range, Row, Store, StoreError};

/// What is written since is not in it. On disk it keeps old rows from being let go: hold it for minutes, not for days.
pub struct Snapshot(Kind);

enum Kind {
    OnDisk { snapshot: fjall::Snapshot, tables: BTreeMap<String, fjall::Keyspace>, damage: Arc<Damage> },
    InMemory(Memory),
}

impl Store {
    /// Of every table that it has, opened before or not. Of a batch that is being written it may have some rows and not
    /// others: hold the writer still.
    pub fn snapshot(&self) -> Result<Snapshot, StoreError> {
        let (db, damage) = match &self.kept {
            Kept::OnDisk(db, damage) => (db, damage),
            Kept::InMemory(memory) => return Ok(Snapshot(Kind::InMemory(memory.copy()))),
        };
        let mut tables = BTreeMap::new();
        for name in db.list_keyspace_names() {
            if let KeptRows::OnDisk(rows, _) = self.table(&name)?.0 {
                tables.insert(name.to_string(), rows);
            }
        }
        Ok(Snapshot(Kind::OnDisk { snapshot: db.snapshot(), tables, damage: Arc::clone(damage) }))
    }
}

impl Snapshot {
    /// In order.
    #[must_use]
    pub fn tables(&self) -> Vec<String> {
        match &self.0 {
            Kind::OnDisk { tables, .. } => tables.keys().cloned().collect(),
            Kind::InMemory(memory) => memory.names(),
        }
    }

    /// `None` too if there is no such table.
    pub fn get(&self, table: &str, key: &[u8]) -> Result<Option<fjall::UserValue>, StoreError> {
        match &self.0 {
            Kind::OnDisk { snapshot, tables, damage } => match tables.get(table) {
                Some(rows) => Ok(snapshot.get(rows, key).map_err(|e| damage.heed(e))?),
                None => Ok(None),
            },
            Kind::InMemory(memory) => Ok(memory.table(table).get(key)),
        }
    }

    /// Rows with `from <= key < to`, in order; none if there is no such table.
    pub fn range(
        &self,
        table: &str,
        from: &[u8],
        to: &[u8],
    ) -> impl DoubleEndedIterator<Item = Result<Row, StoreError>> + use<> {
        match &self.0 {
            Kind::OnDisk { snapshot, tables, damage } => match tables.get(table) {
                Some(rows) => Range::OnDisk(snapshot.range(rows, from.to_vec()..to.to_vec()), Arc::clone(damage)),
                None => Range::InMemory(Vec::new().into_iter()),
            },
            Kind::InMemory(memory) => Range::InMemory(memory.table(table).range(from, to)),
        }
    }
}
