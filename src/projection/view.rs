//! The readers' side. Every read is a point read of microseconds, the few events of one payment, or a scan that ends after
//! some hundred rows and says where it stopped: it may be called from async code as it is, and who scans on lets others go
//! first.

use std::sync::Arc;

use super::live::{Built, Live, Withheld};
use super::rows::{FeedRow, customer_key, feed_key, home_of, offset_of, others_key};
use super::{DueKey, Halt, Offsets, Payments, Progress, Row, Scope, Watch};
use crate::clock::Clocks;
use crate::journal::{LogId, Offset, Partition, Position};
use crate::lock::lock;
use crate::payment::{Event, Payment, PaymentId, Timestamp};
use crate::schema::Codec;
use crate::store::StoreError;

/// One event of a payment, and the payment as it was after it.
#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    pub position: Position,
    /// When the log took it, by the log's clock.
    pub appended_at: Timestamp,
    /// The version that it made; `None` if it had no effect.
    pub version: Option<u64>,
    pub event: Event,
    pub payment: Payment,
}

#[derive(Clone)]
pub struct View {
    live: Arc<Live<Payments>>,
    codec: Arc<Codec>,
}

/// What the folder calls after every batch, with the earliest new due work of each partition that has any. `false` ends it.
pub(super) type Listener = Box<dyn FnMut(&[(Partition, DueKey)]) -> bool + Send>;

impl View {
    pub(super) fn new(live: Arc<Live<Payments>>, codec: Arc<Codec>) -> Self {
        Self { live, codec }
    }

    /// Which store is read, to be exchanged for another.
    #[must_use]
    pub fn live(&self) -> &Arc<Live<Payments>> {
        &self.live
    }

    pub(super) fn built(&self) -> Arc<Built<Payments>> {
        self.live.built()
    }

    pub(super) fn codec(&self) -> &Codec {
        &self.codec
    }

    /// How far the fold has come.
    #[must_use]
    pub fn progress(&self) -> Arc<Progress> {
        Arc::clone(&self.built().progress)
    }

    #[must_use]
    pub fn log_id(&self) -> LogId {
        self.progress().log_id()
    }

    #[must_use]
    pub fn partitions(&self) -> u32 {
        self.progress().partitions()
    }

    // === one payment ===

    pub fn payment(&self, id: PaymentId) -> Result<Option<Row>, StoreError> {
        self.built().rows.row(id)
    }

    /// All its events by offset, the effective ones and the others.
    pub fn history(&self, id: PaymentId) -> Result<Vec<Entry>, StoreError> {
        let built = self.built();
        let Some(row) = built.rows.row(id)? else { return Ok(Vec::new()) };
        let mut entries = self.effective(&built, &row, 0, usize::MAX)?;
        let (from, to) = (others_key(id, Offset(0)), others_key(id, Offset(u64::MAX)));
        for other in built.rows.others.range(&from, &to) {
            let (key, value) = other?;
            let (event, version, appended_at) = FeedRow::read(&self.codec, &value)?;
            let position = Position::new(self.partition_of(id), offset_of(&key)?);
            let before = entries.iter().rev().find(|e| e.version.is_some() && e.position.offset < position.offset);
            let payment = before.map_or_else(|| row.payment.clone(), |e| e.payment.clone());
            entries.push(Entry { position, appended_at, version, event, payment });
        }
        entries.sort_by_key(|entry| entry.position.offset);
        Ok(entries)
    }

    /// Its last effective event that the log had taken by `at`, and with that the payment as it was then.
    pub fn payment_at(&self, id: PaymentId, at: Timestamp) -> Result<Option<Entry>, StoreError> {
        let entries = self.events_after(id, 0, usize::MAX)?;
        Ok(entries.into_iter().rev().find(|entry| entry.appended_at <= at))
    }

    /// Its effective events with a greater version than `version`, in order, at most `max`.
    pub fn events_after(&self, id: PaymentId, version: u64, max: usize) -> Result<Vec<Entry>, StoreError> {
        let built = self.built();
        match built.rows.row(id)? {
            Some(row) => self.effective(&built, &row, version, max),
            None => Ok(Vec::new()),
        }
    }

    fn effective(&self, built: &Built<Payments>, row: &Row, after: u64, max: usize) -> Result<Vec<Entry>, StoreError> {
        let initiation = &row.payment.initiation;
        let customer = customer_key(&initiation.merchant_id, &initiation.customer_id);
        let partition = self.partition_of(row.payment.id);
        let mut state = None;
        let mut entries = Vec::new();
        for (offset, version) in row.events.iter().zip(1..) {
            if entries.len() >= max {
                break;
            }
            let missing = || StoreError::Damaged(format!("an event of {} is missing", row.payment.id));
            let stored = built.rows.feed.get(&feed_key(&customer, partition, *offset))?.ok_or_else(missing)?;
            let (event, _, appended_at) = FeedRow::read(&self.codec, &stored)?;
            Payment::fold(&mut state, &event, appended_at).map_err(|e| StoreError::Damaged(e.to_string()))?;
            if let (true, Some(payment)) = (version > after, &state) {
                let position = Position::new(partition, *offset);
                let payment = payment.clone();
                entries.push(Entry { position, appended_at, version: Some(version), event, payment });
            }
        }
        Ok(entries)
    }

    fn partition_of(&self, id: PaymentId) -> Partition {
        home_of(id, self.partitions())
    }

    /// What was read in a row of the feed, with the payment as it was after it.
    pub(super) fn entry(
        &self,
        built: &Built<Payments>,
        position: Position,
        (event, version, appended_at): (Event, Option<u64>, Timestamp),
    ) -> Result<Entry, StoreError> {
        let missing = || StoreError::Damaged(format!("payment {} is missing", event.payment_id));
        let row = built.rows.row(event.payment_id)?.ok_or_else(missing)?;
        if version == Some(row.payment.version) {
            return Ok(Entry { position, appended_at, version, event, payment: row.payment });
        }
        let past = self.effective(built, &row, version.unwrap_or(1) - 1, 1)?;
        past.into_iter().next().ok_or_else(missing)
    }

    // === how far, and who wants to know ===

    #[must_use]
    pub fn folded(&self) -> Offsets {
        self.progress().folded()
    }

    /// [`Progress::has_folded_to`].
    #[must_use]
    pub fn has_folded_to(&self, ends: &Offsets) -> bool {
        self.progress().has_folded_to(ends)
    }

    /// [`Progress::visible`].
    #[must_use]
    pub fn visible(&self) -> Offsets {
        self.progress().visible()
    }

    #[must_use]
    pub fn folded_to(&self, partition: Partition) -> Offset {
        self.progress().folded_to(partition)
    }

    #[must_use]
    pub fn has_folded(&self, position: Position) -> bool {
        self.progress().has_folded(position)
    }

    /// [`Live::wait_folded`].
    pub async fn wait_folded(&self, position: Position) {
        self.live.wait_folded(position).await;
    }

    #[must_use]
    pub fn watch_payment(&self, id: PaymentId) -> Watch {
        self.live.hearers().watchers.payment(id)
    }

    #[must_use]
    pub fn watch(&self, scope: &Scope) -> Watch {
        self.live.hearers().watchers.scope(scope)
    }

    /// Wakes everyone who watches, for nothing: they look at once whatever they look at when they are woken.
    pub fn wake_all(&self) {
        self.live.hearers().watchers.wake_all(&Offsets::default());
    }

    /// Has every partition been folded to the log's end at some time since the start?
    #[must_use]
    pub fn caught_up(&self) -> bool {
        self.progress().caught_up()
    }

    /// The same, or to where it had to wait for the schema registry.
    #[must_use]
    pub fn is_current(&self) -> bool {
        self.progress().is_current()
    }

    /// Why it should not be read, if it should not.
    #[must_use]
    pub fn withheld(&self) -> Option<Withheld> {
        self.live().withheld()
    }

    /// Must nobody act on it? It may be folded otherwise than what everybody has seen so far, and nobody has accepted that.
    #[must_use]
    pub fn is_withheld(&self) -> bool {
        self.withheld().is_some()
    }

    /// Has it stopped, or gone on since without having come to the log's end yet?
    #[must_use]
    pub fn is_behind(&self, partition: Partition) -> bool {
        self.progress().is_behind(partition)
    }

    /// Why folding has stopped, if it has.
    #[must_use]
    pub fn halted(&self) -> Option<String> {
        let first = self.halts().into_iter().next()?;
        Some(format!("partition {}: {}", first.position.partition, first.reason))
    }

    /// Everywhere.
    #[must_use]
    pub fn halts(&self) -> Vec<Halt> {
        self.progress().halts()
    }

    #[must_use]
    pub fn is_halted(&self, partition: Partition) -> bool {
        self.progress().is_halted(partition)
    }

    /// What time it is, by this machine and by the log as far as it was folded.
    #[must_use]
    pub fn clocks(&self) -> &Clocks {
        &self.live.hearers().clocks
    }

    // === due work ===

    /// Work of `partition` that is due at or after `from` in the order of the index, at most `max`. Includes what is due
    /// later than now: its first key says when to come back.
    pub fn due(&self, partition: Partition, from: DueKey, max: usize) -> Result<Vec<DueKey>, StoreError> {
        let to = [&partition.0.to_be_bytes()[..], &[0xFF; 25]].concat();
        let parse = |row: Result<crate::store::Row, StoreError>| {
            DueKey::parse(&row?.0).ok_or_else(|| StoreError::Damaged("a due key cannot be read".to_owned()))
        };
        self.built().rows.due.range(&from.key(partition), &to).take(max).map(parse).collect()
    }

    /// Calls `listener` after every batch, on the folder's thread, until it answers `false`: it must be quick. It is given
    /// the earliest new due work of each partition that has any.
    pub fn listen(&self, listener: impl FnMut(&[(Partition, DueKey)]) -> bool + Send + 'static) {
        lock(&self.live.hearers().listeners).push(Box::new(listener));
    }
}
