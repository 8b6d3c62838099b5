//! Brokers that are away, that do not let us in, and that are not who they say: nothing is lost, and nothing ends for it.

use std::fs::File;
use std::process::Stdio;

use paylog::service::Role;
use serde_json::json;

use crate::artemis::{Broker, Imitation, KEYS, PASSWORD, Queue, USER, credential, good};
use crate::client::body;
use crate::cluster::{Bed, until};
use crate::foreign::GOOD;
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

/// Each level is a call within a call of the library that decodes it: with an ordinary stack a thousand end the process.
pub async fn what_is_nested_deep_ends_nothing(bed: &Bed) {
    const LEVELS: usize = 1_000;
    let queue = Queue::new();
    queue.send(&[json!({"id": "nested", "body": GOOD, "nested": LEVELS}), good("order-1")]).await;
    let taker = Taker::start(bed, &queue.url()).await;
    paid(taker.client(), "default", "nested").await;
    paid(taker.client(), "default", "order-1").await;
    taker.stop().await;
    // A merchant names a broker, and it may be the merchant's own.
    let bed = if bed.is_kafka() { Bed::kafka().await } else { Bed::embedded() };
    let parts = Parts::start(&bed, &[]).await;
    let hostile = Imitation::greeting_with(LEVELS).await;
    let url = format!("{}/orders", hostile.url);
    let sink = json!({"kind": "service_bus", "url": url, "credential": credential(PASSWORD)});
    let id = create(&parts.front.client, sink).await;
    pay(&parts.front.client, "order-1").await;
    until("both are told", async || {
        let told = attempts(&parts.front.client, &id).await;
        told.len() == 2 && told.iter().all(|one| one["result"] == "delivered")
    })
    .await;
    parts.stop().await;
}
