//! What is to be told to whom, and what was: the fold of the log of payments and of the log of deliveries, for every webhook
//! endpoint and every browser on the control log (docs/decisions/0017, 0018). It reads the logs; it can append to none and tells nobody.
//!
//! A [`Follower`] keeps up with the deliveries, a [`Scanner`] with the payments; [`Deliveries`] is what they come to. Deleted,
//! it is folded anew, and nobody is told anything twice for it: what was delivered stands on the log.

mod browsers;
pub mod described;
mod firsts;
mod fold;
mod follow;
pub mod outcome;
mod rows;
mod scan;
pub mod target;

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::watch;

use crate::control::{Asks, Control, Subscriptions, TargetId};
use crate::journal::{JournalError, Offset, Partition, Position, Reader};
use crate::payment::Timestamp;
use crate::projection::View;
use crate::schema::Codec;
use crate::store::{Store, StoreError};
use fold::Fold;
use outcome::{Cause, Outcome, What, WorkId};
use rows::{End, Tables, behind, cursor_key, cursor_partition, deliveries_key, due_prefix, number, target_of};

pub use follow::Follower;
pub use rows::Standing;
pub use scan::Scanner;

#[derive(Debug, thiserror::Error)]
pub enum DeliveriesError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Journal(#[from] JournalError),
}

/// Cheap to clone; all clones are one.
#[derive(Clone)]
pub struct Deliveries {
    fold: Fold,
    browsers: Subscriptions,
    shared: Arc<Shared>,
}

struct Shared {
    /// By partition: the next offset of the log of deliveries.
    folded: Vec<watch::Sender<Offset>>,
    touched: Mutex<BTreeSet<(Partition, TargetId)>>,
    /// Does anything here find out what is to be told?
    scans: AtomicBool,
    /// Called when something is touched.
    hearer: Mutex<Option<Box<dyn Fn() + Send>>>,
}

/// Something that is due, as it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Due {
    pub work: WorkId,
    pub what: What,
    pub at: Timestamp,
    /// Attempts that were made.
    pub attempts: u32,
}

/// What became of one piece of work so far.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Told {
    pub work: WorkId,
    /// `pending`, `delivered`, `given_up` or `dropped`.
    pub state: &'static str,
    pub attempts: u32,
    pub next_at: Option<Timestamp>,
}

/// What is open after it was read: due work, and when there is more.
#[derive(Debug, Default)]
pub struct DueWork {
    pub due: Vec<Due>,
    pub next_at: Option<Timestamp>,
}

impl Deliveries {
    /// Opens the rows in `path`, and what keeps up with the log of deliveries. Rows of other logs than these, or damaged ones,
    /// are let go. Blocks.
    pub fn open(
        path: &Path,
        deliveries: &dyn Reader,
        payments: &dyn Reader,
        control: &Control,
    ) -> Result<(Self, Follower), DeliveriesError> {
        let opened = || Self::open_in(Store::open(path)?, deliveries, payments, control);
        match opened() {
            Ok(Some(opened)) => Ok(opened),
            Err(DeliveriesError::Store(error)) if !error.is_damage() => Err(error.into()),
            Err(error @ DeliveriesError::Journal(_)) => Err(error),
            Ok(None) | Err(DeliveriesError::Store(_)) => {
                tracing::warn!(
                    "the rows of deliveries are of another version or log, or damaged: they are folded anew"
                );
                Store::discard(path)?;
                let missing = || StoreError::Damaged("the rows of deliveries cannot be made anew".to_owned());
                Ok(opened()?.ok_or_else(missing)?)
            }
        }
    }

    /// The same with the rows in `store`; `None` if they are of other logs than these, or ahead of one. Blocks.
    pub fn open_in(
        store: Store,
        deliveries: &dyn Reader,
        payments: &dyn Reader,
        control: &Control,
    ) -> Result<Option<(Self, Follower)>, DeliveriesError> {
        let Some((tables, from)) = open_tables(store, deliveries, payments)? else { return Ok(None) };
        let folded = from.iter().map(|offset| watch::channel(*offset).0).collect();
        let (touched, scans, hearer) = (Mutex::default(), AtomicBool::new(false), Mutex::default());
        let shared = Shared { folded, touched, scans, hearer };
        let fold = Fold::new(tables, control.webhooks(), payments.log_id());
        let opened = Self { fold, browsers: control.subscriptions(), shared: Arc::new(shared) };
        Ok(Some((opened.clone(), Follower { tail: deliveries.tail(&from)?, deliveries: opened })))
    }

    /// What finds out what is to be told. One at a time.
    #[must_use]
    pub fn scanner(&self, log: Arc<dyn Reader>, view: View, codec: Arc<Codec>) -> Scanner {
        self.shared.scans.store(true, Ordering::Release);
        Scanner {
            deliveries: self.clone(),
            log,
            view,
            codec,
            seen: u64::MAX,
            known: Arc::default(),
            sources: Vec::new(),
            requests: 0,
            reading: None,
            whole: Offset(0),
        }
    }

    // === for the lanes ===

    /// Who has anything to be told of one partition, now or later.
    pub fn who_wait(&self, partition: Partition) -> Result<Vec<TargetId>, StoreError> {
        let (due, to) = (&self.fold.tables.due, behind(&partition.0.to_be_bytes()));
        let (mut from, mut who) = (partition.0.to_be_bytes().to_vec(), Vec::new());
        while let Some((key, _)) = due.range(&from, &to).next().transpose()? {
            let target = target_of(&key, size_of::<u32>())?;
            from = behind(&due_prefix(partition, target));
            who.push(target);
        }
        Ok(who)
    }

    /// Nobody is there any more to be told it.
    pub fn drop_all(&self, target: TargetId) -> Result<(), StoreError> {
        self.fold.drop_all(target)
    }

    /// Work of one target on one partition that is due at `now`, at most `max`, and when there is more; without what is on its
    /// way already, which costs no look at its row.
    pub fn due(
        &self,
        (partition, target): (Partition, TargetId),
        now: Timestamp,
        max: usize,
        is_on_its_way: impl Fn(&WorkId) -> bool,
    ) -> Result<DueWork, StoreError> {
        let mut found = DueWork::default();
        self.fold.each_due(partition, target, |at, work| {
            if is_on_its_way(&work) {
                return Ok(true);
            }
            if at > now || found.due.len() >= max {
                found.next_at = Some(at);
                return Ok(false);
            }
            // The key may be gone a moment later.
            if let Some(row) = self.fold.tables.row(&work)?.filter(rows::Row::is_open) {
                found.due.push(Due { work, what: row.what, at, attempts: row.attempts });
            }
            Ok(true)
        })?;
        Ok(found)
    }

    /// Is it not to be done any more? It may stand among what is due from before its endpoint was enabled anew, which is before
    /// `from`, or be delivered meanwhile for another cause, which counts unless somebody wants it again. Then it is dropped.
    pub fn is_void(&self, work: &WorkId, from: Offset) -> Result<bool, StoreError> {
        let known = self.fold.webhooks.known();
        let void = match work.cause {
            Cause::Live => work.offset < from || self.fold.was_delivered(work)?,
            Cause::Asked(id) => match known.requests.get(id) {
                Some(request) if !known.is_open(&request) => true,
                Some(request) => matches!(request.asks, Asks::Recover { .. }) && self.fold.was_delivered(work)?,
                None => true,
            },
        };
        if void {
            self.fold.end_as_dropped(work)?;
        }
        Ok(void)
    }

    /// Which endpoints have something new to do, since this was asked last.
    #[must_use]
    pub fn touched(&self) -> BTreeSet<(Partition, TargetId)> {
        std::mem::take(&mut *self.shared.touched.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Calls `hearer` whenever there is something new. It must be quick.
    pub fn listen(&self, hearer: impl Fn() + Send + 'static) {
        *self.shared.hearer.lock().unwrap_or_else(PoisonError::into_inner) = Some(Box::new(hearer));
    }

    /// The next offset of the log of deliveries.
    #[must_use]
    pub fn folded_to(&self, partition: Partition) -> Offset {
        self.shared.folded.get(partition.0 as usize).map_or(Offset(0), |next| *next.borrow())
    }

    // === for those who ask ===

    pub fn standing(&self, target: impl Into<TargetId>) -> Result<Standing, StoreError> {
        self.fold.tables.standing(target.into())
    }

    /// Was anything that it was to be told delivered, or given up?
    pub fn has_ended(&self, target: TargetId) -> Result<bool, StoreError> {
        let prefix = target.to_bytes();
        for row in self.fold.tables.work.range(&prefix, &behind(&prefix)) {
            if matches!(rows::decode::<rows::Row>(&row?.1)?.end, Some(End::Delivered | End::GivenUp)) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Attempts at one target, the newest first, at most `max`, older than `before`; and where to go on.
    pub fn attempts(
        &self,
        target: impl Into<TargetId>,
        before: Option<&[u8]>,
        max: usize,
    ) -> Result<(Vec<Outcome>, Option<Vec<u8>>), StoreError> {
        let prefix = target.into().to_bytes().to_vec();
        let to = before.map_or_else(|| behind(&prefix), |before| [&prefix, before].concat());
        let (mut attempts, mut last) = (Vec::new(), None);
        for row in self.fold.tables.attempts.range(&prefix, &to).rev() {
            if attempts.len() >= max {
                return Ok((attempts, last));
            }
            let (key, value) = row?;
            last = key.get(prefix.len()..).map(<[u8]>::to_vec);
            attempts.extend(outcome::decode(self.fold.payments, &value).ok().flatten());
        }
        Ok((attempts, None))
    }

    /// What one target is, or was, to be told of one event, for whatever cause.
    pub fn of_event(&self, target: impl Into<TargetId>, position: Position) -> Result<Vec<Told>, StoreError> {
        let target = target.into();
        let work = WorkId { target, partition: position.partition, offset: position.offset, cause: Cause::Live };
        let prefix = rows::event_prefix(&work);
        let mut told = Vec::new();
        for row in self.fold.tables.work.range(&prefix, &behind(&prefix)) {
            let (key, value) = row?;
            let (work, row) = (rows::parse_work(&key)?, rows::decode::<rows::Row>(&value)?);
            if !row.what.is_event() {
                continue;
            }
            let next_at = row.end.is_none().then_some(row.next_at).filter(|_| row.attempts > 0);
            told.push(Told { work, state: row.state(), attempts: row.attempts, next_at });
        }
        Ok(told)
    }

    /// The first thing that one target is, or was, to be told, tried or not; `None` if nothing is known.
    pub fn told_first(&self, target: impl Into<TargetId>) -> Result<Option<What>, StoreError> {
        let prefix = target.into().to_bytes();
        let first = self.fold.tables.work.range(&prefix, &behind(&prefix)).next().transpose()?;
        first.map(|(_, row)| rows::decode::<rows::Row>(&row).map(|row| row.what)).transpose()
    }

    /// Which browsers are, or were, to be told of the event there.
    pub fn pushed(&self, position: Position) -> Result<Vec<TargetId>, StoreError> {
        let prefix = rows::pushes_prefix(position);
        let found = self.fold.tables.pushes.range(&prefix, &behind(&prefix));
        found.map(|row| target_of(&row?.0, prefix.len())).collect()
    }

    /// How much one target is still to be told, counted to `max`; `None` where nobody has looked for it.
    pub fn open_count(&self, target: impl Into<TargetId>, max: usize) -> Result<Option<usize>, StoreError> {
        if !self.shared.scans.load(Ordering::Acquire) {
            return Ok(None);
        }
        let (mut count, prefix) = (0, target.into().to_bytes());
        for row in self.fold.tables.open.range(&prefix, &behind(&prefix)).take(max) {
            row?;
            count += 1;
        }
        Ok(Some(count))
    }

    /// Was it delivered for this request, or given up, or neither yet?
    pub fn is_ended(&self, work: &WorkId) -> Result<bool, StoreError> {
        Ok(self.fold.tables.row(work)?.is_some_and(|row| matches!(row.end, Some(End::Delivered | End::GivenUp))))
    }

    // === for the folds ===

    fn cursor(&self, source: [u8; 16], partition: Partition) -> Result<Option<Offset>, StoreError> {
        let tables = &self.fold.tables;
        tables.offset(&tables.cursors, &cursor_key(source, partition))
    }

    fn touch(&self, partition: Partition, target: TargetId) {
        self.shared.touched.lock().unwrap_or_else(PoisonError::into_inner).insert((partition, target));
        self.hear();
    }

    fn publish(&self, next: &[Position]) {
        for position in next {
            if let Some(folded) = self.shared.folded.get(position.partition.0 as usize) {
                folded.send_replace(position.offset);
            }
        }
        self.hear();
    }

    fn hear(&self) {
        if let Some(hearer) = &*self.shared.hearer.lock().unwrap_or_else(PoisonError::into_inner) {
            hearer();
        }
    }
}

/// Of the rows and their keys: those of another are folded anew.
const LAYOUT: u8 = 4;

/// `None` if the rows are of other logs, or written otherwise, or ahead of one of them.
fn open_tables(
    store: Store,
    deliveries: &dyn Reader,
    payments: &dyn Reader,
) -> Result<Option<(Tables, Vec<Offset>)>, DeliveriesError> {
    let tables = Tables::open(store)?;
    let logs = [payments.log_id().0.as_slice(), &deliveries.log_id().0, &[LAYOUT]].concat();
    match tables.meta.get(b"logs")? {
        Some(known) if known.as_ref() != logs.as_slice() => return Ok(None),
        Some(_) => {}
        None => {
            let mut batch = tables.store.batch();
            batch.insert(&tables.meta, b"logs", &logs);
            batch.commit()?;
        }
    }
    let mut from = Vec::new();
    for partition in (0..deliveries.partitions()).map(Partition) {
        let next = tables.meta.get(&deliveries_key(partition))?.map(|row| number(&row, 0)).transpose()?;
        let next = Offset(next.unwrap_or_default());
        if next > deliveries.ends(partition)?.committed {
            return Ok(None);
        }
        from.push(next);
    }
    let mut ends = Vec::new();
    for partition in (0..payments.partitions()).map(Partition) {
        ends.push(payments.ends(partition)?.committed.0);
    }
    for row in tables.cursors.range(&[], &behind(&[])) {
        let (key, next) = row?;
        let end = ends.get(cursor_partition(&key)?.0 as usize);
        if end.is_none_or(|end| number(&next, 0).is_ok_and(|next| next > *end)) {
            return Ok(None);
        }
    }
    Ok(Some((tables, from)))
}
