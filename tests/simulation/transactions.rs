//! The model of the transaction coordinator, protocol v1: a producer holds a transactional id in an epoch, a transaction
//! begins with the first partition that is added to it, and whoever sends its end in the right epoch ends whatever
//! transaction is going on then. That is the known hole: an end that was delayed on its way can end the next transaction.

use std::collections::{BTreeMap, BTreeSet};

use paylog::journal::{NewRecord, Partition, Position};

use crate::core::{Core, Due};
use crate::log::{Entry, Life, State, TxnId};
use crate::plan::{SECOND_US, TRANSACTION_TIMEOUT_US};

/// Why the broker takes nothing from a producer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// Its epoch is over.
    Fenced,
    /// Broker and client disagree on the transaction.
    InvalidState,
}

#[derive(Default)]
pub struct Transactions {
    /// By transactional id, which is a process's for ever.
    holders: BTreeMap<usize, Holder>,
    pub all: Vec<Txn>,
}

#[derive(Default)]
struct Holder {
    epoch: i16,
    ongoing: Option<TxnId>,
    /// How the last one ended: the same end again is no mistake.
    ended: Option<bool>,
}

pub struct Txn {
    pub writer: Life,
    partitions: BTreeSet<Partition>,
    /// Positions that the group will take, once a member was found to be current.
    offsets: Vec<Position>,
    pub decided: Option<Decided>,
    unwritten: BTreeSet<Partition>,
    offsets_unwritten: bool,
}

#[derive(Clone, Copy)]
pub struct Decided {
    pub commit: bool,
    pub tick: u64,
    /// An end that was meant for another transaction.
    pub stray: bool,
}

/// What a client believes of the transaction that it has open.
#[derive(Default)]
pub struct Sending {
    added: BTreeSet<Partition>,
    /// The broker's transaction that this began, if it did.
    pub txn: Option<TxnId>,
}

impl Core {
    /// A producer takes its transactional id: whatever was open ends, and every earlier epoch with it.
    pub fn init_producer(&mut self, process: usize) -> i16 {
        let ongoing = self.txns.holders.entry(process).or_default().ongoing;
        if let Some(txn) = ongoing {
            self.decide(process, txn, false, false);
        }
        let earlier = (0..self.txns.all.len()).filter(|txn| self.txns.all[*txn].writer.process == process);
        for txn in earlier.collect::<Vec<_>>() {
            self.write_all_markers(txn);
        }
        let holder = self.txns.holders.entry(process).or_default();
        (holder.epoch, holder.ended) = (holder.epoch + 1, None);
        holder.epoch
    }

    pub fn produce(
        &mut self,
        writer: Life,
        epoch: i16,
        record: NewRecord,
        sending: &mut Sending,
    ) -> Result<Position, Refusal> {
        let partition = record.partition;
        let txn = self.joined(writer, epoch, Some(partition), sending)?;
        let entry =
            Entry { record, writer, txn: Some(txn), state: State::Open, producer: (writer.process as i64, epoch) };
        let (now, tick) = (self.now_us, self.tick());
        let position = self.topic.append(now, tick, entry);
        self.meet_late_end(writer.process);
        Ok(position)
    }

    /// An end that is on its way may arrive just now, in the middle of the next transaction.
    fn meet_late_end(&mut self, process: usize) {
        if self.random.chance(300) {
            let late = self.take_due(|due| matches!(due, Due::EndTransaction { process: of, .. } if *of == process));
            late.into_iter().for_each(|late| self.happen(late));
        }
    }

    /// The broker's transaction that a client's next record or its offsets belong to; begins one if none is going on.
    fn joined(
        &mut self,
        writer: Life,
        epoch: i16,
        partition: Option<Partition>,
        sending: &mut Sending,
    ) -> Result<TxnId, Refusal> {
        let holder = self.txns.holders.get(&writer.process).filter(|holder| holder.epoch == epoch);
        let ongoing = holder.ok_or(Refusal::Fenced)?.ongoing;
        let added = partition.is_some_and(|partition| sending.added.contains(&partition));
        let txn = match ongoing {
            Some(txn) => txn,
            // The client takes it for added, and the broker verifies that (KIP-890, part 1).
            None if added => return Err(Refusal::InvalidState),
            None => self.begin_txn(writer),
        };
        if let Some(partition) = partition {
            if added && !self.txns.all[txn].partitions.contains(&partition) {
                return Err(Refusal::InvalidState);
            }
            self.txns.all[txn].partitions.insert(partition);
            sending.added.insert(partition);
        }
        sending.txn = Some(txn);
        Ok(txn)
    }

    fn begin_txn(&mut self, writer: Life) -> TxnId {
        // The coordinator takes no new one before the markers of the last are written.
        let last = self.txns.all.iter().rposition(|txn| txn.writer.process == writer.process);
        last.into_iter().for_each(|last| self.write_all_markers(last));
        let txn = self.txns.all.len();
        self.txns.all.push(Txn {
            writer,
            partitions: BTreeSet::new(),
            offsets: Vec::new(),
            decided: None,
            unwritten: BTreeSet::new(),
            offsets_unwritten: false,
        });
        if let Some(holder) = self.txns.holders.get_mut(&writer.process) {
            (holder.ongoing, holder.ended) = (Some(txn), None);
        }
        self.after(TRANSACTION_TIMEOUT_US, Due::TransactionTimeout(txn));
        txn
    }

    /// Positions of a member that was current when the group was asked.
    pub fn send_offsets(
        &mut self,
        writer: Life,
        epoch: i16,
        next: &[Position],
        sending: &mut Sending,
    ) -> Result<(), Refusal> {
        self.meet_late_end(writer.process);
        let txn = self.joined(writer, epoch, None, sending)?;
        self.txns.all[txn].offsets.extend(next);
        self.meet_late_end(writer.process);
        Ok(())
    }

    /// Ends whatever transaction is going on. `meant` is the one that the client wanted to end.
    pub fn end_txn(&mut self, process: usize, epoch: i16, commit: bool, meant: Option<TxnId>) -> Result<(), Refusal> {
        let Some(holder) = self.txns.holders.get(&process).filter(|holder| holder.epoch == epoch) else {
            return Err(Refusal::Fenced);
        };
        match (holder.ongoing, holder.ended) {
            (Some(txn), _) => {
                let stray = meant != Some(txn);
                if stray {
                    self.trace.fault("the end of one transaction ended the next");
                }
                self.decide(process, txn, commit, stray);
                Ok(())
            }
            (None, Some(ended)) if ended == commit => Ok(()),
            (None, _) => Err(Refusal::InvalidState),
        }
    }

    fn decide(&mut self, process: usize, txn: TxnId, commit: bool, stray: bool) {
        let (tick, now) = (self.tick(), self.now_us);
        if let Some(holder) = self.txns.holders.get_mut(&process) {
            (holder.ongoing, holder.ended) = (None, Some(commit));
        }
        let of = &mut self.txns.all[txn];
        of.decided = Some(Decided { commit, tick, stray });
        of.unwritten = of.partitions.clone();
        of.offsets_unwritten = !of.offsets.is_empty();
        self.trace.line(now, format_args!("broker: transaction {txn} of {process} is decided: commit={commit}"));
        if commit && self.happens(self.plan.rates.repeated) {
            let wait = self.random.skewed(60 * SECOND_US);
            self.after(wait, Due::Repeat(txn));
        }
        let mut places: Vec<Option<Partition>> = self.txns.all[txn].unwritten.iter().copied().map(Some).collect();
        places.push(None);
        for place in places {
            if self.happens(self.plan.rates.late_marker) {
                self.trace.fault("a marker is written late");
                let wait = self.random.skewed(8 * SECOND_US);
                self.after(wait, Due::Marker(txn, place));
            } else {
                self.write_marker(txn, place);
            }
        }
    }

    /// Its records are written again, in a transaction of nobody's.
    pub fn repeat_txn(&mut self, txn: TxnId) {
        self.trace.fault("a transaction is there twice");
        let slots = self.topic.partitions().flat_map(|partition| self.topic.slots(partition));
        let entries = slots.filter_map(|slot| slot.entry.as_ref()).filter(|entry| entry.txn == Some(txn));
        let records: Vec<NewRecord> = entries.map(|entry| entry.record.clone()).collect();
        let epoch = self.init_producer(STRANGER);
        let (writer, mut sending) = (Life { process: STRANGER, start: 0 }, Sending::default());
        for record in records {
            // In a fresh epoch nothing refuses it.
            let _ = self.produce(writer, epoch, record, &mut sending);
        }
        let _ = self.end_txn(STRANGER, epoch, true, sending.txn);
    }

    /// `None` is the marker of the group's offsets.
    pub fn write_marker(&mut self, txn: TxnId, place: Option<Partition>) {
        let Some(Decided { commit, .. }) = self.txns.all[txn].decided else { return };
        match place {
            None => self.txns.all[txn].offsets_unwritten = false,
            Some(partition) => {
                if self.txns.all[txn].unwritten.remove(&partition) {
                    let (now, tick) = (self.now_us, self.tick());
                    self.topic.mark(now, tick, partition, txn, commit);
                }
            }
        }
    }

    fn write_all_markers(&mut self, txn: TxnId) {
        for partition in self.txns.all[txn].unwritten.clone() {
            self.write_marker(txn, Some(partition));
        }
        self.write_marker(txn, None);
    }

    pub fn time_out_txn(&mut self, txn: TxnId) {
        let process = self.txns.all[txn].writer.process;
        if self.txns.all[txn].decided.is_none() {
            self.trace.fault("a transaction timed out");
            self.decide(process, txn, false, false);
            if let Some(holder) = self.txns.holders.get_mut(&process) {
                holder.epoch += 1;
            }
        }
    }

    /// Do positions of these partitions hang on a transaction that is not over?
    pub fn is_unstable(&self, partitions: &[Partition]) -> bool {
        let open = |txn: &&Txn| txn.decided.is_none() || txn.offsets_unwritten;
        let over = |txn: &Txn| txn.offsets.iter().any(|position| partitions.contains(&position.partition));
        self.txns.all.iter().filter(open).any(over)
    }
}

/// A producer that is none of ours.
pub const STRANGER: usize = 1000;

impl Core {
    /// A transaction of nobody's is left open over some partition: readers wait behind it.
    pub fn hang(&mut self) {
        self.trace.fault("a transaction of a stranger hangs");
        let partitions: Vec<Partition> = self.topic.partitions().collect();
        let partition = *self.random.pick(&partitions);
        let epoch = self.init_producer(STRANGER);
        let record = NewRecord { partition, key: Vec::new(), headers: Vec::new(), value: b"never committed".to_vec() };
        // In a fresh epoch nothing refuses it.
        let _ = self.produce(Life { process: STRANGER, start: 0 }, epoch, record, &mut Sending::default());
    }
}
