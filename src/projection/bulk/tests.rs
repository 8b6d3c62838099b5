//! The same rows as record by record, however often it was cut short; and record by record where it must be.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio_util::sync::CancellationToken;

use super::super::damage_tests::{PARTITIONS, Rows, fold, log};
use super::super::{FoldError, Payments, Projection, home_of};
use super::{Bulk, Done};
use crate::journal::embedded::EmbeddedJournal;
use crate::journal::{Journal, NewRecord, Partition};
use crate::payment::samples::{payment_id, successful};
use crate::payment::{Event, Timestamp};
use crate::recording::event_record;
use crate::schema::Codec;
use crate::store::{Store, beside};

struct Bed {
    directory: tempfile::TempDir,
    journal: Arc<EmbeddedJournal>,
    codec: Codec,
}

impl Bed {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let journal = log(&directory.path().join("log"));
        Self { directory, journal, codec: Codec::new().unwrap() }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Stopped after so many stretches.
    fn build(&self, store: &Path, stretches: usize) -> Result<Done, FoldError> {
        let (stop, passed) = (CancellationToken::new(), AtomicUsize::new(0));
        let bulk = Bulk {
            log: self.journal.as_ref(),
            codec: &self.codec,
            to: &super::Offsets::ends_of(self.journal.as_ref())?,
            store,
            stop: &stop,
            batch_max: 20,
            run_bytes: 8 * 1024,
            after: &|_, _| {
                if passed.fetch_add(1, Ordering::Relaxed) + 1 == stretches {
                    stop.cancel();
                }
            },
        };
        bulk.build(|store, _| Payments::open(store))
    }

    fn truth(&self) -> Rows {
        fold(&self.path("truth"), &self.journal).unwrap()
    }

    fn append(&self, record: NewRecord) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(self.journal.append(record)).unwrap();
    }

    fn nothing_is_beside(&self, store: &Path) -> bool {
        ["gathered", "sorted", "part"].iter().all(|what| !beside(store, what).exists())
    }
}

#[test]
fn it_comes_to_the_rows_of_a_fold_record_by_record() {
    let bed = Bed::new();
    let store = bed.path("bulk");
    assert_eq!(bed.build(&store, usize::MAX).unwrap(), Done::Whole);
    assert!(bed.nothing_is_beside(&store));
    let made = Store::open(&store).unwrap();
    assert_eq!(
        crate::projection::stands_at(&made).unwrap().unwrap().1,
        super::Offsets::ends_of(bed.journal.as_ref()).unwrap()
    );
    drop(made);
    assert!(fold(&store, &bed.journal).unwrap() == bed.truth());
}

#[test]
fn stopped_at_any_moment_it_goes_on_and_comes_to_the_same() {
    let bed = Bed::new();
    let (truth, next, stopped) = (bed.truth(), AtomicUsize::new(1), AtomicUsize::new(0));
    let stop_at_some = || {
        loop {
            let stretches = next.fetch_add(1, Ordering::Relaxed);
            let store = bed.path(&format!("bulk-{stretches}"));
            if bed.build(&store, stretches).unwrap() == Done::Whole {
                return;
            }
            stopped.fetch_add(1, Ordering::Relaxed);
            assert!(!store.exists(), "nothing bears its name before it is whole");
            assert_eq!(bed.build(&store, usize::MAX).unwrap(), Done::Whole);
            assert!(bed.nothing_is_beside(&store));
            assert!(fold(&store, &bed.journal).unwrap() == truth, "stopped after {stretches}");
            Store::discard(&store).unwrap();
        }
    };
    // Much of each is waiting for the disk.
    std::thread::scope(|threads| (0..4).for_each(|_| drop(threads.spawn(stop_at_some))));
    let stopped = stopped.into_inner();
    assert!(stopped > 50, "stopped at {stopped} moments");
}

#[test]
fn what_was_gathered_is_not_read_again() {
    let bed = Bed::new();
    let (store, gathered) = (bed.path("bulk"), 30);
    assert_eq!(bed.build(&store, gathered).unwrap(), Done::Stopped);
    let runs = || std::fs::read_dir(beside(&store, "gathered")).unwrap().count();
    let before = runs();
    assert!(before > 5, "{before} runs");
    assert_eq!(bed.build(&store, 1).unwrap(), Done::Stopped);
    assert_eq!(runs(), before, "it goes on behind them");
}

#[test]
fn runs_that_were_hurt_are_gathered_anew() {
    let bed = Bed::new();
    let store = bed.path("bulk");
    assert_eq!(bed.build(&store, 30).unwrap(), Done::Stopped);
    let run = std::fs::read_dir(beside(&store, "gathered")).unwrap().next().unwrap().unwrap().path();
    let mut bytes = std::fs::read(&run).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(run, bytes).unwrap();
    assert_eq!(bed.build(&store, usize::MAX).unwrap(), Done::Whole);
    assert!(fold(&store, &bed.journal).unwrap() == bed.truth());
}

#[test]
fn a_log_with_a_record_that_halts_a_fold_is_left_to_it() {
    type Hurt = fn(&Bed) -> NewRecord;
    fn end_of(bed: &Bed, name: &str, partition: Partition) -> NewRecord {
        event_record(&Event::new(payment_id(name), Timestamp::now(), successful("ch_1")), partition, &bed.codec, None)
            .unwrap()
    }
    let hurts: [(&str, Hurt); 4] = [
        ("no event", |_| {
            let (key, headers) = (payment_id("x").to_string().into_bytes(), Vec::new());
            NewRecord { partition: Partition(0), key, headers, value: b"garbage".to_vec() }
        }),
        ("no key", |_| NewRecord { partition: Partition(1), key: Vec::new(), headers: Vec::new(), value: Vec::new() }),
        ("without a beginning", |bed| end_of(bed, "y", home_of(payment_id("y"), PARTITIONS))),
        ("elsewhere", |bed| end_of(bed, "y", Partition(1 - home_of(payment_id("y"), PARTITIONS).0))),
    ];
    for (what, hurt) in hurts {
        let bed = Bed::new();
        bed.append(hurt(&bed));
        let store = bed.path("bulk");
        let done = bed.build(&store, usize::MAX).unwrap();
        assert!(matches!(done, Done::NotSorted(_)), "{what}: {done:?}");
        assert!(!store.exists() && bed.nothing_is_beside(&store), "{what}");
    }
}
