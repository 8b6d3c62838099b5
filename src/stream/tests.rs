//! Whose events are whose.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::feed::{Block, Data, Next, Reading};
use super::{StreamConfig, Streams, Types, Wish};
use crate::access::{Access, Caller};
use crate::clock::Clocks;
use crate::contract::{partition, position_text};
use crate::journal::embedded::EmbeddedJournal;
use crate::journal::{Journal, LogId, NewRecord, Offset, Partition, Position, Tail};
use crate::payment::samples::{event, in_progress, payment_id, retry};
use crate::payment::{Event, EventData, MerchantId};
use crate::projection::{Folder, Offsets, Scope, View};
use crate::schema::Codec;
use crate::store::Store;

/// A log that is folded as it grows.
pub(super) struct Growing {
    journal: Arc<EmbeddedJournal>,
    codec: Arc<Codec>,
    folder: Folder,
    tail: Box<dyn Tail>,
    pub(super) view: View,
}

impl Growing {
    /// Of one partition.
    pub(super) fn open(directory: &Path) -> Self {
        Self::of_partitions(1, directory)
    }

    pub(super) fn of_partitions(partitions: u32, directory: &Path) -> Self {
        let journal = EmbeddedJournal::open(&directory.join("journal"), partitions).unwrap();
        let codec = Arc::new(Codec::new().unwrap());
        let store = Store::open(&directory.join("store")).unwrap();
        let (folder, view) = Folder::open(store, journal.as_ref(), Arc::clone(&codec), Clocks::system()).unwrap();
        let tail = folder.tail(journal.as_ref()).unwrap();
        Self { journal, codec, folder, tail, view }
    }

    pub(super) async fn grow(&mut self, events: Vec<Event>) {
        for event in events {
            let value = self.codec.encode(&event).unwrap();
            let partition = partition(event.payment_id, self.view.partitions());
            let record = NewRecord { partition, key: Vec::new(), headers: Vec::new(), value };
            self.journal.append(record).await.unwrap();
        }
        let ends = Offsets::ends_of(self.journal.as_ref()).unwrap();
        while !self.view.folded().covers(&ends) {
            self.folder.turn(self.tail.as_mut(), Duration::from_millis(50)).unwrap();
        }
    }

    /// Something happens every 20 ms, for as long as anybody may need to hear of it. Nobody asks for it by this type.
    pub(super) async fn is_busy(&mut self) {
        let mut ticks = tokio::time::interval(Duration::from_millis(20));
        for n in 0..500 {
            ticks.tick().await;
            self.grow(vec![of(&MerchantId::default(), &format!("busy-{n}"))]).await;
        }
    }

    pub(super) fn streams(&self) -> Streams {
        let config = StreamConfig { heartbeat: Duration::from_millis(100), ..StreamConfig::default() };
        Streams {
            view: self.view.clone(),
            access: Arc::new(Access::of_a_test()),
            config,
            shutdown: CancellationToken::new(),
            open: Arc::default(),
            recents: Arc::default(),
        }
    }
}

/// A log of these events, on one partition, folded.
pub(super) async fn folded(directory: &Path, events: Vec<Event>) -> View {
    let mut log = Growing::open(directory);
    log.grow(events).await;
    log.view
}

/// Payments that were all begun, and then all tried again.
pub(super) fn begun_and_tried_again(count: usize) -> Vec<Event> {
    let begun = (0..count).map(|n| of(&MerchantId::default(), &format!("order-{n}")));
    let again = (0..count).map(|n| Event { payment_id: payment_id(&format!("order-{n}")), ..event(1, retry(1)) });
    begun.chain(again).collect()
}

pub(super) fn all_of_type(name: &'static str, cursor: Option<&'static str>) -> Wish<'static> {
    Wish { types: Types::listed(name).unwrap(), cursor, ..Wish::default() }
}

pub(super) fn of(merchant: &MerchantId, key: &str) -> Event {
    let mut event = event(1, in_progress(1999));
    event.payment_id = payment_id(key);
    if let EventData::PaymentInProgress(data) = &mut event.data {
        data.merchant_id = merchant.clone();
    }
    event
}

/// Which payment a change is of.
pub(super) fn paid(block: &Block) -> String {
    let (_, body) = block.body(LogId([7; 16])).unwrap();
    serde_json::to_value(body).unwrap()["payment"]["id"].as_str().unwrap().to_owned()
}

/// The payments that a feed begins with, and those of its changes from the beginning of the log.
fn told(streams: &Streams, merchant: &MerchantId, wish: impl Fn() -> Wish<'static>) -> [Vec<String>; 2] {
    let start = crate::projection::Offsets::start(1).encode(streams.view.log_id());
    [None, Some(start.as_str())].map(|cursor| {
        let feed = streams.feed(&Caller::of(merchant.clone()), Wish { cursor, ..wish() }).unwrap().unwrap();
        let (mut reading, mut payments) = (Reading::new(feed), Vec::new());
        while let Next::Block(block) = reading.next() {
            match &block.data {
                Data::Snapshot { payment, .. } => payments.push(payment.id.to_string()),
                Data::Change(_) => payments.push(paid(&block)),
                Data::Reset | Data::Nothing => {}
            }
        }
        payments
    })
}

#[tokio::test]
async fn nothing_of_another_merchant_is_told() {
    let directory = tempfile::tempdir().unwrap();
    // The name of the one begins with that of the other, and the customer is of the same name.
    let (one, other) = (MerchantId::parse("m").unwrap(), MerchantId::parse("m1").unwrap());
    let view = folded(directory.path(), vec![of(&one, "a"), of(&other, "b"), of(&one, "c")]).await;
    let (access, config) = (Arc::new(Access::of_a_test()), StreamConfig::default());
    let streams = Streams {
        view,
        access,
        config,
        shutdown: CancellationToken::new(),
        open: Arc::default(),
        recents: Arc::default(),
    };
    let ids = |keys: &[&str]| keys.iter().map(|key| payment_id(key).to_string()).collect::<Vec<_>>();
    for customer_id in [None, Some("cus_42")] {
        let wish = || Wish { customer_id, ..Wish::default() };
        assert_eq!(told(&streams, &one, wish), [ids(&["c", "a"]), ids(&["a", "c"])]);
        assert_eq!(told(&streams, &other, wish), [ids(&["b"]), ids(&["b"])]);
        assert_eq!(told(&streams, &MerchantId::parse("m11").unwrap(), wish), [ids(&[]), ids(&[])]);
    }
    let id = payment_id("b").to_string();
    let of_payment = || Wish { payment_id: Some(&id), ..Wish::default() };
    assert!(streams.feed(&Caller::of(other), of_payment()).is_ok());
    let refused = streams.feed(&Caller::of(one.clone()), of_payment()).err().unwrap();
    assert!(serde_json::to_string(&refused.body()).unwrap().contains("payment_not_found"));
    // Somebody who says to have seen a version is answered as one who asks for what is not there yet: by silence.
    let version = format!("{}.1", streams.view.log_id().log8());
    for id in [payment_id("b"), payment_id("nowhere")].map(|id| id.to_string()) {
        let wish = Wish { payment_id: Some(&id), cursor: Some(&version), ..Wish::default() };
        let feed = streams.feed(&Caller::of(one.clone()), wish).unwrap().unwrap();
        assert!(matches!(Reading::new(feed).next(), Next::Wait), "{id}");
    }
}

/// It is told of before it is there, to somebody who is ahead of this instance; and then it is another's.
#[tokio::test]
async fn a_payment_that_comes_later_and_is_anothers_is_not_told() {
    let directory = tempfile::tempdir().unwrap();
    let (one, other) = (MerchantId::parse("m").unwrap(), MerchantId::parse("m1").unwrap());
    let mut log = Growing::open(directory.path());
    let streams = log.streams();
    let id = payment_id("b").to_string();
    let at_least = position_text(streams.view.log_id(), Position::new(Partition(0), Offset(0)));
    let version = format!("{}.1", streams.view.log_id().log8());
    let open = |merchant: &MerchantId, at_least, cursor| {
        let wish = Wish { payment_id: Some(&id), at_least, cursor, ..Wish::default() };
        Reading::new(streams.feed(&Caller::of(merchant.clone()), wish).unwrap().unwrap())
    };
    let [mut snapshot, mut own] = [&one, &other].map(|merchant| open(merchant, Some(&at_least), None));
    let [mut changes, mut own_changes] = [&one, &other].map(|merchant| open(merchant, None, Some(&version)));
    assert!(matches!(snapshot.next(), Next::Wait) && matches!(changes.next(), Next::Wait));
    log.grow(vec![of(&other, "b"), Event { payment_id: payment_id("b"), ..event(1, retry(1)) }]).await;
    for waiting in [&mut snapshot, &mut changes] {
        waiting.woken().await;
    }

    // Not the end: it was not told whole.
    let Next::Failed(problem) = snapshot.next() else { panic!("something was told") };
    assert!(serde_json::to_string(&problem.body()).unwrap().contains("payment_not_found"));
    assert!(matches!(snapshot.next(), Next::End));
    assert!(matches!(changes.next(), Next::Wait), "as of one that is not there yet");
    for told in [own.next(), own_changes.next()] {
        assert!(matches!(told, Next::Block(_)), "its own merchant is told");
    }
}

/// Nothing that is asked for, among much that is not: the reader looks up between.
#[tokio::test]
async fn a_long_look_is_taken_in_pieces() {
    const PAYMENTS: usize = 400;
    let directory = tempfile::tempdir().unwrap();
    let mut log = Growing::open(directory.path());
    log.grow(begun_and_tried_again(PAYMENTS)).await;
    let streams = log.streams();
    let start: &'static str = crate::projection::Offsets::start(1).encode(streams.view.log_id()).leak();
    let feed =
        streams.feed(&Caller::of(MerchantId::default()), all_of_type("PaymentParked", Some(start))).unwrap().unwrap();
    let (mut reading, mut pieces) = (Reading::new(feed), 0);
    while let Next::Block(block) = reading.next() {
        assert!(matches!(block.data, Data::Nothing) && block.id.is_some(), "a place to come back to");
        pieces += 1;
    }
    assert!(pieces > 2, "{} rows in {pieces} pieces", 2 * PAYMENTS);

    // A list, too, whose newest events begin no payment.
    let scope = Scope { merchant: MerchantId::default(), customer: None };
    let (mut found, mut before, mut reads) = (Vec::new(), None, 0);
    while found.len() < 3 {
        let (rows, next) = streams.view.payments_of(&scope, None, before.as_ref(), 3 - found.len()).unwrap();
        found.extend(rows.into_iter().map(|row| row.payment.id));
        (before, reads) = (next, reads + 1);
    }
    let newest = [1, 2, 3].map(|n| payment_id(&format!("order-{}", PAYMENTS - n)));
    assert!(reads > 1 && found == newest, "{reads} reads: {found:?}");
}

/// Of two who follow the same, the second is given what the first has read, and all of it at once.
#[tokio::test]
async fn what_happens_while_the_last_is_taken_wakes() {
    let directory = tempfile::tempdir().unwrap();
    let mut log = Growing::open(directory.path());
    let streams = log.streams();
    let caller = Caller::of(MerchantId::default());
    let open = || Reading::new(streams.feed(&caller, Wish::default()).unwrap().unwrap());
    let (mut one, mut two) = (open(), open());
    let taken = |reading: &mut Reading| {
        let mut blocks = 0;
        loop {
            match reading.next() {
                Next::Block(_) => blocks += 1,
                Next::Step(step) => reading.unfold(&step),
                _ => return blocks,
            }
        }
    };
    for n in 0..2 {
        log.grow(vec![of(&MerchantId::default(), &format!("order-{n}"))]).await;
        for reading in [&mut one, &mut two] {
            taken(reading);
            reading.woken().await;
        }
    }
    assert_eq!([&mut one, &mut two].map(taken), [0, 0], "they are woken once for each, and have told all");
    log.grow((10..12).map(|n| of(&MerchantId::default(), &format!("order-{n}"))).collect()).await;
    two.woken().await;
    let Next::Step(step) = two.next() else { panic!("nothing that is shared") };
    two.unfold(&step);
    assert!(matches!(two.next(), Next::Block(_)), "the first of two");
    log.grow(vec![of(&MerchantId::default(), "order-20")]).await;
    assert_eq!(taken(&mut two), 1, "the second of two, and then it waits");
    two.woken().await;
    assert_eq!(taken(&mut two), 1, "what has happened meanwhile");
    one.woken().await;
    assert_eq!(taken(&mut one), 3);
}
