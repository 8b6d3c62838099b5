//! What an answer of the provider means (DESIGN.md 8). Definitive is only what is bound to our key and says yes or no in so
//! many words; everything else is unknown.

use std::collections::HashMap;

use super::amount::from_stripe;
use super::http::Answered;
use crate::gateway::{Charge, Outcome, Receipt};
use crate::payment::PaymentId;

/// The longest name for a charge, and the longest code, that is believed.
const NAME_MAX: usize = 255;
/// Of the provider's texts, this much is kept.
const TEXT_MAX: usize = 300;
/// How Stripe says that the card's owner would have to do something, which paylog does not offer.
const NEEDS_OWNER: &[&str] =
    &["authentication_required", "payment_intent_action_required", "requires_action_not_handled"];
const AUTHENTICATION_REQUIRED: &str = "authentication_required";

#[derive(Clone, Debug, serde::Deserialize)]
pub(super) struct Intent {
    object: String,
    pub(super) id: String,
    /// Seconds since 1970.
    #[serde(default)]
    pub(super) created: i64,
    status: String,
    amount_received: i64,
    currency: String,
    #[serde(default)]
    metadata: HashMap<String, String>,
    last_payment_error: Option<Error>,
    cancellation_reason: Option<String>,
}

#[derive(Clone, Debug, serde::Deserialize)]
struct Error {
    #[serde(rename = "type")]
    kind: String,
    code: Option<String>,
    decline_code: Option<String>,
    message: Option<String>,
    payment_intent: Option<Box<Intent>>,
}

#[derive(serde::Deserialize)]
struct Failure {
    error: Error,
}

/// Where an intent stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Standing {
    Succeeded(Receipt),
    Declined { code: String, message: String },
    Running,
    Unclear(String),
}

/// What came of a POST.
pub(super) fn charged(charge: &Charge, answered: &Answered) -> Outcome {
    match answered.status {
        200..=299 => accepted(charge, &answered.body),
        401 | 403 => {
            let reason = format!("the gateway refuses our secret key ({})", answered.status);
            Outcome::NotExecuted { reason, retry_after: answered.retry_after }
        }
        400 | 402 | 404 | 429 => match serde_json::from_slice::<Failure>(&answered.body) {
            Ok(Failure { error }) => refused(charge, answered, error),
            Err(_) if answered.status == 429 => rate_limited(answered),
            Err(_) => unknown(format!("an answer of {} that cannot be read", answered.status)),
        },
        409 => unknown("another request with this key is in progress".to_owned()),
        status => Outcome::Unknown { reason: format!("an answer of {status}"), answered: status < 500 },
    }
}

fn unknown(reason: String) -> Outcome {
    Outcome::Unknown { reason, answered: true }
}

/// Only the limit on requests is looked at before anything is done; a lock that was not got comes later.
fn rate_limited(answered: &Answered) -> Outcome {
    Outcome::NotExecuted { reason: "the gateway limits our rate".to_owned(), retry_after: answered.retry_after }
}

fn accepted(charge: &Charge, body: &[u8]) -> Outcome {
    let Ok(intent) = serde_json::from_slice::<Intent>(body) else {
        return unknown("an answer that cannot be read".to_owned());
    };
    match intent.standing() {
        // The processor compares the receipt with what was asked for.
        Standing::Succeeded(receipt) => Outcome::Succeeded(receipt),
        Standing::Declined { code, message } if intent.belongs_to(charge.key) => Outcome::Declined { code, message },
        Standing::Declined { .. } => unknown("a decline of another payment".to_owned()),
        Standing::Running => unknown("the gateway is still at it".to_owned()),
        Standing::Unclear(reason) => unknown(reason),
    }
}

fn refused(charge: &Charge, answered: &Answered, error: Error) -> Outcome {
    if error.payment_intent.as_ref().is_some_and(|intent| !intent.belongs_to(charge.key)) {
        return unknown("an error of another payment".to_owned());
    }
    let needs_owner = error.code.as_deref().is_some_and(|code| NEEDS_OWNER.contains(&code));
    match (answered.status, error.kind.as_str()) {
        (429, _) if error.code.as_deref() == Some("lock_timeout") => unknown("a lock timeout".to_owned()),
        (429, _) => rate_limited(answered),
        (402, "card_error") | (400 | 402, _) if error.kind == "card_error" || needs_owner => {
            let (code, message) = error.decline();
            Outcome::Declined { code, message }
        }
        (400, "idempotency_error") => unknown("the key was used with other parameters".to_owned()),
        (400 | 404, "invalid_request_error") => {
            // It may say so without having looked at the key.
            let (code, message) = error.decline();
            Outcome::Refused { code, message }
        }
        (status, _) => unknown(format!("an answer of {status} with an error of another type")),
    }
}

impl Intent {
    /// By what we had it write down when it was made.
    pub(super) fn belongs_to(&self, payment: PaymentId) -> bool {
        self.payment() == payment.to_string()
    }

    /// Of whichever payment of ours it is.
    pub(super) fn payment_id(&self) -> Option<PaymentId> {
        PaymentId::parse(self.payment())
    }

    fn payment(&self) -> &str {
        self.metadata.get("payment_id").map_or("", String::as_str)
    }

    /// In our units. It took the money, so that an amount which cannot be is not a no.
    fn receipt(&self) -> Standing {
        let (reference, payment) = (self.id.clone(), cut(self.payment()).to_owned());
        let currency = cut(&self.currency).to_ascii_uppercase();
        match from_stripe(self.amount_received, &currency) {
            Some(amount) => Standing::Succeeded(Receipt { reference, amount, currency, payment }),
            None => Standing::Unclear(format!("charged {} {currency}, which cannot be", self.amount_received)),
        }
    }

    pub(super) fn standing(&self) -> Standing {
        if self.object != "payment_intent" || !is_name(&self.id) {
            return Standing::Unclear("an answer that is no payment intent".to_owned());
        }
        match (self.status.as_str(), &self.last_payment_error) {
            ("succeeded", _) => self.receipt(),
            ("requires_payment_method", Some(error)) => {
                let (code, message) = error.decline();
                Standing::Declined { code, message }
            }
            // It can never take money again.
            ("canceled", _) => {
                let reason = self.cancellation_reason.as_deref().filter(|reason| is_name(reason));
                let message = "The payment was canceled at the gateway.".to_owned();
                Standing::Declined { code: reason.unwrap_or("canceled").to_owned(), message }
            }
            // Made, and not yet confirmed: our one request does both.
            ("processing" | "requires_confirmation" | "requires_payment_method", _) => Standing::Running,
            (status, _) => Standing::Unclear(format!("an intent of status {}", cut(status))),
        }
    }
}

impl Error {
    /// The code for programs and the message for the customer.
    fn decline(&self) -> (String, String) {
        let code = self.decline_code.as_deref().or(self.code.as_deref()).filter(|code| is_name(code));
        let code = match code {
            Some(code) if NEEDS_OWNER.contains(&code) => AUTHENTICATION_REQUIRED,
            Some(code) => code,
            None => self.kind.as_str(),
        };
        let message = self.message.as_deref().unwrap_or("The payment was declined.");
        (cut(code).to_owned(), cut(message).to_owned())
    }
}

fn is_name(text: &str) -> bool {
    (1..=NAME_MAX).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
}

fn cut(text: &str) -> &str {
    &text[..text.floor_char_boundary(TEXT_MAX)]
}
