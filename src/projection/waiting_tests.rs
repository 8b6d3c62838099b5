//! A partition waits for the schema registry to explain an id that stands on the log at the start.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::bulk::{Bulk, Done};
use super::{Fold, Offsets, Payments, Projection, home_of};
use crate::journal::embedded::EmbeddedJournal;
use crate::journal::{Journal, NewRecord, Offset, Partition};
use crate::payment::samples::{event, in_progress, payment_id};
use crate::payment::{Event, PaymentId};
use crate::schema::{Codec, Kind};
use crate::store::Store;

const PARTITIONS: u32 = 2;

fn append(journal: &EmbeddedJournal, id: PaymentId, framed_by: Option<u32>) {
    let event = Event { payment_id: id, ..event(7, in_progress(1999)) };
    let mut value = Codec::new().unwrap().encode(&event).unwrap();
    if let Some(id) = framed_by {
        value = [&[0], &id.to_be_bytes()[..], &value[10..]].concat();
    }
    let record =
        NewRecord { partition: home_of(id, PARTITIONS), key: id.to_string().into_bytes(), headers: Vec::new(), value };
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(journal.append(record)).unwrap();
}

fn at_home(partition: Partition) -> PaymentId {
    let mut ids = (0..).map(|n| payment_id(&format!("order-{n}")));
    ids.find(|id| home_of(*id, PARTITIONS) == partition).unwrap()
}

#[test]
fn nobody_who_needs_another_partition_waits_for_it() {
    let directory = tempfile::tempdir().unwrap();
    let journal = EmbeddedJournal::open(&directory.path().join("log"), PARTITIONS).unwrap();
    let (waiting, other) = (Partition(0), Partition(1));
    append(&journal, at_home(waiting), Some(7));
    append(&journal, at_home(other), None);
    let codec = Arc::new(Codec::that_has_heard_nothing());
    let mut fold = Fold::<Payments>::new(Store::in_memory(), journal.as_ref(), Arc::clone(&codec)).unwrap();
    let (mut tail, progress) = (fold.tail(journal.as_ref()).unwrap(), fold.progress());
    assert!(!progress.is_current());
    while !progress.is_current() {
        fold.turn(tail.as_mut(), std::time::Duration::from_millis(10)).unwrap();
    }
    assert!(!progress.caught_up(), "whoever compares versions needs all of it");
    assert!(progress.halts()[0].waits && progress.is_behind(waiting) && !progress.is_behind(other));
    assert_eq!((progress.folded_to(waiting), progress.folded_to(other)), (Offset(0), Offset(1)));

    codec.hears(7, Kind::InProgress);
    fold.catch_up(journal.as_ref()).unwrap();
    assert!(progress.is_current() && progress.caught_up() && progress.halts().is_empty());
    assert!(!progress.is_behind(waiting));
    assert_eq!(progress.folded_to(waiting), Offset(1));
}

/// What another store had to wait for is no reason not to be ready either, once this one is served in its place.
#[test]
fn whoever_takes_its_place_is_as_current_as_it_was() {
    let directory = tempfile::tempdir().unwrap();
    let journal = EmbeddedJournal::open(&directory.path().join("log"), PARTITIONS).unwrap();
    for partition in [Partition(0), Partition(1)] {
        append(&journal, at_home(partition), Some(7));
    }
    let open = || {
        Fold::<Payments>::new(Store::in_memory(), journal.as_ref(), Arc::new(Codec::that_has_heard_nothing())).unwrap()
    };
    let (mut served, next) = (open(), open());
    let mut tail = served.tail(journal.as_ref()).unwrap();
    while !served.progress().is_current() {
        served.turn(tail.as_mut(), std::time::Duration::from_millis(10)).unwrap();
    }
    next.progress().has_caught_up_as(&served.progress());
    assert!(next.progress().is_current() && !next.progress().caught_up());
}

/// Record by record it would wait too, and read all of it again.
#[test]
fn what_is_made_of_the_sorted_log_waits_for_the_registry_too() {
    let directory = tempfile::tempdir().unwrap();
    let journal = EmbeddedJournal::open(&directory.path().join("log"), PARTITIONS).unwrap();
    append(&journal, at_home(Partition(0)), Some(7));
    append(&journal, at_home(Partition(1)), None);
    let made = |name: &str, meanwhile: &dyn Fn(&Codec, &CancellationToken)| {
        let (codec, stop) = (Codec::that_has_heard_nothing(), CancellationToken::new());
        let store = directory.path().join(name);
        let done = std::thread::scope(|scope| {
            let making = scope.spawn(|| bulk(&journal, &codec, &store, &stop));
            while codec.asks_for().is_none() {
                assert!(!making.is_finished(), "it did not ask");
                std::thread::sleep(Duration::from_millis(1));
            }
            meanwhile(&codec, &stop);
            making.join().unwrap()
        });
        (done, store.exists())
    };
    assert_eq!(made("explained", &|codec, _| codec.hears(7, Kind::InProgress)), (Done::Whole, true));
    assert_eq!(made("stopped", &|_, stop| stop.cancel()), (Done::Stopped, false));
    let (done, there) = made("none", &|codec, _| codec.hears_of_none(7));
    assert!(matches!(done, Done::NotSorted(_)) && !there, "{done:?}");
}

/// The registry may be away for hours, and whoever is served meanwhile needs the room that a build which came to nothing takes.
#[test]
fn what_waits_for_the_registry_ends_when_the_rest_has_failed() {
    if std::thread::available_parallelism().map_or(1, usize::from) < 2 {
        return; // one thread folds, and so nothing fails while it waits
    }
    let directory = tempfile::tempdir().unwrap();
    let ids = [at_home(Partition(0)), at_home(Partition(1))];
    for (name, waiting, other) in [("first", 0, 1), ("last", 1, 0)] {
        let journal = EmbeddedJournal::open(&directory.path().join(name), PARTITIONS).unwrap();
        append(&journal, ids[waiting], Some(7));
        append(&journal, ids[other], Some(u32::MAX)); // larger than any id
        let (codec, stop) = (Codec::that_has_heard_nothing(), CancellationToken::new());
        let (told, ended) = std::sync::mpsc::channel();
        std::thread::scope(|scope| {
            scope.spawn(|| told.send(bulk(&journal, &codec, &directory.path().join("store"), &stop)));
            let done = ended.recv_timeout(Duration::from_secs(20));
            stop.cancel();
            assert!(matches!(done, Ok(Done::NotSorted(_))), "{name}: {done:?}");
        });
    }
}

fn bulk(log: &EmbeddedJournal, codec: &Codec, store: &Path, stop: &CancellationToken) -> Done {
    let to = &Offsets::ends_of(log).unwrap();
    let bulk = Bulk { log, codec, to, store, stop, batch_max: 1, run_bytes: 8 * 1024, after: &|_, _| {} };
    bulk.build(|store, _| Payments::open(store)).unwrap()
}
