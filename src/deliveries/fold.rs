//! What is still to be told, from the two logs: the log of payments says what an endpoint is to be told, the log of deliveries
//! what it was. Either may come first, and both may be folded again: what stands here is the same.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::firsts::Firsts;
use super::outcome::{Cause, Outcome, Result as Ended, What, WorkId};
use super::rows::{
    End, Row, Standing, Tables, attempt_key, behind, cursor_key, decode, deliveries_key, due_key, due_prefix, encode,
    event_prefix, open_key, open_prefix, parse_due, parse_open, pushes_key, work_key,
};
use crate::control::{Endpoint, KnownEndpoint, TargetId, Webhooks};
use crate::journal::{LogId, Partition, Position};
use crate::payment::Timestamp;
use crate::store::{Batch, StoreError};

/// Folds both logs. Cheap to clone; all clones are one.
#[derive(Clone)]
pub(super) struct Fold {
    pub tables: Tables,
    pub webhooks: Webhooks,
    pub payments: LogId,
    firsts: Arc<Firsts>,
    /// Held from reading a row until it is written: two threads fold.
    writing: Arc<Mutex<()>>,
}

/// What is written together, and what becomes due by it.
struct Writes {
    batch: Batch,
    due: Vec<Vec<u8>>,
}

impl Fold {
    pub fn new(tables: Tables, webhooks: Webhooks, payments: LogId) -> Self {
        Self { tables, webhooks, payments, firsts: Arc::default(), writing: Arc::default() }
    }

    // === the log of payments, and requests ===

    /// The endpoint is to be told. `false` if it was known already, or is no longer to be done.
    pub fn want(&self, work: &WorkId, what: &What) -> Result<bool, StoreError> {
        let _held = self.hold();
        let mut writes = self.writes();
        let mut row = self.tables.row(work)?.unwrap_or_else(|| Row::new(what.clone()));
        if row.what.differs(what) {
            // The log of payments was cut, and something else stands there now: that was told to nobody.
            writes.batch.remove(&self.tables.due, &due_key(work, row.next_at));
            writes.batch.remove(&self.tables.open, &open_key(work, &row.what));
            row = Row::new(what.clone());
        }
        // What was dropped when its endpoint was disabled is read again only if it is for the one that was enabled since.
        if row.end == Some(End::Dropped) && work.cause == Cause::Live {
            (row.wanted, row.end) = (false, None);
        }
        if row.wanted {
            return Ok(false);
        }
        (row.wanted, row.what) = (true, what.clone());
        if row.end.is_none() {
            self.open(work, &row, &mut writes)?;
        }
        self.list(work, &mut writes.batch);
        writes.batch.insert(&self.tables.work, &work_key(work), &encode(&row)?);
        self.write(writes)?;
        Ok(row.end.is_none())
    }

    /// So that a browser is found by what it is told.
    fn list(&self, work: &WorkId, batch: &mut Batch) {
        if let Some(key) = pushes_key(work) {
            batch.insert(&self.tables.pushes, &key, &[]);
        }
    }

    /// Was it ever delivered, for whatever cause?
    pub fn was_delivered(&self, work: &WorkId) -> Result<bool, StoreError> {
        let prefix = event_prefix(work);
        for entry in self.tables.work.range(&prefix, &behind(&prefix)) {
            let row: Row = decode(&entry?.1)?;
            if row.what.is_event() && row.end == Some(End::Delivered) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Is it told without being asked for: was it delivered, or is it due for another cause and not yet tried?
    pub fn is_told_anyway(&self, work: &WorkId) -> Result<bool, StoreError> {
        let prefix = event_prefix(work);
        for entry in self.tables.work.range(&prefix, &behind(&prefix)) {
            let (key, row) = entry?;
            let row: Row = decode(&row)?;
            let untried = row.is_open() && row.attempts == 0 && *key != *work_key(work);
            if row.what.is_event() && (untried || row.end == Some(End::Delivered)) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    pub fn move_cursor(&self, source: [u8; 16], next: Position, batch: &mut Batch) {
        let key = cursor_key(source, next.partition);
        batch.insert(&self.tables.cursors, &key, &next.offset.0.to_be_bytes());
    }

    // === the log of deliveries ===

    /// What came of an attempt. Of two alike the first counts, but a delivery always does.
    pub fn heed(&self, outcome: &Outcome, value: &[u8]) -> Result<(), StoreError> {
        let _held = self.hold();
        let Outcome { work, what, attempt, at, result, .. } = outcome;
        let mut row = self.tables.row(work)?.unwrap_or_else(|| Row::new(what.clone()));
        if row.what.differs(what) {
            if row.wanted {
                return Ok(()); // it tells of what stood there before the log was cut
            }
            row = Row::new(what.clone());
        }
        let delivered = *result == Ended::Delivered;
        // Whoever had the lane before may have delivered what was given up here.
        let late = row.end == Some(End::Delivered) || (row.end == Some(End::GivenUp) && !delivered);
        let mut writes = self.writes();
        let batch = &mut writes.batch;
        if late || (*attempt <= row.attempts && !delivered) {
            // But what the endpoint has asked for with it, it has asked for.
            if outcome.pause_until.is_some() {
                let standing = self.tables.standing(work.target)?.heeding(outcome);
                batch.insert(&self.tables.standings, &work.target.to_bytes(), &encode(&standing)?);
                self.write(writes)?;
            }
            return Ok(());
        }
        batch.insert(&self.tables.attempts, &attempt_key(work, *at, *attempt), value);
        self.list(work, batch);
        let (was_open, due_before) = (row.is_open(), due_key(work, row.next_at));
        row.attempts = row.attempts.max(*attempt);
        match result {
            Ended::Delivered => row.end = Some(End::Delivered),
            Ended::Failed { next_at: None, .. } => row.end = Some(End::GivenUp),
            Ended::Failed { next_at: Some(next_at), .. } => row.next_at = *next_at,
        }
        if was_open {
            batch.remove(&self.tables.due, &due_before);
            if !row.is_open() {
                self.close(work, &row.what, &mut writes)?;
            } else if !self.is_ordered(work) || !self.has_open_before(work, &row.what)? {
                self.make_due(work, row.next_at, &mut writes);
            }
        }
        writes.batch.insert(&self.tables.work, &work_key(work), &encode(&row)?);
        self.remember(outcome, &mut writes.batch)?;
        self.write(writes)
    }

    /// How the endpoint is doing.
    fn remember(&self, outcome: &Outcome, batch: &mut Batch) -> Result<(), StoreError> {
        if matches!(outcome.result, Ended::Failed { failure, .. } if !failure.is_the_targets()) {
            return Ok(());
        }
        let target = outcome.work.target;
        let mut standing = self.tables.standing(target)?;
        if outcome.result == Ended::Delivered {
            standing.last_success = standing.last_success.max(Some(outcome.at));
            standing.failing_since = standing.failing_since.filter(|since| Some(*since) > standing.last_success);
        } else if standing.last_success.is_none_or(|success| success < outcome.at) {
            standing.failing_since = Some(standing.failing_since.map_or(outcome.at, |since| since.min(outcome.at)));
        }
        batch.insert(&self.tables.standings, &target.to_bytes(), &encode(&standing.heeding(outcome))?);
        Ok(())
    }

    pub fn move_deliveries(&self, next: &[Position]) -> Result<(), StoreError> {
        let mut batch = self.tables.store.batch();
        for position in next {
            batch.insert(&self.tables.meta, &deliveries_key(position.partition), &position.offset.0.to_be_bytes());
        }
        batch.commit()
    }

    // === endpoints ===

    /// Heeds what has become of an endpoint: what it is no longer to be told is dropped, and it is told from where it was
    /// enabled on. `true` if its cursors begin anew.
    pub fn stand(&self, known: &KnownEndpoint, partitions: u32) -> Result<bool, StoreError> {
        let (endpoint, target) = (&known.endpoint, TargetId::Endpoint(known.endpoint.id));
        let enabled = if endpoint.is_enabled() { known.enabled_offset.0 + 1 } else { 0 };
        if self.tables.standing(target)?.enabled == enabled {
            return Ok(false);
        }
        self.drop_open(endpoint)?;
        let _held = self.hold();
        let mut batch = self.tables.store.batch();
        let standing = Standing { enabled, ..self.tables.standing(target)? };
        if enabled > 0 {
            for partition in (0..partitions).map(Partition) {
                let from = Position::new(partition, endpoint.from_of(partition));
                self.move_cursor(endpoint.id.0, from, &mut batch);
            }
        }
        batch.insert(&self.tables.standings, &target.to_bytes(), &encode(&standing)?);
        batch.commit()?;
        Ok(enabled > 0)
    }

    /// All of it; of one that is enabled, what was asked of it before, and what stands before `from`.
    fn drop_open(&self, endpoint: &Endpoint) -> Result<(), StoreError> {
        for work in self.open_of(endpoint.id.into())? {
            let is_later = work.cause == Cause::Live && work.offset >= endpoint.from_of(work.partition);
            let kept = endpoint.is_enabled() && is_later;
            if !kept {
                self.end_as_dropped(&work)?;
            }
        }
        Ok(())
    }

    /// What somebody is still to be told.
    fn open_of(&self, target: TargetId) -> Result<Vec<WorkId>, StoreError> {
        let prefix = target.to_bytes();
        self.tables.open.range(&prefix, &behind(&prefix)).map(|row| parse_open(&row?.0)).collect()
    }

    /// Nobody is there any more to be told it.
    pub fn drop_all(&self, target: TargetId) -> Result<(), StoreError> {
        self.open_of(target)?.iter().try_for_each(|work| self.end_as_dropped(work))
    }

    /// It is not to be done any more.
    pub fn end_as_dropped(&self, work: &WorkId) -> Result<(), StoreError> {
        let _held = self.hold();
        let Some(mut row) = self.tables.row(work)?.filter(Row::is_open) else { return Ok(()) };
        let mut writes = self.writes();
        writes.batch.remove(&self.tables.due, &due_key(work, row.next_at));
        row.end = Some(End::Dropped);
        self.close(work, &row.what, &mut writes)?;
        writes.batch.insert(&self.tables.work, &work_key(work), &encode(&row)?);
        self.write(writes)
    }

    // === order ===

    fn is_ordered(&self, work: &WorkId) -> bool {
        let known = self.webhooks.known();
        work.target.endpoint().and_then(|id| known.endpoints.get(&id)).is_some_and(|known| known.endpoint.ordered)
    }

    /// Is there anything earlier about the same payment that the endpoint is still to be told?
    fn has_open_before(&self, work: &WorkId, what: &What) -> Result<bool, StoreError> {
        let first = self.tables.open.range(&open_prefix(work.target, what), &open_key(work, what)).next();
        Ok(first.transpose()?.is_some())
    }

    /// The work is to be done: now, or where order is wanted behind what is earlier, and before what is later.
    fn open(&self, work: &WorkId, row: &Row, writes: &mut Writes) -> Result<(), StoreError> {
        let (key, prefix) = (open_key(work, &row.what), open_prefix(work.target, &row.what));
        writes.batch.insert(&self.tables.open, &key, &[]);
        if self.is_ordered(work)
            && let Some((first, _)) = self.tables.open.range(&prefix, &behind(&prefix)).next().transpose()?
        {
            if *first < *key {
                return Ok(());
            }
            let first = parse_open(&first)?;
            if let Some(row) = self.tables.row(&first)? {
                writes.batch.remove(&self.tables.due, &due_key(&first, row.next_at));
            }
        }
        self.make_due(work, row.next_at, writes);
        Ok(())
    }

    /// The work is over: what waited behind it is due now.
    fn close(&self, work: &WorkId, what: &What, writes: &mut Writes) -> Result<(), StoreError> {
        let (key, prefix) = (open_key(work, what), open_prefix(work.target, what));
        writes.batch.remove(&self.tables.open, &key);
        if !self.is_ordered(work) {
            return Ok(());
        }
        let mut left = self.tables.open.range(&prefix, &behind(&prefix));
        let next = left.find(|row| row.as_ref().map_or(true, |(other, _)| **other != *key)).transpose()?;
        let Some((next, _)) = next else { return Ok(()) };
        let next = parse_open(&next)?;
        if let Some(row) = self.tables.row(&next)?.filter(Row::is_open) {
            self.make_due(&next, row.next_at, writes);
        }
        Ok(())
    }

    // === what is due ===

    fn make_due(&self, work: &WorkId, at: Timestamp, writes: &mut Writes) {
        let key = due_key(work, at);
        writes.batch.insert(&self.tables.due, &key, &[]);
        writes.due.push(key);
    }

    fn writes(&self) -> Writes {
        Writes { batch: self.tables.store.batch(), due: Vec::new() }
    }

    fn write(&self, Writes { batch, due }: Writes) -> Result<(), StoreError> {
        batch.commit()?;
        due.iter().for_each(|key| self.firsts.added(key));
        Ok(())
    }

    /// Goes over what one target is to be told of one partition, in the order in which it is due, as long as `take` says to go on.
    pub fn each_due(
        &self,
        partition: Partition,
        target: TargetId,
        mut take: impl FnMut(Timestamp, WorkId) -> Result<bool, StoreError>,
    ) -> Result<(), StoreError> {
        let prefix = due_prefix(partition, target);
        let look = target.endpoint().map(|_| self.firsts.begin(&prefix));
        let (from, mut first) = (look.as_ref().map_or(&prefix, |look| &look.from), None);
        for row in self.tables.due.range(from, &behind(&prefix)) {
            let key = row?.0;
            first.get_or_insert_with(|| key.to_vec());
            let (at, work) = parse_due(&key)?;
            if !take(at, work)? {
                break;
            }
        }
        if let Some(look) = look {
            self.firsts.end(&prefix, &look, first);
        }
        Ok(())
    }

    fn hold(&self) -> MutexGuard<'_, ()> {
        self.writing.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
#[path = "fold_tests.rs"]
mod tests;
