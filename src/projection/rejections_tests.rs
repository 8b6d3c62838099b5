//! What a fold that meets a rejection late writes is, byte for byte, what one writes that knew it from the beginning.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio_util::sync::CancellationToken;

use super::{FoldError, Folder, Rejections, View};
use crate::clock::Clocks;
use crate::journal::embedded::EmbeddedJournal;
use crate::journal::{Journal, NewRecord, Partition, Position, Reader};
use crate::payment::samples::{event, in_progress, parked, retry};
use crate::schema::Codec;
use crate::store::Store;

const TABLES: [&str; 7] = ["payments", "feed", "others", "due", "parked", "rejected", "meta"];

struct Bed {
    directory: tempfile::TempDir,
    journal: Arc<EmbeddedJournal>,
    codec: Arc<Codec>,
}

impl Bed {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let journal = EmbeddedJournal::open(&directory.path().join("journal"), 1).unwrap();
        Self { directory, journal, codec: Arc::new(Codec::new().unwrap()) }
    }

    async fn append(&self, value: Vec<u8>) -> Position {
        let record = NewRecord { partition: Partition(0), key: Vec::new(), headers: Vec::new(), value };
        self.journal.append(record).await.unwrap()
    }

    /// A payment with garbage after its beginning, and behind that what parks it. Answers with where the garbage is.
    async fn write(&self) -> Position {
        let encode = |seconds, data| self.codec.encode(&event(seconds, data)).unwrap();
        self.append(encode(1, in_progress(1999))).await;
        let garbage = self.append(b"{garbage}".to_vec()).await;
        for (seconds, data) in [(2, retry(1)), (3, parked()), (4, retry(2))] {
            self.append(encode(seconds, data)).await;
        }
        garbage
    }

    fn store(&self, name: &str) -> std::path::PathBuf {
        self.directory.path().join(name)
    }

    fn open(&self, name: &str, rejections: &Rejections) -> Result<(Folder, View), FoldError> {
        let store = Store::open(&self.store(name))?;
        let (folder, view) = Folder::open(store, self.journal.as_ref(), Arc::clone(&self.codec), Clocks::system())?;
        Ok((folder.heeding(rejections)?, view))
    }

    /// Folds until `done`, on the thread that it needs.
    fn fold(&self, name: &str, rejections: &Rejections, done: impl Fn(&View) -> bool) -> Result<(), FoldError> {
        let (folder, view) = self.open(name, rejections)?;
        let stop = CancellationToken::new();
        std::thread::scope(|scope| {
            let _stops = stop.clone().drop_guard(); // or a test that fails would wait for ever
            let folding = scope.spawn(|| folder.run(self.journal.as_ref(), &stop));
            let deadline = Instant::now() + Duration::from_secs(60);
            while !done(&view) && !folding.is_finished() {
                assert!(Instant::now() < deadline, "the fold does not come that far");
                std::thread::sleep(Duration::from_millis(1));
            }
            stop.cancel();
            folding.join().unwrap()
        })
    }

    fn is_whole(&self, view: &View) -> bool {
        view.folded_to(Partition(0)) == self.journal.ends(Partition(0)).unwrap().committed
    }
}

fn rows(path: &Path) -> Vec<(String, Vec<u8>, Vec<u8>)> {
    let store = Store::open(path).unwrap();
    let mut rows = Vec::new();
    for name in TABLES {
        for row in store.table(name).unwrap().range(&[], &[0xFF; 300]) {
            let (key, value) = row.unwrap();
            rows.push((name.to_owned(), key.to_vec(), value.to_vec()));
        }
    }
    rows
}

#[tokio::test]
async fn a_rejection_that_comes_late_leaves_the_rows_of_one_that_came_early() {
    let bed = Bed::new();
    let garbage = bed.write().await;
    let rejections = Rejections::default();
    let told = std::sync::Once::new();
    bed.fold("live", &rejections, |view| {
        if view.halts().iter().any(|halt| halt.position == garbage) {
            told.call_once(|| rejections.tell(garbage));
        }
        bed.is_whole(view)
    })
    .unwrap();
    assert!(told.is_completed(), "it had halted");
    bed.fold("replayed", &rejections, |view| bed.is_whole(view)).unwrap();
    let live = rows(&bed.store("live"));
    for table in ["payments", "parked", "rejected", "meta"] {
        assert!(live.iter().any(|(name, ..)| name == table), "nothing in {table}");
    }
    assert_eq!(live, rows(&bed.store("replayed")));
}

#[tokio::test]
async fn a_rejection_of_what_is_in_the_rows_ends_the_fold_and_refuses_the_rows() {
    let bed = Bed::new();
    let garbage = bed.write().await;
    let rejections = Rejections::default();
    let in_the_rows = Position::new(garbage.partition, crate::journal::Offset(0));
    let folded = bed.fold("live", &rejections, |view| {
        if view.has_folded(in_the_rows) {
            rejections.tell(in_the_rows);
        }
        false
    });
    assert!(matches!(folded, Err(FoldError::RejectedSince(position)) if position == in_the_rows), "{folded:?}");
    let opened = bed.open("live", &rejections).map(|_| ());
    assert!(matches!(opened, Err(FoldError::RejectedSince(position)) if position == in_the_rows), "{opened:?}");
}

#[tokio::test]
async fn rows_that_passed_over_what_nobody_rejected_are_refused() {
    let bed = Bed::new();
    let rejections = Rejections::default();
    let garbage = bed.write().await;
    rejections.tell(garbage);
    bed.fold("live", &rejections, |view| bed.is_whole(view)).unwrap();
    let opened = bed.open("live", &Rejections::default()).map(|_| ());
    assert!(matches!(opened, Err(FoldError::NeverRejected(position)) if position == garbage), "{opened:?}");
}
