//! Brokers that are away, that do not let us in, and that are not who they say: nothing is lost, and nothing ends for it.

use std::collections::BTreeMap;
use std::fs::File;
use std::process::Stdio;

use data_encoding::BASE64;
use paylog::service::Role;
use serde_json::json;

use crate::artemis::{Broker, Imitation, KEYS, PASSWORD, Queue, USER, credential, good};
use crate::client::body;
use crate::cluster::{Bed, until};
use crate::service_bus::{Taker, counted, paid, process};
use crate::service_bus_sink::create;
use crate::webhooks::{Parts, attempts, flags, pay};

const CONNECTED: &str = "paylog_service_bus_connected";

pub async fn a_broker_that_is_stopped_and_started_again_loses_nothing_in_either_direction(bed: &Bed) {
    let broker = Broker::start().await;
    let (orders, told) = (Queue::on(&broker.url), Queue::on(&broker.url));
    // Longer than a broker takes to start.
    let retries = ["--webhook-retry-ms", "500,1000,2000,2000,2000,2000,4000,4000,8000,8000,8000"].map(str::to_owned);
    let flags = [flags(bed), retries.to_vec()].concat();
    let bed_flags: Vec<&str> = flags.iter().map(String::as_str).collect();
    let orders_url = orders.url();
    let words = [&bed_flags[..], &["--service-bus", orders_url.as_str()]].concat();
    let lasting = if bed.is_kafka() {
        let front = bed.run(Role::Serve, "serve", &bed_flags).await;
        Some((front, bed.run(Role::Notify, "notify", &bed_flags).await))
    } else {
        None
    };
    let command = if bed.is_kafka() { "process" } else { "up" };
    let mut taker =
        crate::crashes::Process::start_in(bed.words(command, command, &words), &KEYS, Stdio::inherit()).await;
    let client = lasting.as_ref().map_or_else(|| taker.client.clone(), |(front, _)| front.client.clone());
    let sink = json!({"kind": "service_bus", "url": told.url(), "credential": credential(PASSWORD),
                      "events": ["PaymentSuccessful"]});
    create(&client, sink).await;
    orders.send(&[good("before-1"), good("before-2")]).await;
    paid(&client, "default", "before-1").await;
    paid(&client, "default", "before-2").await;
    // What stands on the queues is still there when it comes back.
    broker.stop().await;
    until("it is known that the broker is away", async || counted(&taker.client, CONNECTED).await == 0).await;
    pay(&client, "meanwhile").await;
    broker.start_again().await;
    orders.send(&[good("after-1"), good("after-2")]).await;
    paid(&client, "default", "after-1").await;
    paid(&client, "default", "after-2").await;
    let keys = ["after-1", "after-2", "before-1", "before-2", "meanwhile"];
    let mut expected: Vec<String> = keys.iter().map(|key| crate::foreign::id("default", key).to_string()).collect();
    expected.sort();
    let mut sessions: Vec<String> = Vec::new();
    // At least once: one whose answer was lost comes twice.
    while sessions.len() < keys.len() {
        let message = told.read(1).await.remove(0);
        sessions.push(message["group"].as_str().unwrap().to_owned());
        sessions.sort();
        sessions.dedup();
    }
    assert_eq!(sessions, expected);
    taker.signal("TERM");
    assert_eq!(taker.exit_code().await, Some(0));
    if let Some((front, notifier)) = lasting {
        notifier.stop().await;
        front.stop().await;
    }
}

pub async fn a_wrong_key_is_said_and_ends_nothing(bed: &Bed) {
    const WRONG: &str = "s3cret-and-wrong";
    let queue = Queue::new();
    queue.send(&[good("order-1")]).await;
    let log = bed.data_dir("log");
    let keys = [("PAYLOG_SERVICE_BUS_KEY_NAME", USER), ("PAYLOG_SERVICE_BUS_KEY", WRONG)];
    let mut taker = process(bed, &queue.url(), &keys, Stdio::from(File::create(&log).unwrap())).await;
    let says = |text: &str| std::fs::read_to_string(&log).unwrap().contains(text);
    until("it is said", async || says("does not let us in: look at the name and the key")).await;
    // Everything else goes on.
    let front = if bed.is_kafka() { Some(bed.run(Role::Serve, "serve", &[]).await) } else { None };
    let client = front.as_ref().map_or(&taker.client, |front| &front.client);
    let paid = client.pay_to_the_end("over-http", &body("cus_1", "pm_card_visa")).await;
    assert_eq!((paid.status, paid.text("status")), (200, "successful"));
    assert_eq!(counted(&taker.client, CONNECTED).await, 0);
    taker.signal("TERM");
    assert_eq!(taker.exit_code().await, Some(0));
    assert!(!says(WRONG), "a key is never written to the log");
    if let Some(front) = front {
        front.stop().await;
    }
    assert_eq!(queue.rest().await.len(), 1, "the message waits for somebody who may take it");
}

pub async fn a_certificate_that_nobody_vouches_for_is_not_talked_to(bed: &Bed) {
    let broker = Broker::start().await;
    let queue = Queue::on(&broker.url);
    queue.send(&[good("order-1")]).await;
    let (secure, vouches) = broker.secure();
    let log = bed.data_dir("log");
    let mut taker = process(bed, &queue.by(&secure), &KEYS, Stdio::from(File::create(&log).unwrap())).await;
    let says = |text: &str| std::fs::read_to_string(&log).unwrap().contains(text);
    until("it is said", async || says("there is no secure connection to the broker")).await;
    taker.signal("TERM");
    assert_eq!(taker.exit_code().await, Some(0));
    // The same, and somebody vouches for it.
    let keys = [&KEYS[..], &[("SSL_CERT_FILE", vouches.as_str())]].concat();
    let mut taker = process(bed, &queue.by(&secure), &keys, Stdio::inherit()).await;
    let name = "paylog_requests_taken_total{result=\"accepted\"}";
    until("the message is taken", async || counted(&taker.client, name).await == 1).await;
    taker.signal("TERM");
    assert_eq!(taker.exit_code().await, Some(0));
}

/// Each level is a call within a call of the library that would decode it: they would end the process.
pub async fn what_is_nested_deep_or_large_is_refused_and_ends_nothing(bed: &Bed) {
    const LEVELS: usize = 100_000;
    const LARGE: usize = 2 * 1024 * 1024;
    let value = b"\x00\x53\x77".as_slice(); // a message that is this value, and its description, and that one's, and so on
    let deep = [value, &b"\x00\x44".repeat(LEVELS), b"\x40"].concat();
    let large = [value, b"\xb0", &u32::try_from(LARGE).unwrap().to_be_bytes(), &vec![b'x'; LARGE]].concat();
    let raw = |id: &str, bytes: &[u8]| json!({"id": id, "raw": BASE64.encode(bytes)});
    let messages = [
        good("order-1"),
        raw("deep", &deep),
        good("order-2"),
        raw("large", &large),
        raw("cut", b"\x00"),
        good("order-3"),
    ];
    let mut bus = Imitation::giving_out(&messages).await;
    let taker = Taker::start(bed, &format!("{}/orders", bus.url)).await;
    let mut became = BTreeMap::new();
    while became.len() < messages.len() {
        let line = bus.line().await;
        let reason = line["info"]["DeadLetterReason"].as_str().unwrap_or("none").to_owned();
        became.insert(line["id"].as_str().unwrap().to_owned(), (line["outcome"].as_str().unwrap().to_owned(), reason));
    }
    for (id, outcome, reason) in [
        ("order-1", "accepted", "none"),
        ("deep", "rejected", "malformed_message"),
        ("order-2", "accepted", "none"),
        ("large", "rejected", "record_too_large"),
        ("cut", "rejected", "malformed_message"),
        ("order-3", "accepted", "none"),
    ] {
        assert_eq!(became[id], (outcome.to_owned(), reason.to_owned()), "{id}");
    }
    paid(taker.client(), "default", "order-3").await;
    taker.stop().await;
}

/// A merchant names a broker, and it may be the merchant's own.
pub async fn a_broker_that_nests_what_it_says_ends_nothing(bed: &Bed) {
    let parts = Parts::start(bed, &[]).await;
    let (hostile, well) = (Imitation::greeting_with(1_000).await, Imitation::greeting_with(6).await);
    let mut ids = Vec::new();
    for bus in [&hostile, &well] {
        let url = format!("{}/orders", bus.url);
        let sink = json!({"kind": "service_bus", "url": url, "credential": credential(PASSWORD)});
        ids.push(create(&parts.front.client, sink).await);
    }
    pay(&parts.front.client, "order-1").await;
    until("whom it does not concern is told", async || {
        let told = attempts(&parts.front.client, &ids[1]).await;
        told.len() == 2 && told.iter().all(|one| one["result"] == "delivered")
    })
    .await;
    until("the other has failed", async || {
        let told = attempts(&parts.front.client, &ids[0]).await;
        !told.is_empty() && told.iter().all(|one| one["result"] == "failed" && one["failure"] == "broken")
    })
    .await;
    parts.stop().await;
}
