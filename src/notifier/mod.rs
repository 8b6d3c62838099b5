//! Tells those who asked to be told, by webhook and by Web Push: a lane whose effect is a delivery (DESIGN.md 7,
//! docs/decisions/0017, 0018). What is due,
//! [`Deliveries`] says; a lane sends it, appends what came of it, and lets go of it when the fold has that outcome.
//!
//! The group says who sends for which partition. An outcome is appended without a transaction: it is the same however often
//! it stands there, and one that was lost is a delivery that is made again, with the same id.

mod agenda;
mod args;
mod attempt;
mod buses;
mod client;
mod cloud;
pub mod described;
mod event_grid;
mod event_hubs;
mod group;
mod hubs;
mod lane;
mod means;
mod message;
mod names;
mod push;
mod reply;
mod room;
mod schedule;
mod service_bus;
mod sweep;
mod target;
#[cfg(test)]
mod tests;
mod webhook;

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use crate::clock::Clocks;
use crate::control::{Control, SecretsKey};
use crate::deliveries::Deliveries;
use crate::journal::{Journal, JournalError, Lanes};
use crate::projection::View;
use crate::schema::EventSource;
use crate::store::StoreError;
use crate::webpush::{Subject, VapidKey};
use attempt::Attempts;
use buses::Buses;
use hubs::Hubs;
use push::Push;

pub use args::WebhookArgs;
pub use client::{Answer, Post};
pub use lane::Running;
pub use means::{Chance, Means, Posts};

/// Before the group is asked again whether it can be joined.
const JOIN_PAUSE: Duration = Duration::from_secs(1);

#[derive(Debug, thiserror::Error)]
pub enum NotifyError {
    #[error(transparent)]
    Journal(#[from] JournalError),
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// What a notifier is made of.
pub struct Notifier {
    attempts: Arc<Attempts>,
    bounds: Bounds,
}

/// What it works on.
pub struct Parts {
    pub deliveries: Deliveries,
    /// The log of deliveries.
    pub log: Arc<dyn Journal>,
    pub view: View,
    pub control: Arc<Control>,
    pub key: SecretsKey,
    /// Who we are to push services; without a subject no browser is told.
    pub vapid: (VapidKey, Option<Subject>),
    pub clocks: Clocks,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Bounds {
    /// Webhooks on their way, over all endpoints; beside them half as many messages to browsers.
    pub in_flight_max: usize,
    /// And of one target.
    pub of_target_max: usize,
    /// How long a stop waits for those that are on their way.
    pub drain: Duration,
}

impl Notifier {
    #[must_use]
    pub fn new(parts: Parts, args: &WebhookArgs, drain: Duration, means: Means) -> Self {
        let Parts { deliveries, log, view, control, key, vapid, clocks } = parts;
        let buses = Arc::new(Buses::default());
        let executor = Arc::clone(&means.executor);
        let hubs = Hubs::new(args.hub_hosts(), args.event_hubs_ca.clone(), args.timeout(), executor);
        let source = args.cloudevents_source.clone().unwrap_or_else(|| EventSource::of_log(view.log_id()));
        let push = Push { key: vapid.0, subject: vapid.1, ttl: args.push.ttl() };
        let attempts = Attempts {
            deliveries,
            view,
            control,
            log,
            key,
            means,
            buses,
            hubs,
            source,
            push,
            schedule: args.schedule(),
            clocks,
            deciding: std::sync::Mutex::default(),
            sweeping: Arc::new(Semaphore::new(1)),
        };
        let (in_flight_max, of_target_max) = (args.webhooks_in_flight, args.webhooks_in_flight_each);
        Self { attempts: Arc::new(attempts), bounds: Bounds { in_flight_max, of_target_max, drain } }
    }

    /// Runs until told to stop, then drains. Blocks: give it a thread of its own.
    pub fn run(self, stop: &CancellationToken) -> Result<(), NotifyError> {
        let Some(lanes) = self.join(stop)? else { return Ok(()) };
        let mut running = Running::new(self.attempts, self.bounds, lanes);
        while !stop.is_cancelled() {
            running.turn(lane::GROUP_POLL)?;
        }
        running.drain()
    }

    /// For whoever gives its lanes their turns.
    pub fn start(self) -> Result<Running, NotifyError> {
        let lanes = self.attempts.log.lanes()?;
        Ok(Running::new(self.attempts, self.bounds, lanes))
    }

    /// A log that does not answer now is waited for. `None` at the stop.
    fn join(&self, stop: &CancellationToken) -> Result<Option<Box<dyn Lanes>>, NotifyError> {
        while !stop.is_cancelled() {
            match self.attempts.log.lanes() {
                Ok(lanes) => return Ok(Some(lanes)),
                Err(JournalError::Unavailable(reason)) => {
                    tracing::warn!(reason, "the notifiers' group cannot be joined yet");
                }
                Err(error) => return Err(error.into()),
            }
            std::thread::sleep(JOIN_PAUSE);
        }
        Ok(None)
    }
}
