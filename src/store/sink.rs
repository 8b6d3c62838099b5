//! Where batches go that make up whole tables: nothing is read of them in between, so they need no journal and no memtables.
//! Rows of a table that come in the order of their keys go straight to its files; those of the others are sorted first.

use std::path::{Path, PathBuf};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::thread;
use std::time::Duration;

use super::load::Filling;
use super::sorter::failed;
use super::{Batch, Merge, Row, Sorter, StoreError, Table};
use crate::priority::worked;

/// Batches of sorted rows that wait to be written.
const AHEAD_MAX: usize = 4;

/// Rows for tables that have none. Each row is written once, and none is removed.
pub struct Sink<'a> {
    tables: Vec<Into<'a>>,
    /// For the runs of those that have to be sorted.
    directory: PathBuf,
    run_bytes: usize,
}

struct Into<'a> {
    name: &'a str,
    table: &'a Table,
    /// Once there is a row.
    filled: Option<By<'a>>,
}

enum By<'a> {
    Order(Filling<'a>),
    Sorting(Sorter),
}

impl<'a> Sink<'a> {
    /// Into `tables`, by name. What is sorted is sorted in `directory`; of each table up to three times `run_bytes` are in memory.
    pub fn new(tables: &'a [(String, Table)], directory: &Path, run_bytes: usize) -> Result<Self, StoreError> {
        Sorter::discard(directory)?;
        let tables = tables.iter().map(|(name, table)| Into { name, table, filled: None }).collect();
        Ok(Self { tables, directory: directory.to_owned(), run_bytes })
    }

    /// The rows of tables that are `ordered` come in the order of their keys, over all batches.
    pub fn take(&mut self, batch: Batch, ordered: &[&str]) -> Result<(), StoreError> {
        let places: Vec<Option<usize>> =
            batch.tables.iter().map(|of| self.tables.iter().position(|into| into.table.is(of))).collect();
        for write in batch.writes {
            let (Some(into), Some(value)) = (places[write.table].map(|place| &mut self.tables[place]), write.value)
            else {
                return Err(StoreError::Damaged("a row that is not to be loaded".to_owned()));
            };
            if into.filled.is_none() {
                into.filled = Some(if ordered.contains(&into.name) {
                    By::Order(into.table.fill(into.name)?)
                } else {
                    By::Sorting(Sorter::open(&self.directory.join(into.name), self.run_bytes)?.0)
                });
            }
            match into.filled.as_mut() {
                Some(By::Order(filling)) => filling.row(write.key, value)?,
                Some(By::Sorting(sorter)) => {
                    sorter.push(&write.key, &[&value]);
                    if sorter.is_full() {
                        sorter.rotate(Vec::new())?;
                    }
                }
                None => {}
            }
        }
        Ok(())
    }

    /// Rows that have to be sorted.
    #[must_use]
    pub fn unsorted(&self) -> u64 {
        let rows = |into: &Into<'_>| match &into.filled {
            Some(By::Sorting(sorter)) => sorter.rows(),
            _ => 0,
        };
        self.tables.iter().map(rows).sum()
    }

    /// Has all rows in their tables. `after` is told how many rows that had to be sorted were written since it was last told, and
    /// how long that took, and says whether to go on.
    pub fn finish(self, batch_max: usize, after: &mut dyn FnMut(u64, Duration) -> bool) -> Result<bool, StoreError> {
        for Into { name, table, filled } in self.tables {
            match filled {
                None => {}
                Some(By::Order(filling)) => drop(filling.finish()?),
                Some(By::Sorting(mut sorter)) => {
                    let merge = sorter.merge(&[])?;
                    if !fill(table.fill(name)?, merge, batch_max, after)? {
                        return Ok(false);
                    }
                }
            }
        }
        Sorter::discard(&self.directory)?;
        Ok(true)
    }
}

/// One thread merges, this one writes.
fn fill(
    mut filling: Filling<'_>,
    merge: Merge,
    batch_max: usize,
    after: &mut dyn FnMut(u64, Duration) -> bool,
) -> Result<bool, StoreError> {
    let (sender, batches) = sync_channel(AHEAD_MAX);
    let whole = thread::scope(|scope| {
        let merging = move || read(merge, batch_max, &sender);
        thread::Builder::new().name("sort-merge".to_owned()).spawn_scoped(scope, merging).map_err(failed)?;
        for read in batches {
            let (before, (rows, so_far)) = (worked(), read?);
            let count = rows.len() as u64;
            for (key, value) in rows {
                filling.row(key, value)?;
            }
            if !after(count, so_far + worked() - before) {
                return Ok(false);
            }
        }
        Ok::<_, StoreError>(true)
    })?;
    if whole {
        filling.finish()?;
    }
    Ok(whole)
}

/// To the end, or until nobody takes the rows any more.
fn read(mut merge: Merge, batch_max: usize, batches: &SyncSender<Result<(Vec<Row>, Duration), StoreError>>) {
    loop {
        let (before, mut rows) = (worked(), Vec::with_capacity(batch_max));
        let read = loop {
            match merge.next() {
                Ok(Some((key, value))) => rows.push((key.into(), value.into())),
                Ok(None) => break Ok(rows),
                Err(error) => break Err(error),
            }
            if rows.len() == batch_max {
                break Ok(rows);
            }
        };
        let ended = read.as_ref().map_or(true, |rows| rows.len() < batch_max);
        if batches.send(read.map(|rows| (rows, worked() - before))).is_err() || ended {
            return;
        }
    }
}
