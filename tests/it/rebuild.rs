//! Versions of a projection on a running instance: built beside the one that is served, compared, exchanged, under load, and
//! without anyone noticing.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use futures_util::future::join_all;
use paylog::journal::embedded::EmbeddedJournal;
use paylog::journal::{Journal, NewRecord, Partition};
use paylog::payment::event::PaymentSuccessful;
use paylog::payment::{Event, EventData, IdempotencyKey, MerchantId, NewPayment, PaymentId, RequestId, Timestamp};
use paylog::projection::home_of;
use paylog::recording::event_record;
use paylog::schema::Codec;
use paylog::service::Role;
use paylog::store::Store;
use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::client::{Answer, Client, body};
use crate::cluster::{Bed, PARTITIONS, Running, ends_of, until};
use crate::crashes::Process;
use crate::gateways::{self, Provider};
use crate::operations::paylog;

const PROJECTIONS: &str = "/v1/operator/projections";
/// How often one version is exchanged for the other.
const EXCHANGES: usize = 10;
const REBUILDS: usize = 100;
/// Clients that pay one payment after the other.
const PAYERS: usize = 4;
/// Payments on a log that is not folded in one batch.
const MANY: usize = 6_000;
/// Of the 12,000 records of these, so many are folded when the process is killed.
const KILLED_AFTER: u64 = 200;

/// Clients that pay and read until they are told to stop. Whatever is not answered as it should be fails the test.
struct Load {
    done: Arc<AtomicBool>,
    payers: JoinSet<Vec<PaymentId>>,
}

impl Load {
    fn begin(client: &Client) -> Self {
        let (done, mut payers) = (Arc::new(AtomicBool::new(false)), JoinSet::new());
        for payer in 0..PAYERS {
            let (client, done) = (client.clone(), Arc::clone(&done));
            payers.spawn(async move {
                let mut paid = Vec::new();
                while !done.load(Ordering::Acquire) {
                    paid.push(pay_and_read(&client, payer, paid.len()).await);
                }
                paid
            });
        }
        Self { done, payers }
    }

    async fn end(self) -> Vec<PaymentId> {
        self.done.store(true, Ordering::Release);
        self.payers.join_all().await.concat()
    }
}

async fn pay_and_read(client: &Client, payer: usize, n: usize) -> PaymentId {
    let customer = format!("cus_{payer}");
    let paid = client.pay_to_the_end(&format!("order-{payer}-{n}"), &body(&customer, "pm_card_visa")).await;
    assert_eq!((paid.status, paid.text("status")), (200, "successful"), "{paid:?}");
    // What was seen once is never unseen, whichever version answers.
    let version = paid.body["version"].as_u64();
    let read = client.get(&format!("/v1/payments/{}", paid.text("id"))).await;
    assert_eq!((read.status, read.body["version"].as_u64()), (200, version), "{read:?}");
    let list = client.get(&format!("/v1/payments?customer_id={customer}")).await;
    assert_eq!((list.status, &list.body["data"][0]["id"]), (200, &paid.body["id"]), "the newest first: {list:?}");
    let events = client.get(&format!("/v1/payments/{}/events", paid.text("id"))).await;
    assert_eq!(events.body["data"].as_array().map(|events| events.len() as u64), version, "{events:?}");
    paid.id()
}

/// The version beside the one that is served.
async fn other_of(client: &Client, projection: &str) -> Option<Value> {
    let answer = client.get(PROJECTIONS).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    let all = answer.body["data"].as_array().unwrap();
    all.iter().find(|found| found["projection"] == projection).unwrap()["versions"].get(1).cloned()
}

pub async fn other(client: &Client) -> Option<Value> {
    other_of(client, "payments").await
}

pub async fn wish_of(client: &Client, projection: &str, wish: &str, version: &str) -> Answer {
    let body = json!({"version": version, "operator": "ada", "reason": "to see"});
    client.post(&format!("{PROJECTIONS}/{projection}/{wish}"), &body).await
}

pub async fn wish(client: &Client, wish: &str, version: &str) -> Answer {
    wish_of(client, "payments", wish, version).await
}

/// The one of them that is to be served may just not have taken up the log again.
async fn wished(client: &Client, wish: &str, version: &str) -> Answer {
    let done = std::cell::RefCell::new(None);
    until("the wish is followed", async || {
        let answer = wish_of(client, "payments", wish, version).await;
        let wait = answer.status == 409 && answer.text("code") == "version_behind";
        done.replace(Some(answer));
        !wait
    })
    .await;
    done.take().unwrap()
}

async fn metrics(url: &str) -> String {
    reqwest::get(format!("{url}/metrics")).await.unwrap().text().await.unwrap()
}

/// Begins, and answers with the name.
pub async fn rebuild_of(client: &Client, projection: &str, body: &Value) -> String {
    let begun = client.post(&format!("{PROJECTIONS}/{projection}/rebuild"), body).await;
    assert_eq!(begun.status, 202, "{begun:?}");
    begun.body["versions"][1]["version"].as_str().unwrap().to_owned()
}

pub async fn rebuild(client: &Client, body: &Value) -> String {
    rebuild_of(client, "payments", body).await
}

pub async fn reaches_of(client: &Client, projection: &str, phase: &str) {
    until(phase, async || {
        let other = other_of(client, projection).await.expect("it is gone");
        assert_ne!(other["phase"], "failed", "{other}");
        other["phase"] == phase
    })
    .await;
}

pub async fn reaches(client: &Client, phase: &str) {
    reaches_of(client, "payments", phase).await;
}

/// The newest frames of a customer, each payment's versions in order and none twice, until so many have ended.
async fn follows(client: Client, ends: usize) {
    let (status, mut stream) = client.stream("customer_id=cus_0", None).await;
    assert_eq!(status, 200);
    let (mut versions, mut ended) = (std::collections::HashMap::new(), 0);
    while ended < ends {
        let frame = stream.next().await.expect("the stream is not ended");
        let Some(id) = frame.data["payment"]["id"].as_str().map(str::to_owned) else { continue };
        let Some(version) = frame.data["event"]["version"].as_u64() else {
            // Of the snapshot with which the stream begins.
            versions.insert(id, frame.data["payment"]["version"].as_u64().unwrap());
            continue;
        };
        let seen = versions.insert(id, version).unwrap_or(0);
        assert_eq!(version, seen + 1, "{frame:?}");
        ended += usize::from(frame.event.as_deref() == Some("PaymentSuccessful"));
    }
}

pub async fn a_version_takes_the_others_place_and_goes_back_without_a_failed_request(bed: &Bed) {
    // Its own lanes read what is exchanged, too.
    let front = bed.run(Role::All, "up", &[]).await;
    let client = front.client.clone();
    let following = tokio::spawn(follows(client.clone(), 4 * EXCHANGES));
    let load = Load::begin(&client);
    let version = rebuild(&client, &json!({})).await;
    reaches(&client, "verified").await;
    let (mut serves, mut kept) = (version, "payments@4".to_owned());
    for n in 0..EXCHANGES {
        let verb = if n == 0 { "promote" } else { "rollback" };
        let done = wished(&client, verb, &serves).await;
        assert_eq!((done.status, &done.body["versions"][0]["version"]), (200, &json!(serves)), "{done:?}");
        assert_eq!(done.body["versions"][1]["phase"], "retired");
        let seen = pay_and_read(&client, PAYERS, n).await;
        assert!(front.view.payment(seen).unwrap().is_some());
        std::mem::swap(&mut serves, &mut kept);
    }
    following.await.unwrap();
    let paid = load.end().await;
    assert_eq!(wish(&client, "cancel", &serves).await.status, 200);
    pay_and_read(&client, PAYERS, EXCHANGES).await;
    let log = front.log().await;
    assert!(!paid.is_empty() && paid.iter().all(|id| ends_of(&log, *id) == 1), "each was paid once");
    front.stop().await;
}

pub async fn a_hundred_rebuilds_under_load_change_nothing(bed: &Bed) {
    let provider = Provider::start("127.0.0.1:0", &bed.data_dir("provider"));
    let system = gateways::start(bed, &provider.url).await;
    let client = system.front.client.clone();
    let load = Load::begin(&client);
    for _ in 0..REBUILDS {
        let version = rebuild(&client, &json!({"effort": 100})).await;
        reaches(&client, "verified").await;
        assert_eq!(wish(&client, "cancel", &version).await.status, 200);
    }
    let mut paid = load.end().await;
    assert_eq!(
        system.front.log().await.len(),
        2 * paid.len(),
        "a beginning and an end of each payment, and nothing else"
    );
    let ledger = provider.ledger().await;
    let calls = ledger.values().map(|line| line["requests"].as_u64().unwrap()).sum::<u64>();
    assert_eq!((ledger.len(), calls), (paid.len(), paid.len() as u64), "each was sent once");
    assert!(ledger.values().all(|line| line["charges"] == 1), "{ledger:?}");
    paid.sort();
    paid.dedup();
    assert_eq!(paid.len(), ledger.len());
    system.stop().await;
    provider.stop().await;
}

/// Where one stands still, so does the other, at the same offset, with marks of transactions before it or without; and both go
/// on when an operator says so.
pub async fn a_version_is_built_beside_a_partition_that_has_halted(bed: &Bed) {
    let system = bed.start().await;
    let front = &system.front;
    for n in 0..20 {
        pay_and_read(&front.client, 0, n).await;
    }
    let mut halted = Vec::new();
    for partition in (0..PARTITIONS).map(Partition) {
        let garbage = NewRecord { partition, key: Vec::new(), headers: Vec::new(), value: b"{x}".to_vec() };
        halted.push(front.journal.append(garbage).await.unwrap());
    }
    until("all have halted", async || front.view.halts().len() == halted.len()).await;
    let version = rebuild(&front.client, &json!({})).await;
    reaches(&front.client, "verified").await;
    assert_eq!(wished(&front.client, "promote", &version).await.status, 200);
    assert_eq!(front.view.halts().len(), halted.len(), "the one that is served now stands there too");
    for position in &halted {
        let body = json!({"position": position.to_string(), "operator": "ada", "reason": "garbage of a test tool"});
        let rejected = front.client.post("/v1/operator/rejected", &body).await;
        assert_eq!(rejected.status, 201, "{rejected:?}");
    }
    pay_and_read(&front.client, 0, 20).await;
    assert_eq!(wished(&front.client, "rollback", "payments@4").await.status, 200);
    pay_and_read(&front.client, 0, 21).await;
    system.stop().await;
}

/// A log that takes several batches to be folded, in the instance's own directory or on Kafka.
async fn fill(bed: &Bed, name: &str) {
    if bed.is_kafka() {
        let front = bed.run(Role::Serve, name, &[]).await;
        append_many(front.journal.as_ref()).await;
        front.stop().await;
    } else {
        let journal = EmbeddedJournal::open(&bed.data_dir(name).join("journal"), PARTITIONS).unwrap();
        append_many(journal.as_ref()).await;
    }
}

async fn append_many(journal: &dyn Journal) {
    let (codec, merchant) = (Codec::new().unwrap(), MerchantId::default());
    let request = NewPayment::parse(body("cus_1", "pm_card_visa").to_string().as_bytes()).unwrap();
    let begun = request.accept(merchant.clone(), "simulator", RequestId::random());
    let ended = PaymentSuccessful { gateway: "simulator".to_owned(), gateway_reference: "ch_1".to_owned(), attempt: 1 };
    let mut appended = Vec::new();
    for n in 0..MANY {
        let id = PaymentId::derive(&merchant, &IdempotencyKey::parse(&format!("early-{n}")).unwrap());
        for data in [EventData::PaymentInProgress(begun.clone()), EventData::PaymentSuccessful(ended.clone())] {
            let event = Event::new(id, Timestamp::now(), data);
            let record = event_record(&event, home_of(id, PARTITIONS), &codec, None).unwrap();
            appended.push(journal.append(record));
        }
    }
    for position in join_all(appended).await {
        position.unwrap();
    }
}

fn is_run(file: &std::io::Result<std::fs::DirEntry>) -> bool {
    file.as_ref().is_ok_and(|file| file.path().extension().is_some_and(|extension| extension == "run"))
}

pub async fn a_build_that_was_killed_goes_on_where_it_was(bed: &Bed) {
    fill(bed, "front").await;
    let command = if bed.is_kafka() { "serve" } else { "up" };
    let mut front = Process::start(bed.words(command, "front", &[])).await;
    let version = rebuild(&front.client, &json!({"effort": 1})).await;
    let is_far = async || {
        let other = other(&front.client).await.unwrap();
        assert_eq!(other["phase"], "building", "it was too fast to be killed in the middle: {other}");
        other["folded_offsets"].as_u64().unwrap()
    };
    until("a part of it is gathered", async || is_far().await > KILLED_AFTER).await;
    let folded = is_far().await;
    // Of two files that were begun one after the other since, the second holds all of that.
    let gathered = bed.data_dir("front").join(format!("store/{version}.gathered"));
    let files = || std::fs::read_dir(&gathered).map_or(0, |all| all.filter(is_run).count());
    let before = files();
    until("what was gathered is on disk", async || is_far().await > 0 && files() >= before + 2).await;
    let metrics = metrics(&front.client.url).await;
    let measured =
        metrics.lines().find(|line| line.starts_with("paylog_rebuild_folded_offsets{projection=\"payments\"}"));
    assert!(measured.is_some_and(|line| !line.ends_with(" 0")), "{metrics}");
    front.kill();
    // So slowly that it cannot have come as far again if it had begun anew.
    let words = bed.words(command, "front", &["--rebuild-effort", "5"]);
    let mut front = Process::start(words).await;
    until("it goes on", async || other(&front.client).await.unwrap()["folded_offsets"] != 0).await;
    let resumed = other(&front.client).await.unwrap();
    assert_eq!(resumed["version"], version.as_str());
    assert!(resumed["folded_offsets"].as_u64().unwrap() >= folded, "{folded}: {resumed}");
    // And killed once more: the rest need not be slow.
    front.kill();
    let front = Process::start(bed.words(command, "front", &["--rebuild-effort", "100"])).await;
    reaches(&front.client, "verified").await;
    assert_eq!(wished(&front.client, "promote", &version).await.status, 200);
    let early = PaymentId::derive(&MerchantId::default(), &IdempotencyKey::parse("early-0").unwrap());
    let read = front.client.get(&format!("/v1/payments/{early}")).await;
    assert_eq!((read.status, read.text("status")), (200, "successful"), "{read:?}");
}

/// What a command says on stdout, and its exit code.
async fn run(words: &[&str]) -> (Option<i32>, String, String) {
    let words: Vec<String> = ["paylog"].iter().chain(words).map(|word| (*word).to_owned()).collect();
    let output = tokio::task::spawn_blocking(move || paylog(&words)).await.unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.code(), text(output.stdout), text(output.stderr))
}

const BY: [&str; 4] = ["--operator", "ada", "--reason", "to see"];

pub async fn the_commands_replay_rebuild_and_projection(bed: &Bed) {
    let system = bed.start().await;
    let url = system.front.client.url.clone();
    pay_and_read(&system.front.client, 0, 0).await;
    let at = ["--url", url.as_str()];
    let (code, out, err) = run(&[&["replay", "rebuild", "payments"][..], &at].concat()).await;
    assert_eq!(code, Some(0), "{out} {err}");
    assert!(out.contains("payments@4.2") && out.contains("verified") && out.contains("projection promote"), "{out}");
    let promote = [&["projection", "promote", "payments@4.2"][..], &at, &BY].concat();
    let (code, out, err) = run(&promote).await;
    assert!(code == Some(0) && out.contains("is served now"), "{out} {err}");
    let (code, _, err) = run(&promote).await;
    assert!(code == Some(1) && err.contains("there is no version payments@4.2 beside"), "{err}");
    let (code, out, _) = run(&[&["projection", "ls"][..], &at].concat()).await;
    assert!(
        code == Some(0) && out.contains("serving") && out.contains("retired") && out.contains("ada: to see"),
        "{out}"
    );
    let metrics = metrics(&url).await;
    assert!(metrics.contains("paylog_rebuild_folded_offsets{projection=\"payments\"} 0"), "{metrics}");
    system.stop().await;

    let data = bed.data_dir(if bed.is_kafka() { "serve" } else { "up" });
    let data = data.to_str().unwrap();
    let mut offline = vec!["--offline", "--data-dir", data];
    let words = bed.words("serve", "offline", &[]);
    if bed.is_kafka() {
        let kafka = words.iter().position(|word| word == "--bootstrap-servers").unwrap();
        offline.extend(words[kafka..].iter().map(String::as_str));
    }
    let partitions = PARTITIONS.to_string();
    offline.extend(["--partitions", &partitions]);
    let (code, out, err) = run(&[&["projection", "rollback", "payments@4"][..], &offline, &BY].concat()).await;
    assert!(code == Some(0) && out.contains("is served again"), "{out} {err}");
    let (code, out, err) = run(&[&["projection", "cancel", "payments@4.2"][..], &offline, &BY].concat()).await;
    assert!(code == Some(0) && out.contains("is let go"), "{out} {err}");
    {
        // What an older paylog with a mistake in it would have left behind.
        let store = Store::open(&std::path::Path::new(data).join("store").join("payments@4")).unwrap();
        let (table, mut batch) = (store.table("due").unwrap(), store.batch());
        batch.insert(&table, &[7; 28], b"");
        batch.commit_synced().unwrap();
    }
    let (code, out, err) = run(&[&["replay", "rebuild", "payments"][..], &offline].concat()).await;
    assert!(code == Some(1) && err.contains("it is different"), "{out} {err}");
    assert!(out.contains("due") && out.contains("served is there, built nothing"), "{out}");
    let promote = [&["projection", "promote", "payments@4.3"][..], &offline, &BY].concat();
    let (code, _, err) = run(&promote).await;
    assert!(code == Some(1) && err.contains("was not found to be the same"), "{err}");
    let (code, out, err) = run(&[&promote[..], &["--accept-differences"]].concat()).await;
    assert!(code == Some(0) && out.contains("is served now"), "{out} {err}");

    let front: Running = bed
        .run(if bed.is_kafka() { Role::Serve } else { Role::All }, if bed.is_kafka() { "serve" } else { "up" }, &[])
        .await;
    let list = front.client.get("/v1/payments?customer_id=cus_0").await;
    assert_eq!((list.status, list.body["data"].as_array().map(Vec::len)), (200, Some(1)), "{list:?}");
    front.stop().await;
}
