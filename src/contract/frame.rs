//! What a stream carries in `data`: the same objects over every transport.

use crate::contract::{EventBody, Links, PaymentBody, Shown, position_text, text};
use crate::journal::LogId;
use crate::payment::{EventId, Payment, PaymentId, Timestamp};
use crate::projection::Entry;

/// A change: what happened, and the payment as it was after it.
#[derive(serde::Serialize, utoipa::ToSchema)]
#[schema(as = Change)]
pub struct FrameBody<'a> {
    event: EventBody<'a>,
    payment: PaymentBody<'a>,
}

/// A change without what may be about a person: what happened to which payment, and where to ask for the rest.
#[derive(serde::Serialize, utoipa::ToSchema)]
#[schema(as = ThinChange)]
pub struct ThinBody {
    event: ThinEvent,
    payment: ThinPayment,
}

#[derive(serde::Serialize, utoipa::ToSchema)]
struct ThinEvent {
    #[serde(rename = "type")]
    #[schema(value_type = text::EventName)]
    name: &'static str,
    #[schema(value_type = text::EventId)]
    id: Shown<EventId>,
    #[schema(value_type = text::Time)]
    occurred_at: Shown<Timestamp>,
    #[schema(required)]
    version: Option<u64>,
    #[schema(value_type = text::Position)]
    position: String,
}

#[derive(serde::Serialize, utoipa::ToSchema)]
struct ThinPayment {
    #[schema(value_type = text::PaymentId)]
    id: Shown<PaymentId>,
    #[schema(value_type = text::Status)]
    status: &'static str,
    links: Links,
}

/// A payment as it is now.
#[derive(serde::Serialize, utoipa::ToSchema)]
#[schema(as = Snapshot)]
pub struct SnapshotBody<'a> {
    payment: PaymentBody<'a>,
    /// In the last snapshot of several only: are there older payments, and the cursor of the list at which they begin.
    #[serde(skip_serializing_if = "Option::is_none")]
    more: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<text::Cursor>)]
    next_cursor: Option<&'a str>,
}

/// Forget what you know: it was of another log.
#[derive(serde::Serialize, utoipa::ToSchema)]
#[schema(as = Reset)]
pub struct ResetBody {
    log: String,
}

impl<'a> FrameBody<'a> {
    #[must_use]
    pub fn new(entry: &'a Entry, log: LogId) -> Self {
        let at_least = position_text(log, entry.position);
        Self { event: EventBody::new(entry, log), payment: PaymentBody::new(&entry.payment, &at_least) }
    }
}

impl ThinBody {
    #[must_use]
    pub fn new(entry: &Entry, log: LogId) -> Self {
        let (event, position) = (&entry.event, position_text(log, entry.position));
        let links = Links::of(event.payment_id, &position);
        Self {
            event: ThinEvent {
                name: event.data.name(),
                id: Shown(event.event_id),
                occurred_at: Shown(event.occurred_at),
                version: entry.version,
                position,
            },
            payment: ThinPayment { id: Shown(event.payment_id), status: entry.payment.status().name(), links },
        }
    }
}

impl<'a> SnapshotBody<'a> {
    #[must_use]
    pub fn new(payment: &'a Payment, at_least: &str) -> Self {
        Self { payment: PaymentBody::new(payment, at_least), more: None, next_cursor: None }
    }

    /// The last of several; `next_cursor` is where older payments begin, if there are any.
    #[must_use]
    pub fn last(payment: &'a Payment, at_least: &str, next_cursor: Option<&'a str>) -> Self {
        Self { more: Some(next_cursor.is_some()), next_cursor, ..Self::new(payment, at_least) }
    }
}

impl ResetBody {
    #[must_use]
    pub fn new(log: LogId) -> Self {
        Self { log: log.log8() }
    }
}
