//! Reads the embedded log forward, up to the synced ends.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::{EndsBoard, Tables, broken, decode, offset_of};
use crate::journal::{JournalError, Offset, Partition, Position, Tail, TailItem};

pub(super) struct EmbeddedTail {
    tables: Arc<Tables>,
    ends: Arc<EndsBoard>,
    next: Vec<Offset>,
    /// Where the partitions ended when it last asked: while there is something before, it does not ask those who append.
    known: Vec<Offset>,
    /// The end at which each partition was last reported as caught up.
    reported: Vec<Option<Offset>>,
    /// Where the next turn begins, so that a busy partition cannot starve the others.
    turn: usize,
}

impl EmbeddedTail {
    pub(super) fn new(tables: Arc<Tables>, ends: Arc<EndsBoard>, from: &[Offset]) -> Result<Self, JournalError> {
        let end = ends.lock().clone();
        if from.len() != end.len() {
            return Err(JournalError::Broken(format!("the log has {} partitions, not {}", end.len(), from.len())));
        }
        if let Some(p) = (0..end.len()).find(|p| from[*p] > end[*p]) {
            return Err(JournalError::Broken(format!(
                "partition {p} ends at {} and had been folded to {}: the log has lost records",
                end[p], from[p]
            )));
        }
        Ok(Self { tables, ends, next: from.to_vec(), reported: vec![None; end.len()], known: end, turn: 0 })
    }

    fn read(&mut self, p: usize, end: Offset, max: usize, items: &mut Vec<TailItem>) -> Result<(), JournalError> {
        let (from, to) = (self.next[p].0.to_be_bytes(), end.0.to_be_bytes());
        let partition = Partition(p as u32); // from a u32 at creation
        for row in self.tables.partitions[p].range(&from, &to).take(max) {
            let (key, value) = row.map_err(broken)?;
            let position = Position::new(partition, offset_of(&key).map_err(broken)?);
            items.push(TailItem::Record(decode(position, &value)?));
            self.next[p] = position.offset.next();
        }
        if self.next[p] == end && self.reported[p] != Some(end) {
            items.push(TailItem::CaughtUp(Position::new(partition, end)));
            self.reported[p] = Some(end);
        }
        Ok(())
    }

    fn read_known(&mut self, max: usize) -> Result<Vec<TailItem>, JournalError> {
        let mut items = Vec::new();
        let count = self.known.len();
        for i in 0..count {
            let p = (self.turn + i) % count;
            let end = self.known[p];
            if items.len() < max && (self.next[p] < end || self.reported[p] != Some(end)) {
                self.read(p, end, max - items.len(), &mut items)?;
            }
        }
        self.turn = (self.turn + 1) % count.max(1);
        Ok(items)
    }
}

impl Tail for EmbeddedTail {
    fn poll(&mut self, max: usize, timeout: Duration) -> Result<Vec<TailItem>, JournalError> {
        let deadline = Instant::now() + timeout;
        let mut items = self.read_known(max)?;
        let mut left = timeout;
        while items.is_empty() {
            self.known = self.ends.wait_past(&self.known, left);
            items = self.read_known(max)?;
            if left.is_zero() {
                break;
            }
            left = deadline.saturating_duration_since(Instant::now());
        }
        Ok(items)
    }
}
