//! A webhook: a POST to somebody's server, signed with the endpoint's secrets.

use super::attempt::{Attempts, Sent};
use super::client::{Post, judge_webhook};
use super::cloud::Cloud;
use super::message::{Message, Unsendable};
use crate::contract::CLOUD_EVENT;
use crate::control::{KnownEndpoint, PayloadKind};
use crate::deliveries::Due;
use crate::deliveries::outcome::What;
use crate::payment::Timestamp;

impl Attempts {
    pub async fn webhook(&self, due: &Due, known: &KnownEndpoint, at: Timestamp) -> Result<Sent, Unsendable> {
        let payload = known.endpoint.payload;
        let message = self.message(due, payload)?;
        let signatures = message.signatures(&known.endpoint, &self.key, at)?;
        let timestamp = (at.as_micros() / 1_000_000).to_string();
        let Message { id, body } = message;
        let headers = [
            ("content-type", if payload == PayloadKind::CloudEvents { CLOUD_EVENT } else { "application/json" }),
            ("webhook-id", id.as_str()),
            ("webhook-timestamp", &timestamp),
            ("webhook-signature", &signatures),
        ];
        let post = Post { url: &known.endpoint.url, headers: &headers, body: body.into_bytes(), judge: judge_webhook };
        Ok(Sent { answer: self.means.posts.post(post).await, until: None })
    }

    fn message(&self, due: &Due, payload: PayloadKind) -> Result<Message, Unsendable> {
        if payload == PayloadKind::CloudEvents {
            let Cloud { json, .. } = self.cloud_event(due)?;
            return Ok(Message { id: due.work.message_id(&due.what), body: json });
        }
        match due.what {
            What::Event { .. } => Message::of_event(due, &self.entry(due)?, payload, self.view.log_id()),
            What::Test | What::Disabled { .. } => Message::of_no_event(due),
        }
    }
}
