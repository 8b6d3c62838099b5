//! Rows of one table, decoded while a batch is folded: each is read once and written once, however many events it is folded
//! from.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::absent::Absent;
use super::rows::{decode, encode};
use crate::store::{Batch, Row, StoreError, Table};

pub struct Kept<V> {
    table: Table,
    absent: Absent,
    /// In the order of the table, in which it takes them fastest.
    rows: BTreeMap<Vec<u8>, Option<V>>,
}

impl<V: Serialize + DeserializeOwned> Kept<V> {
    /// From now on nobody else may write to the table.
    #[must_use]
    pub fn new(table: Table) -> Self {
        Self { absent: Absent::of(&table), table, rows: BTreeMap::new() }
    }

    /// The row at `key`, to be changed: what is left there is written by [`Kept::flush`], and `None` removes it.
    pub fn row(&mut self, key: &[u8]) -> Result<&mut Option<V>, StoreError> {
        match self.rows.entry(key.to_vec()) {
            Entry::Occupied(row) => Ok(row.into_mut()),
            Entry::Vacant(place) if self.absent.is_absent(key) => Ok(place.insert(None)),
            Entry::Vacant(place) => {
                let stored = self.table.get(key)?.map(|bytes| decode(&bytes)).transpose()?;
                Ok(place.insert(stored))
            }
        }
    }

    /// Writes every row that was asked for, and lets them go: until the batch is committed no other may be asked for.
    pub fn flush(&mut self, batch: &mut Batch) -> Result<(), StoreError> {
        for (key, row) in std::mem::take(&mut self.rows) {
            match row {
                Some(row) => {
                    batch.insert(&self.table, &key, &encode(&row)?);
                    self.absent.add(&key);
                }
                None => batch.remove(&self.table, &key),
            }
        }
        Ok(())
    }
}

/// The rows of a table with `from <= key < to`, decoded, as they are in the store.
pub fn read<V: DeserializeOwned>(
    table: &Table,
    from: &[u8],
    to: &[u8],
) -> impl Iterator<Item = Result<(Vec<u8>, V), StoreError>> + use<V> {
    let parse = |row: Result<Row, StoreError>| row.and_then(|(key, value)| Ok((key.to_vec(), decode(&value)?)));
    table.range(from, to).map(parse)
}
