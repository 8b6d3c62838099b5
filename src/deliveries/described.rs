//! The topic of outcomes, described.

use super::outcome::Document;
use crate::openapi::Channel;

#[must_use]
pub fn topic() -> Channel {
    Channel::topic(
        "deliveries",
        "{prefix}.deliveries",
        "What was told to whom",
        "What came of every attempt to tell a webhook endpoint or a browser; only paylog writes it.",
    )
    .sends("writeOutcomes")
    .json::<Document>("DeliveryOutcome", "What came of one attempt.")
}
