//! From a gateway's answer to the event it makes. Only a definitive answer about this very payment ends it.

use std::time::Duration;

use super::plan::park;
use super::{Backoff, RECORD_EVERY};
use crate::clock::Clocks;
use crate::gateway::{Charge, Receipt};
use crate::lane::{Memory, Try, Verdict};
use crate::payment::event::{
    FAILURE_MESSAGE_MAX, PaymentFailed, PaymentOutcomeUnknown, PaymentRetryScheduled, PaymentSuccessful,
};
use crate::payment::{EventData, Payment, PaymentId, Phase, Timestamp};

/// The longest `reason` of an event, in bytes.
const REASON_MAX: usize = 256;
/// A gateway that asks for more patience than this is asked again all the same.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(60 * 60);

/// Judges the answers to one try.
pub(super) struct Judge {
    pub gateway: &'static str,
    pub backoff: Backoff,
    pub clocks: Clocks,
    pub unknown_park_after: Duration,
    pub id: PaymentId,
    pub attempt: u32,
    /// Kept by the lane until the next try, unless something is recorded.
    pub memory: Memory,
    may_defer: bool,
    updated_at: Timestamp,
    was: Was,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Was {
    Processing,
    Retrying,
    Unknown { since: Timestamp },
}

impl Judge {
    pub fn new(
        (gateway, backoff, unknown_park_after): (&'static str, Backoff, Duration),
        clocks: Clocks,
        payment: &Payment,
        this: &Try,
    ) -> Self {
        let was = match payment.phase {
            Phase::Retrying { .. } => Was::Retrying,
            Phase::Unknown { since, .. } => Was::Unknown { since },
            _ => Was::Processing,
        };
        let recorded = match payment.phase {
            Phase::Retrying { not_before: at, .. } | Phase::Unknown { next_inquiry_at: at, .. } => {
                Some(at.since(payment.updated_at))
            }
            _ => None,
        };
        let memory = Memory { pause: this.memory.pause.or(recorded), ..this.memory };
        let (id, attempt, may_defer, updated_at) = (payment.id, this.attempt, this.may_defer, payment.updated_at);
        Self { gateway, backoff, clocks, unknown_park_after, id, attempt, memory, may_defer, updated_at, was }
    }

    pub fn succeeded(self, receipt: Receipt, charge: &Charge) -> Verdict {
        if let Some(detail) = receipt.mismatch(charge) {
            let found = format!("{} at the gateway: {detail}", receipt.reference);
            return record(park("mismatch", short(&found, REASON_MAX)));
        }
        let (gateway, attempt) = (self.gateway.to_owned(), self.attempt);
        record(EventData::PaymentSuccessful(PaymentSuccessful {
            gateway,
            gateway_reference: receipt.reference,
            attempt,
        }))
    }

    pub fn declined(self, code: &str, message: &str) -> Verdict {
        let (code, message) = (short(code, REASON_MAX).to_owned(), short(message, FAILURE_MESSAGE_MAX).to_owned());
        record(EventData::PaymentFailed(PaymentFailed { code, message, attempt: self.attempt }))
    }

    /// This try certainly did nothing. What an earlier one did may still be unknown, and then it stays so.
    pub fn nothing_done(self, reason: &str, retry_after: Option<Duration>) -> Verdict {
        if matches!(self.was, Was::Unknown { .. }) {
            return self.unknown(reason, retry_after);
        }
        let pause = self.pause(retry_after);
        let (attempt, not_before) = (self.attempt, self.clocks.now().plus(pause));
        if self.was == Was::Retrying && self.is_quiet() {
            return self.later(not_before, pause);
        }
        let reason = short(reason, REASON_MAX).to_owned();
        record(EventData::PaymentRetryScheduled(PaymentRetryScheduled { attempt, reason, not_before }))
    }

    /// Nobody knows what became of it. Asked again and again, and shown to a person after a while; never a failure.
    pub fn unknown(self, reason: &str, retry_after: Option<Duration>) -> Verdict {
        let now = self.clocks.now();
        if let Was::Unknown { since } = self.was
            && now.since(since) >= self.unknown_park_after
        {
            let text = format!("unknown for {} s: {}", now.since(since).as_secs(), short(reason, REASON_MAX));
            return record(park("unknown_too_long", &text));
        }
        let pause = self.pause(retry_after);
        let (attempt, next_inquiry_at) = (self.attempt, now.plus(pause));
        if matches!(self.was, Was::Unknown { .. }) && self.is_quiet() {
            return self.later(next_inquiry_at, pause);
        }
        let reason = short(reason, REASON_MAX).to_owned();
        record(EventData::PaymentOutcomeUnknown(PaymentOutcomeUnknown { attempt, reason, next_inquiry_at }))
    }

    /// Nothing was learnt that is worth a record: again at `at`.
    pub fn again(self, at: Timestamp, reason: &str) -> Verdict {
        if !self.may_defer {
            let wait = at.since(self.clocks.now());
            return self.nothing_done(reason, Some(wait));
        }
        let pause = self.memory.pause.unwrap_or_default();
        self.later(at, pause)
    }

    /// Nothing may be done but to ask once more, less and less often.
    pub fn held(self, reason: &str) -> Verdict {
        let pause = self.pause(None);
        if !self.may_defer {
            return self.nothing_done(reason, Some(pause));
        }
        let at = self.clocks.now().plus(pause);
        self.later(at, pause)
    }

    fn later(self, at: Timestamp, pause: Duration) -> Verdict {
        Verdict::TryAgain { at, memory: Memory { pause: Some(pause), ..self.memory } }
    }

    fn pause(&self, retry_after: Option<Duration>) -> Duration {
        let asked = retry_after.unwrap_or_default().min(RETRY_AFTER_MAX);
        self.backoff.pause(self.id, self.attempt, self.memory.pause).max(asked)
    }

    /// A try that changes no phase is recorded only if the last record of it is old, or memory is full.
    fn is_quiet(&self) -> bool {
        self.may_defer && self.clocks.now().since(self.updated_at) < RECORD_EVERY
    }
}

fn record(data: EventData) -> Verdict {
    Verdict::Record(Box::new(data))
}

fn short(text: &str, max: usize) -> &str {
    &text[..text.floor_char_boundary(max)]
}
