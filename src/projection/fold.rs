//! Folds the log into a store: reads it, lets a [`Projection`] say what each event comes to, and writes rows and offsets in
//! one batch; only then tells anyone. Killed at any moment, it goes on from its last batch, and no record is folded twice or
//! left out.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::mpsc::sync_channel;
use std::thread;
use std::time::{Duration, Instant};

use tokio_util::sync::CancellationToken;

use super::alarms::{Alarm, Met};
use super::error::{ApplyError, FoldError};
use super::fields::{About, digest};
use super::moved::{Halted, Moved, moves};
use super::older::Older;
use super::progress::{self, Halt, Progress, hash_of};
use super::reader::{self, Fault, Item, Recorded, Source};
use super::rejections::{Known, Rejections};
use super::rows::home_of;
use super::{Offsets, standing};
use crate::journal::{JournalError, Offset, Partition, Position, Reader, Tail};
use crate::schema::Codec;
use crate::store::{Batch, Store, StoreError};
use crate::telemetry;

/// What the events of the log come to, as rows of a store.
///
/// It is pure: what it writes depends on the events and on what it wrote for those before, and on nothing else, so that a fold
/// of the same log writes the same rows, whoever folds it, whenever, and however often it was interrupted. Of two events of
/// one payment the earlier one on the log comes first. Of two payments nobody can say: a row that is written for both must
/// come to the same in either order.
pub trait Projection: Sized + Send {
    /// Its name, for directories and commands.
    const NAME: &'static str;
    /// Whoever changes what it writes counts this up, and the log is folded anew.
    const VERSION: u32;
    /// If all that it reads in its store while it folds an event was written for the same payment: the tables to which it writes in
    /// the order of their keys when payments come in the order of their ids, each with all its events. Then a whole log can be
    /// folded much faster ([`super::bulk`]). `None`: record by record.
    const BY_PAYMENT: Option<&'static [&'static str]> = None;

    /// How the rows of an older version are read, to be held against those of this one; `None` if nothing is known of them.
    #[must_use]
    fn older(_version: u32) -> Option<Older> {
        None
    }

    /// Opens its tables in `store`, new or as they were left. The names `meta` and `rejected` are taken.
    fn open(store: &Store) -> Result<Self, StoreError>;

    /// Folds one event into rows that are kept, or written to `batch`.
    fn apply(&mut self, recorded: &Recorded, batch: &mut Batch) -> Result<(), ApplyError>;

    /// Writes what was kept: after this the rows of all events so far are in `batch`.
    fn flush(&mut self, batch: &mut Batch) -> Result<(), StoreError>;

    /// The batch is in the store, and whoever waits for its offsets has been told.
    fn committed(&mut self) {}

    /// What a row of one of its tables is about, for whoever has to say what is different in it.
    #[must_use]
    fn about(_codec: &Codec, _table: &str, key: &[u8], _value: &[u8]) -> About {
        About::of_key(key)
    }

    /// The fields of a row of one of its tables, by their names; for people, and without what may be about a person.
    #[must_use]
    fn fields(_table: &str, _key: &[u8], value: &[u8]) -> BTreeMap<String, String> {
        BTreeMap::from([("value".to_owned(), digest(value))])
    }
}

/// What one version of a projection is called, and its directory: every version has a store of its own.
#[must_use]
pub fn versioned_name<P: Projection>() -> String {
    format!("{}@{}", P::NAME, P::VERSION)
}

/// Folds the whole log into one store.
pub struct Fold<P> {
    pub(super) projection: P,
    pub(super) store: Store,
    codec: Arc<Codec>,
    progress: Arc<Progress>,
    /// Partitions that are not folded any further.
    halted: BTreeMap<Partition, Halted>,
    /// How much of what was learnt from the schema registry has been heeded.
    learnt: u64,
    rejections: Rejections,
    known: Known,
    /// Records that go into one batch, and what this one has met.
    batch_max: usize,
    alarms: Vec<Alarm>,
    halts: Vec<Halt>,
}

/// How [`Fold::fold_to`] has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FoldedTo {
    There,
    Stopped,
    /// It cannot fold this record, which is before where it was to come to.
    Halt(Position),
}

/// Why reading has ended.
enum Ended {
    /// Told to stop, or there is no need to go on.
    Stopped,
    /// A partition goes on, behind a record that was rejected or with one that can be read now: what was dropped meanwhile has
    /// to be read again.
    Resumed,
}

impl<P: Projection> Fold<P> {
    /// Opens the rows in `store` and compares them with the log that they claim to be of.
    pub fn new(store: Store, journal: &dyn Reader, codec: Arc<Codec>) -> Result<Self, FoldError> {
        progress::check::<P>(&store)?;
        let projection = P::open(&store)?;
        let progress = Arc::new(Progress::open::<P>(&store, journal)?);
        standing::compare(&progress, journal)?;
        let (rejections, known) = (Rejections::default(), Known::default());
        let (halted, alarms, halts) = (BTreeMap::new(), Vec::new(), Vec::new());
        let (learnt, batch_max) = (codec.learnt(), reader::BATCH_MAX);
        Ok(Self { projection, store, codec, progress, halted, learnt, rejections, known, batch_max, alarms, halts })
    }

    /// Heeds what is rejected, now and while it runs. Without this, nothing is. The rows must agree with it.
    pub fn heeding(mut self, rejections: &Rejections) -> Result<Self, FoldError> {
        self.rejections = rejections.clone();
        self.learn(&rejections.after(0))?;
        match self.progress.passed_over()?.into_iter().find(|position| !self.known.has(*position)) {
            Some(position) => Err(FoldError::NeverRejected(position)),
            None => Ok(self),
        }
    }

    /// Folds so many records at once, at most; `None` for as many as make it fast.
    pub fn set_batch_max(&mut self, batch_max: Option<usize>) {
        self.batch_max = batch_max.unwrap_or(reader::BATCH_MAX);
    }

    /// How far it has come, for whoever waits for it.
    #[must_use]
    pub fn progress(&self) -> Arc<Progress> {
        Arc::clone(&self.progress)
    }

    /// Folds until told to stop. Blocks: give it a thread of its own.
    pub fn run(mut self, journal: &dyn Reader, stop: &CancellationToken) -> Result<(), FoldError> {
        self.follow(journal, stop, &mut |_| true)
    }

    /// Folds until told to stop, or until `after` says that there is no need to go on: it is called after each batch, with
    /// how long that took to fold. Blocks.
    pub fn follow(
        &mut self,
        journal: &dyn Reader,
        stop: &CancellationToken,
        after: &mut dyn FnMut(Duration) -> bool,
    ) -> Result<(), FoldError> {
        while let Ended::Resumed = self.read_on(journal, stop, after)? {}
        Ok(())
    }

    /// Reads from where the rows stand.
    fn read_on(
        &mut self,
        journal: &dyn Reader,
        stop: &CancellationToken,
        after: &mut dyn FnMut(Duration) -> bool,
    ) -> Result<Ended, FoldError> {
        let (tail, codec) = (self.tail(journal)?, Arc::clone(&self.codec));
        let (rejections, known, learnt) = (self.rejections.clone(), self.known.count, self.learnt);
        let batch_max = self.batch_max;
        let (sender, batches) = sync_channel(reader::AHEAD_MAX);
        let stop = &stop.child_token();
        thread::scope(|scope| {
            // However this ends, the reader must too, and be it that there is nothing to read.
            let _ends = stop.clone().drop_guard();
            let reading = move || {
                reader::read(Source { tail, codec: &codec, rejections, known, learnt, batch_max }, stop, &sender)
            };
            let spawned = thread::Builder::new().name("fold-read".to_owned()).spawn_scoped(scope, reading);
            spawned.map_err(|e| JournalError::Unavailable(format!("cannot start the thread that reads: {e}")))?;
            for batch in batches {
                match batch? {
                    reader::Batch::Items(items) => {
                        let began = Instant::now();
                        self.fold(&items)?;
                        if !after(began.elapsed()) {
                            return Ok(Ended::Stopped);
                        }
                    }
                    reader::Batch::Rejected(positions) => {
                        self.learn(&positions)?;
                        if self.resume()? {
                            return Ok(Ended::Resumed);
                        }
                    }
                    reader::Batch::Learnt(learnt) => {
                        if self.read_again(learnt) {
                            return Ok(Ended::Resumed);
                        }
                    }
                }
            }
            Ok(Ended::Stopped)
        })
    }

    /// Folds to where the log ends, each partition to the end that it has when it is reached, or to where it halts.
    pub fn catch_up(&mut self, journal: &dyn Reader) -> Result<(), FoldError> {
        let mut tail = self.tail(journal)?;
        while !self.progress.caught_up() {
            self.turn(tail.as_mut(), reader::POLL)?;
            if self.read_again(self.codec.learnt()) {
                tail = self.tail(journal)?;
            }
        }
        Ok(())
    }

    /// Folds to `at`, and no further: it must not be there yet, in any partition.
    pub fn fold_to(
        &mut self,
        at: &Offsets,
        journal: &dyn Reader,
        stop: &CancellationToken,
    ) -> Result<FoldedTo, FoldError> {
        let mut tail = self.tail(journal)?;
        while self.progress.folded() != *at {
            if stop.is_cancelled() {
                return Ok(FoldedTo::Stopped);
            }
            let rejected = self.rejections.after(self.known.count);
            self.learn(&rejected)?;
            let mut resumed = !rejected.is_empty() && self.resume()?;
            resumed |= self.read_again(self.codec.learnt());
            if resumed {
                tail = self.tail(journal)?;
            }
            let before =
                |(partition, halted): &(&Partition, &Halted)| halted.at < at.of(**partition) && !halted.waits();
            if let Some((partition, halted)) = self.halted.iter().find(before) {
                return Ok(FoldedTo::Halt(Position::new(*partition, halted.at)));
            }
            let items = reader::read_once(tail.as_mut(), &self.codec, self.batch_max, reader::POLL)?;
            let items: Vec<Item> = items.into_iter().map(|item| item.up_to(at)).collect();
            self.fold(&items)?;
        }
        Ok(FoldedTo::There)
    }

    /// Reads the log from where this has folded it to.
    pub fn tail(&self, journal: &dyn Reader) -> Result<Box<dyn Tail>, JournalError> {
        let from: Vec<Offset> = self.progress.folded().positions().map(|next| next.offset).collect();
        journal.tail(&from)
    }

    /// Reads once, waiting no longer than `wait`, and folds what came: [`Fold::run`] without its threads, and without an ear
    /// for what is rejected meanwhile.
    pub fn turn(&mut self, tail: &mut dyn Tail, wait: Duration) -> Result<(), FoldError> {
        let items = reader::read_once(tail, &self.codec, self.batch_max, wait)?;
        if items.is_empty() { Ok(()) } else { self.fold(&items) }
    }

    // === what operators reject ===

    /// Fails if one of them is in the rows already: then they are not what a fold of this log comes to.
    fn learn(&mut self, rejected: &[Position]) -> Result<(), FoldError> {
        self.known.learn(rejected);
        for position in rejected.iter().filter(|position| self.progress.has_folded(**position)) {
            if !self.progress.has_passed_over(*position)? {
                return Err(FoldError::RejectedSince(*position));
            }
        }
        Ok(())
    }

    /// Passes over the records at which partitions have halted and that were rejected. Answers whether there were any.
    fn resume(&mut self) -> Result<bool, FoldError> {
        let halted = self.halted.iter().map(|(partition, halted)| Position::new(*partition, halted.at));
        let resumed: Vec<Position> = halted.filter(|position| self.known.has(*position)).collect();
        let (mut batch, mut moved) = (self.store.batch(), BTreeMap::new());
        for position in &resumed {
            tracing::warn!(%position, "an operator has rejected this record: its partition goes on");
            self.pass_over(*position, &mut batch, &mut moved);
            self.halted.remove(&position.partition);
            // Before anyone is told that it was passed.
            self.progress.go_on(position.partition);
        }
        self.write(batch, &moved, &[])?;
        Ok(!resumed.is_empty())
    }

    /// So much has been learnt from the schema registry. Answers whether a partition goes on for it, be it only to halt for
    /// another reason.
    fn read_again(&mut self, learnt: u64) -> bool {
        self.learnt = learnt;
        let again = self.halted.iter().filter(|(_, halted)| halted.is_past(&self.codec));
        let again: Vec<Partition> = again.map(|(partition, _)| *partition).collect();
        for partition in &again {
            self.halted.remove(partition);
            self.progress.go_on(*partition);
        }
        !again.is_empty()
    }

    /// A rejected record leaves nothing but the mark that it was passed over.
    fn pass_over(&self, position: Position, batch: &mut Batch, moved: &mut BTreeMap<Partition, Moved<'_>>) {
        self.progress.pass_over(position, batch);
        moves(moved, position.partition, position.offset.next(), None);
    }

    // === the records ===

    fn fold(&mut self, items: &[Item]) -> Result<(), FoldError> {
        if self.progress.speaks() {
            telemetry::events_folded(P::NAME, items.iter().filter(|item| item.is_record()).count());
        }
        let (mut batch, mut moved, mut caught_up) = (self.store.batch(), BTreeMap::new(), Vec::new());
        for item in items {
            let Position { partition, offset } = item.position();
            if self.halted.contains_key(&partition) {
                continue;
            }
            match item {
                Item::Event(_) | Item::Unreadable(..) if self.known.has(item.position()) => {
                    self.pass_over(item.position(), &mut batch, &mut moved);
                }
                Item::Event(recorded) if self.is_astray(recorded) => {
                    let fault = Fault::new("it belongs to another partition, by the payment's id");
                    self.halt(recorded.position, fault, &mut moved);
                }
                Item::Event(recorded) => match self.projection.apply(recorded, &mut batch) {
                    Ok(()) => moves(&mut moved, partition, offset.next(), Some(recorded)),
                    Err(ApplyError::Store(error)) => return Err(error.into()),
                    Err(ApplyError::Unfoldable(reason)) => {
                        self.halt(recorded.position, Fault::new(reason), &mut moved);
                    }
                },
                Item::Unreadable(position, fault) => self.halt(*position, fault.clone(), &mut moved),
                Item::Reached(next) => moves(&mut moved, partition, next.offset, None),
                Item::CaughtUp(next) => {
                    moves(&mut moved, partition, next.offset, None);
                    caught_up.push(partition);
                }
            }
        }
        self.write(batch, &moved, &caught_up)
    }

    /// A row belongs to one partition: a record elsewhere would make it depend on the order between two.
    fn is_astray(&self, recorded: &Recorded) -> bool {
        recorded.position.partition != home_of(recorded.event.payment_id, self.progress.partitions())
    }

    fn write(
        &mut self,
        mut batch: Batch,
        moved: &BTreeMap<Partition, Moved<'_>>,
        caught_up: &[Partition],
    ) -> Result<(), FoldError> {
        let progress = Arc::clone(&self.progress);
        let _writing = progress.hold();
        // Together, and not while another store takes the place of this one: that one tells of every halt that is not here.
        progress.raise(P::NAME, std::mem::take(&mut self.alarms));
        std::mem::take(&mut self.halts).into_iter().for_each(|halt| progress.halt(halt));
        self.projection.flush(&mut batch)?;
        for (partition, Moved { next, last }) in moved {
            let last = last.map(|last| (last.position.offset.0, hash_of(&last.value)));
            self.progress.stage(Position::new(*partition, *next), last, &mut batch)?;
        }
        if !moved.is_empty() {
            self.progress
                .seal(moved.iter().map(|(partition, moved)| Position::new(*partition, moved.next)), &mut batch);
        }
        batch.commit()?;
        moved.iter().for_each(|(partition, moved)| self.progress.publish(Position::new(*partition, moved.next)));
        caught_up.iter().for_each(|partition| self.progress.has_caught_up(*partition));
        self.projection.committed();
        Ok(())
    }

    /// All before it has been folded, whether or not a reader said so: every fold stands at the same offset here.
    fn halt(&mut self, position: Position, fault: Fault, moved: &mut BTreeMap<Partition, Moved<'_>>) {
        moves(moved, position.partition, position.offset, None);
        let waits = fault.waits();
        let Fault { reason, may_be_newer, unread } = fault;
        unread.iter().for_each(|error| self.codec.want(error));
        let what = if waits { Met::Waits { reason: reason.clone() } } else { Met::Halted { reason: reason.clone() } };
        self.alarms.push(Alarm { position, what });
        self.halted.insert(position.partition, Halted { at: position.offset, unread });
        let reason = format!("the record at {position} cannot be folded: {reason}");
        self.halts.push(Halt { position, reason, may_be_newer, waits });
    }
}
