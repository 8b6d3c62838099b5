//! Messages of a queue start payments: each is judged as over HTTP, paid once, or refused with the reason.

use std::collections::BTreeSet;
use std::process::Stdio;

use data_encoding::BASE64;
use paylog::service::Role;
use serde_json::{Value, json};

use crate::artemis::{Imitation, KEYS, Queue, Relay, good};
use crate::client::Client;
use crate::cluster::{Bed, Running, until};
use crate::crashes::Process;
use crate::foreign::{GOOD, avro, id};
use crate::registry_double::{Registry, framed, schema};

/// Who takes messages and charges, as the real binary; on Kafka another is asked, which lasts.
pub struct Taker {
    pub front: Option<Running>,
    pub process: Process,
}

impl Taker {
    pub async fn start(bed: &Bed, queue: &str) -> Self {
        let front = if bed.is_kafka() { Some(bed.run(Role::Serve, "serve", &[]).await) } else { None };
        Self { front, process: process(bed, queue, &KEYS, Stdio::inherit()).await }
    }

    /// Another process in the place of the one that has ended, or been killed.
    pub async fn start_again(self, bed: &Bed, queue: &str) -> Self {
        let Self { front, process: ended } = self;
        drop(ended);
        Self { front, process: process(bed, queue, &KEYS, Stdio::inherit()).await }
    }

    pub fn client(&self) -> &Client {
        self.front.as_ref().map_or(&self.process.client, |front| &front.client)
    }

    pub async fn stop(mut self) {
        self.process.signal("TERM");
        assert_eq!(self.process.exit_code().await, Some(0));
        if let Some(front) = self.front {
            front.stop().await;
        }
    }
}

pub async fn process(bed: &Bed, queue: &str, environment: &[(&str, &str)], log: Stdio) -> Process {
    let command = if bed.is_kafka() { "process" } else { "up" };
    Process::start_in(bed.words(command, command, &["--service-bus", queue]), environment, log).await
}

/// The payment of this key has ended well.
pub async fn paid(client: &Client, merchant: &str, key: &str) {
    let path = format!("/v1/payments/{}", id(merchant, key));
    until(key, async || client.get(&path).await.body["status"] == "successful").await;
}

/// What `/metrics` says of this, or 0.
pub async fn counted(client: &Client, name: &str) -> u64 {
    let text = reqwest::get(format!("{}/metrics", client.url)).await.unwrap().text().await.unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix(name));
    line.map_or(0, |value| value.trim().parse().unwrap())
}

pub async fn a_message_starts_a_payment_and_what_is_wrong_goes_to_the_dead_letters(bed: &Bed) {
    let queue = Queue::new();
    let avro = BASE64.encode(&avro("acme", "in-avro", 500));
    // Before anybody is there to take them.
    queue
        .send(&[
            good("order-1"),
            json!({"id": "order-2", "body": BASE64.encode(GOOD.as_bytes()), "binary": true,
                   "properties": {"paylog-merchant": "acme"}}),
            json!({"id": "random", "body": GOOD, "properties": {"idempotency-key": "order-3"}}),
            json!({"id": "anything", "body": avro, "binary": true}),
            json!({"id": "no-amount", "body": GOOD.replace("1999", "0")}),
            json!({"id": "card", "body": GOOD.replace("pm_card_visa", "4242424242424242")}),
            json!({"body": GOOD}),
            json!({"id": "too-large", "body": "x".repeat(70_000)}),
            json!({"id": "structure", "body": {"amount": 1999}}),
        ])
        .await;
    let taker = Taker::start(bed, &queue.url()).await;
    let client = taker.client();
    for (merchant, key) in [("default", "order-1"), ("default", "order-3")] {
        paid(client, merchant, key).await;
    }
    let repaid = client.pay("order-1", &serde_json::from_str(GOOD).unwrap()).await;
    assert_eq!(repaid.headers.get("idempotent-replayed").map(String::as_str), Some("true"), "{repaid:?}");
    let taken = &taker.process.client;
    until("all are counted", async || counted(taken, "paylog_requests_taken_total{result=\"accepted\"}").await == 4)
        .await;
    for reason in ["amount_zero", "card_number", "idempotency_key_missing", "record_too_large", "unsupported_body"] {
        let name = format!("paylog_dead_letters_total{{reason=\"{reason}\"}}");
        until(reason, async || counted(taken, &name).await == 1).await;
    }
    // Artemis makes their queue with the first of them.
    let refused = queue.dead_letters().read(5).await;
    let ids: BTreeSet<&str> = refused.iter().map(|message| message["id"].as_str().unwrap_or("none")).collect();
    assert_eq!(ids, BTreeSet::from(["no-amount", "card", "none", "too-large", "structure"]));
    assert_eq!(
        client.get(&format!("/v1/payments/{}", id("default", "random"))).await.status,
        404,
        "the property beats the id"
    );
    // Another tells what it has: nothing is left, and nothing has come twice.
    taker.stop().await;
    assert_eq!(queue.rest().await, [Value::Null; 0]);
    assert_eq!(queue.dead_letters().rest().await, [Value::Null; 0]);
}

/// What Artemis does not keep with a dead letter: Service Bus shows it.
pub async fn a_refusal_says_why_as_service_bus_asks_for_it(bed: &Bed) {
    let mut imitation =
        Imitation::giving_out(&[good("order-1"), json!({"id": "bad", "body": GOOD.replace("1999", "-1")})]).await;
    let taker = Taker::start(bed, &format!("{}/orders", imitation.url)).await;
    let mut settled = [imitation.line().await, imitation.line().await];
    settled.sort_by_key(|line| line["outcome"].as_str().unwrap().to_owned());
    let [accepted, rejected] = settled;
    assert_eq!(
        (&accepted["id"], &accepted["outcome"], &accepted["settled"]),
        (&json!("order-1"), &json!("accepted"), &json!(true))
    );
    assert_eq!(
        (&rejected["id"], &rejected["outcome"], &rejected["settled"]),
        (&json!("bad"), &json!("rejected"), &json!(true))
    );
    assert_eq!(rejected["condition"], "com.microsoft:dead-letter");
    assert_eq!(rejected["info"]["DeadLetterReason"], "amount_negative", "{rejected}");
    let why = rejected["info"]["DeadLetterErrorDescription"].as_str().unwrap();
    assert!(why.contains("amount") && !why.contains("-1"), "{why}");
    assert_eq!(rejected["description"], format!("amount_negative: {why}"));
    paid(taker.client(), "default", "order-1").await;
    taker.stop().await;
}

pub async fn a_message_whose_schema_the_registry_explains_starts_a_payment(bed: &Bed) {
    let registry = Registry::with_schemas_of(bed).await;
    registry.explain(700, &schema("PaymentRequested"));
    let value = framed(700, &avro("acme", "by-id", 1999));
    let length = u8::try_from(value.len()).unwrap();
    let raw = [b"\x00\x53\x75\xa0".as_slice(), &[length], &value].concat(); // one section, of data
    let mut bus = Imitation::giving_out(&[json!({"id": "by-id", "raw": BASE64.encode(&raw)})]).await;
    let (queue, command) = (format!("{}/orders", bus.url), if bed.is_kafka() { "process" } else { "up" });
    let words = bed.words(command, command, &["--service-bus", &queue, "--schema-registry", &registry.url]);
    let mut process = Process::start_in(words, &KEYS, Stdio::inherit()).await;
    let line = bus.line().await;
    assert_eq!((&line["id"], &line["outcome"]), (&json!("by-id"), &json!("accepted")), "{line}");
    assert_eq!(registry.asked(700), 1, "it was not known before");
    process.signal("TERM");
    assert_eq!(process.exit_code().await, Some(0));
}

pub async fn a_message_that_was_appended_and_not_settled_comes_again_and_is_one_payment(bed: &Bed) {
    const MESSAGES: usize = 5;
    let queue = Queue::new();
    let relay = Relay::to(&queue.broker).await;
    let mut taker = Taker::start(bed, &queue.by(&relay.url)).await;
    queue.send(&[good("first")]).await;
    paid(taker.client(), "default", "first").await;
    // From here on the broker hears of nothing, and has leave to give out more.
    relay.swallow();
    let keys: Vec<String> = (0..MESSAGES).map(|n| format!("order-{n}")).collect();
    queue.send(&keys.iter().map(|key| good(key)).collect::<Vec<_>>()).await;
    for key in &keys {
        paid(taker.client(), "default", key).await;
    }
    taker.process.kill();
    let taker = taker.start_again(bed, &queue.url()).await;
    let again = &taker.process.client;
    until("they came again", async || {
        counted(again, "paylog_requests_taken_total{result=\"repeat\"}").await >= MESSAGES as u64
    })
    .await;
    for key in &keys {
        let events = taker.client().get(&format!("/v1/payments/{}/events?all=true", id("default", key))).await;
        let types: Vec<&str> =
            events.body["data"].as_array().unwrap().iter().map(|e| e["type"].as_str().unwrap()).collect();
        assert_eq!(types, ["PaymentInProgress", "PaymentSuccessful"]);
    }
    taker.stop().await;
    assert_eq!(queue.rest().await, [Value::Null; 0], "and now they are settled");
}

pub async fn a_stop_settles_what_was_appended_and_leaves_the_rest(bed: &Bed) {
    const MESSAGES: usize = 1_500;
    let queue = Queue::new();
    let keys: Vec<String> = (0..MESSAGES).map(|n| format!("order-{n}")).collect();
    queue.send(&keys.iter().map(|key| good(key)).collect::<Vec<_>>()).await;
    let mut taker = Taker::start(bed, &queue.url()).await;
    let taking = &taker.process.client;
    let name = "paylog_requests_taken_total{result=\"accepted\"}";
    until("some are taken", async || counted(taking, name).await > 0).await;
    taker.process.signal("TERM");
    assert_eq!(taker.process.exit_code().await, Some(0));
    let left: BTreeSet<String> =
        queue.rest().await.iter().map(|message| message["id"].as_str().unwrap().to_owned()).collect();
    assert!(!left.is_empty(), "the stop came before the end");
    queue.send(&left.iter().map(|key| good(key)).collect::<Vec<_>>()).await;
    let taker = taker.start_again(bed, &queue.url()).await;
    for key in &keys {
        paid(taker.client(), "default", key).await;
    }
    // What had been appended before the stop was settled: it did not come again.
    let taking = &taker.process.client;
    assert_eq!(counted(taking, "paylog_requests_taken_total{result=\"repeat\"}").await, 0);
    until("the rest was taken", async || counted(taking, name).await == left.len() as u64).await;
    taker.stop().await;
}
