//! Writes events to a hub: idempotent, acknowledged by all replicas, each record answered. Where there are partitions, a key
//! has one for ever, as Java's partitioner says.

use std::time::Duration;

use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::BaseRecord;

use super::Hub;
use super::outbox::Outbox;
use crate::journal::JournalError;
use crate::journal::kafka::settings;

pub use crate::journal::kafka::error::Unsent;

/// As for readers. The last two are Event Hubs's own limits: what is larger closes the connection, and an answer takes 20 s
/// before it counts as late there.
const RECOMMENDED_TO_WRITERS: &[(&str, &str)] = &[
    ("partitioner", "murmur2_random"),
    ("linger.ms", "5"),
    ("queue.buffering.max.messages", "10000"),
    ("queue.buffering.max.kbytes", "16384"),
    ("message.max.bytes", "1000000"),
    ("request.timeout.ms", "30000"),
];

pub struct Producer {
    topic: String,
    outbox: Outbox,
}

impl Producer {
    /// Connects to nobody yet. Each record has an answer within `timeout`.
    pub fn open(hub: &Hub, timeout: Duration) -> Result<Self, JournalError> {
        let config = hub.config("none", RECOMMENDED_TO_WRITERS);
        settings::validate(&config)?;
        let mut producer = settings::appender(&config);
        producer.set("message.timeout.ms", timeout.as_millis().max(1).to_string());
        Ok(Self { topic: hub.topic.clone(), outbox: Outbox::open("hub-producer", producer)? })
    }

    /// On `Err` the record may have been taken all the same, unless it says never.
    pub async fn send(&self, key: &str, headers: &[(&str, &str)], value: &[u8]) -> Result<(), Unsent> {
        let mut owned = OwnedHeaders::new_with_capacity(headers.len());
        for (key, value) in headers {
            owned = owned.insert(Header { key, value: Some(*value) });
        }
        let record = |waiting| {
            BaseRecord::with_opaque_to(&self.topic, waiting).key(key.as_bytes()).payload(value).headers(owned)
        };
        let answer = self.outbox.send(record).map_err(|_| Unsent::NotNow)?;
        match answer.await {
            Ok(Ok(_)) => Ok(()),
            // It is on the hub, though nobody can say where.
            Ok(Err(undelivered)) if undelivered.is_persisted() => Ok(()),
            Ok(Err(undelivered)) => Err(self.why(undelivered.into_unsent())),
            Err(_) => Err(Unsent::Unanswered),
        }
    }

    /// A hub that does not let us in answers nothing else.
    fn why(&self, unsent: Unsent) -> Unsent {
        let unanswered = matches!(unsent, Unsent::Unanswered | Unsent::NotNow);
        if unanswered && self.outbox.was_denied() { Unsent::NotAllowed } else { unsent }
    }
}
