//! For browsers the log of payments is read once, for all of them: whom an end of a payment is to be told is looked up when it is
//! found. A browser that subscribes later than the log was read is told from the rows of payments what it has missed since.

use super::outcome::{Cause, What, WorkId};
use super::rows::BROWSERS;
use super::scan::{Kind, Scanner, Who};
use super::{Deliveries, DeliveriesError};
use crate::control::{KnownSubscription, PushFrom, PushScope};
use crate::journal::{Offset, Partition, Position};
use crate::payment::event::PaymentInProgress;
use crate::payment::{EventData, Payment};
use crate::projection::{Entry, Offsets, Scope};
use crate::store::StoreError;

/// Ends of a customer's payments that are looked at in one read.
const ENDS_MAX: usize = 100;
/// Browsers that are looked after in one turn: the bound on how late a stop is noticed.
const LEARNED_AT_ONCE_MAX: usize = 500;
/// In `meta`: the first offset of the control log whose browsers are not known to be told what they have missed.
const LEARNED: &[u8] = b"learned";

/// Of what a browser is told: how its payment ended.
fn is_end(data: &EventData) -> bool {
    matches!(data, EventData::PaymentSuccessful(_) | EventData::PaymentFailed(_))
}

impl Scanner {
    /// Browsers that have come since the last look.
    pub(super) fn heed_browsers(&mut self) -> Result<(), DeliveriesError> {
        let browsers = self.deliveries.browsers.clone();
        let learned = self.deliveries.learned()?;
        if learned.is_none() {
            self.whole = Offset(0);
        }
        let reading = self.sources.iter().find(|source| source.who == Who::Browsers).map(|source| source.next.clone());
        // Once begun it is read on for whoever may come: they come and go with their payments.
        let next = match reading {
            Some(next) => next,
            None if browsers.is_empty() => {
                if learned.is_some() {
                    self.deliveries.forget_learned()?;
                }
                return Ok(());
            }
            None => self.read_for_browsers(learned.is_some())?,
        };
        let new = browsers.since(learned.unwrap_or_default(), LEARNED_AT_ONCE_MAX);
        if new.is_empty() {
            self.whole = learned.unwrap_or_default();
        }
        // What the rows do not have yet, and the log is not read for again, would be told to nobody.
        let has_passed = |(next, p): (&Offset, u32)| self.view.folded_to(Partition(p)) >= *next;
        let Some(last) = new.last().filter(|_| next.iter().zip(0..).all(has_passed)) else { return Ok(()) };
        for known in new.iter().filter(|known| known.since >= self.whole) {
            self.learn(known)?;
        }
        self.deliveries.set_learned(last.control_offset.next())?;
        if new.len() < LEARNED_AT_ONCE_MAX {
            self.whole = last.control_offset.next();
        }
        Ok(())
    }

    /// From where it was read to before, as long as it was read for somebody; else from where the rows of payments are, for
    /// everything before that is learned from them.
    fn read_for_browsers(&mut self, goes_on: bool) -> Result<Vec<Offset>, DeliveriesError> {
        let partitions = self.log.partitions();
        if !goes_on {
            let mut batch = self.deliveries.fold.tables.store.batch();
            for position in self.view.folded().positions() {
                self.deliveries.fold.move_cursor(BROWSERS, position, &mut batch);
            }
            batch.commit()?;
            self.deliveries.set_learned(Offset(0))?;
        }
        let to = vec![Offset(u64::MAX); partitions as usize];
        let source = self.source((Who::Browsers, Cause::Live, Kind::Live), |_| Offset(0), to)?;
        let next = source.next.clone();
        self.sources.push(source);
        self.reading = None;
        Ok(next)
    }

    /// What has ended since it subscribed.
    fn learn(&self, known: &KnownSubscription) -> Result<(), DeliveriesError> {
        let subscription = &known.subscription;
        match &subscription.scope {
            PushScope::Payment(id) => {
                let row = self.view.payment(*id)?.filter(|row| row.payment.is_terminal());
                let Some(Payment { version, .. }) = row.map(|row| row.payment) else { return Ok(()) };
                for entry in self.view.events_after(*id, version.saturating_sub(1), 1)? {
                    self.want_of(known, &entry)?;
                }
                Ok(())
            }
            PushScope::Customer(customer) => {
                let scope = Scope { merchant: subscription.merchant.clone(), customer: Some(customer.clone()) };
                let mut after = self.start_of(&subscription.from);
                loop {
                    let changes = self.view.changes(&scope, &is_end, &after, ENDS_MAX)?;
                    for entry in &changes.entries {
                        self.want_of(known, entry)?;
                    }
                    if !changes.more {
                        return Ok(());
                    }
                    after = changes.next;
                }
            }
        }
    }

    fn start_of(&self, from: &PushFrom) -> Offsets {
        let mut offsets = Offsets::start(self.log.partitions());
        for partition in (0..self.log.partitions()).map(Partition) {
            offsets.set(Position::new(partition, from.of(partition)));
        }
        offsets
    }

    fn want_of(&self, known: &KnownSubscription, entry: &Entry) -> Result<(), DeliveriesError> {
        let mine = entry.payment.initiation.merchant_id == known.subscription.merchant;
        if !mine || !is_end(&entry.event.data) {
            return Ok(());
        }
        let (name, event) = (entry.event.data.name().to_owned(), entry.event.event_id.to_string());
        let (payment, version) = (entry.event.payment_id, entry.version.unwrap_or_default());
        self.want_for(known, entry.position, &What::Event { payment, version, name, event })
    }

    /// An event that the log was read to.
    pub(super) fn note_for_browsers(
        &self,
        position: Position,
        what: &What,
        payment: &Payment,
    ) -> Result<(), DeliveriesError> {
        let What::Event { payment: id, name, .. } = what else { return Ok(()) };
        if !["PaymentSuccessful", "PaymentFailed"].contains(&name.as_str()) {
            return Ok(());
        }
        let PaymentInProgress { merchant_id, customer_id, .. } = &payment.initiation;
        for known in self.deliveries.browsers.who_hear(merchant_id, *id, customer_id) {
            self.want_for(&known, position, what)?;
        }
        Ok(())
    }

    fn want_for(&self, known: &KnownSubscription, position: Position, what: &What) -> Result<(), DeliveriesError> {
        if !known.subscription.covers(position) {
            return Ok(());
        }
        let (partition, offset) = (position.partition, position.offset);
        let work = WorkId { target: known.subscription.id.into(), partition, offset, cause: Cause::Live };
        self.want(&work, what)
    }
}

impl Deliveries {
    /// `None` if the log is not read for browsers.
    fn learned(&self) -> Result<Option<Offset>, StoreError> {
        self.fold.tables.offset(&self.fold.tables.meta, LEARNED)
    }

    fn set_learned(&self, next: Offset) -> Result<(), StoreError> {
        let mut batch = self.fold.tables.store.batch();
        batch.insert(&self.fold.tables.meta, LEARNED, &next.0.to_be_bytes());
        batch.commit()
    }

    fn forget_learned(&self) -> Result<(), StoreError> {
        let mut batch = self.fold.tables.store.batch();
        batch.remove(&self.fold.tables.meta, LEARNED);
        batch.commit()
    }
}
