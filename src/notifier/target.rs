//! Whom a lane tells, as it is known now.

use std::sync::Arc;
use std::time::Duration;

use super::attempt::Attempts;
use crate::control::{KnownEndpoint, KnownSubscription, TargetId};
use crate::deliveries::Standing;
use crate::deliveries::outcome::Failure;
use crate::journal::{Offset, Partition};
use crate::telemetry;

#[derive(Clone)]
pub(super) enum Target {
    Endpoint(Arc<KnownEndpoint>),
    Browser(Arc<KnownSubscription>),
}

impl Target {
    /// What stands before is not for it.
    pub fn start_in(&self, partition: Partition) -> Offset {
        match self {
            Self::Endpoint(known) => known.endpoint.from_of(partition),
            Self::Browser(known) => known.subscription.from.of(partition),
        }
    }

    /// The push service that has it, if it is a browser: it is bounded with all others of that one.
    pub fn service(&self) -> Option<&str> {
        match self {
            Self::Endpoint(_) => None,
            Self::Browser(known) => Some(&known.subscription.service),
        }
    }

    /// Does it take several at once?
    pub fn takes_several(&self) -> bool {
        matches!(self, Self::Endpoint(known) if known.endpoint.kind.takes_several())
    }

    /// What its failures say of it as it is now.
    pub fn standing(&self, standing: Standing) -> Standing {
        match self {
            Self::Endpoint(known) => standing.since_enabled(&known.endpoint),
            Self::Browser(known) => standing.since(known.created_at),
        }
    }

    pub fn attempted(&self, failure: Option<Failure>, took: Duration) {
        let result = failure.map_or("delivered", Failure::name);
        match self {
            Self::Endpoint(_) => telemetry::webhook_attempted(result, took),
            Self::Browser(_) => telemetry::push_attempted(result, took),
        }
    }
}

impl Attempts {
    /// `None` if it is not there, or not to be told anything.
    pub fn target(&self, id: TargetId) -> Option<Target> {
        match id {
            TargetId::Endpoint(id) => {
                let known = self.control.webhooks().known().endpoints.get(&id).cloned();
                known.filter(|known| known.endpoint.is_enabled()).map(Target::Endpoint)
            }
            TargetId::Subscription(id) => {
                let known = self.control.subscriptions().find(id);
                let has_ended = |known: &Arc<KnownSubscription>| {
                    known.subscription.has_ended(&self.control.keys(), self.clocks.machine())
                };
                known.filter(|known| !has_ended(known)).map(Target::Browser)
            }
        }
    }
}
