//! The same store in memory: for what need not outlive its process. The simulation opens thousands of them, and copies one
//! as it was, which is what a crash or a backup leaves behind.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::{Arc, Mutex};

use super::Row;

use crate::lock::lock;

#[derive(Default)]
pub(super) struct Memory {
    tables: Mutex<BTreeMap<String, Rows>>,
}

/// The rows of one table. All clones are the same table.
#[derive(Clone, Default)]
pub(super) struct Rows(Arc<Mutex<BTreeMap<fjall::UserKey, fjall::UserValue>>>);

impl Memory {
    pub fn table(&self, name: &str) -> Rows {
        lock(&self.tables).entry(name.to_owned()).or_default().clone()
    }

    pub fn names(&self) -> Vec<String> {
        lock(&self.tables).keys().cloned().collect()
    }

    pub fn copy(&self) -> Self {
        let copy = |(name, rows): (&String, &Rows)| {
            let rows = lock(&rows.0).clone();
            (name.clone(), Rows(Arc::new(Mutex::new(rows))))
        };
        Self { tables: Mutex::new(lock(&self.tables).iter().map(copy).collect()) }
    }
}

impl Rows {
    pub fn get(&self, key: &[u8]) -> Option<fjall::UserValue> {
        lock(&self.0).get(key).cloned()
    }

    /// As they are now: what is written later is not among them.
    pub fn range(&self, from: &[u8], to: &[u8]) -> std::vec::IntoIter<Row> {
        if from >= to {
            return Vec::new().into_iter();
        }
        let rows = lock(&self.0);
        let range = rows.range::<[u8], _>((Bound::Included(from), Bound::Excluded(to)));
        range.map(|(key, value)| (key.clone(), value.clone())).collect::<Vec<_>>().into_iter()
    }

    /// `None` removes the row.
    pub fn write(&self, rows: impl Iterator<Item = (fjall::UserKey, Option<fjall::UserValue>)>) {
        let mut table = lock(&self.0);
        for (key, value) in rows {
            match value {
                Some(value) => table.insert(key, value),
                None => table.remove(&key),
            };
        }
    }

    pub fn is(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}
