//! The simulator keeps to what Stripe documents of its keys.

use std::time::Duration;

use paylog::gateway::{Inquiry, Outcome};

use crate::provider::{Provider, charge};

fn form(amount: u32, token: &str) -> String {
    format!(
        "amount={amount}&currency=eur&payment_method={token}&confirm=true&error_on_requires_action=true\
         &metadata[payment_id]=pay_1"
    )
}

#[tokio::test]
async fn the_same_key_and_parameters_are_answered_the_same_500s_too() {
    let provider = Provider::start(&[]).await;
    for token in ["pm_card_visa", "pm_card_visa_chargeDeclined", "pm_sim_500_after_charge", "pm_sim_500_forever"] {
        let first = provider.post(token, &form(100, token)).await;
        assert!(!first.2, "{token}");
        for _ in 0..3 {
            let (status, body, replayed) = provider.post(token, &form(100, token)).await;
            assert_eq!((status, body, replayed), (first.0, first.1.clone(), true), "{token}");
        }
    }
    let charges: Vec<_> = provider.ledger().await.iter().map(|line| line["charges"].as_u64().unwrap()).collect();
    assert_eq!(charges, [1, 0, 1, 0], "in the order of the keys");
}

#[tokio::test]
async fn the_same_key_with_other_parameters_is_an_error_and_seen_in_the_ledger() {
    let provider = Provider::start(&[]).await;
    assert_eq!(provider.post("k", &form(100, "pm_card_visa")).await.0, 200);
    let (status, body, _) = provider.post("k", &form(101, "pm_card_visa")).await;
    assert_eq!((status, &body["error"]["type"]), (400, &"idempotency_error".into()));
    let line = &provider.ledger().await[0];
    assert_eq!((&line["charges"], &line["requests"], &line["amount"]), (&1.into(), &2.into(), &100.into()));
    assert_eq!(line["body_digests"].as_array().unwrap().len(), 2);
}

#[tokio::test]
async fn what_is_refused_before_it_begins_stores_nothing() {
    let provider = Provider::start(&[]).await;
    assert_eq!(provider.post("k", &form(0, "pm_card_visa")).await.0, 400);
    assert_eq!(provider.post("k", &form(100, "pm_card_visa")).await.0, 200, "the key is free for good parameters");
    assert_eq!(provider.post("l", &form(100, "pm_sim_rate_limited")).await.0, 429);
    assert_eq!(provider.post("l", &form(100, "pm_sim_rate_limited")).await.0, 429);
    assert_eq!(provider.post("l", &form(100, "pm_sim_rate_limited")).await.0, 200);
    let anonymous = reqwest::Client::new().post(format!("{}/v1/payment_intents", provider.url));
    let refused = anonymous.header("idempotency-key", "m").body(form(100, "pm_card_visa")).send().await.unwrap();
    assert_eq!(refused.status(), 401);
    assert!(provider.ledger().await.iter().all(|line| line["key"] != "m"));
}

#[tokio::test]
async fn a_key_at_once_with_itself_is_charged_once_and_the_others_are_told_to_wait() {
    let provider = Provider::start(&["--delay-ms", "1000"]).await;
    let form = form(100, "pm_sim_delay");
    let (first, second) = tokio::join!(provider.post("k", &form), provider.post("k", &form));
    let mut statuses = [first.0, second.0];
    statuses.sort_unstable();
    assert_eq!(statuses, [200, 409]);
    provider.clock.forward(Duration::from_secs(1));
    assert_eq!(provider.post("k", &form).await.0, 200);
    assert_eq!(provider.ledger().await[0]["charges"], 1);
}

#[tokio::test]
async fn a_key_is_forgotten_after_its_window_and_charges_again() {
    let provider = Provider::start(&["--key-window-seconds", "60"]).await;
    let form = form(100, "pm_card_visa");
    provider.post("k", &form).await;
    provider.clock.forward(Duration::from_secs(59));
    assert!(provider.post("k", &form).await.2);
    provider.clock.forward(Duration::from_secs(1));
    assert!(!provider.post("k", &form).await.2);
    let line = &provider.ledger().await[0];
    assert_eq!((&line["charges"], line["references"].as_array().unwrap().len()), (&2.into(), 2));
}

#[tokio::test]
async fn a_restart_keeps_keys_charges_and_what_is_still_to_come() {
    let provider = Provider::start(&[]).await;
    let (good, late) = (charge("a", "pm_card_visa"), charge("b", "pm_sim_late_success"));
    for charge in [&good, &late] {
        provider.client.charge(charge.clone()).await;
    }
    let before = provider.ledger().await;
    let provider = provider.restart(&[]).await;
    assert_eq!(provider.ledger().await, before);
    provider.clock.forward(Duration::from_secs(2));
    assert!(matches!(provider.client.inquire(late).await, Inquiry::Succeeded(_)));
    assert!(matches!(provider.client.charge(good.clone()).await, Outcome::Succeeded(_)));
    assert_eq!(provider.charges(&good).await, 1);
}

#[tokio::test]
async fn a_list_lags_behind_and_is_read_to_its_end() {
    let provider = Provider::start(&["--listing-lag-ms", "5000"]).await;
    let first = charge("first", "pm_card_visa");
    provider.client.charge(first.clone()).await;
    let others = (0..250).map(|n| provider.client.charge(charge(&n.to_string(), "pm_card_visa")));
    futures_util::future::join_all(others).await;
    assert_eq!(provider.client.inquire(first.clone()).await, Inquiry::NotFound, "not final, and the terms say so");
    provider.clock.forward(Duration::from_secs(5));
    assert!(matches!(provider.client.inquire(first).await, Inquiry::Succeeded(_)));
    assert_eq!(provider.client.inquire(charge("never", "pm_card_visa")).await, Inquiry::NotFound);
}

#[tokio::test]
async fn the_ledger_is_read_whole_or_by_pages() {
    let provider = Provider::start(&[]).await;
    assert!(provider.ledger().await.is_empty());
    for n in 0..25 {
        provider.post(&format!("k{n:02}"), &form(100 + n, "pm_card_visa")).await;
    }
    assert_eq!(provider.ledger().await.len(), 25);
    let (mut after, mut keys) = (String::new(), Vec::new());
    loop {
        let url = format!("{}/ledger?limit=10&after={after}", provider.url);
        let page: Vec<serde_json::Value> = reqwest::get(url).await.unwrap().json().await.unwrap();
        let Some(last) = page.last() else { break };
        after = last["key"].as_str().unwrap().to_owned();
        keys.extend(page.into_iter().map(|line| line["key"].clone()));
    }
    assert_eq!(keys.len(), 25);
}
