//! What people are told of that a fold meets: once, by the fold of the store that is read. What another fold has met is kept
//! until its store is read: of that, whoever was read before may not have come so far, and will be silent when it does.

use std::collections::VecDeque;
use std::sync::Mutex;

use super::{Halt, Offsets, Progress};
use crate::journal::{Offset, Position};
use crate::lock::lock;
use crate::payment::PaymentId;
use crate::telemetry;

/// Those that are kept untold, the latest of them: far more than come between two stores that follow one log.
const UNTOLD_MAX: usize = 10_000;

/// Something that a fold has met at a record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Alarm {
    pub position: Position,
    pub what: Met,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Met {
    /// The payment had ended so before.
    EndedAgain { payment: PaymentId, event: &'static str },
    /// It had ended in another way.
    EndedOtherwise { payment: PaymentId, event: &'static str },
    /// The record cannot be folded. The text repeats nothing of it.
    Halted { reason: String },
    /// It cannot be yet.
    Waits { reason: String },
}

/// Those that have not been told, of one store.
pub(super) struct Alarms(Mutex<Untold>);

#[derive(Default)]
struct Untold {
    kept: VecDeque<(&'static str, Alarm)>,
    /// Of each partition the last record of which nothing is known here: folded by an earlier process, or let go of for want of
    /// room.
    forgotten: Vec<Position>,
}

impl Alarms {
    /// Of rows that stand at `folded` when they are opened.
    pub fn since(folded: &Offsets) -> Self {
        let last = |next: Position| Some(Position::new(next.partition, Offset(next.offset.0.checked_sub(1)?)));
        let forgotten = folded.positions().filter_map(last).collect();
        Self(Mutex::new(Untold { forgotten, ..Untold::default() }))
    }

    /// Tells them, or keeps them if the fold is to be silent. Call it before what they are about is in the rows: killed in
    /// between, it is told again, and not never.
    pub fn raise(&self, projection: &'static str, alarms: Vec<Alarm>, progress: &Progress) {
        // Held while that is asked, so that what is kept is there when an exchange has come to take it.
        let mut untold = lock(&self.0);
        for alarm in alarms {
            if progress.speaks() {
                alarm.tell(projection);
            } else {
                untold.keep(projection, alarm);
            }
        }
    }

    /// Its store is read from now on, and `before` was: tells what that one has not come to. Those are all told then.
    pub fn exchanged(&self, before: &Progress) {
        let untold = std::mem::take(&mut *lock(&self.0));
        let (folded, halts) = (before.folded(), before.halts());
        let is_ahead = |position: Position| position.offset >= folded.of(position.partition);
        let is_halted = |position: Position| halts.iter().any(|halt| halt.position == position);
        if untold.forgotten.iter().any(|position| is_ahead(*position) && !is_halted(*position)) {
            tracing::warn!("something may have been met of which nobody was told: `paylog replay verify` finds it");
        }
        let is_new = |alarm: &Alarm| is_ahead(alarm.position) && !halts.iter().any(|halt| alarm.is_of(halt));
        untold.kept.into_iter().filter(|(_, alarm)| is_new(alarm)).for_each(|(of, alarm)| alarm.tell(of));
    }
}

impl Untold {
    fn keep(&mut self, projection: &'static str, alarm: Alarm) {
        self.kept.push_back((projection, alarm));
        while self.kept.len() > UNTOLD_MAX {
            let Some((_, Alarm { position, .. })) = self.kept.pop_front() else { return };
            // Of each partition the later one.
            self.forgotten.retain(|other| other.partition != position.partition);
            self.forgotten.push(position);
        }
    }
}

impl Alarm {
    /// Is it what was told of this halt?
    fn is_of(&self, halt: &Halt) -> bool {
        let waits = match self.what {
            Met::Halted { .. } => false,
            Met::Waits { .. } => true,
            Met::EndedAgain { .. } | Met::EndedOtherwise { .. } => return false,
        };
        (self.position, waits) == (halt.position, halt.waits)
    }

    fn tell(self, projection: &'static str) {
        let position = self.position;
        match self.what {
            Met::EndedAgain { payment, event } => {
                telemetry::payment_ended_again(true);
                tracing::warn!(%payment, event, %position, "a payment's end was recorded again");
            }
            Met::EndedOtherwise { payment, event } => {
                telemetry::payment_ended_again(false);
                tracing::error!(%payment, event, %position, "a payment ended twice, differently: the first end stands; find out why");
            }
            Met::Halted { reason } => {
                telemetry::partition_halted(projection);
                tracing::error!(%position, projection, reason, "a record cannot be folded: its partition has halted (see `paylog rejected`)");
            }
            Met::Waits { reason } => {
                tracing::info!(%position, projection, reason, "a partition waits for the schema registry");
            }
        }
    }
}
