//! Of several intents for one payment, what they come to.

use serde_json::json;

use super::judge;
use crate::gateway::samples::charge;
use crate::gateway::stripe::answer::Intent;
use crate::gateway::{Charge, Inquiry};
use crate::payment::samples::{at, payment_id};

fn intents(statuses: &[&str]) -> Vec<Intent> {
    let decline = json!({"type": "card_error", "code": "card_declined", "message": "No."});
    let intent = |(n, status): (usize, &&str)| {
        json!({
            "id": format!("pi_{n}"), "object": "payment_intent", "currency": "eur", "amount_received": 1999,
            "metadata": {"payment_id": payment_id("order-1001").to_string()},
            "created": 1_764_000_000 + 1_000 * n, "status": if *status == "declined" { "requires_payment_method" } else { status },
            "last_payment_error": (*status == "declined").then_some(&decline),
        })
    };
    statuses.iter().enumerate().map(intent).map(|body| serde_json::from_value(body).unwrap()).collect()
}

fn judged(statuses: &[&str]) -> Inquiry {
    judge(&charge("order-1001", "pm_card_visa"), &intents(statuses))
}

#[test]
fn one_yes_is_the_answer_and_two_are_nobody_s_to_settle() {
    for statuses in [&["succeeded"][..], &["declined", "succeeded"], &["succeeded", "processing"]] {
        assert!(matches!(judged(statuses), Inquiry::Succeeded(_)), "{statuses:?}");
    }
    let Inquiry::Unknown { reason, .. } = judged(&["succeeded", "succeeded"]) else { panic!("charged twice") };
    assert!(reason.contains("pi_0") && reason.contains("pi_1"), "{reason}");
}

#[test]
fn a_no_counts_only_when_nothing_is_open() {
    assert!(matches!(judged(&["declined"]), Inquiry::Declined { .. }));
    assert!(matches!(judged(&["declined", "canceled"]), Inquiry::Declined { .. }));
    assert_eq!(judged(&["declined", "processing"]), Inquiry::StillRunning);
    assert_eq!(judged(&["requires_payment_method"]), Inquiry::StillRunning);
    assert!(matches!(judged(&["declined", "requires_capture"]), Inquiry::Unknown { .. }));
    assert_eq!(judged(&[]), Inquiry::NotFound);
}

/// The nth intent was made at second 1,000 n. The old no is not the answer to what an operator has asked for since.
#[test]
fn a_no_from_before_a_payment_was_charged_again_does_not_count() {
    let again = |second, statuses: &[&str]| {
        let charge = Charge { again_from: Some(at(second)), ..charge("order-1001", "pm_card_visa") };
        judge(&charge, &intents(statuses))
    };
    assert_eq!(again(500, &["declined"]), Inquiry::NotFound);
    assert_eq!(again(500, &["declined", "processing"]), Inquiry::StillRunning);
    assert!(matches!(again(500, &["declined", "declined"]), Inquiry::Declined { .. }));
    assert!(matches!(again(500, &["succeeded", "declined"]), Inquiry::Succeeded(_)), "a yes counts whenever it came");
}
