//! One key, one payment, for ever.

use std::collections::HashSet;

use paylog::payment::EventData;
use serde_json::json;

use crate::client::{Answer, body};
use crate::cluster::{Bed, ends_of, until};

/// Sends `bodies` at the same moment, all with one key.
async fn at_once(bed: &Bed, bodies: Vec<serde_json::Value>) -> (crate::cluster::System, Vec<Answer>) {
    let system = bed.start().await;
    let paying: Vec<_> = bodies
        .into_iter()
        .map(|body| {
            let client = system.front.client.clone();
            tokio::spawn(async move { client.pay("one-key", &body).await })
        })
        .collect();
    let mut answers = Vec::new();
    for answer in paying {
        answers.push(answer.await.unwrap());
    }
    (system, answers)
}

pub async fn one_key_fifty_times_at_once_is_one_payment(bed: &Bed) {
    let (system, answers) = at_once(bed, vec![body("cus_1", "pm_card_visa"); 50]).await;
    let ids: HashSet<_> = answers.iter().map(Answer::id).collect();
    assert_eq!(ids.len(), 1);
    assert!(answers.iter().all(|a| matches!(a.status, 200 | 202)), "{answers:?}");
    let first = answers.iter().filter(|a| a.header("idempotent-replayed").is_empty()).count();
    assert_eq!(first, 1, "exactly one is told that it was the first");
    let id = answers[0].id();
    until("the payment ends", async || {
        system.front.view.payment(id).unwrap().is_some_and(|row| row.payment.is_terminal())
    })
    .await;
    assert_eq!(ends_of(&system.front.log().await, id), 1);
    system.stop().await;
}

pub async fn one_key_with_fifty_bodies_has_one_winner(bed: &Bed) {
    let bodies = (1..=50).map(
        |amount| json!({"amount": amount, "currency": "EUR", "customer_id": "cus_1", "payment_method": "pm_card_visa"}),
    );
    let (system, answers) = at_once(bed, bodies.collect()).await;
    let won: Vec<&Answer> = answers.iter().filter(|a| matches!(a.status, 200 | 202)).collect();
    assert_eq!(won.len(), 1, "{answers:?}");
    for lost in answers.iter().filter(|a| !matches!(a.status, 200 | 202)) {
        assert_eq!((lost.status, lost.text("code")), (422, "idempotency_key_reused"));
        assert_eq!(lost.header("content-type"), "application/problem+json");
    }
    let amount = won[0].body["amount"].as_i64().unwrap();
    let winner = json!({"amount": amount, "currency": "EUR", "customer_id": "cus_1", "payment_method": "pm_card_visa"});
    let payment = system.front.client.pay_to_the_end("one-key", &winner).await;
    assert_eq!((payment.status, &payment.body["amount"]), (200, &won[0].body["amount"]));
    assert_eq!(ends_of(&system.front.log().await, won[0].id()), 1);
    system.stop().await;
}

pub async fn a_key_quoted_and_bare_is_one_key_and_a_repeat_never_grows_the_log(bed: &Bed) {
    let system = bed.start().await;
    let client = &system.front.client;
    let first = client.pay_to_the_end("order-1", &body("cus_1", "pm_card_visa")).await;
    let end = system.front.log_end().await;
    let quoted = client.pay("\"order-1\"", &body("cus_1", "pm_card_visa")).await;
    assert_eq!((quoted.status, quoted.id()), (200, first.id()));
    assert_eq!(quoted.header("idempotent-replayed"), "true");
    let other = client.pay("order-1", &body("cus_2", "pm_card_visa")).await;
    assert_eq!((other.status, other.text("code")), (422, "idempotency_key_reused"));
    assert_eq!(system.front.log_end().await, end, "what is known already is not written again");
    let initiations =
        system.front.log().await.into_iter().filter(|e| matches!(e.data, EventData::PaymentInProgress(_))).count();
    assert_eq!(initiations, 1);
    system.stop().await;
}
