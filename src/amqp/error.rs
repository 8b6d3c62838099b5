//! What a broker may answer with, and what the network may do, in the words of who has to look at it.

use fe2o3_amqp::connection::{ConnectionStopReason, OpenError};
use fe2o3_amqp::link::{
    DispositionError, LinkStateError, ReceiverAttachError, RecvError, SendError, SenderAttachError, SessionStopReason,
};
use fe2o3_amqp::session::BeginError;
use fe2o3_amqp::types::definitions::{AmqpError as Condition, Error, ErrorCondition};

/// The longest text of a broker's own that is repeated.
const SAID_MAX: usize = 300;

#[derive(Debug, thiserror::Error)]
pub enum AmqpError {
    #[error("the broker cannot be reached: {0}")]
    Unreachable(String),
    #[error("there is no secure connection to the broker: {0}")]
    Tls(String),
    #[error("the broker did not answer in time")]
    TimedOut,
    /// The name or the key.
    #[error("the broker does not let us in: look at the name and the key of its shared access policy")]
    LoginRefused,
    /// The queue is not there, or not for us.
    #[error("the broker refuses the queue: {0}")]
    NodeRefused(String),
    /// What was asked or sent came to nothing; a new connection may do better.
    #[error("the connection to the broker has ended: {0}")]
    Ended(String),
}

impl AmqpError {
    /// A broker's error: its condition and the beginning of its description.
    fn of_broker(error: &Error) -> Self {
        let said = said(error);
        match &error.condition {
            ErrorCondition::AmqpError(Condition::UnauthorizedAccess | Condition::NotFound | Condition::NotAllowed) => {
                Self::NodeRefused(said)
            }
            _ => Self::Ended(said),
        }
    }
}

pub(super) fn said(error: &Error) -> String {
    let condition = match &error.condition {
        ErrorCondition::AmqpError(condition) => format!("{condition:?}"),
        ErrorCondition::ConnectionError(condition) => format!("{condition:?}"),
        ErrorCondition::SessionError(condition) => format!("{condition:?}"),
        ErrorCondition::LinkError(condition) => format!("{condition:?}"),
        ErrorCondition::Custom(condition) => condition.as_str().to_owned(),
    };
    let description = error.description.as_deref().unwrap_or("no reason given");
    format!("{condition}: {description}").chars().filter(|c| !c.is_control()).take(SAID_MAX).collect()
}

impl From<OpenError> for AmqpError {
    fn from(error: OpenError) -> Self {
        match error {
            OpenError::SaslError { .. } => Self::LoginRefused,
            OpenError::RemoteClosedWithError(error) => match error.condition {
                ErrorCondition::AmqpError(Condition::UnauthorizedAccess) => Self::LoginRefused,
                _ => Self::Ended(said(&error)),
            },
            OpenError::NotImplemented(_) => {
                Self::Ended("it offers no login by name and key (SASL PLAIN), or speaks another AMQP".to_owned())
            }
            OpenError::ProtocolHeaderMismatch(_) => {
                Self::Ended("what answers there does not speak AMQP 1.0".to_owned())
            }
            other => Self::Ended(other.to_string()),
        }
    }
}

impl From<BeginError> for AmqpError {
    fn from(error: BeginError) -> Self {
        match error {
            BeginError::ConnectionStopped(reason) => reason.into(),
            other => Self::Ended(other.to_string()),
        }
    }
}

impl From<ConnectionStopReason> for AmqpError {
    fn from(reason: ConnectionStopReason) -> Self {
        match reason {
            ConnectionStopReason::RemoteClosedWithError(error) | ConnectionStopReason::ClosedWithError(error) => {
                Self::of_broker(&error)
            }
            ConnectionStopReason::RemoteClosed => Self::Ended("the broker closed it".to_owned()),
            ConnectionStopReason::Closed => Self::Ended("it was closed, or broke".to_owned()),
        }
    }
}

impl From<SessionStopReason> for AmqpError {
    fn from(reason: SessionStopReason) -> Self {
        match reason {
            SessionStopReason::ConnectionStopped(reason) => reason.into(),
            SessionStopReason::RemoteEndedWithError(error) | SessionStopReason::EndedWithError(error) => {
                Self::of_broker(&error)
            }
            SessionStopReason::Ended | SessionStopReason::RemoteEnded => Self::Ended("its session ended".to_owned()),
        }
    }
}

impl From<LinkStateError> for AmqpError {
    fn from(error: LinkStateError) -> Self {
        match error {
            LinkStateError::SessionStopped(reason) => reason.into(),
            LinkStateError::RemoteClosedWithError(error) | LinkStateError::RemoteDetachedWithError(error) => {
                Self::of_broker(&error)
            }
            other => Self::Ended(other.to_string()),
        }
    }
}

impl From<ReceiverAttachError> for AmqpError {
    fn from(error: ReceiverAttachError) -> Self {
        match error {
            ReceiverAttachError::SessionStopped(reason) => reason.into(),
            ReceiverAttachError::RemoteClosedWithError(error) => Self::NodeRefused(said(&error)),
            other => Self::Ended(other.to_string()),
        }
    }
}

impl From<SenderAttachError> for AmqpError {
    fn from(error: SenderAttachError) -> Self {
        match error {
            SenderAttachError::SessionStopped(reason) => reason.into(),
            SenderAttachError::RemoteClosedWithError(error) => Self::NodeRefused(said(&error)),
            other => Self::Ended(other.to_string()),
        }
    }
}

impl From<DispositionError> for AmqpError {
    fn from(error: DispositionError) -> Self {
        match error {
            DispositionError::SessionStopped(reason) => reason.into(),
            other => Self::Ended(other.to_string()),
        }
    }
}

impl From<RecvError> for AmqpError {
    fn from(error: RecvError) -> Self {
        match error {
            RecvError::LinkStateError(error) => error.into(),
            other => Self::Ended(other.to_string()),
        }
    }
}

impl From<SendError> for AmqpError {
    fn from(error: SendError) -> Self {
        match error {
            SendError::LinkStateError(error) => error.into(),
            SendError::Detached(error) => LinkStateError::from(error).into(),
            other => Self::Ended(other.to_string()),
        }
    }
}
