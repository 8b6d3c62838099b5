//! The invariants of the log itself, record by record, as it was written: what can be said without believing any fold.
//! Ends, keys and partitions are judged by the rules of [`crate::checker`], which states them once more for itself.
//!
//! What is known of each payment is kept in a store in the work directory, so that memory does not grow with the log.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use super::feed::Written;
use super::report::{Invariant, Report};
use crate::checker::{End, java_partition};
use crate::journal::{Header, Offset, Partition, Position};
use crate::payment::{Event, EventData, Payment, PaymentId, Timestamp};
use crate::schema::{Codec, Kind};
use crate::store::{Store, StoreError, Table};

/// Payments that are held in memory before they are written down.
const PENDING_MAX: usize = 50_000;
/// An event that happened this long after the log took it was written by a clock that is ahead.
const AHEAD_MAX: Duration = Duration::from_secs(5 * 60);
/// An outcome waits while the log is away, for hours if need be; longer than this, a clock is behind.
const WAITED_MAX: Duration = Duration::from_secs(24 * 3600);

/// What the log has said of one payment so far.
#[derive(Clone, Debug, Default, PartialEq, serde::Serialize, serde::Deserialize)]
struct Life {
    /// Its `PaymentInProgress` came first.
    begun: bool,
    /// Something else came before; told once.
    lost: bool,
    /// The first end, and its offset.
    end: Option<(u64, End)>,
}

pub(super) struct Judge<'a> {
    codec: &'a Codec,
    rejected: &'a HashSet<Position>,
    store: Store,
    lives: Table,
    pending: HashMap<PaymentId, Life>,
    /// Where the last record of each partition stood.
    last: Vec<Option<Offset>>,
    /// Partitions that no fold gets past from here on.
    halted: HashSet<Partition>,
    pub report: &'a mut Report,
}

impl<'a> Judge<'a> {
    /// `store` is empty, and the judge's own.
    pub fn new(
        codec: &'a Codec,
        rejected: &'a HashSet<Position>,
        store: Store,
        partitions: u32,
        report: &'a mut Report,
    ) -> Result<Self, StoreError> {
        let lives = store.table("lives")?;
        let (pending, last) = (HashMap::new(), vec![None; partitions as usize]);
        Ok(Self { codec, rejected, store, lives, pending, last, halted: HashSet::new(), report })
    }

    pub fn judge(&mut self, written: &Written) -> Result<(), StoreError> {
        let position = written.record.position;
        self.in_order(position);
        if self.rejected.contains(&position) {
            self.report.counts.rejected += 1;
            return Ok(());
        }
        self.report.counts.records += 1;
        let event = match self.codec.decode(&written.record.value) {
            Ok(event) => event,
            Err(reason) => {
                // Its key may say whose it was meant to be.
                let payment = std::str::from_utf8(&written.record.key).ok().and_then(PaymentId::parse);
                self.halts(Invariant::Readable, payment, position, format!("it is no event: {reason}"));
                return Ok(());
            }
        };
        self.at_its_place(written, &event);
        self.headers(written, &event);
        self.clock(written, &event);
        self.live(&event, position)
    }

    fn found(&mut self, invariant: Invariant, payment: PaymentId, position: Position, what: String) {
        self.report.found(invariant, Some(payment), Some(position), what);
    }

    fn halts(&mut self, invariant: Invariant, payment: Option<PaymentId>, position: Position, what: String) {
        let first = self.halted.insert(position.partition);
        let halts = if first { "; every fold of this partition halts there" } else { "" };
        self.report.found(invariant, payment, Some(position), format!("{what}{halts}"));
    }

    // === one record ===

    /// Offsets have gaps: transaction markers and aborted records take some.
    fn in_order(&mut self, position: Position) {
        let Some(last) = self.last.get_mut(position.partition.0 as usize) else { return };
        if let Some(before) = last.filter(|before| *before >= position.offset) {
            let what = format!("it was read after offset {before}");
            self.report.found(Invariant::InOrder, None, Some(position), what);
        }
        *last = Some(position.offset);
    }

    fn at_its_place(&mut self, written: &Written, event: &Event) {
        let (id, position) = (event.payment_id, written.record.position);
        let key = id.to_string();
        if written.record.key != key.as_bytes() {
            let what = "its key is not the id of its payment".to_owned();
            self.found(Invariant::OnItsPartition, id, position, what);
        }
        let home = java_partition(key.as_bytes(), self.last.len() as u32); // from a u32
        if Partition(home) != position.partition {
            let what = format!("its partition is {home}");
            self.halts(Invariant::OnItsPartition, Some(id), position, what);
        }
    }

    fn headers(&mut self, written: &Written, event: &Event) {
        let (id, position) = (event.payment_id, written.record.position);
        let Some(headers) = &written.headers else {
            let what = "its headers cannot be read".to_owned();
            return self.found(Invariant::HeadersAgree, id, position, what);
        };
        let expected = [
            ("ce_id", event.event_id.to_string()),
            ("ce_type", Kind::of(&event.data).full_name().to_owned()),
            ("ce_subject", id.to_string()),
            ("content-type", "application/avro".to_owned()),
        ];
        for (name, value) in expected {
            let what = match said(headers, name)[..] {
                [Some(said)] if said == value.as_bytes() => continue,
                [] => format!("it has no header {name}"),
                [_] => format!("its header {name} is not {value}"),
                _ => format!("it has the header {name} more than once"),
            };
            self.found(Invariant::HeadersAgree, id, position, what);
        }
    }

    fn clock(&mut self, written: &Written, event: &Event) {
        let Some(appended_at) = Timestamp::from_micros(written.record.appended_at_us) else {
            let what = "the log's timestamp is not between 2000 and 2100".to_owned();
            return self.halts(Invariant::Readable, Some(event.payment_id), written.record.position, what);
        };
        let (ahead, behind) = (event.occurred_at.since(appended_at), appended_at.since(event.occurred_at));
        if ahead > AHEAD_MAX || behind > WAITED_MAX {
            let (off, which) = if ahead > AHEAD_MAX { (ahead, "ahead of") } else { (behind, "behind") };
            let what = format!("its writer's clock was {} s {which} the log's", off.as_secs());
            self.found(Invariant::ClockOff, event.payment_id, written.record.position, what);
        }
    }

    // === one payment ===

    fn live(&mut self, event: &Event, position: Position) -> Result<(), StoreError> {
        let id = event.payment_id;
        let mut life = self.life(id)?;
        if matches!(event.data, EventData::PaymentInProgress(_)) {
            life.begun |= !life.lost;
        } else if !life.begun && !life.lost {
            life.lost = true;
            let what = format!("its first record on the log is {}", event.data.name());
            self.halts(Invariant::InitiatedFirst, Some(id), position, what);
        }
        match (End::of(&event.data), &life.end) {
            (Some(end), None) => life.end = Some((position.offset.0, end)),
            (Some(end), Some((offset, first))) if end == *first => {
                let what = format!("it had ended in the same way at offset {offset}; this one has no effect");
                self.found(Invariant::EndedAgain, id, position, what);
            }
            (Some(end), Some((offset, first))) => {
                let what = format!("it ended as {first:?} at offset {offset}, and here as {end:?}: the first stands");
                self.found(Invariant::EndedOnce, id, position, what);
            }
            (None, _) => {}
        }
        self.pending.insert(id, life);
        if self.pending.len() >= PENDING_MAX { self.write_down() } else { Ok(()) }
    }

    fn life(&self, id: PaymentId) -> Result<Life, StoreError> {
        if let Some(life) = self.pending.get(&id) {
            return Ok(life.clone());
        }
        let row = self.lives.get(id.as_bytes())?;
        row.map_or(Ok(Life::default()), |row| {
            postcard::from_bytes(&row).map_err(|e| StoreError::Damaged(e.to_string()))
        })
    }

    fn write_down(&mut self) -> Result<(), StoreError> {
        let mut batch = self.store.batch();
        for (id, life) in self.pending.drain() {
            let row = postcard::to_stdvec(&life).map_err(|e| StoreError::Damaged(e.to_string()))?;
            batch.insert(&self.lives, id.as_bytes(), &row);
        }
        batch.commit()
    }

    /// Has a fold come to the end that the log has? Nothing is known of a partition that no fold gets past.
    pub fn ended_as(&mut self, payment: &Payment, home: Partition) -> Result<(), StoreError> {
        let (ended, folded) = (self.life(payment.id)?.end, End::folded(&payment.phase));
        if self.halted.contains(&home) || ended.as_ref().map(|(_, end)| end) == folded.as_ref() {
            return Ok(());
        }
        let position = ended.as_ref().map(|(offset, _)| Position::new(home, Offset(*offset)));
        let what = format!("its first end on the log is {:?}, and the fold has {folded:?}", ended.map(|(_, end)| end));
        self.report.found(Invariant::EndedOnce, Some(payment.id), position, what);
        Ok(())
    }
}

/// Every value of this header.
fn said<'h>(headers: &'h [Header], name: &str) -> Vec<Option<&'h [u8]>> {
    headers.iter().filter(|(other, _)| other == name).map(|(_, value)| value.as_deref()).collect()
}
