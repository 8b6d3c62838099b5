//! The worked example of `schemas/README.md` on a log: a field was added to `PaymentFailed`, and both versions stand there.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::bulk::{Bulk, Done};
use super::damage_tests::Rows;
use super::{Fold, Offsets, Payments, Projection, home_of};
use crate::journal::embedded::EmbeddedJournal;
use crate::journal::{Journal, NewRecord, Position};
use crate::payment::samples::{failed, in_progress, payment_id};
use crate::payment::{Event, EventData, PaymentId, Timestamp};
use crate::schema::evolution_tests::second_version;
use crate::schema::{Codec, Kind};
use crate::store::{Store, StoreError};

const PARTITIONS: u32 = 2;

fn append(journal: &EmbeddedJournal, id: PaymentId, value: Vec<u8>) -> Position {
    let (partition, key) = (home_of(id, PARTITIONS), id.to_string().into_bytes());
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let appended = journal.append(NewRecord { partition, key, headers: Vec::new(), value });
    runtime.block_on(appended).unwrap()
}

/// Two payments that have failed, told by one version each. Answers with where the second stands.
fn log(journal: &EmbeddedJournal) -> Position {
    let (old, new) = (Codec::new().unwrap(), Codec::with_example());
    let encode =
        |id, data: EventData| old.encode(&Event { payment_id: id, ..Event::new(id, Timestamp::now(), data) }).unwrap();
    let (first, second) = (payment_id("order-1"), payment_id("order-2"));
    for id in [first, second] {
        append(journal, id, encode(id, in_progress(1999)));
    }
    append(journal, first, encode(first, failed("card_declined")));
    let datum = second_version(&encode(second, failed("insufficient_funds"))[10..], "51");
    append(journal, second, [&[0xC3, 0x01], &new.fingerprint(Kind::Failed)[..], &datum].concat())
}

fn rows(store: &Store) -> Rows {
    let mut rows = Vec::new();
    for (name, table) in store.tables() {
        let all: Result<Vec<_>, StoreError> = table.range(&[0], &[0xFF; 33]).collect();
        rows.extend(all.unwrap().into_iter().map(|(key, value)| (name.clone(), key.to_vec(), value.to_vec())));
    }
    rows
}

fn fold(store: &Store, journal: &EmbeddedJournal, codec: Codec) -> Fold<Payments> {
    let mut fold = Fold::<Payments>::new(store.clone(), journal, Arc::new(codec)).unwrap();
    fold.catch_up(journal).unwrap();
    fold
}

#[test]
fn a_rebuild_over_both_versions_comes_to_the_same_rows_whoever_began_it() {
    let directory = tempfile::tempdir().unwrap();
    let journal = EmbeddedJournal::open(&directory.path().join("log"), PARTITIONS).unwrap();
    let second = log(&journal);

    // A paylog that was built before the second version stops there, loses nothing, and says why.
    let store = Store::open(&directory.path().join("old")).unwrap();
    let halts = fold(&store, &journal, Codec::new().unwrap()).progress().halts();
    assert_eq!(halts.iter().map(|halt| (halt.position, halt.may_be_newer)).collect::<Vec<_>>(), [(second, true)]);
    // Upgraded, it goes on with its rows.
    let upgraded = fold(&store, &journal, Codec::with_example());
    assert_eq!(upgraded.progress().halts(), []);

    // So does one that starts with nothing, and one that is made from the log sorted by payment.
    let fresh = Store::open(&directory.path().join("fresh")).unwrap();
    fold(&fresh, &journal, Codec::with_example());
    let all = rows(&fresh);
    assert_eq!(rows(&store), all);
    assert_eq!(rows(&bulk(&directory.path().join("bulk"), &journal)), all);
    for (key, code) in [("order-1", "card_declined"), ("order-2", "insufficient_funds")] {
        let row = super::rows::Tables::open(&fresh).unwrap().row(payment_id(key)).unwrap().unwrap();
        let shown = serde_json::to_string(&row.payment).unwrap();
        assert!(row.payment.is_terminal() && shown.contains(code), "{shown}");
    }
}

fn bulk(path: &std::path::Path, journal: &EmbeddedJournal) -> Store {
    let (stop, codec, stretches) = (CancellationToken::new(), Codec::with_example(), AtomicUsize::new(0));
    let after = |_: Duration, _: u64| {
        stretches.fetch_add(1, Ordering::Relaxed);
    };
    let bulk = Bulk {
        log: journal,
        codec: &codec,
        to: &Offsets::ends_of(journal).unwrap(),
        store: path,
        stop: &stop,
        batch_max: 20,
        run_bytes: 8 * 1024,
        after: &after,
    };
    assert_eq!(bulk.build(|store, _| Payments::open(store)).unwrap(), Done::Whole);
    assert!(stretches.load(Ordering::Relaxed) > 0);
    let store = Store::open(path).unwrap();
    let stands = super::stands_at(&store).unwrap().unwrap().1;
    assert_eq!(stands, Offsets::ends_of(journal).unwrap(), "all of it is there");
    Fold::<Payments>::new(store.clone(), journal, Arc::new(codec)).unwrap(); // whose tables are open then
    store
}
