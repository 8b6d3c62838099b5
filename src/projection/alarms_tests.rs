//! Stores that are exchanged while the log goes on: what people are to be told of is told once, whichever fold meets it.

use std::io::Write;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio_util::sync::CancellationToken;
use tracing::Dispatch;
use tracing::dispatcher::with_default;

use super::{
    ApplyError, Built, Fold, Folder, Halt, Live, Offsets, Payments, Progress, Projection, Recorded, Served, View,
    home_of,
};
use crate::clock::Clocks;
use crate::journal::embedded::EmbeddedJournal;
use crate::journal::{Journal, NewRecord, Partition, Position};
use crate::lock::lock;
use crate::payment::samples::{event, failed, in_progress, payment_id, retry, successful};
use crate::payment::{Event, EventData};
use crate::recording::event_record;
use crate::schema::Codec;
use crate::store::{Batch, Store, StoreError, Table};

const PATIENCE: Duration = Duration::from_secs(60);
/// Second ends that are written while two stores are exchanged all the time.
const ENDS: usize = 300;

/// What is said, as text.
#[derive(Clone, Default)]
struct Said(Arc<Mutex<Vec<u8>>>);

impl Write for Said {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        lock(&self.0).extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl Said {
    fn dispatch(&self) -> Dispatch {
        let said = self.clone();
        tracing_subscriber::fmt().with_ansi(false).with_writer(move || said.clone()).into()
    }

    fn text(&self) -> String {
        String::from_utf8(lock(&self.0).clone()).unwrap()
    }

    /// How often something was said of the record there.
    fn of(&self, text: &str, position: Position) -> usize {
        let place = format!("position={position} ");
        self.text().lines().filter(|line| line.contains(text) && format!("{line} ").contains(&place)).count()
    }
}

struct Bed {
    journal: Arc<EmbeddedJournal>,
    served: Folder,
    view: View,
    other: Fold<Payments>,
    built: Arc<Built<Payments>>,
    said: Said,
    _directory: tempfile::TempDir,
}

const DIFFERENTLY: &str = "a payment ended twice, differently";
const AGAIN: &str = "a payment's end was recorded again";
const HALTED: &str = "a record cannot be folded";

impl Bed {
    /// A payment that has ended, in two stores.
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let journal = EmbeddedJournal::open(&directory.path().join("journal"), 1).unwrap();
        let codec = Arc::new(Codec::new().unwrap());
        let (served, view) =
            Folder::open(Store::in_memory(), journal.as_ref(), Arc::clone(&codec), Clocks::system()).unwrap();
        let (other, built) = beside(Store::in_memory(), &journal, &view);
        let mut bed = Self { journal, served, view, other, built, said: Said::default(), _directory: directory };
        bed.append(in_progress(1999));
        bed.append(successful("ch_1"));
        bed.fold_both();
        bed
    }

    fn append(&self, data: EventData) -> Position {
        append(&self.journal, Codec::new().unwrap().encode(&event(1, data)).unwrap())
    }

    fn fold_both(&mut self) {
        let (said, log) = (self.said.dispatch(), self.journal.as_ref());
        for fold in [&mut self.served, &mut self.other] {
            let mut tail = fold.tail(log).unwrap();
            with_default(&said, || fold.turn(tail.as_mut(), Duration::ZERO).unwrap());
        }
    }

    fn fold_other(&mut self) {
        let mut tail = self.other.tail(self.journal.as_ref()).unwrap();
        with_default(&self.said.dispatch(), || self.other.turn(tail.as_mut(), Duration::ZERO).unwrap());
    }
}

/// A store that is not read.
fn beside(store: Store, log: &EmbeddedJournal, view: &View) -> (Fold<Payments>, Arc<Built<Payments>>) {
    let mut fold = Fold::new(store, log, Arc::new(Codec::new().unwrap())).unwrap();
    fold.progress().speak(false);
    let built = fold.built(Arc::clone(view.live().hearers()));
    (fold, built)
}

fn append(journal: &EmbeddedJournal, value: Vec<u8>) -> Position {
    let record = NewRecord { partition: Partition(0), key: Vec::new(), headers: Vec::new(), value };
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(journal.append(record)).unwrap()
}

/// The other has folded it, in silence, and the one that is read had not when it lost its place.
#[test]
fn what_only_the_other_store_had_come_to_is_told_when_it_is_read() {
    let mut bed = Bed::new();
    let told = bed.append(failed("card_declined"));
    bed.fold_both();
    let (differently, again) = (bed.append(successful("ch_2")), bed.append(successful("ch_1")));
    let halted = append(&bed.journal, b"{no event}".to_vec());
    bed.fold_other();
    assert_eq!((bed.said.of(DIFFERENTLY, told), bed.said.of(DIFFERENTLY, differently)), (1, 0), "it is silent");
    with_default(&bed.said.dispatch(), || bed.view.live().exchange(&bed.built, PATIENCE).unwrap());
    bed.fold_both();
    for (text, position) in [(DIFFERENTLY, told), (DIFFERENTLY, differently), (AGAIN, again), (HALTED, halted)] {
        assert_eq!(bed.said.of(text, position), 1, "{text} at {position}: {}", bed.said.text());
    }
}

/// Nothing is kept of what an earlier process folded: then it is said that something may be missing.
#[test]
fn what_an_earlier_process_may_have_met_is_not_passed_over_in_silence() {
    const MAY_HAVE: &str = "something may have been met of which nobody was told";
    for has_met in [false, true] {
        let mut bed = Bed::new();
        if !has_met {
            bed.append(failed("card_declined"));
        }
        bed.fold_other();
        let store = bed.other.store.clone();
        if has_met {
            bed.fold_both();
        }
        let (_, built) = beside(store, &bed.journal, &bed.view);
        with_default(&bed.said.dispatch(), || bed.view.live().exchange(&built, PATIENCE).unwrap());
        let said = bed.said.text();
        assert_eq!(said.contains(MAY_HAVE), !has_met, "{said}");
    }
}

/// What was told there is that it waits, which is another thing.
#[test]
fn a_halt_is_told_although_the_other_store_had_only_waited_there() {
    let mut bed = Bed::new();
    let position = append(&bed.journal, b"{no event}".to_vec());
    bed.fold_other();
    let reason = "its schema is asked for".to_owned();
    bed.view.progress().halt(Halt { position, reason, may_be_newer: false, waits: true });
    with_default(&bed.said.dispatch(), || bed.view.live().exchange(&bed.built, PATIENCE).unwrap());
    assert_eq!(bed.said.of(HALTED, position), 1, "{}", bed.said.text());
}

/// Cannot fold that a payment fails. At a retry it does something else first.
struct Refuses {
    table: Table,
    meanwhile: Option<Box<dyn FnMut() + Send>>,
}

impl Projection for Refuses {
    const NAME: &'static str = "refuses";
    const VERSION: u32 = 1;

    fn open(store: &Store) -> Result<Self, StoreError> {
        Ok(Self { table: store.table("rows")?, meanwhile: None })
    }

    fn apply(&mut self, recorded: &Recorded, _: &mut Batch) -> Result<(), ApplyError> {
        match (&recorded.event.data, &mut self.meanwhile) {
            (EventData::PaymentFailed(_), _) => Err(ApplyError::Unfoldable("it fails".to_owned())),
            (EventData::PaymentRetryScheduled(_), Some(meanwhile)) => {
                meanwhile();
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn flush(&mut self, _: &mut Batch) -> Result<(), StoreError> {
        Ok(())
    }
}

impl Served for Refuses {
    type Rows = Table;
    type Hearers = ();

    fn rows(&self) -> Table {
        self.table.clone()
    }

    fn tell(&mut self, (): (), _: Arc<Progress>) {}

    fn exchanged((): &(), _: &Offsets) {}
}

/// The fold that is served has met it, in a batch that it has not written yet.
#[test]
fn a_halt_that_falls_into_an_exchange_is_told_once() {
    let directory = tempfile::tempdir().unwrap();
    let (journal, codec) = (EmbeddedJournal::open(directory.path(), 2).unwrap(), Arc::new(Codec::new().unwrap()));
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let append = |home: u32, data: EventData| {
        let id = (0..).map(|n| payment_id(&n.to_string())).find(|id| home_of(*id, 2) == Partition(home)).unwrap();
        let event = Event { payment_id: id, ..event(1, data) };
        runtime.block_on(journal.append(event_record(&event, Partition(home), &codec, None).unwrap())).unwrap()
    };
    let (halted, _) = (append(0, failed("card_declined")), append(1, retry(1)));
    let fold = || Fold::<Refuses>::new(Store::in_memory(), journal.as_ref(), Arc::clone(&codec)).unwrap();
    let (mut served, mut other, said) = (fold(), fold(), Said::default());
    other.progress().speak(false);
    let (one, two) = (served.built(()), other.built(()));
    let live = Arc::new(Live::new(Arc::clone(&one), ()));
    with_default(&said.dispatch(), || {
        other.catch_up(journal.as_ref()).unwrap();
        let (exchanged, to) = (Arc::clone(&live), Arc::clone(&two));
        served.projection.meanwhile = Some(Box::new(move || exchanged.exchange(&to, PATIENCE).unwrap()));
        served.catch_up(journal.as_ref()).unwrap();
        assert!(Arc::ptr_eq(&live.built(), &two), "it was exchanged");
        live.exchange(&one, PATIENCE).unwrap();
    });
    assert_eq!(said.of(HALTED, halted), 1, "{}", said.text());
}

#[test]
fn each_second_end_is_told_once_however_often_stores_are_exchanged() {
    let Bed { journal, served, view, other, built: two, said, _directory } = Bed::new();
    let (one, stop) = (view.live().built(), CancellationToken::new());
    let ends = std::thread::scope(|scope| {
        let _stops = stop.clone().drop_guard();
        for fold in [served, other] {
            let (dispatch, log, stop) = (said.dispatch(), journal.as_ref(), &stop);
            scope.spawn(move || with_default(&dispatch, || fold.run(log, stop).unwrap()));
        }
        let ends = scope.spawn(|| {
            let value = Codec::new().unwrap().encode(&event(1, failed("too_late"))).unwrap();
            (0..ENDS).map(|_| append(&journal, value.clone())).collect::<Vec<_>>()
        });
        with_default(&said.dispatch(), || {
            while !ends.is_finished() {
                for to in [&two, &one] {
                    view.live().exchange(to, PATIENCE).unwrap();
                }
            }
        });
        let ends = ends.join().unwrap();
        for built in [&one, &two] {
            while !built.progress.has_folded(*ends.last().unwrap()) {
                std::thread::yield_now();
            }
        }
        ends
    });
    for end in ends {
        assert_eq!(said.of(DIFFERENTLY, end), 1, "at {end}");
    }
}
