//! What stands on the log of deliveries: what became of one attempt to tell one endpoint, or one browser, of one thing.
//!
//! ```json
//! {"type": "WebhookDelivered", "log": "<log of payments>", "endpoint": "we_...", "partition": 0, "offset": 42,
//!  "cause": "live", "event": "PaymentSuccessful", "event_id": "...", "payment_id": "pay_...", "version": 2, "attempt": 1,
//!  "at": "...", "took_ms": 12, "status": 200}
//! {"type": "WebhookAttemptFailed", ..., "failure": "status", "status": 503, "next_at": "..."}
//! {"type": "PushDelivered", "log": "...", "subscription": "ps_...", ...}, {"type": "PushAttemptFailed", ...}
//! ```
//!
//! An outcome says the same however often it stands there, so that it needs no transaction. Without `next_at` no further
//! attempt is made. Nothing that was sent or answered is repeated here.

use crate::control::{EndpointId, RequestId, SubscriptionId, TargetId};
use crate::journal::{LogId, Offset, Partition, Position};
use crate::payment::{EventId, PaymentId, Timestamp};

const DELIVERED: &str = "WebhookDelivered";
const FAILED: &str = "WebhookAttemptFailed";
const PUSH_DELIVERED: &str = "PushDelivered";
const PUSH_FAILED: &str = "PushAttemptFailed";
const LIVE: &str = "live";
pub const TEST: &str = "test";
/// What endpoints are told of each other.
pub const ENDPOINT_DISABLED: &str = "WebhookEndpointDisabled";

/// One thing to tell somebody.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WorkId {
    pub target: TargetId,
    /// Of the event on the log of payments; of a test, its partition alone counts.
    pub partition: Partition,
    pub offset: Offset,
    pub cause: Cause,
}

/// Why an endpoint is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Cause {
    /// It happened.
    Live,
    /// Somebody asked.
    Asked(RequestId),
}

/// What an endpoint is told.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum What {
    Event {
        payment: PaymentId,
        version: u64,
        name: String,
        event: String,
    },
    Test,
    /// Another endpoint of the merchant is disabled.
    Disabled {
        endpoint: EndpointId,
        reason: String,
    },
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    pub work: WorkId,
    pub what: What,
    /// Its number, from 1.
    pub attempt: u32,
    /// By the clock of who made it.
    pub at: Timestamp,
    pub took_ms: u32,
    /// Of the answer, if there was one.
    pub status: Option<u16>,
    pub result: Result,
    /// Nothing is sent there before: its `Retry-After`.
    pub pause_until: Option<Timestamp>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Result {
    Delivered,
    Failed {
        failure: Failure,
        /// When it is tried again; never, if it is `None`.
        next_at: Option<Timestamp>,
    },
}

/// Why an attempt has failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
#[schema(as = DeliveryFailure)]
pub enum Failure {
    /// The name could not be resolved.
    Dns,
    /// It leads to an address that nobody outside may reach through us.
    AddressNotAllowed,
    Connect,
    Tls,
    Timeout,
    /// The connection broke before there was an answer.
    Broken,
    /// An answer that sends us elsewhere; nobody follows it.
    Redirect,
    /// An answer that is not 2xx.
    Status,
    /// 410: nobody is to be told there any more. Of a push service, 404 too.
    Gone,
    /// The service does not let us in, or has nothing of that name for us.
    Unauthorized,
    /// A broker that does not take it now.
    NotTaken,
    /// The service takes nothing so large.
    TooLarge,
    /// A service that is otherwise well, and says no, and will say it again.
    Refused,
    /// Too late for a browser to be told of it.
    Expired,
    /// The browser subscribed when there was another key for secrets.
    OtherKey,
    /// The endpoint's secrets or its payload cannot be read here.
    NotSendable,
}

#[derive(serde::Serialize, serde::Deserialize, utoipa::ToSchema)]
#[schema(as = DeliveryOutcome)]
pub(super) struct Document {
    #[serde(rename = "type")]
    kind: String,
    log: String,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    #[schema(value_type = Option<String>)]
    endpoint: Option<EndpointId>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    #[schema(value_type = Option<String>)]
    subscription: Option<SubscriptionId>,
    partition: u32,
    offset: u64,
    cause: String,
    event: String,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    event_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    payment_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    version: Option<u64>,
    /// The endpoint that is told of, and what of it.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    #[schema(value_type = Option<String>)]
    about: Option<EndpointId>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    reason: Option<String>,
    attempt: u32,
    at: String,
    took_ms: u32,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    status: Option<u16>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    failure: Option<Failure>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    next_at: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pause_until: Option<String>,
}

impl Cause {
    #[must_use]
    pub fn text(self) -> String {
        match self {
            Self::Live => LIVE.to_owned(),
            Self::Asked(request) => request.to_string(),
        }
    }

    fn parse(text: &str) -> Option<Self> {
        if text == LIVE { Some(Self::Live) } else { RequestId::parse(text).map(Self::Asked) }
    }
}

impl What {
    #[must_use]
    pub fn name(&self) -> &str {
        match self {
            Self::Event { name, .. } => name,
            Self::Test => TEST,
            Self::Disabled { .. } => ENDPOINT_DISABLED,
        }
    }
}

impl Failure {
    /// Would every further attempt come to the same?
    #[must_use]
    pub fn is_final(self) -> bool {
        matches!(self, Self::Gone | Self::TooLarge | Self::Refused | Self::Expired | Self::OtherKey)
    }

    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Dns => "dns",
            Self::AddressNotAllowed => "address_not_allowed",
            Self::Connect => "connect",
            Self::Tls => "tls",
            Self::Timeout => "timeout",
            Self::Broken => "broken",
            Self::Redirect => "redirect",
            Self::Status => "status",
            Self::Gone => "gone",
            Self::Unauthorized => "unauthorized",
            Self::NotTaken => "not_taken",
            Self::TooLarge => "too_large",
            Self::Refused => "refused",
            Self::Expired => "expired",
            Self::OtherKey => "other_key",
            Self::NotSendable => "not_sendable",
        }
    }
}

pub fn encode(log: LogId, outcome: &Outcome) -> serde_json::Result<Vec<u8>> {
    let Outcome { work, what, attempt, at, took_ms, status, result, pause_until } = outcome;
    let (delivered, failed, endpoint, subscription) = match work.target {
        TargetId::Endpoint(id) => (DELIVERED, FAILED, Some(id), None),
        TargetId::Subscription(id) => (PUSH_DELIVERED, PUSH_FAILED, None, Some(id)),
    };
    let (kind, failure, next_at) = match result {
        Result::Delivered => (delivered, None, None),
        Result::Failed { failure, next_at } => (failed, Some(*failure), next_at.map(|at| at.to_string())),
    };
    let (event_id, payment_id, version) = match what {
        What::Event { payment, version, event, .. } => (Some(event.clone()), Some(payment.to_string()), Some(*version)),
        What::Test | What::Disabled { .. } => (None, None, None),
    };
    let (about, reason) = match what {
        What::Disabled { endpoint, reason } => (Some(*endpoint), Some(reason.clone())),
        What::Event { .. } | What::Test => (None, None),
    };
    serde_json::to_vec(&Document {
        kind: kind.to_owned(),
        log: log.to_string(),
        endpoint,
        subscription,
        partition: work.partition.0,
        offset: work.offset.0,
        cause: work.cause.text(),
        event: what.name().to_owned(),
        event_id,
        payment_id,
        version,
        about,
        reason,
        attempt: *attempt,
        at: at.to_string(),
        took_ms: *took_ms,
        status: *status,
        failure,
        next_at,
        pause_until: pause_until.map(|until| until.to_string()),
    })
}

/// `None` for what is of another log, or of a type that is not known here.
pub fn decode(log: LogId, value: &[u8]) -> std::result::Result<Option<Outcome>, &'static str> {
    let document: Document = serde_json::from_slice(value).map_err(|_| "it is no outcome of a delivery")?;
    if document.log != log.to_string() {
        return Ok(None);
    }
    let time = |text: &str| Timestamp::parse(text).ok_or("a time cannot be read");
    let result = match document.kind.as_str() {
        DELIVERED | PUSH_DELIVERED => Result::Delivered,
        FAILED | PUSH_FAILED => Result::Failed {
            failure: document.failure.ok_or("it does not say why it failed")?,
            next_at: document.next_at.as_deref().map(time).transpose()?,
        },
        _ => return Ok(None),
    };
    let target = match (document.endpoint, document.subscription) {
        (Some(id), None) => TargetId::Endpoint(id),
        (None, Some(id)) => TargetId::Subscription(id),
        _ => return Err("it does not say who was told"),
    };
    let what = match (document.payment_id.as_deref(), document.version, document.event_id) {
        (Some(payment), Some(version), Some(event)) => {
            EventId::parse(&event).ok_or("an id cannot be read")?;
            let payment = PaymentId::parse(payment).ok_or("an id cannot be read")?;
            What::Event { payment, version, name: document.event, event }
        }
        (None, None, None) if document.event == TEST => What::Test,
        (None, None, None) if document.event == ENDPOINT_DISABLED => {
            let (Some(endpoint), Some(reason)) = (document.about, document.reason) else {
                return Err("it does not say of which endpoint it told");
            };
            What::Disabled { endpoint, reason }
        }
        _ => return Err("it does not say of what it told"),
    };
    let cause = Cause::parse(&document.cause).ok_or("its cause cannot be read")?;
    let (partition, offset) = (Partition(document.partition), Offset(document.offset));
    Ok(Some(Outcome {
        work: WorkId { target, partition, offset, cause },
        what,
        attempt: document.attempt,
        at: time(&document.at)?,
        took_ms: document.took_ms,
        status: document.status,
        result,
        pause_until: document.pause_until.as_deref().map(time).transpose()?,
    }))
}

impl What {
    /// Is it an event of a payment? What is not stands at no place of the log: its offset says nothing.
    #[must_use]
    pub fn is_event(&self) -> bool {
        matches!(self, Self::Event { .. })
    }

    /// Are these two events? At one place of one log there is only one, unless the log was cut and written anew.
    #[must_use]
    pub fn differs(&self, other: &Self) -> bool {
        matches!((self, other), (Self::Event { event: one, .. }, Self::Event { event: two, .. }) if one != two)
    }
}

impl WorkId {
    /// The `webhook-id`: the same over all attempts, resendings and endpoints.
    #[must_use]
    pub fn message_id(&self, what: &What) -> String {
        match (what, self.cause) {
            (What::Event { event, .. }, _) => format!("msg_{}", event.replace('-', "")),
            (What::Test, Cause::Asked(request)) => format!("msg_test_{}", data_encoding::HEXLOWER.encode(&request.0)),
            (What::Disabled { .. }, Cause::Asked(request)) => {
                format!("msg_{}", data_encoding::HEXLOWER.encode(&request.0))
            }
            (What::Test | What::Disabled { .. }, Cause::Live) => "msg_test".to_owned(),
        }
    }

    #[must_use]
    pub fn position(&self) -> Position {
        Position::new(self.partition, self.offset)
    }
}

#[cfg(test)]
#[path = "outcome_tests.rs"]
mod tests;
