//! One event of each kind, for tests.

use std::collections::BTreeMap;

use crate::payment::event::{
    Decision, PaymentFailed, PaymentInProgress, PaymentOutcomeUnknown, PaymentParked, PaymentResumed,
    PaymentRetryScheduled, PaymentSuccessful, Private,
};
use crate::payment::{
    Event, EventData, EventId, IdempotencyKey, MerchantId, NewPayment, PaymentId, RequestId, Timestamp,
};

const BODY: &[u8] = br#"{"amount":1999,"currency":"EUR","customer_id":"cus_42","payment_method":"pm_card_visa"}"#;

pub(crate) fn at(seconds: i64) -> Timestamp {
    Timestamp::from_micros((1_764_000_000 + seconds) * 1_000_000).unwrap()
}

pub(crate) fn payment_id(key: &str) -> PaymentId {
    PaymentId::derive(&MerchantId::default(), &IdempotencyKey::parse(key).unwrap())
}

pub(crate) fn event(seconds: i64, data: EventData) -> Event {
    let event_id = EventId::parse("019ab5a8-0000-7000-8000-000000000001").unwrap();
    Event { event_id, payment_id: payment_id("order-1001"), occurred_at: at(seconds), data }
}

pub(crate) fn in_progress(amount: i64) -> EventData {
    let merchant_id = MerchantId::default();
    let mut request = NewPayment::parse(BODY).unwrap();
    request.money = crate::payment::Money::new(amount, request.money.currency()).unwrap();
    let fingerprint = request.fingerprint(&merchant_id);
    let metadata = BTreeMap::from([("order".to_owned(), "1001".to_owned())]);
    EventData::PaymentInProgress(PaymentInProgress {
        merchant_id,
        customer_id: request.customer_id,
        money: request.money,
        payment_method: request.payment_method,
        gateway: "simulator".to_owned(),
        gateway_request_version: 1,
        request_id: RequestId::parse("req_1").unwrap(),
        fingerprint,
        private: Private::plain(Some("Zwei Bücher".to_owned()), Some(metadata)),
    })
}

pub(crate) fn successful(reference: &str) -> EventData {
    let (gateway, gateway_reference) = ("simulator".to_owned(), reference.to_owned());
    EventData::PaymentSuccessful(PaymentSuccessful { gateway, gateway_reference, attempt: 2 })
}

pub(crate) fn failed(code: &str) -> EventData {
    let (code, message) = (code.to_owned(), "the card was declined".to_owned());
    EventData::PaymentFailed(PaymentFailed { code, message, attempt: 1 })
}

pub(crate) fn retry(attempt: u32) -> EventData {
    let reason = "connection refused".to_owned();
    EventData::PaymentRetryScheduled(PaymentRetryScheduled { attempt, reason, not_before: at(60) })
}

pub(crate) fn unknown(attempt: u32) -> EventData {
    let reason = "timeout".to_owned();
    EventData::PaymentOutcomeUnknown(PaymentOutcomeUnknown { attempt, reason, next_inquiry_at: at(90) })
}

pub(crate) fn parked() -> EventData {
    EventData::PaymentParked(PaymentParked { reason: "unknown_too_long".to_owned(), detail: "15 minutes".to_owned() })
}

pub(crate) fn resumed(at_version: u64, decision: Decision) -> EventData {
    let (operator, reason) = ("ada".to_owned(), "seen at the provider".to_owned());
    EventData::PaymentResumed(PaymentResumed { operator, reason, at_version, decision })
}

/// At least one of every kind, and every decision.
pub(crate) fn all() -> Vec<EventData> {
    vec![
        in_progress(1999),
        in_progress(2000),
        successful("ch_1"),
        successful("ch_2"),
        failed("card_declined"),
        failed("expired_card"),
        retry(1),
        unknown(2),
        parked(),
        resumed(2, Decision::Inquire),
        resumed(3, Decision::ChargeAgain),
        resumed(2, Decision::SettleSuccessful { reference: "ch_9".to_owned() }),
        resumed(2, Decision::SettleFailed { code: "refused_by_operator".to_owned() }),
    ]
}
