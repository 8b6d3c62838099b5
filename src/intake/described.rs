//! The topic of dead letters, described.

use serde_json::json;

use super::dead_letter::{DETAIL, LENGTH, REASON, REFUSED_AT, SHA256, SOURCE};
use crate::openapi::{Channel, text};

#[must_use]
pub fn dead_letters() -> Channel {
    let headers = json!({
        "type": "object",
        "required": [REASON, DETAIL, SOURCE, REFUSED_AT],
        "properties": {
            REASON: text("The code of the refusal, as HTTP answers it."),
            DETAIL: text("Why, for people; it repeats nothing of the record."),
            SOURCE: text("`<topic>/<partition>/<offset>`"),
            REFUSED_AT: text("When, by intake's clock."),
            LENGTH: text("How long the value was, of one that did not fit."),
            SHA256: text("Of the whole value, of one that did not fit."),
        },
    });
    let payload = json!({"description": "The record's own bytes, or its first 64 KiB."});
    Channel::topic(
        "deadLetter",
        "{prefix}.dead-letter",
        "What was refused",
        "Records of the topic of requests that made no payment, as they came. They may hold what was refused for being there.",
    )
    .sends("writeDeadLetters")
    .bytes("DeadLetter", "A record that was refused.", "application/octet-stream", payload, headers)
}
