//! A provider in this process, for trying paylog out and for tests. The token decides what happens, so the same key always
//! gets the same answer, through any restart, as a provider with a ledger would give it.

use std::time::Duration;

use crate::gateway::{Answer, Charge, Gateway, Inquiry, Outcome, Receipt, Terms};

/// Stripe's test tokens that are declined, with the code and message that Stripe gives.
pub(crate) const DECLINED: &[(&str, &str, &str)] = &[
    ("pm_card_visa_chargeDeclined", "card_declined", "Your card was declined."),
    ("pm_card_visa_chargeDeclinedInsufficientFunds", "insufficient_funds", "Your card has insufficient funds."),
    ("pm_card_visa_chargeDeclinedLostCard", "lost_card", "Your card was declined."),
    ("pm_card_visa_chargeDeclinedStolenCard", "stolen_card", "Your card was declined."),
    ("pm_card_chargeDeclinedExpiredCard", "expired_card", "Your card has expired."),
    ("pm_card_chargeDeclinedIncorrectCvc", "incorrect_cvc", "Your card's security code is incorrect."),
    ("pm_card_chargeDeclinedProcessingError", "processing_error", "An error occurred while processing your card."),
];
/// Succeeds after [`DELAY`].
const DELAYED: &str = "pm_sim_delay";
/// Unavailable for the first [`TRANSIENT_TRIES`], then succeeds.
const TRANSIENT: &str = "pm_sim_transient";
/// Never available: it is retried for ever.
const UNAVAILABLE: &str = "pm_sim_unavailable";

const DELAY: Duration = Duration::from_secs(3);
const TRANSIENT_TRIES: u32 = 2;

/// `latency` is how long every answer takes.
#[derive(Clone, Copy, Debug)]
pub struct Simulator {
    pub latency: Duration,
}

impl Gateway for Simulator {
    fn name(&self) -> &'static str {
        "simulator"
    }

    fn terms(&self) -> Terms {
        let day = Duration::from_secs(24 * 60 * 60);
        Terms { key_window: day, not_found_final_after: Some(Duration::ZERO), calls_per_second_max: None }
    }

    fn charge(&self, charge: Charge) -> Answer<Outcome> {
        self.late(&charge, decide(&charge))
    }

    /// What it would have answered, which is what it did answer: the token decides.
    fn inquire(&self, charge: Charge) -> Answer<Inquiry> {
        let answer = match decide(&charge) {
            Outcome::Succeeded(receipt) => Inquiry::Succeeded(receipt),
            Outcome::Declined { code, message } => Inquiry::Declined { code, message },
            Outcome::NotSent { .. }
            | Outcome::NotExecuted { .. }
            | Outcome::Refused { .. }
            | Outcome::Unknown { .. } => Inquiry::NotFound,
        };
        self.late(&charge, answer)
    }
}

impl Simulator {
    /// Whatever it is asked, the answer takes its time.
    fn late<T: Send + 'static>(&self, charge: &Charge, answer: T) -> Answer<T> {
        let wait = self.latency + if charge.payment_method.as_str() == DELAYED { DELAY } else { Duration::ZERO };
        Box::pin(async move {
            if !wait.is_zero() {
                tokio::time::sleep(wait).await;
            }
            answer
        })
    }
}

fn decide(charge: &Charge) -> Outcome {
    let unavailable = || Outcome::NotExecuted { reason: "service unavailable".to_owned(), retry_after: None };
    let succeeded = || Outcome::Succeeded(receipt(charge));
    match charge.payment_method.as_str() {
        TRANSIENT if charge.attempt <= TRANSIENT_TRIES => unavailable(),
        UNAVAILABLE => unavailable(),
        "pm_card_visa" | "pm_card_mastercard" | "pm_card_amex" | DELAYED | TRANSIENT => succeeded(),
        token => match DECLINED.iter().find(|(declined, ..)| *declined == token) {
            Some((_, code, message)) => declined(code, message),
            None => declined("resource_missing", "The simulator does not know this payment method."),
        },
    }
}

fn declined(code: &str, message: &str) -> Outcome {
    Outcome::Declined { code: code.to_owned(), message: message.to_owned() }
}

fn receipt(charge: &Charge) -> Receipt {
    let payment = charge.key.to_string();
    let (amount, currency) = (charge.money.amount(), charge.money.currency().code().to_owned());
    Receipt { reference: format!("ch_sim_{}", &payment["pay_".len()..]), amount, currency, payment }
}
