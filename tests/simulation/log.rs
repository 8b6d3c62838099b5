//! The model of a topic: partitions of slots, which a transaction's records share with markers and with everybody else's
//! records. A reader of committed records sees nothing behind a transaction that is open.

use paylog::journal::{NewRecord, Offset, Partition, Position, Record};

use crate::plan::ORIGIN_US;

/// Which transaction, in the order of their beginnings.
pub type TxnId = usize;

/// A life of a process: its number and how often it was started.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Life {
    pub process: usize,
    pub start: u32,
}

/// Which log: the one whose partitions have owners, or another beside it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Log {
    Own,
    Beside(usize),
}

/// One offset.
pub struct Slot {
    pub appended_at_us: u64,
    /// When, in the order of everything that was called.
    pub tick: u64,
    /// `None` is a transaction's marker.
    pub entry: Option<Entry>,
}

pub struct Entry {
    pub record: NewRecord,
    pub writer: Life,
    pub txn: Option<TxnId>,
    pub state: State,
    pub producer: (i64, i16),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    Open,
    Committed,
    Aborted,
}

#[derive(Default)]
pub struct Topic {
    partitions: Vec<Slots>,
}

#[derive(Default)]
struct Slots {
    slots: Vec<Slot>,
    /// Everything before this is decided.
    stable: usize,
}

impl Topic {
    pub fn new(partitions: u32) -> Self {
        Self { partitions: (0..partitions).map(|_| Slots::default()).collect() }
    }

    pub fn append(&mut self, at_us: u64, tick: u64, entry: Entry) -> Position {
        let partition = entry.record.partition;
        let position = Position::new(partition, self.end(partition));
        self.of(partition).slots.push(Slot { appended_at_us: at_us, tick, entry: Some(entry) });
        self.settle(partition);
        position
    }

    /// Ends a transaction's records in one partition, with a marker.
    pub fn mark(&mut self, at_us: u64, tick: u64, partition: Partition, txn: TxnId, commit: bool) {
        let slots = &mut self.of(partition).slots;
        for entry in slots.iter_mut().filter_map(|slot| slot.entry.as_mut()).filter(|e| e.txn == Some(txn)) {
            entry.state = if commit { State::Committed } else { State::Aborted };
        }
        slots.push(Slot { appended_at_us: at_us, tick, entry: None });
        self.settle(partition);
    }

    fn settle(&mut self, partition: Partition) {
        let Slots { slots, stable } = self.of(partition);
        let is_open = |slot: &Slot| slot.entry.as_ref().is_some_and(|entry| entry.state == State::Open);
        while slots.get(*stable).is_some_and(|slot| !is_open(slot)) {
            *stable += 1;
        }
    }

    fn of(&mut self, partition: Partition) -> &mut Slots {
        &mut self.partitions[partition.0 as usize]
    }

    /// The end that a reader sees who does not wait for transactions.
    pub fn end(&self, partition: Partition) -> Offset {
        Offset(self.partitions[partition.0 as usize].slots.len() as u64)
    }

    /// The end that a reader of committed records sees.
    pub fn stable_end(&self, partition: Partition) -> Offset {
        Offset(self.partitions[partition.0 as usize].stable as u64)
    }

    pub fn slots(&self, partition: Partition) -> &[Slot] {
        &self.partitions[partition.0 as usize].slots
    }

    pub fn partitions(&self) -> impl Iterator<Item = Partition> + use<> {
        (0..self.partitions.len() as u32).map(Partition)
    }

    /// The committed record there, if there is one and nothing before it is open.
    pub fn read(&self, position: Position) -> Option<Record> {
        let stable = self.stable_end(position.partition);
        let slot = self.slots(position.partition).get(position.offset.0 as usize)?;
        let entry = slot.entry.as_ref().filter(|e| e.state == State::Committed && position.offset < stable)?;
        Some(record(position, slot.appended_at_us, entry))
    }
}

/// As a reader gets it: Kafka's clock keeps milliseconds.
pub fn record(position: Position, at_us: u64, entry: &Entry) -> Record {
    let appended_at_us = (ORIGIN_US + at_us as i64) / 1000 * 1000;
    Record { position, appended_at_us, key: entry.record.key.clone(), value: entry.record.value.clone() }
}
