//! One story over every channel, and connections that are cut at any byte: each channel tells every version of every payment
//! once and in order, and all of them the same.

use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::task::AbortOnDropHandle;

use crate::client::{Client, body};
use crate::cluster::{Bed, PATIENCE};
use crate::socket::Socket;
use crate::streams::snapshot;

/// On each of the four channels: 1,000 in all.
const CUTS: usize = 250;
/// A connection is cut after so many bytes from the server, at most: a frame has some 1,400, so that many see none whole.
const CUT_AFTER_MAX_BYTES: usize = 5_000;
const PAYERS: usize = 8;

/// Stands between a client and the server, and cuts each connection at some byte of what the server says, [`CUTS`] times.
struct Cutter {
    address: SocketAddr,
    cuts: Arc<AtomicUsize>,
    _serving: AbortOnDropHandle<()>,
}

impl Cutter {
    async fn before(server: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (address, cuts) = (listener.local_addr().unwrap(), Arc::new(AtomicUsize::new(0)));
        let counted = Arc::clone(&cuts);
        let serving = tokio::spawn(async move {
            loop {
                let (client, _) = listener.accept().await.unwrap();
                tokio::spawn(pass(client, server, Arc::clone(&counted)));
            }
        });
        Self { address, cuts, _serving: AbortOnDropHandle::new(serving) }
    }

    fn cuts(&self) -> usize {
        self.cuts.load(Ordering::SeqCst)
    }
}

async fn pass(mut client: TcpStream, server: SocketAddr, cuts: Arc<AtomicUsize>) {
    let Ok(mut server) = TcpStream::connect(server).await else { return };
    let cut_after =
        if cuts.load(Ordering::SeqCst) < CUTS { rand::random_range(0..CUT_AFTER_MAX_BYTES) } else { usize::MAX };
    {
        let ((mut from_client, mut to_client), (mut from_server, mut to_server)) = (client.split(), server.split());
        let down = async {
            let (mut left, mut buffer) = (cut_after, [0; 1024]);
            while left > 0 {
                let room = left.min(buffer.len());
                let read = from_server.read(&mut buffer[..room]).await.unwrap_or(0);
                if read == 0 || to_client.write_all(&buffer[..read]).await.is_err() {
                    return;
                }
                left -= read;
            }
            cuts.fetch_add(1, Ordering::SeqCst);
        };
        tokio::select! {
            () = down => {}
            _ = tokio::io::copy(&mut from_client, &mut to_server) => {}
        }
    }
    // Half of them with a reset.
    if rand::random() {
        let _ = client.set_zero_linger();
    }
}

/// What one channel has told: the data of each change, in order.
#[derive(Default)]
struct Transcript {
    cursor: String,
    changes: Vec<Value>,
}

impl Transcript {
    fn from(cursor: &str) -> Self {
        Self { cursor: cursor.to_owned(), changes: Vec::new() }
    }

    /// What one connection over this channel tells, until it is cut or `enough`.
    async fn stream(&mut self, client: &Client, enough: &impl Fn(&Self) -> bool) {
        let Ok((_, mut stream)) = client.try_stream("", Some(&self.cursor)).await else { return };
        while !enough(self) {
            let Some(frame) = stream.try_next().await else { return };
            self.cursor = frame.id.unwrap_or_else(|| std::mem::take(&mut self.cursor));
            self.changes.extend((frame.data != Value::Null).then_some(frame.data));
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
            self.changes.extend(message.get("data").cloned());
        }
    }

    async fn pages(&mut self, client: &Client, enough: &impl Fn(&Self) -> bool) {
        while !enough(self) {
            let path = format!("/v1/events?limit={}&after={}", rand::random_range(1..=3), self.cursor);
            let answer = client.try_send(reqwest::Method::GET, &path, &[("prefer", "wait=5")], None).await;
            let Ok(page) = answer else { return };
            page.text("next_cursor").clone_into(&mut self.cursor);
            self.changes.extend(page.body["data"].as_array().unwrap().iter().cloned());
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

/// Pays until every channel was cut as often as it is to be; answers with the versions that each payment came to.
async fn pay(client: Client, payer: usize, cutters: Vec<Arc<Cutter>>) -> HashMap<String, u64> {
    let (mut paid, deadline) = (HashMap::new(), Instant::now() + PATIENCE * 5);
    while cutters.iter().any(|cutter| cutter.cuts() < CUTS) {
        let cuts = || cutters.iter().map(|cutter| cutter.cuts()).collect::<Vec<_>>();
        assert!(Instant::now() < deadline, "a channel does not come back: {:?}", cuts());
        let n = paid.len();
        let method = ["pm_card_visa", "pm_card_visa_chargeDeclined", "pm_sim_transient"][n % 3];
        let body = body(&format!("cus_{}", n % 5), method);
        let ended = client.pay_to_the_end(&format!("payer-{payer}-{n}"), &body).await;
        assert_eq!(ended.status, 200, "{ended:?}");
        paid.insert(ended.text("id").to_owned(), ended.body["version"].as_u64().unwrap());
    }
    paid
}

pub async fn every_channel_tells_every_version_once_and_in_order_over_a_thousand_cuts(bed: &Bed) {
    let system = bed.start().await;
    let client = &system.front.client;
    let server: SocketAddr = client.url.strip_prefix("http://").unwrap().parse().unwrap();
    let (_, mut stream) = client.stream("", None).await;
    let (_, start) = snapshot(&mut stream).await;

    let told_all = Arc::new(AtomicUsize::new(usize::MAX));
    let mut channels = Vec::new();
    let mut cutters = Vec::new();
    for channel in ["stream", "stream over HTTP/2", "socket", "pages"] {
        let cutter = Arc::new(Cutter::before(server).await);
        let (between, expected) = (Arc::clone(&cutter), Arc::clone(&told_all));
        let mut transcript = Transcript::from(&start);
        channels.push(tokio::spawn(async move {
            let enough = |told: &Transcript| told.changes.len() >= expected.load(Ordering::SeqCst);
            let client = Client::new(&format!("http://{}", between.address));
            let over_http2 = client.over_http2();
            while !enough(&transcript) {
                match channel {
                    "stream" => transcript.stream(&client, &enough).await,
                    "stream over HTTP/2" => transcript.stream(&over_http2, &enough).await,
                    "socket" => transcript.socket(&client, &enough).await,
                    _ => transcript.pages(&client, &enough).await,
                }
            }
            (channel, transcript)
        }));
        cutters.push(cutter);
    }
    let payers: Vec<_> = (0..PAYERS).map(|payer| tokio::spawn(pay(client.clone(), payer, cutters.clone()))).collect();
    let mut paid = HashMap::new();
    for payer in payers {
        paid.extend(payer.await.unwrap());
    }
    let versions = paid.values().sum::<u64>() + 2;
    told_all.store(versions as usize, Ordering::SeqCst);
    // Those who have all the others are waiting for more.
    let last = client.pay_to_the_end("last", &body("cus_1", "pm_card_visa")).await;
    paid.insert(last.text("id").to_owned(), 2);

    let mut transcripts = Vec::new();
    for channel in channels {
        transcripts.push(channel.await.unwrap());
    }
    judge(&transcripts, &paid);
    let cuts: Vec<usize> = cutters.iter().map(|cutter| cutter.cuts()).collect();
    println!("{} payments, {versions} changes told on each of 4 channels over {cuts:?} cuts", paid.len());
    system.stop().await;
}

fn judge(transcripts: &[(&str, Transcript)], paid: &HashMap<String, u64>) {
    let of_first = transcripts[0].1.by_payment();
    for (channel, transcript) in transcripts {
        let payments = transcript.by_payment();
        assert_eq!(payments.len(), paid.len(), "{channel}");
        for (id, changes) in &payments {
            let versions: Vec<u64> = changes.iter().map(|c| c["event"]["version"].as_u64().unwrap()).collect();
            assert_eq!(versions, (1..=paid[id]).collect::<Vec<_>>(), "{channel}: {id}");
        }
        assert!(payments == of_first, "{channel} tells the same as the others");
    }
}

/// The long-poll of one payment tells states and not events: none goes back, each is what a frame says of that version, and
/// the last is the end.
pub async fn a_payments_long_poll_tells_what_its_stream_tells(bed: &Bed) {
    let system = bed.start_with(&["--simulator-latency-ms", "100"]).await;
    let client = &system.front.client;
    let accepted = client.pay("order-1", &body("cus_1", "pm_sim_transient")).await;
    let path = format!("/v1/payments/{}", accepted.text("id"));
    let (mut states, mut etag) = (Vec::new(), String::new());
    while states.last().is_none_or(|state: &Value| state["status"] == "in_progress") {
        let known: &[(&str, &str)] =
            if etag.is_empty() { &[] } else { &[("if-none-match", &etag), ("prefer", "wait=30")] };
        let answer = client.get_with(&path, known).await;
        assert_eq!(answer.status, 200);
        answer.header("etag").clone_into(&mut etag);
        states.push(answer.body);
    }
    let id = etag.trim_matches('"');
    let log8 = id.split_once('.').unwrap().0;
    let frames = client.whole_stream(&format!("payment_id={}", accepted.text("id")), Some(&format!("{log8}.0"))).await;
    assert_eq!(frames.last().unwrap().id.as_deref(), Some(id), "the ETag is the id of the frame");
    let mut version = 0;
    for state in &states {
        let now = state["version"].as_u64().unwrap();
        assert!(now > version);
        assert_eq!(state, &frames[now as usize - 1].data["payment"]);
        version = now;
    }
    assert_eq!(version, frames.len() as u64);
    system.stop().await;
}
