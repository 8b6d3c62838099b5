//! One story over every channel, and connections that are cut at any byte: each channel tells every version of every payment
//! once and in order, and all of them the same.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use reqwest::Method;
use serde_json::{Value, json};
use tokio::task::JoinHandle;

use crate::client::{Client, body};
use crate::cluster::{Bed, PATIENCE, until};
use crate::cutter::{CutIn, Cutter};
use crate::receiver::{Received, Receiver, Says};
use crate::socket::Socket;
use crate::streams::snapshot;
use crate::webhooks::{Parts, create};

/// On each of the six channels: 1,200 in all.
const CUTS: usize = 200;
/// A connection is cut after so many bytes from the server, at most: a frame has some 1,400, so that many see none whole.
const ANSWERS: CutIn = CutIn::Answers(5_000);
/// A webhook has some 2,000 bytes, and its answer 40.
const WEBHOOKS: CutIn = CutIn::Both { requests: 4_000, answers: 80 };
/// A receiver that is behind a cutter fails far more often in a row than ten times.
const RETRIES: &str = "5,5,10,10,10,10,20,20,20,20,20,20,20,20,50,50,50,50,50,50,50,50,50,50,50,50,50,50,50,50";
const PAYERS: usize = 8;
const FOLLOWED: [&str; 4] = ["stream", "stream over HTTP/2", "socket", "pages"];

/// What one channel has told: the data of each change, in order.
#[derive(Default)]
struct Transcript {
    cursor: String,
    changes: Vec<Value>,
    /// How many they are, for whoever waits for it.
    told: Arc<AtomicUsize>,
}

impl Transcript {
    fn from(cursor: &str) -> Self {
        Self { cursor: cursor.to_owned(), ..Self::default() }
    }

    fn add(&mut self, changes: impl IntoIterator<Item = Value>) {
        self.changes.extend(changes);
        self.told.store(self.changes.len(), Ordering::SeqCst);
    }

    /// What one connection over this channel tells, until it is cut or `enough`.
    async fn stream(&mut self, client: &Client, enough: &impl Fn(&Self) -> bool) {
        let Ok((_, mut stream)) = client.try_stream("", Some(&self.cursor)).await else { return };
        while !enough(self) {
            let Some(frame) = stream.try_next().await else { return };
            self.cursor = frame.id.unwrap_or_else(|| std::mem::take(&mut self.cursor));
            self.add((frame.data != Value::Null).then_some(frame.data));
        }
    }

    async fn socket(&mut self, client: &Client, enough: &impl Fn(&Self) -> bool) {
        let Some(mut socket) = Socket::open_if_it_lives(client).await else { return };
        let subscribe = json!({"type": "subscribe", "id": "all", "cursor": self.cursor});
        if !socket.ask_if_it_lives(&subscribe).await {
            return;
        }
        while !enough(self) {
            let Ok(message) = socket.next_or_close().await else { return };
            assert_ne!(message["type"], "error", "{message}");
            if let Some(cursor) = message["cursor"].as_str() {
                cursor.clone_into(&mut self.cursor);
            }
            self.add(message.get("data").cloned());
        }
    }

    async fn pages(&mut self, client: &Client, enough: &impl Fn(&Self) -> bool) {
        while !enough(self) {
            let path = format!("/v1/events?limit={}&after={}", rand::random_range(1..=3), self.cursor);
            let answer = client.try_send(reqwest::Method::GET, &path, &[("prefer", "wait=5")], None).await;
            let Ok(page) = answer else { return };
            page.text("next_cursor").clone_into(&mut self.cursor);
            self.add(page.body["data"].as_array().unwrap().iter().cloned());
        }
    }

    /// The changes of each payment, by its id.
    fn by_payment(&self) -> BTreeMap<String, Vec<Value>> {
        let mut payments: BTreeMap<String, Vec<Value>> = BTreeMap::new();
        for change in &self.changes {
            payments.entry(change["payment"]["id"].as_str().unwrap().to_owned()).or_default().push(change.clone());
        }
        payments
    }
}

/// What a webhook receiver was told, without what it knew already, as the contract asks of it.
fn webhooks(received: &[Received]) -> Transcript {
    let mut known = HashSet::new();
    let new = received.iter().filter(|one| known.insert(one.id().to_owned()));
    let change = |one: &Received| json!({"event": one.body["data"]["event"], "payment": one.body["data"]["payment"]});
    for one in received {
        assert_eq!(one.sequence(), one.body["data"]["event"]["version"], "{one:?}");
    }
    Transcript { changes: new.map(change).collect(), ..Transcript::default() }
}

/// The states that the long-poll of one payment tells, to its end, however often it is cut.
async fn poll(client: &Client, id: &str) -> Vec<Value> {
    let (path, mut states, mut etag) = (format!("/v1/payments/{id}"), Vec::new(), String::new());
    while states.last().is_none_or(|state: &Value| state["status"] == "in_progress") {
        let known: &[(&str, &str)] =
            if etag.is_empty() { &[] } else { &[("if-none-match", &etag), ("prefer", "wait=30")] };
        let Ok(answer) = client.try_send(Method::GET, &path, known, None).await else { continue };
        if answer.status == 200 {
            answer.header("etag").clone_into(&mut etag);
            states.push(answer.body);
        }
    }
    states
}

/// What one payer was told of its payments, by their ids.
type Polled = HashMap<String, Vec<Value>>;

/// Pays, and polls each payment to its end, until every channel was cut as often as it is to be.
async fn pay(client: Client, polling: Client, payer: usize, cutters: Vec<Arc<Cutter>>) -> Polled {
    let (mut paid, deadline) = (Polled::new(), Instant::now() + PATIENCE * 5);
    while cutters.iter().any(|cutter| cutter.cuts() < CUTS) {
        let cuts = || cutters.iter().map(|cutter| cutter.cuts()).collect::<Vec<_>>();
        assert!(Instant::now() < deadline, "a channel does not come back: {:?}", cuts());
        let n = paid.len();
        let method = ["pm_card_visa", "pm_card_visa_chargeDeclined", "pm_sim_transient"][n % 3];
        let accepted = client.pay(&format!("payer-{payer}-{n}"), &body(&format!("cus_{}", n % 5), method)).await;
        assert_eq!(accepted.status, 202, "{accepted:?}");
        let id = accepted.text("id").to_owned();
        let states = tokio::time::timeout(PATIENCE, poll(&polling, &id)).await.expect("a payment's poll does not end");
        paid.insert(id, states);
    }
    paid
}

/// Follows everything over one channel, which is cut, until `expected` changes have come.
async fn follow(
    channel: &'static str,
    client: Client,
    mut transcript: Transcript,
    expected: Arc<AtomicUsize>,
) -> Transcript {
    let enough = |told: &Transcript| told.changes.len() >= expected.load(Ordering::SeqCst);
    let over_http2 = client.over_http2();
    while !enough(&transcript) {
        match channel {
            "stream" => transcript.stream(&client, &enough).await,
            "stream over HTTP/2" => transcript.stream(&over_http2, &enough).await,
            "socket" => transcript.socket(&client, &enough).await,
            _ => transcript.pages(&client, &enough).await,
        }
    }
    transcript
}

/// What was told when all was told. It may take its time, as long as it goes on.
async fn whole(channel: &str, told: &AtomicUsize, mut followed: JoinHandle<Transcript>) -> Transcript {
    loop {
        let before = told.load(Ordering::SeqCst);
        match tokio::time::timeout(PATIENCE, &mut followed).await {
            Ok(transcript) => return transcript.unwrap(),
            Err(_) => assert!(told.load(Ordering::SeqCst) > before, "{channel} tells nothing behind change {before}"),
        }
    }
}

pub async fn every_channel_tells_every_version_once_and_in_order_over_a_thousand_cuts(bed: &Bed) {
    let parts = Parts::start(bed, &["--webhook-retry-ms", RETRIES]).await;
    let client = &parts.front.client;
    let server: SocketAddr = client.url.strip_prefix("http://").unwrap().parse().unwrap();
    let (_, mut stream) = client.stream("", None).await;
    let (_, start) = snapshot(&mut stream).await;
    // Says no to one in eight, besides all that is cut.
    let (taken, sent_again) = (Mutex::new(HashSet::new()), Arc::new(AtomicUsize::new(0)));
    let again = Arc::clone(&sent_again);
    let receiver = Receiver::saying(move |_, one| {
        let mut taken = taken.lock().unwrap();
        again.fetch_add(usize::from(taken.contains(one.id())), Ordering::SeqCst);
        if rand::random_range(0..8) == 0 {
            return Says::status(500);
        }
        taken.insert(one.id().to_owned());
        Says::status(204)
    })
    .await;
    let before = Cutter::before(([127, 0, 0, 1], receiver.port).into(), WEBHOOKS, CUTS).await;
    create(client, json!({"url": format!("http://{}/hook", before.address), "ordered": true})).await;

    let told_all = Arc::new(AtomicUsize::new(usize::MAX));
    let (mut channels, mut cutters) = (Vec::new(), vec![Arc::new(before)]);
    for channel in FOLLOWED {
        let cutter = Arc::new(Cutter::before(server, ANSWERS, CUTS).await);
        let through = Client::new(&format!("http://{}", cutter.address));
        let transcript = Transcript::from(&start);
        let told = Arc::clone(&transcript.told);
        let followed = tokio::spawn(follow(channel, through, transcript, Arc::clone(&told_all)));
        channels.push((channel, told, followed));
        cutters.push(cutter);
    }
    cutters.push(Arc::new(Cutter::before(server, ANSWERS, CUTS).await));
    let polling = Client::new(&format!("http://{}", cutters.last().unwrap().address));
    let pay = |payer| tokio::spawn(pay(client.clone(), polling.clone(), payer, cutters.clone()));
    let mut polled = Polled::new();
    for payer in (0..PAYERS).map(pay).collect::<Vec<_>>() {
        polled.extend(payer.await.unwrap());
    }
    let versions = polled.values().map(|states| version(states.last().unwrap())).sum::<u64>() as usize + 2;
    told_all.store(versions, Ordering::SeqCst);
    // Those who have all the others are waiting for more.
    let last = client.pay("last", &body("cus_1", "pm_card_visa")).await;
    polled.insert(last.text("id").to_owned(), poll(&polling, last.text("id")).await);

    let mut transcripts = Vec::new();
    for (channel, told, followed) in channels {
        transcripts.push((channel, whole(channel, &told, followed).await));
    }
    until("every webhook has come", async || receiver.messages() >= versions).await;
    let received = receiver.received();
    transcripts.push(("webhooks", webhooks(&received)));
    judge(&transcripts, &polled);
    assert!(sent_again.load(Ordering::SeqCst) > 0, "what was taken, and whose answer was lost, is sent again");
    let cuts: Vec<usize> = cutters.iter().map(|cutter| cutter.cuts()).collect();
    println!(
        "{} payments, {versions} changes told on each of 6 channels over {cuts:?} cuts; {} webhooks came",
        polled.len(),
        received.len()
    );
    parts.stop().await;
}

fn version(state: &Value) -> u64 {
    state["version"].as_u64().unwrap()
}

fn judge(transcripts: &[(&str, Transcript)], polled: &Polled) {
    let of_first = transcripts[0].1.by_payment();
    for (channel, transcript) in transcripts {
        let payments = transcript.by_payment();
        assert_eq!(payments.len(), polled.len(), "{channel}");
        for (id, changes) in &payments {
            let versions: Vec<u64> = changes.iter().map(|c| c["event"]["version"].as_u64().unwrap()).collect();
            let last = version(polled[id].last().unwrap());
            assert_eq!(versions, (1..=last).collect::<Vec<_>>(), "{channel}: {id}");
        }
        assert!(payments == of_first, "{channel} tells the same as the others");
    }
    for (id, states) in polled {
        is_what_the_others_tell(states, &of_first[id]);
    }
}

/// The long-poll of one payment tells states and not events: none goes back, each is what a change says of that version, and
/// the last is the end.
fn is_what_the_others_tell(states: &[Value], changes: &[Value]) {
    let mut before = 0;
    for state in states {
        assert!(version(state) > before, "{state}");
        before = version(state);
        assert_eq!(state, &changes[before as usize - 1]["payment"]);
    }
    assert_eq!(before as usize, changes.len());
}

pub async fn a_payments_long_poll_tells_what_its_stream_tells(bed: &Bed) {
    let system = bed.start_with(&["--simulator-latency-ms", "100"]).await;
    let client = &system.front.client;
    let accepted = client.pay("order-1", &body("cus_1", "pm_sim_transient")).await;
    let states = poll(client, accepted.text("id")).await;
    let answer = client.get(&format!("/v1/payments/{}", accepted.text("id"))).await;
    let id = answer.header("etag").trim_matches('"');
    let log8 = id.split_once('.').unwrap().0;
    let frames = client.whole_stream(&format!("payment_id={}", accepted.text("id")), Some(&format!("{log8}.0"))).await;
    assert_eq!(frames.last().unwrap().id.as_deref(), Some(id), "the ETag is the id of the frame");
    assert!(states.len() > 1, "it was seen while it was in progress: {states:?}");
    is_what_the_others_tell(&states, &frames.into_iter().map(|frame| frame.data).collect::<Vec<_>>());
    system.stop().await;
}
