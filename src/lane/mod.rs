//! The one writer of a partition (DESIGN.md 7). It reads its due work from the projection's index, makes the effect, and
//! appends the outcome in a transaction that only the partition's owner can commit. Work comes from state, never from "a
//! message was delivered": whatever is lost on the way is still due.
//!
//! What the effect is, a [`Worker`] says: a charge, for the processor. One [`driver`] serves all the lanes of a process on
//! one thread; the effects run on the async runtime.

mod dispatch;
mod driver;
mod due;
mod outcomes;
mod ownership;
mod recorder;
mod waiting;

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::clock::BEHIND_MAX;
use crate::control::Origin;
use crate::payment::{EventData, Payment, Timestamp};

pub use driver::{Driver, LaneError, Running};

/// Makes the effects of lanes. It appends nothing itself.
pub trait Worker: Send + Sync {
    /// Begins what is due for `payment`, as the fold has it.
    fn start(&self, payment: &Payment, this: Try) -> Start;
}

#[derive(Clone, Debug)]
pub struct Try {
    /// Its number, from 1.
    pub attempt: u32,
    /// May it end in [`Verdict::TryAgain`]? Not when too many already wait in memory.
    pub may_defer: bool,
    /// Was the last record of the payment written since this lane was taken?
    pub recorded_since: bool,
    /// Where the payment began: what began on another log may be acted for from there.
    pub origin: Origin,
    /// What the last try left behind, if this process made it.
    pub memory: Memory,
    pub lane: Tenure,
}

/// What a lane remembers of a payment between two tries of which none was recorded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Memory {
    /// When the last effect that may have taken place was over.
    pub last_post: Option<Timestamp>,
    /// How long it waits between the two.
    pub pause: Option<Duration>,
}

/// A lane's hold on its partition. An effect that outlives it must not act any more.
#[derive(Clone, Debug)]
pub struct Tenure {
    current: Arc<AtomicBool>,
    taken_at: Timestamp,
}

pub enum Start {
    /// The effect is under way; its verdict comes later. Dropping it must not undo it.
    Running(Pin<Box<dyn Future<Output = Verdict> + Send>>),
    /// A bound is reached that all share: ask again as soon as something of this worker has ended; or not before `until`.
    Held { until: Option<Timestamp> },
    /// The same, but for the payments of one merchant: the others may go on.
    HeldMerchant { until: Option<Timestamp> },
    /// Nothing can be done before then.
    NotBefore(Timestamp),
}

#[derive(Debug)]
pub enum Verdict {
    /// Append this.
    Record(Box<EventData>),
    /// Nothing worth a record: try again then. Kept in memory; another owner would try at once.
    TryAgain { at: Timestamp, memory: Memory },
}

impl Try {
    /// Of this payment nothing can have been sent after this: by an earlier owner, not after this lane was taken; by this one,
    /// not after its last try was over; from another log, not after it was adopted. What is recorded has its writer's time,
    /// which may be that of a slow clock.
    #[must_use]
    pub fn settled_at(&self, payment: &Payment) -> Timestamp {
        let recorded = if self.recorded_since { payment.updated_at.plus(BEHIND_MAX) } else { Timestamp::MIN };
        let adopted = match self.origin {
            Origin::Adopted { heard_at } => heard_at.plus(BEHIND_MAX),
            Origin::Ours | Origin::Imported => Timestamp::MIN,
        };
        self.memory.last_post.unwrap_or(Timestamp::MIN).max(recorded).max(adopted).max(self.lane.taken_at)
    }

    /// Can nobody have tried it before? It was recorded after this lane was taken, and this is its first try.
    #[must_use]
    pub fn is_first(&self, payment: &Payment) -> bool {
        self.recorded_since && payment.version == 1 && self.attempt == 1 && self.memory.last_post.is_none()
    }
}

impl Verdict {
    /// The same, with no wait longer than until `now`, and nothing done later.
    fn by(mut self, now: Timestamp) -> Self {
        match &mut self {
            Self::Record(data) => match &mut **data {
                EventData::PaymentRetryScheduled(retry) => retry.not_before = retry.not_before.min(now),
                EventData::PaymentOutcomeUnknown(unknown) => unknown.next_inquiry_at = unknown.next_inquiry_at.min(now),
                _ => {}
            },
            Self::TryAgain { at, memory } => {
                *at = now.min(*at);
                memory.last_post = memory.last_post.map(|at| at.min(now));
            }
        }
        self
    }
}

impl Tenure {
    /// A hold that begins at `taken_at`, when the lane has caught up.
    #[must_use]
    pub fn new(taken_at: Timestamp) -> Self {
        Self { current: Arc::new(AtomicBool::new(true)), taken_at }
    }

    /// The same hold, counted from later.
    #[must_use]
    pub fn renewed(&self, taken_at: Timestamp) -> Self {
        Self { current: Arc::clone(&self.current), taken_at }
    }

    #[must_use]
    pub fn is_current(&self) -> bool {
        self.current.load(Ordering::Acquire)
    }

    pub fn end(&self) {
        self.current.store(false, Ordering::Release);
    }
}

/// The bounds of a process's lanes.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// Payments of one lane that are on their way, from the start of the effect until the fold has their outcome.
    pub in_flight_max: usize,
    /// Outcomes in one transaction.
    pub batch_max: usize,
    /// How long the first outcome of a batch waits for others.
    pub linger: Duration,
    /// How long a stop waits for effects that are under way.
    pub drain: Duration,
}

impl Default for Bounds {
    fn default() -> Self {
        let (linger, drain) = (Duration::from_millis(2), Duration::from_secs(10));
        Self { in_flight_max: 256, batch_max: 4_096, linger, drain }
    }
}
