//! The lane whose effect is a charge: what to ask of the gateway for a payment in each phase, and which event its answer
//! makes. It decides; the lane records.

mod backoff;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::gateway::{Charge, Gateway, Inquiry, Outcome};
use crate::lane::{Start, Try, Verdict, Worker};
use crate::payment::event::{
    Decision, FAILURE_MESSAGE_MAX, PaymentFailed, PaymentOutcomeUnknown, PaymentRetryScheduled, PaymentSuccessful,
};
use crate::payment::{EventData, MerchantId, Payment, Phase, Timestamp};

pub use backoff::Backoff;

/// A gateway that has not answered by then has lost its answer.
const GATEWAY_DEADLINE: Duration = Duration::from_secs(30);
/// Retry and unknown events are recorded when the phase changes, and then at most this often.
const RECORD_EVERY: Duration = Duration::from_secs(15 * 60);
/// How long after a lost answer the gateway is asked for it.
const INQUIRE_AFTER: Duration = Duration::from_secs(5);
/// A payment for a gateway that is not configured here is looked at again after this.
const NOT_CONFIGURED_PAUSE: Duration = Duration::from_secs(30);

/// Calls under way at once.
#[derive(Clone, Copy, Debug)]
pub struct Bulkheads {
    pub gateway_max: usize,
    pub merchant_max: usize,
}

impl Default for Bulkheads {
    fn default() -> Self {
        Self { gateway_max: 1024, merchant_max: 64 }
    }
}

pub struct Processor {
    gateway: Arc<dyn Gateway>,
    bulkheads: Bulkheads,
    backoff: Backoff,
    calls: Arc<Semaphore>,
    /// One for each merchant that has a call under way.
    merchants: Mutex<HashMap<MerchantId, Arc<Semaphore>>>,
}

/// Room for one call, held while it is under way.
struct Permits {
    _gateway: OwnedSemaphorePermit,
    _merchant: OwnedSemaphorePermit,
}

impl Processor {
    #[must_use]
    pub fn new(gateway: Arc<dyn Gateway>, bulkheads: Bulkheads, backoff: Backoff) -> Self {
        let calls = Arc::new(Semaphore::new(bulkheads.gateway_max));
        Self { gateway, bulkheads, backoff, calls, merchants: Mutex::default() }
    }

    fn permits(&self, merchant: &MerchantId) -> Option<Permits> {
        let gateway = Arc::clone(&self.calls).try_acquire_owned().ok()?;
        let mut merchants = self.merchants.lock().unwrap_or_else(PoisonError::into_inner);
        let max = self.bulkheads.merchant_max;
        if merchants.len() > self.bulkheads.gateway_max {
            merchants.retain(|_, calls| calls.available_permits() < max);
        }
        let calls = merchants.entry(merchant.clone()).or_insert_with(|| Arc::new(Semaphore::new(max)));
        let merchant = Arc::clone(calls).try_acquire_owned().ok()?;
        Some(Permits { _gateway: gateway, _merchant: merchant })
    }

    fn charge(&self, payment: &Payment, this: Try, permits: Permits) -> Start {
        let answer = self.gateway.charge(request(payment, this));
        let judge = Judge::new(self, payment, this);
        Start::Running(Box::pin(async move {
            let lost = |_| Outcome::Unknown { reason: "the gateway did not answer in time".to_owned() };
            let outcome = tokio::time::timeout(GATEWAY_DEADLINE, answer).await.unwrap_or_else(lost);
            drop(permits);
            judge.charged(outcome)
        }))
    }

    fn inquire(&self, payment: &Payment, this: Try, permits: Permits) -> Start {
        let answer = self.gateway.inquire(request(payment, this));
        let judge = Judge::new(self, payment, this);
        Start::Running(Box::pin(async move {
            let lost = |_| Inquiry::Unknown { reason: "the gateway did not answer in time".to_owned() };
            let answer = tokio::time::timeout(GATEWAY_DEADLINE, answer).await.unwrap_or_else(lost);
            drop(permits);
            judge.inquired(answer)
        }))
    }
}

impl Worker for Processor {
    fn start(&self, payment: &Payment, this: Try) -> Start {
        if let Phase::Processing { decision: Some(decision), .. } = &payment.phase
            && let Some(end) = settled(decision, payment, this)
        {
            return Start::Running(Box::pin(std::future::ready(record(end))));
        }
        if payment.initiation.gateway != self.gateway.name() {
            return Start::NotBefore(Timestamp::now().plus(NOT_CONFIGURED_PAUSE)); // held, never swapped
        }
        let Some(permits) = self.permits(&payment.initiation.merchant_id) else { return Start::Held };
        match &payment.phase {
            Phase::Unknown { .. } | Phase::Processing { decision: Some(Decision::Inquire), .. } => {
                self.inquire(payment, this, permits)
            }
            _ => self.charge(payment, this, permits),
        }
    }
}

fn record(data: EventData) -> Verdict {
    Verdict::Record(Box::new(data))
}

/// The same at every try, but for the number of the try, which no provider is told.
fn request(payment: &Payment, this: Try) -> Charge {
    let initiation = &payment.initiation;
    Charge {
        key: payment.id,
        merchant: initiation.merchant_id.clone(),
        money: initiation.money,
        payment_method: initiation.payment_method.clone(),
        request_version: initiation.gateway_request_version,
        since: payment.created_at.min(payment.window_from),
        attempt: this.attempt,
    }
}

/// What an operator has decided needs no gateway.
fn settled(decision: &Decision, payment: &Payment, this: Try) -> Option<EventData> {
    let attempt = this.attempt;
    match decision {
        Decision::SettleSuccessful { reference } => Some(EventData::PaymentSuccessful(PaymentSuccessful {
            gateway: payment.initiation.gateway.clone(),
            gateway_reference: reference.clone(),
            attempt,
        })),
        Decision::SettleFailed { code } => {
            let message = "refused by an operator".to_owned();
            Some(EventData::PaymentFailed(PaymentFailed { code: code.clone(), message, attempt }))
        }
        Decision::Inquire | Decision::ChargeAgain => None,
    }
}

/// From the gateway's answer to the event. Only a definitive answer ends a payment.
struct Judge {
    gateway: &'static str,
    backoff: Backoff,
    attempt: u32,
    /// A try that changes no phase is recorded only if the last record of it is old, or memory is full.
    quiet: bool,
    was: &'static str,
}

impl Judge {
    fn new(processor: &Processor, payment: &Payment, this: Try) -> Self {
        let recent = Timestamp::now().since(payment.updated_at) < RECORD_EVERY;
        Self {
            gateway: processor.gateway.name(),
            backoff: processor.backoff,
            attempt: this.attempt,
            quiet: recent && this.may_defer,
            was: payment.phase.name(),
        }
    }

    fn charged(self, outcome: Outcome) -> Verdict {
        match outcome {
            Outcome::Succeeded(receipt) => self.succeeded(receipt.reference),
            Outcome::Declined { code, message } => self.declined(code, &message),
            Outcome::NotSent { reason } => self.retry(reason, None),
            Outcome::NotExecuted { reason, retry_after } => self.retry(reason, retry_after),
            Outcome::Unknown { reason } => self.unknown(reason),
        }
    }

    fn inquired(self, answer: Inquiry) -> Verdict {
        match answer {
            Inquiry::Succeeded(receipt) => self.succeeded(receipt.reference),
            Inquiry::Declined { code, message } => self.declined(code, &message),
            Inquiry::NotFound => self.unknown("the gateway does not know the payment".to_owned()),
            Inquiry::StillRunning => self.unknown("the gateway is still at it".to_owned()),
            Inquiry::Unknown { reason } => self.unknown(reason),
        }
    }

    fn succeeded(self, gateway_reference: String) -> Verdict {
        let (gateway, attempt) = (self.gateway.to_owned(), self.attempt);
        record(EventData::PaymentSuccessful(PaymentSuccessful { gateway, gateway_reference, attempt }))
    }

    fn declined(self, code: String, message: &str) -> Verdict {
        let end = message.floor_char_boundary(FAILURE_MESSAGE_MAX);
        let (message, attempt) = (message[..end].to_owned(), self.attempt);
        record(EventData::PaymentFailed(PaymentFailed { code, message, attempt }))
    }

    fn retry(self, reason: String, retry_after: Option<Duration>) -> Verdict {
        let wait = self.backoff.pause(self.attempt).max(retry_after.unwrap_or_default());
        let (attempt, not_before) = (self.attempt, Timestamp::now().plus(wait));
        if self.quiet && self.was == "retrying" {
            return Verdict::TryAgain { at: not_before };
        }
        record(EventData::PaymentRetryScheduled(PaymentRetryScheduled { attempt, reason, not_before }))
    }

    fn unknown(self, reason: String) -> Verdict {
        let (attempt, next_inquiry_at) = (self.attempt, Timestamp::now().plus(INQUIRE_AFTER));
        if self.quiet && self.was == "unknown" {
            return Verdict::TryAgain { at: next_inquiry_at };
        }
        record(EventData::PaymentOutcomeUnknown(PaymentOutcomeUnknown { attempt, reason, next_inquiry_at }))
    }
}
