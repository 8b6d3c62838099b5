//! Stores that are not what they should be: refused, and left as they are.

use std::sync::Arc;

use super::totals::Totals;
use super::{Fold, FoldError, Payments, Projection, Recorded};
use crate::journal::embedded::EmbeddedJournal;
use crate::schema::Codec;
use crate::store::{Batch, Store, StoreError};

/// The tables of [`Totals`], and other rows in them.
struct Sums(Totals);

impl Projection for Sums {
    const NAME: &'static str = "sums";
    const VERSION: u32 = 7;

    fn open(store: &Store) -> Result<Self, StoreError> {
        Totals::open(store).map(Self)
    }

    fn apply(&mut self, recorded: &Recorded, batch: &mut Batch) -> Result<(), super::ApplyError> {
        self.0.apply(recorded, batch)
    }

    fn flush(&mut self, batch: &mut Batch) -> Result<(), StoreError> {
        self.0.flush(batch)
    }
}

fn open<P: Projection>(store: &Store, journal: &EmbeddedJournal) -> Result<Fold<P>, FoldError> {
    Fold::new(store.clone(), journal, Arc::new(Codec::new().unwrap()))
}

#[test]
fn rows_of_another_projection_are_refused_and_left_alone() {
    let directory = tempfile::tempdir().unwrap();
    let journal = EmbeddedJournal::open(&directory.path().join("journal"), 1).unwrap();
    for store in [Store::open(&directory.path().join("store")).unwrap(), Store::in_memory()] {
        open::<Totals>(&store, &journal).unwrap().catch_up(journal.as_ref()).unwrap();
        let before = store.snapshot().unwrap().tables();
        let error = open::<Payments>(&store, &journal).err().unwrap();
        assert!(matches!(error, FoldError::Store(StoreError::Foreign { .. })), "{error}");
        let text = error.to_string();
        assert!(text.contains("not a store of payments@") && text.contains("--data-dir"), "{text}");
        let text = open::<Sums>(&store, &journal).err().unwrap().to_string();
        assert!(text.contains("of the projection totals@") && text.contains("sums@7"), "{text}");
        assert_eq!(store.snapshot().unwrap().tables(), before, "nothing was written");
        open::<Totals>(&store, &journal).unwrap();
    }
}

#[test]
fn a_log_is_no_store_of_rows() {
    let directory = tempfile::tempdir().unwrap();
    let (path, journal) =
        (directory.path().join("other"), EmbeddedJournal::open(&directory.path().join("one"), 1).unwrap());
    drop(EmbeddedJournal::open(&path, 2).unwrap());
    let text = open::<Payments>(&Store::open(&path).unwrap(), &journal).err().unwrap().to_string();
    assert!(text.contains("there is the table p0 in it"), "{text}");
    EmbeddedJournal::open(&path, 2).unwrap();
}
