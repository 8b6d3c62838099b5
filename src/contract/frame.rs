//! What a stream carries in `data`: the same objects over every transport.

use crate::contract::{EventBody, PaymentBody, position_text};
use crate::journal::LogId;
use crate::payment::Payment;
use crate::projection::Entry;

/// A change: what happened, and the payment as it was after it.
#[derive(serde::Serialize)]
pub struct FrameBody<'a> {
    event: EventBody<'a>,
    payment: PaymentBody<'a>,
}

/// A payment as it is now.
#[derive(serde::Serialize)]
pub struct SnapshotBody<'a> {
    payment: PaymentBody<'a>,
    /// In the last snapshot of several only: are there older payments, and the cursor of the list at which they begin.
    #[serde(skip_serializing_if = "Option::is_none")]
    more: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    next_cursor: Option<&'a str>,
}

/// Forget what you know: it was of another log.
#[derive(serde::Serialize)]
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
