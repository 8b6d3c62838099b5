//! The stream of a customer's payments: a cursor is the next offset of every partition.

use std::collections::HashMap;

use super::sse::{Block, Data, Read};
use super::{Start, malformed_id};
use crate::contract::{AtLeast, last_position, position_text};
use crate::http::Problem;
use crate::journal::Position;
use crate::payment::{CustomerId, MerchantId, PaymentId};
use crate::projection::{BadOffsets, Entry, Offsets, View, Watch};
use crate::store::StoreError;

/// Frames read at once, at most.
const READ_MAX: usize = 100;
/// The newest payments that a stream opens with.
const SNAPSHOTS_MAX: usize = 100;

pub(super) struct CustomerFeed {
    view: View,
    merchant: MerchantId,
    customer: CustomerId,
    watch: Watch,
    /// What must be folded before anything is said.
    gate: Option<AtLeast>,
    reset: bool,
    /// Up to where the client has everything; `None` before the snapshots.
    cursor: Option<Offsets>,
    /// Versions that a snapshot already had although the cursor stands before them: not to be told again.
    told: HashMap<PaymentId, u64>,
}

impl CustomerFeed {
    pub(super) fn open(view: &View, merchant: MerchantId, customer: CustomerId, start: Start) -> Result<Self, Problem> {
        let decode = |text: String| Offsets::decode(&text, view.log_id(), view.partitions());
        let (cursor, reset) = match start.last_event_id.map(decode) {
            None => (None, start.reset),
            Some(Ok(cursor)) => (Some(cursor), start.reset),
            Some(Err(BadOffsets::OtherLog)) => (None, true),
            Some(Err(BadOffsets::Malformed)) => return Err(malformed_id()),
        };
        Ok(Self {
            // Made before the first read, so that nothing happens unseen between the two.
            watch: view.watch_customer(&merchant, &customer),
            view: view.clone(),
            merchant,
            customer,
            gate: start.at_least.filter(|at_least| !at_least.is_reached(view)),
            reset,
            cursor,
            told: HashMap::new(),
        })
    }

    pub(super) fn read(&mut self) -> Result<Read, StoreError> {
        if self.gate.as_ref().is_some_and(|at_least| !at_least.is_reached(&self.view)) {
            return Ok(Read::Wait);
        }
        self.gate = None;
        match self.cursor.clone() {
            None => Ok(Read::Blocks(self.snapshots()?)),
            Some(cursor) => self.changes(cursor),
        }
    }

    /// The payments as they are, then the cursor from which changes go on. The cursor is taken first, so that nothing is
    /// lost in between; what a row already had beyond it is noted, so that nothing is told twice.
    fn snapshots(&mut self) -> Result<Vec<Block>, StoreError> {
        let cursor = self.view.folded();
        let (rows, next) = self.view.customer_payments(&self.merchant, &self.customer, None, None, SNAPSHOTS_MAX)?;
        let log = self.view.log_id();
        let mut blocks = Vec::with_capacity(rows.len() + 2);
        if self.reset {
            blocks.push(Block::reset());
        }
        let (count, next_cursor) = (rows.len(), next.map(|next| next.encode(log)));
        for (row, n) in rows.into_iter().zip(1..) {
            let position = last_position(&row, self.view.partitions());
            if position.offset >= cursor.of(position.partition) {
                self.told.insert(row.payment.id, row.payment.version);
            }
            let last = (n == count).then(|| next_cursor.clone());
            let data = Data::Snapshot { payment: Box::new(row.payment), at_least: position_text(log, position), last };
            blocks.push(Block { id: None, data });
        }
        blocks.push(Block { id: Some(cursor.encode(log)), data: Data::Nothing });
        self.cursor = Some(cursor);
        Ok(blocks)
    }

    fn changes(&mut self, mut cursor: Offsets) -> Result<Read, StoreError> {
        let (entries, next) = self.view.customer_events_after(&self.merchant, &self.customer, &cursor, READ_MAX)?;
        let full = !entries.is_empty();
        let log = self.view.log_id();
        let mut blocks = Vec::with_capacity(entries.len());
        for entry in entries {
            cursor.advance(Position::new(entry.position.partition, entry.position.offset.next()));
            if !self.was_told(&entry) {
                blocks.push(Block { id: Some(cursor.encode(log)), data: Data::Change(Box::new(entry)) });
            }
        }
        for position in next.positions() {
            cursor.advance(position);
        }
        if full && blocks.is_empty() {
            // All of it was in the snapshots: the client's own cursor must get past it too, or a reconnect would repeat it.
            blocks.push(Block { id: Some(cursor.encode(log)), data: Data::Nothing });
        }
        self.cursor = Some(cursor);
        // All that was read may have been told before, and there may be more behind it.
        Ok(if full { Read::Blocks(blocks) } else { Read::Wait })
    }

    fn was_told(&mut self, entry: &Entry) -> bool {
        let id = entry.event.payment_id;
        let Some(told) = self.told.get(&id).copied() else { return false };
        let version = entry.version.unwrap_or_default();
        if version >= told {
            self.told.remove(&id);
        }
        version <= told
    }

    /// Returns when it is worth reading again.
    pub(super) async fn woken(&mut self) {
        match &self.gate {
            Some(at_least) => at_least.reached(&self.view).await,
            None => self.watch.changed().await,
        }
    }
}
