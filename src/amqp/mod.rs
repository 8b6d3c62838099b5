//! AMQP 1.0, as much of it as two directions need: take messages off a queue and settle each, and put messages on one and hear
//! what became of each. The only module that knows `fe2o3-amqp`.
//!
//! It promises that everything ends: a connection is there or not within [`OPEN_MAX`], a peer that has fallen silent is
//! noticed within [`IDLE_MAX`], and a connection's socket is gone within [`CLOSE_MAX`] of its end. It connects to the addresses it is
//! given and to no other, with TLS where the address says `amqps`, and logs in by SASL PLAIN. It knows nothing of payments,
//! and never comes back by itself: its callers do, after a [`Pause`].
//!
//! The library decodes whatever it is given, by recursion: what a broker says is judged before that (`guard.rs`), and a message
//! that is too large or too deep is handed out as one that is [`Unusable`].

mod address;
mod connection;
mod credential;
mod error;
mod guard;
#[cfg(test)]
mod library_tests;
mod message;
mod nesting;
mod pause;
#[cfg(test)]
mod peer;
mod performative;
mod receiver;
mod sender;
mod socket;

use std::time::Duration;

pub use address::Address;
pub use connection::{Connection, connections_cut};
pub use credential::{ConnectionString, Credential};
pub use error::AmqpError;
pub use guard::{MESSAGE_MAX, Unusable};
pub use message::{Body, Outgoing, Received};
pub use pause::Pause;
pub use receiver::{Delivery, Receiver, Settlement, Ticket};
pub use sender::{Answer, Sender};

/// The largest frame that we take; a message may be many.
const FRAME_MAX: u32 = 64 * 1024;
/// For a connection to be there, TLS, login and session included.
pub const OPEN_MAX: Duration = Duration::from_secs(15);
/// For a link to be there.
const ATTACH_MAX: Duration = Duration::from_secs(15);
/// A peer that has said nothing for so long is gone; it is told so, and has to speak up at half of that.
pub const IDLE_MAX: Duration = Duration::from_secs(60);
/// For the goodbyes.
pub const CLOSE_MAX: Duration = Duration::from_secs(2);
