//! The stream of one payment: a cursor is its version.

use std::sync::Arc;

use warp::http::StatusCode;

use super::feed::{Block, Data, Frame, Read};
use super::{Start, Types, malformed_id};
use crate::access::Caller;
use crate::contract::{VersionId, last_position, partition, position_text};
use crate::http::Problem;
use crate::journal::Position;
use crate::payment::PaymentId;
use crate::projection::{BadOffsets, Entry, Row, View, Watch};
use crate::store::StoreError;

/// Frames read at once, at most: what a reader who has stopped may hold of them.
const READ_MAX: usize = 8;

pub(super) struct PaymentFeed {
    view: View,
    caller: Caller,
    id: PaymentId,
    watch: Watch,
    /// What must be folded before anything is said.
    gate: Option<Position>,
    reset: bool,
    types: Types,
    /// The version the client has; `None` before the snapshot.
    sent: Option<u64>,
    ended: bool,
}

impl PaymentFeed {
    /// `None` if the payment has ended and the client has seen it.
    pub(super) fn open(view: &View, caller: &Caller, id: PaymentId, start: Start) -> Result<Option<Self>, Problem> {
        caller.may_ask(id)?;
        let (sent, reset) = match start.last_event_id.map(|text| VersionId::decode(&text, view.log_id())) {
            None => (None, start.reset),
            Some(Ok(version)) => (Some(version), start.reset),
            Some(Err(BadOffsets::OtherLog)) => (None, true),
            Some(Err(BadOffsets::Malformed)) => return Err(malformed_id()),
        };
        let gate = start.at_least.and_then(|at_least| at_least.on(partition(id, view.partitions())));
        let gate = gate.filter(|position| !view.has_folded(*position));
        // The watch is made before the first read, so that nothing happens unseen between the two.
        let watch = view.watch_payment(id);
        let (view, caller) = (view.clone(), caller.clone());
        let feed = Self { watch, view, caller, id, gate, reset, types: start.types, sent, ended: false };
        match feed.row()? {
            Some(row) if row.payment.is_terminal() && sent >= Some(row.payment.version) => Ok(None),
            Some(_) => Ok(Some(feed)),
            // Whoever knows a version or a position of it has been told of it by an instance that was further.
            None if feed.gate.is_some() || sent > Some(0) => Ok(Some(feed)),
            None => Err(not_found()),
        }
    }

    /// One that the caller may not see is as one that is not there, whatever else is known of it, now and later.
    fn row(&self) -> Result<Option<Row>, StoreError> {
        Ok(self.view.payment(self.id)?.filter(|row| self.caller.sees(&row.payment)))
    }

    pub(super) fn read(&mut self) -> Result<Read, StoreError> {
        if self.ended {
            return Ok(Read::End);
        }
        if self.gate.is_some_and(|position| !self.view.has_folded(position)) {
            return Ok(Read::Wait);
        }
        self.gate = None;
        match self.sent {
            None => self.snapshot(),
            Some(version) => self.changes(version),
        }
    }

    fn snapshot(&mut self) -> Result<Read, StoreError> {
        // It was to be there once its position had been folded.
        let Some(row) = self.row()? else { return Ok(Read::NotFound) };
        let mut blocks = Vec::new();
        if self.reset {
            blocks.push(Block::reset());
        }
        let (log, version) = (self.view.log_id(), row.payment.version);
        let at_least = position_text(log, last_position(&row, self.view.partitions()));
        self.sent = Some(version);
        self.ended = row.payment.is_terminal();
        let id = Some(VersionId { log, version }.to_string());
        blocks.push(Block { id, data: Data::Snapshot { payment: Box::new(row.payment), at_least, last: None } });
        Ok(Read::Blocks(blocks))
    }

    fn changes(&mut self, after: u64) -> Result<Read, StoreError> {
        let mut entries = self.view.events_after(self.id, after, READ_MAX)?;
        entries.retain(|entry| self.caller.sees(&entry.payment));
        let Some(last) = entries.last() else {
            // The end may be what this client had seen before this instance had.
            let row = self.row()?;
            let seen = row.is_some_and(|row| row.payment.is_terminal() && row.payment.version <= after);
            return Ok(if seen { Read::End } else { Read::Wait });
        };
        self.sent = last.version;
        self.ended = last.payment.is_terminal();
        let log = self.view.log_id();
        let block = |entry: Entry| {
            let id = entry.version.map(|version| VersionId { log, version }.to_string());
            // Of what is not asked for the client still learns that it was: it must not be ended before it knows the end.
            let told = self.types.has(&entry.event.data);
            Block { id, data: if told { Data::Change(Arc::new(Frame::new(&entry, log))) } else { Data::Nothing } }
        };
        Ok(Read::Blocks(entries.into_iter().map(block).collect()))
    }

    /// As [`super::wide::WideFeed::woken`].
    pub(super) async fn woken(&mut self) {
        match self.gate {
            Some(position) => tokio::select! {
                () = Box::pin(self.view.wait_folded(position)) => {}
                () = self.watch.changed() => {}
            },
            None => self.watch.changed().await,
        }
    }
}

pub(super) fn not_found() -> Problem {
    Problem::new(StatusCode::NOT_FOUND, "payment_not_found", "there is no such payment")
}
