//! Each fault token, from the client's side and from the ledger's.

use std::time::Duration;

use paylog::gateway::{Charge, Inquiry, Outcome};
use paylog::gateway_simulator::Fault;
use paylog::payment::{Currency, Money};

use crate::provider::{Provider, charge};

const LATE: Duration = Duration::from_secs(2);
const FAST: &[&str] = &["--delay-ms", "100"];

fn is_unknown(outcome: &Outcome) -> bool {
    matches!(outcome, Outcome::Unknown { .. })
}

/// What the client says, and what the ledger says at once.
async fn first(provider: &Provider, charge: &Charge) -> (Outcome, u64) {
    let outcome = provider.client.charge(charge.clone()).await;
    (outcome, provider.charges(charge).await)
}

async fn inquire(provider: &Provider, charge: &Charge) -> Inquiry {
    provider.client.inquire(charge.clone()).await
}

fn charged_well(charge: &Charge, outcome: &Outcome) {
    let Outcome::Succeeded(receipt) = outcome else { panic!("{outcome:?}") };
    assert_eq!(receipt.mismatch(charge), None);
}

/// The answer is lost, the money is taken; asking finds it, and a repeat takes no more.
async fn is_lost_and_found(token: &str) {
    let provider = Provider::start(FAST).await;
    let charge = charge(token, token);
    let (outcome, charges) = first(&provider, &charge).await;
    assert!(is_unknown(&outcome), "{token}: {outcome:?}");
    assert_eq!(charges, 1, "{token}");
    let Inquiry::Succeeded(receipt) = inquire(&provider, &charge).await else { panic!("{token} is not found") };
    assert_eq!(receipt.mismatch(&charge), None);
    let repeated = provider.client.charge(charge.clone()).await;
    if token != "pm_sim_500_after_charge" {
        charged_well(&charge, &repeated);
    }
    assert_eq!(provider.charges(&charge).await, 1, "{token}");
}

/// Nothing is charged and nobody says so; a repeat is charged as if it were the first.
async fn is_lost_and_not_found(token: &str, lost: u32) {
    let provider = Provider::start(FAST).await;
    let charge = charge(token, token);
    for _ in 0..lost {
        let (outcome, charges) = first(&provider, &charge).await;
        assert!(is_unknown(&outcome), "{token}: {outcome:?}");
        assert_eq!(charges, 0, "{token}");
        assert_eq!(inquire(&provider, &charge).await, Inquiry::NotFound, "{token}");
    }
    charged_well(&charge, &provider.client.charge(charge.clone()).await);
    assert_eq!(provider.charges(&charge).await, 1, "{token}");
}

/// Money is taken, but not as it was asked: only the receipt says so.
async fn is_charged_wrongly(token: &str) {
    let provider = Provider::start(FAST).await;
    let charge = charge(token, token);
    let (outcome, charges) = first(&provider, &charge).await;
    let Outcome::Succeeded(receipt) = outcome else { panic!("{token}: {outcome:?}") };
    assert!(receipt.mismatch(&charge).is_some(), "{token}: {receipt:?}");
    assert_eq!(charges, 1, "{token}");
}

#[tokio::test]
async fn test_34_a_timeout_after_the_charge_is_found_by_asking() {
    is_lost_and_found("pm_sim_charged_then_silent").await;
}

#[tokio::test]
async fn test_35_a_timeout_before_the_charge_is_not_found_and_charged_once_later() {
    is_lost_and_not_found("pm_sim_silent", 1).await;
}

#[tokio::test]
async fn test_36_a_broken_answer_is_lost_and_found() {
    for token in ["reset", "truncated", "wrong_json", "not_utf8", "huge"] {
        is_lost_and_found(&format!("pm_sim_{token}")).await;
    }
}

#[tokio::test]
async fn test_37_a_500_says_nothing_of_the_charge() {
    is_lost_and_found("pm_sim_500_after_charge").await;
    let provider = Provider::start(FAST).await;
    let charge = charge("k", "pm_sim_500_forever");
    for _ in 0..3 {
        assert!(is_unknown(&provider.client.charge(charge.clone()).await), "replayed, and never a no");
    }
    assert_eq!(inquire(&provider, &charge).await, Inquiry::NotFound);
    assert_eq!(provider.charges(&charge).await, 0);
}

#[tokio::test]
async fn test_38_a_409_in_progress_ends_in_one_charge() {
    let provider = Provider::start(FAST).await;
    let charge = charge("k", "pm_sim_in_progress");
    for _ in 0..3 {
        assert!(is_unknown(&provider.client.charge(charge.clone()).await));
    }
    assert_eq!(inquire(&provider, &charge).await, Inquiry::NotFound, "not yet");
    provider.clock.forward(LATE);
    assert!(matches!(inquire(&provider, &charge).await, Inquiry::Succeeded(_)));
    charged_well(&charge, &provider.client.charge(charge.clone()).await);
    assert_eq!(provider.charges(&charge).await, 1);
}

#[tokio::test]
async fn test_39_a_success_for_something_else_is_told_as_what_it_is() {
    for token in ["pm_sim_wrong_amount", "pm_sim_wrong_currency", "pm_sim_wrong_reference"] {
        is_charged_wrongly(token).await;
    }
}

#[tokio::test]
async fn test_41_a_decline_that_turns_into_a_charge_is_seen_by_asking() {
    let provider = Provider::start(FAST).await;
    let charge = charge("k", "pm_sim_flip");
    let (outcome, charges) = first(&provider, &charge).await;
    assert!(matches!(outcome, Outcome::Declined { .. }), "{outcome:?}");
    assert_eq!(charges, 0);
    provider.clock.forward(LATE);
    assert!(matches!(inquire(&provider, &charge).await, Inquiry::Succeeded(_)));
    assert_eq!(provider.charges(&charge).await, 1);
}

#[tokio::test]
async fn test_44_a_429_is_not_executed_and_says_when_to_come_back() {
    let provider = Provider::start(FAST).await;
    let charge = charge("k", "pm_sim_rate_limited");
    for _ in 0..2 {
        let outcome = provider.client.charge(charge.clone()).await;
        let Outcome::NotExecuted { retry_after, .. } = outcome else { panic!("{outcome:?}") };
        assert_eq!(retry_after, Some(Duration::from_secs(1)));
    }
    assert_eq!(provider.charges(&charge).await, 0);
    charged_well(&charge, &provider.client.charge(charge.clone()).await);
    assert_eq!(provider.line(&charge).await["requests"], 3);
}

#[tokio::test]
async fn test_46_a_redirect_is_not_followed() {
    is_lost_and_not_found("pm_sim_redirect", 1).await;
}

#[tokio::test]
async fn a_late_success_is_running_until_it_is_one() {
    let provider = Provider::start(FAST).await;
    let charge = charge("k", "pm_sim_late_success");
    let (outcome, charges) = first(&provider, &charge).await;
    assert!(is_unknown(&outcome), "{outcome:?}");
    assert_eq!((charges, inquire(&provider, &charge).await), (0, Inquiry::StillRunning));
    provider.clock.forward(LATE);
    assert!(matches!(inquire(&provider, &charge).await, Inquiry::Succeeded(_)));
    assert_eq!(provider.charges(&charge).await, 1);
}

#[tokio::test]
async fn what_is_never_available_never_answers_or_only_takes_its_time_is_no_decline() {
    let provider = Provider::start(FAST).await;
    for token in ["pm_sim_stall", "pm_sim_unavailable"] {
        let charge = charge(token, token);
        for _ in 0..2 {
            assert!(is_unknown(&provider.client.charge(charge.clone()).await), "{token}");
        }
        assert_eq!(inquire(&provider, &charge).await, Inquiry::NotFound, "{token}");
        assert_eq!(provider.charges(&charge).await, 0, "{token}");
    }
    is_lost_and_not_found("pm_sim_transient", 2).await;
    let slow = charge("slow", "pm_sim_delay");
    charged_well(&slow, &provider.client.charge(slow.clone()).await);
}

#[tokio::test]
async fn declines_have_the_provider_s_code_and_are_found_again() {
    let provider = Provider::start(FAST).await;
    for (token, expected) in [
        ("pm_card_visa_chargeDeclined", "generic_decline"),
        ("pm_card_visa_chargeDeclinedInsufficientFunds", "insufficient_funds"),
        ("pm_card_chargeDeclinedExpiredCard", "expired_card"),
        ("pm_card_authenticationRequired", "authentication_required"),
        ("pm_sim_decline", "generic_decline"),
    ] {
        let charge = charge(token, token);
        let (outcome, charges) = first(&provider, &charge).await;
        let Outcome::Declined { code, .. } = &outcome else { panic!("{token}: {outcome:?}") };
        assert_eq!((code.as_str(), charges), (expected, 0), "{token}");
        let Inquiry::Declined { code, .. } = inquire(&provider, &charge).await else { panic!("{token}") };
        assert_eq!(code, expected);
    }
    let nobody_knows = charge("k", "pm_nobody_knows");
    let outcome = provider.client.charge(nobody_knows).await;
    assert!(matches!(&outcome, Outcome::Refused { code, .. } if code == "resource_missing"), "{outcome:?}");
}

#[tokio::test]
async fn currencies_that_the_provider_counts_in_other_units_are_charged_right() {
    let provider = Provider::start(FAST).await;
    for (code, amount) in [("ISK", 5), ("UGX", 2_000), ("MGA", 500), ("JPY", 500)] {
        let money = Money::new(amount, Currency::parse(code).unwrap()).unwrap();
        let charge = Charge { money, ..charge(code, "pm_card_visa") };
        charged_well(&charge, &provider.client.charge(charge.clone()).await);
        let line = provider.line(&charge).await;
        assert_eq!((&line["amount"], &line["currency"]), (&amount.into(), &code.into()));
    }
    let money = Money::new(501, Currency::parse("MGA").unwrap()).unwrap();
    let fraction = Charge { money, ..charge("fraction", "pm_card_visa") };
    let outcome = provider.client.charge(fraction.clone()).await;
    assert!(matches!(&outcome, Outcome::Declined { code, .. } if code == "invalid_amount"), "{outcome:?}");
    assert!(provider.line(&fraction).await.is_null(), "nothing was sent");
}

#[tokio::test]
async fn a_double_charge_of_the_provider_is_seen_and_not_settled() {
    let provider = Provider::start(FAST).await;
    let charge = charge("k", "pm_sim_double_charge");
    let (_, charges) = first(&provider, &charge).await;
    assert_eq!(charges, 2);
    let Inquiry::Unknown { reason, .. } = inquire(&provider, &charge).await else { panic!("settled") };
    assert!(reason.contains("twice"), "{reason}");
}

/// So that a new fault cannot be forgotten here.
#[test]
fn every_fault_is_tested_above() {
    let text = include_str!("faults.rs");
    for (_, name) in Fault::all() {
        assert!(text.contains(&format!("pm_sim_{name}")) || text.contains(&format!("\"{name}\"")), "{name}");
    }
}
