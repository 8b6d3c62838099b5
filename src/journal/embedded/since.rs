//! Where the log stood at a time: every offset is a record, and their times grow, so a bisection finds it.

use super::Tables;
use crate::journal::{JournalError, Offset, Partition, Position};

/// See [`Reader::first_since`](crate::journal::Reader::first_since).
pub(super) fn first(tables: &Tables, ends: &[Offset], taken_us: i64) -> Result<Vec<Offset>, JournalError> {
    let of_partition = |(end, p): (&Offset, u32)| {
        let (mut low, mut high) = (0, end.0);
        while low < high {
            let middle = low + (high - low) / 2;
            let record = tables.read(Position::new(Partition(p), Offset(middle)))?;
            match record {
                Some(record) if record.appended_at_us < taken_us => low = middle + 1,
                _ => high = middle,
            }
        }
        Ok(Offset(low))
    };
    ends.iter().zip(0..).map(of_partition).collect()
}

#[cfg(test)]
mod tests {
    use crate::journal::embedded::EmbeddedJournal;
    use crate::journal::{Journal, NewRecord, Offset, Partition, Position, Reader};

    #[test]
    fn the_first_record_of_a_time_is_found() {
        let directory = tempfile::tempdir().unwrap();
        let log = EmbeddedJournal::open(&directory.path().join("journal"), 2).unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let first = |taken_us| log.first_since(taken_us).unwrap();
        assert_eq!(first(i64::MIN), [Offset(0), Offset(0)]);
        for _ in 0..20 {
            let record = NewRecord { partition: Partition(1), key: Vec::new(), headers: Vec::new(), value: vec![1] };
            runtime.block_on(log.append(record)).unwrap();
        }
        let taken = |offset| log.read(Position::new(Partition(1), Offset(offset))).unwrap().unwrap().appended_at_us;
        for offset in 0..20 {
            let found = first(taken(offset))[1].0;
            assert!(taken(found) == taken(offset) && (found == 0 || taken(found - 1) < taken(offset)), "{found}");
        }
        assert_eq!(first(i64::MAX), [Offset(0), Offset(20)]);
    }
}
