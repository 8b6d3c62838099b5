//! A CloudEvent 1.0 as JSON (structured mode), of what somebody is told. Its `id` and `source` are the same wherever and however
//! often it is told, so that whoever has seen it has seen it all.

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

#[cfg(test)]
mod tests {
    use super::CloudEvent;
    use crate::journal::LogId;
    use crate::schema::EventSource;

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
}
