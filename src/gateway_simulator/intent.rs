//! A payment intent, as this provider keeps it and as it tells it. What becomes of one later is decided when it is made: its
//! state is a function of the time.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::gateway::simulator::DECLINED;
use crate::payment::Timestamp;

/// Stripe's test tokens that succeed.
const GOOD: &[&str] = &["pm_card_visa", "pm_card_mastercard", "pm_card_amex"];
const NEEDS_OWNER: &str = "pm_card_authenticationRequired";

/// What Stripe gives as `code`; everything else is a `decline_code` of `card_declined`.
const OWN_CODES: &[&str] = &["expired_card", "incorrect_cvc", "processing_error"];

#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum Status {
    Succeeded,
    Processing,
    /// As Stripe calls what was declined.
    RequiresPaymentMethod,
}

#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Decline {
    pub code: String,
    pub decline_code: Option<String>,
    pub message: String,
}

#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Intent {
    pub id: String,
    pub key: String,
    pub created: Timestamp,
    pub amount: i64,
    /// In small letters.
    pub currency: String,
    pub payment_method: String,
    pub metadata: BTreeMap<String, String>,
    pub status: Status,
    pub decline: Option<Decline>,
    /// Charged then, whatever it was before.
    pub succeeds_at: Option<Timestamp>,
    /// Lists and searches do not show it before.
    pub listed_from: Timestamp,
}

/// What a token means.
pub enum Token {
    Good,
    Declined(Decline),
    Unknown,
}

impl Token {
    #[must_use]
    pub fn read(token: &str) -> Self {
        if GOOD.contains(&token) || super::fault::Fault::of_token(token).is_some() {
            return Self::Good;
        }
        if token == NEEDS_OWNER {
            let message = "Your card was declined. This transaction requires authentication.";
            return Self::Declined(Decline::new("authentication_required", message));
        }
        let known = DECLINED.iter().find(|(declined, ..)| *declined == token);
        known.map_or(Self::Unknown, |(_, code, message)| Self::Declined(Decline::new(code, message)))
    }
}

impl Decline {
    /// As Stripe splits it.
    #[must_use]
    pub fn new(code: &str, message: &str) -> Self {
        let (code, decline_code) = match code {
            "card_declined" => (code, Some("generic_decline")),
            "authentication_required" => (code, Some(code)),
            own if OWN_CODES.contains(&own) => (own, None),
            of_issuer => ("card_declined", Some(of_issuer)),
        };
        let owned = str::to_owned;
        Self { code: owned(code), decline_code: decline_code.map(owned), message: owned(message) }
    }

    #[must_use]
    pub fn generic() -> Self {
        Self::new("card_declined", "Your card was declined.")
    }

    /// The `error` of an answer, or an intent's `last_payment_error`.
    #[must_use]
    pub fn body(&self) -> Value {
        let Self { code, decline_code, message } = self;
        json!({"type": "card_error", "code": code, "decline_code": decline_code, "message": message})
    }
}

impl Status {
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Succeeded => "succeeded",
            Self::Processing => "processing",
            Self::RequiresPaymentMethod => "requires_payment_method",
        }
    }
}

impl Intent {
    #[must_use]
    pub fn status_at(&self, now: Timestamp) -> Status {
        if self.succeeds_at.is_some_and(|at| at <= now) { Status::Succeeded } else { self.status }
    }

    /// As it was told, or is told, in this state.
    #[must_use]
    pub fn body(&self, status: Status) -> Value {
        let taken = status == Status::Succeeded;
        let decline = if taken { None } else { self.decline.as_ref().map(Decline::body) };
        json!({
            "id": self.id,
            "object": "payment_intent",
            "amount": self.amount,
            "amount_received": if taken { self.amount } else { 0 },
            "capture_method": "automatic",
            "created": self.created.as_micros() / 1_000_000,
            "currency": self.currency,
            "last_payment_error": decline,
            "latest_charge": taken.then(|| self.id.replacen("pi_", "ch_", 1)),
            "livemode": false,
            "metadata": self.metadata,
            "payment_method": self.payment_method,
            "payment_method_types": ["card"],
            "status": status.name(),
        })
    }
}
