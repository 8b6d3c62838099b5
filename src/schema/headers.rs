//! The headers of a record: CloudEvents 1.0, Kafka protocol binding 3.2 (binary mode), and W3C trace context.

use crate::payment::Event;
use crate::schema::{Codec, EventSource, Kind};

/// `ce_source` where nobody has said it: of what is written in tests and benches, and was by versions before.
const SOURCE: &str = "/paylog/payments";

/// The headers that go with this event. `traceparent` is the one its cause came with (W3C Trace Context 3.2).
#[must_use]
pub fn headers(codec: &Codec, event: &Event, traceparent: Option<&str>) -> Vec<(String, Vec<u8>)> {
    let kind = Kind::of(&event.data);
    let fingerprint = data_encoding::HEXLOWER.encode(&codec.fingerprint(kind));
    let mut headers = vec![
        header("ce_specversion", "1.0"),
        header("ce_id", &event.event_id.to_string()),
        header("ce_type", kind.full_name()),
        header("ce_source", codec.source().map_or(SOURCE, EventSource::as_str)),
        header("ce_time", &event.occurred_at.to_string()),
        header("ce_subject", &event.payment_id.to_string()),
        header("ce_dataschema", &format!("urn:avro:{}:{fingerprint}", kind.full_name())),
        header("content-type", "application/avro"),
    ];
    headers.extend(traceparent.map(|context| header("traceparent", context)));
    headers
}

fn header(name: &str, value: &str) -> (String, Vec<u8>) {
    (name.to_owned(), value.as_bytes().to_vec())
}
