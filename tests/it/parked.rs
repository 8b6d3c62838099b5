//! Payments that wait for a person, and what that person decides.

use clap::Parser;
use paylog::config::{Cli, Command};
use paylog::gateway_simulator::GatewaySimulator;
use paylog::payment::event::{PaymentParked, PaymentRetryScheduled};
use paylog::payment::{EventData, PaymentId, Timestamp};
use reqwest::Method;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use crate::client::{Answer, body};
use crate::cluster::{Bed, Running, System, ends_of, until};
use crate::foreign_hands::append_event;
use crate::operations::paylog;

/// The first try fails and the second is minutes away: nobody but an operator touches the payment meanwhile.
const PATIENT: [&str; 2] = ["--retry-min-ms", "200000"];

/// A payment that was tried twice, without a charge, and parked: at version 4. A third try would succeed.
async fn parked(front: &Running, key: &str, reason: &str) -> PaymentId {
    let paid = front.client.pay(key, &body("cus_1", "pm_sim_transient")).await;
    let path = format!("/v1/payments/{}", paid.text("id"));
    until("the first try has failed", async || front.client.get(&path).await.text("phase") == "retrying").await;
    let retry = PaymentRetryScheduled { attempt: 2, reason: "no".to_owned(), not_before: Timestamp::MAX };
    append_event(front, paid.id(), EventData::PaymentRetryScheduled(retry)).await;
    let parked = PaymentParked { reason: reason.to_owned(), detail: "by hand".to_owned() };
    append_event(front, paid.id(), EventData::PaymentParked(parked)).await;
    paid.id()
}

async fn list(front: &Running, query: &str) -> Answer {
    front.client.get(&format!("/v1/operator/parked?{query}")).await
}

fn ids(list: &Answer) -> Vec<String> {
    let data = list.body["data"].as_array().unwrap_or_else(|| panic!("{list:?}"));
    data.iter().map(|parked| parked["payment"].as_str().unwrap().to_owned()).collect()
}

fn decision(more: Value) -> Value {
    let mut body = json!({"at_version": 4, "operator": "ada", "reason": "seen at the provider"});
    body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    body
}

async fn decide(front: &Running, id: PaymentId, body: &Value) -> Answer {
    front.client.post(&format!("/v1/operator/parked/{id}/resume"), body).await
}

async fn ended(front: &Running, id: PaymentId) -> Answer {
    let path = format!("/v1/payments/{id}");
    until("the payment has ended", async || front.client.get(&path).await.text("phase") == "done").await;
    front.client.get(&path).await
}

pub async fn what_is_parked_is_listed_and_counted_from_the_state(bed: &Bed) {
    let system = bed.start_with(&PATIENT).await;
    let front = &system.front;
    let none = front.client.get("/v1/operator/parked/summary").await;
    assert_eq!((none.status, &none.body), (200, &json!({"parked": 0, "reasons": {}})));
    let mut parked_ids = Vec::new();
    for (n, reason) in ["unknown_too_long", "amount_differs", "unknown_too_long"].iter().enumerate() {
        parked_ids.push(parked(front, &format!("order-{n}"), reason).await.to_string());
    }
    let [first, other, second] = &parked_ids[..] else { unreachable!() };
    assert_eq!(ids(&list(front, "").await), [other, first, second].map(String::clone), "by reason, the oldest first");
    let one = list(front, "reason=unknown_too_long&limit=1").await;
    assert_eq!(ids(&one), vec![first.clone()]);
    let next = list(front, &format!("reason=unknown_too_long&limit=1&cursor={}", one.text("next_cursor"))).await;
    assert_eq!((ids(&next), next.body["next_cursor"].is_null()), (vec![second.clone()], true));
    assert!(ids(&list(front, "reason=unknown").await).is_empty(), "a reason is not a beginning of one");
    for wrong in ["cursor=x", "limit=0", "reson=x"] {
        assert_eq!(list(front, wrong).await.status, 400, "{wrong}");
    }
    let shown = &list(front, "").await.body["data"][0];
    let expected =
        json!({"reason": "amount_differs", "detail": "by hand", "version": 4, "attempt": 2, "gateway": "simulator"});
    for (name, value) in expected.as_object().unwrap() {
        assert_eq!(&shown[name], value, "{shown}");
    }
    let summary = front.client.get("/v1/operator/parked/summary").await;
    assert_eq!(summary.body, json!({"parked": 3, "reasons": {"amount_differs": 1, "unknown_too_long": 2}}));
    let metrics = reqwest::get(format!("{}/metrics", front.client.url)).await.unwrap().text().await.unwrap();
    assert!(metrics.contains("paylog_payments_parked "), "{metrics}");
    let one = front.client.get(&format!("/v1/operator/parked/{first}")).await;
    assert_eq!(one.body["parked"]["reason"], "unknown_too_long");
    assert_eq!(one.body["events"].as_array().unwrap().len(), 4);

    let id = PaymentId::parse(other).unwrap();
    let settled = decide(front, id, &decision(json!({"decision": "settle_failed", "code": "fraud"}))).await;
    assert_eq!(settled.status, 200, "{settled:?}");
    ended(front, id).await;
    let summary = front.client.get("/v1/operator/parked/summary").await;
    assert_eq!(summary.body, json!({"parked": 2, "reasons": {"unknown_too_long": 2}}));
    every_payment_is_listed_by_id(&system, &parked_ids).await;
    system.stop().await;
}

async fn every_payment_is_listed_by_id(system: &System, expected: &[String]) {
    let client = &system.front.client;
    let (mut all, mut path) = (Vec::new(), "/v1/operator/payments?limit=2".to_owned());
    loop {
        let page = client.get(&path).await;
        for payment in page.body["data"].as_array().unwrap() {
            let id = payment["id"].as_str().unwrap().to_owned();
            assert_eq!(payment["version"], client.get(&format!("/v1/payments/{id}")).await.body["version"]);
            all.push(id);
        }
        let Some(cursor) = page.body["next_cursor"].as_str() else { break };
        path = format!("/v1/operator/payments?limit=2&cursor={cursor}");
    }
    let mut expected: Vec<PaymentId> = expected.iter().map(|id| PaymentId::parse(id).unwrap()).collect();
    expected.sort();
    assert_eq!(all, expected.iter().map(PaymentId::to_string).collect::<Vec<_>>());
    for wrong in ["cursor=x", "cursor=00000000.pay_x", "limit=201", "customer_id=cus_1"] {
        assert_eq!(client.get(&format!("/v1/operator/payments?{wrong}")).await.status, 400, "{wrong}");
    }
    let other_log = format!("/v1/operator/payments?cursor=00000000.{}", all[0]);
    assert_eq!(client.get(&other_log).await.status, 409);
}

pub async fn a_decision_has_its_effect_at_the_version_that_was_seen(bed: &Bed) {
    let system = bed.start_with(&PATIENT).await;
    let front = &system.front;
    let cases = [
        (json!({"decision": "charge_again"}), "successful", None),
        (json!({"decision": "inquire"}), "successful", None),
        (json!({"decision": "settle_successful", "reference": "ch_9"}), "successful", Some("ch_9")),
        (json!({"decision": "settle_failed", "code": "fraud"}), "failed", Some("fraud")),
    ];
    for (n, (more, status, word)) in cases.into_iter().enumerate() {
        let id = parked(front, &format!("order-{n}"), "unknown_too_long").await;
        let before = front.log_end().await;
        let mut early = decision(more.clone());
        early["at_version"] = 3.into();
        let refused = decide(front, id, &early).await;
        assert_eq!((refused.status, refused.text("code")), (409, "not_parked_at_version"), "{refused:?}");
        assert_eq!((refused.text("version"), refused.text("phase")), ("4", "parked"));
        assert_eq!(front.log_end().await, before, "nothing was recorded");

        let resumed = decide(front, id, &decision(more.clone())).await;
        assert_eq!(resumed.status, 200, "{more}: {resumed:?}");
        assert_eq!(
            (&resumed.body["event"]["type"], &resumed.body["payment"]["version"]),
            (&"PaymentResumed".into(), &5.into())
        );
        assert_eq!(resumed.body["event"]["data"]["operator"], "ada");
        let now = ended(front, id).await;
        assert_eq!(now.text("status"), status, "{more}");
        if let Some(word) = word {
            assert!(now.body["gateway"]["reference"] == word || now.body["failure"]["code"] == word, "{now:?}");
        }
        let late = decide(front, id, &decision(more)).await;
        assert_eq!((late.status, late.text("phase")), (409, "done"));
        assert_eq!(ends_of(&front.log().await, id), 1);
    }
    system.stop().await;
}

/// From the provider's answer to the operator's: nothing of it is written by hand.
pub async fn a_charge_of_another_amount_is_parked_and_settled_by_a_person(bed: &Bed) {
    let (stop, data) = (CancellationToken::new(), bed.data_dir("provider"));
    let words = ["paylog", "gateway-simulator", "--listen", "127.0.0.1:0", "--data-dir", data.to_str().unwrap()];
    let Command::GatewaySimulator(args) = Cli::try_parse_from(words).unwrap().command else { unreachable!() };
    let provider = GatewaySimulator::open(&args, stop.clone()).unwrap();
    let provider_url = format!("http://{}", provider.address().unwrap());
    let provider = tokio::spawn(provider.run());
    let ledger = async || -> Value {
        let answer = reqwest::get(format!("{provider_url}/ledger")).await.unwrap();
        answer.json::<Value>().await.unwrap()[0].clone()
    };
    let system = bed.start_with(&["--gateway", "stripe", "--gateway-url", &provider_url]).await;
    let front = &system.front;
    let paid = front.client.pay("order-1", &body("cus_1", "pm_sim_wrong_amount")).await;
    until("the processor has parked it", async || !ids(&list(front, "").await).is_empty()).await;
    let parked = list(front, "").await.body["data"][0].clone();
    assert_eq!(parked["payment"], paid.text("id"));
    assert!(parked["detail"].as_str().unwrap().contains("2000 EUR"), "{parked}");
    let charged = ledger().await;
    let mut settle = decision(json!({"decision": "settle_successful", "reference": charged["references"][0]}));
    settle["at_version"] = parked["version"].clone();
    assert_eq!(decide(front, paid.id(), &settle).await.status, 200);
    let now = ended(front, paid.id()).await;
    assert_eq!((now.text("status"), &now.body["gateway"]["reference"]), ("successful", &charged["references"][0]));
    assert_eq!(ledger().await["charges"], 1, "and nothing was charged again");
    system.stop().await;
    stop.cancel();
    provider.await.unwrap().unwrap();
}

pub async fn of_two_decisions_at_once_one_has_an_effect(bed: &Bed) {
    let system = bed.start_with(&PATIENT).await;
    let front = &system.front;
    let id = parked(front, "order-1", "unknown_too_long").await;
    let yes = decision(json!({"decision": "settle_successful", "reference": "ch_9"}));
    let no = decision(json!({"decision": "settle_failed", "code": "fraud"}));
    let (yes, no) = tokio::join!(decide(front, id, &yes), decide(front, id, &no));
    let mut statuses = [yes.status, no.status];
    statuses.sort_unstable();
    assert_eq!(statuses, [200, 409], "{yes:?} {no:?}");
    let now = ended(front, id).await;
    assert_eq!(now.text("status"), if yes.status == 200 { "successful" } else { "failed" });
    assert_eq!(ends_of(&front.log().await, id), 1);
    system.stop().await;
}

pub async fn a_bad_decision_is_refused_and_leaves_no_event(bed: &Bed) {
    let system = bed.start_with(&PATIENT).await;
    let front = &system.front;
    let id = parked(front, "order-1", "unknown_too_long").await;
    let end = front.log_end().await;
    let inquire = decision(json!({"decision": "inquire"}));
    let without = |name: &str| {
        let mut body = inquire.clone();
        body.as_object_mut().unwrap().remove(name);
        body
    };
    let cases = [
        (json!({}), 422, "missing_field"),
        (json!([]), 400, "malformed_json"),
        (without("reason"), 422, "missing_field"),
        (without("operator"), 422, "missing_field"),
        (without("at_version"), 422, "missing_field"),
        (decision(json!({"decision": "forget"})), 422, "invalid_decision"),
        (decision(json!({"decision": "settle_failed"})), 422, "missing_field"),
        (decision(json!({"decision": "inquire", "reason": "card 4242 4242 4242 4242"})), 422, "card_number"),
        (decision(json!({"decision": "inquire", "force": true})), 400, "unknown_field"),
    ];
    for (body, status, code) in cases {
        let refused = decide(front, id, &body).await;
        assert_eq!((refused.status, refused.text("code")), (status, code), "{body}");
        assert!(!refused.text("detail").contains("4242"));
    }
    let unknown = PaymentId::from_bytes([9; 16]);
    assert_eq!(decide(front, unknown, &inquire).await.status, 404);
    assert_eq!(front.client.get(&format!("/v1/operator/parked/{unknown}")).await.status, 404);
    let path = format!("/v1/operator/parked/{id}/resume");
    let text = front.client.send(Method::POST, &path, &[], Some(inquire.to_string().into_bytes())).await;
    assert_eq!(text.status, 415);
    assert_eq!(front.client.get(&path).await.status, 405);
    for (path, method) in [("/v1/operator/parked", Method::GET), (path.as_str(), Method::POST)] {
        let headers = [("host", "rebound.example.org"), ("content-type", "application/json")];
        let elsewhere = front.client.send(method, path, &headers, Some(inquire.to_string().into_bytes())).await;
        assert_eq!((elsewhere.status, elsewhere.text("code")), (403, "loopback_only"));
    }
    assert_eq!(front.log_end().await, end, "the log did not grow");
    system.stop().await;
}

pub async fn the_command_parked_shows_first_and_decides_with_apply(bed: &Bed) {
    let system = bed.start_with(&PATIENT).await;
    let front = &system.front;
    let mut ids = Vec::new();
    for (n, reason) in ["unknown_too_long", "unknown_too_long", "amount_differs"].iter().enumerate() {
        ids.push(parked(front, &format!("order-{n}"), reason).await);
    }
    let url = front.client.url.clone();
    let run = |words: &[&str]| {
        let words: Vec<String> =
            ["paylog", "parked"].iter().chain(words).chain(&["--url", &url]).map(|word| (*word).to_owned()).collect();
        let output = paylog(&words);
        (output.status.code(), String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap())
    };
    let (code, listed, _) = run(&["ls"]);
    assert!(code == Some(0) && ids.iter().all(|id| listed.contains(&id.to_string())), "{listed}");
    assert!(listed.contains("2 parked: unknown_too_long") && listed.contains("3 parked in all"), "{listed}");
    let (_, some, _) = run(&["ls", "--reason", "amount_differs"]);
    assert!(some.contains(&ids[2].to_string()) && !some.contains(&ids[0].to_string()), "{some}");
    let (code, shown, _) = run(&["show", &ids[0].to_string()]);
    assert!(code == Some(0) && shown.contains("PaymentParked") && shown.contains("by hand"), "{shown}");

    let bulk = [
        "resume",
        "--reason-is",
        "unknown_too_long",
        "--decision",
        "charge_again",
        "--operator",
        "ada",
        "--reason",
        "seen",
    ];
    let before = front.log_end().await;
    let (code, dry, _) = run(&bulk);
    assert!(code == Some(0) && dry.matches("would charge_again").count() == 2 && dry.contains("--apply"), "{dry}");
    assert_eq!(front.log_end().await, before, "a dry run records nothing");
    let (code, done, error) = run(&[&bulk[..], &["--apply"]].concat());
    assert_eq!((code, done.lines().count()), (Some(0), 2), "{done} {error}");
    for id in &ids[..2] {
        assert_eq!(ended(front, *id).await.text("status"), "successful");
    }
    settled_by_command(front, &run, ids[2]).await;
    system.stop().await;
}

type Ran = (Option<i32>, String, String);

async fn settled_by_command(front: &Running, run: &impl Fn(&[&str]) -> Ran, id: PaymentId) {
    let (third, settle) = (id.to_string(), ["--failed", "fraud", "--reason", "seen", "--operator", "ada"]);
    let (code, _, error) = run(&[&["settle", &third, "--at-version", "3", "--apply"], &settle[..]].concat());
    assert!(code == Some(1) && error.contains("is at version 4 and not 3"), "{error}");
    let (code, done, error) = run(&[&["settle", &third, "--at-version", "4", "--apply"], &settle[..]].concat());
    assert!(code == Some(0) && done.contains("settle_failed"), "{done} {error}");
    assert_eq!(ended(front, id).await.body["failure"]["code"], "fraud");
    let (code, _, error) = run(&[&["settle", &third, "--apply"], &settle[..]].concat());
    assert!(code == Some(1) && error.contains("is not parked: it is done"), "{error}");
}
