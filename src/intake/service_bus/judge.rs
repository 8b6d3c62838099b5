//! From a message to what it asks for, or to why it is refused: the same judgement as of a record on the topic of requests
//! (`intake/request.rs`), with the message id in the place of the record's key and application properties in that of its
//! headers.

use std::time::Instant;

use super::super::request::{Asked, Refused, Unread, read, trace};
use crate::amqp::{Body, Received, Unusable};
use crate::journal::{Offset, Partition, Position, SourceRecord};
use crate::schema::RequestCodec;

/// Where the client libraries of Azure put the trace that a message is part of, in the form of `traceparent`.
const DIAGNOSTIC_ID: &str = "Diagnostic-Id";
const TRACEPARENT: &str = "traceparent";

/// What a message asks for, and the trace that it is part of.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Judged {
    pub asked: Asked,
    pub trace: Option<String>,
}

pub(super) fn judge(
    message: Result<Received, Unusable>,
    read_at: Instant,
    codec: &RequestCodec,
) -> Result<Judged, Unread> {
    let message = message.map_err(|why| {
        let code = if why == Unusable::TooLarge { "record_too_large" } else { "malformed_message" };
        Refused { code, detail: why.to_string() }
    })?;
    let record = as_record(message)?;
    let asked = read(&record, read_at, codec).map_err(in_words_of_messages)?;
    let trace = trace(&record).map(str::to_owned);
    Ok(Judged { asked, trace })
}

/// It stood at no place of a log: the position says nothing, and nobody asks for it.
fn as_record(message: Received) -> Result<SourceRecord, Refused> {
    let Received { id, properties: mut headers, body } = message;
    let value = match body {
        Body::Bytes(bytes) => Some(bytes),
        Body::Empty => None,
        Body::Structure => {
            return refuse("unsupported_body", "the body must be bytes or a text, not a structure of AMQP's");
        }
    };
    if !headers.iter().any(|(name, _)| name.eq_ignore_ascii_case(TRACEPARENT)) {
        let diagnostic = headers.iter_mut().find(|(name, _)| name == DIAGNOSTIC_ID);
        if let Some((name, _)) = diagnostic {
            TRACEPARENT.clone_into(name);
        }
    }
    let position = Position::new(Partition(0), Offset(0));
    Ok(SourceRecord { position, timestamp_us: 0, key: id, headers: Some(headers), value })
}

fn in_words_of_messages(unread: Unread) -> Unread {
    let Unread::Refused(refused) = unread else { return unread };
    let detail = match refused.code {
        "idempotency_key_missing" => {
            "a request needs an idempotency key: as the message id, or in the application property idempotency-key"
        }
        "empty_record" => "a request needs a body",
        _ => return refused.into(),
    };
    Refused { detail: detail.to_owned(), ..refused }.into()
}

fn refuse<T>(code: &'static str, detail: &str) -> Result<T, Refused> {
    Err(Refused { code, detail: detail.to_owned() })
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::{Judged, Refused, Unread, judge};
    use crate::amqp::{Body, Received, Unusable};
    use crate::payment::{IdempotencyKey, MerchantId, PaymentId};
    use crate::schema::Codec;

    const GOOD: &str = r#"{"amount":1999,"currency":"EUR","customer_id":"cus_42","payment_method":"pm_card_visa"}"#;

    fn received(id: Option<&str>, properties: &[(&str, Option<&str>)], body: &str) -> Received {
        let bytes = |text: &str| text.as_bytes().to_vec();
        let properties = properties.iter().map(|(name, value)| ((*name).to_owned(), value.map(bytes))).collect();
        Received { id: id.map(bytes), properties, body: Body::Bytes(bytes(body)) }
    }

    fn message(id: Option<&str>, properties: &[(&str, Option<&str>)], body: &str) -> Result<Received, Unusable> {
        Ok(received(id, properties, body))
    }

    fn judged(message: Result<Received, Unusable>) -> Result<Judged, Refused> {
        let codec = Codec::new().unwrap().requests();
        judge(message, Instant::now(), &codec).map_err(|unread| match unread {
            Unread::Refused(refused) => refused,
            Unread::NotRegistered(id) => panic!("it waits for schema {id}"),
        })
    }

    fn id(merchant: &str, key: &str) -> PaymentId {
        PaymentId::derive(&MerchantId::parse(merchant).unwrap(), &IdempotencyKey::parse(key).unwrap())
    }

    #[test]
    fn the_message_id_is_the_key_and_properties_are_headers() {
        let plain = judged(message(Some("order-1"), &[], GOOD)).unwrap();
        assert_eq!((plain.asked.id, plain.trace), (id("default", "order-1"), None));
        let trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        let named = [("paylog-merchant", Some("acme")), ("Diagnostic-Id", Some(trace))];
        let named = judged(message(Some("order-1"), &named, GOOD)).unwrap();
        assert_eq!((named.asked.id, named.trace.as_deref()), (id("acme", "order-1"), Some(trace)));
        let keyed = judged(message(Some("random"), &[("Idempotency-Key", Some("order-1"))], GOOD)).unwrap();
        assert_eq!(keyed.asked.id, id("default", "order-1"), "the property beats the message id");
    }

    #[test]
    fn what_is_refused_has_its_own_code() {
        let code = |message| judged(message).unwrap_err().code;
        assert_eq!(code(message(None, &[], GOOD)), "idempotency_key_missing");
        assert_eq!(code(message(Some(""), &[], GOOD)), "invalid_idempotency_key");
        assert_eq!(code(message(Some("two words"), &[], GOOD)), "invalid_idempotency_key");
        assert_eq!(code(message(Some("k"), &[("paylog-merchant", None)], GOOD)), "invalid_merchant_id");
        assert_eq!(code(message(Some("k"), &[], &GOOD.replace("1999", "0"))), "amount_zero");
        assert_eq!(code(message(Some("k"), &[], "hello")), "unknown_format");
        assert_eq!(code(message(Some("k"), &[], &"x".repeat(70_000))), "record_too_large");
        assert_eq!(code(message(Some("k"), &[], "")), "empty_record");
        assert_eq!(code(Ok(Received { body: Body::Empty, ..received(Some("k"), &[], "") })), "empty_record");
        assert_eq!(code(Ok(Received { body: Body::Structure, ..received(Some("k"), &[], "") })), "unsupported_body");
        assert_eq!(code(Err(Unusable::NoMessage)), "malformed_message");
        assert_eq!(code(Err(Unusable::TooDeep)), "malformed_message");
        assert_eq!(code(Err(Unusable::TooLarge)), "record_too_large");
    }
}
