//! Who asked to be told by messages is told: each event one message, its payment the session, retried and recorded as a webhook.

use std::collections::BTreeMap;

use paylog::payment::PaymentId;
use serde_json::{Value, json};

use crate::artemis::{PASSWORD, Queue, credential};
use crate::client::{Client, body};
use crate::cluster::{Bed, until};
use crate::receiver::Receiver;
use crate::webhooks::{PATH, Parts, act, attempts, pay};

async fn endpoint(client: &Client, queue: &Queue, more: Value) -> String {
    let mut asked = json!({"kind": "service_bus", "url": queue.url(), "credential": credential(PASSWORD)});
    asked.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    create(client, asked).await
}

/// As a merchant does it; there is no secret to be told.
pub async fn create(client: &Client, asked: Value) -> String {
    let created = client.post(PATH, &asked).await;
    assert_eq!(created.status, 201, "{created:?}");
    created.text("id").to_owned()
}

fn event(message: &Value) -> Value {
    serde_json::from_str(message["body"].as_str().unwrap()).unwrap()
}

pub async fn a_payment_is_told_by_messages_of_one_session_in_order(bed: &Bed) {
    const PAYMENTS: usize = 10;
    let parts = Parts::start(bed, &[]).await;
    let client = &parts.front.client;
    let queue = Queue::new();
    let id = endpoint(client, &queue, json!({"ordered": true})).await;
    let paying = (0..PAYMENTS).map(|n| client.pay_to_the_end(format!("order-{n}").leak(), paid_body()));
    let payments: Vec<PaymentId> = futures_util::future::join_all(paying).await.iter().map(|paid| paid.id()).collect();
    let messages = queue.read(2 * PAYMENTS).await;
    let mut sessions: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for message in &messages {
        let event = event(message);
        assert_eq!(message["type"], "application/cloudevents+json; charset=utf-8");
        assert_eq!((&message["id"], &message["subject"]), (&event["id"], &event["type"]));
        assert_eq!((&message["group"], &event["partitionkey"]), (&event["subject"], &event["subject"]));
        assert_eq!((&event["specversion"], &event["datacontenttype"]), (&json!("1.0"), &json!("application/json")));
        assert_eq!(event["data"]["payment"]["id"], event["subject"]);
        let kind = event["type"].as_str().unwrap().to_owned();
        sessions.entry(message["group"].as_str().unwrap().to_owned()).or_default().push(kind);
    }
    assert_eq!(sessions.len(), PAYMENTS);
    for payment in payments {
        let told = &sessions[&payment.to_string()];
        assert_eq!(told, &["paylog.PaymentInProgress", "paylog.PaymentSuccessful"], "{payment}");
    }
    until("all are recorded", async || attempts(client, &id).await.len() == 2 * PAYMENTS).await;
    assert!(attempts(client, &id).await.iter().all(|one| one["result"] == "delivered"));
    let shown = client.get(&format!("{PATH}/{id}")).await.body;
    assert_eq!(shown["kind"], "service_bus");
    assert!(!shown.to_string().contains(PASSWORD), "{shown}");
    parts.stop().await;
}

fn paid_body() -> &'static Value {
    Box::leak(Box::new(body("cus_1", "pm_card_visa")))
}

pub async fn a_message_is_sent_again_and_what_was_missed_is_recovered(bed: &Bed) {
    let parts = Parts::start(bed, &[]).await;
    let client = &parts.front.client;
    let queue = Queue::new();
    let id = endpoint(client, &queue, json!({"events": ["PaymentSuccessful"]})).await;
    let paid = pay(client, "order-1").await;
    let first = queue.read(1).await.remove(0);
    assert_eq!(act(client, &id, "resend", json!({"payment_id": paid, "version": 2})).await.status, 202);
    assert_eq!(queue.read(1).await, [first], "the same message, byte for byte");
    assert_eq!(act(client, &id, "test", json!({})).await.status, 202);
    let test = event(&queue.read(1).await[0]);
    assert_eq!((&test["type"], &test["subject"]), (&json!("paylog.test"), &json!(id)));
    // What happens while it is disabled it is told when somebody asks.
    assert_eq!(act(client, &id, "disable", json!({})).await.status, 200);
    let since = client.get(&format!("/v1/payments/{paid}")).await.text("created_at").to_owned();
    let missed = pay(client, "order-2").await;
    assert_eq!(act(client, &id, "enable", json!({})).await.status, 200);
    assert_eq!(act(client, &id, "recover", json!({"since": since})).await.status, 202);
    assert_eq!(queue.read(1).await[0]["group"], missed);
    assert_eq!(queue.rest().await, [Value::Null; 0], "what was delivered is not recovered");
    parts.stop().await;
}

/// What the newest attempt at this endpoint came to, once there are `count` of them at least.
async fn failure(client: &Client, id: &str, count: usize) -> String {
    until("there is an attempt", async || attempts(client, id).await.len() >= count).await;
    attempts(client, id).await[0]["failure"].as_str().unwrap_or("none").to_owned()
}

pub async fn a_queue_is_treated_as_it_answers(bed: &Bed) {
    let parts = Parts::start(bed, &["--webhook-timeout-ms", "3000"]).await;
    let client = &parts.front.client;
    let only = json!({"events": ["PaymentSuccessful"]});
    let queue = Queue::new();
    let wrong = {
        let asked = json!({"kind": "service_bus", "url": queue.url(), "credential": credential("wrong"), "events": ["PaymentSuccessful"]});
        create(client, asked).await
    };
    let nobody = Queue::on(&Receiver::start().await.url().replace("http://", "amqp://").replace("/hook", ""));
    let nobody = endpoint(client, &nobody, only.clone()).await;
    let http = Receiver::start().await;
    let other = Queue::on(http.url().replace("http://", "amqp://").trim_end_matches("/hook"));
    let other = endpoint(client, &other, only).await;
    pay(client, "order-1").await;
    assert_eq!(failure(client, &wrong, 1).await, "unauthorized");
    assert_eq!(failure(client, &nobody, 1).await, "connect");
    assert!(["broken", "timeout"].contains(&failure(client, &other, 1).await.as_str()), "it speaks no AMQP");
    // The right key is used from then on: what could not be told yet is told.
    let rotated = act(client, &wrong, "rotate", json!({"credential": credential(PASSWORD)})).await;
    assert_eq!(rotated.status, 200, "{rotated:?}");
    assert_eq!(event(&queue.read(1).await[0])["type"], "paylog.PaymentSuccessful");
    for bad in ["no connection string", "Endpoint=sb://other.example/;SharedAccessKeyName=a;SharedAccessKey=b"] {
        let refused = act(client, &wrong, "rotate", json!({"credential": bad.replace(' ', "-")})).await;
        assert_eq!((refused.status, refused.text("code")), (422, "invalid_credential"), "{refused:?}");
    }
    parts.stop().await;
    // As in production: nothing is told where only a private network leads.
    let other_bed = if bed.is_kafka() { Bed::kafka().await } else { Bed::embedded() };
    let parts = Parts::start_plainly(&other_bed).await;
    let client = &parts.front.client;
    let asked = |url: &str| json!({"kind": "service_bus", "url": url, "credential": credential(PASSWORD)});
    for url in [queue.url(), queue.url().replace("amqp:", "amqps:")] {
        let refused = client.post(PATH, &asked(&url)).await;
        assert_eq!((refused.status, refused.text("code")), (422, "invalid_url"), "{url}");
    }
    let id = create(client, asked("amqps://localhost:1/orders")).await;
    pay(client, "order-2").await;
    assert_eq!(failure(client, &id, 1).await, "address_not_allowed");
    parts.stop().await;
}
