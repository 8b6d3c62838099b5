//! What is not what was written is refused, before anything of it is used.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::block::{Head, TRAILER, put};
use super::{Chain, Checkpoint, CheckpointError, Header, MAGIC, Trailer, restore, write};
use crate::clock::Clocks;
use crate::journal::Journal;
use crate::journal::embedded::EmbeddedJournal;
use crate::payment::samples::{in_progress, successful};
use crate::payment::{Event, IdempotencyKey, MerchantId, PaymentId, Timestamp};
use crate::projection::{Folder, Payments, home_of, stands_at, versioned_name};
use crate::recording::event_record;
use crate::schema::Codec;
use crate::store::{Store, StoreError};

const PARTITIONS: u32 = 2;

/// A log, the store that it was folded into, and a checkpoint of that.
struct Bed {
    directory: tempfile::TempDir,
    journal: Arc<EmbeddedJournal>,
    header: Header,
}

type Rows = Vec<(String, Vec<u8>, Vec<u8>)>;

impl Bed {
    fn new(payments: std::ops::Range<usize>) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let journal = EmbeddedJournal::open(&directory.path().join("log"), PARTITIONS).unwrap();
        pay(&journal, payments);
        let store = fold(&directory.path().join("store"), &journal);
        let (path, rows) = (directory.path().join("file"), store.snapshot().unwrap());
        let (header, made) =
            write(&path, &versioned_name::<Payments>(), &rows, Timestamp::now(), &mut |_, _| true).unwrap();
        assert_eq!(made.bytes, std::fs::metadata(path).unwrap().len());
        Self { directory, journal, header }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn file(&self) -> PathBuf {
        self.path("file")
    }

    /// The file with other bytes, read to its end, and restored if that is `restored` too.
    fn refused(&self, bytes: &[u8], restored: bool) -> CheckpointError {
        let (file, store) = (self.path("other"), self.path("never"));
        std::fs::write(&file, bytes).unwrap();
        if restored {
            let error = Checkpoint::open(&file).and_then(|checkpoint| restore(checkpoint, &store, |_| {})).unwrap_err();
            let left = std::fs::read_dir(self.directory.path()).unwrap().map(|entry| entry.unwrap().file_name());
            let left: Vec<_> = left.filter(|name| name.to_string_lossy().starts_with("never")).collect();
            assert!(left.is_empty(), "{left:?} after {error}");
        }
        let read = Checkpoint::open(&file).and_then(|checkpoint| checkpoint.verify(|_| {}));
        read.map(|_| ()).expect_err("it was taken for whole")
    }
}

fn pay(journal: &EmbeddedJournal, payments: std::ops::Range<usize>) {
    let codec = Codec::new().unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    for n in payments {
        let id = PaymentId::derive(&MerchantId::default(), &IdempotencyKey::parse(&format!("order-{n}")).unwrap());
        for data in [in_progress(100 + n as i64), successful("ch_1")] {
            let event = Event::new(id, Timestamp::now(), data);
            let record = event_record(&event, home_of(id, PARTITIONS), &codec, None).unwrap();
            runtime.block_on(journal.append(record)).unwrap();
        }
    }
}

/// To the end of the log.
fn fold(path: &Path, journal: &EmbeddedJournal) -> Store {
    let store = Store::open(path).unwrap();
    let codec = Arc::new(Codec::new().unwrap());
    let (mut folder, _view) = Folder::open(store.clone(), journal, codec, Clocks::system()).unwrap();
    folder.catch_up(journal).unwrap();
    store
}

fn rows(store: &Store) -> Rows {
    let (snapshot, mut rows) = (store.snapshot().unwrap(), Vec::new());
    for name in snapshot.tables() {
        let all: Result<Vec<_>, StoreError> = snapshot.range(&name, &[], &[0xFF; 33]).collect();
        rows.extend(all.unwrap().into_iter().map(|(key, value)| (name.clone(), key.to_vec(), value.to_vec())));
    }
    rows
}

/// A file that is right in its form, whatever it says.
fn forged(header: &Header, blocks: &[(u32, Vec<u8>)], trailer: &Trailer) -> Vec<u8> {
    let text = serde_json::to_vec(header).unwrap();
    let mut chain = Chain::begin(&text);
    let length = (text.len() as u32).to_le_bytes();
    let mut file = [&MAGIC[..], &length, &text, &chain.last().0].concat();
    let mut append = |table, raw: usize, stored: &[u8]| {
        let head = Head { table, raw: raw as u32, stored: stored.len() as u32 }.bytes();
        let digest = chain.add(&head, stored);
        file.extend([&head[..], stored, &digest.0].concat());
    };
    for (table, rows) in blocks {
        append(*table, rows.len(), &lz4_flex::block::compress(rows));
    }
    let trailer = serde_json::to_vec(trailer).unwrap();
    append(TRAILER, trailer.len(), &trailer);
    file
}

#[test]
fn a_store_of_a_checkpoint_has_the_same_rows_and_is_folded_on() {
    let bed = Bed::new(0..40);
    let path = bed.path("restored");
    let truth = rows(&Store::open(&bed.path("store")).unwrap());
    let checkpoint = Checkpoint::open(&bed.file()).unwrap();
    bed.header.compare(bed.journal.as_ref()).unwrap();
    assert_eq!(restore(checkpoint, &path, |_| {}).unwrap(), truth.len() as u64);
    let before = Store::open(&path).unwrap();
    assert!(rows(&before) == truth, "other rows");
    let (_, offsets) = stands_at(&before).unwrap().unwrap();
    drop(before);
    // Some of them once more, which changes rows that are there.
    pay(&bed.journal, 30..60);
    for _ in 0..2 {
        let (again, anew) = (fold(&path, &bed.journal), fold(&bed.path("store"), &bed.journal));
        assert!(rows(&again) == rows(&anew), "it was not folded on");
    }
    let (_, after) = stands_at(&Store::open(&path).unwrap()).unwrap().unwrap();
    assert!(after.covers(&offsets) && after != offsets);
    let refused = restore(Checkpoint::open(&bed.file()).unwrap(), &path, |_| {}).unwrap_err();
    assert!(refused.to_string().contains("there is something under this name"), "{refused}");
}

#[test]
fn every_flipped_byte_is_noticed() {
    let bed = Bed::new(0..3);
    let whole = std::fs::read(bed.file()).unwrap();
    for at in 0..whole.len() {
        let mut bytes = whole.clone();
        bytes[at] ^= 1 << (at % 8);
        let error = bed.refused(&bytes, at % 97 == 0);
        let said = matches!(error, CheckpointError::NotACheckpoint(_) | CheckpointError::Damaged { .. });
        assert!(said, "byte {at}: {error}");
    }
}

#[test]
fn one_that_is_cut_short_or_goes_on_is_noticed() {
    let bed = Bed::new(0..3);
    let whole = std::fs::read(bed.file()).unwrap();
    for length in 0..whole.len() {
        let error = bed.refused(&whole[..length], length % 97 == 0);
        let said = matches!(error, CheckpointError::NotACheckpoint(_) | CheckpointError::Damaged { .. });
        assert!(said, "{length} bytes: {error}");
    }
    let longer = bed.refused(&[&whole[..], &[0]].concat(), true);
    assert!(longer.to_string().contains("something stands behind the trailer"), "{longer}");
    assert!(bed.refused(b"PK\x03\x04 something else altogether", true).to_string().contains("no checkpoint"));
}

#[test]
fn what_is_right_in_form_alone_is_refused() {
    let bed = Bed::new(0..3);
    let trailer = Trailer { rows: vec![0; bed.header.tables.len()] };
    let with = |blocks: &[(u32, Vec<u8>)], rows: u64| {
        let mut trailer = trailer.clone();
        trailer.rows[0] = rows;
        bed.refused(&forged(&bed.header, blocks, &trailer), true).to_string()
    };
    let block = |keys: &[&[u8]]| {
        let mut rows = Vec::new();
        keys.iter().for_each(|key| assert!(put(&mut rows, key, b"x")));
        rows
    };
    assert!(with(&[(0, block(&[b"b", b"a"]))], 2).contains("not in order"));
    assert!(with(&[(0, block(&[b"a"])), (0, block(&[b"a"]))], 2).contains("not in order"));
    assert!(with(&[(1, block(&[b"a"])), (0, block(&[b"a"]))], 1).contains("cannot follow"));
    assert!(with(&[(99, block(&[b"a"]))], 0).contains("cannot follow"));
    assert!(with(&[(0, Vec::new())], 0).contains("no row"));
    assert!(with(&[(0, vec![9, 9])], 0).contains("not whole"));
    assert!(with(&[(0, block(&[b"a"]))], 2).contains("does not tell of the rows"));
    let mut newer = bed.header.clone();
    newer.paylog_checkpoint = 2;
    let said = bed.refused(&forged(&newer, &[], &trailer), true).to_string();
    assert!(said.contains("has format 2") && said.contains("fold the log from its start"), "{said}");

    for tables in [vec!["due", "due"], vec!["payments", "due"], vec![""], vec!["../due"]] {
        let other = Header { tables: tables.into_iter().map(str::to_owned).collect(), ..bed.header.clone() };
        let said = bed.refused(&forged(&other, &[], &trailer), true).to_string();
        assert!(said.contains("header of this checkpoint cannot be read"), "{:?}: {said}", other.tables);
    }

    // Rows that are not where the header says: nothing at all, here.
    let file = bed.path("lies");
    std::fs::write(&file, forged(&bed.header, &[], &trailer)).unwrap();
    let refused = restore(Checkpoint::open(&file).unwrap(), &bed.path("never"), |_| {}).unwrap_err();
    assert!(refused.to_string().contains("do not stand where"), "{refused}");
    assert!(!bed.path("never").exists() && !bed.path("never.part").exists());
}

#[test]
fn one_of_another_log_or_projection_is_refused() {
    let bed = Bed::new(0..6);
    bed.header.is_of(&versioned_name::<Payments>()).unwrap();
    let other = bed.header.is_of("payments@999").unwrap_err().to_string();
    assert!(other.contains("payments@999") && other.contains(&versioned_name::<Payments>()), "{other}");
    let elsewhere = EmbeddedJournal::open(&bed.path("elsewhere"), PARTITIONS).unwrap();
    let other = bed.header.compare(elsewhere.as_ref()).unwrap_err().to_string();
    assert!(other.contains("of another log"), "{other}");

    let mut ahead = bed.header.clone();
    ahead.folded[1].next += 1;
    let said = ahead.compare(bed.journal.as_ref()).unwrap_err().to_string();
    assert!(said.contains("the log ends at") && said.contains("an older copy"), "{said}");
    let mut changed = bed.header.clone();
    changed.folded[0].last.as_mut().unwrap().hash = "0".repeat(32);
    let said = changed.compare(bed.journal.as_ref()).unwrap_err().to_string();
    assert!(said.contains("is not the one that is in the checkpoint"), "{said}");
}

#[test]
fn what_a_killed_restore_has_left_is_never_opened_and_is_deleted() {
    let bed = Bed::new(0..3);
    let (store, part) = (bed.path("restored"), bed.path("restored.part"));
    std::fs::create_dir_all(part.join("keyspaces")).unwrap();
    std::fs::write(part.join("keyspaces").join("half"), b"half").unwrap();
    restore(Checkpoint::open(&bed.file()).unwrap(), &store, |_| {}).unwrap();
    assert!(!part.exists() && store.is_dir());
    std::fs::create_dir_all(&part).unwrap();
    drop(Store::open(&store).unwrap());
    assert!(!part.exists());
}

#[test]
fn one_that_is_stopped_leaves_nothing() {
    let bed = Bed::new(0..3);
    let (path, rows) = (bed.path("stopped"), Store::open(&bed.path("store")).unwrap().snapshot().unwrap());
    let error = write(&path, "payments@4", &rows, Timestamp::now(), &mut |_, _| false).unwrap_err();
    assert!(matches!(error, CheckpointError::Stopped) && !path.exists() && !bed.path("stopped.part").exists());
    let again = write(&bed.file(), "payments@4", &rows, Timestamp::now(), &mut |_, _| true).unwrap_err();
    assert!(again.to_string().contains("exists already"), "{again}");
}
