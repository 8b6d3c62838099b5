//! One event of a payment's history, as a client sees it.

use std::collections::BTreeMap;

use crate::contract::{Shown, position_text, text};
use crate::journal::LogId;
use crate::payment::event::{Decision, Private, PrivateBody};
use crate::payment::{Currency, EventData, EventId, Timestamp};
use crate::projection::Entry;

#[derive(serde::Serialize, utoipa::ToSchema)]
#[schema(as = Event)]
pub struct EventBody<'a> {
    #[serde(rename = "type")]
    #[schema(value_type = text::EventName)]
    name: &'static str,
    #[schema(value_type = text::EventId)]
    id: Shown<EventId>,
    #[schema(value_type = text::Time)]
    occurred_at: Shown<Timestamp>,
    /// `null` for an event that had no effect.
    #[schema(required)]
    version: Option<u64>,
    #[schema(value_type = text::Position)]
    position: String,
    data: DataBody<'a>,
}

#[derive(serde::Serialize, utoipa::ToSchema)]
#[schema(as = EventData)]
#[serde(untagged)]
enum DataBody<'a> {
    InProgress {
        merchant_id: &'a str,
        customer_id: &'a str,
        amount: i64,
        #[schema(value_type = text::Currency)]
        currency: Shown<Currency>,
        payment_method: &'a str,
        gateway: &'a str,
        request_id: &'a str,
        #[schema(required)]
        description: Option<String>,
        #[schema(required)]
        metadata: Option<BTreeMap<String, String>>,
    },
    Successful {
        gateway: &'a str,
        gateway_reference: &'a str,
        attempt: u32,
    },
    Failed {
        code: &'a str,
        message: &'a str,
        attempt: u32,
    },
    RetryScheduled {
        attempt: u32,
        reason: &'a str,
        #[schema(value_type = text::Time)]
        not_before: Shown<Timestamp>,
    },
    OutcomeUnknown {
        attempt: u32,
        reason: &'a str,
        #[schema(value_type = text::Time)]
        next_inquiry_at: Shown<Timestamp>,
    },
    Parked {
        reason: &'a str,
        detail: &'a str,
    },
    Resumed {
        operator: &'a str,
        reason: &'a str,
        at_version: u64,
        decision: DecisionBody<'a>,
    },
}

#[derive(serde::Serialize, utoipa::ToSchema)]
#[schema(as = Decision)]
#[serde(tag = "type", rename_all = "snake_case")]
enum DecisionBody<'a> {
    Inquire,
    SettleSuccessful { reference: &'a str },
    SettleFailed { code: &'a str },
    ChargeAgain,
}

impl<'a> EventBody<'a> {
    #[must_use]
    pub fn new(entry: &'a Entry, log: LogId) -> Self {
        Self {
            name: entry.event.data.name(),
            id: Shown(entry.event.event_id),
            occurred_at: Shown(entry.event.occurred_at),
            version: entry.version,
            position: position_text(log, entry.position),
            data: DataBody::new(&entry.event.data),
        }
    }
}

/// What an event says, without where it stands.
#[must_use]
pub fn data_body(data: &EventData) -> impl serde::Serialize + '_ {
    DataBody::new(data)
}

impl<'a> DataBody<'a> {
    fn new(data: &'a EventData) -> Self {
        match data {
            EventData::PaymentInProgress(e) => {
                let PrivateBody { description, metadata } = e.private.as_ref().map(Private::open).unwrap_or_default();
                Self::InProgress {
                    merchant_id: e.merchant_id.as_str(),
                    customer_id: e.customer_id.as_str(),
                    amount: e.money.amount(),
                    currency: Shown(e.money.currency()),
                    payment_method: e.payment_method.as_str(),
                    gateway: &e.gateway,
                    request_id: e.request_id.as_str(),
                    description,
                    metadata,
                }
            }
            EventData::PaymentSuccessful(e) => {
                Self::Successful { gateway: &e.gateway, gateway_reference: &e.gateway_reference, attempt: e.attempt }
            }
            EventData::PaymentFailed(e) => Self::Failed { code: &e.code, message: &e.message, attempt: e.attempt },
            EventData::PaymentRetryScheduled(e) => {
                Self::RetryScheduled { attempt: e.attempt, reason: &e.reason, not_before: Shown(e.not_before) }
            }
            EventData::PaymentOutcomeUnknown(e) => {
                let next_inquiry_at = Shown(e.next_inquiry_at);
                Self::OutcomeUnknown { attempt: e.attempt, reason: &e.reason, next_inquiry_at }
            }
            EventData::PaymentParked(e) => Self::Parked { reason: &e.reason, detail: &e.detail },
            EventData::PaymentResumed(e) => Self::Resumed {
                operator: &e.operator,
                reason: &e.reason,
                at_version: e.at_version,
                decision: DecisionBody::new(&e.decision),
            },
        }
    }
}

impl<'a> DecisionBody<'a> {
    fn new(decision: &'a Decision) -> Self {
        match decision {
            Decision::Inquire => Self::Inquire,
            Decision::SettleSuccessful { reference } => Self::SettleSuccessful { reference },
            Decision::SettleFailed { code } => Self::SettleFailed { code },
            Decision::ChargeAgain => Self::ChargeAgain,
        }
    }
}
