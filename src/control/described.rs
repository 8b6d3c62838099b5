//! The topic of decisions, described as far as it is anybody else's.

use serde_json::json;

use crate::openapi::{Channel, text};

#[must_use]
pub fn topic() -> Channel {
    let payload = json!({
        "type": "object",
        "required": ["type", "entity", "version"],
        "properties": {
            "type": text("What was decided."),
            "entity": text("About what."),
            "version": {"type": "integer", "minimum": 1, "description": "Which it makes of it: the first to make it wins."},
        },
    });
    Channel::topic(
        "control",
        "{prefix}.control",
        "Decisions about the installation",
        "Webhook endpoints, push subscriptions, keys, jobs and rejected records; secrets are encrypted. paylog's own: what it has \
         besides these members may change.",
    )
    .sends("writeDecisions")
    .bytes("Decision", "One decision.", "application/json", payload, json!({"type": "object"}))
}
