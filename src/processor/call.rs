//! One try: asks the gateway what was planned, and looks at the clock once more right before anything is sent that could
//! charge. A process may have been asleep since the plan was made.

use std::sync::Arc;

use super::judge::Judge;
use super::plan::{NotFound, Plan, licensed_until, may_repeat};
use super::room::Permit;
use super::{CLOCK_PAUSE, GATEWAY_DEADLINE};
use crate::clock::Clocks;
use crate::gateway::{Charge, Gateway, Inquiry, Outcome, Terms};
use crate::lane::{Tenure, Verdict};
use crate::payment::Timestamp;

const NO_ANSWER: &str = "the gateway did not answer in time";

pub(super) struct Call {
    pub charge: Charge,
    /// Since when the gateway knows the key.
    pub window_from: Timestamp,
    /// Has no try of it been recorded?
    pub fresh: bool,
    /// Can nobody have sent anything for it before?
    pub untried: bool,
    /// Nothing was sent for it after this and before this call.
    pub settled_at: Timestamp,
    /// Whatever was planned, nothing that can charge is sent.
    pub inquire_only: bool,
    pub terms: Terms,
    pub gateway: Arc<dyn Gateway>,
    pub clocks: Clocks,
    pub permit: Permit,
    pub lane: Tenure,
    pub judge: Judge,
}

/// Why a charge may be sent.
#[derive(Clone, Copy)]
enum Ground {
    /// The key window is open.
    Window,
    /// The key window is open, and an inquiry sent at that time found nothing.
    WindowAfter(Timestamp),
    /// A final "not found" to an inquiry sent at that time.
    Licence(Timestamp),
}

impl Call {
    pub async fn make(self, what: Plan) -> Verdict {
        match what {
            Plan::Record(event) => Verdict::Record(event),
            // A gateway that has just failed is tried with a question: if it fails again, nothing is in doubt.
            Plan::Charge if self.permit.is_probe() && self.fresh && self.may_inquire() => {
                self.inquire(NotFound::Charge).await
            }
            Plan::Charge => self.charge(Ground::Window).await,
            Plan::Inquire { not_found } => self.inquire(not_found).await,
        }
    }

    fn may_inquire(&self) -> bool {
        self.terms.not_found_final_after.is_some()
    }

    async fn charge(mut self, ground: Ground) -> Verdict {
        let now = self.clocks.now();
        if !self.may_send(ground, now) {
            return self.judge.again(now.plus(CLOCK_PAUSE), "the time to charge had passed before anything was sent");
        }
        self.judge.memory.last_post = Some(now);
        let answer = self.gateway.charge(self.charge.clone());
        let lost = |_| Outcome::Unknown { reason: NO_ANSWER.to_owned(), answered: false };
        let outcome = tokio::time::timeout(GATEWAY_DEADLINE, answer).await.unwrap_or_else(lost);
        self.permit.answered(match &outcome {
            Outcome::Succeeded(_) | Outcome::Declined { .. } | Outcome::Refused { .. } => Some(true),
            Outcome::NotExecuted { .. } | Outcome::Unknown { answered: true, .. } => None,
            Outcome::NotSent { .. } | Outcome::Unknown { answered: false, .. } => Some(false),
        });
        // A later try may begin long after this one was sent: what counts is when it certainly was over.
        self.judge.memory.last_post = Some(self.clocks.now());
        match outcome {
            Outcome::Succeeded(receipt) => self.judge.succeeded(receipt, &self.charge),
            Outcome::Declined { code, message } => self.judge.declined(&code, &message),
            Outcome::NotSent { reason } => self.judge.nothing_done(&reason, None),
            Outcome::NotExecuted { reason, retry_after } => self.judge.nothing_done(&reason, retry_after),
            Outcome::Refused { code, message } => self.refused(ground, &code, &message).await,
            Outcome::Unknown { reason, .. } => self.judge.unknown(&reason, None),
        }
    }

    /// A no to this request is a no to the payment only if no earlier request can have charged: a payment method that can be
    /// used once is refused for that very reason. Otherwise the gateway is asked for it, when its "not found" is final. Even of
    /// a first try it is asked, at once: an owner before us, who does not know yet that it is one no more, may have been first.
    async fn refused(mut self, ground: Ground, code: &str, message: &str) -> Verdict {
        let final_after = self.terms.not_found_final_after;
        let nothing_before = match ground {
            Ground::Window => false,
            Ground::WindowAfter(asked_at) | Ground::Licence(asked_at) => {
                final_after.is_some_and(|after| asked_at >= self.settled_at.plus(after))
            }
        };
        if nothing_before {
            return self.judge.declined(code, message);
        }
        let found = if self.untried { Some(self.ask().await) } else { None };
        match found {
            Some(Inquiry::NotFound | Inquiry::Declined { .. }) => self.judge.declined(code, message),
            Some(Inquiry::Succeeded(receipt)) => self.judge.succeeded(receipt, &self.charge),
            Some(Inquiry::StillRunning | Inquiry::Unknown { .. }) | None => {
                self.judge.unknown(&format!("refused ({code}), and an earlier try may have charged"), final_after)
            }
        }
    }

    /// A clock that cannot be believed, or a lane that has gone to another owner, sends nothing; nor is anything sent for a
    /// payment that another log may act for.
    fn may_send(&self, ground: Ground, now: Timestamp) -> bool {
        if self.inquire_only {
            return false;
        }
        let in_time = match ground {
            Ground::Window | Ground::WindowAfter(_) => may_repeat(self.window_from, &self.terms, now),
            Ground::Licence(asked_at) => now <= licensed_until(&self.terms, asked_at),
        };
        in_time && self.lane.is_current() && self.clocks.too_far_behind().is_none()
    }

    async fn inquire(mut self, not_found: NotFound) -> Verdict {
        let asked_at = self.clocks.now();
        match self.ask().await {
            Inquiry::Succeeded(receipt) => self.judge.succeeded(receipt, &self.charge),
            Inquiry::Declined { code, message } => self.judge.declined(&code, &message),
            Inquiry::StillRunning => self.judge.unknown("the gateway is still at it", None),
            Inquiry::Unknown { reason, .. } => self.judge.unknown(&reason, None),
            Inquiry::NotFound => self.not_found(not_found, asked_at).await,
        }
    }

    async fn ask(&mut self) -> Inquiry {
        let answer = self.gateway.inquire(self.charge.clone());
        let lost = |_| Inquiry::Unknown { reason: NO_ANSWER.to_owned(), answered: false };
        let answer = tokio::time::timeout(GATEWAY_DEADLINE, answer).await.unwrap_or_else(lost);
        self.permit.answered(Some(!matches!(answer, Inquiry::Unknown { answered: false, .. })));
        answer
    }

    async fn not_found(self, meaning: NotFound, asked_at: Timestamp) -> Verdict {
        match meaning {
            NotFound::Hold => self.judge.held("imported, not known to the gateway, and not adopted yet"),
            NotFound::Charge => self.charge(Ground::WindowAfter(asked_at)).await,
            NotFound::FinalFrom(from) if asked_at >= from => self.charge(Ground::Licence(asked_at)).await,
            NotFound::FinalFrom(from) => self.judge.again(from, "the gateway does not know the payment yet"),
        }
    }
}
