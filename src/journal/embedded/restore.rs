//! Records of other logs, as this engine keeps them. An empty key or value and none are the same to it: it keeps them as
//! empty.

use crate::journal::{NewRecord, SourceRecord};

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
        let all = originals(&theirs, 0, 2_500);
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
