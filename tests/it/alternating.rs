//! A client that asks one instance, then another that has not come as far: it never sees anything go back. Only Kafka has two
//! instances of one log.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Sender, channel};
use std::thread::JoinHandle;

use futures_util::future::join_all;
use paylog::projection::View;
use paylog::service::Role;

use crate::client::{Answer, Client, Stream, body};
use crate::cluster::{Bed, Running, until};
use crate::streams::{mark, snapshot};

const CUSTOMER: &str = "cus_1";
const PAGE: usize = 200;

/// The fold of an instance writes nothing as long as this is there.
struct Held {
    release: Sender<()>,
    holding: JoinHandle<()>,
}

impl Held {
    fn back(running: &Running) -> Self {
        let ((release, released), (sender, holds), progress) = (channel(), channel(), running.view.progress());
        let holding = std::thread::spawn(move || {
            let _held = progress.hold();
            sender.send(()).unwrap();
            released.recv().unwrap();
        });
        holds.recv().unwrap();
        Self { release, holding }
    }

    fn let_go(self) {
        self.release.send(()).unwrap();
        self.holding.join().unwrap();
    }
}

/// Goes on with what the last answer said of its position, whatever it was of.
struct Reader {
    payment: String,
    at_least: String,
    version: u64,
    /// How many payments of the customer, and of how many events.
    listed: (usize, u64),
    behind: usize,
}

impl Reader {
    async fn new(client: &Client, payment: &str) -> Self {
        let at_least = client.get(&format!("/v1/payments/{payment}")).await.header("paylog-position").to_owned();
        Self { payment: payment.to_owned(), at_least, version: 0, listed: (0, 0), behind: 0 }
    }

    /// Reads the payment, its history and the list.
    async fn look(&mut self, client: &Client) {
        let payment = self.ask(client, &format!("/v1/payments/{}?", self.payment)).await;
        if let Some(version) = payment.as_ref().and_then(|answer| answer.body["version"].as_u64()) {
            assert!(version >= self.version, "it was at {} and is at {version}", self.version);
            self.version = version;
        }
        if let Some(events) = self.ask(client, &format!("/v1/payments/{}/events?", self.payment)).await {
            let events = events.body["data"].as_array().unwrap().len() as u64;
            assert!(events >= self.version, "{events} events, and it was at version {}", self.version);
        }
        if let Some(list) = self.ask(client, &format!("/v1/payments?customer_id={CUSTOMER}&limit={PAGE}&")).await {
            let payments = list.body["data"].as_array().unwrap();
            let versions = payments.iter().map(|payment| payment["version"].as_u64().unwrap()).sum();
            let listed = (payments.len(), versions);
            assert!(
                listed.0 >= self.listed.0 && listed.1 >= self.listed.1,
                "it was {:?} and is {listed:?}",
                self.listed
            );
            self.listed = listed;
        }
    }

    /// `None` if it is not as far as this reader.
    async fn ask(&mut self, client: &Client, path: &str) -> Option<Answer> {
        let answer = client.get(&format!("{path}at_least={}", self.at_least)).await;
        self.at_least = answer.header("paylog-position").to_owned();
        if answer.status == 503 {
            assert_eq!((answer.text("code"), answer.header("retry-after").is_empty()), ("behind", false), "{answer:?}");
            self.behind += 1;
            return None;
        }
        assert_eq!(answer.status, 200, "never 404, for it has been seen: {answer:?}");
        Some(answer)
    }
}

async fn two(bed: &Bed) -> (Running, Running, Running) {
    let (one, other) = (bed.run(Role::Serve, "one", &[]).await, bed.run(Role::Serve, "other", &[]).await);
    (one, other, bed.run(Role::Process, "process", &[]).await)
}

async fn stop(one: Running, other: Running, processor: Running) {
    processor.stop().await;
    one.stop().await;
    other.stop().await;
}

/// Has this instance folded everything that the other has?
fn covers(view: &View, other: &View) -> bool {
    view.folded().covers(&other.folded())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs Kafka: see CONTRIBUTING.md"]
async fn an_instance_that_is_behind_says_so_and_never_shows_what_was() {
    let bed = Bed::kafka().await;
    let (one, other, processor) = two(&bed).await;
    for (n, (ahead, behind)) in [(&one, &other), (&other, &one)].into_iter().enumerate() {
        until("both are as far", async || covers(&behind.view, &ahead.view)).await;
        let held = Held::back(behind);
        let paid = ahead.client.pay_to_the_end(&format!("order-{n}"), &body(CUSTOMER, "pm_sim_transient")).await;
        assert_eq!((paid.status, paid.text("status"), &paid.body["version"]), (200, "successful", &3.into()));
        assert!(!covers(&behind.view, &ahead.view));
        let mut reader = Reader::new(&ahead.client, paid.text("id")).await;
        reader.look(&ahead.client).await;
        assert_eq!((reader.version, reader.listed.0, reader.behind), (3, n + 1, 0));
        reader.look(&behind.client).await;
        assert_eq!(reader.behind, 3, "none of the three is answered with what was before");
        // Those who ask while it comes on are answered when it has.
        let at_least = &reader.at_least;
        let waiting =
            ["?", "/events?"].map(|rest| format!("/v1/payments/{}{rest}at_least={at_least}", paid.text("id")));
        let waiting = join_all(waiting.iter().map(|path| behind.client.get(path)));
        let (answers, ()) = tokio::join!(waiting, async { held.let_go() });
        assert!(answers.iter().all(|answer| answer.status == 200), "{answers:?}");
        assert_eq!((&answers[0].body["version"], answers[1].body["data"].as_array().unwrap().len()), (&3.into(), 3));
        reader.look(&behind.client).await;
        assert_eq!((reader.version, reader.listed.0, reader.behind), (3, n + 1, 3));
    }
    stop(one, other, processor).await;
}

/// Both instances are held back in turns, each until the other is further.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs Kafka: see CONTRIBUTING.md"]
async fn a_client_that_alternates_under_load_never_goes_back() {
    const TURNS: usize = 40;
    let bed = Bed::kafka().await;
    let (one, other, processor) = two(&bed).await;
    let payer = bed.run(Role::Serve, "payer", &[]).await;
    let first = payer.client.pay("order", &body(CUSTOMER, "pm_sim_transient")).await;
    let (done, client) = (Arc::new(AtomicBool::new(false)), payer.client.clone());
    let stop_paying = Arc::clone(&done);
    let paying = tokio::spawn(async move {
        let mut paid = 0;
        while !stop_paying.load(Ordering::Acquire) {
            // As many of one customer as are on one page.
            let customer = if paid < PAGE - 1 { CUSTOMER } else { "cus_2" };
            let answer = client.pay_to_the_end(&format!("order-{paid}"), &body(customer, "pm_card_visa")).await;
            assert_eq!(answer.status, 200, "{answer:?}");
            paid += 1;
        }
        paid
    });
    for running in [&one, &other] {
        until("it has the first", async || running.view.payment(first.id()).unwrap().is_some()).await;
    }
    let looking = async {
        let (mut reader, mut looks) = (Reader::new(&one.client, first.text("id")).await, 0);
        while !done.load(Ordering::Acquire) {
            reader.look(if looks % 2 == 0 { &one.client } else { &other.client }).await;
            looks += 1;
        }
        (reader, looks)
    };
    let holding = async {
        for turn in 0..TURNS {
            let (behind, ahead) = if turn % 2 == 0 { (&one, &other) } else { (&other, &one) };
            let held = Held::back(behind);
            until("the other is further", async || !covers(&behind.view, &ahead.view)).await;
            held.let_go();
        }
        done.store(true, Ordering::Release);
    };
    let ((reader, looks), ()) = tokio::join!(looking, holding);
    let paid = paying.await.unwrap();
    println!("{looks} looks, {paid} payments meanwhile, told {} times that it is behind", reader.behind);
    assert!(looks > TURNS / 2 && reader.listed.0 > TURNS / 4, "{looks} looks, {:?}", reader.listed);
    payer.stop().await;
    stop(one, other, processor).await;
}

/// All frames up to the end of the payment with this id.
async fn until_ended(stream: &mut Stream, id: &str, versions: &mut HashMap<String, u64>) -> String {
    loop {
        let frame = stream.next().await.expect("the stream is not ended");
        let Some(last_id) = frame.id.clone() else { continue };
        if frame.data.is_null() {
            continue;
        }
        let (payment, version) = mark(&frame);
        let seen = versions.insert(payment.clone(), version).unwrap_or(0);
        assert_eq!(version, seen + 1, "nothing twice and nothing left out: {frame:?}");
        if payment == id && frame.data["payment"]["phase"] == "done" {
            return last_id;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs Kafka: see CONTRIBUTING.md"]
async fn a_stream_that_reconnects_at_an_instance_that_is_behind_waits_and_goes_on() {
    const TURNS: usize = 4;
    let bed = Bed::kafka().await;
    let (one, other, processor) = two(&bed).await;
    let query = format!("customer_id={CUSTOMER}");
    let (_, mut stream) = one.client.stream(&query, None).await;
    let (mut last_id, mut versions) = (snapshot(&mut stream).await.1, HashMap::new());
    for turn in 0..TURNS {
        let (ahead, behind) = if turn % 2 == 0 { (&one, &other) } else { (&other, &one) };
        until("both are as far", async || covers(&behind.view, &ahead.view)).await;
        let held = Held::back(behind);
        let pay = async |name: &str| {
            let paid =
                ahead.client.pay_to_the_end(&format!("{name}-{turn}"), &body(CUSTOMER, "pm_sim_transient")).await;
            assert_eq!(paid.status, 200, "{paid:?}");
            paid.text("id").to_owned()
        };
        let seen = pay("seen").await;
        last_id = until_ended(&mut stream, &seen, &mut versions).await;
        let (status, mut resumed) = behind.client.stream(&query, Some(&last_id)).await;
        assert_eq!(status, 200);
        let missed = pay("missed").await;
        // Of one payment that the other has never heard of.
        let of_one = format!("payment_id={seen}");
        let log8 = last_id.split_once('.').unwrap().0.to_owned();
        let (status, mut of_one) = behind.client.stream(&of_one, Some(&format!("{log8}.2"))).await;
        assert_eq!(status, 200, "never 404: a browser would not come back");
        assert!(resumed.is_silent().await && of_one.is_silent().await, "it has nothing to tell yet");
        held.let_go();
        last_id = until_ended(&mut resumed, &missed, &mut versions).await;
        let end = of_one.next().await.expect("the end");
        assert_eq!((mark(&end), end.id), ((seen, 3), Some(format!("{log8}.3"))));
        assert!(of_one.next().await.is_none(), "and no more");
        stream = resumed;
    }
    assert_eq!((versions.len(), versions.values().sum::<u64>()), (2 * TURNS, 6 * TURNS as u64));
    assert!(!last_id.is_empty());
    stop(one, other, processor).await;
}
