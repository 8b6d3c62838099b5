//! Both kinds of store, held to the same behaviour.

use proptest::collection::vec;
use proptest::prelude::*;

use super::{Load, Row, Store, StoreError, Table};

const TABLES: [&str; 2] = ["payments", "due"];

#[derive(Clone, Debug)]
enum Step {
    Insert { table: usize, key: Vec<u8>, value: Vec<u8> },
    Remove { table: usize, key: Vec<u8> },
    Commit,
    Range { table: usize, from: Vec<u8>, to: Vec<u8> },
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let key = || vec(0..3_u8, 0..3);
    let step = prop_oneof![
        4 => (0..2_usize, key(), key()).prop_map(|(table, key, value)| Step::Insert { table, key, value }),
        2 => (0..2_usize, key()).prop_map(|(table, key)| Step::Remove { table, key }),
        2 => Just(Step::Commit),
        1 => (0..2_usize, key(), key()).prop_map(|(table, from, to)| Step::Range { table, from, to }),
    ];
    vec(step, 1..60)
}

/// What a reader sees, after each step.
fn seen(store: &Store, steps: &[Step]) -> Vec<Vec<(Vec<u8>, Vec<u8>)>> {
    let tables = TABLES.map(|name| store.table(name).unwrap());
    let read = |table: &Table, from: &[u8], to: &[u8]| {
        let mut both: Vec<_> = table.range(from, to).map(bytes).collect();
        both.extend(table.range(from, to).rev().map(bytes));
        both.extend(table.get(from).unwrap().map(|value| (from.to_vec(), value.to_vec())));
        both
    };
    let (mut batch, mut seen) = (store.batch(), Vec::new());
    for step in steps {
        match step {
            // An empty key is no key.
            Step::Insert { table, key, value } if !key.is_empty() => batch.insert(&tables[*table], key, value),
            Step::Remove { table, key } if !key.is_empty() => batch.remove(&tables[*table], key),
            Step::Insert { .. } | Step::Remove { .. } => {}
            Step::Commit => std::mem::replace(&mut batch, store.batch()).commit().unwrap(),
            Step::Range { table, from, to } if from < to && !from.is_empty() => {
                seen.push(read(&tables[*table], from, to));
            }
            Step::Range { .. } => {}
        }
        seen.extend(tables.iter().map(|table| read(table, &[0], &[9])));
    }
    seen
}

fn bytes(row: Result<Row, StoreError>) -> (Vec<u8>, Vec<u8>) {
    let (key, value) = row.unwrap();
    (key.to_vec(), value.to_vec())
}

#[test]
fn a_store_in_memory_behaves_as_one_on_disk() {
    let mut runner = proptest::test_runner::TestRunner::new(ProptestConfig::with_cases(12));
    let held = runner.run(&steps(), |steps| {
        let dir = tempfile::tempdir().unwrap();
        let (disk, memory) = (Store::open(dir.path()).unwrap(), Store::in_memory());
        prop_assert_eq!(seen(&disk, &steps), seen(&memory, &steps));
        Ok(())
    });
    held.unwrap();
}

#[test]
fn a_copy_is_as_it_was_and_goes_its_own_way() {
    let store = Store::in_memory();
    let put = |store: &Store, value: &[u8]| {
        let mut batch = store.batch();
        batch.insert(&store.table("rows").unwrap(), b"key", value);
        batch.commit().unwrap();
    };
    put(&store, b"before");
    let copy = store.copy().unwrap();
    put(&store, b"after");
    let get = |store: &Store| store.table("rows").unwrap().get(b"key").unwrap().unwrap();
    assert_eq!((&*get(&copy), &*get(&store)), (&b"before"[..], &b"after"[..]));
}

#[test]
fn a_store_is_discarded_whole_or_not_at_all() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("payments@2");
    let condemned = || super::files::beside(&path, super::files::DISCARDED);
    let written = |store: &Store| -> bool { store.table("rows").unwrap().get(b"a").unwrap().is_some() };
    let write = || {
        let store = Store::open(&path).unwrap();
        let mut batch = store.batch();
        batch.insert(&store.table("rows").unwrap(), b"a", b"1");
        batch.commit().unwrap();
    };
    let names = || {
        let entries = std::fs::read_dir(dir.path()).unwrap();
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect::<Vec<_>>()
    };
    write();
    Store::discard(&path).unwrap();
    assert!(names().is_empty(), "{:?}", names());
    write();
    // Killed in the middle of it: half of the files are gone, and those that are left stand under another name.
    std::fs::rename(&path, condemned()).unwrap();
    let some = std::fs::read_dir(condemned()).unwrap().next().unwrap().unwrap().path();
    if some.is_dir() {
        std::fs::remove_dir_all(some).unwrap()
    } else {
        std::fs::remove_file(some).unwrap()
    }
    assert!(!written(&Store::open(&path).unwrap()), "nothing of it is opened");
    assert_eq!(names(), ["payments@2"], "and what was left is deleted");
    // And so it is before the next one is discarded.
    std::fs::create_dir(condemned()).unwrap();
    Store::discard(&path).unwrap();
    assert!(names().is_empty(), "{:?}", names());
}

/// Both kinds: what is written after a snapshot is not in it, and what was written before is, in tables opened or not.
#[test]
fn a_snapshot_stays_as_it_was() {
    let directory = tempfile::tempdir().unwrap();
    drop(write_one(&Store::open(directory.path()).unwrap(), b"a"));
    for store in [Store::open(directory.path()).unwrap(), write_one(&Store::in_memory(), b"a")] {
        let snapshot = store.snapshot().unwrap();
        write_one(&store, b"b");
        assert_eq!(snapshot.tables(), ["rows"]);
        let rows: Vec<_> = snapshot.range("rows", b"a", b"z").map(bytes).collect();
        assert_eq!(rows, [(b"a".to_vec(), b"1".to_vec())]);
        assert!(snapshot.get("rows", b"a").unwrap().is_some());
        assert!(snapshot.get("rows", b"b").unwrap().is_none() && snapshot.get("others", b"a").unwrap().is_none());
        assert_eq!(snapshot.range("others", b"a", b"z").count(), 0);
        assert_eq!(store.snapshot().unwrap().range("rows", b"a", b"z").count(), 2);
    }
}

fn write_one(store: &Store, key: &[u8]) -> Store {
    let table = store.table("rows").unwrap();
    let mut batch = store.batch();
    batch.insert(&table, key, b"1");
    batch.commit().unwrap();
    store.clone()
}

#[test]
fn a_store_that_is_loaded_is_there_whole_or_not_at_all() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("store");
    let row = |key: u32| Ok::<Row, StoreError>((key.to_be_bytes().into(), (key * 2).to_be_bytes().into()));
    let names = || -> Vec<_> { std::fs::read_dir(directory.path()).unwrap().map(|e| e.unwrap().file_name()).collect() };
    for wrong in [vec![1, 1], vec![2, 1]] {
        let load = Load::begin(&path).unwrap();
        load.table("due", (0..9).map(row)).unwrap();
        let refused = load.table("payments", wrong.into_iter().map(row)).unwrap_err();
        assert!(refused.to_string().contains("not in order"), "{refused}");
        assert_ne!(names(), [""; 0], "it is on its way");
        drop(load);
        assert_eq!(names(), [""; 0]);
    }
    let load = Load::begin(&path).unwrap();
    assert_eq!(load.table("payments", (0..1000).map(row)).unwrap(), 1000);
    assert_eq!(load.table("due", std::iter::empty::<Result<Row, StoreError>>()).unwrap(), 0);
    assert!(!path.exists());
    load.finish().unwrap();
    assert!(matches!(Load::begin(&path), Err(StoreError::Open { .. })), "there is one");
    for turn in 0..3_u32 {
        let store = Store::open(&path).unwrap();
        let table = store.table("payments").unwrap();
        assert_eq!(table.range(&[0], &[9]).count(), 1000);
        // What is written later counts, in this process and in the next.
        assert_eq!(table.get(&7_u32.to_be_bytes()).unwrap().unwrap()[..], (14 + turn).to_be_bytes());
        let mut batch = store.batch();
        batch.insert(&table, &7_u32.to_be_bytes(), &(15 + turn).to_be_bytes());
        batch.commit().unwrap();
        assert_eq!(table.get(&7_u32.to_be_bytes()).unwrap().unwrap()[..], (15 + turn).to_be_bytes());
        assert_eq!(store.snapshot().unwrap().tables(), ["due", "payments"]);
    }
}
