//! Both kinds of store, held to the same behaviour.

use proptest::collection::vec;
use proptest::prelude::*;

use super::{Row, Store, StoreError, Table};

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
