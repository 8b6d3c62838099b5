use super::offset_at;
use crate::journal::embedded::EmbeddedJournal;
use crate::journal::{Journal, NewRecord, Offset, Partition, Position, Reader};
use crate::payment::Timestamp;

#[test]
fn the_first_record_of_a_time_is_found() {
    let directory = tempfile::tempdir().unwrap();
    let log = EmbeddedJournal::open(&directory.path().join("journal"), 1).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    assert_eq!(offset_at(log.as_ref(), Partition(0), Timestamp::MIN).unwrap(), Offset(0));
    for _ in 0..20 {
        let record = NewRecord { partition: Partition(0), key: Vec::new(), headers: Vec::new(), value: vec![1] };
        runtime.block_on(log.append(record)).unwrap();
    }
    let taken = |offset| log.read(Position::new(Partition(0), Offset(offset))).unwrap().unwrap().appended_at_us;
    for offset in 0..20 {
        let found = offset_at(log.as_ref(), Partition(0), Timestamp::from_micros(taken(offset)).unwrap()).unwrap();
        assert!(taken(found.0) == taken(offset) && (found.0 == 0 || taken(found.0 - 1) < taken(offset)), "{found}");
    }
    assert_eq!(offset_at(log.as_ref(), Partition(0), Timestamp::MAX).unwrap(), Offset(20));
}
