//! What webhook endpoints are told, described.

use serde_json::{Value, json};

use super::message::{DisabledData, TestData};
use crate::contract::{EventBody, PaymentBody, ThinBody, text};
use crate::deliveries::outcome::{ENDPOINT_DISABLED, TEST};
use crate::openapi::{Schemas, Webhook};
use crate::payment::EventData;

/// Standard Webhooks 1.0.
const HEADERS: &[(&str, &str)] = &[
    ("webhook-id", "The same at every attempt: who has seen it has seen it."),
    (
        "webhook-timestamp",
        "When this attempt was signed, in seconds since 1970: what is older than five minutes is not to be believed.",
    ),
    (
        "webhook-signature",
        "`v1,` and an HMAC-SHA256 over id, timestamp and body, in base64; one for each secret that signs, with spaces between.",
    ),
];
const JSON: &str = "application/json";

#[must_use]
pub fn webhooks() -> Vec<Webhook> {
    vec![
        told("paymentChanged", "A payment has changed", &EventData::NAMES, |schemas| {
            let (event, payment) = (schemas.of::<EventBody<'_>>(), schemas.of::<PaymentBody<'_>>());
            sequenced(event, payment)
        }),
        told("paymentChangedThin", "The same, to an endpoint with payload `thin`", &EventData::NAMES, |schemas| {
            // Which knows the two that it is made of.
            schemas.of::<ThinBody>();
            let of = |name: &str| json!({"$ref": format!("#/components/schemas/{name}")});
            sequenced(of("ThinEvent"), of("ThinPayment"))
        }),
        in_a_cloud_event(),
        told("webhookEndpointDisabled", "An endpoint of the merchant was disabled", &[ENDPOINT_DISABLED], |schemas| {
            schemas.of::<DisabledData<'_>>()
        }),
        told("webhookTest", "Somebody has asked for a test", &[TEST], |schemas| schemas.of::<TestData>()),
    ]
}

fn told(name: &'static str, summary: &'static str, types: &[&str], data: impl Fn(&mut Schemas) -> Value) -> Webhook {
    let mut schemas = Schemas::default();
    let (time, data) = (schemas.of::<text::Time>(), data(&mut schemas));
    let schema = json!({
        "type": "object",
        "required": ["type", "timestamp", "data"],
        "properties": {"type": {"enum": types}, "timestamp": time, "data": data},
    });
    Webhook::new(name, summary, JSON, HEADERS, schemas, schema)
}

/// A CloudEvent 1.0, structured mode.
fn in_a_cloud_event() -> Webhook {
    let mut schemas = Schemas::default();
    let (time, event, payment) =
        (schemas.of::<text::Time>(), schemas.of::<EventBody<'_>>(), schemas.of::<PaymentBody<'_>>());
    let says = |text: &str| json!({"type": "string", "description": text});
    let schema = json!({
        "type": "object",
        "required": ["specversion", "id", "source", "type", "subject", "time", "datacontenttype", "data"],
        "properties": {
            "specversion": {"const": "1.0"},
            "id": says("The event's id."),
            "source": says("Where events come from: with `id` one event, wherever it is met."),
            "type": says("`paylog.` and what happened."),
            "subject": says("The payment's id; of what is about none, the endpoint's."),
            "time": time,
            "datacontenttype": {"const": "application/json"},
            "partitionkey": says("What stays in order: the payment."),
            "sequence": says("The payment's version, in twenty digits."),
            "data": {"anyOf": [
                sequenced(event, payment),
                schemas.of::<DisabledData<'_>>(),
                schemas.of::<TestData>(),
            ]},
        },
    });
    let summary = "What happened, to an endpoint with payload `cloudevents`";
    Webhook::new("cloudEvent", summary, "application/cloudevents+json", HEADERS, schemas, schema)
}

fn sequenced(event: Value, payment: Value) -> Value {
    let says = "The payment's version: 1, 2, 3, with no gap.";
    json!({
        "type": "object",
        "required": ["sequence", "event", "payment"],
        "properties": {
            "sequence": {"type": "integer", "minimum": 1, "description": says},
            "event": event,
            "payment": payment,
        },
    })
}
