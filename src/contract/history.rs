//! One event of a payment's history, with what only a history tells: where and when the log took it, who wrote it, and what
//! the payment was after it.

use crate::contract::{EventBody, Shown, text};
use crate::journal::LogId;
use crate::payment::{EventData, Payment, Timestamp};
use crate::projection::Entry;

#[derive(serde::Serialize, utoipa::ToSchema)]
#[schema(as = HistoryEvent)]
pub struct HistoryBody<'a> {
    #[serde(flatten)]
    event: EventBody<'a>,
    /// By the log's clock.
    #[schema(value_type = text::Time)]
    appended_at: Shown<Timestamp>,
    partition: u32,
    offset: u64,
    written_by: WriterBody<'a>,
    /// The payment after this event.
    state: StateBody,
}

/// Which part of paylog wrote it, and for whom: as the event itself tells.
#[derive(serde::Serialize, utoipa::ToSchema)]
#[schema(as = Writer)]
struct WriterBody<'a> {
    #[schema(value_type = text::Part)]
    part: &'static str,
    /// Who asked for the payment: over HTTP, or by the record at `<topic>/<partition>/<offset>`.
    #[schema(required)]
    request_id: Option<&'a str>,
    #[schema(required)]
    operator: Option<&'a str>,
}

#[derive(serde::Serialize, utoipa::ToSchema)]
#[schema(as = StateAfter)]
struct StateBody {
    #[schema(value_type = text::Status)]
    status: &'static str,
    #[schema(value_type = text::Phase)]
    phase: &'static str,
    version: u64,
    attempt: u32,
    /// From when on there is something to do for it; `null` if there is not.
    #[schema(value_type = Option<text::Time>, required)]
    due_at: Option<Shown<Timestamp>>,
}

impl<'a> HistoryBody<'a> {
    #[must_use]
    pub fn new(entry: &'a Entry, log: LogId) -> Self {
        Self {
            event: EventBody::new(entry, log),
            appended_at: Shown(entry.appended_at),
            partition: entry.position.partition.0,
            offset: entry.position.offset.0,
            written_by: WriterBody::of(&entry.event.data),
            state: StateBody::of(&entry.payment),
        }
    }
}

impl<'a> WriterBody<'a> {
    fn of(data: &'a EventData) -> Self {
        match data {
            EventData::PaymentInProgress(e) => {
                let part = if e.request_id.is_of_record() { "intake" } else { "api" };
                Self { part, request_id: Some(e.request_id.as_str()), operator: None }
            }
            EventData::PaymentResumed(e) => Self { part: "api", request_id: None, operator: Some(&e.operator) },
            _ => Self { part: "processor", request_id: None, operator: None },
        }
    }
}

impl StateBody {
    fn of(payment: &Payment) -> Self {
        Self {
            status: payment.status().name(),
            phase: payment.phase.name(),
            version: payment.version,
            attempt: payment.attempt,
            due_at: payment.due_at().map(Shown),
        }
    }
}
