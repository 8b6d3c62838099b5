//! Every answer that a provider can give, and the one thing that each means.

use std::time::Duration;

use serde_json::{Value, json};

use super::answer::charged;
use super::http::Answered;
use crate::gateway::samples::charge;
use crate::gateway::{Outcome, Receipt};

const US: &str = "pay_py4e5muxaklg75g4chpkn2gms4";

fn intent(status: &str) -> Value {
    json!({
        "id": "pi_1", "object": "payment_intent", "status": status, "amount": 1999, "currency": "eur",
        "amount_received": if status == "succeeded" { 1999 } else { 0 },
        "metadata": {"payment_id": US}, "last_payment_error": null, "cancellation_reason": null,
    })
}

fn error(kind: &str, code: Option<&str>, decline_code: Option<&str>) -> Value {
    json!({"error": {"type": kind, "code": code, "decline_code": decline_code, "message": "No."}})
}

fn answer(status: u16, body: &[u8]) -> Outcome {
    let retry_after = Some(Duration::from_secs(7));
    charged(&charge("order-1001", "pm_card_visa"), &Answered { status, retry_after, body: body.to_vec() })
}

fn outcome(status: u16, body: &Value) -> Outcome {
    answer(status, body.to_string().as_bytes())
}

fn is_unknown(status: u16, body: &Value) {
    let outcome = outcome(status, body);
    assert!(matches!(outcome, Outcome::Unknown { .. }), "{status} {body}: {outcome:?}");
}

fn declined(code: &str) -> Outcome {
    Outcome::Declined { code: code.to_owned(), message: "No.".to_owned() }
}

#[test]
fn a_success_is_what_the_provider_says_it_is() {
    let receipt =
        Receipt { reference: "pi_1".to_owned(), amount: 1999, currency: "EUR".to_owned(), payment: US.to_owned() };
    assert_eq!(outcome(200, &intent("succeeded")), Outcome::Succeeded(receipt.clone()));
    let mut other = intent("succeeded");
    other["amount_received"] = 2000.into();
    other["metadata"] = json!({});
    let Outcome::Succeeded(other) = outcome(200, &other) else { panic!("it did take the money") };
    assert_eq!((other.amount, other.payment.as_str()), (2000, ""));
    assert!(other.mismatch(&charge("order-1001", "pm_card_visa")).is_some());
    assert_eq!(receipt.mismatch(&charge("order-1001", "pm_card_visa")), None);
}

#[test]
fn a_decline_has_its_most_precise_code() {
    let card = |code, decline_code| outcome(402, &error("card_error", code, decline_code));
    assert_eq!(card(Some("card_declined"), Some("insufficient_funds")), declined("insufficient_funds"));
    assert_eq!(card(Some("expired_card"), None), declined("expired_card"));
    assert_eq!(card(None, None), declined("card_error"));
    let mut failed = intent("requires_payment_method");
    failed["last_payment_error"] = error("card_error", Some("card_declined"), Some("lost_card"))["error"].clone();
    assert_eq!(outcome(200, &failed), declined("lost_card"));
}

#[test]
fn what_needs_the_card_s_owner_is_declined_by_whatever_name() {
    for code in ["authentication_required", "payment_intent_action_required", "requires_action_not_handled"] {
        assert_eq!(outcome(402, &error("card_error", Some(code), None)), declined("authentication_required"));
        assert_eq!(
            outcome(400, &error("invalid_request_error", Some(code), None)),
            declined("authentication_required")
        );
    }
}

#[test]
fn a_refusal_of_the_request_is_not_yet_a_no_to_the_payment() {
    for (status, code) in [(400, "resource_missing"), (404, "resource_missing"), (400, "parameter_unknown")] {
        let (code, message) = (code.to_owned(), "No.".to_owned());
        let refused = outcome(status, &error("invalid_request_error", Some(&code), None));
        assert_eq!(refused, Outcome::Refused { code, message });
    }
}

#[test]
fn what_was_not_executed_is_only_what_the_provider_turns_away_first() {
    for (status, body) in [
        (401, json!({"error": {"type": "invalid_request_error", "message": "Invalid API Key provided: sk_***"}})),
        (403, error("invalid_request_error", None, None)),
        (429, error("invalid_request_error", Some("rate_limit"), None)),
        (429, json!("a load balancer's")),
    ] {
        let Outcome::NotExecuted { retry_after, .. } = outcome(status, &body) else { panic!("{status} {body}") };
        assert_eq!(retry_after, Some(Duration::from_secs(7)));
    }
    is_unknown(429, &error("invalid_request_error", Some("lock_timeout"), None));
}

#[test]
fn everything_else_is_unknown() {
    for status in [100, 300, 301, 302, 303, 307, 308, 405, 408, 409, 410, 413, 422, 424, 500, 502, 503, 504, 599] {
        is_unknown(status, &intent("succeeded"));
        is_unknown(status, &error("card_error", Some("card_declined"), None));
    }
    is_unknown(400, &error("idempotency_error", None, None));
    is_unknown(402, &error("api_error", None, None));
    is_unknown(404, &json!({"message": "no route"}));
    for status in ["processing", "requires_action", "requires_confirmation", "requires_capture", "a_new_one", ""] {
        is_unknown(200, &intent(status));
    }
    is_unknown(200, &intent("requires_payment_method"));
}

#[test]
fn an_answer_that_is_not_exactly_one_is_unknown() {
    let whole = intent("succeeded").to_string();
    for end in 0..whole.len() {
        assert!(matches!(answer(200, &whole.as_bytes()[..end]), Outcome::Unknown { .. }), "{end}");
    }
    for missing in ["id", "object", "status", "amount_received", "currency"] {
        let mut body = intent("succeeded");
        body.as_object_mut().unwrap().remove(missing);
        is_unknown(200, &body);
    }
    for (field, wrong) in
        [("object", json!("charge")), ("id", json!("")), ("id", json!("pi/../1")), ("amount_received", json!("1999"))]
    {
        let mut body = intent("succeeded");
        body[field] = wrong;
        is_unknown(200, &body);
    }
    for body in [&b"\xff\xfe"[..], b"null", b"[]", b"<html>", b"\x1f\x8b\x08\x00"] {
        for status in [200, 400, 402, 404] {
            assert!(matches!(answer(status, body), Outcome::Unknown { .. }), "{status} {body:?}");
        }
    }
}

#[test]
fn a_no_to_another_payment_is_no_answer_to_ours() {
    let mut other = error("card_error", Some("card_declined"), None);
    other["error"]["payment_intent"] = intent("requires_payment_method");
    assert!(matches!(outcome(402, &other), Outcome::Declined { .. }));
    other["error"]["payment_intent"]["metadata"] = json!({"payment_id": "pay_aaaaaaaaaaaaaaaaaaaaaaaaaa"});
    is_unknown(402, &other);
    let mut failed = intent("requires_payment_method");
    failed["last_payment_error"] = error("card_error", Some("card_declined"), None)["error"].clone();
    failed["metadata"] = json!({});
    is_unknown(200, &failed);
}

#[test]
fn long_texts_of_the_provider_are_cut() {
    let mut long = error("card_error", Some("card_declined"), Some(&"x".repeat(60_000)));
    long["error"]["message"] = "ä".repeat(60_000).into();
    let Outcome::Declined { code, message } = outcome(402, &long) else { panic!("declined") };
    assert_eq!((code.as_str(), message.len()), ("card_error", 300));
}
