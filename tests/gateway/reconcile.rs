//! `paylog reconcile` against a ledger with a flipped decline in it. The log is told by a double that speaks the contract of
//! `GET /v1/operator/payments`, one payment a page.

use std::sync::Arc;
use std::time::Duration;

use clap::Parser;
use paylog::config::{Cli, Command};
use paylog::gateway::{Charge, Outcome};
use serde_json::{Value, json};
use warp::Filter;

use crate::provider::{Provider, charge};

fn payment(charge: &Charge, outcome: &Outcome) -> Value {
    let (status, gateway) = match outcome {
        Outcome::Succeeded(receipt) => ("successful", json!({"name": "stripe", "reference": receipt.reference})),
        Outcome::Declined { .. } => ("failed", Value::Null),
        open => panic!("{open:?}"),
    };
    json!({
        "id": charge.key.to_string(), "status": status, "phase": "done", "amount": charge.money.amount(),
        "currency": charge.money.currency().code(), "gateway": gateway, "version": 2,
    })
}

async fn double(payments: Vec<Value>) -> String {
    let payments = Arc::new(payments);
    let page = move |query: std::collections::HashMap<String, String>| {
        let at = query.get("cursor").map_or(0, |cursor| cursor.parse().unwrap());
        let next = (at + 1 < payments.len()).then(|| (at + 1).to_string());
        warp::reply::json(&json!({"data": payments.get(at).into_iter().collect::<Vec<_>>(), "next_cursor": next}))
    };
    let route = warp::path!("v1" / "operator" / "payments").and(warp::query()).map(page);
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(warp::serve(route).incoming(listener).run());
    url
}

async fn reconcile(url: &str, ledger: &str) -> (anyhow::Result<()>, String) {
    let words = ["paylog", "reconcile", "--url", url, "--ledger", ledger];
    let Command::Reconcile(args) = Cli::try_parse_from(words).unwrap().command else { panic!("another command") };
    let mut out = Vec::new();
    let done = paylog::reconcile::run(&args, &mut out).await;
    (done, String::from_utf8(out).unwrap())
}

#[tokio::test]
async fn test_41_a_flipped_decline_raises_an_alarm_and_what_agrees_does_not() {
    let provider = Provider::start(&[]).await;
    let charges = [charge("a", "pm_card_visa"), charge("b", "pm_sim_flip"), charge("c", "pm_card_visa_chargeDeclined")];
    let mut payments = Vec::new();
    for charge in &charges {
        payments.push(payment(charge, &provider.client.charge(charge.clone()).await));
    }
    let url = double(payments).await;
    let (agreed, out) = reconcile(&url, &provider.url).await;
    agreed.unwrap();
    assert!(out.contains("3 payments, 3 keys") && out.contains("agree"), "{out}");

    provider.clock.forward(Duration::from_secs(2));
    let before = provider.ledger().await;
    let (alarm, out) = reconcile(&url, &provider.url).await;
    assert!(alarm.unwrap_err().to_string().contains("1 alarm"), "{out}");
    let line = out.lines().find(|line| line.starts_with("ALARM")).unwrap();
    assert!(line.contains(&charges[1].key.to_string()) && line.contains("charged_but_failed"), "{line}");
    assert_eq!(provider.ledger().await, before, "nothing is changed");
}

#[tokio::test]
async fn a_double_charge_and_one_that_the_log_does_not_know_raise_alarms() {
    let provider = Provider::start(&[]).await;
    let (twice, unknown) = (charge("a", "pm_sim_double_charge"), charge("b", "pm_card_visa"));
    let told = payment(&twice, &provider.client.charge(twice.clone()).await);
    provider.client.charge(unknown.clone()).await;
    let (alarm, out) = reconcile(&double(vec![told]).await, &provider.url).await;
    assert!(alarm.unwrap_err().to_string().contains("2 alarms"), "{out}");
    for (charge, kind) in [(&twice, "charged_more_than_once"), (&unknown, "charged_and_unknown_to_the_log")] {
        let text = format!("ALARM {} {kind}", charge.key);
        assert!(out.contains(&text), "{text}: {out}");
    }
}

#[tokio::test]
async fn an_address_where_nothing_answers_is_an_error_that_says_which() {
    let provider = Provider::start(&[]).await;
    let (failed, _) = reconcile("http://127.0.0.1:9", &provider.url).await;
    assert!(format!("{:#}", failed.unwrap_err()).contains("reading the payments"));
    let (failed, _) = reconcile(&double(vec![]).await, "http://127.0.0.1:9").await;
    assert!(format!("{:#}", failed.unwrap_err()).contains("reading the ledger"));
}
