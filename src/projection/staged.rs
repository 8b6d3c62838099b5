//! What one batch of records comes to, before it is written.

use std::collections::BTreeMap;

use super::reader::Recorded;
use super::rows::{Tables, rejected_key};
use super::{ParkedKey, Row};
use crate::journal::{Offset, Partition, Position};
use crate::payment::{Payment, PaymentId, Timestamp};
use crate::store::Batch;

pub(super) struct Staged<'i> {
    /// In the order of the table, in which it takes them fastest.
    pub rows: BTreeMap<PaymentId, StagedRow>,
    pub batch: Batch,
    /// How far each partition was folded.
    pub moved: BTreeMap<Partition, Moved<'i>>,
    /// Which partitions were read to their end.
    pub caught_up: Vec<Partition>,
}

pub(super) struct Moved<'i> {
    pub next: Offset,
    /// The last record on the way, if there was any.
    pub last: Option<&'i Recorded>,
}

pub(super) struct StagedRow {
    pub row: Box<Row>,
    pub partition: Partition,
    pub before: Indexed,
}

/// Where a payment stands in the indexes.
#[derive(Default)]
pub(super) struct Indexed {
    pub due_at: Option<Timestamp>,
    pub parked: Option<ParkedKey>,
}

impl Indexed {
    pub fn of(payment: &Payment) -> Self {
        Self { due_at: payment.due_at(), parked: ParkedKey::of(payment) }
    }
}

impl<'i> Staged<'i> {
    pub fn new(tables: &Tables) -> Self {
        Self { rows: BTreeMap::new(), batch: tables.store.batch(), moved: BTreeMap::new(), caught_up: Vec::new() }
    }

    pub fn moved(&mut self, partition: Partition, next: Offset, last: Option<&'i Recorded>) {
        let moved = self.moved.entry(partition).or_insert(Moved { next, last: None });
        moved.next = next;
        moved.last = last.or(moved.last);
    }

    /// A rejected record leaves nothing but the mark that it was passed over.
    pub fn pass_over(&mut self, position: Position, tables: &Tables) {
        self.batch.insert(&tables.rejected, &rejected_key(position), &[]);
        self.moved(position.partition, position.offset.next(), None);
    }
}
