//! Push subscriptions as a client sees them, and what a browser is told by Web Push.

use crate::contract::{Shown, text};
use crate::control::{KnownSubscription, PushScope, SubscriptionId};
use crate::payment::{Currency, PaymentId, Timestamp};
use crate::projection::Entry;

/// A subscription. Nothing by which anybody could write to the browser.
#[derive(serde::Serialize, utoipa::ToSchema)]
#[schema(as = PushSubscription)]
pub struct SubscriptionBody<'a> {
    #[schema(value_type = text::PushSubscriptionId)]
    id: SubscriptionId,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<text::PaymentId>)]
    payment_id: Option<Shown<PaymentId>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    customer_id: Option<&'a str>,
    /// The origin of its push service.
    service: &'a str,
    #[schema(value_type = text::Time)]
    created_at: Shown<Timestamp>,
    /// Of one that was made with a stream token.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<text::Time>)]
    ends_at: Option<Shown<Timestamp>>,
}

impl<'a> SubscriptionBody<'a> {
    #[must_use]
    pub fn new(known: &'a KnownSubscription) -> Self {
        let subscription = &known.subscription;
        let (payment_id, customer_id) = match &subscription.scope {
            PushScope::Payment(id) => (Some(Shown(*id)), None),
            PushScope::Customer(id) => (None, Some(id.as_str())),
        };
        let (service, created_at) = (subscription.service.as_str(), Shown(known.created_at));
        let ends_at = subscription.lease.as_ref().map(|lease| Shown(lease.ends_at));
        Self { id: subscription.id, payment_id, customer_id, service, created_at, ends_at }
    }
}

/// What is sent to a browser: enough to show, and to ask for the rest with.
#[derive(serde::Serialize, utoipa::ToSchema)]
#[schema(as = PushMessage)]
pub struct PushBody {
    #[serde(rename = "type")]
    #[schema(value_type = text::EventName)]
    kind: &'static str,
    /// The same at every attempt: who has seen it has seen it.
    id: String,
    #[schema(value_type = text::Time)]
    timestamp: Shown<Timestamp>,
    data: PushData,
}

#[derive(serde::Serialize, utoipa::ToSchema)]
struct PushData {
    /// The payment's version.
    sequence: u64,
    payment: PushedPayment,
}

#[derive(serde::Serialize, utoipa::ToSchema)]
struct PushedPayment {
    #[schema(value_type = text::PaymentId)]
    id: Shown<PaymentId>,
    #[schema(value_type = text::Status)]
    status: &'static str,
    amount: i64,
    #[schema(value_type = text::Currency)]
    currency: Shown<Currency>,
}

impl PushBody {
    #[must_use]
    pub fn new(entry: &Entry, id: String) -> Self {
        let (payment, event) = (&entry.payment, &entry.event);
        let money = payment.initiation.money;
        let payment = PushedPayment {
            id: Shown(payment.id),
            status: payment.status().name(),
            amount: money.amount(),
            currency: Shown(money.currency()),
        };
        let data = PushData { sequence: entry.version.unwrap_or_default(), payment };
        Self { kind: event.data.name(), id, timestamp: Shown(event.occurred_at), data }
    }
}
