//! Which payments are meant. A row depends on all events of its payment, so a part of a payment cannot be folded: a range,
//! a time or a type selects payments, and each that is selected is judged and folded whole, from its first record.

use crate::journal::{Offset, Partition, Record, Span};
use crate::payment::{CustomerId, Event, EventData, MerchantId, PaymentId, Timestamp};
use crate::projection::{Offsets, home_of};
use crate::store::{Store, StoreError, Table};

/// Payments that are held in memory before they are written down.
const PENDING_MAX: usize = 50_000;

/// What a payment must be, and what at least one of its records must be: all of what is given.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Selection {
    pub payment: Option<PaymentId>,
    pub customer: Option<(MerchantId, CustomerId)>,
    pub partition: Option<Partition>,
    /// Offsets `from <= offset < to`, of `partition`.
    pub from: Option<Offset>,
    pub to: Option<Offset>,
    /// By the log's time, `since <= time < until`.
    pub since: Option<Timestamp>,
    pub until: Option<Timestamp>,
    /// The event's name.
    pub event: Option<&'static str>,
}

impl Selection {
    #[must_use]
    pub fn is_everything(&self) -> bool {
        *self == Self::default()
    }

    /// Must records be looked at to know which payments are meant?
    #[must_use]
    pub fn must_look(&self) -> bool {
        !self.is_everything() && self.payment.is_none()
    }

    /// What is judged and folded of a log that ends at `ends`.
    #[must_use]
    pub fn spans(&self, ends: &Offsets) -> Vec<Span> {
        let partitions = ends.as_slice().len() as u32; // from a u32
        let only = self.payment.map(|id| home_of(id, partitions)).or(self.partition);
        let whole = |end: crate::journal::Position| Span { partition: end.partition, from: Offset(0), to: end.offset };
        ends.positions().filter(|end| only.is_none_or(|only| only == end.partition)).map(whole).collect()
    }

    /// What is looked at to know which payments are meant.
    #[must_use]
    pub fn looked_at(&self, ends: &Offsets) -> Vec<Span> {
        let mut spans = self.spans(ends);
        if !self.must_look() {
            return Vec::new();
        }
        // Whose a payment is stands in its first record, which may be before the range.
        if self.customer.is_none() {
            for span in &mut spans {
                span.from = self.from.unwrap_or_default().min(span.to);
                span.to = self.to.map_or(span.to, |to| to.min(span.to)).max(span.from);
            }
        }
        spans
    }

    /// Does this record meet what is asked of one?
    fn has(&self, record: &Record, event: &Event) -> bool {
        self.is_in_range(record) && self.event.is_none_or(|name| event.data.name() == name)
    }

    fn is_in_range(&self, record: &Record) -> bool {
        let (position, at) = (record.position, Timestamp::from_micros(record.appended_at_us));
        self.partition.is_none_or(|partition| partition == position.partition)
            && self.from.is_none_or(|from| from <= position.offset)
            && self.to.is_none_or(|to| position.offset < to)
            && self.since.is_none_or(|since| at.is_some_and(|at| since <= at))
            && self.until.is_none_or(|until| at.is_some_and(|at| at < until))
    }

    /// What a payment is marked with that was marked with `known`, once this record has been looked at.
    fn marks(&self, known: u8, record: &Record, event: &Event) -> u8 {
        let has = if self.has(record, event) { HAS } else { 0 };
        let whose = match (&self.customer, &event.data) {
            (None, _) => OF_CUSTOMER,
            // The first one counts.
            (Some((merchant, customer)), EventData::PaymentInProgress(initiation)) if known & BEGUN == 0 => {
                let is_theirs = initiation.merchant_id == *merchant && initiation.customer_id == *customer;
                BEGUN | if is_theirs { OF_CUSTOMER } else { 0 }
            }
            (Some(_), _) => 0,
        };
        known | has | whose
    }
}

/// The payments that are meant, in a store of the work directory.
pub(super) struct Chosen<'a> {
    selection: &'a Selection,
    store: Store,
    ids: Table,
    pending: std::collections::HashMap<PaymentId, u8>,
}

/// It has such a record.
const HAS: u8 = 1;
/// It is the customer's.
const OF_CUSTOMER: u8 = 2;
/// Its initiation has been met.
const BEGUN: u8 = 4;

impl<'a> Chosen<'a> {
    pub fn new(selection: &'a Selection, store: Store) -> Result<Self, StoreError> {
        let ids = store.table("chosen")?;
        Ok(Self { selection, store, ids, pending: std::collections::HashMap::new() })
    }

    /// Looks at a record, to know whether its payment is meant.
    pub fn look(&mut self, record: &Record, event: &Event) -> Result<(), StoreError> {
        let known = self.marks(event.payment_id)?;
        let marks = self.selection.marks(known, record, event);
        if marks != known {
            self.pending.insert(event.payment_id, marks);
        }
        if self.pending.len() < PENDING_MAX {
            return Ok(());
        }
        let mut batch = self.store.batch();
        for (id, marks) in self.pending.drain() {
            batch.insert(&self.ids, id.as_bytes(), &[marks]);
        }
        batch.commit()
    }

    pub fn has(&self, id: PaymentId) -> Result<bool, StoreError> {
        if let Some(payment) = self.selection.payment {
            return Ok(payment == id);
        }
        Ok(self.selection.is_everything() || self.marks(id)? & (HAS | OF_CUSTOMER) == HAS | OF_CUSTOMER)
    }

    /// Is a record meant that is no event? By its key, or by its place if nothing else was asked for.
    pub fn has_unreadable(&self, record: &Record) -> Result<bool, StoreError> {
        let id = std::str::from_utf8(&record.key).ok().and_then(PaymentId::parse);
        let Selection { payment, customer, event, .. } = self.selection;
        let by_place = payment.is_none() && customer.is_none() && event.is_none();
        Ok((by_place && self.selection.is_in_range(record)) || id.map_or(Ok(false), |id| self.has(id))?)
    }

    fn marks(&self, id: PaymentId) -> Result<u8, StoreError> {
        if let Some(marks) = self.pending.get(&id) {
            return Ok(*marks);
        }
        let row = self.ids.get(id.as_bytes())?;
        Ok(row.and_then(|row| row.first().copied()).unwrap_or(0))
    }
}
