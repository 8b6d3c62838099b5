//! The fold of one payment's events: what is true of it now. Pure and total; no order of records can make it panic or end
//! twice. Frozen once released: a new rule is a new event, for an old log must always fold to the same rows.

use crate::payment::event::{Decision, EventData, PaymentInProgress, PaymentResumed};
use crate::payment::{Event, PaymentId, Timestamp};

/// What the customer is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
pub enum Status {
    InProgress,
    Successful,
    Failed,
}

/// What is being done about it.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum Phase {
    /// Due for a charge, or for what the operator decided, from `since` on: the earlier of the writer's clock and the log's,
    /// so that no clock that runs ahead holds a payment back.
    Processing {
        decision: Option<Decision>,
        since: Timestamp,
    },
    /// The last try certainly did not charge.
    Retrying {
        reason: String,
        not_before: Timestamp,
    },
    /// Nobody knows whether a try charged, since the log took the first record of it.
    Unknown {
        reason: String,
        next_inquiry_at: Timestamp,
        since: Timestamp,
    },
    /// Waits for a person.
    Parked {
        reason: String,
        detail: String,
    },
    Successful {
        gateway: String,
        reference: String,
    },
    Failed {
        code: String,
        message: String,
    },
}

/// A payment as its effective events made it.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Payment {
    pub id: PaymentId,
    /// The canonical initiation: the first on the log.
    pub initiation: PaymentInProgress,
    pub created_at: Timestamp,
    pub updated_at: Timestamp,
    /// When the gateway's key window began: the earlier of the sender's and the log's clock at the initiation, or at the
    /// last `charge_again`.
    pub window_from: Timestamp,
    /// How many effective events there were.
    pub version: u64,
    /// The number of the last try that is on the log; 0 before any.
    pub attempt: u32,
    pub phase: Phase,
}

/// What one more event did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// The payment changed; its version is one more.
    Effective,
    /// A later initiation with the same fingerprint.
    Repeat,
    /// A later initiation that asks for something else.
    Conflict,
    /// It came too late, or for another version: nothing to do.
    Ignored,
    /// The same end again, from a torn transaction: harmless, and counted.
    EndedAgain,
    /// Another end than the first: nothing changes, and someone must be told.
    EndedOtherwise,
}

/// An event came before the payment's initiation: the log has lost its beginning, and the partition must halt.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the first record of payment {0} on the log is not its PaymentInProgress: the log has lost its beginning")]
pub struct LostBeginning(pub PaymentId);

impl Payment {
    /// Folds one event, recorded by the log at `recorded_at`, into what was there before.
    pub fn fold(before: &mut Option<Payment>, event: &Event, recorded_at: Timestamp) -> Result<Effect, LostBeginning> {
        match (before.as_mut(), &event.data) {
            (Some(payment), _) => Ok(payment.apply(event, recorded_at)),
            (None, EventData::PaymentInProgress(initiation)) => {
                *before = Some(Self::begin(event, initiation, recorded_at));
                Ok(Effect::Effective)
            }
            (None, _) => Err(LostBeginning(event.payment_id)),
        }
    }

    fn begin(event: &Event, initiation: &PaymentInProgress, recorded_at: Timestamp) -> Self {
        Self {
            id: event.payment_id,
            initiation: initiation.clone(),
            created_at: event.occurred_at,
            updated_at: event.occurred_at,
            window_from: event.occurred_at.min(recorded_at),
            version: 1,
            attempt: 0,
            phase: Phase::Processing { decision: None, since: event.occurred_at.min(recorded_at) },
        }
    }

    fn apply(&mut self, event: &Event, recorded_at: Timestamp) -> Effect {
        if let EventData::PaymentInProgress(again) = &event.data {
            let same = again.fingerprint == self.initiation.fingerprint;
            return if same { Effect::Repeat } else { Effect::Conflict };
        }
        let since = event.occurred_at.min(recorded_at);
        let Some((attempt, phase)) = self.next(event, recorded_at) else {
            return self.without_effect(&event.data);
        };
        if let Phase::Processing { decision: Some(Decision::ChargeAgain), .. } = phase {
            self.window_from = since;
        }
        self.attempt = attempt;
        self.phase = phase;
        self.version += 1;
        self.updated_at = event.occurred_at;
        Effect::Effective
    }

    /// The table of DESIGN.md 6, without its first row: the attempt and the phase after `event`, if it has an effect.
    fn next(&self, event: &Event, recorded_at: Timestamp) -> Option<(u32, Phase)> {
        let parked = matches!(self.phase, Phase::Parked { .. });
        if self.is_terminal() {
            return None;
        }
        // A wait is as long as its writer said, whatever the writer's clock said: so no clock that runs ahead holds it back.
        let over = |at: Timestamp| at.min(recorded_at.plus(at.since(event.occurred_at)));
        match &event.data {
            EventData::PaymentInProgress(_) => None,
            EventData::PaymentSuccessful(e) => {
                let phase = Phase::Successful { gateway: e.gateway.clone(), reference: e.gateway_reference.clone() };
                Some((e.attempt, phase))
            }
            EventData::PaymentFailed(e) => {
                Some((e.attempt, Phase::Failed { code: e.code.clone(), message: e.message.clone() }))
            }
            EventData::PaymentRetryScheduled(e) if !parked => {
                Some((e.attempt, Phase::Retrying { reason: e.reason.clone(), not_before: over(e.not_before) }))
            }
            EventData::PaymentOutcomeUnknown(e) if !parked => {
                let since = self.unknown_since().unwrap_or(recorded_at);
                let (reason, next_inquiry_at) = (e.reason.clone(), over(e.next_inquiry_at));
                Some((e.attempt, Phase::Unknown { reason, next_inquiry_at, since }))
            }
            EventData::PaymentParked(e) if !parked => {
                Some((self.attempt, Phase::Parked { reason: e.reason.clone(), detail: e.detail.clone() }))
            }
            EventData::PaymentResumed(e) if parked => self.resumed(e, event.occurred_at.min(recorded_at)),
            _ => None,
        }
    }

    fn resumed(&self, event: &PaymentResumed, since: Timestamp) -> Option<(u32, Phase)> {
        let now = event.at_version == self.version;
        now.then(|| (self.attempt, Phase::Processing { decision: Some(event.decision.clone()), since }))
    }

    fn without_effect(&self, event: &EventData) -> Effect {
        match (&self.phase, event) {
            (Phase::Successful { gateway, reference }, EventData::PaymentSuccessful(e)) => {
                let same = *gateway == e.gateway && *reference == e.gateway_reference;
                if same { Effect::EndedAgain } else { Effect::EndedOtherwise }
            }
            (Phase::Failed { code, .. }, EventData::PaymentFailed(e)) => {
                if *code == e.code {
                    Effect::EndedAgain
                } else {
                    Effect::EndedOtherwise
                }
            }
            (Phase::Successful { .. }, EventData::PaymentFailed(_))
            | (Phase::Failed { .. }, EventData::PaymentSuccessful(_)) => Effect::EndedOtherwise,
            _ => Effect::Ignored,
        }
    }

    #[must_use]
    pub fn status(&self) -> Status {
        match self.phase {
            Phase::Successful { .. } => Status::Successful,
            Phase::Failed { .. } => Status::Failed,
            _ => Status::InProgress,
        }
    }

    #[must_use]
    pub fn is_terminal(&self) -> bool {
        self.status() != Status::InProgress
    }

    /// Has an operator said how it ends?
    #[must_use]
    pub fn is_settled(&self) -> bool {
        let Phase::Processing { decision: Some(decision), .. } = &self.phase else { return false };
        matches!(decision, Decision::SettleSuccessful { .. } | Decision::SettleFailed { .. })
    }

    /// For how long nobody has known whether it was charged: from the first record of that on, however many followed.
    #[must_use]
    pub fn unknown_since(&self) -> Option<Timestamp> {
        match self.phase {
            Phase::Unknown { since, .. } => Some(since),
            _ => None,
        }
    }

    /// From when on its lane has something to do for it; `None` while it has not.
    #[must_use]
    pub fn due_at(&self) -> Option<Timestamp> {
        match &self.phase {
            Phase::Processing { since, .. } => Some(*since),
            Phase::Retrying { not_before, .. } => Some(*not_before),
            Phase::Unknown { next_inquiry_at, .. } => Some(*next_inquiry_at),
            Phase::Parked { .. } | Phase::Successful { .. } | Phase::Failed { .. } => None,
        }
    }
}

impl Status {
    /// As it stands in JSON.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::InProgress => "in_progress",
            Self::Successful => "successful",
            Self::Failed => "failed",
        }
    }

    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        [Self::InProgress, Self::Successful, Self::Failed].into_iter().find(|status| status.name() == name)
    }
}

impl Phase {
    /// As it stands in JSON.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Processing { .. } => "processing",
            Self::Retrying { .. } => "retrying",
            Self::Unknown { .. } => "unknown",
            Self::Parked { .. } => "parked",
            Self::Successful { .. } | Self::Failed { .. } => "done",
        }
    }
}
