//! Azure Event Grid as its documents have it: a topic that is told of payments, and events that start some.

use std::collections::HashMap;
use std::process::{Command, Output};

use reqwest::Method;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::answering::{Answering, Came, Says};
use crate::client::{Answer, Client, body};
use crate::cluster::{Bed, until};
use crate::keys;
use crate::receiver::Receiver;
use crate::webhooks::{PATH, Parts, act, attempts, create, pay};

const IN: &str = "/v1/event_grid";
const KEY: &str = "VXbGWce53249Mt8wuotr0GPmyJ/nDT4hgdEj9DpBeRr38arnnm5OFg==";
const OTHER_KEY: &str = "b3RoZXIga2V5IG9mIHRoZSB0b3BpYw==";

/// What a topic was sent.
#[derive(Clone, Debug)]
struct Published {
    headers: HashMap<String, String>,
    events: Vec<Value>,
}

/// A custom topic that takes CloudEvents, as far as what is sent to it says.
type Topic = Answering<Published>;

impl From<Came> for Published {
    fn from(came: Came) -> Self {
        assert_eq!(came.path, "/api/events?api-version=2018-01-01");
        let media_type = came.headers["content-type"].split(';').next().unwrap().to_owned();
        assert_eq!(media_type, "application/cloudevents-batch+json");
        assert!(came.body.len() <= 1024 * 1024, "a topic takes 1 MB at once");
        let Value::Array(events) = serde_json::from_slice(&came.body).unwrap() else { panic!("it is no array") };
        for event in &events {
            for required in ["id", "source", "specversion", "type"] {
                assert!(event[required].as_str().is_some_and(|text| !text.is_empty()), "{required} of {event}");
            }
            assert_eq!(event["specversion"], "1.0");
        }
        Self { headers: came.headers, events }
    }
}

impl Topic {
    /// As it is given out: it says no version.
    fn url(&self) -> String {
        format!("http://127.0.0.1:{}/api/events", self.port)
    }
}

fn has_key(published: &Published, key: &str) -> bool {
    published.headers.get("aeg-sas-key").is_some_and(|sent| sent == key)
}

async fn endpoint(client: &Client, topic: &Topic, more: Value) -> String {
    let mut asked = json!({"kind": "event_grid", "url": topic.url(), "credential": KEY});
    asked.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    let created = client.post(PATH, &asked).await;
    assert_eq!(created.status, 201, "{created:?}");
    assert!(!created.body.to_string().contains(KEY) && created.body["secret"].is_null(), "{created:?}");
    assert_eq!((created.text("kind"), created.text("payload")), ("event_grid", "cloudevents"));
    created.text("id").to_owned()
}

/// Of the logs, and of what a client may see.
pub async fn a_topic_is_told_of_payments_in_cloud_events(bed: &Bed) {
    let parts = Parts::start(bed, &[]).await;
    let client = &parts.front.client;
    let topic = Topic::saying(|_, came: &Published| Says::status(if has_key(came, KEY) { 200 } else { 401 })).await;
    let id = endpoint(client, &topic, json!({"events": ["PaymentSuccessful"]})).await;
    let payment = pay(client, "order-1").await;
    let told = topic.has(1).await.remove(0).events.remove(0);
    let history = client.get(&format!("/v1/payments/{payment}/events")).await.body;
    let happened = &history["data"][1];
    assert_eq!(told["id"], happened["id"]);
    assert_eq!(told["type"], "paylog.PaymentSuccessful");
    assert_eq!((&told["subject"], &told["partitionkey"]), (&json!(payment), &json!(payment)));
    assert_eq!(told["time"], happened["occurred_at"]);
    assert_eq!(
        (&told["datacontenttype"], &told["sequence"]),
        (&json!("application/json"), &json!("00000000000000000002"))
    );
    let source = told["source"].as_str().unwrap();
    assert!(source.starts_with("/paylog/") && source.len() == "/paylog/".len() + 32, "{source}");
    assert_eq!((&told["data"]["event"]["id"], &told["data"]["payment"]["id"]), (&happened["id"], &json!(payment)));
    assert_eq!(act(client, &id, "test", json!({})).await.status, 202);
    let test = topic.has(2).await.remove(1).events.remove(0);
    assert_eq!((&test["type"], &test["subject"]), (&json!("paylog.test"), &json!(id)));
    until("both are known", async || attempts(client, &id).await.len() == 2).await;
    let attempt = &attempts(client, &id).await[1];
    assert_eq!((attempt["result"].as_str(), attempt["status"].as_u64()), (Some("delivered"), Some(200)), "{attempt}");
    let shown = client.get(&format!("{PATH}/{id}")).await;
    assert!(!shown.body.to_string().contains(KEY), "{shown:?}");
    parts.stop().await;
    assert!(!anywhere(bed.directory.path(), KEY.as_bytes()), "the key stands in some file");
}

/// Is it in any file below?
fn anywhere(place: &std::path::Path, needle: &[u8]) -> bool {
    std::fs::read_dir(place).unwrap().any(|entry| {
        let path = entry.unwrap().path();
        if path.is_dir() {
            return anywhere(&path, needle);
        }
        std::fs::read(&path).unwrap().windows(needle.len()).any(|window| window == needle)
    })
}

pub async fn a_topic_is_treated_as_it_answers(bed: &Bed) {
    let parts = Parts::start(bed, &[]).await;
    let client = &parts.front.client;
    let only = json!({"events": ["PaymentSuccessful"]});
    let busy = Topic::saying(|n, _| if n == 0 { Says::retry_after(429, 1) } else { Says::status(200) }).await;
    let away = Topic::saying(|n, _| Says::status([503, 404, 403, 200][n.min(3)])).await;
    // What is refused is given up where a topic is otherwise well, and not where it takes nothing.
    let refuses = Topic::saying(|n, _| Says::status([200, 400][n.min(1)])).await;
    let full = Topic::saying(|n, _| Says::status([200, 413][n.min(1)])).await;
    let other = Topic::saying(|n, _| Says::status([400, 413, 200][n.min(2)])).await;
    let rekeyed =
        Topic::saying(|_, came: &Published| Says::status(if has_key(came, OTHER_KEY) { 200 } else { 401 })).await;
    let mut ids = Vec::new();
    for topic in [&busy, &away, &refuses, &full, &rekeyed, &other] {
        ids.push(endpoint(client, topic, only.clone()).await);
    }
    for id in [&ids[2], &ids[3]] {
        assert_eq!(act(client, id, "test", json!({})).await.status, 202);
        until("it is well", async || attempts(client, id).await.len() == 1).await;
    }
    pay(client, "order-1").await;
    rekeyed.has(1).await;
    let wrong = act(client, &ids[4], "rotate", json!({"overlap_seconds": 60})).await;
    assert_eq!((wrong.status, wrong.text("code")), (422, "invalid_overlap"), "{wrong:?}");
    let exchanged = act(client, &ids[4], "rotate", json!({"credential": OTHER_KEY})).await;
    assert!(exchanged.status == 200 && !exchanged.body.to_string().contains(OTHER_KEY), "{exchanged:?}");
    until("the key that was exchanged is used", async || {
        rekeyed.received().last().is_some_and(|came| has_key(came, OTHER_KEY))
    })
    .await;
    let came = busy.has(2).await;
    assert_eq!(came[0].events, came[1].events, "the same at every attempt");
    away.has(4).await;
    for (index, expected) in [
        (0, vec![("delivered", None, 200), ("failed", Some("status"), 429)]),
        (
            1,
            vec![
                ("delivered", None, 200),
                ("failed", Some("status"), 403),
                ("failed", Some("status"), 404),
                ("failed", Some("status"), 503),
            ],
        ),
        (2, vec![("failed", Some("refused"), 400), ("delivered", None, 200)]),
        (3, vec![("failed", Some("refused"), 413), ("delivered", None, 200)]),
        (5, vec![("delivered", None, 200), ("failed", Some("status"), 413), ("failed", Some("status"), 400)]),
    ] {
        until("it is on the log", async || attempts(client, &ids[index]).await.len() == expected.len()).await;
        let attempts = attempts(client, &ids[index]).await;
        let said: Vec<_> = attempts
            .iter()
            .map(|one| (one["result"].as_str().unwrap(), one["failure"].as_str(), one["status"].as_u64().unwrap()))
            .collect();
        assert_eq!(said, expected);
        let last = &attempts[0];
        assert!(last["next_at"].is_null(), "nothing more is to come: {last}");
    }
    assert!(refuses.received().len() == 2 && full.received().len() == 2, "what is permanent is given up");
    parts.stop().await;
}

pub async fn what_is_due_for_a_topic_goes_together_and_each_has_an_outcome_of_its_own(bed: &Bed) {
    let parts = Parts::start(bed, &[]).await;
    let client = &parts.front.client;
    let bad = std::sync::Arc::new(std::sync::OnceLock::new());
    let refused = std::sync::Arc::clone(&bad);
    let topic = Topic::saying(move |n, came: &Published| match (n, refused.get()) {
        (0, _) => Says::retry_after(503, 1), // by then all of it is due
        (_, Some(bad)) if came.events.iter().any(|event| event["subject"] == *bad) => Says::status(400),
        _ => Says::status(200),
    })
    .await;
    let id = endpoint(client, &topic, json!({"events": ["PaymentSuccessful"]})).await;
    act(client, &id, "disable", json!({})).await;
    let mut payments = Vec::new();
    for n in 0..40 {
        payments.push(pay(client, &format!("order-{n}")).await);
    }
    bad.set(payments[20].clone()).unwrap();
    act(client, &id, "enable", json!({})).await;
    let asked = act(client, &id, "recover", json!({"since": "2020-01-01T00:00:00Z"})).await;
    assert_eq!(asked.status, 202, "{asked:?}");
    let ended = async || {
        let attempts = attempts(client, &id).await;
        let over = attempts.into_iter().filter(|one| one["next_at"].is_null());
        over.map(|one| (one["payment_id"].as_str().unwrap().to_owned(), one["result"] == "delivered"))
            .collect::<Vec<_>>()
    };
    until("each has an outcome", async || ended().await.len() == 40).await;
    let delivered: std::collections::HashMap<_, _> = ended().await.into_iter().collect();
    assert_eq!(delivered.len(), 40, "one each");
    for payment in &payments {
        assert_eq!(delivered[payment], *payment != payments[20], "{payment}");
    }
    let received = topic.received();
    assert!(received.iter().any(|came| came.events.len() > 1), "they go together");
    let alone = |came: &&Published| came.events.iter().any(|event| event["subject"] == json!(payments[20]));
    assert_eq!(
        received.iter().rfind(alone).unwrap().events.len(),
        1,
        "what is refused is sent alone before it is given up"
    );
    parts.stop().await;
}

pub async fn a_webhook_is_sent_cloud_events_where_it_asks_for_them(bed: &Bed) {
    let parts = Parts::start(bed, &["--cloudevents-source", "https://pay.example.org/paylog"]).await;
    let client = &parts.front.client;
    let receiver = Receiver::start().await;
    let asked = json!({"url": receiver.url(), "events": ["PaymentSuccessful"], "payload": "cloudevents"});
    let (id, secret) = create(client, asked).await;
    let (_, plain) = create(client, json!({"url": receiver.url(), "events": ["PaymentSuccessful"]})).await;
    let payment = pay(client, "order-1").await;
    let mut received = receiver.has(2).await;
    received.sort_by_key(|one| one.is_signed_with(&plain));
    let (told, full) = (&received[0], &received[1]);
    assert!(told.is_signed_with(&secret) && full.is_signed_with(&plain), "Standard Webhooks signs both");
    assert_eq!(told.id(), full.id());
    assert!(told.headers["content-type"].starts_with("application/cloudevents+json"), "{told:?}");
    assert_eq!((&told.body["specversion"], &told.body["subject"]), (&json!("1.0"), &json!(payment)));
    assert_eq!(told.body["source"], "https://pay.example.org/paylog");
    assert_eq!(told.body["data"], full.body["data"], "the data is what a webhook has");
    assert_eq!(client.get(&format!("{PATH}/{id}")).await.text("payload"), "cloudevents");
    let words = ["create", "--kind", "event_grid", "--to", "http://127.0.0.1:9/api/events", "--url", &client.url];
    let refused = command(&words, None);
    assert!(String::from_utf8_lossy(&refused.stderr).contains("PAYLOG_ENDPOINT_CREDENTIAL"), "{refused:?}");
    let created = command(&words, Some(KEY));
    let created: Value = serde_json::from_slice(&created.stdout).unwrap();
    assert_eq!((&created["kind"], &created["status"]), (&json!("event_grid"), &json!("enabled")));
    let words = ["rotate", created["id"].as_str().unwrap(), "--credential", "--url", &client.url];
    let rotated = command(&words, Some(OTHER_KEY));
    assert!(rotated.status.success(), "{rotated:?}");
    parts.stop().await;
}

fn command(words: &[&str], credential: Option<&str>) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_paylog"));
    credential.map(|credential| command.env("PAYLOG_ENDPOINT_CREDENTIAL", credential));
    command.arg("webhook").args(words).output().unwrap()
}

// === events that come in ===

fn grid_event(id: &str, data: &Value) -> Value {
    json!({
        "id": id, "topic": "/subscriptions/1/topics/orders", "subject": "orders", "eventType": "Shop.Ordered",
        "eventTime": "2026-11-25T10:00:00Z", "metadataVersion": "1", "dataVersion": "1", "data": data,
    })
}

fn cloud_event(id: &str, data: &Value) -> Value {
    json!({"specversion": "1.0", "id": id, "source": "/shop/orders", "type": "Shop.Ordered", "data": data})
}

async fn deliver(client: &Client, headers: &[(&str, &str)], body: &Value) -> Answer {
    client.send(Method::POST, IN, headers, Some(body.to_string().into_bytes())).await
}

async fn history(client: &Client, payment: &str) -> Vec<Value> {
    client.get(&format!("/v1/payments/{payment}/events")).await.body["data"].as_array().unwrap().clone()
}

pub async fn an_event_starts_one_payment_in_whatever_form_it_comes(bed: &Bed) {
    let acme = keys::create(bed, "acme");
    let system = keys::start_closed(bed).await;
    let nobody = &system.front.client;
    handshakes(nobody).await;
    let client = &nobody.with_key(&acme);
    let good = body("cus_1", "pm_card_visa");
    let (grid, cloud) = (grid_event("1", &good), cloud_event("1", &good));
    let plain = [("content-type", "application/json; charset=utf-8"), ("aeg-event-type", "Notification")];
    let structured = [("content-type", "application/cloudevents+json; charset=utf-8")];
    let binary = [
        ("content-type", "application/json"),
        ("ce-specversion", "1.0"),
        ("ce-id", "1"),
        ("ce-source", "/shop/orders"),
        ("ce-type", "Shop.Ordered"),
    ];
    assert_eq!(deliver(nobody, &plain, &json!([grid])).await.status, 401);
    let by_grid = deliver(client, &plain, &json!([grid])).await;
    assert_eq!(by_grid.status, 200, "{by_grid:?}");
    let of = |answer: &Answer| answer.body["payments"][0].as_str().unwrap().to_owned();
    let by_cloud = deliver(client, &structured, &cloud).await;
    assert_ne!(of(&by_cloud), of(&by_grid), "of another source");
    let batch = [("content-type", "application/cloudevents-batch+json")];
    for again in [deliver(client, &binary, &good).await, deliver(client, &batch, &json!([cloud])).await] {
        assert_eq!((again.status, of(&again)), (200, of(&by_cloud)), "one event in any form is one payment");
    }
    let posted = client.pay_to_the_end("/shop/orders/1", &good).await;
    assert_eq!((posted.status, posted.text("id")), (200, of(&by_cloud).as_str()), "by the key <source>/<id>");
    let hashed = deliver(client, &structured, &cloud_event("caf\u{e9}", &good)).await;
    let parts = ["\0\0\0\x0c/shop/orders", "\0\0\0\x05caf\u{e9}"].concat();
    let key = data_encoding::HEXLOWER.encode(&Sha256::digest(parts));
    let posted = client.pay_to_the_end(&key, &good).await;
    assert_eq!(posted.text("id"), of(&hashed), "or by its hash, where that is no key");
    for payment in [of(&by_grid), of(&by_cloud)] {
        until("it has ended", async || history(client, &payment).await.len() == 2).await;
        assert_eq!(history(client, &payment).await[0]["data"]["merchant_id"], "acme");
    }
    system.stop().await;
}

/// Before anything is delivered; nobody needs a key for it, and nothing comes of it.
async fn handshakes(client: &Client) {
    let ask = async |origin: &str| {
        let headers = [("webhook-request-origin", origin), ("webhook-request-rate", "120")];
        client.send(Method::OPTIONS, IN, &headers, None).await
    };
    let allowed = ask("eventgrid.azure.net").await;
    assert_eq!((allowed.status, allowed.header("webhook-allowed-origin")), (200, "eventgrid.azure.net"), "{allowed:?}");
    assert_eq!((allowed.header("webhook-allowed-rate"), allowed.header("allow")), ("*", "OPTIONS, POST"));
    let other = ask("evil.example").await;
    assert!(other.status == 403 && !other.headers.contains_key("webhook-allowed-origin"), "{other:?}");
    let mut event = grid_event(
        "1",
        &json!({"validationCode": "512d38b6-c7b8-40c8-89fe-f46f9e9622b6", "validationUrl": "https://x"}),
    );
    event["eventType"] = json!("Microsoft.EventGrid.SubscriptionValidationEvent");
    let headers = [("content-type", "application/json"), ("aeg-event-type", "SubscriptionValidation")];
    let validated = deliver(client, &headers, &json!([event])).await;
    assert_eq!((validated.status, validated.text("validationResponse")), (200, "512d38b6-c7b8-40c8-89fe-f46f9e9622b6"));
    assert_eq!(client.send(Method::GET, IN, &[], None).await.status, 405);
}

pub async fn a_batch_is_on_the_log_before_it_is_acknowledged_and_what_can_never_be_paid_is_refused(bed: &Bed) {
    let system = bed.start().await;
    let client = &system.front.client;
    let headers = [("content-type", "application/cloudevents-batch+json")];
    let good = body("cus_1", "pm_card_visa");
    let mut all: Vec<Value> = (0..200).map(|n| cloud_event(&format!("many-{n}"), &good)).collect();
    // As large as a batch may be, of what is nothing to us.
    all.iter_mut().for_each(|event| event["extension"] = json!("x".repeat(5_000)));
    let taken = deliver(client, &headers, &json!(all)).await;
    assert_eq!(taken.status, 200, "{taken:?}");
    let payments = taken.body["payments"].as_array().unwrap().clone();
    let different: std::collections::HashSet<_> = payments.iter().map(|id| id.as_str().unwrap()).collect();
    assert_eq!(different.len(), 200);
    for id in [&payments[0], &payments[199]] {
        let id = id.as_str().unwrap();
        until("it has ended", async || history(client, id).await.len() == 2).await;
    }
    let mut other = good.clone();
    other["amount"] = json!(2000);
    for (bad, code) in [
        (cloud_event("many-0", &other), "idempotency_key_reused"),
        (cloud_event("bad-1", &json!({"amount": 1})), "missing_field"),
        (
            cloud_event("bad-2", &json!({"amount": -1, "currency": "EUR", "customer_id": "c", "payment_method": "p"})),
            "amount",
        ),
        (json!({"specversion": "1.0"}), "invalid_event"),
        (json!(5), "malformed_event"),
    ] {
        let fresh = cloud_event(&format!("beside {code}"), &good);
        let refused = deliver(client, &headers, &json!([bad, fresh])).await;
        assert_eq!((refused.status, refused.text("code")), (400, "events_refused"), "{refused:?}");
        let said = refused.text("detail");
        assert!(said.starts_with("1 of 2 events") && said.contains("event 0") && said.contains(code), "{said}");
        // What came beside it is paid all the same, and once.
        let again = deliver(client, &headers, &json!([fresh])).await;
        assert_eq!(again.status, 200, "{again:?}");
        let id = again.body["payments"][0].as_str().unwrap().to_owned();
        until("it has ended", async || history(client, &id).await.len() == 2).await;
    }
    let many: Vec<Value> = (0..5_001).map(|_| json!({})).collect();
    assert_eq!(deliver(client, &headers, &json!(many)).await.status, 413);
    let large = "x".repeat(1_200 * 1024);
    assert_eq!(deliver(client, &headers, &json!([large])).await.status, 413);
    assert_eq!(deliver(client, &[("content-type", "text/plain")], &json!([])).await.status, 415);
    system.stop().await;
}
