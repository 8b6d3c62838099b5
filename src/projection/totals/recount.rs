//! The sums once more, from what the payments are and not from what happened to them: so that a fold of the sums is not judged
//! by itself alone.

use super::super::kept::Kept;
use super::{Sum, Summed, key};
use crate::payment::Payment;
use crate::store::{Store, StoreError};

/// Payments that are counted before their sums are written down: so many sums are in memory at most.
const UNWRITTEN_MAX: usize = 50_000;

pub struct Recount {
    store: Store,
    sums: Kept<Sum>,
    unwritten: usize,
}

impl Recount {
    /// Keeps its sums in `store`, which is empty.
    pub fn new(store: Store) -> Result<Self, StoreError> {
        Ok(Self { sums: Kept::new(store.table("totals")?), store, unwritten: 0 })
    }

    pub fn count(&mut self, payment: &Payment) -> Result<(), StoreError> {
        self.sums.row(&key(payment, payment.status()))?.put_in(payment);
        self.unwritten += 1;
        if self.unwritten < UNWRITTEN_MAX { Ok(()) } else { self.write_down() }
    }

    /// The store: its one table is that of the sums.
    pub fn end(mut self) -> Result<Store, StoreError> {
        self.write_down()?;
        Ok(self.store)
    }

    fn write_down(&mut self) -> Result<(), StoreError> {
        self.unwritten = 0;
        let mut batch = self.store.batch();
        self.sums.flush(&mut batch)?;
        batch.commit()
    }
}
