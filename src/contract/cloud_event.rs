//! A CloudEvent 1.0 as JSON (structured mode), of what somebody is told. Its `id` and `source` are the same wherever and however
//! often it is told, so that whoever has seen it has seen it all.

use std::fmt;

/// Before the name of an event: as in its schema, and in `ce_type` on the log.
const NAMESPACE: &str = "paylog";

/// In `content-type` of a body that is one of them.
pub const CLOUD_EVENT: &str = "application/cloudevents+json; charset=UTF-8";
/// And of one that is an array of them.
pub const CLOUD_EVENT_BATCH: &str = "application/cloudevents-batch+json; charset=UTF-8";

#[derive(serde::Serialize)]
pub struct CloudEvent<'a, D> {
    specversion: &'static str,
    id: &'a str,
    source: &'a str,
    #[serde(rename = "type")]
    kind: String,
    subject: &'a str,
    time: &'a str,
    datacontenttype: &'static str,
    /// What is to stay in order: the payment (extension `partitioning`).
    #[serde(skip_serializing_if = "Option::is_none")]
    partitionkey: Option<&'a str>,
    /// The payment's version, in as many digits as any has, so that it sorts as text (extension `sequence`).
    #[serde(skip_serializing_if = "Option::is_none")]
    sequence: Option<String>,
    data: D,
}

impl<'a, D> CloudEvent<'a, D> {
    #[must_use]
    pub fn new(source: &'a str, id: &'a str, name: &str, subject: &'a str, time: &'a str, data: D) -> Self {
        Self {
            specversion: "1.0",
            id,
            source,
            kind: format!("{NAMESPACE}.{name}"),
            subject,
            time,
            datacontenttype: "application/json",
            partitionkey: None,
            sequence: None,
            data,
        }
    }

    /// Its `type`.
    #[must_use]
    pub fn kind(&self) -> &str {
        &self.kind
    }

    /// One of many about its subject, which are to stay in order.
    #[must_use]
    pub fn in_order(self, sequence: u64) -> Self {
        Self { partitionkey: Some(self.subject), sequence: Some(format!("{sequence:020}")), ..self }
    }
}

/// Where events come from: what `source` says, a URI reference (CloudEvents 1.0, 3.1.1).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EventSource(String);

#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error(
    "a source is a URI such as https://pay.example.org/paylog or urn:example:paylog: from 1 to {} characters of visible ASCII",
    EventSource::MAX_BYTES
)]
pub struct BadSource;

impl EventSource {
    pub const MAX_BYTES: usize = 256;

    pub fn parse(text: &str) -> Result<Self, BadSource> {
        // What a URI may not have in it (RFC 3986, 2), and what would not survive a header.
        let is_good = |byte: u8| byte.is_ascii_graphic() && !b"\"<>\\^`{|}%".contains(&byte);
        let fits = (1..=Self::MAX_BYTES).contains(&text.len());
        if fits && text.bytes().all(is_good) { Ok(Self(text.to_owned())) } else { Err(BadSource) }
    }

    /// Of a log, where nobody has said another.
    #[must_use]
    pub fn of_log(log: crate::journal::LogId) -> Self {
        Self(format!("/paylog/{log}"))
    }

    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl std::str::FromStr for EventSource {
    type Err = BadSource;

    fn from_str(text: &str) -> Result<Self, BadSource> {
        Self::parse(text)
    }
}

impl fmt::Display for EventSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::{CloudEvent, EventSource};
    use crate::journal::LogId;

    #[test]
    fn a_cloud_event_has_what_the_specification_asks_for() {
        let source = EventSource::of_log(LogId([7; 16]));
        let event = CloudEvent::new(source.as_str(), "1", "PaymentSuccessful", "pay_1", "2025-11-24T16:00:00Z", 5);
        let json = serde_json::to_value(event.in_order(2)).unwrap();
        let expected = serde_json::json!({
            "specversion": "1.0", "id": "1", "source": "/paylog/07070707070707070707070707070707",
            "type": "paylog.PaymentSuccessful", "subject": "pay_1", "time": "2025-11-24T16:00:00Z",
            "datacontenttype": "application/json", "partitionkey": "pay_1", "sequence": "00000000000000000002", "data": 5,
        });
        assert_eq!(json, expected);
    }

    #[test]
    fn a_source_is_what_may_stand_in_a_uri_and_in_a_header() {
        for good in ["/paylog", "https://pay.example.org/paylog?x=1#y", "urn:example:paylog"] {
            assert!(EventSource::parse(good).is_ok(), "{good}");
        }
        for bad in ["", "a b", "caf\u{e9}", "a\nb", "a\"b", &"a".repeat(257)] {
            assert!(EventSource::parse(bad).is_err(), "{bad:?}");
        }
    }
}
