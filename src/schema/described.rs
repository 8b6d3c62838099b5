//! The topics of events and of requests, described by the schemas as they were released.

use serde_json::{Value, json};

use super::requested;
use super::wire::{Kind, RELEASED};
use crate::openapi::{Channel, Kafka, text};

#[must_use]
pub fn topics() -> [Channel; 2] {
    [payments(), requests()]
}

fn payments() -> Channel {
    let of = Kafka {
        key: text("The payment's id: all its events are on one partition, by Java's default partitioner."),
        headers: cloud_event(),
    };
    let topic = Channel::topic(
        "payments",
        "{prefix}",
        "The event store",
        "Every event of every payment, for ever; only paylog writes it. A value is an Avro single object (0xC3 0x01 and the schema's \
         fingerprint) or the frame of a Schema Registry (0x00 and a 4-byte id). The versions of a payment are 1, 2, 3, with no gap, \
         over the events that have an effect; a reader folds them by the rules of DESIGN.md 6.",
    )
    .sends("writeEvents");
    Kind::ALL.into_iter().fold(topic, |topic, kind| topic.avro(kind.name(), newest(kind), &of))
}

fn requests() -> Channel {
    let headers = json!({
        "type": "object",
        "properties": {
            "idempotency-key": text("The idempotency key: it beats the record's key."),
            "paylog-merchant": text("The merchant; `default` if it is not there."),
        },
    });
    // The record says it itself: whoever took these for its key would pay twice.
    let of = Kafka {
        key: text("Anything: the idempotency key is the record's own field."),
        headers: json!({"type": "object", "description": "None counts: merchant and idempotency key are the record's own fields."}),
    };
    let json_request = json!({"type": "object", "description": "The body of `POST /v1/payments`: see `NewPayment` in `/openapi.json`."});
    Channel::topic(
        "requests",
        "{prefix}.requests",
        "Please pay",
        "Anybody may write here, in any language. Each record becomes one event, or one dead letter, in the transaction that moves past it.",
    )
    .receives("takeRequests")
    .avro("PaymentRequested", requested::RELEASED.last().copied().unwrap_or_default(), &of)
    .bytes(
        "PaymentRequestedJson",
        "The same in JSON: a value whose first byte is `{`. The record's key is the idempotency key, where no header names one.",
        "application/json",
        json_request,
        headers,
    )
}

fn newest(kind: Kind) -> &'static str {
    RELEASED.iter().rev().find(|(of, _)| *of == kind).map_or("", |(_, schema)| schema)
}

/// CloudEvents 1.0, Kafka protocol binding, binary mode.
fn cloud_event() -> Value {
    json!({
        "type": "object",
        "required": ["ce_specversion", "ce_id", "ce_type", "ce_source", "ce_time", "ce_subject", "ce_dataschema", "content-type"],
        "properties": {
            "ce_specversion": {"type": "string", "const": "1.0"},
            "ce_id": text("The event's id."),
            "ce_type": text("The record's full name, as `paylog.PaymentSuccessful`."),
            "ce_source": text("Where events come from."),
            "ce_time": text("When it occurred."),
            "ce_subject": text("The payment's id."),
            "ce_dataschema": text("Which schema the value is of."),
            "content-type": {"type": "string", "const": "application/avro"},
            "traceparent": text("The trace that its cause came with (W3C Trace Context)."),
        },
    })
}

#[cfg(test)]
mod tests {
    use super::{Kind, newest, topics};
    use crate::openapi::asyncapi;

    /// The document has what is released, to the last character of it.
    #[test]
    fn the_messages_of_the_topics_are_the_released_schemas() {
        let document = asyncapi(topics().into());
        let payload =
            |channel: &str, name: &str| document["channels"][channel]["messages"][name]["payload"]["schema"].clone();
        let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("schemas");
        for kind in Kind::ALL {
            let name = kind.name();
            let newest: serde_json::Value = serde_json::from_str(newest(kind)).unwrap();
            assert_eq!(payload("payments", name), newest, "{name}");
            assert_eq!(newest["name"], name);
        }
        let requested = std::fs::read_to_string(folder.join("PaymentRequested.avsc")).unwrap();
        let avro = &document["channels"]["requests"]["messages"]["PaymentRequested"];
        assert!(avro["headers"].get("properties").is_none(), "an Avro record names its key itself: {avro}");
        assert_eq!(
            payload("requests", "PaymentRequested"),
            serde_json::from_str::<serde_json::Value>(&requested).unwrap()
        );
    }
}
