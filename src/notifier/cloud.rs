//! What somebody is to be told, as a CloudEvent: the same bytes at every attempt, to every endpoint, by every kind of it.

use super::attempt::Attempts;
use super::message::{Sequenced, Unsendable, asked_at, told_of_no_event};
use crate::contract::{CloudEvent, FrameBody};
use crate::deliveries::Due;
use crate::deliveries::outcome::What;

/// One CloudEvent as it is sent, and what services ask for beside it.
#[expect(dead_code, reason = "a webhook and a topic of Event Grid need the JSON alone")]
pub(super) struct Cloud {
    /// Its `id`: of an event the event's own.
    pub id: String,
    /// Its `subject`: the payment, or the endpoint that a test is of. What has one subject stays in order.
    pub subject: String,
    /// Its `type`.
    pub kind: String,
    pub json: String,
}

impl Attempts {
    pub fn cloud_event(&self, due: &Due) -> Result<Cloud, Unsendable> {
        let (source, name) = (self.source.as_str(), due.what.name());
        let What::Event { payment, event: id, .. } = &due.what else {
            let (id, subject) = (due.work.message_id(&due.what), due.work.target.to_string());
            let time = asked_at(due).to_string();
            let event = CloudEvent::new(source, &id, name, &subject, &time, told_of_no_event(&due.what));
            let (kind, json) = (event.kind().to_owned(), serde_json::to_string(&event)?);
            return Ok(Cloud { id, subject, kind, json });
        };
        let entry = self.entry(due)?;
        let (sequence, time) = (entry.version.unwrap_or_default(), entry.event.occurred_at.to_string());
        let (id, subject) = (id.clone(), payment.to_string());
        let data = Sequenced { sequence, frame: FrameBody::new(&entry, self.view.log_id()) };
        let event = CloudEvent::new(source, &id, name, &subject, &time, data).in_order(sequence);
        let (kind, json) = (event.kind().to_owned(), serde_json::to_string(&event)?);
        Ok(Cloud { id, subject, kind, json })
    }
}
