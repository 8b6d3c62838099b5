//! Who asked to be told is told: of everything, signed, again and again until it is taken, and of nothing twice for a rebuild.

use std::collections::BTreeMap;
use std::time::Duration;

use paylog::service::Role;
use reqwest::Method;
use serde_json::{Value, json};

use crate::client::{Answer, Client, body};
use crate::cluster::{Bed, Running, until};
use crate::crashes::Process;
use crate::receiver::{Received, Receiver, Says};

pub const PATH: &str = "/v1/webhook_endpoints";
/// For tests, and of no secret of anybody's.
const KEY: &str = "cGF5bG9nIHRlc3Qga2V5IHBheWxvZyB0ZXN0IGtleSE=";
/// A schedule that does not make a test wait.
const RETRIES: &str = "20,40,80,160,320,640,1000,1000,1000";

/// Whoever takes endpoints in, charges and sends: one on the embedded journal, three on Kafka.
pub struct Parts {
    pub front: Running,
    processor: Option<Running>,
    pub notifier: Option<Running>,
}

pub fn flags(bed: &Bed) -> Vec<String> {
    let key = bed.data_dir("secrets-key");
    std::fs::write(&key, KEY).unwrap();
    let mut flags = vec!["--secrets-key-file".to_owned(), key.to_str().unwrap().to_owned()];
    flags.extend(["--allow-private-webhooks", "--webhook-retry-ms", RETRIES].map(str::to_owned));
    flags
}

impl Parts {
    pub async fn start(bed: &Bed, more: &[&str]) -> Self {
        let flags = flags(bed);
        let words: Vec<&str> = flags.iter().map(String::as_str).chain(more.iter().copied()).collect();
        Self::start_with(bed, &words).await
    }

    async fn start_with(bed: &Bed, words: &[&str]) -> Self {
        if bed.is_kafka() {
            let front = bed.run(Role::Serve, "serve", words).await;
            let processor = Some(bed.run(Role::Process, "process", &[]).await);
            Self { front, processor, notifier: Some(bed.run(Role::Notify, "notify", words).await) }
        } else {
            Self { front: bed.run(Role::All, "up", words).await, processor: None, notifier: None }
        }
    }

    /// As in production: nothing but https, and nobody but those whom anybody can reach.
    pub async fn start_plainly(bed: &Bed) -> Self {
        let flags: Vec<String> = flags(bed).into_iter().filter(|flag| flag != "--allow-private-webhooks").collect();
        Self::start_with(bed, &flags.iter().map(String::as_str).collect::<Vec<_>>()).await
    }

    pub async fn stop(self) {
        for part in [self.notifier, self.processor].into_iter().flatten() {
            part.stop().await;
        }
        self.front.stop().await;
    }
}

pub async fn create(client: &Client, asked: Value) -> (String, String) {
    let created = client.post(PATH, &asked).await;
    assert_eq!(created.status, 201, "{created:?}");
    (created.text("id").to_owned(), created.text("secret").to_owned())
}

pub async fn act(client: &Client, id: &str, act: &str, asked: Value) -> Answer {
    client.post(&format!("{PATH}/{id}/{act}"), &asked).await
}

pub async fn pay(client: &Client, key: &str) -> String {
    let paid = client.pay_to_the_end(key, &body("cus_1", "pm_card_visa")).await;
    assert_eq!((paid.status, paid.text("status")), (200, "successful"), "{paid:?}");
    paid.text("id").to_owned()
}

pub async fn attempts(client: &Client, id: &str) -> Vec<Value> {
    client.get(&format!("{PATH}/{id}/attempts")).await.body["data"].as_array().unwrap().clone()
}

/// Every message by its id, and how often it came.
pub fn counts(received: &[Received]) -> BTreeMap<String, usize> {
    let mut counts = BTreeMap::new();
    received.iter().for_each(|one| *counts.entry(one.id().to_owned()).or_default() += 1);
    counts
}

pub async fn an_endpoint_is_told_of_what_it_asked_for_signed_and_once(bed: &Bed) {
    let parts = Parts::start(bed, &[]).await;
    let client = &parts.front.client;
    pay(client, "before").await;
    let receiver = Receiver::start().await;
    let (id, secret) = create(client, json!({"url": receiver.url(), "events": ["PaymentSuccessful"]})).await;
    let (thin, thin_secret) = create(client, json!({"url": receiver.url(), "payload": "thin"})).await;
    let paid = pay(client, "order-1").await;
    let received = receiver.has(3).await;
    let full: Vec<_> = received.iter().filter(|one| one.is_signed_with(&secret)).collect();
    assert_eq!(full.len(), 1, "{received:?}");
    assert_eq!((full[0].kind(), full[0].payment(), full[0].sequence()), ("PaymentSuccessful", paid.as_str(), 2));
    let told = &full[0].body["data"];
    let history = client.get(&format!("/v1/payments/{paid}/events")).await.body;
    for field in ["type", "id", "occurred_at", "version", "position", "data"] {
        assert_eq!(told["event"][field], history["data"][1][field], "{field}");
    }
    assert_eq!(told["payment"]["amount"], 1999);
    let mut thins: Vec<_> = received.iter().filter(|one| one.is_signed_with(&thin_secret)).collect();
    thins.sort_by_key(|one| one.sequence());
    let names: Vec<_> = thins.iter().map(|one| (one.kind(), one.sequence(), one.payment())).collect();
    assert_eq!(names, [("PaymentInProgress", 1, paid.as_str()), ("PaymentSuccessful", 2, paid.as_str())]);
    assert!(thins.iter().all(|one| one.body["data"]["payment"]["amount"].is_null() && !one.raw.contains("cus_1")));
    assert_eq!(thins[1].id(), full[0].id(), "one event has one id, whoever is told");
    // What came is what there is to come.
    let known = async || attempts(client, &thin).await.len() + attempts(client, &id).await.len();
    until("all of it is known to be told", async || known().await == 3).await;
    let attempt = &attempts(client, &id).await[0];
    assert_eq!((attempt["result"].as_str(), attempt["status"].as_u64()), (Some("delivered"), Some(204)), "{attempt}");
    assert_eq!(attempt["webhook_id"], full[0].id());
    let of_payment = client.get(&format!("/v1/payments/{paid}/webhooks")).await.body;
    let states: Vec<_> = of_payment["data"].as_array().unwrap().iter().map(|told| told["state"].as_str()).collect();
    assert_eq!(states, [Some("delivered"); 3], "{of_payment}");
    let shown = client.get(&format!("{PATH}/{id}")).await;
    assert!(shown.body["secret"].is_null() && shown.body["pending"].as_u64().unwrap_or(0) == 0, "{shown:?}");
    assert_eq!(receiver.received().len(), 3);
    parts.stop().await;
}

pub async fn a_receiver_that_fails_is_told_again_with_the_same_id(bed: &Bed) {
    let parts = Parts::start(bed, &[]).await;
    let client = &parts.front.client;
    let receiver = Receiver::saying(|n, _| Says::status(if n < 3 { 503 } else { 200 })).await;
    let (id, secret) = create(client, json!({"url": receiver.url(), "events": ["PaymentSuccessful"]})).await;
    pay(client, "order-1").await;
    let received = receiver.has(4).await;
    assert!(received.iter().all(|one| one.is_signed_with(&secret) && one.id() == received[0].id()));
    assert!(received.iter().all(|one| one.raw == received[0].raw), "the same body at every attempt");
    until("all four are on the log", async || attempts(client, &id).await.len() == 4).await;
    let told = attempts(client, &id).await;
    let results: Vec<_> =
        told.iter().map(|one| (one["attempt"].as_u64().unwrap(), one["result"].as_str().unwrap())).collect();
    assert_eq!(results, [(4, "delivered"), (3, "failed"), (2, "failed"), (1, "failed")]);
    assert_eq!((told[3]["failure"].as_str(), told[3]["status"].as_u64()), (Some("status"), Some(503)));
    parts.stop().await;
}

/// A start that has nothing but the log.
pub async fn a_rebuild_tells_nobody_anything(bed: &Bed) {
    let parts = Parts::start(bed, &[]).await;
    let receiver = Receiver::start().await;
    let (id, _) = create(&parts.front.client, json!({"url": receiver.url()})).await;
    for n in 0..10 {
        pay(&parts.front.client, &format!("order-{n}")).await;
    }
    receiver.has(20).await;
    until("all of it is on the log", async || attempts(&parts.front.client, &id).await.len() == 20).await;
    parts.stop().await;
    for data in ["up", "notify"] {
        for rows in ["store", "deliveries-store"] {
            drop(std::fs::remove_dir_all(bed.data_dir(data).join(rows)));
        }
    }
    let parts = Parts::start(bed, &[]).await;
    // What is new comes after all that was before, on each partition.
    for n in 0..20 {
        pay(&parts.front.client, &format!("later-{n}")).await;
    }
    let received = receiver.has(60).await;
    assert!(counts(&received).values().all(|count| *count == 1), "{:?}", counts(&received));
    parts.stop().await;
}

/// Payments are made while nobody sends; then somebody does.
pub async fn a_notifier_that_was_away_tells_everything_that_it_missed(bed: &Bed) {
    let mut parts = Parts::start(bed, &[]).await;
    let receiver = Receiver::saying(|_, _| Says::status(500)).await;
    let (id, _) = create(&parts.front.client, json!({"url": receiver.url(), "events": ["PaymentSuccessful"]})).await;
    pay(&parts.front.client, "order-0").await;
    receiver.has(1).await;
    if let Some(notifier) = parts.notifier.take() {
        notifier.stop().await;
    } else {
        // One process: what was made before it stopped is what it missed.
        for n in 1..30 {
            pay(&parts.front.client, &format!("order-{n}")).await;
        }
        parts.stop().await;
        receiver.now_says(|_, _| Says::status(200));
        parts = Parts::start(bed, &[]).await;
    }
    if bed.is_kafka() {
        receiver.now_says(|_, _| Says::status(200));
        for n in 1..30 {
            pay(&parts.front.client, &format!("order-{n}")).await;
        }
        let flags = flags(bed);
        let words: Vec<&str> = flags.iter().map(String::as_str).collect();
        parts.notifier = Some(bed.run(Role::Notify, "notify", &words).await);
    }
    let taken = async || {
        let all = attempts(&parts.front.client, &id).await;
        all.iter().filter(|one| one["result"] == "delivered").count()
    };
    until("all thirty are delivered", async || taken().await == 30).await;
    assert_eq!(counts(&receiver.received()).len(), 30);
    parts.stop().await;
}

pub async fn an_endpoint_that_is_disabled_hears_nothing_until_it_is_enabled(bed: &Bed) {
    let parts = Parts::start(bed, &[]).await;
    let client = &parts.front.client;
    let receiver = Receiver::start().await;
    let (id, _) = create(client, json!({"url": receiver.url(), "events": ["PaymentSuccessful"]})).await;
    let off = act(client, &id, "disable", json!({})).await;
    assert_eq!((off.status, off.text("status"), off.text("reason")), (200, "disabled", "operator"), "{off:?}");
    assert_eq!(act(client, &id, "test", json!({})).await.status, 409);
    pay(client, "order-1").await;
    assert_eq!(act(client, &id, "enable", json!({})).await.text("status"), "enabled");
    let later = pay(client, "order-2").await;
    let received = receiver.has(1).await;
    assert_eq!(received[0].payment(), later);
    let gone = client.send(Method::DELETE, &format!("{PATH}/{id}"), &[], None).await;
    assert_eq!((gone.status, client.get(&format!("{PATH}/{id}")).await.status), (204, 404));
    assert_eq!(client.get(PATH).await.body["data"], json!([]));
    parts.stop().await;
}

/// What is left of a system whose notifier was killed: on Kafka the one that came after, a front and a processor; else all in one.
pub async fn stop_all(notifier: Option<Running>, lasting: Option<(Running, Running)>, parts: Option<Parts>) {
    if let Some(notifier) = notifier {
        notifier.stop().await;
    }
    if let Some((front, processor)) = lasting {
        processor.stop().await;
        front.stop().await;
    }
    if let Some(parts) = parts {
        parts.stop().await;
    }
}

/// Whoever sends is killed again and again, with webhooks on their way.
pub async fn killed_at_any_moment_a_notifier_loses_nothing(bed: &Bed) {
    const KILLS: usize = 3;
    const EACH: usize = 12;
    let flags = flags(bed);
    let words: Vec<&str> = flags.iter().map(String::as_str).collect();
    let receiver = Receiver::saying(|_, _| Says { after: Duration::from_millis(30), ..Says::status(200) }).await;
    let lasting = if bed.is_kafka() {
        Some((bed.run(Role::Serve, "serve", &words).await, bed.run(Role::Process, "process", &[]).await))
    } else {
        None
    };
    let mut payments = 0;
    for round in 0..KILLS {
        let command = if bed.is_kafka() { "notify" } else { "up" };
        let mut victim = Process::start(bed.words(command, command, &words)).await;
        let client = lasting.as_ref().map_or_else(|| victim.client.clone(), |(front, _)| front.client.clone());
        if round == 0 {
            create(&client, json!({"url": receiver.url()})).await;
        }
        for n in 0..EACH {
            pay(&client, &format!("order-{round}-{n}")).await;
        }
        payments += EACH;
        receiver.has(payments * 2 - EACH).await; // some of this round, and more are on their way
        victim.kill();
    }
    let parts = if bed.is_kafka() { None } else { Some(Parts::start(bed, &[]).await) };
    let notifier = if bed.is_kafka() { Some(bed.run(Role::Notify, "notify", &words).await) } else { None };
    until("everything has come", async || counts(&receiver.received()).len() == payments * 2).await;
    let counts = counts(&receiver.received());
    assert!(counts.values().all(|count| *count <= 1 + KILLS), "{counts:?}");
    stop_all(notifier, lasting, parts).await;
}
