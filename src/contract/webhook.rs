//! Webhook endpoints and attempts, as a client sees them.

use crate::contract::{Shown, text};
use crate::control::{EndpointId, EndpointKind, EndpointState, KnownEndpoint, PayloadKind, RequestId, TargetId};
use crate::deliveries::outcome::{Outcome, Result as Ended, What};
use crate::deliveries::{Standing, Told};
use crate::payment::{PaymentId, Timestamp};

/// How much of it is shown as still to be told: what is more is shown as this.
pub const PENDING_MAX: usize = 10_000;

#[derive(serde::Serialize, utoipa::ToSchema)]
#[schema(as = WebhookEndpoint)]
pub struct EndpointBody<'a> {
    #[schema(value_type = text::EndpointId)]
    id: EndpointId,
    kind: EndpointKind,
    url: &'a str,
    /// `null` for all there are.
    #[schema(required)]
    events: Option<&'a [String]>,
    ordered: bool,
    payload: PayloadKind,
    #[schema(value_type = text::EndpointStatus)]
    status: EndpointState,
    /// Why it is disabled: `operator`, `gone` or `failing`.
    #[schema(required)]
    reason: Option<&'a str>,
    #[schema(value_type = text::Time)]
    created_at: &'a str,
    #[schema(value_type = text::Time)]
    enabled_at: &'a str,
    #[schema(value_type = Option<text::Time>, required)]
    last_success_at: Option<Shown<Timestamp>>,
    #[schema(value_type = Option<text::Time>, required)]
    failing_since: Option<Shown<Timestamp>>,
    /// Nothing is sent to it before: it has asked for that; `null` if it has not, or no more.
    #[schema(value_type = Option<text::Time>, required)]
    paused_until: Option<Shown<Timestamp>>,
    /// How much it is still to be told; left out by an instance that does not send.
    #[serde(skip_serializing_if = "Option::is_none")]
    pending: Option<usize>,
    /// Given out once.
    #[serde(skip_serializing_if = "Option::is_none")]
    secret: Option<&'a str>,
}

#[derive(serde::Serialize, utoipa::ToSchema)]
#[schema(as = Attempt)]
pub struct AttemptBody<'a> {
    /// Of a webhook.
    #[serde(skip_serializing_if = "Option::is_none")]
    webhook_id: Option<String>,
    event: &'a str,
    #[schema(value_type = Option<text::PaymentId>, required)]
    payment_id: Option<Shown<PaymentId>>,
    #[schema(required)]
    version: Option<u64>,
    /// `live`, or the id of the request that asked for it.
    cause: String,
    attempt: u32,
    #[schema(value_type = text::Time)]
    at: Shown<Timestamp>,
    took_ms: u32,
    #[schema(value_type = text::AttemptResult)]
    result: &'static str,
    #[schema(required)]
    failure: Option<&'static str>,
    /// Of the answer; `null` if there was none.
    #[schema(required)]
    status: Option<u16>,
    /// When it is tried again; `null` if it is not.
    #[schema(value_type = Option<text::Time>, required)]
    next_at: Option<Shown<Timestamp>>,
}

/// What one endpoint was told of one event of a payment.
#[derive(serde::Serialize, utoipa::ToSchema)]
#[schema(as = Telling)]
pub struct ToldBody<'a> {
    #[schema(value_type = text::TargetId)]
    endpoint: Shown<TargetId>,
    pub event: &'a str,
    pub version: u64,
    cause: String,
    /// `pending`, `delivered`, `given_up` or `dropped`.
    #[schema(value_type = text::TellingState)]
    state: &'static str,
    attempts: u32,
    #[schema(value_type = Option<text::Time>, required)]
    next_at: Option<Shown<Timestamp>>,
}

impl<'a> ToldBody<'a> {
    #[must_use]
    pub fn new(event: &'a str, version: u64, told: &Told) -> Self {
        let Told { work, state, attempts, next_at } = told;
        let (endpoint, cause) = (Shown(work.target), work.cause.text());
        Self { endpoint, event, version, cause, state, attempts: *attempts, next_at: next_at.map(Shown) }
    }
}

/// What one browser was told of how a payment ended.
#[derive(serde::Serialize, utoipa::ToSchema)]
#[schema(as = PushTelling)]
pub struct PushedBody<'a> {
    #[schema(value_type = text::PushSubscriptionId)]
    subscription: Shown<TargetId>,
    /// The origin of its push service; `null` of a subscription that is over.
    #[schema(required)]
    service: Option<String>,
    event: &'a str,
    version: u64,
    /// `pending`, `delivered`, `given_up` or `dropped`.
    #[schema(value_type = text::TellingState)]
    state: &'static str,
    attempts: u32,
    #[schema(value_type = Option<text::Time>, required)]
    next_at: Option<Shown<Timestamp>>,
}

impl<'a> PushedBody<'a> {
    #[must_use]
    pub fn new(event: &'a str, version: u64, service: Option<String>, told: &Told) -> Self {
        let Told { work, state, attempts, next_at } = told;
        let (subscription, next_at) = (Shown(work.target), next_at.map(Shown));
        Self { subscription, service, event, version, state, attempts: *attempts, next_at }
    }
}

/// Something that was asked of an endpoint.
#[derive(serde::Serialize, utoipa::ToSchema)]
#[schema(as = Asked)]
pub struct AskedBody {
    #[schema(value_type = text::AskedId)]
    pub request_id: RequestId,
    #[schema(value_type = text::EndpointId)]
    pub endpoint: EndpointId,
}

impl<'a> EndpointBody<'a> {
    #[must_use]
    pub fn new(known: &'a KnownEndpoint, standing: &Standing, pending: Option<usize>, now: Timestamp) -> Self {
        let endpoint = &known.endpoint;
        Self {
            id: endpoint.id,
            kind: endpoint.kind,
            url: &endpoint.url,
            events: endpoint.events.as_deref(),
            ordered: endpoint.ordered,
            payload: endpoint.payload,
            status: endpoint.state,
            reason: endpoint.reason.as_deref(),
            created_at: &endpoint.created_at,
            enabled_at: &endpoint.enabled_at,
            last_success_at: standing.last_success.map(Shown),
            failing_since: standing.failing_since.map(Shown),
            paused_until: standing.paused_until().filter(|until| *until > now).map(Shown),
            pending,
            secret: None,
        }
    }

    #[must_use]
    pub fn with_secret(self, secret: &'a str) -> Self {
        Self { secret: Some(secret), ..self }
    }
}

impl<'a> AttemptBody<'a> {
    #[must_use]
    pub fn new(outcome: &'a Outcome) -> Self {
        let Outcome { work, what, attempt, at, took_ms, status, result, .. } = outcome;
        let (payment_id, version) = match what {
            What::Event { payment, version, .. } => (Some(Shown(*payment)), Some(*version)),
            What::Test | What::Disabled { .. } => (None, None),
        };
        let (result, failure, next_at) = match result {
            Ended::Delivered => ("delivered", None, None),
            Ended::Failed { failure, next_at } => ("failed", Some(failure.name()), next_at.map(Shown)),
        };
        Self {
            webhook_id: work.target.endpoint().map(|_| work.message_id(what)),
            event: what.name(),
            payment_id,
            version,
            cause: work.cause.text(),
            attempt: *attempt,
            at: Shown(*at),
            took_ms: *took_ms,
            result,
            failure,
            status: *status,
            next_at,
        }
    }
}
