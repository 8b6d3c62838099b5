//! Where the rows of a store stand: of which log they are, how far it has been folded into them, and what was folded last.
//! Enough to be held against a log without the store.

use super::Offsets;
use super::error::FoldError;
use super::progress::{Folded, Last, Progress, SEAL, check_seal, compare_lasts, folded_key};
use super::rows::decode;
use crate::journal::{LogId, Offset, Partition, Position, Reader};
use crate::store::{Snapshot, StoreError};

/// Far more than a log can be made with.
const PARTITIONS_MAX: u32 = 100_000;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Standing {
    pub log: LogId,
    pub offsets: Offsets,
    /// Of each partition.
    pub lasts: Vec<Option<Last>>,
}

impl Standing {
    /// `None` if the rows are of no log yet. Damaged if the tables do not belong together.
    pub fn of(rows: &Snapshot) -> Result<Option<Self>, StoreError> {
        let Some(row) = rows.get("meta", b"log")? else { return Ok(None) };
        let (log, partitions): ([u8; 16], u32) = decode(&row)?;
        if partitions > PARTITIONS_MAX {
            return Err(StoreError::Damaged(format!("no log has {partitions} partitions")));
        }
        let (mut offsets, mut lasts) = (Offsets::start(partitions), Vec::new());
        for partition in (0..partitions).map(Partition) {
            let folded = rows.get("meta", &folded_key(partition))?.map(|bytes| decode(&bytes)).transpose()?;
            let Folded { next, last } = folded.unwrap_or_default();
            offsets.set(Position::new(partition, Offset(next)));
            lasts.push(last);
        }
        let sum: u64 = offsets.as_slice().iter().map(|next| next.0).sum();
        for table in rows.tables() {
            check_seal(&table, rows.get(&table, &SEAL)?.as_deref(), sum)?;
        }
        Ok(Some(Self { log: LogId(log), offsets, lasts }))
    }

    /// Nothing has been folded.
    #[must_use]
    pub fn is_at_the_start(&self) -> bool {
        self.offsets.as_slice().iter().all(|next| next.0 == 0)
    }

    /// Is it of this log, and has this log all of what was folded? Reads the last folded record of each partition again.
    /// Blocks.
    pub fn compare(&self, journal: &dyn Reader) -> Result<(), FoldError> {
        let partitions = self.offsets.as_slice().len();
        if self.log != journal.log_id() || partitions != journal.partitions() as usize {
            return Err(FoldError::OtherLog(format!("{}, with {partitions} partitions", self.log)));
        }
        within(&self.offsets, journal)?;
        compare_lasts(&self.lasts, journal)
    }
}

/// [`Progress::compare`], for rows that are opened: if a record is not there, is it all that the log has lost?
pub(super) fn compare(progress: &Progress, journal: &dyn Reader) -> Result<(), FoldError> {
    match progress.compare(journal) {
        Err(FoldError::Changed(position)) => {
            within(&progress.folded(), journal)?;
            Err(FoldError::Changed(position))
        }
        compared => compared,
    }
}

/// Has the log come as far? One that has not is an older copy, or has lost records.
fn within(folded: &Offsets, journal: &dyn Reader) -> Result<(), FoldError> {
    for next in folded.positions().filter(|next| next.offset.0 > 0) {
        let end = journal.ends(next.partition)?.committed;
        if end < next.offset {
            return Err(FoldError::Ahead(next, end));
        }
    }
    Ok(())
}
