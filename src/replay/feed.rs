//! A stretch of the log as the fold takes it: what is not meant is left out, each record is judged on its way, and at the
//! end the fold stands exactly where it was to come to.

use std::time::Duration;

use tracing::dispatcher::{self, Dispatch};

use super::judge::Judge;
use super::selection::Chosen;
use crate::journal::{
    Header, History, HistoryItem, JournalError, Offset, Partition, Position, Reader, Record, SourceRecord, Span,
    TailItem,
};
use crate::progress::Progress;
use crate::schema::Codec;
use crate::store::StoreError;

/// Records that are read at once.
const BATCH_MAX: usize = 5_000;
/// How long one read waits.
const POLL: Duration = Duration::from_millis(200);

/// A record as the fold takes it, with its headers.
pub(super) struct Written {
    pub record: Record,
    /// `None` if they cannot be read, which is not the same as none.
    pub headers: Option<Vec<Header>>,
}

/// Reads spans of the log, one after the other or all at once, and counts how far it has come.
pub(super) struct Spans<'p> {
    history: Box<dyn History>,
    /// Those that are not done, with how far they have been read.
    left: Vec<Span>,
    progress: &'p mut Progress,
}

/// What was read: a record, or the end of a span.
pub(super) enum Piece {
    Record(Written),
    /// Where the span ends.
    Done(Position),
}

impl<'p> Spans<'p> {
    pub fn open(log: &dyn Reader, spans: &[Span], progress: &'p mut Progress) -> Result<Self, JournalError> {
        Ok(Self { history: log.history(spans)?, left: spans.to_vec(), progress })
    }

    pub fn is_done(&self) -> bool {
        self.left.is_empty()
    }

    pub fn read(&mut self, max: usize, wait: Duration) -> Result<Vec<Piece>, JournalError> {
        let mut pieces = Vec::new();
        for item in self.history.poll(max, wait)? {
            match item {
                HistoryItem::Record(record) => {
                    let Position { partition, offset } = record.position;
                    self.passed(partition, Some(offset.next()));
                    pieces.push(Piece::Record(record.into()));
                }
                HistoryItem::Done(partition) => {
                    self.passed(partition, None);
                    let at = self.left.iter().position(|span| span.partition == partition);
                    pieces.extend(at.map(|at| Piece::Done(Position::new(partition, self.left.swap_remove(at).to))));
                }
            }
        }
        self.progress.look();
        Ok(pieces)
    }

    /// Everything before `next` has been read, or everything.
    fn passed(&mut self, partition: Partition, next: Option<Offset>) {
        if let Some(span) = self.left.iter_mut().find(|span| span.partition == partition) {
            let next = next.unwrap_or(span.to).max(span.from);
            self.progress.passed(next.0 - span.from.0);
            span.from = next;
        }
    }

    /// Reads all of it.
    pub fn each<E: From<JournalError>>(mut self, mut each: impl FnMut(&Written) -> Result<(), E>) -> Result<(), E> {
        while !self.is_done() {
            for piece in self.read(BATCH_MAX, POLL)? {
                if let Piece::Record(written) = piece {
                    each(&written)?;
                }
            }
        }
        Ok(())
    }
}

impl From<SourceRecord> for Written {
    fn from(SourceRecord { position, timestamp_us, key, headers, value }: SourceRecord) -> Self {
        let (key, value) = (key.unwrap_or_default(), value.unwrap_or_default());
        Self { record: Record { position, appended_at_us: timestamp_us, key, value }, headers }
    }
}

pub(super) struct Feed<'p, 'j, 'c> {
    spans: Spans<'p>,
    codec: &'c Codec,
    chosen: &'c Chosen<'c>,
    judge: Option<&'c mut Judge<'j>>,
    /// Records handed out at once: two folds of one log that differ in nothing but this come to the same rows.
    batch_max: usize,
    /// Where to say that the log is away, while the fold itself is silent.
    aloud: Dispatch,
}

impl<'p, 'j, 'c> Feed<'p, 'j, 'c> {
    pub fn new(
        spans: Spans<'p>,
        codec: &'c Codec,
        chosen: &'c Chosen<'c>,
        judge: Option<&'c mut Judge<'j>>,
        batch_max: usize,
    ) -> Self {
        Self { spans, codec, chosen, judge, batch_max, aloud: dispatcher::get_default(Dispatch::clone) }
    }

    pub fn is_done(&self) -> bool {
        self.spans.is_done()
    }

    /// Waits no longer than `wait`.
    pub fn read(&mut self, wait: Duration) -> Result<Vec<TailItem>, JournalError> {
        let (max, aloud) = (self.batch_max, self.aloud.clone());
        let pieces = dispatcher::with_default(&aloud, || self.spans.read(max, wait))?;
        let mut items = Vec::with_capacity(pieces.len());
        for piece in pieces {
            match piece {
                Piece::Done(next) => items.push(TailItem::CaughtUp(next)),
                Piece::Record(written) => {
                    let record =
                        self.take(written).map_err(|e| JournalError::Broken(format!("the work directory: {e}")))?;
                    items.extend(record.map(TailItem::Record));
                }
            }
        }
        Ok(items)
    }

    fn take(&mut self, written: Written) -> Result<Option<Record>, StoreError> {
        let meant = match self.codec.decode(&written.record.value) {
            Ok(event) => self.chosen.has(event.payment_id)?,
            Err(_) => self.chosen.has_unreadable(&written.record)?,
        };
        if !meant {
            return Ok(None);
        }
        if let Some(judge) = &mut self.judge {
            judge.judge(&written)?;
        }
        Ok(Some(written.record))
    }
}
