//! Merges the sorted records, folds payment after payment, and has a store made of the rows: one thread reads, several fold (of
//! two payments neither asks for anything of the other), and one writes what they come to in the order in which it was read.

use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::super::error::{ApplyError, FoldError};
use super::super::fold::Projection;
use super::super::reader::Recorded;
use super::super::rows::home_of;
use super::super::{Progress, progress};
use super::gather::{PAYMENT_BYTES, record_of};
use super::{Bulk, Done, Gathered, rows};
use crate::journal::JournalError;
use crate::lock::lock;
use crate::payment::PaymentId;
use crate::priority::worked;
use crate::store::{Batch, Load, Merge, Sink, Store, StoreError};

/// What waits between two threads, beside what each has in its hand.
const AHEAD_MAX: usize = 2;
/// Between two looks whether the schema registry has been heard.
const LOOK_PAUSE: Duration = Duration::from_millis(20);
/// A piece of the sorted log has no more bytes than this and those of one payment: some dozen of them are on their way.
const PIECE_BYTES_MAX: usize = 1024 * 1024;
/// Threads that fold; fewer where there are fewer processors. The one that reads keeps about so many busy.
const FOLDERS_MAX: usize = 4;

pub(super) struct Loading<'a> {
    pub bulk: &'a Bulk<'a>,
    pub gathered: &'a Gathered,
    /// How many were gathered, in how many offsets.
    pub records: u64,
    pub offsets: u64,
    pub others: Others,
}

/// What a thread that waits has to hear of the others: that one of them has ended, and so all have to.
pub(super) struct Others {
    ended: CancellationToken,
    /// Why the first one failed that did. The writer hears of it in its turn only, and that may be behind one that waits.
    failed: Mutex<Option<Trouble>>,
}

/// What one thread hands to the next.
struct Piece<T> {
    of: T,
    /// Records that it is of.
    records: u64,
    /// All the work on it so far.
    worked: Duration,
}

/// Rows of the sorted runs, one behind the other: of each payment all.
#[derive(Default)]
struct Rows {
    bytes: Vec<u8>,
    /// Of each row, where its value begins and where it ends.
    places: Vec<(usize, usize)>,
}

enum Trouble {
    NotSorted(&'static str),
    Stopped,
    Fold(FoldError),
}

impl<E: Into<FoldError>> From<E> for Trouble {
    fn from(error: E) -> Self {
        Self::Fold(error.into())
    }
}

impl Loading<'_> {
    pub fn run<P: Projection>(
        &self,
        merge: Merge,
        ordered: &[&str],
        open: &(impl Fn(&Store, &Arc<Progress>) -> Result<P, StoreError> + Sync),
    ) -> Result<Done, FoldError> {
        let load = Load::begin(self.bulk.store)?;
        let Some(store) = load.store().cloned() else { return Ok(Done::Stopped) };
        let done = match self.load::<P>(&store, merge, ordered, open) {
            Ok(done) => done,
            Err(Trouble::NotSorted(why)) => Done::NotSorted(why),
            Err(Trouble::Stopped) => Done::Stopped,
            Err(Trouble::Fold(error)) => return Err(error),
        };
        drop(store);
        if done == Done::Whole {
            load.finish()?;
        }
        Ok(done)
    }

    /// Leaves nothing of the store open.
    fn load<P: Projection>(
        &self,
        store: &Store,
        merge: Merge,
        ordered: &[&str],
        open: &(impl Fn(&Store, &Arc<Progress>) -> Result<P, StoreError> + Sync),
    ) -> Result<Done, Trouble> {
        progress::check::<P>(store)?;
        P::open(store)?; // the progress seals the tables that are open
        let progress = Arc::new(Progress::open::<P>(store, self.bulk.log)?);
        progress.speak(false);
        let tables = store.tables();
        let mut sink = Sink::new(&tables, &rows(self.bulk.store), self.bulk.run_bytes)?;
        let folders = thread::available_parallelism().map_or(1, usize::from).min(FOLDERS_MAX);
        let (to_folders, from_reader) = channels::<Rows>(folders);
        let (to_writer, from_folders) = channels::<Batch>(folders);
        let whole = thread::scope(|scope| {
            let _ended = self.others.ended.clone().drop_guard();
            let spawned = |name: &str| thread::Builder::new().name(name.to_owned());
            spawned("fold-read").spawn_scoped(scope, move || self.read(merge, &to_folders)).map_err(no_thread)?;
            let open = || open(store, &progress);
            for (rows, batches) in from_reader.into_iter().zip(to_writer) {
                let folding = move || self.fold(rows, &batches, store, &open);
                spawned("fold").spawn_scoped(scope, folding).map_err(no_thread)?;
            }
            self.write(from_folders, &mut sink, ordered)
        });
        let whole = lock(&self.others.failed).take().map_or(whole, Err)?;
        let unsorted = sink.unsorted();
        tracing::info!(store = %self.bulk.store.display(), unsorted, "all payments are folded");
        if !whole || !self.finish(sink)? {
            return Ok(Done::Stopped);
        }
        self.seal(store, &progress)?;
        Ok(Done::Whole)
    }

    // === the first thread: rows of the runs ===

    /// To the end, or until nobody takes them any more. Piece after piece to one folder after the other.
    fn read(&self, mut merge: Merge, folders: &[Sending<Rows>]) {
        let mut of_another = None;
        for folder in folders.iter().cycle() {
            let before = worked();
            let read = self.payments(&mut merge, &mut of_another).map(|rows| Piece {
                records: rows.places.len() as u64,
                of: rows,
                worked: worked() - before,
            });
            let ended = read.as_ref().map_or(true, |piece| piece.records == 0);
            if folder.send(read).is_err() || ended {
                return;
            }
        }
    }

    /// The next payments, each with all its events; none at the end. `of_another` is what was read of the one behind them.
    fn payments(&self, merge: &mut Merge, of_another: &mut Option<Rows>) -> Result<Rows, Trouble> {
        let mut rows = of_another.take().unwrap_or_default();
        while let Some((key, value)) = merge.next()? {
            let is_full = rows.places.len() >= self.bulk.batch_max || rows.bytes.len() >= PIECE_BYTES_MAX;
            if is_full && rows.is_of_another(key) {
                of_another.get_or_insert_default().push(key, value);
                break;
            }
            rows.push(key, value);
        }
        Ok(rows)
    }

    // === those behind it: rows of the store ===

    /// To the end, or until nobody takes them any more.
    fn fold<P: Projection>(
        &self,
        rows: Receiver<Handed<Rows>>,
        batches: &Sending<Batch>,
        store: &Store,
        open: &impl Fn() -> Result<P, StoreError>,
    ) {
        for piece in rows {
            let before = worked();
            let folded = piece.and_then(|Piece { of, records, worked: so_far }| {
                let batch = self.fold_one(&of, store, open()?)?;
                Ok(Piece { of: batch, records, worked: so_far + worked() - before })
            });
            let folded = folded.map_err(|trouble| self.others.fail(trouble));
            let failed = folded.is_err();
            if batches.send(folded).is_err() || failed {
                return;
            }
        }
    }

    /// By a projection that has seen nothing before: nothing of other payments is to be known.
    fn fold_one<P: Projection>(&self, rows: &Rows, store: &Store, mut projection: P) -> Result<Batch, Trouble> {
        let mut batch = store.batch();
        for (key, value) in rows.iter() {
            projection.apply(&self.judge(key, value)?, &mut batch).map_err(|error| match error {
                ApplyError::Store(error) => error.into(),
                ApplyError::Unfoldable(_) => Trouble::NotSorted("there is an event that cannot be folded"),
            })?;
        }
        projection.flush(&mut batch)?;
        Ok(batch)
    }

    /// Only what a fold would fold, where it would.
    fn judge(&self, key: &[u8], value: &[u8]) -> Result<Recorded, Trouble> {
        let (id, recorded) = self.read_one(key, value)?;
        let partition = recorded.position.partition;
        if recorded.event.payment_id != id || home_of(id, self.gathered.partitions.len() as u32) != partition {
            return Err(Trouble::NotSorted("there is a record on another partition than its payment's"));
        }
        Ok(recorded)
    }

    /// What the schema registry has not explained yet is waited for, as long as it takes: folded record by record it would be
    /// waited for too, and all of it read again.
    fn read_one(&self, key: &[u8], value: &[u8]) -> Result<(PaymentId, Recorded), Trouble> {
        let mut said = false;
        loop {
            let (id, record) =
                record_of(key, value).ok_or_else(|| StoreError::Damaged("a row of a run is no record".to_owned()))?;
            let position = record.position;
            let fault = match Recorded::read(record, self.bulk.codec) {
                Ok(recorded) => return Ok((id, recorded)),
                Err(fault) => fault,
            };
            let Some(unread) = fault.unread.as_ref().filter(|_| fault.waits()) else {
                return Err(Trouble::NotSorted("there is a record that cannot be read"));
            };
            if !said {
                tracing::info!(%position, reason = fault.reason, "what is made of the sorted log waits at a record");
                said = true;
            }
            self.bulk.codec.want(unread);
            while !self.bulk.codec.is_past(unread) {
                if self.others.ended.is_cancelled() {
                    return Err(Trouble::Stopped);
                }
                thread::sleep(LOOK_PAUSE);
            }
        }
    }

    // === the last: files ===

    /// In the order in which the folders were given what it was made of. `false` if it was stopped.
    fn write(
        &self,
        folders: Vec<Receiver<Handed<Batch>>>,
        sink: &mut Sink<'_>,
        ordered: &[&str],
    ) -> Result<bool, Trouble> {
        let mut records = 0;
        for folder in folders.iter().cycle() {
            let Ok(piece) = folder.recv() else { break };
            let (piece, before) = (piece?, worked());
            sink.take(piece.of, ordered)?;
            records += piece.records;
            self.passed(piece.worked + worked() - before, 1, records, self.records);
            if self.bulk.stop.is_cancelled() {
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn finish(&self, sink: Sink<'_>) -> Result<bool, StoreError> {
        let (all, mut written) = (sink.unsorted(), 0);
        sink.finish(self.bulk.batch_max, &mut |rows, worked| {
            written += rows;
            self.passed(worked, 2, written, all);
            !self.bulk.stop.is_cancelled()
        })
    }

    /// `thirds` are done, and `part` of `whole` of the next.
    fn passed(&self, worked: Duration, thirds: u64, part: u64, whole: u64) {
        let third = self.offsets / 3;
        let of_next = (u128::from(third) * u128::from(part) / u128::from(whole.max(1))) as u64; // at most a third
        (self.bulk.after)(worked, third * thirds + of_next);
    }

    /// Says in the store how far it has been folded, as a fold does in each of its batches.
    fn seal(&self, store: &Store, progress: &Progress) -> Result<(), StoreError> {
        let mut batch = store.batch();
        for (next, (_, last)) in self.gathered.offsets().positions().zip(&self.gathered.partitions) {
            progress.stage(next, *last, &mut batch)?;
        }
        progress.seal(self.gathered.offsets().positions(), &mut batch);
        batch.commit()
    }
}

impl Others {
    pub fn of(stop: &CancellationToken) -> Self {
        Self { ended: stop.child_token(), failed: Mutex::default() }
    }

    /// What the writer is to be told in its place.
    fn fail(&self, trouble: Trouble) -> Trouble {
        if !matches!(trouble, Trouble::Stopped) {
            lock(&self.failed).get_or_insert(trouble);
            self.ended.cancel();
        }
        Trouble::Stopped
    }
}

impl Rows {
    fn push(&mut self, key: &[u8], value: &[u8]) {
        self.bytes.extend_from_slice(key);
        let value_at = self.bytes.len();
        self.bytes.extend_from_slice(value);
        self.places.push((value_at, self.bytes.len()));
    }

    fn iter(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        let begins = std::iter::once(0).chain(self.places.iter().map(|(_, end)| *end));
        begins.zip(&self.places).map(|(at, (value_at, end))| (&self.bytes[at..*value_at], &self.bytes[*value_at..*end]))
    }

    /// Is this row of another payment than the last one here?
    fn is_of_another(&self, key: &[u8]) -> bool {
        let at = self.places.len().checked_sub(2).map_or(0, |before| self.places[before].1);
        self.bytes.get(at..at + PAYMENT_BYTES) != key.get(..PAYMENT_BYTES)
    }
}

type Handed<T> = Result<Piece<T>, Trouble>;
type Sending<T> = SyncSender<Handed<T>>;

fn channels<T>(count: usize) -> (Vec<Sending<T>>, Vec<Receiver<Handed<T>>>) {
    (0..count).map(|_| sync_channel(AHEAD_MAX)).unzip()
}

fn no_thread(error: std::io::Error) -> JournalError {
    JournalError::Unavailable(format!("cannot start a thread: {error}"))
}
