//! Receivers that are slow, wrong, gone or not to be told: each is treated as it answers, and none holds up another.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::time::Duration;

use paylog::service::Role;
use serde_json::json;

use crate::client::Client;
use crate::cluster::{Bed, until};
use crate::receiver::{Receiver, Says};
use crate::webhooks::{PATH, Parts, act, attempts, counts, create, flags, pay};

/// What the first attempt at this endpoint came to.
async fn first_failure(client: &Client, id: &str) -> String {
    until("the first attempt is known", async || !attempts(client, id).await.is_empty()).await;
    let first = attempts(client, id).await.pop().unwrap();
    first["failure"].as_str().unwrap_or("none").to_owned()
}

pub async fn a_receiver_is_treated_as_it_answers(bed: &Bed) {
    let parts = Parts::start(bed, &["--webhook-timeout-ms", "300"]).await;
    let client = &parts.front.client;
    let events = json!(["PaymentSuccessful"]);
    let good = Receiver::start().await;
    let stalls = Receiver::saying(|_, _| Says { after: Duration::from_secs(600), ..Says::status(200) }).await;
    let gone = Receiver::saying(|_, _| Says::status(410)).await;
    let busy = Receiver::saying(|n, _| Says {
        headers: "retry-after: 2\r\n".to_owned(),
        ..Says::status(if n == 0 { 429 } else { 200 })
    })
    .await;
    let elsewhere = Receiver::start().await;
    let location = format!("location: {}\r\n", elsewhere.url());
    let redirects = Receiver::saying(move |_, _| Says { headers: location.clone(), ..Says::status(302) }).await;
    let nobody = Receiver::start().await.url(); // closed at once
    let hears = Receiver::start().await;
    create(client, json!({"url": hears.url(), "events": ["WebhookEndpointDisabled"]})).await;
    let mut ids = Vec::new();
    for url in [good.url(), stalls.url(), gone.url(), busy.url(), redirects.url(), nobody] {
        ids.push(create(client, json!({"url": url, "events": events})).await.0);
    }
    pay(client, "order-1").await;
    good.has(1).await;
    let mut failures = Vec::new();
    for id in &ids[1..] {
        failures.push(first_failure(client, id).await);
    }
    assert_eq!(failures, ["timeout", "gone", "status", "redirect", "connect"]);
    until("the endpoint that is gone is disabled", async || {
        client.get(&format!("{PATH}/{}", ids[2])).await.body["reason"] == "gone"
    })
    .await;
    let heard = hears.has(1).await.remove(0);
    assert_eq!(heard.kind(), "WebhookEndpointDisabled");
    assert_eq!(heard.body["data"], json!({"endpoint": ids[2], "reason": "gone"}));
    // Nothing else is sent there meanwhile, either.
    pay(client, "order-2").await;
    let told = busy.has(3).await;
    assert!(told[1].at - told[0].at >= Duration::from_millis(1_900), "{:?}", told[1].at - told[0].at);
    good.has(2).await;
    assert_eq!((gone.received().len(), elsewhere.connections()), (1, 0));
    parts.stop().await;
}

/// It says so of one event, and nobody sends it another: not the process that comes after, either. What ends it is said, too.
pub async fn an_endpoint_is_left_alone_for_as_long_as_it_asks_for_over_a_restart(bed: &Bed) {
    let parts = Parts::start(bed, &[]).await;
    let busy = Receiver::saying(|n, _| Says {
        headers: "retry-after: 3600\r\n".to_owned(),
        ..Says::status(if n == 0 { 503 } else { 204 })
    })
    .await;
    let (id, _) = create(&parts.front.client, json!({"url": busy.url(), "events": ["PaymentSuccessful"]})).await;
    let path = format!("{PATH}/{id}");
    let before = parts.front.client.get(&path).await;
    assert!(before.body["paused_until"].is_null() && before.body.get("paused_until").is_some(), "{before:?}");
    let first = pay(&parts.front.client, "order-1").await;
    until("the first attempt is known", async || !attempts(&parts.front.client, &id).await.is_empty()).await;
    let asked = parts.front.client.get(&path).await.body["paused_until"].clone();
    assert!(asked.is_string(), "{asked}");
    parts.stop().await;

    let parts = Parts::start(bed, &[]).await;
    let client = &parts.front.client;
    until("it is known as it was", async || client.get(&path).await.body["paused_until"] == asked).await;
    pay(client, "order-2").await;
    for (what, status) in [("disable", "disabled"), ("enable", "enabled")] {
        assert_eq!(act(client, &id, what, json!({})).await.text("status"), status);
    }
    let third = pay(client, "order-3").await;
    let told: Vec<_> = busy.has(2).await.iter().map(|one| one.payment().to_owned()).collect();
    assert_eq!(told, [first, third], "what came about meanwhile was not sent");
    assert!(client.get(&path).await.body["paused_until"].is_null(), "it was enabled anew");
    parts.stop().await;
}

/// Without the switch for development.
pub async fn an_address_of_a_private_network_is_not_told(bed: &Bed) {
    let parts = Parts::start_plainly(bed).await;
    let client = &parts.front.client;
    let receiver = Receiver::start().await;
    for url in [receiver.url(), format!("https://127.0.0.1:{}/", receiver.port), "https://169.254.169.254/".to_owned()]
    {
        let refused = client.post(PATH, &json!({"url": url})).await;
        assert_eq!((refused.status, refused.text("code")), (422, "invalid_url"), "{url}: {refused:?}");
    }
    let by_name = format!("https://localhost:{}/hook", receiver.port);
    let (id, _) = create(client, json!({"url": by_name})).await;
    let unknown = create(client, json!({"url": "https://no-such-host.invalid/"})).await.0;
    pay(client, "order-1").await;
    assert_eq!(first_failure(client, &id).await, "address_not_allowed");
    assert_eq!(first_failure(client, &unknown).await, "dns");
    assert_eq!(receiver.connections(), 0);
    parts.stop().await;
}

pub async fn what_does_nothing_but_fail_is_disabled(bed: &Bed) {
    let retries = ["300", "300", "300", "300", "300", "300", "300", "300", "300", "300"].join(",");
    let more = ["--webhook-disable-after-seconds", "1", "--webhook-retry-ms", &retries];
    let parts = Parts::start(bed, &more).await;
    let client = &parts.front.client;
    let receiver = Receiver::saying(|_, _| Says::status(500)).await;
    let (id, _) = create(client, json!({"url": receiver.url(), "events": ["PaymentSuccessful"]})).await;
    pay(client, "order-1").await;
    let shown = async || client.get(&format!("{PATH}/{id}")).await;
    until("it is disabled", async || shown().await.text("status") == "disabled").await;
    assert_eq!(shown().await.text("reason"), "failing");
    until("it has nothing to be told", async || shown().await.body["pending"].as_u64().unwrap_or(0) == 0).await;
    assert!(receiver.received().len() >= 4, "{}", receiver.received().len());
    parts.stop().await;
}

/// The first two attempts at each event fail, and the later event waits.
pub async fn events_of_a_payment_come_in_order_where_that_is_asked_for(bed: &Bed) {
    let parts = Parts::start(bed, &[]).await;
    let client = &parts.front.client;
    let seen: Mutex<BTreeMap<String, usize>> = Mutex::default();
    let receiver = Receiver::saying(move |_, one| {
        let mut seen = seen.lock().unwrap();
        let count = seen.entry(one.id().to_owned()).or_default();
        *count += 1;
        Says::status(if *count < 3 { 503 } else { 200 })
    })
    .await;
    let (id, _) = create(client, json!({"url": receiver.url(), "ordered": true})).await;
    for n in 0..8 {
        pay(client, &format!("order-{n}")).await;
    }
    let delivered = async || {
        let all = attempts(client, &id).await;
        all.iter().filter(|one| one["result"] == "delivered").count()
    };
    until("all sixteen are delivered", async || delivered().await == 16).await;
    let mut tries: BTreeMap<String, Vec<u64>> = BTreeMap::new();
    for one in receiver.received() {
        tries.entry(one.payment().to_owned()).or_default().push(one.sequence());
    }
    assert!(tries.len() == 8 && tries.values().all(|tries| *tries == [1, 1, 1, 2, 2, 2]), "{tries:?}");
    parts.stop().await;
}

/// Slots for two, of which a receiver that never answers has its own share and no more.
pub async fn a_backlog_far_larger_than_the_bounds_is_delivered(bed: &Bed) {
    let more = ["--webhooks-in-flight", "3", "--webhooks-in-flight-each", "2", "--webhook-timeout-ms", "100"];
    let parts = Parts::start(bed, &more).await;
    let client = &parts.front.client;
    let (good, stalls) = (
        Receiver::start().await,
        Receiver::saying(|_, _| Says { after: Duration::from_secs(600), ..Says::status(200) }).await,
    );
    create(client, json!({"url": stalls.url()})).await;
    let (id, _) = create(client, json!({"url": good.url()})).await;
    for n in 0..100 {
        let paid = client.pay(&format!("order-{n}"), &crate::client::body("cus_1", "pm_card_visa")).await;
        assert_eq!(paid.status, 202, "{paid:?}");
    }
    good.has(200).await;
    let pending = async || client.get(&format!("{PATH}/{id}")).await.body["pending"].as_u64().unwrap_or(0);
    until("nothing is left to be told", async || pending().await == 0).await;
    assert!(counts(&good.received()).values().all(|count| *count == 1));
    parts.stop().await;
}

/// Only Kafka has more than one of them.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs Kafka: see CONTRIBUTING.md"]
async fn notifiers_share_the_work_and_one_takes_over() {
    let bed = Bed::kafka().await;
    let mut parts = Parts::start(&bed, &[]).await;
    let flags = flags(&bed);
    let words: Vec<&str> = flags.iter().map(String::as_str).collect();
    let second = bed.run(Role::Notify, "notify-2", &words).await;
    let receiver = Receiver::start().await;
    let (id, _) = create(&parts.front.client, json!({"url": receiver.url(), "events": ["PaymentSuccessful"]})).await;
    for n in 0..40 {
        pay(&parts.front.client, &format!("order-{n}")).await;
        if n == 15 {
            parts.notifier.take().unwrap().stop().await;
        }
    }
    until("all are known to be delivered", async || {
        let all = attempts(&parts.front.client, &id).await;
        all.iter().filter(|one| one["result"] == "delivered").count() == 40
    })
    .await;
    let counts = counts(&receiver.received());
    assert!(counts.len() == 40 && counts.values().sum::<usize>() <= 44, "{counts:?}");
    second.stop().await;
    parts.stop().await;
}
