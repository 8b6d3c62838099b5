//! One attempt, from the work to the outcome on the log of deliveries.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::future::join_all;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use super::buses::Buses;
use super::client::Answer;
use super::hubs::Hubs;
use super::means::Means;
use super::message::Unsendable;
use super::push::{Push, removal};
use super::room::Answered;
use super::schedule::{Disable, Schedule};
use super::target::Target;
use crate::clock::Clocks;
use crate::control::{
    Asks, Change, Control, Credential, Decided, EndpointKind, EndpointState, KnownEndpoint, SecretsKey, TargetId,
};
use crate::deliveries::outcome::{ENDPOINT_DISABLED, Outcome, Result as Ended, What, encode};
use crate::deliveries::{Deliveries, Due};
use crate::journal::{Journal, NewRecord, Position};
use crate::payment::Timestamp;
use crate::projection::{Entry, View};
use crate::schema::EventSource;
use crate::telemetry::Seldom;

/// Before an outcome that could not be appended, or a decision that was not made, is tried again.
pub(super) const APPEND_PAUSE: Duration = Duration::from_secs(1);
/// How long a decision to disable an endpoint, or to end a subscription, is waited for.
pub(super) const DECIDE_PATIENCE: Duration = Duration::from_secs(5);

static NOT_SENDABLE: Seldom = Seldom::new();

/// What attempts are made with.
pub(super) struct Attempts {
    pub deliveries: Deliveries,
    pub view: View,
    pub control: Arc<Control>,
    /// The log of deliveries.
    pub log: Arc<dyn Journal>,
    pub key: SecretsKey,
    pub means: Means,
    pub buses: Arc<Buses>,
    pub hubs: Arc<Hubs>,
    /// Where events are said to come from.
    pub source: EventSource,
    pub push: Push,
    pub schedule: Schedule,
    pub clocks: Clocks,
    /// Of which it is being decided that they are told nothing more.
    pub deciding: Mutex<HashSet<TargetId>>,
    /// One, for whoever looks which subscriptions are over.
    pub sweeping: Arc<Semaphore>,
}

/// What came of sending.
#[derive(Clone, Copy)]
pub(super) struct Sent {
    pub answer: Answer,
    /// Nobody is told later than this.
    pub until: Option<Timestamp>,
}

/// What the lane needs to know of an attempt.
pub(super) struct Attempted {
    /// Where its outcome stands; `None` if it could not be sent from here yet, or not be appended before the stop.
    pub recorded: Option<Position>,
    /// Nothing else is sent to the endpoint before.
    pub pause_until: Option<Timestamp>,
    pub answered: Answered,
    /// When it is tried again, if it is not in a moment.
    pub again_at: Option<Timestamp>,
}

impl Attempted {
    pub fn not_made() -> Self {
        Self { recorded: None, pause_until: None, answered: Answered::Not, again_at: None }
    }
}

impl Attempts {
    /// What came of each, in their order.
    pub async fn send_all(&self, all: &[Due], target: &Target, at: Timestamp) -> Vec<Result<Sent, Unsendable>> {
        match target {
            Target::Endpoint(known) => match known.endpoint.kind {
                EndpointKind::Webhook => join_all(all.iter().map(|due| self.webhook(due, known, at))).await,
                EndpointKind::EventGrid => self.event_grid(all, known).await,
                EndpointKind::ServiceBus => join_all(all.iter().map(|due| self.service_bus(due, known))).await,
                EndpointKind::EventHubs => join_all(all.iter().map(|due| self.event_hubs(due, known))).await,
            },
            Target::Browser(known) => join_all(all.iter().map(|due| self.push(due, known, at))).await,
        }
    }

    /// What is to be done about what came of it, and what is known of it from now on.
    pub async fn conclude(
        self: &Arc<Self>,
        due: Due,
        target: Target,
        at: Timestamp,
        sent: Result<Sent, Unsendable>,
        stop: &CancellationToken,
    ) -> Attempted {
        let attempt = due.attempts.saturating_add(1);
        let Sent { answer, until } = match sent {
            Ok(sent) => sent,
            Err(error) => {
                // It is this instance that cannot, and not the target: no attempt was made, and none is counted.
                if NOT_SENDABLE.now() {
                    tracing::warn!(target = %due.work.target, %error, "somebody cannot be told from here yet");
                }
                return Attempted { again_at: error.again_at(self.clocks.now()), ..Attempted::not_made() };
            }
        };
        target.attempted(answer.failure, answer.took);
        let Answer { took, status, failure, retry_after } = answer;
        let (now, mut pause_until, mut disable) = (self.clocks.now(), None, None);
        let result = match failure {
            None => Ended::Delivered,
            Some(failure) => {
                let standing = target.standing(self.deliveries.standing(due.work.target).unwrap_or_default());
                let next = self.schedule.after(attempt, failure, retry_after, &standing, now, (self.means.chance)());
                (pause_until, disable) = (next.pause_until, next.disable);
                let next_at = next.at.filter(|at| until.is_none_or(|until| *at < until));
                Ended::Failed { failure, next_at }
            }
        };
        let is_over = !matches!(result, Ended::Failed { next_at: Some(_), .. });
        let took_ms = u32::try_from(took.as_millis()).unwrap_or(u32::MAX);
        let outcome = Outcome { work: due.work, what: due.what, attempt, at, took_ms, status, result, pause_until };
        let recorded = self.record(&outcome, stop).await;
        match target {
            Target::Endpoint(known) => {
                if let Some(why) = disable {
                    self.begin_to_disable(known, why, stop.clone());
                }
            }
            Target::Browser(known) => {
                // Before it is on the log that it was told, it is still to be told.
                if let Some(why) = removal(&known, is_over, disable).filter(|_| recorded.is_some()) {
                    self.begin_to_remove(known, why, stop);
                }
            }
        }
        Attempted { recorded, pause_until, answered: Answered::of(failure), again_at: None }
    }

    /// What opens the endpoint's service to us.
    pub fn credential(&self, known: &KnownEndpoint) -> Result<Credential, Unsendable> {
        known.endpoint.open_credential(&self.key)?.ok_or(Unsendable::NoCredential)
    }

    /// The event that somebody is to be told of.
    pub fn entry(&self, due: &Due) -> Result<Entry, Unsendable> {
        let What::Event { payment, version, .. } = &due.what else { return Err(Unsendable::NotThere) };
        if !self.view.has_folded(due.work.position()) {
            return Err(Unsendable::NotFolded);
        }
        let entries = self.view.events_after(*payment, version.saturating_sub(1), 1)?;
        let entry = entries.into_iter().next().filter(|entry| entry.position == due.work.position());
        entry.ok_or(Unsendable::NotThere)
    }

    /// Until it is on the log the work is still due: whoever takes the lane would do it again, and may.
    async fn record(&self, outcome: &Outcome, stop: &CancellationToken) -> Option<Position> {
        let value = encode(self.view.log_id(), outcome).ok()?;
        let key = match &outcome.what {
            What::Event { payment, .. } => payment.to_string(),
            What::Test | What::Disabled { .. } => outcome.work.target.to_string(),
        };
        loop {
            let headers = vec![("content-type".to_owned(), b"application/json".to_vec())];
            let (partition, key, value) = (outcome.work.partition, key.clone().into_bytes(), value.clone());
            match self.log.append(NewRecord { partition, key, headers, value }).await {
                Ok(position) => return Some(position),
                // An outcome that stands there twice is one.
                Err(error) => tracing::warn!(%partition, %error, "what came of a delivery was not recorded yet"),
            }
            tokio::select! {
                () = stop.cancelled() => return None,
                () = tokio::time::sleep(APPEND_PAUSE) => {}
            }
        }
    }

    /// The merchant hears of it where it still can. That it does is no promise: the endpoint itself says that it is disabled.
    async fn tell_the_others(&self, disabled: &KnownEndpoint, why: Disable, now: Timestamp) {
        let (known, merchant) = (self.control.webhooks().known(), &disabled.endpoint.merchant_id);
        for other in known.endpoints.values().map(|known| &known.endpoint) {
            let named = other.events.as_ref().is_none_or(|names| names.iter().any(|name| name == ENDPOINT_DISABLED));
            if !other.is_enabled() || !named || other.merchant_id != *merchant || other.id == disabled.endpoint.id {
                continue;
            }
            let asks = Asks::Disabled { disabled: disabled.endpoint.id, reason: why.name().to_owned() };
            if let Err(error) = self.control.ask_of_endpoint(other.id, asks, now, DECIDE_PATIENCE).await {
                tracing::warn!(endpoint = %other.id, %error, "it is not told that another endpoint is disabled");
            }
        }
    }

    /// No attempt waits for it: the control log may not answer for long. Once at a time for each endpoint.
    fn begin_to_disable(self: &Arc<Self>, known: Arc<KnownEndpoint>, why: Disable, stop: CancellationToken) {
        let (attempts, id) = (Arc::clone(self), TargetId::from(known.endpoint.id));
        if self.deciding().insert(id) {
            self.means.executor.spawn(Box::pin(async move {
                attempts.disable(&known, why, &stop).await;
                attempts.deciding().remove(&id);
            }));
        }
    }

    pub fn deciding(&self) -> MutexGuard<'_, HashSet<TargetId>> {
        self.deciding.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Until it is decided, or the stop. Of two that say so one has an effect; who has disabled or enabled it meanwhile is right.
    pub async fn disable(&self, answered: &KnownEndpoint, why: Disable, stop: &CancellationToken) {
        let id = answered.endpoint.id;
        loop {
            let known = self.control.webhooks().known().endpoints.get(&id).cloned();
            let as_it_was = |known: &Arc<KnownEndpoint>| known.enabled_offset == answered.enabled_offset;
            let Some(known) = known.filter(as_it_was).filter(|known| known.endpoint.is_enabled()) else { return };
            let now = self.clocks.machine();
            let mut endpoint = known.endpoint.clone();
            (endpoint.state, endpoint.reason) = (EndpointState::Disabled, Some(why.name().to_owned()));
            let version = known.version + 1;
            match self.control.change_endpoint(Change::Disabled, endpoint, version, now, DECIDE_PATIENCE).await {
                Ok(Decided::Effective(known)) => {
                    tracing::warn!(endpoint = %id, why = why.name(), "a webhook endpoint is disabled");
                    return self.tell_the_others(&known, why, now).await;
                }
                Ok(Decided::Late | Decided::Unconfirmed) => {} // as it is now, or will be, it is looked at again
                Err(error) => tracing::warn!(endpoint = %id, %error, "a webhook endpoint could not be disabled yet"),
            }
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(APPEND_PAUSE) => {}
            }
        }
    }
}
