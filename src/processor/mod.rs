//! The lane whose effect is a charge: what to ask of the gateway for a payment in each phase, and which event its answer
//! makes. It decides; the lane records.
//!
//! * [`plan`]: what may be asked now; the key window and the licence past it.
//! * [`call`]: asks it, with the last look at the clock before anything is sent.
//! * [`judge`]: from the answer to the event.
//! * [`room`]: how many calls may be under way, and whether the gateway is up to any.

mod backoff;
mod call;
mod judge;
mod plan;
mod room;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use crate::clock::Clocks;
use crate::control::Origin;
use crate::gateway::{Charge, Gateway};
use crate::lane::{Start, Try, Verdict, Worker};
use crate::payment::{Payment, Phase};
use crate::telemetry;
use call::Call;
use judge::Judge;
use plan::{Plan, decided, not_adopted, plan, without_a_clock};
use room::{Entry, Room};

pub use backoff::Backoff;
pub use room::Bulkheads;

/// A gateway that has not answered by then has lost its answer.
pub const GATEWAY_DEADLINE: Duration = Duration::from_secs(30);
/// Retry and unknown events are recorded when the phase changes, and then at most this often.
const RECORD_EVERY: Duration = Duration::from_secs(15 * 60);
/// A payment for a gateway that is not configured here is looked at again after this.
const NOT_CONFIGURED_PAUSE: Duration = Duration::from_secs(30);
/// A payment that began on another log, and that its gateway cannot be asked about, is looked at again after this.
const NOT_ADOPTED_PAUSE: Duration = Duration::from_secs(5);
/// While this machine's clock cannot be believed, nothing is sent; it is looked at again after this.
const CLOCK_PAUSE: Duration = Duration::from_secs(1);

/// How a processor goes about it.
#[derive(Clone, Copy, Debug)]
pub struct Policy {
    pub bulkheads: Bulkheads,
    pub backoff: Backoff,
    /// A payment of which nobody has known for longer than this whether it was charged is for a person to look at.
    pub unknown_park_after: Duration,
}

impl Default for Policy {
    fn default() -> Self {
        let unknown_park_after = Duration::from_secs(15 * 60);
        Self { bulkheads: Bulkheads::default(), backoff: Backoff::default(), unknown_park_after }
    }
}

pub struct Processor {
    gateway: Arc<dyn Gateway>,
    clocks: Clocks,
    policy: Policy,
    room: Arc<Room>,
}

impl Processor {
    #[must_use]
    pub fn new(gateway: Arc<dyn Gateway>, clocks: Clocks, policy: Policy) -> Self {
        let room = Arc::new(Room::new(policy.bulkheads, gateway.terms().calls_per_second_max));
        Self { gateway, clocks, policy, room }
    }

    fn judge(&self, payment: &Payment, this: &Try) -> Judge {
        let Policy { backoff, unknown_park_after, .. } = self.policy;
        Judge::new((self.gateway.name(), backoff, unknown_park_after), self.clocks.clone(), payment, this)
    }
}

impl Worker for Processor {
    fn start(&self, payment: &Payment, this: Try) -> Start {
        let at_once = |event| Start::Running(Box::pin(std::future::ready(Verdict::Record(event))));
        if let Some(end) = decided(payment, this.attempt) {
            return at_once(Box::new(end));
        }
        let (now, terms, settled_at) = (self.clocks.now(), self.gateway.terms(), this.settled_at(payment));
        if payment.initiation.gateway != self.gateway.name() {
            return Start::NotBefore(now.plus(NOT_CONFIGURED_PAUSE)); // held, never swapped
        }
        let inquire_only = this.origin == Origin::Imported;
        let mut what = match not_adopted(&terms) {
            _ if !inquire_only => plan(payment, &terms, now, settled_at),
            Some(inquiry) => inquiry,
            None => return Start::NotBefore(now.plus(NOT_ADOPTED_PAUSE)),
        };
        if what == Plan::Charge && !self.clocks.are_compared() {
            what = without_a_clock(&terms, this.attempt, now);
        }
        if let Plan::Record(event) = what {
            return at_once(event);
        }
        if let Some(behind) = self.clocks.too_far_behind() {
            telemetry::clock_behind(behind);
            return Start::Held { until: Some(now.plus(CLOCK_PAUSE)) };
        }
        let permit = match self.room.enter(&payment.initiation.merchant_id) {
            Entry::Granted(permit) => permit,
            Entry::Full => return Start::Held { until: None },
            Entry::MerchantFull => return Start::HeldMerchant { until: None },
            Entry::Closed(pause) => return Start::Held { until: Some(now.plus(pause)) },
            Entry::MerchantClosed(pause) => return Start::HeldMerchant { until: Some(now.plus(pause)) },
        };
        let call = Call {
            charge: request(payment, &this),
            window_from: payment.window_from,
            fresh: matches!(payment.phase, Phase::Processing { .. }),
            untried: this.is_first(payment),
            settled_at,
            inquire_only,
            terms,
            gateway: Arc::clone(&self.gateway),
            clocks: self.clocks.clone(),
            permit,
            judge: self.judge(payment, &this),
            lane: this.lane,
        };
        Start::Running(Box::pin(call.make(what)))
    }
}

/// The same at every try, but for the number of the try, which no provider is told.
fn request(payment: &Payment, this: &Try) -> Charge {
    let initiation = &payment.initiation;
    Charge {
        key: payment.id,
        merchant: initiation.merchant_id.clone(),
        money: initiation.money,
        payment_method: initiation.payment_method.clone(),
        request_version: initiation.gateway_request_version,
        since: payment.created_at.min(payment.window_from),
        again_from: (payment.window_from > payment.created_at).then_some(payment.window_from),
        attempt: this.attempt,
    }
}
