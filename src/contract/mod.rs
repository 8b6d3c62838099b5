//! The JSON contract: payments, events and frames as they go over the wire, and the texts that name a place on the log.
//! Everybody who tells a client something tells it in these shapes; nothing here reads a request, and nothing of the core
//! can be serialised without it.
//!
//! * [`PaymentBody`], [`Links`]: a payment as it is.
//! * [`EventBody`]: one event of it; [`HistoryBody`]: the same in its history, with the state after it.
//! * [`ParkedBody`], [`RejectionBody`], [`HaltBody`]: what an operator sees; [`KeyBody`], [`NewKeyBody`]: keys.
//! * [`FrameBody`], [`SnapshotBody`], [`ResetBody`]: what streams carry.
//! * [`EndpointBody`], [`AttemptBody`]: webhooks, to those who are told by them.
//! * [`CloudEvent`]: what happened, for everybody who knows CloudEvents.
//! * [`SubscriptionBody`], [`PushBody`]: Web Push, and what a browser is told by it.
//! * [`bad_place`] and the conversions beside it: what is refused the same way everywhere.
//! * [`AtLeast`], [`position_text`], [`VersionId`]: opaque to clients, and only to them.

pub mod asked;
mod cloud_event;
mod event;
mod frame;
mod history;
mod key;
mod operator;
mod payment;
mod position;
mod push;
mod refusal;
pub mod text;
mod webhook;

use std::fmt;

pub use cloud_event::{CLOUD_EVENT, CLOUD_EVENT_BATCH, CloudEvent};
pub use event::{EventBody, data_body};
pub use frame::{FrameBody, ResetBody, SnapshotBody, ThinBody};
pub use history::HistoryBody;
pub use key::{KeyBody, NewKeyBody};
pub use operator::{
    CheckpointBody, HaltBody, HeldRequestBody, ImportBody, ParkedBody, ProjectionBody, RejectionBody,
    SchemaDecisionBody,
};
pub use payment::{Links, PaymentBody, UnconfirmedBody};
pub use position::{AtLeast, VersionId, last_position, partition, position_text};
pub use push::{PushBody, SubscriptionBody};
pub use refusal::{bad_parameter, bad_place};
pub use webhook::{AskedBody, AttemptBody, EndpointBody, PENDING_MAX, PushedBody, ToldBody};

/// Serialised as it is displayed.
struct Shown<T>(T);

impl<T: fmt::Display> serde::Serialize for Shown<T> {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&self.0)
    }
}

#[cfg(test)]
mod tests;
