//! A queue or a topic of Azure Service Bus, or of another AMQP 1.0 broker: a message is a CloudEvent, with the event's id as
//! its own and the payment as its session. It is delivered when the broker has accepted it, and not before.

use std::time::Instant;

use super::attempt::{Attempts, Sent};
use super::client::Answer;
use super::cloud::Cloud;
use super::message::Unsendable;
use crate::amqp::{self, Address, AmqpError, Connection, ConnectionString, Credential, Outgoing};
use crate::control::{EndpointId, KnownEndpoint};
use crate::deliveries::outcome::Failure;
use crate::deliveries::{Due, target};

/// The media type of one CloudEvent as JSON (the binding of CloudEvents to AMQP, structured mode).
const CLOUD_EVENT: &str = "application/cloudevents+json; charset=utf-8";

impl Attempts {
    pub async fn service_bus(&self, due: &Due, known: &KnownEndpoint) -> Result<Sent, Unsendable> {
        let Cloud { id, subject, kind, json } = self.cloud_event(due)?;
        let credential = self.credential(known)?;
        // What was taken in under other rules, or by another version, is judged again.
        let queue = target::queue(&known.endpoint.url, self.means.client.allows_private());
        let read = ConnectionString::parse(credential.as_str());
        let (Ok(address), Ok(read)) = (queue, read) else {
            return Ok(Sent { answer: Answer::without(Failure::NotSendable), until: None });
        };
        let message = Outgoing {
            id,
            session: subject,
            subject: kind,
            content_type: CLOUD_EVENT,
            properties: Vec::new(),
            body: json.into_bytes(),
        };
        let began = Instant::now();
        let sending = self.put(known.endpoint.id, (address, read.credential), message);
        let failure = match tokio::time::timeout(self.means.client.timeout(), sending).await {
            Ok(failure) => failure,
            Err(_) => Some(Failure::Timeout),
        };
        Ok(Sent { answer: Answer { took: began.elapsed(), status: None, retry_after: None, failure }, until: None })
    }

    async fn put(&self, endpoint: EndpointId, to: (Address, Credential), message: Outgoing) -> Option<Failure> {
        let mut refused = None;
        let open = async |to: &(Address, Credential)| {
            let (address, credential) = to;
            match self.means.client.addresses(address.host()).await {
                Ok(found) => Connection::open(address, &found, credential).await,
                Err(failure) => {
                    refused = Some(failure);
                    Err(AmqpError::Unreachable("its host may not be told".to_owned()))
                }
            }
        };
        match self.buses.send(endpoint, to, open, message).await {
            Ok(answer) => judge(&answer),
            Err(error) => Some(refused.unwrap_or_else(|| failure_of(&error))),
        }
    }
}

/// What a broker's answer means: `None` if it has it.
fn judge(answer: &amqp::Answer) -> Option<Failure> {
    match answer {
        amqp::Answer::Accepted => None,
        amqp::Answer::Rejected => Some(Failure::Refused),
        amqp::Answer::Returned => Some(Failure::NotTaken),
        amqp::Answer::TooLarge => Some(Failure::TooLarge),
    }
}

fn failure_of(error: &AmqpError) -> Failure {
    match error {
        AmqpError::Unreachable(_) => Failure::Connect,
        AmqpError::Tls(_) => Failure::Tls,
        AmqpError::TimedOut => Failure::Timeout,
        AmqpError::LoginRefused | AmqpError::NodeRefused(_) => Failure::Unauthorized,
        AmqpError::Ended(_) => Failure::Broken,
    }
}
