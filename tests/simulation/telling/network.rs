//! The way from a process to a receiver, and back: neither is certain, and both take their time.

use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Weak};
use std::time::Duration;

use paylog::control::{Control, KnownEndpoint};
use paylog::deliveries::outcome::Failure;
use paylog::notifier::{Answer, Post, Posts};
use paylog::payment::PaymentId;
use warp::http::StatusCode;

use super::World;
use super::people::Arrival;
use crate::log::Life;
use crate::plan::SECOND_US;
use crate::planted::Mistake;
use crate::process::Tasks;

/// Somebody who is busy wants to be left alone for so long at most.
const BUSY_MAX_US: u64 = 3_600 * SECOND_US;

pub struct Network {
    pub world: Arc<World>,
    pub life: Life,
    pub tasks: Weak<Tasks>,
    pub control: Arc<Control>,
}

/// What comes of one request.
struct Fate {
    arrival: usize,
    wait: Duration,
    status: Option<u16>,
    retry_after: Option<Duration>,
    /// Why there is no answer.
    failure: Failure,
}

fn ended(status: u16) -> (u64, Option<u16>, Failure) {
    (0, Some(status), Failure::Status)
}

impl Network {
    /// `None` if the process dies of it.
    fn begin(&self, post: &Post<'_>) -> Option<Fate> {
        if !self.world.core().may_call(self.life, "send a webhook") {
            return None;
        }
        let known = self.control.webhooks().known();
        let known = known.endpoints.values().find(|known| known.endpoint.url == post.url)?;
        self.must_be_wanted(known);
        let body: serde_json::Value = serde_json::from_slice(&post.body).unwrap_or_default();
        let payment = body.pointer("/data/payment/id").and_then(|id| PaymentId::parse(id.as_str()?));
        let of = payment.zip(body.pointer("/data/sequence").and_then(serde_json::Value::as_u64));
        let mut id = post.headers.iter().find(|(name, _)| *name == "webhook-id").map(|(_, id)| (*id).to_owned())?;
        let fate = self.decide(known, of);
        let (tick, from, to) = (self.world.core().tick(), self.life, known.endpoint.id);
        if self.world.core().is_planted(Mistake::NewIdEveryAttempt) {
            id = format!("{id}-{tick}");
        }
        let (enabled, starts) = (known.enabled_offset, known.endpoint.from.clone());
        let mut people = self.world.people();
        let arrival = people.arrivals.len();
        let heard = false;
        people.arrivals.push(Arrival { tick, from, to, id, of, enabled, starts, status: fate.status, heard });
        Some(Fate { arrival, ..fate })
    }

    /// Whoever is told nothing any more is sent nothing that was begun after this process knew it.
    fn must_be_wanted(&self, known: &KnownEndpoint) {
        let (id, task) = (known.endpoint.id, self.tasks.upgrade().map(|tasks| tasks.current()));
        let told_off = self.world.people().told_off.get(&(self.life, id)).copied();
        if told_off.zip(task).is_some_and(|(since, task)| task >= since) {
            self.world.saw(format!("process {} tells {id} something, which is disabled", self.life.process));
        }
    }

    fn decide(&self, known: &KnownEndpoint, of: Option<(PaymentId, u64)>) -> Fate {
        let mut core = self.world.core();
        let people = self.world.people();
        let habits = people.receivers.iter().find(|receiver| receiver.id == known.endpoint.id).map(|r| &r.habits);
        // What tells of no payment has ids that are not the seed's, and so may not change what is chosen.
        let habits = habits.filter(|_| of.is_some());
        let happens = |rate: u32, core: &mut crate::core::Core| core.happens(rate);
        let mut retry_after = None;
        let (wait_us, status, failure) = match habits {
            Some(habits) if happens(habits.away, &mut core) => {
                core.trace.fault("a receiver cannot be reached");
                (0, None, Failure::Connect)
            }
            Some(habits) if happens(habits.stalls, &mut core) => {
                core.trace.fault("a receiver takes a webhook and does not answer");
                (15 * SECOND_US, None, Failure::Timeout)
            }
            Some(habits) if happens(habits.fails, &mut core) => {
                core.trace.fault("a receiver fails");
                ended(*core.random.pick(&[302, 400, 500, 503]))
            }
            Some(habits) if happens(habits.busy, &mut core) => {
                core.trace.fault("a receiver wants to be left alone");
                retry_after = Some(Duration::from_micros(core.random.skewed(BUSY_MAX_US)));
                ended(429)
            }
            Some(habits) if happens(habits.gone, &mut core) => {
                core.trace.fault("a receiver is gone");
                ended(410)
            }
            _ => (core.random.skewed(SECOND_US), Some(204), Failure::Status),
        };
        let (now, process, id) = (core.now_us, self.life.process, known.endpoint.id);
        core.trace.line(now, format_args!("{process} tells {id} of {of:?}: {status:?} {failure:?}"));
        Fate { arrival: 0, wait: Duration::from_micros(wait_us), status, retry_after, failure }
    }
}

impl Posts for Network {
    fn post<'a>(&'a self, post: Post<'a>) -> Pin<Box<dyn Future<Output = Answer> + Send + 'a>> {
        Box::pin(async move {
            let Some(fate) = self.begin(&post) else { return std::future::pending().await };
            if !fate.wait.is_zero() {
                tokio::time::sleep(fate.wait).await;
            }
            if !self.world.core().may_call(self.life, "the answer to a webhook") {
                return std::future::pending().await;
            }
            self.world.people().arrivals[fate.arrival].heard = true;
            let Fate { wait: took, mut status, retry_after, .. } = fate;
            if self.world.core().is_planted(Mistake::FailureTakenForDelivered) {
                status = status.map(|_| 204);
            }
            let code = status.and_then(|status| StatusCode::from_u16(status).ok());
            let failure = code.map_or(Some(fate.failure), post.judge);
            Answer { took, status, retry_after, failure }
        })
    }
}
