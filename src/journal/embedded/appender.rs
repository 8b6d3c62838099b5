//! The thread that writes the log. Group commit: whatever waits when it comes round goes into one batch and one sync.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::thread::JoinHandle;

use tokio::sync::oneshot;

use super::{EndsBoard, Tables, encode};
use crate::journal::{AppendError, JournalError, NewRecord, Offset, Position};
use crate::store::StoreError;

/// Requests that may wait for the disk; one more is refused, and nothing of it is written.
const WAITING_MAX: usize = 16 * 1024;
/// Records that share one sync.
const GROUP_MAX: usize = 4 * 1024;

type Answer = Result<Vec<Position>, AppendError>;
pub(super) type Answering = oneshot::Receiver<Answer>;

struct Request {
    records: Vec<NewRecord>,
    /// The positions of the lanes that this transaction moves on.
    next: Vec<Position>,
    /// The member that commits, if it is a transaction: an older one than the newest is fenced.
    member: Option<u64>,
    /// When another log took the records, if they are restored from there: microseconds since 1970.
    taken_us: Option<i64>,
    answer: oneshot::Sender<Answer>,
}

pub(super) struct Appender {
    /// `None` once closed, which ends the thread.
    requests: Mutex<Option<SyncSender<Request>>>,
    thread: Mutex<Option<JoinHandle<()>>>,
    newest_member: Arc<AtomicU64>,
    failed: Failed,
}

/// Why nothing is written any more. After a failed write nothing is known of the disk's state.
type Failed = Arc<OnceLock<String>>;

impl Appender {
    pub(super) fn start(tables: Arc<Tables>, ends: Arc<EndsBoard>) -> Result<Arc<Self>, JournalError> {
        let (sender, receiver) = sync_channel(WAITING_MAX);
        let newest_member = Arc::new(AtomicU64::new(0));
        let failed = Failed::default();
        let (member, failure) = (Arc::clone(&newest_member), Arc::clone(&failed));
        let writer = Writer { tables, ends, newest_member: member, last_us: 0, failed: failure };
        let thread = std::thread::Builder::new()
            .name("journal-append".to_owned())
            .spawn(move || writer.run(&receiver))
            .map_err(|e| JournalError::Unavailable(format!("cannot start the thread that appends: {e}")))?;
        let (requests, thread) = (Mutex::new(Some(sender)), Mutex::new(Some(thread)));
        Ok(Arc::new(Self { requests, thread, newest_member, failed }))
    }

    /// Why nothing is written any more, if it is so.
    pub(super) fn failed(&self) -> Option<&str> {
        self.failed.get().map(String::as_str)
    }

    /// Registers a member that will commit transactions, and fences all earlier ones.
    pub(super) fn join(&self) -> u64 {
        self.newest_member.fetch_add(1, Ordering::SeqCst) + 1
    }

    pub(super) fn submit(
        &self,
        records: Vec<NewRecord>,
        next: Vec<Position>,
        member: Option<u64>,
    ) -> Result<Answering, AppendError> {
        self.send(|answer| Request { records, next, member, taken_us: None, answer })
    }

    pub(super) fn restore(&self, record: NewRecord, taken_us: i64) -> Result<Answering, AppendError> {
        let (records, next, taken_us) = (vec![record], Vec::new(), Some(taken_us));
        self.send(|answer| Request { records, next, member: None, taken_us, answer })
    }

    fn send(&self, request: impl FnOnce(oneshot::Sender<Answer>) -> Request) -> Result<Answering, AppendError> {
        let (answer, receiver) = oneshot::channel();
        let requests = self.requests.lock().unwrap_or_else(PoisonError::into_inner);
        let closed = || AppendError::NotAppended("the log is closed".to_owned());
        let sender = requests.as_ref().ok_or_else(closed)?;
        match sender.try_send(request(answer)) {
            Ok(()) => Ok(receiver),
            Err(TrySendError::Full(_)) => Err(AppendError::NotAppended("too many appends are waiting".to_owned())),
            Err(TrySendError::Disconnected(_)) => Err(closed()),
        }
    }
}

/// Everything that was accepted is written before the directory is let go.
impl Drop for Appender {
    fn drop(&mut self) {
        drop(self.requests.get_mut().unwrap_or_else(PoisonError::into_inner).take());
        if let Some(thread) = self.thread.get_mut().unwrap_or_else(PoisonError::into_inner).take() {
            let _ = thread.join();
        }
    }
}

/// What the thread owns.
struct Writer {
    tables: Arc<Tables>,
    ends: Arc<EndsBoard>,
    newest_member: Arc<AtomicU64>,
    /// The log's clock never runs back, whatever the machine's does.
    last_us: i64,
    failed: Failed,
}

impl Writer {
    fn run(mut self, requests: &Receiver<Request>) {
        while let Ok(first) = requests.recv() {
            let mut size = first.records.len();
            let mut group = vec![first];
            while size < GROUP_MAX {
                let Ok(more) = requests.try_recv() else { break };
                size += more.records.len();
                group.push(more);
            }
            self.write(group);
        }
    }

    fn write(&mut self, group: Vec<Request>) {
        let mut ends = self.ends.lock().clone();
        let mut accepted = Vec::with_capacity(group.len());
        let mut batch = self.tables.store.batch();
        self.last_us = jiff::Timestamp::now().as_microsecond().max(self.last_us);
        for request in group {
            match self.place(&request, &mut ends, &mut batch) {
                Ok(positions) => accepted.push((request.answer, positions)),
                Err(error) => drop(request.answer.send(Err(error))),
            }
        }
        match batch.commit_synced() {
            Ok(()) => {
                *self.ends.lock() = ends;
                self.ends.moved.notify_all();
                accepted.into_iter().for_each(|(answer, positions)| drop(answer.send(Ok(positions))));
            }
            Err(error) => self.fail(&error, accepted),
        }
    }

    /// Puts one request into the batch, and answers with where its records will stand.
    fn place(
        &self,
        request: &Request,
        ends: &mut [Offset],
        batch: &mut crate::store::Batch,
    ) -> Result<Vec<Position>, AppendError> {
        let refuse = |reason: &str| Err(AppendError::NotAppended(reason.to_owned()));
        if let Some(reason) = self.failed.get() {
            return refuse(reason);
        }
        if request.member.is_some_and(|member| member != self.newest_member.load(Ordering::SeqCst)) {
            return refuse("another member has taken over");
        }
        let taken_us = request.taken_us.unwrap_or(self.last_us);
        let rows: Result<Vec<_>, _> = request.records.iter().map(|record| encode(record, taken_us)).collect();
        let Ok(rows) = rows else { return refuse("a record cannot be encoded") };
        if request.records.iter().any(|record| record.partition.0 as usize >= ends.len()) {
            return refuse("there is no such partition");
        }
        let mut positions = Vec::with_capacity(rows.len());
        for (record, row) in request.records.iter().zip(rows) {
            let partition = record.partition.0 as usize;
            let position = Position::new(record.partition, ends[partition]);
            ends[partition] = position.offset.next();
            batch.insert(&self.tables.partitions[partition], &position.offset.0.to_be_bytes(), &row);
            positions.push(position);
        }
        for next in &request.next {
            let name = format!("lane-{}", next.partition);
            batch.insert(&self.tables.meta, name.as_bytes(), &next.offset.0.to_be_bytes());
        }
        Ok(positions)
    }

    fn fail(&mut self, error: &StoreError, accepted: Vec<(oneshot::Sender<Answer>, Vec<Position>)>) {
        let reason = format!("the log could not be written: {error}");
        tracing::error!(%error, "the log could not be written; nothing more is accepted until a restart");
        for (answer, _) in accepted {
            drop(answer.send(Err(AppendError::Unknown(reason.clone()))));
        }
        drop(self.failed.set(reason));
    }
}
