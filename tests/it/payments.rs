//! What becomes of a payment.

use std::time::Instant;

use crate::client::body;
use crate::cluster::{Bed, ends_of, until};

pub async fn a_payment_goes_from_in_progress_to_successful(bed: &Bed) {
    let system = bed.start().await;
    let client = &system.front.client;
    let accepted = client.pay("order-1", &body("cus_1", "pm_card_visa")).await;
    assert_eq!(accepted.status, 202, "{accepted:?}");
    assert_eq!(accepted.text("status"), "in_progress");
    assert!(accepted.header("location").starts_with("/v1/payments/pay_"));
    assert!(!accepted.header("paylog-position").is_empty());
    assert_eq!(accepted.header("retry-after"), "1", "for whoever polls");

    let frames = client.whole_stream(accepted.link("stream").split_once('?').unwrap().1, None).await;
    let last = frames.last().unwrap();
    assert_eq!(last.data["payment"]["status"], "successful", "{frames:?}");
    let versions: Vec<u64> = frames.iter().filter_map(|f| f.data["payment"]["version"].as_u64()).collect();
    assert!(versions.windows(2).all(|pair| pair[0] < pair[1]), "versions grow: {versions:?}");
    assert_eq!(client.stream(&format!("payment_id={}", accepted.text("id")), last.id.as_deref()).await.0, 204);

    let payment = client.get(accepted.link("self")).await;
    assert_eq!((payment.status, payment.text("status"), payment.text("phase")), (200, "successful", "done"));
    assert_eq!(payment.body["gateway"]["name"], "simulator");
    let history = client.get(accepted.link("events")).await;
    let names: Vec<&str> =
        history.body["data"].as_array().unwrap().iter().map(|e| e["type"].as_str().unwrap()).collect();
    assert_eq!(names, ["PaymentInProgress", "PaymentSuccessful"]);
    assert_eq!(ends_of(&system.front.log().await, accepted.id()), 1);
    system.stop().await;
}

pub async fn declines_end_with_their_code(bed: &Bed) {
    let system = bed.start().await;
    let declines = [
        ("pm_card_visa_chargeDeclined", "card_declined"),
        ("pm_card_visa_chargeDeclinedInsufficientFunds", "insufficient_funds"),
        ("pm_card_chargeDeclinedExpiredCard", "expired_card"),
        ("pm_nobody_knows", "resource_missing"),
    ];
    for (method, code) in declines {
        let payment = system.front.client.pay_to_the_end(method, &body("cus_1", method)).await;
        assert_eq!((payment.status, payment.text("status")), (200, "failed"), "{payment:?}");
        assert_eq!(payment.body["failure"]["code"], code);
        assert!(payment.body["gateway"].is_null() && !payment.body["failure"]["message"].is_null());
    }
    system.stop().await;
}

pub async fn what_fails_for_a_while_is_retried_until_it_succeeds(bed: &Bed) {
    let system = bed.start().await;
    let client = &system.front.client;
    let payment = client.pay_to_the_end("order-1", &body("cus_1", "pm_sim_transient")).await;
    assert_eq!((payment.status, payment.text("status")), (200, "successful"), "{payment:?}");
    let history = client.get(payment.link("events")).await;
    let events = history.body["data"].as_array().unwrap();
    let names: Vec<&str> = events.iter().map(|e| e["type"].as_str().unwrap()).collect();
    // The second failure changes no phase, so it is not recorded; the attempt is counted all the same.
    assert_eq!(names, ["PaymentInProgress", "PaymentRetryScheduled", "PaymentSuccessful"]);
    assert_eq!(events[1]["data"]["attempt"], 1);
    assert_eq!(events[2]["data"]["attempt"], 3);
    system.stop().await;
}

pub async fn the_same_road_answers_at_once_or_waits_for_the_end(bed: &Bed) {
    let system = bed.start_with(&["--simulator-latency-ms", "500"]).await;
    let client = &system.front.client;
    let at_once = client.pay("a", &body("cus_1", "pm_card_visa")).await;
    assert_eq!((at_once.status, at_once.text("phase")), (202, "processing"));
    let repeated = client.pay_to_the_end("a", &body("cus_1", "pm_card_visa")).await;
    assert_eq!((repeated.status, repeated.text("status")), (200, "successful"));
    assert_eq!(repeated.header("idempotent-replayed"), "true");

    let began = Instant::now();
    let waited = client.pay_to_the_end("b", &body("cus_1", "pm_card_visa")).await;
    assert_eq!((waited.status, waited.text("status")), (200, "successful"));
    assert_eq!(waited.header("preference-applied"), "wait=60");
    assert!(began.elapsed().as_millis() >= 500, "the end cannot come before the gateway answers");

    let too_short = client.pay_with("c", &body("cus_1", "pm_sim_delay"), &[("prefer", "wait=1")]).await;
    assert_eq!((too_short.status, too_short.text("status")), (202, "in_progress"));
    system.stop().await;
}

pub async fn a_backlog_far_larger_than_the_bounds_drains(bed: &Bed) {
    const PAYMENTS: usize = 400;
    let bounds = ["--lane-in-flight", "8", "--gateway-in-flight", "10", "--merchant-in-flight", "6"];
    let system = bed.start_with(&bounds).await;
    let client = &system.front.client;
    let paying: Vec<_> = (0..PAYMENTS)
        .map(|n| {
            let client = client.clone();
            tokio::spawn(async move { client.pay(&format!("order-{n}"), &body("cus_1", "pm_card_visa")).await })
        })
        .collect();
    let mut ids = Vec::new();
    for accepted in paying {
        ids.push(accepted.await.unwrap().id());
    }
    for id in &ids {
        until("the payment ends", async || {
            system.front.view.payment(*id).unwrap().is_some_and(|row| row.payment.is_terminal())
        })
        .await;
    }
    let log = system.front.log().await;
    assert!(ids.iter().all(|id| ends_of(&log, *id) == 1), "each ends exactly once");
    system.stop().await;
}
