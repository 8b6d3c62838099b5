//! AMQP 1.0, as much of it as two directions need: take messages off a queue and settle each, and put messages on one and hear
//! what became of each. The only module that knows `fe2o3-amqp`.
//!
//! It promises that everything ends: a connection is there or not within [`OPEN_MAX`], a peer that has fallen silent is
//! noticed within [`IDLE_MAX`], and a connection is closed within [`CLOSE_MAX`] or dropped. It connects to the addresses it is
//! given and to no other, with TLS where the address says `amqps`, and logs in by SASL PLAIN. It knows nothing of payments,
//! and never comes back by itself: its callers do, after a [`Pause`].
//! What comes from a broker is decoded on the threads of [`executor`]: receive messages nowhere else.

mod address;
mod connection;
mod credential;
mod error;
mod executor;
mod message;
mod pause;
mod receiver;
mod sender;

use std::time::Duration;

pub use address::Address;
pub use connection::Connection;
pub use credential::{ConnectionString, Credential};
pub use error::AmqpError;
pub use executor::executor;
pub use message::{Body, Outgoing, Received};
pub use pause::Pause;
pub use receiver::{Delivery, Receiver, Settlement, Ticket};
pub use sender::{Answer, Sender};

/// For a connection to be there, TLS, login and session included.
pub const OPEN_MAX: Duration = Duration::from_secs(15);
/// For a link to be there.
const ATTACH_MAX: Duration = Duration::from_secs(15);
/// A peer that has said nothing for so long is gone; it is told so, and has to speak up at half of that.
pub const IDLE_MAX: Duration = Duration::from_secs(60);
/// For the goodbyes.
pub const CLOSE_MAX: Duration = Duration::from_secs(2);
