//! Reads the log ahead of the fold: while one batch is written, the next is read and decoded, on a thread of its own. What
//! operators reject comes the same way, so that the fold has one thing to wait for.

use std::borrow::Cow;
use std::sync::mpsc::SyncSender;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::{Offsets, Rejections};
use crate::journal::{JournalError, Position, Record, Tail, TailItem};
use crate::payment::{Event, Timestamp};
use crate::schema::{Codec, DecodeError};

/// Records that go into one batch.
pub(super) const BATCH_MAX: usize = 20_000;
/// Batches that wait for the fold, beside the one in each thread's hand.
pub(super) const AHEAD_MAX: usize = 1;
/// How long one read of the log waits: the bound on how late a stop is noticed.
pub(super) const POLL: Duration = Duration::from_millis(100);

pub(super) type Read = Result<Batch, JournalError>;

/// What is handed to the fold at once.
pub(super) enum Batch {
    Items(Vec<Item>),
    /// Positions that the fold has not heard of before.
    Rejected(Vec<Position>),
    /// So much has been learnt from the schema registry: what could not be read may be read now.
    Learnt(u64),
}

/// What the thread reads from.
pub(super) struct Source<'a> {
    pub tail: Box<dyn Tail>,
    pub codec: &'a Codec,
    pub rejections: Rejections,
    /// How many of the rejections the fold knows already.
    pub known: usize,
    /// How much of what was learnt from the schema registry the fold has heard of.
    pub learnt: u64,
    /// Records that are read at once.
    pub batch_max: usize,
}

/// What the log holds, as far as it can be told without knowing what came before.
pub(super) enum Item {
    /// Boxed, for thousands of them stand in one vector.
    Event(Box<Recorded>),
    /// No event, and why: its partition cannot be folded past it.
    Unreadable(Position, Fault),
    CaughtUp(Position),
    /// Everything before it has been read, and nothing more is wanted.
    Reached(Position),
}

/// Why a record cannot be folded.
#[derive(Clone)]
pub(super) struct Fault {
    /// For people; repeats nothing of the record.
    pub reason: String,
    /// It names a schema that is not known here, as an event of a later version of paylog does.
    pub may_be_newer: bool,
    /// The schema registry may come to say something else of it.
    pub unread: Option<DecodeError>,
}

/// An event, and the record that it is on the log.
pub struct Recorded {
    pub position: Position,
    pub appended_at: Timestamp,
    pub event: Event,
    /// As it stands on the log.
    pub value: Vec<u8>,
    /// The same without the registry that it was written by, if it was.
    by_itself: Option<Vec<u8>>,
}

/// Reads until told to stop, until the log fails, or until nobody takes the batches any more.
pub(super) fn read(mut source: Source<'_>, stop: &CancellationToken, batches: &SyncSender<Read>) {
    while !stop.is_cancelled() {
        let Some(read) = source.next() else { continue };
        let failed = read.is_err();
        if batches.send(read).is_err() || failed {
            return;
        }
    }
}

impl Source<'_> {
    fn next(&mut self) -> Option<Read> {
        let rejected = self.rejections.after(self.known);
        if !rejected.is_empty() {
            self.known += rejected.len();
            return Some(Ok(Batch::Rejected(rejected)));
        }
        let learnt = self.codec.learnt();
        if learnt != self.learnt {
            self.learnt = learnt;
            return Some(Ok(Batch::Learnt(learnt)));
        }
        match read_once(self.tail.as_mut(), self.codec, self.batch_max, POLL) {
            Ok(items) if items.is_empty() => None,
            items => Some(items.map(Batch::Items)),
        }
    }
}

pub(super) fn read_once(
    tail: &mut dyn Tail,
    codec: &Codec,
    max: usize,
    wait: Duration,
) -> Result<Vec<Item>, JournalError> {
    Ok(tail.poll(max, wait)?.into_iter().map(|item| Item::read(item, codec)).collect())
}

impl Item {
    fn read(item: TailItem, codec: &Codec) -> Self {
        match item {
            TailItem::CaughtUp(next) => Self::CaughtUp(next),
            TailItem::Record(record) => {
                let position = record.position;
                match Recorded::read(record, codec) {
                    Ok(recorded) => Self::Event(Box::new(recorded)),
                    Err(fault) => Self::Unreadable(position, fault),
                }
            }
        }
    }

    pub fn position(&self) -> Position {
        match self {
            Self::Event(recorded) => recorded.position,
            Self::Unreadable(position, _) | Self::CaughtUp(position) | Self::Reached(position) => *position,
        }
    }

    pub fn is_record(&self) -> bool {
        matches!(self, Self::Event(_) | Self::Unreadable(..))
    }

    /// Itself if it comes before `at`; of what comes later remains that `at` was reached.
    pub fn up_to(self, at: &Offsets) -> Self {
        let Position { partition, offset } = self.position();
        let end = Position::new(partition, at.of(partition));
        let within = if self.is_record() { offset < end.offset } else { offset <= end.offset };
        if within { self } else { Self::Reached(end) }
    }
}

impl Fault {
    /// Of a record that no version of paylog can fold.
    pub(super) fn new(reason: impl Into<String>) -> Self {
        Self { reason: reason.into(), may_be_newer: false, unread: None }
    }

    /// Is it only that the schema registry has not answered yet?
    pub(super) fn waits(&self) -> bool {
        matches!(self.unread, Some(DecodeError::NotRegistered(_)))
    }
}

impl From<DecodeError> for Fault {
    fn from(error: DecodeError) -> Self {
        let (reason, may_be_newer) = (error.to_string(), error.may_be_newer());
        Self { reason, may_be_newer, unread: error.id().is_some().then_some(error) }
    }
}

impl Recorded {
    pub(super) fn read(record: Record, codec: &Codec) -> Result<Self, Fault> {
        let event = codec.decode(&record.value)?;
        let appended_at = Timestamp::from_micros(record.appended_at_us)
            .ok_or_else(|| Fault::new("the log's timestamp is not between 2000 and 2100"))?;
        let by_itself = match codec.by_itself(&record.value) {
            Cow::Owned(value) => Some(value),
            Cow::Borrowed(_) => None,
        };
        Ok(Self { position: record.position, appended_at, event, value: record.value, by_itself })
    }

    /// What rows keep of it: readable whatever becomes of the registry, and the same in every store.
    #[must_use]
    pub fn kept(&self) -> &[u8] {
        self.by_itself.as_deref().unwrap_or(&self.value)
    }
}
