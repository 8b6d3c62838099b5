//! From a record that anybody may have written to what it asks for, or to why it is refused. Pure, and as strict as the API:
//! it is the same judgement (`payment/request.rs`).

use std::time::Instant;

use crate::journal::SourceRecord;
use crate::payment::request::Fingerprint;
use crate::payment::{IdempotencyKey, Invalid, MerchantId, NewPayment, PaymentId};
use crate::schema::{RECORD_MAX, RequestCodec, Unreadable};

const IDEMPOTENCY_KEY: &str = "idempotency-key";
const MERCHANT: &str = "paylog-merchant";
const TRACEPARENT: &str = "traceparent";

/// What was asked for, checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Asked {
    pub id: PaymentId,
    pub merchant: MerchantId,
    pub payment: NewPayment,
    pub fingerprint: Fingerprint,
}

/// Why a record is a dead letter. `code` is stable and for programs; `detail` is for people and repeats nothing of the
/// record: it may hold a card number.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Refused {
    pub code: &'static str,
    pub detail: String,
}

/// Why a record is not a request, or not yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Unread {
    Refused(Refused),
    /// The schema registry has not said what this id is: nobody is refused for that.
    NotRegistered(u32),
}

/// What the record, which was read at `read_at`, asks for. JSON if its first byte is `{`, else Avro.
pub(super) fn read(record: &SourceRecord, read_at: Instant, codec: &RequestCodec) -> Result<Asked, Unread> {
    if record.bytes() > RECORD_MAX {
        return refuse(
            "record_too_large",
            format!("a request is {RECORD_MAX} bytes at most, key and headers included"),
        );
    }
    if record.headers.is_none() {
        return refuse(
            "malformed_headers",
            "its headers cannot be read, so that nobody knows whom they name; they are not repeated here",
        );
    }
    let (merchant, key, payment) = match record.value.as_deref() {
        None | Some([]) => return refuse("empty_record", "a request needs a value"),
        Some(body @ [b'{', ..]) => (merchant(record)?, key(record)?, NewPayment::parse(body)?),
        Some(bytes) => {
            let requested = codec.decode(bytes, read_at)?;
            let merchant = MerchantId::of_request(&requested.merchant_id)?;
            let key = IdempotencyKey::parse(&requested.idempotency_key)?;
            (merchant, key, NewPayment::check(requested.payment)?)
        }
    };
    let fingerprint = payment.fingerprint(&merchant);
    Ok(Asked { id: PaymentId::derive(&merchant, &key), merchant, payment, fingerprint })
}

/// The trace that the record is part of, if it says so once.
pub(super) fn trace(record: &SourceRecord) -> Option<&str> {
    let mut values = values(record, TRACEPARENT);
    match (values.next(), values.next()) {
        (Some(value), None) => std::str::from_utf8(value).ok(),
        _ => None,
    }
}

fn merchant(record: &SourceRecord) -> Result<MerchantId, Refused> {
    match one(record, MERCHANT, "merchant_repeated")? {
        None => Ok(MerchantId::default()),
        // What is not visible ASCII is refused by the parser, with its reason.
        Some(name) => Ok(MerchantId::of_request(std::str::from_utf8(name).unwrap_or_default())?),
    }
}

/// From the header, which beats the record's key.
fn key(record: &SourceRecord) -> Result<IdempotencyKey, Refused> {
    let key = one(record, IDEMPOTENCY_KEY, "idempotency_key_repeated")?.or(record.key.as_deref());
    match key {
        None => {
            let detail =
                format!("a request needs an idempotency key: in the header {IDEMPOTENCY_KEY} or as the record's key");
            refuse("idempotency_key_missing", detail)
        }
        Some(key) => Ok(IdempotencyKey::parse(std::str::from_utf8(key).unwrap_or_default())?),
    }
}

/// The value of a header that may be there once. A missing value is an empty one.
fn one<'r>(record: &'r SourceRecord, name: &str, repeated: &'static str) -> Result<Option<&'r [u8]>, Refused> {
    let mut values = values(record, name);
    match (values.next(), values.next()) {
        (_, Some(_)) => refuse(repeated, format!("there must be one header {name}")),
        (value, None) => Ok(value),
    }
}

/// Whatever the case of the name, as in HTTP: a key in `Idempotency-Key` that was overlooked would be another payment.
fn values<'r>(record: &'r SourceRecord, name: &str) -> impl Iterator<Item = &'r [u8]> {
    let named = record.headers().iter().filter(move |(other, _)| other.eq_ignore_ascii_case(name));
    named.map(|(_, value)| value.as_deref().unwrap_or_default())
}

fn refuse<T, E: From<Refused>>(code: &'static str, detail: impl Into<String>) -> Result<T, E> {
    Err(Refused { code, detail: detail.into() }.into())
}

impl From<Invalid> for Refused {
    fn from(invalid: Invalid) -> Self {
        Self { code: invalid.code, detail: invalid.detail }
    }
}

impl From<Refused> for Unread {
    fn from(refused: Refused) -> Self {
        Self::Refused(refused)
    }
}

impl From<Invalid> for Unread {
    fn from(invalid: Invalid) -> Self {
        Self::Refused(invalid.into())
    }
}

impl From<Unreadable> for Unread {
    fn from(unreadable: Unreadable) -> Self {
        let code = match unreadable {
            Unreadable::NotRegistered(id) => return Self::NotRegistered(id),
            Unreadable::UnknownFormat => "unknown_format",
            Unreadable::UnknownSchema | Unreadable::NoRegistry | Unreadable::NoSuchId(_) => "unknown_schema",
            Unreadable::OtherSchema(..) => "other_schema",
            Unreadable::RefusedId(_) => "refused_schema",
            Unreadable::Invalid(_) => "malformed_avro",
        };
        Self::Refused(Refused { code, detail: unreadable.to_string() })
    }
}

#[cfg(test)]
#[path = "request_tests.rs"]
mod tests;
