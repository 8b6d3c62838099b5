//! Puts messages on a queue, any number at a time, and hears of each what the broker made of it.

use fe2o3_amqp::link::{SendError, Sender as Link};
use fe2o3_amqp::types::definitions::{AmqpError as Condition, Error, ErrorCondition, LinkError, SenderSettleMode};
use fe2o3_amqp::types::messaging::{Outcome, Target};
use fe2o3_amqp::types::primitives::{Array, Symbol};
use tokio::sync::Mutex;
use tokio::time::timeout;

use super::{ATTACH_MAX, AmqpError, Connection, Outgoing};

/// Makes a broker that creates queues by themselves create one, and not a topic.
const QUEUE: &str = "queue";
/// By which Azure Service Bus says that a message is wrong.
const ARGUMENT_ERROR: &str = "com.microsoft:argument-error";

/// A connection, and a link on it.
#[derive(Debug)]
pub struct Sender {
    // First: a link is let go of before its connection.
    link: Mutex<Link>,
    connection: Connection,
}

/// What a broker made of a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// It has it, durably if it is durable.
    Accepted,
    /// It will never take it.
    Rejected,
    /// It has not taken it now.
    Returned,
    /// It is larger than the queue takes.
    TooLarge,
}

impl Sender {
    pub async fn attach(mut connection: Connection, node: &str) -> Result<Self, AmqpError> {
        let target = Target::builder().address(node).capabilities(Array(vec![Symbol::from(QUEUE)])).build();
        let attaching = Link::builder()
            .name(format!("paylog-{}", uuid::Uuid::new_v4().simple()))
            .target(target)
            // The broker says of each message that it has it.
            .sender_settle_mode(SenderSettleMode::Unsettled)
            .verify_incoming_target(false)
            .attach(connection.session()?);
        let link = timeout(ATTACH_MAX, attaching).await.map_err(|_| AmqpError::TimedOut)??;
        Ok(Self { link: Mutex::new(link), connection })
    }

    /// Has its connection ended, by whomever?
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.connection.is_over()
    }

    /// Waits until the broker has room for the message, and then for its answer: how long is for the caller to say. Whoever
    /// stops waiting does not know whether it has it.
    pub async fn send(&self, message: Outgoing) -> Result<Answer, AmqpError> {
        // Others send while this one waits for its answer.
        let sent = self.link.lock().await.send_batchable(message.message()).await;
        let outcome = match sent {
            Ok(answering) => answering.await,
            Err(error) => Err(error),
        };
        match outcome {
            Ok(Outcome::Accepted(_)) => Ok(Answer::Accepted),
            Ok(Outcome::Rejected(rejected)) => Ok(rejected.error.map_or(Answer::Rejected, |error| meant(&error))),
            Ok(Outcome::Released(_) | Outcome::Modified(_)) => Ok(Answer::Returned),
            Err(SendError::MessageSizeExceeded(_)) => Ok(Answer::TooLarge),
            Err(error) => Err(error.into()),
        }
    }
}

/// What a rejection means: brokers reject what is wrong with a message, and what is wrong with them.
fn meant(error: &Error) -> Answer {
    match &error.condition {
        ErrorCondition::LinkError(LinkError::MessageSizeExceeded) => Answer::TooLarge,
        ErrorCondition::AmqpError(
            Condition::DecodeError
            | Condition::InvalidField
            | Condition::NotAllowed
            | Condition::NotImplemented
            | Condition::PreconditionFailed,
        ) => Answer::Rejected,
        ErrorCondition::Custom(condition) if condition.as_str() == ARGUMENT_ERROR => Answer::Rejected,
        _ => Answer::Returned,
    }
}
