//! The records of `schemas/`, field by field, as structs that borrow from the bytes they are read from, and their
//! translation to and from the domain's events. What a record holds is checked here once more: a foreign hand with the
//! right to write could have put anything on the log.

use serde::{Deserialize, Serialize};
use serde_avro_fast::de::{DeserializerState, read::SliceRead};
use serde_avro_fast::ser::{SerError, SerializerConfig};

use crate::payment::event::{
    Decision, PaymentFailed, PaymentInProgress, PaymentOutcomeUnknown, PaymentParked, PaymentResumed,
    PaymentRetryScheduled, PaymentSuccessful, Private,
};
use crate::payment::request::{Fingerprint, PaymentMethod};
use crate::payment::{
    Currency, CustomerId, Event, EventData, EventId, Invalid, MerchantId, Money, PaymentId, RequestId, Timestamp,
};

/// Which record of `schemas/`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    InProgress,
    Successful,
    Failed,
    RetryScheduled,
    OutcomeUnknown,
    Parked,
    Resumed,
}

/// Every schema that was ever released for the topic `payments`, the newest of each kind last. Only ever grows.
pub(super) const RELEASED: &[(Kind, &str)] = &[
    (Kind::InProgress, include_str!("../../schemas/PaymentInProgress.avsc")),
    (Kind::Successful, include_str!("../../schemas/PaymentSuccessful.avsc")),
    (Kind::Failed, include_str!("../../schemas/PaymentFailed.avsc")),
    (Kind::RetryScheduled, include_str!("../../schemas/PaymentRetryScheduled.avsc")),
    (Kind::OutcomeUnknown, include_str!("../../schemas/PaymentOutcomeUnknown.avsc")),
    (Kind::Parked, include_str!("../../schemas/PaymentParked.avsc")),
    (Kind::Resumed, include_str!("../../schemas/PaymentResumed.avsc")),
];

impl Kind {
    pub const ALL: [Self; 7] = [
        Self::InProgress,
        Self::Successful,
        Self::Failed,
        Self::RetryScheduled,
        Self::OutcomeUnknown,
        Self::Parked,
        Self::Resumed,
    ];

    #[must_use]
    pub fn of(data: &EventData) -> Self {
        match data {
            EventData::PaymentInProgress(_) => Self::InProgress,
            EventData::PaymentSuccessful(_) => Self::Successful,
            EventData::PaymentFailed(_) => Self::Failed,
            EventData::PaymentRetryScheduled(_) => Self::RetryScheduled,
            EventData::PaymentOutcomeUnknown(_) => Self::OutcomeUnknown,
            EventData::PaymentParked(_) => Self::Parked,
            EventData::PaymentResumed(_) => Self::Resumed,
        }
    }

    /// With its namespace, as registries and CloudEvents name it.
    #[must_use]
    pub fn full_name(self) -> &'static str {
        match self {
            Self::InProgress => "paylog.PaymentInProgress",
            Self::Successful => "paylog.PaymentSuccessful",
            Self::Failed => "paylog.PaymentFailed",
            Self::RetryScheduled => "paylog.PaymentRetryScheduled",
            Self::OutcomeUnknown => "paylog.PaymentOutcomeUnknown",
            Self::Parked => "paylog.PaymentParked",
            Self::Resumed => "paylog.PaymentResumed",
        }
    }

    #[must_use]
    pub fn name(self) -> &'static str {
        &self.full_name()["paylog.".len()..]
    }
}

// === the records ===

macro_rules! record {
    ($name:ident { $($(#[$meta:meta])* $field:ident: $type:ty,)* }) => {
        #[derive(Serialize, Deserialize)]
        struct $name<'a> {
            event_id: &'a str,
            payment_id: &'a str,
            occurred_at: i64,
            $($(#[$meta])* $field: $type,)*
        }

        impl Enveloped for $name<'_> {
            fn envelope(&self) -> Envelope<'_> {
                (self.event_id, self.payment_id, self.occurred_at)
            }
        }
    };
}

/// What every record on `payments` has: event id, payment id, occurred at.
type Envelope<'a> = (&'a str, &'a str, i64);

trait Enveloped {
    fn envelope(&self) -> Envelope<'_>;
}

record!(InProgressRecord {
    merchant_id: &'a str,
    customer_id: &'a str,
    amount: i64,
    currency: &'a str,
    payment_method: &'a str,
    gateway: &'a str,
    gateway_request_version: i32,
    request_id: &'a str,
    #[serde(borrow, with = "serde_bytes")]
    fingerprint: &'a [u8],
    #[serde(borrow)]
    private: Option<PrivateRecord<'a>>,
});
record!(SuccessfulRecord { gateway: &'a str, gateway_reference: &'a str, attempt: i32, });
record!(FailedRecord { code: &'a str, message: &'a str, attempt: i32, });
record!(RetryScheduledRecord { attempt: i32, reason: &'a str, not_before: i64, });
record!(OutcomeUnknownRecord { attempt: i32, reason: &'a str, next_inquiry_at: i64, });
record!(ParkedRecord { reason: &'a str, detail: &'a str, });
record!(ResumedRecord {
    operator: &'a str,
    reason: &'a str,
    at_version: i64,
    #[serde(borrow)]
    decision: std::borrow::Cow<'a, str>,
    reference: Option<&'a str>,
    code: Option<&'a str>,
});

#[derive(Serialize, Deserialize)]
struct PrivateRecord<'a> {
    key_id: Option<&'a str>,
    #[serde(borrow, with = "serde_bytes")]
    body: &'a [u8],
}

// === from events ===

pub(super) fn write(event: &Event, out: &mut Vec<u8>, schema: &mut SerializerConfig<'_>) -> Result<(), SerError> {
    let (id, payment) = (event.event_id.to_string(), event.payment_id.to_string());
    let envelope = (id.as_str(), payment.as_str(), event.occurred_at.as_micros());
    let (event_id, payment_id, occurred_at) = envelope;
    match &event.data {
        EventData::PaymentInProgress(e) => write_in_progress(envelope, e, out, schema),
        EventData::PaymentSuccessful(e) => {
            let (gateway, gateway_reference, attempt) =
                (e.gateway.as_str(), e.gateway_reference.as_str(), int(e.attempt));
            put(
                &SuccessfulRecord { event_id, payment_id, occurred_at, gateway, gateway_reference, attempt },
                out,
                schema,
            )
        }
        EventData::PaymentFailed(e) => {
            let (code, message, attempt) = (e.code.as_str(), e.message.as_str(), int(e.attempt));
            put(&FailedRecord { event_id, payment_id, occurred_at, code, message, attempt }, out, schema)
        }
        EventData::PaymentRetryScheduled(e) => {
            let (attempt, reason, not_before) = (int(e.attempt), e.reason.as_str(), e.not_before.as_micros());
            put(&RetryScheduledRecord { event_id, payment_id, occurred_at, attempt, reason, not_before }, out, schema)
        }
        EventData::PaymentOutcomeUnknown(e) => {
            let (attempt, reason, next_inquiry_at) = (int(e.attempt), e.reason.as_str(), e.next_inquiry_at.as_micros());
            put(
                &OutcomeUnknownRecord { event_id, payment_id, occurred_at, attempt, reason, next_inquiry_at },
                out,
                schema,
            )
        }
        EventData::PaymentParked(e) => {
            let (reason, detail) = (e.reason.as_str(), e.detail.as_str());
            put(&ParkedRecord { event_id, payment_id, occurred_at, reason, detail }, out, schema)
        }
        EventData::PaymentResumed(e) => write_resumed(envelope, e, out, schema),
    }
}

fn write_in_progress(
    (event_id, payment_id, occurred_at): Envelope<'_>,
    e: &PaymentInProgress,
    out: &mut Vec<u8>,
    schema: &mut SerializerConfig<'_>,
) -> Result<(), SerError> {
    let currency = e.money.currency();
    let record = InProgressRecord {
        event_id,
        payment_id,
        occurred_at,
        merchant_id: e.merchant_id.as_str(),
        customer_id: e.customer_id.as_str(),
        amount: e.money.amount(),
        currency: currency.code(),
        payment_method: e.payment_method.as_str(),
        gateway: &e.gateway,
        gateway_request_version: int(e.gateway_request_version),
        request_id: e.request_id.as_str(),
        fingerprint: &e.fingerprint.0,
        private: e.private.as_ref().map(|p| PrivateRecord { key_id: p.key_id.as_deref(), body: &p.body }),
    };
    put(&record, out, schema)
}

fn write_resumed(
    (event_id, payment_id, occurred_at): Envelope<'_>,
    e: &PaymentResumed,
    out: &mut Vec<u8>,
    schema: &mut SerializerConfig<'_>,
) -> Result<(), SerError> {
    let (decision, reference, code) = match &e.decision {
        Decision::Inquire => ("inquire", None, None),
        Decision::SettleSuccessful { reference } => ("settle_successful", Some(reference.as_str()), None),
        Decision::SettleFailed { code } => ("settle_failed", None, Some(code.as_str())),
        Decision::ChargeAgain => ("charge_again", None, None),
    };
    let record = ResumedRecord {
        event_id,
        payment_id,
        occurred_at,
        operator: e.operator.as_str(),
        reason: e.reason.as_str(),
        at_version: i64::try_from(e.at_version).unwrap_or(i64::MAX),
        decision: decision.into(),
        reference,
        code,
    };
    put(&record, out, schema)
}

fn put<T: Serialize>(record: &T, out: &mut Vec<u8>, schema: &mut SerializerConfig<'_>) -> Result<(), SerError> {
    serde_avro_fast::to_datum(record, out, schema).map(|_| ())
}

/// Counts on the wire are Avro ints; ours never come near their end.
fn int(count: u32) -> i32 {
    i32::try_from(count).unwrap_or(i32::MAX)
}

// === to events ===

type State<'s, 'a> = DeserializerState<'s, SliceRead<'a>>;

/// Reads one datum of `kind`. The error says what is wrong, without repeating what was written.
pub(super) fn read(kind: Kind, state: &mut State<'_, '_>) -> Result<Event, String> {
    match kind {
        Kind::InProgress => get(state, |r: InProgressRecord| {
            Ok(EventData::PaymentInProgress(PaymentInProgress {
                merchant_id: MerchantId::parse(r.merchant_id).map_err(detail)?,
                customer_id: CustomerId::parse(r.customer_id).map_err(detail)?,
                money: Money::new(
                    r.amount,
                    Currency::recorded(r.currency).ok_or("currency is not three capital letters")?,
                )
                .map_err(detail)?,
                payment_method: PaymentMethod::recorded(r.payment_method),
                gateway: r.gateway.to_owned(),
                gateway_request_version: count(r.gateway_request_version)?,
                request_id: RequestId::parse(r.request_id).map_err(detail)?,
                fingerprint: Fingerprint(r.fingerprint.try_into().map_err(|_| "fingerprint is not 32 bytes")?),
                private: r.private.map(|p| Private { key_id: p.key_id.map(str::to_owned), body: p.body.to_owned() }),
            }))
        }),
        Kind::Successful => get(state, |r: SuccessfulRecord| {
            let (gateway, gateway_reference) = (r.gateway.to_owned(), r.gateway_reference.to_owned());
            Ok(EventData::PaymentSuccessful(PaymentSuccessful {
                gateway,
                gateway_reference,
                attempt: count(r.attempt)?,
            }))
        }),
        Kind::Failed => get(state, |r: FailedRecord| {
            let (code, message) = (r.code.to_owned(), r.message.to_owned());
            Ok(EventData::PaymentFailed(PaymentFailed { code, message, attempt: count(r.attempt)? }))
        }),
        Kind::RetryScheduled => get(state, |r: RetryScheduledRecord| {
            let (attempt, not_before) = (count(r.attempt)?, instant(r.not_before)?);
            let reason = r.reason.to_owned();
            Ok(EventData::PaymentRetryScheduled(PaymentRetryScheduled { attempt, reason, not_before }))
        }),
        Kind::OutcomeUnknown => get(state, |r: OutcomeUnknownRecord| {
            let (attempt, next_inquiry_at) = (count(r.attempt)?, instant(r.next_inquiry_at)?);
            let reason = r.reason.to_owned();
            Ok(EventData::PaymentOutcomeUnknown(PaymentOutcomeUnknown { attempt, reason, next_inquiry_at }))
        }),
        Kind::Parked => get(state, |r: ParkedRecord| {
            Ok(EventData::PaymentParked(PaymentParked { reason: r.reason.to_owned(), detail: r.detail.to_owned() }))
        }),
        Kind::Resumed => get(state, resumed),
    }
}

fn resumed(r: ResumedRecord) -> Result<EventData, String> {
    let decision = match (r.decision.as_ref(), r.reference, r.code) {
        ("inquire", None, None) => Decision::Inquire,
        ("settle_successful", Some(reference), None) => Decision::SettleSuccessful { reference: reference.to_owned() },
        ("settle_failed", None, Some(code)) => Decision::SettleFailed { code: code.to_owned() },
        ("charge_again", None, None) => Decision::ChargeAgain,
        _ => return Err("decision, reference and code do not fit together".to_owned()),
    };
    let at_version = u64::try_from(r.at_version).map_err(|_| "at_version is negative")?;
    let (operator, reason) = (r.operator.to_owned(), r.reason.to_owned());
    Ok(EventData::PaymentResumed(PaymentResumed { operator, reason, at_version, decision }))
}

fn get<'a, R: Deserialize<'a> + Enveloped>(
    state: &mut State<'_, 'a>,
    data: impl FnOnce(R) -> Result<EventData, String>,
) -> Result<Event, String> {
    // The library's own words may quote what was written.
    let record = R::deserialize(state.deserializer()).map_err(|_| "it is cut off or damaged")?;
    let (event_id, payment_id, occurred_at) = record.envelope();
    let event_id = EventId::parse(event_id).ok_or("event_id is not a UUID")?;
    let payment_id = PaymentId::parse(payment_id).ok_or("payment_id is not a payment's id")?;
    let occurred_at = instant(occurred_at)?;
    Ok(Event { event_id, payment_id, occurred_at, data: data(record)? })
}

fn instant(us: i64) -> Result<Timestamp, String> {
    Timestamp::from_micros(us).ok_or_else(|| "an instant is not between 2000 and 2100".to_owned())
}

fn count(count: i32) -> Result<u32, String> {
    u32::try_from(count).map_err(|_| "a count is negative".to_owned())
}

fn detail(invalid: Invalid) -> String {
    invalid.detail
}
