//! Every bad input named in the contract: its status, its media type, its own code, and no event.

use reqwest::Method;

use crate::client::Answer;
use crate::cluster::{Bed, System};

const GOOD: &str = r#"{"amount":1999,"currency":"EUR","customer_id":"cus_42","payment_method":"pm_card_visa"}"#;

fn with(field: &str, raw: &str) -> String {
    let mut fields: serde_json::Map<String, serde_json::Value> = serde_json::from_str(GOOD).unwrap();
    fields.remove(field);
    let rest = serde_json::to_string(&fields).unwrap();
    format!("{},\"{field}\":{raw}}}", &rest[..rest.len() - 1])
}

fn bodies() -> Vec<(String, u16, &'static str)> {
    vec![
        (String::new(), 400, "malformed_json"),
        ("[1]".into(), 400, "malformed_json"),
        ("{\"amount\":".into(), 400, "malformed_json"),
        ("[".repeat(10_000), 400, "malformed_json"),
        (format!("\u{feff}{GOOD}"), 400, "malformed_json"),
        (with("amount", "NaN"), 400, "malformed_json"),
        (GOOD.replace('{', "{\"tip\":1,"), 400, "unknown_field"),
        (GOOD.replace('{', "{\"amount\":1999,"), 400, "duplicate_field"),
        (GOOD.replace("\"amount\":1999,", ""), 422, "missing_field"),
        (with("amount", "19.99"), 422, "amount_not_whole"),
        (with("amount", "1e3"), 422, "amount_not_whole"),
        (with("amount", "\"1999\""), 422, "amount_not_a_number"),
        (with("amount", "0"), 422, "amount_zero"),
        (with("amount", "-1"), 422, "amount_negative"),
        (with("amount", "9223372036854775808"), 422, "amount_too_large"),
        (with("amount", "9999999999999999999999999999999999999999"), 422, "amount_too_large"),
        (with("currency", "\"EURO\""), 422, "invalid_currency"),
        (with("currency", "\"eur\""), 422, "invalid_currency"),
        (with("currency", "\"XXX\""), 422, "invalid_currency"),
        (with("currency", "978"), 422, "not_a_string"),
        (with("customer_id", "\"\""), 422, "invalid_customer_id"),
        (with("payment_method", "\"4242424242424242\""), 422, "card_number"),
        (with("description", "\"4000 0566 5566 5556\""), 422, "card_number"),
        (with("metadata", "{\"card\":\"5555-5555-5555-4444\"}"), 422, "card_number"),
        (with("metadata", "{\"a\":1}"), 422, "not_a_string"),
        (with("description", &format!("\"{}\"", "x".repeat(17_000))), 413, "body_too_large"),
    ]
}

fn assert_problem(answer: &Answer, status: u16, code: &str, what: &str) {
    let shown: String = what.chars().take(100).collect();
    assert_eq!((answer.status, answer.text("code")), (status, code), "{shown}: {answer:?}");
    assert_eq!(answer.header("content-type"), "application/problem+json", "{shown}");
    assert_eq!(answer.body["status"], status, "{shown}");
    assert!(!answer.text("detail").contains("4242"), "{shown}: it repeats what was sent");
}

pub async fn every_bad_input_is_refused_and_leaves_no_event(bed: &Bed) {
    let system = bed.start().await;
    let client = &system.front.client;
    let before = system.front.log_end().await;
    for (i, (body, status, code)) in bodies().into_iter().enumerate() {
        let key = format!("order-{i}");
        let headers = [("content-type", "application/json"), ("idempotency-key", key.as_str())];
        let answer = client.send(Method::POST, "/v1/payments", &headers, Some(body.clone().into_bytes())).await;
        assert_problem(&answer, status, code, &body);
    }
    bad_headers(&system).await;
    assert_eq!(system.front.log_end().await, before, "the log did not grow");
    assert_eq!(client.get("/v1/payments?customer_id=cus_42").await.body["data"].as_array().unwrap().len(), 0);
    system.stop().await;
}

/// The headers of a request, the status and the code of its answer.
type BadHeaders<'a> = (Vec<(&'a str, &'a str)>, u16, &'static str);

async fn bad_headers(system: &System) {
    let json = ("content-type", "application/json");
    let long = "k".repeat(256);
    let cases: Vec<BadHeaders> = vec![
        (vec![json], 400, "idempotency_key_missing"),
        (vec![json, ("idempotency-key", "")], 400, "invalid_idempotency_key"),
        (vec![json, ("idempotency-key", &long)], 400, "invalid_idempotency_key"),
        (vec![json, ("idempotency-key", "two words")], 400, "invalid_idempotency_key"),
        (vec![json, ("idempotency-key", "\"open")], 400, "invalid_idempotency_key"),
        (vec![("content-type", "text/plain"), ("idempotency-key", "k")], 415, "unsupported_media_type"),
    ];
    for (headers, status, code) in cases {
        let answer = system.front.client.send(Method::POST, "/v1/payments", &headers, Some(GOOD.into())).await;
        assert_problem(&answer, status, code, &format!("{headers:?}"));
    }
    let not_utf8 = [GOOD.as_bytes(), b"\xff"].concat();
    let headers = [json, ("idempotency-key", "k")];
    let answer = system.front.client.send(Method::POST, "/v1/payments", &headers, Some(not_utf8)).await;
    assert_problem(&answer, 400, "malformed_json", "not UTF-8");
    for (method, path, status, code) in [
        (Method::DELETE, "/v1/payments", 405, "method_not_allowed"),
        (Method::GET, "/v1/nothing", 404, "not_found"),
        (Method::GET, "/v1/payments/pay_nonsense", 404, "payment_not_found"),
        (Method::GET, "/v1/payments?customer_id=", 400, "invalid_customer_id"),
    ] {
        let answer = system.front.client.send(method, path, &[], None).await;
        assert_problem(&answer, status, code, path);
    }
}
