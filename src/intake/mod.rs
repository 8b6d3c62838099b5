//! The gate for those who produce to Kafka: what stands on the topic of requests is judged as the API judges it, and goes on
//! as an event or as a dead letter, in the very transaction that moves the group past it. What stands on a hub of somebody
//! else's cluster too, but without a transaction (`journal/kafka/hub`).
//!
//! Nothing is decided here that the log decides: a payment that the fold does not know is appended, and the fold says
//! whose it is. One that it knows needs no append (docs/decisions/0001), and is no dead letter either.

mod batch;
pub mod command;
mod config;
mod dead_letter;
pub mod described;
mod driver;
mod hub;
mod limiter;
mod request;
pub mod service_bus;
mod source;
mod targets;

use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::holding::Holding;
use crate::journal::{Journal, JournalError, Requests};
use crate::projection::View;
use crate::schema::{Codec, RequestCodec};
use crate::store::StoreError;
use crate::telemetry::Seldom;

pub use config::{DeadLetterCommand, IntakeArgs};
pub use hub::HubArgs;

/// Between two looks whether the view has caught up.
const CATCH_UP_PAUSE: Duration = Duration::from_millis(20);
/// Between two tries to join a log that does not answer.
const JOIN_PAUSE: Duration = Duration::from_millis(500);

#[derive(Debug, thiserror::Error)]
pub enum IntakeError {
    #[error(transparent)]
    Journal(#[from] JournalError),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("this process may not take requests in any more: {0}")]
    Stopped(String),
}

/// Where requests come from: joins the group of those who take them in.
pub type Door = Box<dyn Fn() -> Result<Box<dyn Requests>, JournalError> + Send>;

/// What an intake is made of.
pub struct Intake {
    pub door: Door,
    pub journal: Arc<dyn Journal>,
    pub view: View,
    pub codec: Arc<Codec>,
    pub requests: RequestCodec,
    /// The gateway of new payments, by the name it is configured under.
    pub gateway: String,
    pub bounds: Bounds,
    /// Where it is said what waits.
    pub holding: Holding,
}

#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// Records in one transaction.
    pub batch_max: usize,
    /// Dead letters of one partition of requests, a minute; at least 1.
    pub dead_letters_per_minute: u32,
}

impl Bounds {
    pub const DEAD_LETTERS_PER_MINUTE: u32 = 100;
}

impl Default for Bounds {
    fn default() -> Self {
        Self { batch_max: 1_000, dead_letters_per_minute: Self::DEAD_LETTERS_PER_MINUTE }
    }
}

impl Intake {
    /// Runs until told to stop. Blocks: give it a thread of its own. It joins its group only when the view has caught up
    /// once, and is not withheld: until then another member has the requests, and what is known already would be appended again. A partition that
    /// waits for the schema registry holds up what belongs to it, and nothing else.
    pub fn run(self, stop: &CancellationToken) -> Result<(), IntakeError> {
        let seldom = Seldom::new();
        while !self.view.is_current() || self.view.is_withheld() {
            if stop.is_cancelled() {
                return Ok(());
            }
            if seldom.now() {
                tracing::info!("requests are taken in when the log has been read to its end, and nothing is withheld");
            }
            std::thread::sleep(CATCH_UP_PAUSE);
        }
        match self.join(stop)? {
            Some(requests) => driver::Running::new(self, requests).run(stop),
            None => Ok(()),
        }
    }

    /// A log that does not answer now is waited for: the rest of the process goes on. `None` at the stop.
    fn join(&self, stop: &CancellationToken) -> Result<Option<Box<dyn Requests>>, IntakeError> {
        while !stop.is_cancelled() {
            match (self.door)() {
                Ok(requests) => return Ok(Some(requests)),
                Err(JournalError::Unavailable(reason)) => tracing::warn!(reason, "requests cannot be taken in yet"),
                Err(error) => return Err(error.into()),
            }
            std::thread::sleep(JOIN_PAUSE);
        }
        Ok(None)
    }
}
