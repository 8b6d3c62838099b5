//! Stores of which bytes were flipped, files cut short, or lost: noticed, or the same rows all the same.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::{FoldError, Folder};
use crate::clock::Clocks;
use crate::journal::Journal;
use crate::journal::embedded::EmbeddedJournal;
use crate::payment::samples::{failed, in_progress, retry, successful};
use crate::payment::{Event, EventData, IdempotencyKey, MerchantId, PaymentId, Timestamp};
use crate::projection::home_of;
use crate::recording::event_record;
use crate::schema::Codec;
use crate::store::{Store, StoreError};

pub(super) const PARTITIONS: u32 = 2;
/// So small that much of a store is in files of every kind.
pub(super) const MEMTABLE: u64 = 16 * 1024;
/// Files of each kind that are hurt.
const OF_EACH_KIND: usize = 2;
const PAYMENTS: usize = 300;

pub(super) type Rows = Vec<(String, Vec<u8>, Vec<u8>)>;

pub(super) fn log(directory: &Path) -> Arc<EmbeddedJournal> {
    let (journal, codec) = (EmbeddedJournal::open(directory, PARTITIONS).unwrap(), Codec::new().unwrap());
    let appends = (0..PAYMENTS).flat_map(|n| {
        let key = IdempotencyKey::parse(&format!("order-{n}")).unwrap();
        let id = PaymentId::derive(&MerchantId::default(), &key);
        let end: EventData = if n % 3 == 0 { failed("card_declined") } else { successful("ch_1") };
        [in_progress(100 + n as i64), retry(1), end].map(|data| {
            let event = Event::new(id, Timestamp::now(), data);
            journal.append(event_record(&event, home_of(id, PARTITIONS), &codec, None).unwrap())
        })
    });
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(futures_util::future::try_join_all(appends)).unwrap();
    journal
}

/// Opens, folds to the end and reads all there is.
pub(super) fn fold(directory: &Path, journal: &EmbeddedJournal) -> Result<Rows, FoldError> {
    let store = Store::open_with(directory, MEMTABLE)?;
    let codec = Arc::new(Codec::new().unwrap());
    let (mut folder, _view) = Folder::open(store.clone(), journal, codec, Clocks::system())?;
    folder.catch_up(journal)?;
    let mut rows = Vec::new();
    for (name, table) in store.tables() {
        let all: Result<Vec<_>, StoreError> = table.range(&[0], &[0xFF; 33]).collect();
        rows.extend(all?.into_iter().map(|(key, value)| (name.clone(), key.to_vec(), value.to_vec())));
    }
    Ok(rows)
}

/// However far the store had come with that by itself.
fn write_out(directory: &Path) {
    let store = Store::open_with(directory, MEMTABLE).unwrap();
    for name in store.snapshot().unwrap().tables() {
        store.table(&name).unwrap();
    }
    store.write_out();
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap().map(Result::unwrap) {
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).unwrap();
        }
    }
}

fn files(directory: &Path, all: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(directory).unwrap().map(Result::unwrap) {
        if entry.file_type().unwrap().is_dir() {
            files(&entry.path(), all);
        } else if entry.metadata().unwrap().len() > 0 {
            all.push(entry.path());
        }
    }
}

/// Its name and its directory's, without numbers.
fn kind(file: &Path) -> String {
    let names = file.iter().rev().take(2).map(|name| name.to_string_lossy().replace(|c: char| c.is_ascii_digit(), ""));
    names.collect()
}

#[derive(Clone, Copy, Debug)]
enum Hurt {
    Flip(usize, u8),
    Cut(usize),
    Gone,
}

fn hurt(file: &Path, how: Hurt) {
    let mut bytes = std::fs::read(file).unwrap();
    match how {
        Hurt::Flip(at, bit) => {
            let at = at % bytes.len();
            bytes[at] ^= 1 << (bit % 8);
            std::fs::write(file, bytes).unwrap();
        }
        Hurt::Cut(at) => {
            bytes.truncate(at % bytes.len());
            std::fs::write(file, bytes).unwrap();
        }
        Hurt::Gone => std::fs::remove_file(file).unwrap(),
    }
}

#[test]
fn a_damaged_store_is_noticed_and_its_rows_are_folded_anew() {
    let directory = tempfile::tempdir().unwrap();
    let (whole, journal) = (directory.path().join("whole"), log(&directory.path().join("log")));
    let truth = fold(&whole, &journal).unwrap();
    write_out(&whole);
    let mut all = Vec::new();
    files(&whole, &mut all);
    all.sort();
    let mut kinds: HashMap<String, usize> = HashMap::new();
    all.retain(|file| {
        let seen = kinds.entry(kind(file)).or_default();
        *seen += 1;
        *seen <= OF_EACH_KIND
    });
    assert!(kinds.len() >= 5, "{kinds:?}");
    let (mut random, mut noticed) = (20_u64, 0);
    for file in &all {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let (at, bit) = ((random >> 33) as usize, (random >> 8) as u8);
        for how in [Hurt::Flip(at, bit), Hurt::Cut(at), Hurt::Gone] {
            let broken = directory.path().join("broken");
            copy(&whole, &broken);
            hurt(&broken.join(file.strip_prefix(&whole).unwrap()), how);
            match fold(&broken, &journal) {
                Ok(rows) => assert!(rows == truth, "{how:?} of {}: other rows", file.display()),
                Err(FoldError::Store(error)) if error.is_damage() => {
                    noticed += 1;
                    Store::discard(&broken).unwrap();
                    assert!(fold(&broken, &journal).unwrap() == truth, "folded anew");
                }
                Err(error) => panic!("{how:?} of {}: {error}", file.display()),
            }
            Store::discard(&broken).unwrap();
        }
    }
    assert!(noticed > all.len(), "{noticed} noticed, {} files", all.len());
}
