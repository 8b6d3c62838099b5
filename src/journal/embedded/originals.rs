//! Copies of records with all that they have: what an archive is made of, and what a log is restored from. An empty key or
//! value and none are the same to this engine: it keeps them as empty.

use std::collections::VecDeque;
use std::sync::Arc;

use super::{StoredRecord, Tables, broken, offset_of};
use crate::journal::{Header, JournalError, NewRecord, Offset, Partition, Position, SourceRecord};

/// Rows that are read at once: no iterator over the store is held while its taker is busy.
const READ_MAX: usize = 1_000;

pub(super) struct EmbeddedOriginals {
    tables: Arc<Tables>,
    partition: Partition,
    next: Offset,
    to: Offset,
    read: VecDeque<SourceRecord>,
}

impl EmbeddedOriginals {
    pub(super) fn new(tables: Arc<Tables>, partition: Partition, from: Offset, to: Offset) -> Self {
        Self { tables, partition, next: from, to, read: VecDeque::new() }
    }

    fn read(&mut self) -> Result<(), JournalError> {
        let table = &self.tables.partitions[self.partition.0 as usize];
        for row in table.range(&self.next.0.to_be_bytes(), &self.to.0.to_be_bytes()).take(READ_MAX) {
            let (key, value) = row.map_err(broken)?;
            let position = Position::new(self.partition, offset_of(&key).map_err(broken)?);
            self.read.push_back(decode(position, &value)?);
            self.next = position.offset.next();
        }
        Ok(())
    }
}

impl Iterator for EmbeddedOriginals {
    type Item = Result<SourceRecord, JournalError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.read.is_empty()
            && self.next < self.to
            && let Err(error) = self.read()
        {
            self.next = self.to;
            return Some(Err(error));
        }
        self.read.pop_front().map(Ok)
    }
}

fn decode(position: Position, row: &[u8]) -> Result<SourceRecord, JournalError> {
    let unreadable = |e| JournalError::Broken(format!("the record at {position} cannot be read: {e}"));
    let (stored, rest): (StoredRecord<'_>, _) = postcard::take_from_bytes(row).map_err(unreadable)?;
    let headers: Vec<(String, &serde_bytes::Bytes)> = postcard::from_bytes(rest).map_err(unreadable)?;
    let headers: Vec<Header> = headers.into_iter().map(|(name, value)| (name, Some(value.to_vec()))).collect();
    Ok(SourceRecord {
        position,
        timestamp_us: stored.appended_at_us,
        key: Some(stored.key.to_vec()),
        headers: Some(headers),
        value: Some(stored.value.to_vec()),
    })
}

/// As this engine keeps it.
pub(super) fn new_record(record: &SourceRecord) -> NewRecord {
    let headers = record.headers().iter().map(|(name, value)| (name.clone(), value.clone().unwrap_or_default()));
    NewRecord {
        partition: record.position.partition,
        key: record.key.clone().unwrap_or_default(),
        headers: headers.collect(),
        value: record.value.clone().unwrap_or_default(),
    }
}

#[cfg(test)]
mod tests {
    use crate::journal::embedded::EmbeddedJournal;
    use crate::journal::{Journal, NewRecord, Offset, Partition, Position, Reader, SourceRecord};

    fn originals(journal: &EmbeddedJournal, from: u64, to: u64) -> Vec<SourceRecord> {
        journal.originals(Partition(1), Offset(from), Offset(to)).unwrap().map(Result::unwrap).collect()
    }

    #[tokio::test]
    async fn what_is_restored_is_what_was_there_with_its_headers_and_its_time() {
        let directory = tempfile::tempdir().unwrap();
        let open = |name| EmbeddedJournal::open(&directory.path().join(name), 2).unwrap();
        let (ours, theirs) = (open("ours"), open("theirs"));
        for n in 0..2_500_u32 {
            let headers = vec![("ce_id".to_owned(), n.to_be_bytes().to_vec()), ("empty".to_owned(), Vec::new())];
            let record = NewRecord { partition: Partition(1), key: vec![1, 2], headers, value: vec![n as u8; 3] };
            drop(theirs.append(record));
        }
        while theirs.ends(Partition(1)).unwrap().committed < Offset(2_500) {
            tokio::task::yield_now().await;
        }
        let all = originals(&theirs, 0, 9_999);
        assert_eq!(all.len(), 2_500);
        assert_eq!(all[1_001].position, Position::new(Partition(1), Offset(1_001)));
        assert_eq!(all[7].headers()[0].1.as_deref(), Some(&7_u32.to_be_bytes()[..]));
        assert_eq!(originals(&theirs, 3, 5), all[3..5]);
        let old = SourceRecord { timestamp_us: 1_700_000_000_000_001, ..all[0].clone() };
        assert_eq!(ours.restore(&old).await.unwrap(), Position::new(Partition(1), Offset(0)));
        assert_eq!(originals(&ours, 0, 1), [old]);
        let at = ours.read(Position::new(Partition(1), Offset(0))).unwrap().unwrap().appended_at_us;
        assert_eq!(at, 1_700_000_000_000_001, "the fold sees the time at which the first log took it");
    }
}
