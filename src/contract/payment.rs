//! A payment as a client sees it (DESIGN.md 9). The order of the fields is part of the contract.

use std::collections::BTreeMap;

use crate::contract::{Shown, text};
use crate::payment::event::{Private, PrivateBody};
use crate::payment::{Currency, Payment, PaymentId, Phase, RequestId, Timestamp};

#[derive(serde::Serialize, utoipa::ToSchema)]
#[schema(as = Payment)]
pub struct PaymentBody<'a> {
    #[schema(value_type = text::PaymentId)]
    id: Shown<PaymentId>,
    #[schema(value_type = text::Status)]
    status: &'static str,
    #[schema(value_type = text::Phase)]
    phase: &'static str,
    version: u64,
    amount: i64,
    #[schema(value_type = text::Currency)]
    currency: Shown<Currency>,
    customer_id: &'a str,
    payment_method: &'a str,
    #[schema(required)]
    description: Option<String>,
    #[schema(required)]
    metadata: Option<BTreeMap<String, String>>,
    #[schema(value_type = text::Time)]
    created_at: Shown<Timestamp>,
    #[schema(value_type = text::Time)]
    updated_at: Shown<Timestamp>,
    #[schema(required)]
    failure: Option<FailureBody<'a>>,
    #[schema(required)]
    gateway: Option<GatewayBody<'a>>,
    request_id: &'a str,
    links: Links,
}

#[derive(serde::Serialize, utoipa::ToSchema)]
#[schema(as = Failure)]
struct FailureBody<'a> {
    code: &'a str,
    message: &'a str,
}

/// Who charged it, and under what name: there once it is charged.
#[derive(serde::Serialize, utoipa::ToSchema)]
#[schema(as = Gateway)]
struct GatewayBody<'a> {
    name: &'a str,
    reference: &'a str,
}

/// Where to go on. Each link carries a position, so that no instance answers with less than this one knew.
#[derive(serde::Serialize, utoipa::ToSchema)]
pub struct Links {
    #[serde(rename = "self")]
    #[schema(value_type = text::Path)]
    pub itself: String,
    #[schema(value_type = text::Path)]
    pub events: String,
    #[schema(value_type = text::Path)]
    pub stream: String,
}

/// A request that is on the log, but of which this instance has not yet seen what became.
#[derive(serde::Serialize, utoipa::ToSchema)]
#[schema(as = UnconfirmedPayment)]
pub struct UnconfirmedBody<'a> {
    #[schema(value_type = text::PaymentId)]
    id: Shown<PaymentId>,
    request_id: &'a str,
    #[schema(value_type = text::Status)]
    status: &'static str,
    confirmed: bool,
    pub links: Links,
}

impl<'a> PaymentBody<'a> {
    /// `at_least` is the text of a position at which the payment was at least this far.
    #[must_use]
    pub fn new(payment: &'a Payment, at_least: &str) -> Self {
        let initiation = &payment.initiation;
        let PrivateBody { description, metadata } = initiation.private.as_ref().map(Private::open).unwrap_or_default();
        Self {
            id: Shown(payment.id),
            status: payment.status().name(),
            phase: payment.phase.name(),
            version: payment.version,
            amount: initiation.money.amount(),
            currency: Shown(initiation.money.currency()),
            customer_id: initiation.customer_id.as_str(),
            payment_method: initiation.payment_method.as_str(),
            description,
            metadata,
            created_at: Shown(payment.created_at),
            updated_at: Shown(payment.updated_at),
            failure: failure(&payment.phase),
            gateway: gateway(&payment.phase),
            request_id: initiation.request_id.as_str(),
            links: Links::of(payment.id, at_least),
        }
    }
}

fn failure(phase: &Phase) -> Option<FailureBody<'_>> {
    match phase {
        Phase::Failed { code, message } => Some(FailureBody { code, message }),
        _ => None,
    }
}

fn gateway(phase: &Phase) -> Option<GatewayBody<'_>> {
    match phase {
        Phase::Successful { gateway, reference } => Some(GatewayBody { name: gateway, reference }),
        _ => None,
    }
}

impl Links {
    #[must_use]
    pub fn of(id: PaymentId, at_least: &str) -> Self {
        Self {
            itself: format!("/v1/payments/{id}?at_least={at_least}"),
            events: format!("/v1/payments/{id}/events?at_least={at_least}"),
            stream: format!("/v1/stream?payment_id={id}&at_least={at_least}"),
        }
    }
}

impl<'a> UnconfirmedBody<'a> {
    /// Its `self` link asks what became of this very request, appended at `position`.
    #[must_use]
    pub fn new(id: PaymentId, request_id: &'a RequestId, position: &str) -> Self {
        let mut links = Links::of(id, position);
        links.itself = format!("/v1/payments/{id}?request_id={request_id}&at_least={position}");
        Self { id: Shown(id), request_id: request_id.as_str(), status: "in_progress", confirmed: false, links }
    }
}
