//! One payment as the log tells it: what had an effect, in which order, and every end that was ever written.

use crate::checker::history::{Body, Parking, Place};
use crate::payment::event::{Decision, PaymentInProgress};
use crate::payment::{Event, EventData, Payment, PaymentId, Phase, Status, Timestamp};

/// Everything on the log about one payment.
pub(super) struct Life {
    pub id: PaymentId,
    /// Every initiation, the canonical one first.
    pub initiations: Vec<Initiation>,
    /// Every event that had an effect: version n is at n - 1.
    pub steps: Vec<Step>,
    /// Every end, whether it had an effect or not.
    pub ends: Vec<(Place, End)>,
    /// As the fold of the core has it.
    pub payment: Payment,
    /// An operator decided the end: the provider need not agree.
    pub settled_by_hand: bool,
    /// How often an operator allowed one more charge.
    pub charge_agains: u64,
}

pub(super) struct Initiation {
    pub place: Place,
    pub appended_at: Timestamp,
    pub request_id: String,
}

pub(super) struct Step {
    pub place: Place,
    pub event_id: String,
    pub name: &'static str,
    pub status: Status,
    pub appended_at: Timestamp,
}

/// What makes two ends the same.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum End {
    Successful { gateway: String, reference: String },
    Failed { code: String },
}

impl End {
    /// `None` if it is no end.
    #[must_use]
    pub fn of(data: &EventData) -> Option<Self> {
        match data {
            EventData::PaymentSuccessful(e) => {
                Some(Self::Successful { gateway: e.gateway.clone(), reference: e.gateway_reference.clone() })
            }
            EventData::PaymentFailed(e) => Some(Self::Failed { code: e.code.clone() }),
            _ => None,
        }
    }

    /// The end that a fold has come to.
    #[must_use]
    pub fn folded(phase: &Phase) -> Option<Self> {
        match phase {
            Phase::Successful { gateway, reference } => {
                Some(Self::Successful { gateway: gateway.clone(), reference: reference.clone() })
            }
            Phase::Failed { code, .. } => Some(Self::Failed { code: code.clone() }),
            _ => None,
        }
    }

    #[must_use]
    pub fn status(&self) -> Status {
        match self {
            Self::Successful { .. } => Status::Successful,
            Self::Failed { .. } => Status::Failed,
        }
    }
}

impl Life {
    pub fn begin(payment: Payment) -> Self {
        let (initiations, steps, ends) = (Vec::new(), Vec::new(), Vec::new());
        Self { id: payment.id, initiations, steps, ends, payment, settled_by_hand: false, charge_agains: 0 }
    }

    /// Notes one more of its records, `effective` or not, after the fold has passed it.
    pub fn note(&mut self, event: &Event, place: Place, appended_at: Timestamp, effective: bool) {
        match &event.data {
            EventData::PaymentInProgress(initiation) => {
                let request_id = initiation.request_id.as_str().to_owned();
                self.initiations.push(Initiation { place, appended_at, request_id });
            }
            EventData::PaymentResumed(resumed) if effective => match &resumed.decision {
                Decision::SettleSuccessful { .. } | Decision::SettleFailed { .. } => self.settled_by_hand = true,
                Decision::ChargeAgain => self.charge_agains += 1,
                Decision::Inquire => {}
            },
            _ => {}
        }
        self.ends.extend(End::of(&event.data).map(|end| (place, end)));
        if effective {
            let (event_id, name) = (event.event_id.to_string(), event.data.name());
            self.steps.push(Step { place, event_id, name, status: self.payment.status(), appended_at });
        }
    }

    pub fn canonical(&self) -> &PaymentInProgress {
        &self.payment.initiation
    }

    pub fn is_parked_for_cause(&self, parking: &Parking) -> bool {
        match &self.payment.phase {
            Phase::Parked { reason, .. } => {
                parking.reasons.contains(reason) || parking.payments.contains(&self.id.to_string())
            }
            _ => false,
        }
    }

    /// What made `version`, if it has come so far.
    pub fn step(&self, version: u64) -> Option<&Step> {
        let index = usize::try_from(version.checked_sub(1)?).ok()?;
        self.steps.get(index)
    }

    pub fn version(&self) -> u64 {
        self.steps.len() as u64
    }

    /// The version at `place`: how many effective events stand there or before.
    pub fn version_at(&self, place: Place) -> u64 {
        let there = |step: &&Step| step.place.partition == place.partition && step.place.offset <= place.offset;
        self.steps.iter().filter(there).count() as u64
    }

    /// When the payment reached its end: that of the first terminal event.
    pub fn ended_at(&self) -> Option<Timestamp> {
        self.steps.iter().find(|step| step.status != Status::InProgress).map(|step| step.appended_at)
    }

    /// Does `body` ask for what the canonical initiation asks for? Told by the fields, not by fingerprints.
    pub fn is_asked_by(&self, body: &Body) -> bool {
        let canonical = self.canonical();
        let private = canonical.private.as_ref().map(|private| private.open()).unwrap_or_default();
        canonical.money.amount() == body.amount
            && canonical.money.currency().code() == body.currency
            && canonical.customer_id.as_str() == body.customer_id
            && canonical.payment_method.as_str() == body.payment_method
            && private.description == body.description
            && private.metadata == body.metadata
    }
}
