//! The writers' side: reads the log, folds it, and writes rows and offsets in one batch; only then tells anyone. Killed at
//! any moment, it goes on from its last batch, and no record is folded twice or left out.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::sync_channel;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::reader::{self, Batch, Fault, Item, Recorded, Source};
use super::rejections::{Known, Rejections};
use super::rows::{FeedRow, Folded, Tables, customer_key, encode, feed_key, folded_key, hash_of, home_of, others_key};
use super::staged::{Indexed, Moved, Staged, StagedRow};
use super::view::{Halt, Shared, lock};
use super::watch::Registry;
use super::{DueKey, Row, View, parked};
use crate::clock::Clocks;
use crate::journal::{JournalError, Offset, Partition, Position, Reader, Tail};
use crate::payment::state::LostBeginning;
use crate::payment::{Effect, Event, Payment, PaymentId};
use crate::schema::Codec;
use crate::store::{Store, StoreError};
use crate::telemetry;

/// Rows of open payments kept in memory, so that their end need not read them; at the limit all are let go.
const OPEN_ROWS_MAX: usize = 100_000;

#[derive(Debug, thiserror::Error)]
pub enum FoldError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Journal(#[from] JournalError),
    #[error(
        "the rows in this data directory are of another log ({0}): start with an empty --data-dir, or point paylog at the \
         log they came from"
    )]
    OtherLog(String),
    #[error(
        "the record at {0} is not the one that was folded: the log has been changed or replaced under this data directory; \
         find out how, then start with an empty --data-dir to fold it anew"
    )]
    Changed(Position),
    #[error(
        "the record at {0} is in the rows of this data directory, and an operator has rejected it since: restart, and the \
         rows are folded anew without it"
    )]
    RejectedSince(Position),
    #[error(
        "the rows in this data directory have passed over the record at {0}, and the control log does not say that an \
         operator rejected it: the control log has lost records or was replaced; restore it"
    )]
    NeverRejected(Position),
}

/// Folds the whole log into one store.
pub struct Folder {
    shared: Arc<Shared>,
    folded: Vec<Folded>,
    /// Rows of payments that have not ended.
    open: HashMap<PaymentId, Box<Row>>,
    /// Partitions that are not folded any further, and where they stopped.
    halted: BTreeMap<Partition, Offset>,
    rejections: Rejections,
    known: Known,
}

/// Why reading has ended.
enum Ended {
    /// Told to stop.
    Stopped,
    /// A partition goes on behind a record that was rejected: what was dropped meanwhile has to be read again.
    Resumed,
}

impl Folder {
    /// Opens the rows in `store` and compares them with the log that they claim to be of.
    pub fn open(
        store: Store,
        journal: &dyn Reader,
        codec: Arc<Codec>,
        clocks: Clocks,
    ) -> Result<(Self, View), FoldError> {
        let tables = Tables::open(store)?;
        let (log_id, partitions) = (journal.log_id(), journal.partitions());
        match tables.log()? {
            None => tables.set_log(log_id, partitions)?,
            Some(log) if log == (log_id, partitions) => {}
            Some((other, n)) => return Err(FoldError::OtherLog(format!("{other}, with {n} partitions"))),
        }
        let folded = (0..partitions).map(|p| tables.folded(Partition(p))).collect::<Result<Vec<_>, _>>()?;
        let shared = Arc::new(Shared {
            log_id,
            tables,
            codec,
            folded: folded.iter().map(|folded| watch::channel(Offset(folded.next)).0).collect(),
            watchers: Arc::new(Registry::default()),
            halted: Mutex::default(),
            caught_up: (0..partitions).map(|_| AtomicBool::new(false)).collect(),
            clocks,
            listeners: Mutex::default(),
        });
        let folder = Self {
            shared: Arc::clone(&shared),
            folded,
            open: HashMap::new(),
            halted: BTreeMap::new(),
            rejections: Rejections::default(),
            known: Known::default(),
        };
        let view = View::new(shared);
        view.compare(journal)?;
        Ok((folder, view))
    }

    /// Heeds what is rejected, now and while it runs. Without this, nothing is. The rows must agree with it.
    pub fn heeding(mut self, rejections: &Rejections) -> Result<Self, FoldError> {
        self.rejections = rejections.clone();
        self.learn(&rejections.after(0))?;
        match self.shared.tables.passed_over()?.into_iter().find(|position| !self.known.has(*position)) {
            Some(position) => Err(FoldError::NeverRejected(position)),
            None => Ok(self),
        }
    }

    /// Folds until told to stop. Blocks: give it a thread of its own.
    pub fn run(mut self, journal: &dyn Reader, stop: &CancellationToken) -> Result<(), FoldError> {
        while let Ended::Resumed = self.read_on(journal, stop)? {}
        Ok(())
    }

    /// Reads from where the rows stand.
    fn read_on(&mut self, journal: &dyn Reader, stop: &CancellationToken) -> Result<Ended, FoldError> {
        let (tail, codec) = (self.tail(journal)?, Arc::clone(&self.shared.codec));
        let (rejections, known) = (self.rejections.clone(), self.known.count);
        let (sender, batches) = sync_channel(reader::AHEAD_MAX);
        let stop = &stop.child_token();
        thread::scope(|scope| {
            // However this ends, the reader must too, and be it that there is nothing to read.
            let _ends = stop.clone().drop_guard();
            let reading = move || reader::read(Source { tail, codec: &codec, rejections, known }, stop, &sender);
            let spawned = thread::Builder::new().name("fold-read".to_owned()).spawn_scoped(scope, reading);
            spawned.map_err(|e| JournalError::Unavailable(format!("cannot start the thread that reads: {e}")))?;
            for batch in batches {
                match batch? {
                    Batch::Items(items) => self.fold(&items)?,
                    Batch::Rejected(positions) => {
                        self.learn(&positions)?;
                        if self.resume()? {
                            return Ok(Ended::Resumed);
                        }
                    }
                }
            }
            Ok(Ended::Stopped)
        })
    }

    /// Reads the log from where this has folded it to.
    pub fn tail(&self, journal: &dyn Reader) -> Result<Box<dyn Tail>, JournalError> {
        let from: Vec<Offset> = self.folded.iter().map(|folded| Offset(folded.next)).collect();
        journal.tail(&from)
    }

    /// Reads once, waiting no longer than `wait`, and folds what came: [`Folder::run`] without its threads, and without
    /// an ear for what is rejected meanwhile.
    pub fn turn(&mut self, tail: &mut dyn Tail, wait: Duration) -> Result<(), FoldError> {
        let items = reader::read_once(tail, &self.shared.codec, wait)?;
        if items.is_empty() { Ok(()) } else { self.fold(&items) }
    }

    // === what operators reject ===

    /// Fails if one of them is in the rows already: then they are not what a fold of this log comes to.
    fn learn(&mut self, rejected: &[Position]) -> Result<(), FoldError> {
        self.known.learn(rejected);
        let is_folded = |position: &&Position| {
            let folded = self.folded.get(position.partition.0 as usize);
            folded.is_some_and(|folded| position.offset.0 < folded.next)
        };
        for position in rejected.iter().filter(is_folded) {
            if !self.shared.tables.has_passed_over(*position)? {
                return Err(FoldError::RejectedSince(*position));
            }
        }
        Ok(())
    }

    /// Passes over the records at which partitions have halted and that were rejected. Answers whether there were any.
    fn resume(&mut self) -> Result<bool, FoldError> {
        let halted = self.halted.iter().map(|(partition, offset)| Position::new(*partition, *offset));
        let resumed: Vec<Position> = halted.filter(|position| self.known.has(*position)).collect();
        let mut staged = Staged::new(&self.shared.tables);
        for position in &resumed {
            tracing::warn!(%position, "an operator has rejected this record: its partition goes on");
            staged.pass_over(*position, &self.shared.tables);
            self.halted.remove(&position.partition);
            // Before anyone is told that it was passed.
            lock(&self.shared.halted).remove(&position.partition);
        }
        self.write(staged)?;
        Ok(!resumed.is_empty())
    }

    // === the records ===

    fn fold(&mut self, items: &[Item]) -> Result<(), FoldError> {
        telemetry::events_folded(items.iter().filter(|item| !matches!(item, Item::CaughtUp(_))).count());
        let mut staged = Staged::new(&self.shared.tables);
        for item in items {
            let Position { partition, offset } = item.position();
            if self.halted.contains_key(&partition) {
                continue;
            }
            match item {
                Item::Event(_) | Item::Unreadable(..) if self.known.has(item.position()) => {
                    staged.pass_over(item.position(), &self.shared.tables);
                }
                Item::Event(recorded) if self.is_astray(recorded) => {
                    let fault = Fault::new("it belongs to another partition, by the payment's id");
                    self.halt(recorded.position, fault);
                }
                Item::Event(recorded) => match self.stage(recorded, &mut staged)? {
                    Ok(()) => staged.moved(partition, offset.next(), Some(recorded)),
                    Err(lost) => self.halt(recorded.position, Fault::new(lost.to_string())),
                },
                Item::Unreadable(position, fault) => self.halt(*position, fault.clone()),
                Item::CaughtUp(next) => {
                    staged.moved(partition, next.offset, None);
                    staged.caught_up.push(partition);
                }
            }
        }
        self.write(staged)
    }

    /// A row belongs to one partition: a record elsewhere would make it depend on the order between two.
    fn is_astray(&self, recorded: &Recorded) -> bool {
        let home = home_of(recorded.event.payment_id, self.shared.folded.len() as u32); // from a u32
        recorded.position.partition != home
    }

    /// Folds one record into the staged rows. The inner `Err` is why its partition must halt.
    fn stage<'i>(
        &mut self,
        recorded: &'i Recorded,
        staged: &mut Staged<'i>,
    ) -> Result<Result<(), LostBeginning>, FoldError> {
        let Recorded { position, appended_at, event, .. } = recorded;
        self.shared.clocks.saw(*appended_at);
        let id = event.payment_id;
        let before = match staged.rows.remove(&id) {
            Some(row) => Some(row),
            None => self.load(id, position.partition)?,
        };
        let (mut payment, mut events, before) = match before {
            Some(StagedRow { row, before, .. }) => (Some(row.payment), row.events, before),
            None => (None, Vec::new(), Indexed::default()),
        };
        let effect = match Payment::fold(&mut payment, event, *appended_at) {
            Ok(effect) => effect,
            Err(lost) => return Ok(Err(lost)),
        };
        // `fold` answers `Ok` only when there is a payment.
        let Some(payment) = payment else { return Ok(Ok(())) };
        report(effect, event, *position);
        self.stage_event(recorded, effect, &payment, staged)?;
        if effect == Effect::Effective {
            events.push(position.offset);
        }
        staged
            .rows
            .insert(id, StagedRow { row: Box::new(Row { payment, events }), partition: position.partition, before });
        Ok(Ok(()))
    }

    /// Before the payment's own row goes into the batch: a reader in the middle of it must not meet a row that names an event
    /// which is not there yet.
    fn stage_event(
        &self,
        recorded: &Recorded,
        effect: Effect,
        payment: &Payment,
        staged: &mut Staged<'_>,
    ) -> Result<(), StoreError> {
        let effective = effect == Effect::Effective;
        let version = if effective { payment.version } else { 0 };
        let value = encode(&FeedRow { version, appended_at: recorded.appended_at, value: &recorded.value })?;
        let Position { partition, offset } = recorded.position;
        let tables = &self.shared.tables;
        if effective {
            let customer = customer_key(&payment.initiation.merchant_id, &payment.initiation.customer_id);
            staged.batch.insert(&tables.feed, &feed_key(&customer, partition, offset), &value);
        } else {
            staged.batch.insert(&tables.others, &others_key(payment.id, offset), &value);
        }
        Ok(())
    }

    fn load(&mut self, id: PaymentId, partition: Partition) -> Result<Option<StagedRow>, StoreError> {
        let row = match self.open.remove(&id) {
            Some(row) => Some(row),
            None => self.shared.tables.row(id)?.map(Box::new),
        };
        Ok(row.map(|row| StagedRow { before: Indexed::of(&row.payment), row, partition }))
    }

    fn write(&mut self, mut staged: Staged<'_>) -> Result<(), FoldError> {
        let tables = &self.shared.tables;
        let mut new_due: BTreeMap<Partition, DueKey> = BTreeMap::new();
        for (id, StagedRow { row, partition, before }) in &staged.rows {
            staged.batch.insert(&tables.payments, id.as_bytes(), &encode(row)?);
            parked::stage(&mut staged.batch, &tables.parked, before.parked.as_ref(), &row.payment);
            let due_at = row.payment.due_at();
            if before.due_at == due_at {
                continue;
            }
            if let Some(due_at) = before.due_at {
                staged.batch.remove(&tables.due, &DueKey { due_at, payment_id: *id }.key(*partition));
            }
            if let Some(due_at) = due_at {
                let key = DueKey { due_at, payment_id: *id };
                staged.batch.insert(&tables.due, &key.key(*partition), &[]);
                new_due.entry(*partition).and_modify(|first| *first = key.min(*first)).or_insert(key);
            }
        }
        for (partition, Moved { next, last }) in &staged.moved {
            let folded = &mut self.folded[partition.0 as usize];
            folded.next = next.0;
            if let Some(last) = last {
                folded.last = Some((last.position.offset.0, hash_of(&last.value)));
            }
            staged.batch.insert(&tables.meta, &folded_key(*partition), &encode(folded)?);
        }
        let Staged { rows, batch, moved, caught_up } = staged;
        batch.commit()?;
        self.publish(rows, &moved, &caught_up, &new_due.into_iter().collect::<Vec<_>>());
        Ok(())
    }

    /// Tells whoever waits, now that it is in the store.
    fn publish(
        &mut self,
        rows: BTreeMap<PaymentId, StagedRow>,
        moved: &BTreeMap<Partition, Moved<'_>>,
        caught_up: &[Partition],
        new_due: &[(Partition, DueKey)],
    ) {
        for (partition, Moved { next, .. }) in moved {
            self.shared.folded[partition.0 as usize].send_replace(*next);
        }
        for partition in caught_up {
            self.shared.caught_up[partition.0 as usize].store(true, Ordering::Release);
        }
        let changed = rows.values().map(|staged| {
            let payment = &staged.row.payment;
            (payment.id, &payment.initiation.merchant_id, &payment.initiation.customer_id)
        });
        self.shared.watchers.wake(changed);
        lock(&self.shared.listeners).retain_mut(|listener| listener(new_due));
        if self.open.len() + rows.len() > OPEN_ROWS_MAX {
            self.open.clear();
        }
        let open = rows.into_iter().filter(|(_, staged)| !staged.row.payment.is_terminal());
        self.open.extend(open.map(|(id, staged)| (id, staged.row)));
    }

    fn halt(&mut self, position: Position, fault: Fault) {
        let Fault { reason, may_be_newer } = fault;
        tracing::error!(%position, reason, "a record cannot be folded: its partition has halted (see `paylog rejected`)");
        telemetry::partition_halted();
        self.halted.insert(position.partition, position.offset);
        let reason = format!("the record at {position} cannot be folded: {reason}");
        lock(&self.shared.halted).insert(position.partition, Halt { position, reason, may_be_newer });
        // There is nothing more to wait for.
        self.shared.caught_up[position.partition.0 as usize].store(true, Ordering::Release);
    }
}

/// What an event without effect means for the people who run this.
fn report(effect: Effect, event: &Event, position: Position) {
    let (payment, event) = (event.payment_id, event.data.name());
    if let Effect::EndedAgain | Effect::EndedOtherwise = effect {
        telemetry::payment_ended_again(effect == Effect::EndedAgain);
    }
    match effect {
        Effect::EndedOtherwise => {
            tracing::error!(%payment, event, %position, "a payment ended twice, differently: the first end stands; find out why");
        }
        Effect::EndedAgain => tracing::warn!(%payment, event, %position, "a payment's end was recorded again"),
        Effect::Effective | Effect::Repeat | Effect::Conflict | Effect::Ignored => {}
    }
}
