//! Puts messages on a queue, any number at a time, and hears of each what the broker made of it.

use std::sync::Arc;

use fe2o3_amqp::link::{SendError, Sender as Link};
use fe2o3_amqp::types::definitions::{AmqpError as Condition, Error, ErrorCondition, LinkError, SenderSettleMode};
use fe2o3_amqp::types::messaging::{Outcome, Target};
use fe2o3_amqp::types::primitives::{Array, Symbol};
use tokio::sync::Mutex;
use tokio::time::timeout;
use tokio_util::task::AbortOnDropHandle;

use super::{ATTACH_MAX, AmqpError, Connection, Outgoing, executor};

/// Makes a broker that creates queues by themselves create one, and not a topic.
const QUEUE: &str = "queue";
/// By which Azure Service Bus says that a message is wrong.
const ARGUMENT_ERROR: &str = "com.microsoft:argument-error";

/// A connection, and a link on it. All that a broker says, and may have nested, stays on the threads of [`executor`].
#[derive(Debug)]
pub struct Sender {
    /// `None` once it is being let go of.
    link: Option<Arc<Mutex<Link>>>,
    connection: Option<Connection>,
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
    pub async fn attach(connection: Connection, node: &str) -> Result<Self, AmqpError> {
        let node = node.to_owned();
        there(async move { try_attach(connection, &node).await }).await
    }

    /// Has its connection ended, by whomever?
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.connection.as_ref().is_none_or(Connection::is_over)
    }

    /// Waits until the broker has room for the message, and then for its answer: how long is for the caller to say. Whoever
    /// stops waiting does not know whether it has it.
    pub async fn send(&self, message: Outgoing) -> Result<Answer, AmqpError> {
        let link = self.link.clone().ok_or_else(|| AmqpError::Ended("it was closed".to_owned()))?;
        there(async move { try_send(&link, message).await }).await
    }
}

impl Drop for Sender {
    fn drop(&mut self) {
        let (link, connection) = (self.link.take(), self.connection.take());
        if let Ok(threads) = executor() {
            threads.spawn(async move {
                drop(link);
                drop(connection);
            });
        }
    }
}

/// On a thread of the executor, until the caller stops waiting.
async fn there<T: Send + 'static>(
    work: impl Future<Output = Result<T, AmqpError>> + Send + 'static,
) -> Result<T, AmqpError> {
    let threads = executor().map_err(|error| AmqpError::Unreachable(error.to_string()))?;
    AbortOnDropHandle::new(threads.spawn(work)).await.map_err(|error| AmqpError::Ended(error.to_string()))?
}

async fn try_attach(mut connection: Connection, node: &str) -> Result<Sender, AmqpError> {
    let target = Target::builder().address(node).capabilities(Array(vec![Symbol::from(QUEUE)])).build();
    let attaching = Link::builder()
        .name(format!("paylog-{}", uuid::Uuid::new_v4().simple()))
        .target(target)
        // The broker says of each message that it has it.
        .sender_settle_mode(SenderSettleMode::Unsettled)
        .verify_incoming_target(false)
        .attach(connection.session()?);
    let link = timeout(ATTACH_MAX, attaching).await.map_err(|_| AmqpError::TimedOut)??;
    Ok(Sender { link: Some(Arc::new(Mutex::new(link))), connection: Some(connection) })
}

async fn try_send(link: &Mutex<Link>, message: Outgoing) -> Result<Answer, AmqpError> {
    // Others send while this one waits for its answer.
    let sent = link.lock().await.send_batchable(message.message()).await;
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
