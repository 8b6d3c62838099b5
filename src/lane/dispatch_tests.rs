//! What begins when, with a worker that is told what to answer, on the embedded log.

use std::collections::HashMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Waker};
use std::time::Duration;

use tokio::sync::oneshot;

use super::super::{Bounds, Driver, Running, Start, Try, Verdict, Worker};
use crate::clock::{Clock, Clocks};
use crate::control::Imports;
use crate::executor::Executor;
use crate::journal::embedded::EmbeddedJournal;
use crate::journal::{Journal, Partition, Tail};
use crate::lane::due::DEFERRED_MAX;
use crate::payment::event::{Decision, PaymentFailed};
use crate::payment::samples::{in_progress, parked, resumed};
use crate::payment::{Event, EventData, IdempotencyKey, MerchantId, Payment, PaymentId, Timestamp};
use crate::projection::Folder;
use crate::recording::event_record;
use crate::schema::Codec;
use crate::store::Store;

const HERE: Partition = Partition(0);

type Effect = Pin<Box<dyn Future<Output = ()> + Send>>;
type Says = Box<dyn Fn(&Payment, &Started) -> Start + Send + Sync>;

/// Which payments were begun, in order, and those whose effects are under way.
#[derive(Default)]
struct Started {
    order: Mutex<Vec<(MerchantId, PaymentId)>>,
    open: Mutex<Vec<(MerchantId, oneshot::Sender<()>)>>,
}

impl Started {
    fn begin(&self, payment: &Payment) -> Start {
        let merchant = payment.initiation.merchant_id.clone();
        self.order.lock().unwrap().push((merchant.clone(), payment.id));
        let (sender, receiver) = oneshot::channel();
        self.open.lock().unwrap().push((merchant, sender));
        Start::Running(Box::pin(async move {
            drop(receiver.await);
            let data = PaymentFailed { code: "over".to_owned(), message: String::new(), attempt: 1 };
            Verdict::Record(Box::new(EventData::PaymentFailed(data)))
        }))
    }

    fn open_of(&self, merchant: &MerchantId) -> usize {
        self.open.lock().unwrap().iter().filter(|(whose, _)| whose == merchant).count()
    }
}

struct Told {
    started: Arc<Started>,
    says: Says,
}

impl Worker for Told {
    fn start(&self, payment: &Payment, _: Try) -> Start {
        (self.says)(payment, &self.started)
    }
}

#[derive(Default)]
struct Tasks(Mutex<Vec<Effect>>);

impl Executor for Tasks {
    fn spawn(&self, effect: Effect) {
        self.0.lock().unwrap().push(effect);
    }

    fn block(&self, question: Box<dyn FnOnce() + Send>) {
        question();
    }
}

impl Tasks {
    fn poll(&self) {
        let pending = |task: &mut Effect| task.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending();
        self.0.lock().unwrap().retain_mut(pending);
    }
}

struct Hand(Mutex<Timestamp>);

impl Clock for Hand {
    fn now(&self) -> Timestamp {
        *self.0.lock().unwrap()
    }
}

/// One lane, of one partition.
struct Bed {
    journal: Arc<EmbeddedJournal>,
    codec: Arc<Codec>,
    folder: Folder,
    tail: Box<dyn Tail>,
    running: Running,
    tasks: Arc<Tasks>,
    started: Arc<Started>,
    hand: Arc<Hand>,
    _directory: tempfile::TempDir,
}

impl Bed {
    fn new(says: impl Fn(&Payment, &Started) -> Start + Send + Sync + 'static) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let journal = EmbeddedJournal::open(&directory.path().join("journal"), 1).unwrap();
        let store = Store::open(&directory.path().join("store")).unwrap();
        let codec = Arc::new(Codec::new().unwrap());
        let hand = Arc::new(Hand(Mutex::new(Timestamp::now())));
        let clocks = Clocks::new(Arc::clone(&hand) as Arc<dyn Clock>);
        let (folder, view) = Folder::open(store, journal.as_ref(), Arc::clone(&codec), clocks).unwrap();
        let tail = folder.tail(journal.as_ref()).unwrap();
        let (tasks, started) = (Arc::new(Tasks::default()), Arc::new(Started::default()));
        let driver = Driver {
            journal: Arc::clone(&journal) as Arc<dyn Journal>,
            view,
            codec: Arc::clone(&codec),
            imports: Imports::default(),
            worker: Arc::new(Told { started: Arc::clone(&started), says: Box::new(says) }),
            bounds: Bounds::default(),
            executor: Arc::clone(&tasks) as Arc<dyn Executor>,
        };
        let running = driver.start().unwrap();
        Self { journal, codec, folder, tail, running, tasks, started, hand, _directory: directory }
    }

    fn append(&self, events: impl Iterator<Item = Event>) {
        let record = |event: Event| event_record(&event, HERE, &self.codec, None).unwrap();
        let appends: Vec<_> = events.map(|event| self.journal.append(record(event))).collect();
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(futures_util::future::try_join_all(appends)).unwrap();
    }

    fn pay(&self, merchant: &str, count: usize) {
        self.append((0..count).map(|n| initiation(merchant, n)));
    }

    /// Folds what there is, and goes on until `done`.
    fn until(&mut self, what: &str, done: impl Fn(&Started) -> bool) {
        for _ in 0..20_000 {
            self.folder.turn(self.tail.as_mut(), Duration::ZERO).unwrap();
            self.running.turn(Duration::from_millis(1)).unwrap();
            self.tasks.poll();
            if done(&self.started) {
                return;
            }
        }
        panic!("not reached: {what}; begun: {}", self.started.order.lock().unwrap().len());
    }
}

fn initiation(merchant: &str, n: usize) -> Event {
    let EventData::PaymentInProgress(mut data) = in_progress(1999) else { unreachable!() };
    data.merchant_id = MerchantId::parse(merchant).unwrap();
    let key = IdempotencyKey::parse(&format!("order-{n}")).unwrap();
    let id = PaymentId::derive(&data.merchant_id, &key);
    Event::new(id, Timestamp::now(), EventData::PaymentInProgress(data))
}

fn count(started: &Started, merchant: &str) -> usize {
    let order = started.order.lock().unwrap();
    order.iter().filter(|(whose, _)| whose.as_str() == merchant).count()
}

fn ends(started: &Started, which: usize) {
    let mut open = started.open.lock().unwrap();
    if !open.is_empty() {
        let which = which % open.len();
        open.remove(which).1.send(()).unwrap();
    }
}

/// More than fit into memory, such as those of a gateway that was switched off.
#[test]
fn payments_that_can_do_nothing_yet_hold_up_no_other() {
    let mut bed = Bed::new(|payment, started| match payment.initiation.merchant_id.as_str() {
        "off" => Start::NotBefore(Timestamp::now().plus(Duration::from_secs(600))),
        _ => started.begin(payment),
    });
    bed.pay("off", DEFERRED_MAX + 100);
    bed.pay("on", 1);
    bed.until("the one that can", |started| count(started, "on") == 1);
}

/// Two merchants whose long queues fill the gateway, and one that pays now and then.
#[test]
fn a_merchant_that_comes_new_has_its_turn_at_a_gateway_that_others_fill() {
    const EACH: usize = 2;
    let mut bed = Bed::new(|payment, started| {
        if started.open.lock().unwrap().len() >= 2 * EACH {
            return Start::Held { until: None };
        }
        if started.open_of(&payment.initiation.merchant_id) >= EACH {
            return Start::HeldMerchant { until: None };
        }
        started.begin(payment)
    });
    bed.pay("a", 200);
    bed.pay("b", 200);
    bed.until("a full gateway", |started| started.open.lock().unwrap().len() == 2 * EACH);
    bed.pay("new", 5);
    bed.until("the new ones", |started| {
        ends(started, 0);
        count(started, "new") == 5
    });
    let (a, b) = (count(&bed.started, "a"), count(&bed.started, "b"));
    assert!(a + b < 100, "{a} and {b} went first");
    bed.until("all", |started| {
        ends(started, 0);
        count(started, "a") + count(started, "b") == 400
    });
    let order = bed.started.order.lock().unwrap();
    let mut times: HashMap<PaymentId, usize> = HashMap::new();
    order.iter().for_each(|(_, id)| *times.entry(*id).or_default() += 1);
    assert!(times.values().all(|times| *times == 1), "each was begun once");
}

#[test]
fn what_an_operator_has_settled_waits_behind_nobody() {
    let mut bed = Bed::new(|payment, started| {
        if payment.is_settled() || count(started, "m") == 0 {
            return started.begin(payment);
        }
        Start::HeldMerchant { until: None }
    });
    bed.pay("m", 50);
    let settled = initiation("m", 49).payment_id;
    let settle = Decision::SettleFailed { code: "refused".to_owned() };
    let events = [parked(), resumed(2, settle)].map(|data| Event::new(settled, Timestamp::now(), data));
    bed.append(events.into_iter());
    bed.until("the first and the settled one", |started| count(started, "m") == 2);
    assert_eq!(bed.started.order.lock().unwrap()[1].1, settled);
}

/// The log's time is not ahead here: the clock of this machine alone was.
#[test]
fn a_clock_that_is_set_back_prolongs_no_wait() {
    let right = Timestamp::now();
    let ahead = right.plus(Duration::from_secs(7_200));
    let mut bed = Bed::new(move |payment, started| match payment.initiation.merchant_id.as_str() {
        "first" if count(started, "first") == 0 => started.begin(payment),
        "later" if count(started, "first") == 0 => Start::NotBefore(ahead.plus(Duration::from_secs(600))),
        _ => started.begin(payment),
    });
    *bed.hand.0.lock().unwrap() = ahead;
    bed.pay("later", 1);
    bed.pay("first", 1);
    bed.until("the one that has no wait", |started| count(started, "first") == 1);
    *bed.hand.0.lock().unwrap() = right.plus(Duration::from_secs(1));
    bed.until("the other, at once", |started| count(started, "later") == 1);
}
