//! What only Kafka has: several API instances on one log, and a log that some reader cannot yet see to its end.

use std::collections::HashSet;
use std::time::Duration;

use paylog::journal::partition_of;
use paylog::payment::{IdempotencyKey, MerchantId, PaymentId};
use paylog::service::Role;
use rdkafka::ClientConfig;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use serde_json::json;

use crate::client::{Answer, Client, body};
use crate::cluster::{Bed, PARTITIONS, PATIENCE, Running, ends_of, until};
use crate::crashes::Process;

const INSTANCES: usize = 3;

async fn fronts(bed: &Bed) -> Vec<Running> {
    let mut fronts = Vec::new();
    for n in 0..INSTANCES {
        fronts.push(bed.run(Role::Serve, &format!("serve-{n}"), &[]).await);
    }
    fronts
}

/// One key, sent with each body at the same moment, to one instance after the other.
async fn at_once(fronts: &[Running], bodies: Vec<serde_json::Value>) -> Vec<Answer> {
    let paying = bodies.into_iter().zip(fronts.iter().cycle()).map(|(body, front)| {
        let client = front.client.clone();
        tokio::spawn(async move { client.pay("one-key", &body).await })
    });
    let mut answers = Vec::new();
    for answer in paying.collect::<Vec<_>>() {
        answers.push(answer.await.unwrap());
    }
    answers
}

async fn stop(fronts: Vec<Running>, processor: Running) {
    processor.stop().await;
    for front in fronts {
        front.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs Kafka: see CONTRIBUTING.md"]
async fn one_key_at_three_instances_at_once_is_one_payment() {
    let bed = Bed::kafka().await;
    let (fronts, processor) = (fronts(&bed).await, bed.run(Role::Process, "process", &[]).await);
    let answers = at_once(&fronts, vec![body("cus_1", "pm_card_visa"); 50]).await;
    assert!(answers.iter().all(|a| matches!(a.status, 200 | 202)), "{answers:?}");
    assert_eq!(answers.iter().map(Answer::id).collect::<HashSet<_>>().len(), 1);
    let requests = answers.iter().filter(|a| a.header("idempotent-replayed").is_empty());
    assert_eq!(requests.count(), 1, "exactly one is told that it was the first");
    let id = answers[0].id();
    until("the payment ends", async || {
        fronts[0].view.payment(id).unwrap().is_some_and(|row| row.payment.is_terminal())
    })
    .await;
    assert_eq!(ends_of(&fronts[0].log().await, id), 1);
    stop(fronts, processor).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs Kafka: see CONTRIBUTING.md"]
async fn one_key_with_other_bodies_at_three_instances_has_one_winner() {
    let bed = Bed::kafka().await;
    let (fronts, processor) = (fronts(&bed).await, bed.run(Role::Process, "process", &[]).await);
    let bodies = (1..=50).map(
        |amount| json!({"amount": amount, "currency": "EUR", "customer_id": "cus_1", "payment_method": "pm_card_visa"}),
    );
    let answers = at_once(&fronts, bodies.collect()).await;
    let (won, lost): (Vec<&Answer>, Vec<&Answer>) = answers.iter().partition(|a| matches!(a.status, 200 | 202));
    assert_eq!(won.len(), 1, "{answers:?}");
    assert!(lost.iter().all(|a| (a.status, a.text("code")) == (422, "idempotency_key_reused")), "{lost:?}");
    let id = won[0].id();
    until("it ends", async || fronts[1].view.payment(id).unwrap().is_some_and(|row| row.payment.is_terminal())).await;
    let ended = fronts[1].client.get(won[0].link("self")).await;
    assert_eq!(ended.body["amount"], won[0].body["amount"], "what was charged is what the winner asked for");
    assert_eq!(ends_of(&fronts[0].log().await, id), 1);
    stop(fronts, processor).await;
}

/// Killed between the append and the answer, or anywhere near it; the client asks again at another instance.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs Kafka: see CONTRIBUTING.md"]
async fn an_instance_that_dies_before_it_answers_costs_nothing_and_charges_nothing_twice() {
    const PAYMENTS: usize = 80;
    let bed = Bed::kafka().await;
    let other = bed.run(Role::Serve, "serve-other", &[]).await;
    let processor = bed.run(Role::Process, "process", &[]).await;
    let mut paid = HashSet::new();
    for round in 0..3 {
        let mut dying = Process::start(bed.words("serve", "serve-dying", &[])).await;
        let paying: Vec<_> = (0..PAYMENTS)
            .map(|n| {
                let (first, second) = (dying.client.clone(), other.client.clone());
                tokio::spawn(async move { pay_at_either(&first, &second, &format!("order-{round}-{n}")).await })
            })
            .collect();
        until("some are on the log", async || other.log_end().await > (round * PAYMENTS * 2 + 5) as u64).await;
        dying.kill();
        for payment in paying {
            paid.insert(payment.await.unwrap());
        }
    }
    assert_eq!(paid.len(), 3 * PAYMENTS);
    for id in &paid {
        until("it ends", async || other.view.payment(*id).unwrap().is_some_and(|row| row.payment.is_terminal())).await;
    }
    let log = other.log().await;
    assert!(paid.iter().all(|id| ends_of(&log, *id) == 1));
    stop(vec![other], processor).await;
}

/// Answers with the payment's id, which both instances agree on.
async fn pay_at_either(first: &Client, second: &Client, key: &str) -> PaymentId {
    let told = first.try_pay(key, &body("cus_1", "pm_card_visa")).await.ok().map(|answer| answer.id());
    let again = second.pay(key, &body("cus_1", "pm_card_visa")).await;
    assert!(matches!(again.status, 200 | 202), "{again:?}");
    assert!(told.is_none_or(|told| told == again.id()), "one key, one payment");
    again.id()
}

/// Another's open transaction hides what comes after it on its partition, from the API's own fold too.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs Kafka: see CONTRIBUTING.md"]
async fn a_payment_that_cannot_be_seen_yet_is_accepted_unconfirmed_and_charged_once() {
    let bed = Bed::kafka().await;
    let system = bed.start().await;
    let id = PaymentId::derive(&MerchantId::default(), &IdempotencyKey::parse("order-1").unwrap());
    let partition = partition_of(id.to_string().as_bytes(), PARTITIONS);
    let stranger = stranger(&bed.prefix);
    stranger.begin_transaction().unwrap();
    let record = BaseRecord::<[u8], [u8]>::to(&bed.prefix).partition(partition.0 as i32).key(b"x").payload(b"never");
    stranger.send(record).map_err(|(error, _)| error).unwrap();
    stranger.flush(PATIENCE).unwrap();

    for _ in 0..2 {
        let answer = system.front.client.pay("order-1", &body("cus_1", "pm_card_visa")).await;
        assert_eq!((answer.status, &answer.body["confirmed"]), (202, &json!(false)), "{answer:?}");
        assert_eq!(answer.id(), id);
        let asked = system.front.client.get(answer.link("self")).await;
        assert_eq!((asked.status, &asked.body["confirmed"]), (202, &json!(false)), "nothing is known of it yet");
    }
    stranger.abort_transaction(PATIENCE).unwrap();
    until("the fold has passed the stranger", async || system.front.view.payment(id).unwrap().is_some()).await;
    let ended = system.front.client.pay_to_the_end("order-1", &body("cus_1", "pm_card_visa")).await;
    assert_eq!((ended.status, ended.text("status"), ended.id()), (200, "successful", id));
    let log = system.front.log().await;
    assert_eq!(ends_of(&log, id), 1);
    assert_eq!(log.len(), 3, "both requests stand on the log, and nothing of the stranger");
    system.stop().await;
}

fn stranger(prefix: &str) -> BaseProducer {
    let stranger: BaseProducer = ClientConfig::new()
        .set("bootstrap.servers", std::env::var("PAYLOG_TEST_BOOTSTRAP").unwrap())
        .set("transactional.id", format!("stranger-{prefix}"))
        .set("transaction.timeout.ms", "60000")
        .create()
        .unwrap();
    stranger.init_transactions(Duration::from_secs(30)).unwrap();
    stranger
}
