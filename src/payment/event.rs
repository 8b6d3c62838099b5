//! What is written on the topic `payments`, and never changes again.

use std::collections::BTreeMap;

use crate::payment::request::{Fingerprint, PaymentMethod};
use crate::payment::{CustomerId, EventId, MerchantId, Money, PaymentId, RequestId, Timestamp};

/// The longest `message` of a [`PaymentFailed`], in bytes (DESIGN.md 5).
pub const FAILURE_MESSAGE_MAX: usize = 512;

/// Something that happened to one payment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    pub event_id: EventId,
    pub payment_id: PaymentId,
    /// By its writer's clock.
    pub occurred_at: Timestamp,
    pub data: EventData,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EventData {
    PaymentInProgress(PaymentInProgress),
    PaymentSuccessful(PaymentSuccessful),
    PaymentFailed(PaymentFailed),
    PaymentRetryScheduled(PaymentRetryScheduled),
    PaymentOutcomeUnknown(PaymentOutcomeUnknown),
    PaymentParked(PaymentParked),
    PaymentResumed(PaymentResumed),
}

/// Accepted: from here on it will be charged, once, or definitively not.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct PaymentInProgress {
    pub merchant_id: MerchantId,
    pub customer_id: CustomerId,
    pub money: Money,
    pub payment_method: PaymentMethod,
    /// The gateway that will charge it, chosen when it was accepted.
    pub gateway: String,
    /// How its request to the gateway is built: an upgrade of paylog never changes the bytes of an old payment's.
    pub gateway_request_version: u32,
    pub request_id: RequestId,
    pub fingerprint: Fingerprint,
    pub private: Option<Private>,
}

/// What may be about a person. `key_id` says with which key `body` is encrypted; without one it is plain JSON.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Private {
    pub key_id: Option<String>,
    #[serde(with = "serde_bytes")]
    pub body: Vec<u8>,
}

/// Charged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PaymentSuccessful {
    pub gateway: String,
    pub gateway_reference: String,
    pub attempt: u32,
}

/// A definitive no.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PaymentFailed {
    pub code: String,
    pub message: String,
    pub attempt: u32,
}

/// A try that certainly did not charge; there will be another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PaymentRetryScheduled {
    pub attempt: u32,
    pub reason: String,
    pub not_before: Timestamp,
}

/// The answer was lost: charged or not, nobody knows yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PaymentOutcomeUnknown {
    pub attempt: u32,
    pub reason: String,
    pub next_inquiry_at: Timestamp,
}

/// A person has to decide.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PaymentParked {
    pub reason: String,
    pub detail: String,
}

/// A person has decided.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PaymentResumed {
    pub operator: String,
    pub reason: String,
    /// The version that the operator saw: at any other the decision has no effect.
    pub at_version: u64,
    pub decision: Decision,
}

#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum Decision {
    Inquire,
    SettleSuccessful { reference: String },
    SettleFailed { code: String },
    ChargeAgain,
}

/// The plain form of [`Private::body`].
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct PrivateBody {
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub description: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub metadata: Option<BTreeMap<String, String>>,
}

impl Event {
    /// An event that happens now, with an id of its own.
    #[must_use]
    pub fn new(payment_id: PaymentId, occurred_at: Timestamp, data: EventData) -> Self {
        Self { event_id: EventId::mint(), payment_id, occurred_at, data }
    }
}

impl EventData {
    /// Every name there is.
    pub const NAMES: [&str; 7] = [
        "PaymentInProgress",
        "PaymentSuccessful",
        "PaymentFailed",
        "PaymentRetryScheduled",
        "PaymentOutcomeUnknown",
        "PaymentParked",
        "PaymentResumed",
    ];

    /// The name of the event, as it stands in schemas, JSON, streams and the user interface.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::PaymentInProgress(_) => "PaymentInProgress",
            Self::PaymentSuccessful(_) => "PaymentSuccessful",
            Self::PaymentFailed(_) => "PaymentFailed",
            Self::PaymentRetryScheduled(_) => "PaymentRetryScheduled",
            Self::PaymentOutcomeUnknown(_) => "PaymentOutcomeUnknown",
            Self::PaymentParked(_) => "PaymentParked",
            Self::PaymentResumed(_) => "PaymentResumed",
        }
    }
}

impl Private {
    /// `None` if there is nothing to keep.
    #[must_use]
    pub fn plain(description: Option<String>, metadata: Option<BTreeMap<String, String>>) -> Option<Self> {
        let body = PrivateBody { description, metadata };
        if body == PrivateBody::default() {
            return None;
        }
        // A struct of strings always serialises.
        serde_json::to_vec(&body).ok().map(|body| Self { key_id: None, body })
    }

    /// What can be read without a key; nothing of what cannot.
    #[must_use]
    pub fn open(&self) -> PrivateBody {
        match self.key_id {
            None => serde_json::from_slice(&self.body).unwrap_or_default(),
            Some(_) => PrivateBody::default(),
        }
    }
}
