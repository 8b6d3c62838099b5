//! How far a fold has come, in which log, and where it has stopped: in the store, beside the rows and in their batches, and
//! in memory, for whoever waits.
//!
//! | table | key | value |
//! |---|---|---|
//! | `meta` | `log`, `name`, or `p` and the partition | which log, which projection, or [`Folded`] |
//! | `rejected` | partition, offset | nothing: an operator's word was followed there |
//! | every table | [`SEAL`] | the sum of the offsets: the same in all of them, or rows are missing in some |

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard};

use sha2::{Digest, Sha256};
use tokio::sync::watch;

use super::Offsets;
use super::alarms::{Alarm, Alarms};
use super::error::FoldError;
use super::fields::is_of_engine;
use super::fold::{Projection, versioned_name};
use super::rows::{decode, encode, offset_of};
use crate::journal::{LogId, Offset, Partition, Position, Reader};
use crate::lock::lock;
use crate::store::{Batch, Row, Store, StoreError, Table};

/// Where folding has stopped, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Halt {
    pub position: Position,
    /// For people; repeats nothing of the record.
    pub reason: String,
    /// The record names a schema that is not known here, as an event of a later version of paylog does.
    pub may_be_newer: bool,
    /// For the schema registry's answer, which will come, and with it the rest of the partition.
    pub waits: bool,
}

/// Where a store says of which projection its rows are, and of which version.
const NAME: &[u8] = b"name";
/// Behind every other key.
pub(super) const SEAL: [u8; 32] = [0xFF; 32];

pub struct Progress {
    log_id: LogId,
    /// All of the store, with their names.
    tables: Vec<(String, Table)>,
    meta: Table,
    rejected: Table,
    /// The next offset to fold, each partition with its own waiters.
    folded: Vec<watch::Sender<Offset>>,
    /// The same, a batch ahead while one is written.
    visible: Mutex<Offsets>,
    /// The last record that was folded, as it stands in the store.
    lasts: Mutex<Vec<Option<Last>>>,
    /// Partitions that have stopped folding.
    halted: Mutex<BTreeMap<Partition, Halt>>,
    /// Which partitions have reached the log's end since the start.
    caught_up: Vec<AtomicBool>,
    /// Which have waited for the schema registry since.
    waited: Vec<AtomicBool>,
    /// Held while a batch is written.
    writing: Mutex<()>,
    /// Does its fold tell anyone of what it meets?
    speaks: AtomicBool,
    alarms: Alarms,
}

/// Its offset and a hash of its value, to be compared with the log again.
pub type Last = (u64, [u8; 16]);

/// How far one partition has been folded.
#[derive(Clone, Debug, Default, PartialEq, serde::Serialize, serde::Deserialize)]
pub(super) struct Folded {
    pub next: u64,
    pub last: Option<Last>,
}

/// Refuses a store that is something else than rows of `P`, before anything is written to it.
pub(super) fn check<P: Projection>(store: &Store) -> Result<(), FoldError> {
    let blank = Store::in_memory();
    P::open(&blank)?;
    let (tables, mine) = (blank.tables(), versioned_name::<P>());
    let known = |name: &str| is_of_engine(name) || tables.iter().any(|(table, _)| table == name);
    store.holds_only(&known, &format!("a store of {mine}"))?;
    match store.table("meta")?.get(NAME)? {
        Some(name) if *name != *mine.as_bytes() => {
            Err(FoldError::OtherProjection(String::from_utf8_lossy(&name).into_owned(), mine))
        }
        _ => Ok(()),
    }
}

impl Progress {
    /// As it stands in `store`, all of whose tables have been opened, and which is given to this log if it is of none yet.
    pub(super) fn open<P: Projection>(store: &Store, journal: &dyn Reader) -> Result<Self, FoldError> {
        let (meta, rejected) = (store.table("meta")?, store.table("rejected")?);
        let (log_id, partitions) = (journal.log_id(), journal.partitions());
        let row: Option<([u8; 16], u32)> = meta.get(b"log")?.map(|bytes| decode(&bytes)).transpose()?;
        match row {
            None => {
                let mut batch = store.batch();
                batch.insert(&meta, b"log", &encode(&(log_id.0, partitions))?);
                batch.insert(&meta, NAME, versioned_name::<P>().as_bytes());
                batch.commit()?;
            }
            Some(log) if log == (log_id.0, partitions) => {}
            Some((other, n)) => return Err(FoldError::OtherLog(format!("{}, with {n} partitions", LogId(other)))),
        }
        let folded = |p| -> Result<Folded, StoreError> {
            meta.get(&folded_key(Partition(p)))?.map_or_else(|| Ok(Folded::default()), |bytes| decode(&bytes))
        };
        let folded = (0..partitions).map(folded).collect::<Result<Vec<_>, _>>()?;
        let tables = store.tables();
        check_seals(&tables, folded.iter().map(|folded| folded.next).sum())?;
        let mut visible = Offsets::start(partitions);
        for (folded, p) in folded.iter().zip(0..) {
            visible.set(Position::new(Partition(p), Offset(folded.next)));
        }
        Ok(Self {
            log_id,
            tables,
            meta,
            rejected,
            folded: folded.iter().map(|folded| watch::channel(Offset(folded.next)).0).collect(),
            alarms: Alarms::since(&visible),
            visible: Mutex::new(visible),
            lasts: Mutex::new(folded.into_iter().map(|folded| folded.last).collect()),
            halted: Mutex::default(),
            caught_up: (0..partitions).map(|_| AtomicBool::new(false)).collect(),
            waited: (0..partitions).map(|_| AtomicBool::new(false)).collect(),
            writing: Mutex::default(),
            speaks: AtomicBool::new(true),
        })
    }

    #[must_use]
    pub fn log_id(&self) -> LogId {
        self.log_id
    }

    #[must_use]
    pub fn partitions(&self) -> u32 {
        self.folded.len() as u32 // from a u32
    }

    /// Reads the last folded record of each partition again: it must still be the one that was folded. Blocks.
    pub fn compare(&self, journal: &dyn Reader) -> Result<(), FoldError> {
        let lasts = lock(&self.lasts).clone();
        compare_lasts(&lasts, journal)
    }

    // === for whoever waits ===

    #[must_use]
    pub fn folded(&self) -> Offsets {
        let mut offsets = Offsets::start(self.partitions());
        for (next, p) in self.folded.iter().zip(0..) {
            offsets.set(Position::new(Partition(p), *next.borrow()));
        }
        offsets
    }

    /// Has everything been folded up to these, and nothing beyond?
    #[must_use]
    pub fn has_folded_to(&self, ends: &Offsets) -> bool {
        self.folded.iter().zip(ends.as_slice()).all(|(next, end)| *next.borrow() == *end)
    }

    /// As [`Progress::folded`], with everything that may have been read by now: the rows of a batch are there a moment before
    /// anyone is told.
    #[must_use]
    pub fn visible(&self) -> Offsets {
        lock(&self.visible).clone()
    }

    /// The next offset of one partition; 0 for one that the log does not have.
    #[must_use]
    pub fn folded_to(&self, partition: Partition) -> Offset {
        self.folded.get(partition.0 as usize).map_or(Offset(0), |next| *next.borrow())
    }

    /// Is the record at `position` in the rows?
    #[must_use]
    pub fn has_folded(&self, position: Position) -> bool {
        self.folded_to(position.partition) > position.offset
    }

    /// Returns when it is; never, for a partition that the log does not have.
    pub async fn wait_folded(&self, position: Position) {
        let past = match self.folded.get(position.partition.0 as usize) {
            Some(next) => next.subscribe().wait_for(|next| *next > position.offset).await.is_ok(),
            None => false,
        };
        if !past {
            std::future::pending::<()>().await;
        }
    }

    /// Has every partition been folded to the log's end at some time since the start?
    #[must_use]
    pub fn caught_up(&self) -> bool {
        self.caught_up.iter().all(|partition| partition.load(Ordering::Acquire))
    }

    /// The same, or to where it had to wait for the schema registry: nobody who needs another partition waits for that.
    #[must_use]
    pub fn is_current(&self) -> bool {
        let mut partitions = self.caught_up.iter().zip(&self.waited);
        partitions.all(|(end, waited)| end.load(Ordering::Acquire) || waited.load(Ordering::Acquire))
    }

    /// Has it stopped, or gone on since without having come to the log's end yet? What is not in the rows may be on the log.
    #[must_use]
    pub fn is_behind(&self, partition: Partition) -> bool {
        let is = |of: &[AtomicBool]| of.get(partition.0 as usize).is_some_and(|it| it.load(Ordering::Acquire));
        self.is_halted(partition) || is(&self.waited) && !is(&self.caught_up)
    }

    /// Everywhere that folding has stopped.
    #[must_use]
    pub fn halts(&self) -> Vec<Halt> {
        lock(&self.halted).values().cloned().collect()
    }

    #[must_use]
    pub fn is_halted(&self, partition: Partition) -> bool {
        lock(&self.halted).contains_key(&partition)
    }

    /// While this is held the fold writes nothing: what is in the store is of one vector of offsets.
    pub fn hold(&self) -> MutexGuard<'_, ()> {
        lock(&self.writing)
    }

    /// Does its fold tell anyone of what it meets? One that is built beside another is silent: everything has been told.
    #[must_use]
    pub fn speaks(&self) -> bool {
        self.speaks.load(Ordering::Acquire)
    }

    /// See [`Progress::speaks`].
    pub fn speak(&self, aloud: bool) {
        self.speaks.store(aloud, Ordering::Release);
    }

    /// It speaks from now on, and `before` does no more, which stands still.
    pub(super) fn takes_over(&self, before: &Self) {
        before.speak(false);
        self.speak(true);
        self.alarms.exchanged(before);
    }

    // === for the fold ===

    /// What it has met: see [`Alarms::raise`].
    pub(super) fn raise(&self, projection: &'static str, alarms: Vec<Alarm>) {
        self.alarms.raise(projection, alarms, self);
    }

    /// `next` is to be folded next; `last` is the last record before it that was.
    pub(super) fn stage(&self, next: Position, last: Option<Last>, batch: &mut Batch) -> Result<(), StoreError> {
        let mut lasts = lock(&self.lasts);
        let kept = &mut lasts[next.partition.0 as usize];
        *kept = last.or(*kept);
        let folded = Folded { next: next.offset.0, last: *kept };
        batch.insert(&self.meta, &folded_key(next.partition), &encode(&folded)?);
        Ok(())
    }

    /// Seals every table in a batch that takes the partitions so far: `moved` those that it moves. From now on they may be
    /// seen there.
    pub(super) fn seal(&self, moved: impl Iterator<Item = Position>, batch: &mut Batch) {
        let mut next = self.folded();
        moved.for_each(|position| next.set(position));
        lock(&self.visible).clone_from(&next);
        let sum = next.sum();
        for (_, table) in &self.tables {
            batch.insert(table, &SEAL, &sum.to_be_bytes());
        }
    }

    /// It is in the store.
    pub(super) fn publish(&self, next: Position) {
        self.folded[next.partition.0 as usize].send_replace(next.offset);
    }

    pub(super) fn has_caught_up(&self, partition: Partition) {
        self.caught_up[partition.0 as usize].store(true, Ordering::Release);
    }

    /// It is as far as `other`, and so has reached the end wherever that one has.
    pub(super) fn has_caught_up_as(&self, other: &Self) {
        let both = |of: fn(&Self) -> &[AtomicBool]| of(self).iter().zip(of(other));
        for (mine, theirs) in both(|progress| &progress.caught_up).chain(both(|progress| &progress.waited)) {
            mine.fetch_or(theirs.load(Ordering::Acquire), Ordering::AcqRel);
        }
    }

    pub(super) fn halt(&self, halt: Halt) {
        let (partition, waits) = (halt.position.partition, halt.waits);
        lock(&self.halted).insert(partition, halt);
        if waits {
            self.waited[partition.0 as usize].store(true, Ordering::Release);
        } else {
            self.has_caught_up(partition); // there is nothing more to wait for
        }
    }

    pub(super) fn go_on(&self, partition: Partition) {
        lock(&self.halted).remove(&partition);
    }

    pub(super) fn pass_over(&self, position: Position, batch: &mut Batch) {
        batch.insert(&self.rejected, &rejected_key(position), &[]);
    }

    pub(super) fn has_passed_over(&self, position: Position) -> Result<bool, StoreError> {
        Ok(self.rejected.get(&rejected_key(position))?.is_some())
    }

    /// Every position that was passed over because an operator had rejected it.
    pub(super) fn passed_over(&self) -> Result<Vec<Position>, StoreError> {
        positions(&self.rejected)
    }
}

/// Are the records that were folded last, by partition, still what they were?
pub(super) fn compare_lasts(lasts: &[Option<Last>], journal: &dyn Reader) -> Result<(), FoldError> {
    for (last, p) in lasts.iter().zip(0..) {
        let Some((offset, hash)) = *last else { continue };
        let position = Position::new(Partition(p), Offset(offset));
        let record = journal.read(position)?;
        if record.is_none_or(|record| hash_of(&record.value) != hash) {
            return Err(FoldError::Changed(position));
        }
    }
    Ok(())
}

/// The log that the rows in `store` are of, and how far it has been folded; `None` if they do not say.
pub fn stands_at(store: &Store) -> Result<Option<(LogId, Offsets)>, StoreError> {
    let meta = store.table("meta")?;
    let Some(row) = meta.get(b"log")? else { return Ok(None) };
    let (log, partitions): ([u8; 16], u32) = decode(&row)?;
    let mut offsets = Offsets::start(partitions);
    for partition in (0..partitions).map(Partition) {
        let folded: Option<Folded> = meta.get(&folded_key(partition))?.map(|bytes| decode(&bytes)).transpose()?;
        offsets.set(Position::new(partition, Offset(folded.unwrap_or_default().next)));
    }
    Ok(Some((LogId(log), offsets)))
}

/// Every position that the rows in `store` have passed over because an operator had rejected it.
pub fn passed_over(store: &Store) -> Result<Vec<Position>, StoreError> {
    positions(&store.table("rejected")?)
}

fn positions(rejected: &Table) -> Result<Vec<Position>, StoreError> {
    let parse = |row: Result<Row, StoreError>| {
        let (key, _) = row?;
        let bytes = key.first_chunk::<4>().ok_or_else(|| StoreError::Damaged("a key is too short".to_owned()))?;
        Ok(Position::new(Partition(u32::from_be_bytes(*bytes)), offset_of(&key)?))
    };
    rejected.range(&[], &[0xFF; 13]).map(parse).collect()
}

/// A table that was lost, or is older or newer than the others, has another seal.
fn check_seals(tables: &[(String, Table)], sum: u64) -> Result<(), StoreError> {
    for (name, table) in tables {
        check_seal(name, table.get(&SEAL)?.as_deref(), sum)?;
    }
    Ok(())
}

/// A table without one has never been written to.
pub(super) fn check_seal(table: &str, seal: Option<&[u8]>, sum: u64) -> Result<(), StoreError> {
    let sealed = seal.map_or(Some(0), |seal| Some(u64::from_be_bytes(seal.try_into().ok()?)));
    if sealed == Some(sum) {
        return Ok(());
    }
    Err(StoreError::Damaged(format!("the table {table} does not belong to the others")))
}

fn rejected_key(position: Position) -> Vec<u8> {
    [position.partition.0.to_be_bytes().as_slice(), &position.offset.0.to_be_bytes()].concat()
}

pub(super) fn folded_key(partition: Partition) -> [u8; 5] {
    let p = partition.0.to_be_bytes();
    [b'p', p[0], p[1], p[2], p[3]]
}

/// Enough of SHA-256 to know a record again.
pub(super) fn hash_of(value: &[u8]) -> [u8; 16] {
    let digest = Sha256::digest(value);
    let mut hash = [0; 16];
    hash.copy_from_slice(&digest[..16]);
    hash
}
