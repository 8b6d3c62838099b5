//! Of several intents for one payment, what they come to.

use serde_json::json;

use super::judge;
use crate::gateway::Inquiry;
use crate::gateway::stripe::answer::Intent;
use crate::payment::samples::payment_id;

fn intents(statuses: &[&str]) -> Vec<Intent> {
    let decline = json!({"type": "card_error", "code": "card_declined", "message": "No."});
    let intent = |(n, status): (usize, &&str)| {
        json!({
            "id": format!("pi_{n}"), "object": "payment_intent", "currency": "eur", "amount_received": 1999,
            "metadata": {"payment_id": payment_id("order-1001").to_string()},
            "status": if *status == "declined" { "requires_payment_method" } else { status },
            "last_payment_error": (*status == "declined").then_some(&decline),
        })
    };
    statuses.iter().enumerate().map(intent).map(|body| serde_json::from_value(body).unwrap()).collect()
}

fn judged(statuses: &[&str]) -> Inquiry {
    judge(payment_id("order-1001"), &intents(statuses))
}

#[test]
fn one_yes_is_the_answer_and_two_are_nobody_s_to_settle() {
    for statuses in [&["succeeded"][..], &["declined", "succeeded"], &["succeeded", "processing"]] {
        assert!(matches!(judged(statuses), Inquiry::Succeeded(_)), "{statuses:?}");
    }
    let Inquiry::Unknown { reason } = judged(&["succeeded", "succeeded"]) else { panic!("charged twice") };
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
