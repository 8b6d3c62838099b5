//! Takes messages off a queue, as many at a time as were asked for, and says of each what became of it.

use fe2o3_amqp::link::delivery::DeliveryInfo;
use fe2o3_amqp::link::receiver::CreditMode;
use fe2o3_amqp::link::{Receiver as Link, RecvError};
use fe2o3_amqp::types::definitions::{Error, ErrorCondition, Fields, ReceiverSettleMode, SenderSettleMode};
use fe2o3_amqp::types::messaging::{Body, Modified, Source};
use fe2o3_amqp::types::primitives::{Array, Symbol, Value};
use tokio::time::timeout;

use super::guard::{Emptied, Unusable};
use super::message::Received;
use super::{ATTACH_MAX, AmqpError, Connection};
use crate::lock::lock;

/// What Azure Service Bus puts a message among the dead letters by, with the reason in fields of these names: it shows both
/// with the dead letter. Another broker takes it for any other rejection.
const DEAD_LETTER: &str = "com.microsoft:dead-letter";
const REASON: &str = "DeadLetterReason";
const DESCRIPTION: &str = "DeadLetterErrorDescription";
/// Makes a broker that creates queues by themselves create one, and not a topic.
const QUEUE: &str = "queue";

#[derive(Debug)]
pub struct Receiver {
    link: Link,
    emptied: Emptied,
}

#[derive(Debug)]
pub struct Delivery {
    pub ticket: Ticket,
    pub message: Result<Received, Unusable>,
}

/// Names one delivery to its receiver.
#[derive(Clone, Debug)]
pub struct Ticket(DeliveryInfo);

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Settlement {
    /// Done: the broker forgets it.
    Accepted,
    /// It will never do: the broker puts it among its dead letters.
    Rejected { reason: &'static str, description: String },
    /// Not now: the broker gives it out again.
    GivenBack,
}

impl Receiver {
    pub async fn attach(connection: &mut Connection, node: &str) -> Result<Self, AmqpError> {
        let source = Source::builder().address(node).capabilities(Array(vec![Symbol::from(QUEUE)])).build();
        let attaching = Link::builder()
            .name(format!("paylog-{}", uuid::Uuid::new_v4().simple()))
            .source(source)
            // A message stays on the queue, locked, until we have said what became of it.
            .sender_settle_mode(SenderSettleMode::Unsettled)
            .receiver_settle_mode(ReceiverSettleMode::First)
            .credit_mode(CreditMode::Manual)
            .verify_incoming_source(false)
            .attach(connection.session()?);
        let link = timeout(ATTACH_MAX, attaching).await.map_err(|_| AmqpError::TimedOut)??;
        Ok(Self { link, emptied: connection.emptied() })
    }

    /// How many messages may still come.
    #[must_use]
    pub fn credit(&self) -> u32 {
        self.link.credit()
    }

    /// From now on so many messages may come, and no more. Those that are on their way already come all the same.
    pub async fn grant(&mut self, messages: u32) -> Result<(), AmqpError> {
        Ok(self.link.set_credit(messages).await?)
    }

    /// The next message, whenever it comes. Whoever stops waiting loses none.
    pub async fn receive(&mut self) -> Result<Delivery, AmqpError> {
        let (info, message) = match self.link.recv::<Body<Value>>().await {
            Ok(delivery) => {
                let (info, message) = delivery.into_parts();
                (info, Ok(Received::of(message)))
            }
            Err(RecvError::MessageDecode(error)) => (error.info, Err(Unusable::NoMessage)),
            Err(error) => return Err(error.into()),
        };
        let emptied = lock(&self.emptied).remove(&info.delivery_id());
        Ok(Delivery { ticket: Ticket(info), message: emptied.map_or(message, Err) })
    }

    /// Says what became of a message. That the broker hears of it is not certain: if it does not, it gives it out again.
    pub async fn settle(&self, ticket: Ticket, settlement: Settlement) -> Result<(), AmqpError> {
        match settlement {
            Settlement::Accepted => self.link.accept(ticket.0).await?,
            Settlement::Rejected { reason, description } => {
                self.link.reject(ticket.0, rejection(reason, description)).await?
            }
            // Azure Service Bus takes `modified` for "give it out again"; what it makes of `released` is not written down.
            Settlement::GivenBack => self.link.modify(ticket.0, modified()).await?,
        }
        Ok(())
    }

    /// With a goodbye, if the broker answers in time; else without.
    pub async fn close(self) {
        drop(timeout(super::CLOSE_MAX, self.link.close()).await);
    }
}

fn rejection(reason: &str, description: String) -> Error {
    let mut info = Fields::new();
    info.insert(Symbol::from(REASON), Value::String(reason.to_owned()));
    info.insert(Symbol::from(DESCRIPTION), Value::String(description.clone()));
    Error::new(ErrorCondition::Custom(Symbol::from(DEAD_LETTER)), format!("{reason}: {description}"), info)
}

fn modified() -> Modified {
    Modified { delivery_failed: Some(false), undeliverable_here: Some(false), message_annotations: None }
}
