//! What webhook endpoints are told, described.

use super::message::{Body, DisabledData, Sequenced, TestData};
use crate::contract::{FrameBody, ThinBody};
use crate::openapi::Webhook;

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
        Webhook::new::<Body<'_, Sequenced<FrameBody<'_>>>>("paymentChanged", "A payment has changed", JSON, HEADERS),
        Webhook::new::<Body<'_, Sequenced<ThinBody>>>(
            "paymentChangedThin",
            "A payment has changed, to an endpoint with payload `thin`",
            JSON,
            HEADERS,
        ),
        Webhook::new::<Body<'_, DisabledData<'_>>>(
            "webhookEndpointDisabled",
            "Another endpoint of the merchant was disabled",
            JSON,
            HEADERS,
        ),
        Webhook::new::<Body<'_, TestData>>("webhookTest", "Somebody has asked for a test", JSON, HEADERS),
    ]
}
