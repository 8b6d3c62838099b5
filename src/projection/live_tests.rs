//! One store is read, another takes its place: whoever waits, and whoever watches, goes on with the other.

use std::sync::Arc;
use std::time::Duration;

use super::{Fold, FoldedTo, Folder, Offsets, Payments, View};
use crate::clock::Clocks;
use crate::journal::embedded::EmbeddedJournal;
use crate::journal::{Journal, NewRecord, Offset, Partition, Position};
use crate::payment::samples::{event, in_progress, successful};
use crate::schema::Codec;
use crate::store::Store;

const PATIENCE: Duration = Duration::from_secs(60);

struct Bed {
    journal: Arc<EmbeddedJournal>,
    codec: Arc<Codec>,
    served: Folder,
    view: View,
    other: Fold<Payments>,
    _directory: tempfile::TempDir,
}

fn bed() -> Bed {
    let directory = tempfile::tempdir().unwrap();
    let journal = EmbeddedJournal::open(&directory.path().join("journal"), 1).unwrap();
    let codec = Arc::new(Codec::new().unwrap());
    let (served, view) =
        Folder::open(Store::in_memory(), journal.as_ref(), Arc::clone(&codec), Clocks::system()).unwrap();
    let other = Fold::new(Store::in_memory(), journal.as_ref(), Arc::clone(&codec)).unwrap();
    other.progress().speak(false);
    Bed { journal, codec, served, view, other, _directory: directory }
}

impl Bed {
    async fn append(&self, seconds: i64, data: crate::payment::EventData) -> Position {
        let value = self.codec.encode(&event(seconds, data)).unwrap();
        let record = NewRecord { partition: Partition(0), key: Vec::new(), headers: Vec::new(), value };
        self.journal.append(record).await.unwrap()
    }
}

#[tokio::test]
async fn a_store_that_is_behind_does_not_take_the_others_place() {
    let mut bed = bed();
    let position = bed.append(1, in_progress(1999)).await;
    bed.served.catch_up(bed.journal.as_ref()).unwrap();
    let behind = bed.other.built(Arc::clone(bed.view.live().hearers()));
    assert!(bed.view.live().exchange(&behind, Duration::from_millis(20)).is_err());
    assert!(bed.view.has_folded(position), "what was read is still read");
    bed.other.catch_up(bed.journal.as_ref()).unwrap();
    bed.view.live().exchange(&behind, PATIENCE).unwrap();
    assert!(bed.view.has_folded(position) && Arc::ptr_eq(&bed.view.live().built(), &behind));
}

#[tokio::test]
async fn whoever_waits_or_watches_goes_on_with_the_store_that_is_read_then() {
    let mut bed = bed();
    bed.append(1, in_progress(1999)).await;
    bed.served.catch_up(bed.journal.as_ref()).unwrap();
    let end = bed.append(2, successful("ch_1")).await;
    bed.other.catch_up(bed.journal.as_ref()).unwrap();
    let id = event(1, in_progress(1999)).payment_id;
    let (mut watch, waiting, view) = (bed.view.watch_payment(id), tokio::sync::oneshot::channel(), bed.view.clone());
    let waiter = tokio::spawn(async move {
        let wait = view.wait_folded(end);
        tokio::pin!(wait);
        // It waits for the store that is read first, and only then that one loses its place.
        tokio::select! {
            biased;
            () = &mut wait => panic!("it is not folded yet"),
            () = std::future::ready(()) => drop(waiting.0.send(())),
        }
        wait.await;
    });
    waiting.1.await.unwrap();
    let (listener, heard) = std::sync::mpsc::channel();
    bed.view.listen(move |due| listener.send(due.len()).is_ok());
    let built = bed.other.built(Arc::clone(bed.view.live().hearers()));
    bed.view.live().exchange(&built, PATIENCE).unwrap();
    tokio::time::timeout(PATIENCE, waiter).await.expect("it waits for the store that is read no more").unwrap();
    tokio::time::timeout(PATIENCE, watch.changed()).await.expect("nobody told it to look again");
    assert_eq!(heard.recv().unwrap(), 1, "the lanes look at every partition again");
    assert!(bed.view.payment(id).unwrap().unwrap().payment.is_terminal());
}

/// Of two that fold the same log one tells.
#[tokio::test]
async fn only_the_fold_of_the_store_that_is_read_tells_anyone() {
    let mut bed = bed();
    let built = bed.other.built(Arc::clone(bed.view.live().hearers()));
    let (listener, heard) = std::sync::mpsc::channel();
    bed.view.listen(move |due| listener.send(due.len()).is_ok());
    bed.append(1, in_progress(1999)).await;
    bed.other.catch_up(bed.journal.as_ref()).unwrap();
    assert!(heard.try_recv().is_err(), "the other is silent");
    bed.served.catch_up(bed.journal.as_ref()).unwrap();
    assert_eq!(heard.recv().unwrap(), 1);
    bed.view.live().exchange(&built, PATIENCE).unwrap();
    while heard.try_recv().is_ok() {}
    bed.append(2, successful("ch_1")).await;
    let mut tail = bed.other.tail(bed.journal.as_ref()).unwrap();
    bed.other.turn(tail.as_mut(), PATIENCE).unwrap();
    assert!(heard.recv().is_ok(), "the one that is read now tells");
}

#[tokio::test]
async fn a_fold_to_some_offsets_ends_there_or_says_what_it_cannot_fold() {
    let mut bed = bed();
    let stop = tokio_util::sync::CancellationToken::new();
    let to = |offset| {
        let mut at = Offsets::start(1);
        at.set(Position::new(Partition(0), Offset(offset)));
        at
    };
    for (seconds, data) in [(1, in_progress(1999)), (2, successful("ch_1"))] {
        bed.append(seconds, data).await;
    }
    assert_eq!(bed.other.fold_to(&to(1), bed.journal.as_ref(), &stop).unwrap(), FoldedTo::There);
    assert_eq!(bed.other.progress().folded(), to(1));
    let record = NewRecord { partition: Partition(0), key: Vec::new(), headers: Vec::new(), value: b"{x}".to_vec() };
    let garbage = bed.journal.append(record).await.unwrap();
    bed.append(3, successful("ch_2")).await;
    assert_eq!(bed.other.fold_to(&to(4), bed.journal.as_ref(), &stop).unwrap(), FoldedTo::Halt(garbage));
    assert_eq!(bed.other.progress().folded(), to(2), "it stands at the record itself");
    stop.cancel();
    assert_eq!(bed.other.fold_to(&to(4), bed.journal.as_ref(), &stop).unwrap(), FoldedTo::Stopped);
}

/// A store from which nothing was read since the start knows nothing of the log's end; it is as far as one that does.
#[tokio::test]
async fn what_was_folded_to_the_end_stays_so_whichever_store_is_read() {
    let mut bed = bed();
    bed.append(1, in_progress(1999)).await;
    bed.served.catch_up(bed.journal.as_ref()).unwrap();
    let mut at = Offsets::start(1);
    at.set(Position::new(Partition(0), Offset(1)));
    let stop = tokio_util::sync::CancellationToken::new();
    bed.other.fold_to(&at, bed.journal.as_ref(), &stop).unwrap();
    let built = bed.other.built(Arc::clone(bed.view.live().hearers()));
    bed.view.live().exchange(&built, PATIENCE).unwrap();
    assert!(bed.view.caught_up());
}
