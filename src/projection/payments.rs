//! The built-in projection: every payment as it is now, every customer's history, and the indexes of what is due and what is
//! parked. What one batch comes to is kept here, decoded, and each row is written once.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex};

use super::absent::Absent;
use super::alarms::{Alarm, Met};
use super::error::{ApplyError, FoldError};
use super::fields::{About, TableName};
use super::fold::{Fold, Projection};
use super::live::{Live, Served};
use super::older::{Older, OlderRows};
use super::reader::Recorded;
use super::rows::{FeedRow, Tables, customer_key, encode, feed_key, merchant_key, others_key};
use super::view::Listener;
use super::watch::Registry;
use super::{DueKey, Offsets, ParkedKey, Progress, Row, View, parked};
use crate::clock::Clocks;
use crate::journal::{Partition, Position, Reader};
use crate::lock::lock;
use crate::payment::{Effect, Event, Payment, PaymentId, Status, Timestamp};
use crate::schema::Codec;
use crate::store::{Batch, Store, StoreError};
use crate::telemetry;

/// Rows of open payments kept in memory, so that their end need not read them; at the limit all are let go.
const OPEN_ROWS_MAX: usize = 100_000;

pub struct Payments {
    tables: Tables,
    told: Option<(Arc<Hearers>, Arc<Progress>)>,
    /// Payments that have no row.
    absent: Absent,
    /// Rows of payments that have not ended.
    open: HashMap<PaymentId, Box<Row>>,
    /// Rows of this batch, in the order of the table, in which it takes them fastest.
    staged: BTreeMap<PaymentId, StagedRow>,
    /// The earliest new due work of this batch.
    new_due: BTreeMap<Partition, DueKey>,
    /// Of this batch.
    alarms: Vec<Alarm>,
}

/// Whom the fold tells.
pub struct Hearers {
    /// The log's time of every record.
    pub(super) clocks: Clocks,
    pub(super) watchers: Arc<Registry>,
    /// Called after every batch.
    pub(super) listeners: Mutex<Vec<Listener>>,
}

struct StagedRow {
    row: Box<Row>,
    partition: Partition,
    before: Indexed,
}

/// Where a payment stands, and where in the indexes; nowhere before it begins.
#[derive(Default)]
struct Indexed {
    status: Option<Status>,
    due_at: Option<Timestamp>,
    parked: Option<ParkedKey>,
}

/// Folds the log into payments.
pub type Folder = Fold<Payments>;

impl Folder {
    /// Opens the rows in `store`, as [`Fold::new`] does, and what reads them.
    pub fn open(
        store: Store,
        journal: &dyn Reader,
        codec: Arc<Codec>,
        clocks: Clocks,
    ) -> Result<(Self, View), FoldError> {
        let mut fold = Self::new(store, journal, Arc::clone(&codec))?;
        let hearers = Arc::new(Hearers { clocks, watchers: Arc::default(), listeners: Mutex::default() });
        let built = fold.built(Arc::clone(&hearers));
        Ok((fold, View::new(Arc::new(Live::new(built, hearers)), codec)))
    }
}

impl Served for Payments {
    type Rows = Tables;
    type Hearers = Arc<Hearers>;

    fn rows(&self) -> Tables {
        self.tables.clone()
    }

    fn tell(&mut self, hearers: Arc<Hearers>, progress: Arc<Progress>) {
        self.told = Some((hearers, progress));
    }

    fn exchanged(hearers: &Arc<Hearers>, folded: &Offsets) {
        hearers.watchers.wake_all(folded);
        let all_due: Vec<_> = folded.positions().map(|end| (end.partition, DueKey::FIRST)).collect();
        hearers.listen(&all_due);
    }
}

impl Hearers {
    fn listen(&self, new_due: &[(Partition, DueKey)]) {
        lock(&self.listeners).retain_mut(|listener| listener(new_due));
    }
}

impl Projection for Payments {
    const NAME: &'static str = "payments";
    const VERSION: u32 = 4;
    const BY_PAYMENT: Option<&'static [&'static str]> = Some(&["payments", "others"]);

    /// `payments@3` had no index of a merchant's events, and was otherwise the same.
    fn older(version: u32) -> Option<Older> {
        let tables = &["payments", "feed", "others", "due", "parked"];
        (version == 3).then_some(Older { tables, rows: OlderRows::Alike })
    }

    fn open(store: &Store) -> Result<Self, StoreError> {
        let tables = Tables::open(store)?;
        Ok(Self {
            absent: Absent::of(&tables.payments),
            tables,
            told: None,
            open: HashMap::new(),
            staged: BTreeMap::new(),
            new_due: BTreeMap::new(),
            alarms: Vec::new(),
        })
    }

    fn apply(&mut self, recorded: &Recorded, batch: &mut Batch) -> Result<(), ApplyError> {
        let Recorded { position, appended_at, event, .. } = recorded;
        if let Some((hearers, _)) = &self.told {
            hearers.clocks.saw(*appended_at); // whoever folded it
        }
        let id = event.payment_id;
        let before = match self.staged.remove(&id) {
            Some(row) => Some(row),
            None => self.load(id, position.partition)?,
        };
        let (mut payment, mut events, before) = match before {
            Some(StagedRow { row, before, .. }) => (Some(row.payment), row.events, before),
            None => (None, Vec::new(), Indexed::default()),
        };
        let effect = Payment::fold(&mut payment, event, *appended_at)
            .map_err(|lost| ApplyError::Unfoldable(lost.to_string()))?;
        // `fold` answers `Ok` only when there is a payment.
        let Some(payment) = payment else { return Ok(()) };
        self.alarms.extend(alarm(effect, event, *position));
        self.write_event(recorded, effect, &payment, batch)?;
        if effect == Effect::Effective {
            events.push(position.offset);
        }
        let row = Box::new(Row { payment, events });
        self.staged.insert(id, StagedRow { row, partition: position.partition, before });
        Ok(())
    }

    fn flush(&mut self, batch: &mut Batch) -> Result<(), StoreError> {
        let alarms = std::mem::take(&mut self.alarms);
        if let Some((_, progress)) = &self.told {
            progress.raise(Self::NAME, alarms);
        }
        let tables = &self.tables;
        for (id, StagedRow { row, partition, before }) in &self.staged {
            batch.insert(&tables.payments, id.as_bytes(), &encode(row)?);
            self.absent.add(id.as_bytes());
            parked::stage(batch, &tables.parked, before.parked.as_ref(), &row.payment);
            let due_at = row.payment.due_at();
            if before.due_at == due_at {
                continue;
            }
            if let Some(due_at) = before.due_at {
                batch.remove(&tables.due, &DueKey { due_at, payment_id: *id }.key(*partition));
            }
            if let Some(due_at) = due_at {
                let key = DueKey { due_at, payment_id: *id };
                batch.insert(&tables.due, &key.key(*partition), &[]);
                self.new_due.entry(*partition).and_modify(|first| *first = key.min(*first)).or_insert(key);
            }
        }
        Ok(())
    }

    fn committed(&mut self) {
        let rows = std::mem::take(&mut self.staged);
        let new_due: Vec<(Partition, DueKey)> = std::mem::take(&mut self.new_due).into_iter().collect();
        if let Some(hearers) = self.hearers() {
            let changed = rows.values().map(|staged| {
                let payment = &staged.row.payment;
                let last = staged.row.events.last().copied().unwrap_or_default();
                let end = Position::new(staged.partition, last).next();
                (payment.id, &payment.initiation.merchant_id, &payment.initiation.customer_id, end)
            });
            hearers.watchers.wake(changed);
            if self.told.as_ref().is_some_and(|(_, progress)| progress.caught_up()) {
                count(rows.values());
            }
            hearers.listen(&new_due);
        }
        if self.open.len() + rows.len() > OPEN_ROWS_MAX {
            self.open.clear();
        }
        let open = rows.into_iter().filter(|(_, staged)| !staged.row.payment.is_terminal());
        self.open.extend(open.map(|(id, staged)| (id, staged.row)));
    }

    fn about(codec: &Codec, table: &str, key: &[u8], value: &[u8]) -> About {
        TableName::of(table).map_or_else(|| About::of_key(key), |table| table.about(codec, key, value))
    }

    fn fields(table: &str, _: &[u8], value: &[u8]) -> BTreeMap<String, String> {
        TableName::of(table).map(|table| table.fields(value)).unwrap_or_default()
    }
}

impl Payments {
    /// Whoever is to be told now.
    fn hearers(&self) -> Option<&Hearers> {
        self.told.as_ref().filter(|(_, progress)| progress.speaks()).map(|(hearers, _)| &**hearers)
    }

    /// Before the payment's own row goes into the batch: a reader in the middle of it must not meet a row that names an event
    /// which is not there yet.
    fn write_event(
        &self,
        recorded: &Recorded,
        effect: Effect,
        payment: &Payment,
        batch: &mut Batch,
    ) -> Result<(), StoreError> {
        let effective = effect == Effect::Effective;
        let version = if effective { payment.version } else { 0 };
        let value = encode(&FeedRow { version, appended_at: recorded.appended_at, value: recorded.kept() })?;
        let Position { partition, offset } = recorded.position;
        if effective {
            let customer = customer_key(&payment.initiation.merchant_id, &payment.initiation.customer_id);
            batch.insert(&self.tables.feed, &feed_key(&customer, partition, offset), &value);
            // Behind what it leads to, for the same reason.
            let merchant = merchant_key(&payment.initiation.merchant_id);
            let customer = payment.initiation.customer_id.as_str().as_bytes();
            batch.insert(&self.tables.merchants, &feed_key(&merchant, partition, offset), customer);
        } else {
            batch.insert(&self.tables.others, &others_key(payment.id, offset), &value);
        }
        Ok(())
    }

    fn load(&mut self, id: PaymentId, partition: Partition) -> Result<Option<StagedRow>, StoreError> {
        let row = match self.open.remove(&id) {
            Some(row) => Some(row),
            None if self.absent.is_absent(id.as_bytes()) => None,
            None => self.tables.row(id)?.map(Box::new),
        };
        Ok(row.map(|row| StagedRow { before: Indexed::of(&row.payment), row, partition }))
    }
}

impl Indexed {
    fn of(payment: &Payment) -> Self {
        Self { status: Some(payment.status()), due_at: payment.due_at(), parked: ParkedKey::of(payment) }
    }
}

/// What has begun and what has ended, as it happens: a history that is folded anew is none.
fn count<'a>(rows: impl Iterator<Item = &'a StagedRow>) {
    let mut accepted = 0;
    for StagedRow { row, before, .. } in rows {
        let payment = &row.payment;
        accepted += u64::from(before.status.is_none());
        if payment.is_terminal() && before.status != Some(payment.status()) {
            let took_us = payment.updated_at.as_micros().saturating_sub(payment.created_at.as_micros()).max(0);
            telemetry::payment_ended(payment.status().name(), took_us as f64 / 1e6);
        }
    }
    telemetry::payments_accepted(accepted);
}

/// What an event without effect means for the people who run this.
fn alarm(effect: Effect, event: &Event, position: Position) -> Option<Alarm> {
    let (payment, event) = (event.payment_id, event.data.name());
    let what = match effect {
        Effect::EndedOtherwise => Met::EndedOtherwise { payment, event },
        Effect::EndedAgain => Met::EndedAgain { payment, event },
        Effect::Effective | Effect::Repeat | Effect::Conflict | Effect::Ignored => return None,
    };
    Some(Alarm { position, what })
}
