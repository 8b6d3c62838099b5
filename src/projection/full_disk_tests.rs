//! A disk that is full, at each of many moments of a fold: it ends and says so, and goes on where it was when there is space.

use std::os::unix::fs::MetadataExt;
use std::sync::Arc;
use std::time::Duration;

use super::damage_tests::{MEMTABLE, fold, log};
use super::{FoldError, Folder, Offsets};
use crate::clock::Clocks;
use crate::journal::{Journal, JournalError, Reader, Tail, TailItem};
use crate::schema::Codec;
use crate::store::small_disk::SmallDisk;
use crate::store::{Store, StoreError};

/// A disk on which the whole fold has room.
const DISK_MIB: usize = 16;
/// Between two of the moments at which it is full, in bytes.
const STEP: usize = 12 * 1024;
/// Records that are folded at a time: each batch is a moment at which it can be torn.
const FEW: usize = 7;

struct FewAtATime(Box<dyn Tail>);

impl Tail for FewAtATime {
    fn poll(&mut self, max: usize, timeout: Duration) -> Result<Vec<TailItem>, JournalError> {
        self.0.poll(max.min(FEW), timeout)
    }
}

/// Until the log's end, or the first error; and how far it was.
fn fold_until_full(store: &Store, journal: &dyn Journal) -> (Offsets, Result<(), FoldError>) {
    let (mut folder, view) = match Folder::open(store.clone(), journal, codec(), Clocks::system()) {
        Ok(opened) => opened,
        Err(error) => return (Offsets::start(journal.partitions()), Err(error)),
    };
    let mut tail = FewAtATime(folder.tail(journal).unwrap());
    while !view.caught_up() {
        if let Err(error) = folder.turn(&mut tail, Duration::ZERO) {
            return (view.folded(), Err(error));
        }
    }
    (view.folded(), Ok(()))
}

fn codec() -> Arc<Codec> {
    Arc::new(Codec::new().unwrap())
}

fn says_so(error: &StoreError) -> bool {
    matches!(error, StoreError::Full | StoreError::Shut)
}

#[test]
#[ignore = "mounts a file system of its own: see CONTRIBUTING.md"]
fn a_fold_on_a_full_disk_ends_and_goes_on_where_it_was() {
    let (directory, disk) = (tempfile::tempdir().unwrap(), SmallDisk::new(DISK_MIB));
    let journal = log(&directory.path().join("log"));
    let truth = fold(&directory.path().join("whole"), &journal).unwrap();
    let (mut left, mut ended_full, mut had_come_far) = (0, 0, 0);
    loop {
        let path = disk.path("store");
        disk.fill(left);
        let ended = match Store::open_with(&path, MEMTABLE) {
            Ok(store) => fold_until_full(&store, journal.as_ref()),
            Err(error) => (Offsets::start(journal.partitions()), Err(error.into())),
        };
        let (was_at, done) = match ended {
            (at, Ok(())) => (at, true),
            (at, Err(FoldError::Store(error))) if says_so(&error) => (at, false),
            (_, Err(error)) => panic!("{left} bytes left: {error}"),
        };
        let made = path.metadata().map(|directory| directory.ino()).ok();
        disk.make_space();
        let store = Store::open_with(&path, MEMTABLE).unwrap_or_else(|error| panic!("{left} bytes left: {error}"));
        let (folder, view) = Folder::open(store.clone(), journal.as_ref(), codec(), Clocks::system()).unwrap();
        assert!(view.folded().covers(&was_at), "{left} bytes left: {:?}, was at {was_at:?}", view.folded());
        had_come_far += usize::from(view.folded() != Offsets::start(journal.partitions()));
        drop((folder, view, store));
        assert!(fold(&path, &journal).unwrap() == truth, "{left} bytes left: other rows");
        assert!(made.is_none_or(|made| made == path.metadata().unwrap().ino()), "it is the same store");
        Store::discard(&path).unwrap();
        assert_eq!(std::fs::read_dir(disk.path("")).unwrap().count(), 0, "nothing is left behind");
        if done {
            break;
        }
        ended_full += 1;
        left += STEP;
    }
    assert!(ended_full > 20 && had_come_far > 10, "{ended_full} ended, {had_come_far} of them had folded something");
}
