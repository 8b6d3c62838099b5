//! The core: what a payment is, what may happen to it, and what it becomes. Pure: no clock, no I/O, no wire format, and
//! nothing of the rest of this crate.
//!
//! * [`id`]: who and which; every id is derived or parsed here and cannot be wrong afterwards.
//! * [`money`]: an amount in minor units and its currency.
//! * [`request`]: from a merchant's untrusted request to a [`request::NewPayment`], and its fingerprint.
//! * [`decision`]: from an operator's untrusted JSON to a decision about a parked payment.
//! * [`event`]: what is written on the log.
//! * [`state`]: the fold of those events.

mod card;
pub mod decision;
pub mod event;
pub mod id;
mod json;
pub mod money;
pub mod request;
#[cfg(test)]
pub(crate) mod samples;
pub mod state;
#[cfg(test)]
mod state_tests;
pub mod time;

pub use card::holds_card_number;
pub use decision::{NewDecision, Signed};
pub use event::{Event, EventData};
pub use id::{CustomerId, EventId, IdempotencyKey, MerchantId, PaymentId, RequestId};
pub use money::{Currency, Money};
pub use request::{Invalid, NewPayment};
pub use state::{Effect, Payment, Phase, Status};
pub use time::Timestamp;
