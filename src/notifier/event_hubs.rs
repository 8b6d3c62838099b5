//! A hub of Azure Event Hubs: a record is a CloudEvent in Kafka's binary mode, with the payment as its key, so that all of one
//! payment stays in order. It is delivered when the hub has acknowledged it, and not before.

use std::time::Instant;

use super::attempt::{Attempts, Sent};
use super::client::Answer;
use super::cloud::Cloud;
use super::message::Unsendable;
use crate::control::KnownEndpoint;
use crate::control::hubs::{self, check_credential};
use crate::deliveries::Due;
use crate::deliveries::outcome::Failure;
use crate::journal::kafka::hub::Unsent;

/// Before each attribute of a CloudEvent in a header of Kafka's (the binding of CloudEvents to Kafka, binary mode).
const PREFIX: &str = "ce_";
const CONTENT_TYPE: &str = "content-type";

/// A CloudEvent as a record: what is told in structured mode, told in another form.
struct Binary {
    key: String,
    headers: Vec<(String, String)>,
    data: Vec<u8>,
}

impl Attempts {
    pub async fn event_hubs(&self, due: &Due, known: &KnownEndpoint) -> Result<Sent, Unsendable> {
        let Binary { key, headers, data } = binary(&self.cloud_event(due)?)?;
        let credential = self.credential(known)?;
        let without = |failure| Ok(Sent { answer: Answer::without(failure), until: None });
        // What was taken in under other rules, or by another version, is judged again.
        let hub = match (self.hubs.hosts().hub(&known.endpoint.url), hubs::hub(&known.endpoint.url)) {
            (Ok(hub), _) if check_credential(&hub, credential.as_str()).is_ok() => hub,
            (Err(_), Ok(_)) => return without(Failure::AddressNotAllowed),
            _ => return without(Failure::NotSendable),
        };
        let began = Instant::now();
        let producer = match self.hubs.producer(known.endpoint.id, hub, credential.as_str()) {
            Ok(producer) => producer,
            Err(error) => {
                tracing::warn!(endpoint = %known.endpoint.id, %error, "a hub cannot be told from here");
                return without(Failure::NotSendable);
            }
        };
        let headers: Vec<(&str, &str)> = headers.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        let failure = producer.send(&key, &headers, &data).await.err().map(failure_of);
        Ok(Sent { answer: Answer { took: began.elapsed(), status: None, retry_after: None, failure }, until: None })
    }
}

fn binary(cloud: &Cloud) -> Result<Binary, Unsendable> {
    let mut event: serde_json::Map<String, serde_json::Value> = serde_json::from_str(&cloud.json)?;
    let data = serde_json::to_vec(&event.remove("data"))?;
    let mut headers = Vec::new();
    for (name, value) in event {
        let text = match value {
            serde_json::Value::String(text) => text,
            other => other.to_string(),
        };
        let name = if name == "datacontenttype" { CONTENT_TYPE.to_owned() } else { format!("{PREFIX}{name}") };
        headers.push((name, text));
    }
    Ok(Binary { key: cloud.subject.clone(), headers, data })
}

fn failure_of(unsent: Unsent) -> Failure {
    match unsent {
        Unsent::Unanswered => Failure::Timeout,
        Unsent::NotAllowed => Failure::Unauthorized,
        Unsent::TooLarge => Failure::TooLarge,
        Unsent::Refused => Failure::Refused,
        Unsent::NotNow => Failure::NotTaken,
    }
}

#[cfg(test)]
mod tests {
    use super::{Cloud, binary};

    #[test]
    fn a_cloud_event_is_a_record_with_its_attributes_in_headers() {
        let json = r#"{"specversion":"1.0","id":"e1","source":"/paylog/x","type":"paylog.PaymentSuccessful","subject":"pay_1",
            "datacontenttype":"application/json","partitionkey":"pay_1","data":{"sequence":2}}"#;
        let cloud = Cloud {
            id: "e1".to_owned(),
            subject: "pay_1".to_owned(),
            kind: "paylog.PaymentSuccessful".to_owned(),
            json: json.to_owned(),
        };
        let record = binary(&cloud).unwrap();
        assert_eq!((record.key.as_str(), record.data.as_slice()), ("pay_1", &br#"{"sequence":2}"#[..]));
        let mut headers: Vec<String> = record.headers.iter().map(|(name, value)| format!("{name}={value}")).collect();
        headers.sort();
        let expected = [
            "ce_id=e1",
            "ce_partitionkey=pay_1",
            "ce_source=/paylog/x",
            "ce_specversion=1.0",
            "ce_subject=pay_1",
            "ce_type=paylog.PaymentSuccessful",
            "content-type=application/json",
        ];
        assert_eq!(headers, expected, "no header says the media type twice, and none has the data");
    }
}
