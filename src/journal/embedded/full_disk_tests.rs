//! A disk that is full, at each of many moments of a log: what was acknowledged is there when there is space again, what was
//! refused is not, and what was in doubt is there or not, with nothing in between.

use futures_util::future::join_all;

use super::{EmbeddedJournal, open_store};
use crate::journal::{AppendError, Journal, NewRecord, Offset, Partition, Position, Reader};
use crate::store::small_disk::SmallDisk;
use crate::store::{Store, StoreError};

const PARTITIONS: u32 = 2;
const DISK_MIB: usize = 16;
/// Between two of the moments at which the disk is full, in bytes.
const STEP: usize = 8 * 1024;
/// So small that much of the log is moved on to files of every kind.
const MEMTABLE: u64 = 16 * 1024;
const RECORDS: u32 = 600;
/// Appended at once, of which some share a batch.
const AT_ONCE: u32 = 5;

fn record(n: u32) -> NewRecord {
    let value = n.to_be_bytes().repeat(80);
    NewRecord { partition: Partition(n % PARTITIONS), key: n.to_be_bytes().to_vec(), headers: Vec::new(), value }
}

/// What became of each append.
struct Appended {
    acknowledged: Vec<(Position, u32)>,
    refused: Vec<u32>,
    in_doubt: Vec<u32>,
}

async fn append(journal: &EmbeddedJournal) -> Appended {
    let mut appended = Appended { acknowledged: Vec::new(), refused: Vec::new(), in_doubt: Vec::new() };
    for first in (0..RECORDS).step_by(AT_ONCE as usize) {
        let numbers = first..first + AT_ONCE;
        let answers = join_all(numbers.clone().map(|n| journal.append(record(n)))).await;
        for (answer, n) in answers.into_iter().zip(numbers) {
            match answer {
                Ok(position) => appended.acknowledged.push((position, n)),
                Err(AppendError::NotAppended(reason)) if says_so(&reason) => appended.refused.push(n),
                Err(AppendError::Unknown(reason)) if says_so(&reason) => appended.in_doubt.push(n),
                Err(error) => panic!("{error}"),
            }
        }
    }
    appended
}

fn says_so(reason: &str) -> bool {
    reason.contains("full") && reason.contains("start paylog again")
}

/// Each record on the log, by what it says.
fn read(journal: &EmbeddedJournal) -> Vec<(Position, u32)> {
    let mut all = Vec::new();
    for partition in (0..PARTITIONS).map(Partition) {
        let end = journal.ends(partition).unwrap().committed;
        for offset in (0..end.0).map(Offset) {
            let position = Position::new(partition, offset);
            let found = journal.read(position).unwrap().unwrap_or_else(|| panic!("a gap at {position}"));
            let n = u32::from_be_bytes(found.key.try_into().unwrap());
            assert_eq!(found.value, record(n).value, "{position}");
            all.push((position, n));
        }
    }
    all
}

fn open(store: Store, disk: &SmallDisk) -> Result<std::sync::Arc<EmbeddedJournal>, String> {
    EmbeddedJournal::open_in(store, &disk.path("log"), PARTITIONS).map_err(|error| error.to_string())
}

#[tokio::test]
#[ignore = "mounts a file system of its own: see CONTRIBUTING.md"]
async fn a_log_on_a_full_disk_keeps_what_it_acknowledged_and_nothing_that_it_refused() {
    let disk = SmallDisk::new(DISK_MIB);
    let (mut left, mut ended_full, mut in_doubt) = (0, 0, 0);
    loop {
        let path = disk.path("log");
        disk.fill(left);
        let opened = Store::open_with(&path, MEMTABLE).map_err(|e| e.to_string()).and_then(|store| open(store, &disk));
        let appended = match opened {
            Ok(journal) => Some(append(&journal).await),
            Err(reason) if says_so(&reason) => None,
            Err(reason) => panic!("{left} bytes left: {reason}"),
        };
        disk.make_space();
        let reopened = open(open_store(&path).unwrap(), &disk);
        let journal = reopened.unwrap_or_else(|reason| panic!("{left} bytes left: {reason}"));
        let there = read(&journal);
        if let Some(appended) = &appended {
            let Appended { acknowledged, refused, in_doubt } = appended;
            assert!(acknowledged.iter().all(|known| there.contains(known)), "{left} bytes left: a record is lost");
            let others = there.iter().filter(|found| !acknowledged.contains(found));
            let refused: Vec<_> = others.clone().filter(|(_, n)| refused.contains(n)).collect();
            assert!(refused.is_empty(), "{left} bytes left: there are {refused:?}");
            assert!(others.count() <= in_doubt.len(), "{left} bytes left: each is there once at most");
        }
        let next = journal.append(record(RECORDS)).await.unwrap();
        assert!(there.iter().all(|(position, _)| *position != next), "it goes on behind what is there");
        drop(journal);
        Store::discard(&path).unwrap();
        if appended.as_ref().is_some_and(|appended| appended.acknowledged.len() == RECORDS as usize) {
            break;
        }
        in_doubt += appended.map_or(0, |appended| appended.in_doubt.len());
        ended_full += 1;
        left += STEP;
    }
    assert!(ended_full > 10 && in_doubt > 10, "{ended_full} ended, {in_doubt} records in doubt");
}

#[test]
fn a_directory_of_something_else_is_refused_and_left_alone() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("journal");
    std::fs::create_dir(&path).unwrap();
    std::fs::write(path.join("PG_VERSION"), "17").unwrap();
    let text = EmbeddedJournal::open(&path, PARTITIONS).err().unwrap().to_string();
    assert!(text.contains("there is PG_VERSION in it") && text.contains("--data-dir"), "{text}");
    assert_eq!(std::fs::read_dir(&path).unwrap().count(), 1, "nothing was written");
    let rows = directory.path().join("payments@4");
    Store::open(&rows).unwrap().table("payments").unwrap();
    for refused in [EmbeddedJournal::open(&rows, PARTITIONS).err(), EmbeddedJournal::reader(&rows).err()] {
        let text = refused.unwrap().to_string();
        assert!(text.contains("is not a log, for there is the table payments in it"), "{text}");
    }
    assert!(matches!(open_store(&rows), Err(StoreError::Foreign { .. })));
}
