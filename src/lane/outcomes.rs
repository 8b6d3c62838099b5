//! From verdicts to records: what waits to be committed, which of it still counts, and the transaction.

use std::collections::{BTreeMap, BTreeSet};

use tokio::time::Instant;

use super::due::{Epoch, Lane};
use crate::journal::{Fate, Lanes, NewRecord, Offset, Partition, Position, TransactionError};
use crate::payment::{Event, EventData, Payment, PaymentId};
use crate::projection::{DueKey, View};
use crate::recording::event_record;
use crate::schema::Codec;
use crate::store::StoreError;

/// An outcome that is not on the log yet.
#[derive(Clone)]
pub(super) struct Ready {
    pub partition: Partition,
    pub epoch: Epoch,
    pub payment_id: PaymentId,
    /// Of the payment when the effect began.
    pub version: u64,
    /// How far its partition was folded then: as long as that has not moved, neither has the payment.
    pub folded: Offset,
    pub event: Box<Event>,
}

/// What waits to be committed, in the order of its coming.
#[derive(Default)]
pub(super) struct Outcomes {
    waiting: Vec<Ready>,
    oldest: Option<Instant>,
}

impl Outcomes {
    pub fn push(&mut self, ready: Ready) {
        self.oldest.get_or_insert_with(Instant::now);
        self.waiting.push(ready);
    }

    pub fn len(&self) -> usize {
        self.waiting.len()
    }

    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    pub fn oldest(&self) -> Option<Instant> {
        self.oldest
    }

    /// Takes at most `max` outcomes of lanes that may act now; the others go on waiting, or are dropped if their lane is
    /// gone or their payment has moved on.
    pub fn choose(
        &mut self,
        owned: &mut BTreeMap<Partition, Lane>,
        view: &View,
        max: usize,
    ) -> Result<Vec<Ready>, StoreError> {
        let (mut chosen, mut later) = (Vec::new(), Vec::new());
        for ready in self.waiting.drain(..) {
            let Some(lane) = owned.get_mut(&ready.partition).filter(|lane| lane.epoch == ready.epoch) else { continue };
            if !lane.may_record() || chosen.len() >= max {
                later.push(ready);
                continue;
            }
            if view.folded_to(ready.partition) == ready.folded {
                chosen.push(ready);
                continue;
            }
            let row = view.payment(ready.payment_id)?;
            if row.as_ref().is_some_and(|row| still_counts(&ready, &row.payment)) {
                chosen.push(ready);
                continue;
            }
            lane.end(ready.payment_id);
            lane.forget(ready.payment_id);
            // What it became may have been due while this was under way, and passed over for it.
            if let Some(due_at) = row.and_then(|row| row.payment.due_at()) {
                lane.rewind(DueKey { due_at, payment_id: ready.payment_id });
            }
        }
        self.waiting = later;
        self.oldest = self.oldest.filter(|_| !self.waiting.is_empty());
        Ok(chosen)
    }

    /// Takes them back after a transaction that came to nothing.
    pub fn put_back(&mut self, mut chosen: Vec<Ready>) {
        self.oldest.get_or_insert_with(Instant::now);
        chosen.append(&mut self.waiting);
        self.waiting = chosen;
    }
}

/// Has the payment not moved on since the effect began? An end counts as long as there is none yet.
fn still_counts(ready: &Ready, payment: &Payment) -> bool {
    match ready.event.data {
        EventData::PaymentSuccessful(_) | EventData::PaymentFailed(_) => !payment.is_terminal(),
        _ => payment.version == ready.version,
    }
}

/// Appends the chosen outcomes and moves the positions of their lanes, together. Answers with where each record went.
pub(super) fn commit(
    chosen: &[Ready],
    lanes: &mut dyn Lanes,
    view: &View,
    codec: &Codec,
) -> Result<Vec<Position>, TransactionError> {
    let folded = view.folded();
    let partitions: BTreeSet<Partition> = chosen.iter().map(|ready| ready.partition).collect();
    let next: Vec<Position> = partitions.into_iter().map(|p| Position::new(p, folded.of(p))).collect();
    let records = chosen.iter().map(|ready| record(ready, codec)).collect::<Result<Vec<_>, _>>()?;
    let mut transaction = lanes.begin()?;
    for record in records {
        if let Err(error) = transaction.append(record) {
            transaction.abort()?;
            return Err(error);
        }
    }
    transaction.commit(&next)
}

/// Our own events always fit and encode; if one does not, the lane stops and says so, rather than lose an outcome.
fn record(ready: &Ready, codec: &Codec) -> Result<NewRecord, TransactionError> {
    event_record(&ready.event, ready.partition, codec, None).map_err(|e| {
        let reason = format!("the outcome of {} cannot be encoded: {e}", ready.payment_id);
        TransactionError { fate: Fate::Stop, culprit: None, reason }
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::sync::Arc;

    use super::{Outcomes, Ready};
    use crate::clock::Clocks;
    use crate::journal::embedded::EmbeddedJournal;
    use crate::journal::{Offset, Partition};
    use crate::lane::due::{CatchUp, Epoch, Lane};
    use crate::payment::event::PaymentFailed;
    use crate::payment::samples::{at, payment_id};
    use crate::payment::{Event, EventData};
    use crate::projection::{Folder, View};
    use crate::schema::Codec;
    use crate::store::Store;

    const HERE: Partition = Partition(0);

    fn view(directory: &std::path::Path) -> View {
        let journal = EmbeddedJournal::open(&directory.join("journal"), 1).unwrap();
        let store = Store::open(&directory.join("store")).unwrap();
        Folder::open(store, journal.as_ref(), Arc::new(Codec::new().unwrap()), Clocks::system()).unwrap().1
    }

    fn outcome(key: &str, epoch: Epoch) -> Ready {
        let (payment_id, version, folded) = (payment_id(key), 1, Offset(0));
        let data = PaymentFailed { code: "card_declined".to_owned(), message: String::new(), attempt: 1 };
        let event = Box::new(Event::new(payment_id, at(1), EventData::PaymentFailed(data)));
        Ready { partition: HERE, epoch, payment_id, version, folded, event }
    }

    /// research/reliability.md, (b) 23: the broker would take them, for the group's metadata are fresh.
    #[test]
    fn what_was_begun_in_an_earlier_epoch_never_gets_into_a_transaction() {
        let directory = tempfile::tempdir().unwrap();
        let (view, mut outcomes) = (view(directory.path()), Outcomes::default());
        for (key, epoch) in [("a", 1), ("b", 2), ("c", 1)] {
            outcomes.push(outcome(key, Epoch(epoch)));
        }
        // Revoked, and assigned again since the first of them was begun.
        let mut lane = Lane::new(HERE, Epoch(2));
        lane.catch_up = CatchUp::Done;
        let mut owned = BTreeMap::from([(HERE, lane)]);
        let chosen = outcomes.choose(&mut owned, &view, 10).unwrap();
        assert_eq!(chosen.iter().map(|ready| ready.payment_id).collect::<Vec<_>>(), [payment_id("b")]);
        assert!(outcomes.is_empty(), "what is of no lane any more is let go");
        outcomes.push(outcome("d", Epoch(2)));
        assert!(outcomes.choose(&mut BTreeMap::new(), &view, 10).unwrap().is_empty(), "nothing of a lane that is gone");
    }

    #[test]
    fn what_a_lane_may_not_record_yet_waits_and_holds_up_no_other() {
        let directory = tempfile::tempdir().unwrap();
        let (view, mut outcomes) = (view(directory.path()), Outcomes::default());
        outcomes.push(outcome("a", Epoch(1)));
        let mut owned = BTreeMap::from([(HERE, Lane::new(HERE, Epoch(1)))]);
        assert!(outcomes.choose(&mut owned, &view, 10).unwrap().is_empty(), "it has not caught up");
        owned.get_mut(&HERE).unwrap().catch_up = CatchUp::Done;
        assert_eq!(outcomes.choose(&mut owned, &view, 10).unwrap().len(), 1);
    }
}
