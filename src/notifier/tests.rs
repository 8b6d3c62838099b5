//! A notifier whose rows of payments are behind, and one whose decision meets another's: taken step by step.

mod browsers;

use std::future::ready;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use clap::Parser;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::runtime::Handle;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::lane::{CatchUp, GROUP_POLL, Lane, Running};
use super::schedule::Disable;
use super::{Means, Notifier, Parts, WebhookArgs};
use crate::clock::Clocks;
use crate::control::{
    Asks, Change, Control, Decided, Endpoint, EndpointId, EndpointKind, EndpointSecret, EndpointState, KnownEndpoint,
    PayloadKind, SecretsKey,
};
use crate::deliveries::Deliveries;
use crate::deliveries::outcome::{Cause, Failure, Outcome, Result as Ended, What, WorkId, encode};
use crate::journal::embedded::EmbeddedJournal;
use crate::journal::over::Over;
use crate::journal::{AppendError, Appending, Journal, JournalError, Lanes, NewRecord, Offset, Partition, Reader};
use crate::payment::Timestamp;
use crate::payment::samples::{event, in_progress, payment_id};
use crate::projection::{Folder, Rejections, View};
use crate::schema::Codec;
use crate::store::Store;
use crate::webpush::VapidKey;

/// The bound on every wait for a fact.
const PATIENCE: Duration = Duration::from_secs(30);
const ONE: EndpointId = EndpointId([1; 16]);
const OTHER: EndpointId = EndpointId([2; 16]);

#[derive(Parser)]
struct Flags {
    #[command(flatten)]
    webhooks: WebhookArgs,
}

/// A control log that does not take the first records that it is given.
struct Reluctant {
    log: Arc<EmbeddedJournal>,
    refusals: AtomicUsize,
}

/// The logs, and what is known of them.
struct Bed {
    directory: tempfile::TempDir,
    key: SecretsKey,
    payments: Arc<EmbeddedJournal>,
    decisions: Arc<EmbeddedJournal>,
    deliveries: Arc<EmbeddedJournal>,
    /// Ends the threads that follow the logs.
    stop: CancellationToken,
    _ends: DropGuard,
}

impl Over for Reluctant {
    fn log(&self) -> &dyn Reader {
        self.log.as_ref()
    }
}

impl Journal for Reluctant {
    fn append(&self, record: NewRecord) -> Appending {
        let refuse = |left: usize| left.checked_sub(1);
        match self.refusals.fetch_update(Ordering::SeqCst, Ordering::SeqCst, refuse) {
            Ok(_) => Box::pin(ready(Err(AppendError::NotAppended("it is away".to_owned())))),
            Err(_) => self.log.append(record),
        }
    }

    fn lanes(&self) -> Result<Box<dyn Lanes>, JournalError> {
        self.log.lanes()
    }
}

impl Bed {
    fn new() -> Self {
        Self::of(1)
    }

    fn of(partitions: u32) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let log = |name, partitions| EmbeddedJournal::open(&directory.path().join(name), partitions).unwrap();
        let (payments, deliveries) = (log("payments", partitions), log("deliveries", partitions));
        let decisions = log("control", 1);
        let (key, stop) = (SecretsKey::parse(&SecretsKey::generate()).unwrap(), CancellationToken::new());
        let _ends = stop.clone().drop_guard();
        Self { directory, key, payments, decisions, deliveries, stop, _ends }
    }

    fn path(&self, name: &str) -> std::path::PathBuf {
        self.directory.path().join(name)
    }

    /// Does what `follow` does until the test is over.
    fn follow(&self, follow: impl FnOnce(&CancellationToken) + Send + 'static) {
        let stop = self.stop.clone();
        std::thread::spawn(move || follow(&stop));
    }

    /// What knows all decisions that there are, and what follows them from then on.
    fn control(&self, log: Arc<dyn Journal>) -> (Arc<Control>, impl FnOnce(&CancellationToken) + Send + 'static) {
        let (control, follower) = Control::open(log, self.payments.log_id(), Rejections::default()).unwrap();
        (Arc::new(control), move |stop: &CancellationToken| follower.run(stop).unwrap())
    }

    /// What follows the decisions as they are made.
    fn deciding(&self) -> Arc<Control> {
        let (control, follow) = self.control(Arc::clone(&self.decisions) as _);
        self.follow(follow);
        control
    }

    fn endpoint(&self, id: EndpointId, url: &str) -> Endpoint {
        let (secret, _) = EndpointSecret::mint(id, &self.key).unwrap();
        Endpoint {
            id,
            merchant_id: "default".to_owned(),
            url: url.to_owned(),
            events: None,
            ordered: false,
            payload: PayloadKind::Full,
            state: EndpointState::Enabled,
            reason: None,
            from: vec![0; self.payments.partitions() as usize],
            secrets: vec![secret],
            created_at: Timestamp::now().to_string(),
            enabled_at: Timestamp::now().to_string(),
            kind: EndpointKind::Webhook,
            credential: None,
        }
    }

    fn view(&self, name: &str) -> (Folder, View) {
        let (store, codec) = (Store::open(&self.path(name)).unwrap(), Arc::new(Codec::new().unwrap()));
        Folder::open(store, self.payments.as_ref(), codec, Clocks::system()).unwrap()
    }

    fn fold(&self, folder: Folder) {
        let log = Arc::clone(&self.payments);
        self.follow(move |stop| folder.run(log.as_ref(), stop).unwrap());
    }

    fn notifier(&self, control: Arc<Control>, view: View) -> (Notifier, Deliveries) {
        let rows = self.path("rows");
        let (deliveries, follower) =
            Deliveries::open(&rows, self.deliveries.as_ref(), self.payments.as_ref(), &control).unwrap();
        self.follow(move |stop| follower.run(stop).unwrap());
        let args = Flags::try_parse_from(["notify", "--allow-private-webhooks"]).unwrap().webhooks;
        let parts = Parts {
            deliveries: deliveries.clone(),
            log: Arc::clone(&self.deliveries) as _,
            view,
            control,
            key: self.key.clone(),
            vapid: (VapidKey::of(&self.key).unwrap(), None),
            clocks: Clocks::system(),
        };
        let means = Means::new(&args, Handle::current()).unwrap();
        (Notifier::new(parts, &args, Duration::from_secs(1), means), deliveries)
    }
}

fn effective(decided: Result<Decided<Arc<KnownEndpoint>>, AppendError>) -> Arc<KnownEndpoint> {
    match decided.unwrap() {
        Decided::Effective(known) => known,
        Decided::Late | Decided::Unconfirmed => panic!("it has no effect"),
    }
}

async fn change(control: &Control, change: Change, endpoint: Endpoint, version: u64) -> Arc<KnownEndpoint> {
    effective(control.change_endpoint(change, endpoint, version, Timestamp::now(), PATIENCE).await)
}

/// Takes whatever comes; says how often anybody has come.
async fn receiver() -> (String, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    let came = Arc::new(AtomicUsize::new(0));
    let counts = Arc::clone(&came);
    tokio::spawn(async move {
        while let Ok((mut socket, _)) = listener.accept().await {
            counts.fetch_add(1, Ordering::SeqCst);
            let _ = socket.read(&mut [0; 16 * 1024]).await;
            let _ = socket.write_all(b"HTTP/1.1 204 x\r\nconnection: close\r\n\r\n").await;
        }
    });
    (url, came)
}

async fn append(log: &EmbeddedJournal, partition: Partition, value: Vec<u8>) {
    log.append(NewRecord { partition, key: Vec::new(), headers: Vec::new(), value }).await.unwrap();
}

fn end(log: &EmbeddedJournal) -> u64 {
    log.ends(Partition(0)).unwrap().committed.0
}

fn turn_until(running: &mut Running, what: &str, fact: impl Fn(&Running) -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !fact(running) {
        assert!(Instant::now() < deadline, "waited in vain: {what}");
        tokio::task::block_in_place(|| running.turn(GROUP_POLL)).unwrap();
    }
}

/// The rows of payments were thrown away and those of deliveries were not, say. And what was passed over for it is looked at
/// again by itself, for nothing new comes that would touch it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_this_instance_has_not_folded_is_no_attempt_and_is_sent_when_it_has() {
    let bed = Bed::new();
    let (url, came) = receiver().await;
    let control = bed.deciding();
    change(&control, Change::Created, bed.endpoint(ONE, &url), 1).await;
    let value = Codec::new().unwrap().encode(&event(1, in_progress(1999))).unwrap();
    append(&bed.payments, Partition(0), value).await;

    let ((up_to_date, seen), (behind, view)) = (bed.view("up-to-date"), bed.view("behind"));
    bed.fold(up_to_date);
    let (notifier, deliveries) = bed.notifier(control, view);
    let scanner = deliveries.scanner(Arc::clone(&bed.payments) as _, seen, Arc::new(Codec::new().unwrap()));
    bed.follow(move |stop| scanner.run(stop).unwrap());

    let lanes = bed.deliveries.lanes().unwrap();
    let mut running = Running::new(notifier.attempts, notifier.bounds, lanes);
    turn_until(&mut running, "it cannot be sent from here", Running::waits_for_another_try);
    assert_eq!((came.load(Ordering::SeqCst), end(&bed.deliveries)), (0, 0), "no attempt was made, and none is counted");
    turn_until(&mut running, "and it is tried again", |running| !running.waits_for_another_try());
    assert_eq!((came.load(Ordering::SeqCst), end(&bed.deliveries)), (0, 0));
    bed.fold(behind);
    turn_until(&mut running, "it is delivered", |_| end(&bed.deliveries) == 1);
    turn_until(&mut running, "it is known", |_| deliveries.folded_to(Partition(0)) == Offset(1));
    let attempts = deliveries.attempts(ONE, None, 10).unwrap().0;
    assert_eq!(attempts.iter().map(|one| (one.attempt, one.status)).collect::<Vec<_>>(), [(1, Some(204))]);
    assert_eq!(came.load(Ordering::SeqCst), 1);
}

/// Its secret is exchanged while it answers 410, and before that the control log is away.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_endpoint_that_is_gone_is_disabled_though_the_log_is_away_and_another_decision_comes_between() {
    let bed = Bed::new();
    let first = bed.deciding();
    change(&first, Change::Created, bed.endpoint(OTHER, "http://127.0.0.1:9/"), 1).await;
    let gone = change(&first, Change::Created, bed.endpoint(ONE, "http://127.0.0.1:9/"), 1).await;
    let log = Arc::new(Reluctant { log: Arc::clone(&bed.decisions), refusals: AtomicUsize::new(1) });
    let (control, follow) = bed.control(Arc::clone(&log) as _);
    change(&first, Change::Rotated, gone.endpoint.clone(), 2).await;
    let (_, view) = bed.view("rows-of-payments");
    let (notifier, _) = bed.notifier(Arc::clone(&control), view);
    let before = end(&bed.decisions);
    let (attempts, known, stop) = (Arc::clone(&notifier.attempts), Arc::clone(&gone), bed.stop.clone());
    let disabling = tokio::spawn(async move { attempts.disable(&known, Disable::Gone, &stop).await });
    let deadline = Instant::now() + PATIENCE;
    while end(&bed.decisions) == before {
        assert!(Instant::now() < deadline, "it is not tried again");
        tokio::task::yield_now().await;
    }
    assert_eq!(log.refusals.load(Ordering::SeqCst), 0, "the log was away once");
    bed.follow(follow);
    tokio::time::timeout(PATIENCE, disabling).await.expect("it is decided").unwrap();

    let known = control.webhooks().known();
    let now = &known.endpoints[&ONE];
    assert_eq!((now.version, now.endpoint.state), (3, EndpointState::Disabled), "behind the other decision");
    assert_eq!(now.endpoint.reason.as_deref(), Some("gone"));
    let told = || {
        let requests = control.webhooks().known().requests.since(0);
        requests.iter().map(|request| (request.endpoint, request.asks.clone())).collect::<Vec<_>>()
    };
    let once = [(OTHER, Asks::Disabled { disabled: ONE, reason: "gone".to_owned() })];
    assert_eq!(told(), once, "the others hear of it from who has decided it, once");
    notifier.attempts.disable(&gone, Disable::Gone, &bed.stop).await;
    assert_eq!(told(), once, "and not from who comes late");
}

/// It was an attempt of another lane that was answered so, and all that this instance knew of it is gone.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_endpoint_is_left_alone_by_every_lane_until_it_takes_something_again() {
    let bed = Bed::of(2);
    let (url, came) = receiver().await;
    let control = bed.deciding();
    change(&control, Change::Created, bed.endpoint(ONE, &url), 1).await;
    let (now, hour) = (Timestamp::now(), Duration::from_secs(3_600));
    let work = WorkId { target: ONE.into(), partition: Partition(1), offset: Offset(0), cause: Cause::Live };
    let event_id = "0197a4c0-0000-7000-8000-000000000000".to_owned();
    let what =
        What::Event { payment: payment_id("b"), version: 1, name: "PaymentInProgress".to_owned(), event: event_id };
    let result = Ended::Failed { failure: Failure::Status, next_at: Some(now.plus(hour)) };
    let pause_until = Some(now.plus(hour));
    let asked = Outcome { work, what, attempt: 1, at: now, took_ms: 1, status: Some(429), result, pause_until };
    let record = |outcome: &Outcome| encode(bed.payments.log_id(), outcome).unwrap();
    append(&bed.deliveries, Partition(1), record(&asked)).await;
    let value = Codec::new().unwrap().encode(&event(1, in_progress(1999))).unwrap();
    append(&bed.payments, Partition(0), value).await;

    let (folder, view) = bed.view("rows-of-payments");
    bed.fold(folder);
    let (notifier, deliveries) = bed.notifier(control, view.clone());
    let scanner = deliveries.scanner(Arc::clone(&bed.payments) as _, view, Arc::new(Codec::new().unwrap()));
    bed.follow(move |stop| scanner.run(stop).unwrap());
    let running = || {
        let lanes = bed.deliveries.lanes().unwrap();
        Running::new(Arc::clone(&notifier.attempts), notifier.bounds, lanes)
    };
    let (mut first, is_done) = (running(), |lane: &Lane| lane.catch_up == CatchUp::Done);
    let is_known = |offset| deliveries.folded_to(Partition(1)) == Offset(offset);
    turn_until(&mut first, "the lanes are taken, and what is due is known", |running| {
        let waits = deliveries.open_count(ONE, 10).unwrap() == Some(1);
        is_known(1) && waits && running.owned.len() == 2 && running.owned.values().all(is_done)
    });
    (0..3).for_each(|_| tokio::task::block_in_place(|| first.turn(GROUP_POLL)).unwrap());
    assert!(!first.is_sending() && came.load(Ordering::SeqCst) == 0, "nothing is sent to it");
    drop(first);

    // Another notifier did not know of it yet.
    let taken = Outcome { at: now.plus(Duration::from_secs(60)), result: Ended::Delivered, pause_until: None, ..asked };
    append(&bed.deliveries, Partition(1), record(&taken)).await;
    let mut second = running();
    turn_until(&mut second, "it is told", |_| is_known(2) && end(&bed.deliveries) == 1);
    assert_eq!(came.load(Ordering::SeqCst), 1);
}
