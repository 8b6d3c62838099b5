//! The log on this machine's disk, for one process: the contract of [`crate::journal`] on an embedded store.
//!
//! One thread appends ([`appender`]): it gathers what is waiting, writes it as one batch, syncs once and only then moves
//! the ends that readers see. So an acknowledged record is on the disk, and no reader ever sees one that a crash could take
//! back. A transaction is one such batch, with the positions of its lanes in it.

mod appender;
#[cfg(test)]
mod full_disk_tests;
mod history;
mod lanes;
mod restore;
mod since;
mod tail;

use std::path::Path;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::journal::{
    AppendError, Appending, Ends, Engine, Header, History, Journal, JournalError, Lanes, LogId, NewRecord, Offset,
    Partition, Position, Reader, Record, SourceRecord, Span, Tail,
};
use crate::store::{Store, StoreError, Table};
use appender::Appender;

/// Most records are smaller, with their headers.
const ROW_BYTES: usize = 1024;

/// One table a partition, offset to record.
struct Tables {
    store: Store,
    meta: Table,
    partitions: Vec<Table>,
}

/// Where each partition ends, for those who wait for more.
struct EndsBoard {
    ends: Mutex<Vec<Offset>>,
    moved: Condvar,
}

pub struct EmbeddedJournal {
    log_id: LogId,
    tables: Arc<Tables>,
    ends: Arc<EndsBoard>,
    appender: Arc<Appender>,
}

impl EmbeddedJournal {
    /// Opens the log in `path`, or creates it with `partitions`. Refuses if it exists with another number, for a key's
    /// partition can never change.
    pub fn open(path: &Path, partitions: u32) -> Result<Arc<Self>, JournalError> {
        Self::open_in(open_store(path).map_err(refused)?, path, partitions)
    }

    /// The log that is in `path` already, for those who only read it.
    pub fn reader(path: &Path) -> Result<Arc<dyn Reader>, JournalError> {
        let missing = || JournalError::Refused(format!("there is no embedded journal in {}", path.display()));
        if !path.is_dir() {
            return Err(missing());
        }
        let store = open_store(path).map_err(refused)?;
        let created = read_u32(&store.table("meta").map_err(refused)?, "partitions").map_err(refused)?;
        Ok(Self::open_in(store, path, created.ok_or_else(missing)?)?)
    }

    fn open_in(store: Store, path: &Path, partitions: u32) -> Result<Arc<Self>, JournalError> {
        let meta = store.table("meta").map_err(refused)?;
        let log_id = identify(&store, &meta, partitions).map_err(refused)?;
        let created = read_u32(&meta, "partitions").map_err(refused)?;
        if created != Some(partitions) {
            return Err(JournalError::Refused(format!(
                "the log in {} was created with {} partitions and {partitions} are configured: this number can never \
                 change; set --partitions to what it was",
                path.display(),
                created.unwrap_or_default()
            )));
        }
        let names = (0..partitions).map(|p| store.table(&format!("p{p}")));
        let tables = Arc::new(Tables { partitions: names.collect::<Result<_, _>>().map_err(refused)?, meta, store });
        let ends = Arc::new(EndsBoard { ends: Mutex::new(tables.ends().map_err(refused)?), moved: Condvar::new() });
        let appender = Appender::start(Arc::clone(&tables), Arc::clone(&ends))?;
        Ok(Arc::new(Self { log_id, tables, ends, appender }))
    }
}

impl Reader for EmbeddedJournal {
    fn engine(&self) -> Engine {
        Engine::Embedded
    }

    fn log_id(&self) -> LogId {
        self.log_id
    }

    fn partitions(&self) -> u32 {
        // From a u32 at creation.
        self.tables.partitions.len() as u32
    }

    fn tail(&self, from: &[Offset]) -> Result<Box<dyn Tail>, JournalError> {
        let tail = tail::EmbeddedTail::new(Arc::clone(&self.tables), Arc::clone(&self.ends), from)?;
        Ok(Box::new(tail))
    }

    fn ends(&self, partition: Partition) -> Result<Ends, JournalError> {
        let end = self.ends.lock().get(partition.0 as usize).copied();
        let end = end.ok_or_else(|| JournalError::Broken(format!("there is no partition {partition}")))?;
        Ok(Ends { committed: end, uncommitted: end })
    }

    fn read(&self, position: Position) -> Result<Option<Record>, JournalError> {
        if position.offset >= self.ends(position.partition)?.committed {
            return Ok(None);
        }
        self.tables.read(position)
    }

    fn first_since(&self, taken_us: i64) -> Result<Vec<Offset>, JournalError> {
        let ends = self.ends.lock().clone();
        since::first(&self.tables, &ends, taken_us)
    }

    fn history(&self, spans: &[Span]) -> Result<Box<dyn History>, JournalError> {
        let ends = self.ends.lock().clone();
        Ok(Box::new(history::EmbeddedHistory::new(Arc::clone(&self.tables), &ends, spans)?))
    }

    /// The directory is locked and the number of partitions was compared at the opening: only the disk can have failed.
    fn check(&self) -> Result<(), JournalError> {
        self.appender.failed().map_or(Ok(()), |reason| Err(JournalError::Broken(reason.to_owned())))
    }
}

impl Journal for EmbeddedJournal {
    fn append(&self, record: NewRecord) -> Appending {
        appending(self.appender.submit(vec![record], Vec::new(), None))
    }

    fn restore(&self, record: &SourceRecord) -> Appending {
        appending(self.appender.restore(restore::new_record(record), record.timestamp_us))
    }

    fn lanes(&self) -> Result<Box<dyn Lanes>, JournalError> {
        Ok(Box::new(lanes::EmbeddedLanes::new(Arc::clone(&self.appender), self.partitions())))
    }
}

fn appending(answer: Result<appender::Answering, AppendError>) -> Appending {
    Box::pin(async move {
        let lost = || AppendError::Unknown("the log was closed before it answered".to_owned());
        let positions = answer?.await.map_err(|_| lost())??;
        positions.first().copied().ok_or_else(lost)
    })
}

impl Tables {
    fn ends(&self) -> Result<Vec<Offset>, StoreError> {
        let last = |table: &Table| -> Result<Offset, StoreError> {
            match table.range(&[], &[0xFF; 9]).next_back().transpose()? {
                Some((key, _)) => Ok(offset_of(&key)?.next()),
                None => Ok(Offset(0)),
            }
        };
        self.partitions.iter().map(last).collect()
    }

    fn read(&self, position: Position) -> Result<Option<Record>, JournalError> {
        let table = &self.partitions[position.partition.0 as usize];
        match table.get(&position.offset.0.to_be_bytes()).map_err(broken)? {
            Some(row) => decode(position, &row).map(Some),
            None => Ok(None),
        }
    }
}

impl EndsBoard {
    fn lock(&self) -> MutexGuard<'_, Vec<Offset>> {
        self.ends.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until some end is past what the caller knows, or the time is over.
    fn wait_past(&self, known: &[Offset], timeout: Duration) -> Vec<Offset> {
        let unmoved = |ends: &mut Vec<Offset>| ends.as_slice() == known;
        let waited = self.moved.wait_timeout_while(self.lock(), timeout, unmoved);
        waited.unwrap_or_else(PoisonError::into_inner).0.clone()
    }
}

/// What a row of a partition holds, besides its offset; behind it stand the headers, which only a history reads.
#[derive(serde::Serialize, serde::Deserialize)]
struct StoredRecord<'a> {
    appended_at_us: i64,
    #[serde(borrow, with = "serde_bytes")]
    key: &'a [u8],
    #[serde(borrow, with = "serde_bytes")]
    value: &'a [u8],
}

fn encode(record: &NewRecord, appended_at_us: i64) -> Result<Vec<u8>, postcard::Error> {
    let stored = StoredRecord { appended_at_us, key: &record.key, value: &record.value };
    let headers = record.headers.iter().map(|(name, value)| (name.as_str(), serde_bytes::Bytes::new(value)));
    let row = postcard::to_extend(&stored, Vec::with_capacity(ROW_BYTES))?;
    postcard::to_extend(&headers.collect::<Vec<_>>(), row)
}

fn decode(position: Position, row: &[u8]) -> Result<Record, JournalError> {
    decode_part(position, row).map(|(record, _headers)| record)
}

fn decode_whole(position: Position, row: &[u8]) -> Result<SourceRecord, JournalError> {
    let (Record { appended_at_us, key, value, .. }, headers) = decode_part(position, row)?;
    let headers = postcard::from_bytes::<Vec<(String, serde_bytes::ByteBuf)>>(headers).ok();
    let headers: Option<Vec<Header>> =
        headers.map(|all| all.into_iter().map(|(name, value)| (name, Some(value.into_vec()))).collect());
    Ok(SourceRecord { position, timestamp_us: appended_at_us, key: Some(key), headers, value: Some(value) })
}

/// The record, and the bytes that its headers are.
fn decode_part(position: Position, row: &[u8]) -> Result<(Record, &[u8]), JournalError> {
    let (stored, headers): (StoredRecord<'_>, _) = postcard::take_from_bytes(row)
        .map_err(|e| JournalError::Broken(format!("the record at {position} cannot be read: {e}")))?;
    let (key, value) = (stored.key.to_vec(), stored.value.to_vec());
    Ok((Record { position, appended_at_us: stored.appended_at_us, key, value }, headers))
}

fn offset_of(key: &[u8]) -> Result<Offset, StoreError> {
    let bytes = key.try_into().map_err(|_| StoreError::Damaged("an offset is not 8 bytes".to_owned()))?;
    Ok(Offset(u64::from_be_bytes(bytes)))
}

/// One in which there is nothing, or a log.
fn open_store(path: &Path) -> Result<Store, StoreError> {
    let store = Store::open(path)?;
    let is_partition = |name: &str| name.strip_prefix('p').is_some_and(|number| number.parse::<u32>().is_ok());
    store.holds_only(&|table| table == "meta" || is_partition(table), "a log")?;
    Ok(store)
}

/// The log's id, given once, together with its number of partitions.
fn identify(store: &Store, meta: &Table, partitions: u32) -> Result<LogId, StoreError> {
    if let Some(id) = meta.get(b"log_id")? {
        let id = id.as_ref().try_into().map_err(|_| StoreError::Damaged("the log's id is not 16 bytes".to_owned()))?;
        return Ok(LogId(id));
    }
    let id = uuid::Uuid::new_v4().into_bytes();
    let mut batch = store.batch();
    batch.insert(meta, b"log_id", &id);
    batch.insert(meta, b"partitions", &partitions.to_be_bytes());
    batch.commit_synced()?;
    Ok(LogId(id))
}

fn read_u32(meta: &Table, name: &str) -> Result<Option<u32>, StoreError> {
    let row = meta.get(name.as_bytes())?;
    Ok(row.and_then(|row| row.as_ref().try_into().ok()).map(u32::from_be_bytes))
}

fn refused(error: StoreError) -> JournalError {
    if error.is_damage() {
        // Nothing else has what it had.
        let what =
            "the log of this data directory is damaged, and nothing can be folded from it: restore it from a copy";
        return JournalError::Refused(format!("{what} ({error})"));
    }
    JournalError::Refused(error.to_string())
}

fn broken(error: StoreError) -> JournalError {
    JournalError::Broken(error.to_string())
}
