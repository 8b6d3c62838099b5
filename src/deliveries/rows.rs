//! The rows of the fold of deliveries, and their keys.
//!
//! | table | key | value |
//! |---|---|---|
//! | `work` | target, partition, offset, cause | [`Row`] |
//! | `due` | partition, target, due at, offset, cause | nothing |
//! | `open` | target, payment, version, partition, offset, cause | nothing |
//! | `attempts` | target, at, partition, offset, cause, attempt | the outcome, as it stands on the log |
//! | `pushes` | partition, offset, target | nothing: which browsers are, or were, to be told of the event there |
//! | `cursors` | endpoint or request, or [`BROWSERS`], partition | the next offset of the log of payments |
//! | `standings` | target | [`Standing`] |
//! | `meta` | `logs`; `d` and partition; `learned` | ids; the next offset of the log of deliveries; of the control log, up to which browsers are known |
//!
//! A target is an endpoint or a browser's subscription.

use std::time::Duration;

use super::outcome::{Cause, Failure, Outcome, What, WorkId};
use crate::control::{Endpoint, RequestId, TargetId};
use crate::journal::{Offset, Partition, Position};
use crate::payment::Timestamp;
use crate::store::{Store, StoreError, Table};

/// One piece of work, as far as the logs tell. Its two sides come from two logs, in either order.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub(super) struct Row {
    pub what: What,
    /// Does the log of payments, or a request, say that the endpoint is to be told?
    pub wanted: bool,
    pub end: Option<End>,
    /// The number of the last attempt.
    pub attempts: u32,
    pub next_at: Timestamp,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub(super) enum End {
    Delivered,
    /// No further attempt is made.
    GivenUp,
    /// The endpoint was disabled, deleted, or enabled anew from a later place on.
    Dropped,
}

/// What is remembered of an endpoint.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Standing {
    /// Behind the place on the control log at which it was enabled last, and of which the cursors are; 0 while it is not enabled.
    pub(super) enabled: u64,
    pub last_success: Option<Timestamp>,
    /// The first failure since then, whatever became of the endpoint meanwhile: [`Standing::since_enabled`].
    pub failing_since: Option<Timestamp>,
    /// When it asked to be left alone, which is when it had answered, and until when.
    pub(super) paused: Option<(Timestamp, Timestamp)>,
}

#[derive(Clone)]
pub(super) struct Tables {
    pub store: Store,
    pub work: Table,
    pub due: Table,
    pub open: Table,
    pub attempts: Table,
    pub pushes: Table,
    pub cursors: Table,
    pub standings: Table,
    pub meta: Table,
}

impl Standing {
    /// As it is of an endpoint as it was enabled last: what failed before is nothing that it is to blame for now.
    #[must_use]
    pub fn since_enabled(self, endpoint: &Endpoint) -> Self {
        self.since(Timestamp::parse(&endpoint.enabled_at).unwrap_or(Timestamp::MIN))
    }

    /// The same, of who is told since then.
    #[must_use]
    pub fn since(self, at: Timestamp) -> Self {
        let failing_since = self.failing_since.map(|since| since.max(at));
        Self { failing_since, paused: self.paused.filter(|(asked, _)| *asked >= at), ..self }
    }

    /// Until when nothing is sent there. What was sent a while after it had asked, and was taken, ends it: what was on its way
    /// when it asked, or was sent before everybody knew of it, does not.
    #[must_use]
    pub fn paused_until(&self) -> Option<Timestamp> {
        let paused =
            self.paused.filter(|(asked, _)| self.last_success.is_none_or(|success| success <= asked.plus(KNOWN_AFTER)));
        paused.map(|(_, until)| until)
    }

    /// Of all that it has asked for, what it has said last counts.
    pub(super) fn heeding(self, outcome: &Outcome) -> Self {
        let answered = outcome.at.plus(Duration::from_millis(outcome.took_ms.into()));
        Self { paused: self.paused.max(outcome.pause_until.map(|until| (answered, until))), ..self }
    }
}

/// After how long everybody who sends knows of a pause that was asked for.
const KNOWN_AFTER: Duration = Duration::from_secs(10);

impl Failure {
    /// Does it say that something is wrong with who was to be told?
    #[must_use]
    pub fn is_the_targets(self) -> bool {
        !matches!(self, Self::TooLarge | Self::Expired | Self::OtherKey)
    }
}

impl Row {
    pub fn new(what: What) -> Self {
        Self { what, wanted: false, end: None, attempts: 0, next_at: Timestamp::MIN }
    }

    /// For people and programs.
    pub fn state(&self) -> &'static str {
        match self.end {
            None => "pending",
            Some(End::Delivered) => "delivered",
            Some(End::GivenUp) => "given_up",
            Some(End::Dropped) => "dropped",
        }
    }

    pub fn is_open(&self) -> bool {
        self.wanted && self.end.is_none()
    }
}

impl Tables {
    pub fn open(store: Store) -> Result<Self, StoreError> {
        let table = |name| store.table(name);
        Ok(Self {
            work: table("work")?,
            due: table("due")?,
            open: table("open")?,
            attempts: table("attempts")?,
            pushes: table("pushes")?,
            cursors: table("cursors")?,
            standings: table("standings")?,
            meta: table("meta")?,
            store,
        })
    }

    pub fn row(&self, work: &WorkId) -> Result<Option<Row>, StoreError> {
        self.work.get(&work_key(work))?.map(|bytes| decode(&bytes)).transpose()
    }

    pub fn standing(&self, target: TargetId) -> Result<Standing, StoreError> {
        let row = self.standings.get(&target.to_bytes())?.map(|bytes| decode(&bytes)).transpose()?;
        Ok(row.unwrap_or_default())
    }

    pub fn offset(&self, table: &Table, key: &[u8]) -> Result<Option<Offset>, StoreError> {
        let row = table.get(key)?;
        row.map(|bytes| number(&bytes, 0).map(Offset)).transpose()
    }
}

pub(super) fn encode<T: serde::Serialize>(row: &T) -> Result<Vec<u8>, StoreError> {
    postcard::to_allocvec(row).map_err(|e| StoreError::Damaged(e.to_string()))
}

pub(super) fn decode<'a, T: serde::Deserialize<'a>>(bytes: &'a [u8]) -> Result<T, StoreError> {
    postcard::from_bytes(bytes).map_err(|e| StoreError::Damaged(e.to_string()))
}

// === keys ===

/// A live cause is sixteen zeros, which no request has.
fn cause_bytes(cause: Cause) -> [u8; 16] {
    match cause {
        Cause::Live => [0; 16],
        Cause::Asked(request) => request.0,
    }
}

fn cause_of(bytes: [u8; 16]) -> Cause {
    if bytes == [0; 16] { Cause::Live } else { Cause::Asked(RequestId(bytes)) }
}

/// Everything about this event at this target begins so.
pub(super) fn event_prefix(work: &WorkId) -> Vec<u8> {
    [work.target.to_bytes().as_slice(), &work.partition.0.to_be_bytes(), &work.offset.0.to_be_bytes()].concat()
}

/// Every browser that is told of the event there begins so.
pub(super) fn pushes_prefix(at: Position) -> Vec<u8> {
    [at.partition.0.to_be_bytes().as_slice(), &at.offset.0.to_be_bytes()].concat()
}

/// `None` of an endpoint: those are few, and each is asked.
pub(super) fn pushes_key(work: &WorkId) -> Option<Vec<u8>> {
    let is_browser = work.target.endpoint().is_none();
    is_browser.then(|| [pushes_prefix(work.position()).as_slice(), &work.target.to_bytes()].concat())
}

pub(super) fn work_key(work: &WorkId) -> Vec<u8> {
    [event_prefix(work).as_slice(), &cause_bytes(work.cause)].concat()
}

pub(super) fn parse_work(key: &[u8]) -> Result<WorkId, StoreError> {
    Ok(WorkId {
        target: target_of(key, 0)?,
        partition: Partition(u32::from_be_bytes(part(key, 17)?)),
        offset: Offset(number(key, 21)?),
        cause: cause_of(part(key, 29)?),
    })
}

pub(super) fn target_of(key: &[u8], at: usize) -> Result<TargetId, StoreError> {
    TargetId::from_bytes(part(key, at)?).ok_or_else(|| StoreError::Damaged("a key names nobody".to_owned()))
}

/// Of what one target is to be told of one partition.
pub(super) const DUE_PREFIX_BYTES: usize = 21;

pub(super) fn due_prefix(partition: Partition, target: TargetId) -> Vec<u8> {
    [partition.0.to_be_bytes().as_slice(), &target.to_bytes()].concat()
}

pub(super) fn due_key(work: &WorkId, at: Timestamp) -> Vec<u8> {
    let at = at.as_micros().to_be_bytes();
    let (offset, cause) = (work.offset.0.to_be_bytes(), cause_bytes(work.cause));
    [due_prefix(work.partition, work.target).as_slice(), &at, &offset, &cause].concat()
}

pub(super) fn parse_due(key: &[u8]) -> Result<(Timestamp, WorkId), StoreError> {
    let at = i64::from_be_bytes(part(key, 21)?);
    let at = Timestamp::from_micros(at).ok_or_else(|| StoreError::Damaged("a due time cannot be read".to_owned()))?;
    let work = WorkId {
        partition: Partition(u32::from_be_bytes(part(key, 0)?)),
        target: target_of(key, 4)?,
        offset: Offset(number(key, 29)?),
        cause: cause_of(part(key, 37)?),
    };
    Ok((at, work))
}

/// Everything that one target is still to be told of one payment begins so.
pub(super) fn open_prefix(target: TargetId, what: &What) -> Vec<u8> {
    let payment = match what {
        What::Event { payment, .. } => *payment.as_bytes(),
        What::Test | What::Disabled { .. } => [0; 16],
    };
    [target.to_bytes().as_slice(), &payment].concat()
}

pub(super) fn open_key(work: &WorkId, what: &What) -> Vec<u8> {
    let version = match what {
        What::Event { version, .. } => *version,
        What::Test | What::Disabled { .. } => 0,
    };
    let (partition, offset) = (work.partition.0.to_be_bytes(), work.offset.0.to_be_bytes());
    let prefix = open_prefix(work.target, what);
    [prefix.as_slice(), &version.to_be_bytes(), &partition, &offset, &cause_bytes(work.cause)].concat()
}

pub(super) fn parse_open(key: &[u8]) -> Result<WorkId, StoreError> {
    Ok(WorkId {
        target: target_of(key, 0)?,
        partition: Partition(u32::from_be_bytes(part(key, 41)?)),
        offset: Offset(number(key, 45)?),
        cause: cause_of(part(key, 53)?),
    })
}

pub(super) fn attempt_key(work: &WorkId, at: Timestamp, attempt: u32) -> Vec<u8> {
    let at = at.as_micros().to_be_bytes();
    let (partition, offset) = (work.partition.0.to_be_bytes(), work.offset.0.to_be_bytes());
    let (cause, attempt) = (cause_bytes(work.cause), attempt.to_be_bytes());
    [work.target.to_bytes().as_slice(), &at, &partition, &offset, &cause, &attempt].concat()
}

/// The source that is read for all browsers at once: no endpoint and no request has this id.
pub(super) const BROWSERS: [u8; 16] = [0; 16];

/// `source` is an endpoint or a request, or [`BROWSERS`].
pub(super) fn cursor_key(source: [u8; 16], partition: Partition) -> Vec<u8> {
    [source.as_slice(), &partition.0.to_be_bytes()].concat()
}

pub(super) fn cursor_partition(key: &[u8]) -> Result<Partition, StoreError> {
    part(key, 16).map(|bytes| Partition(u32::from_be_bytes(bytes)))
}

pub(super) fn deliveries_key(partition: Partition) -> Vec<u8> {
    [b"d".as_slice(), &partition.0.to_be_bytes()].concat()
}

/// Behind everything that begins with `prefix`: none of our keys goes on with sixty-four of these.
pub(super) fn behind(prefix: &[u8]) -> Vec<u8> {
    [prefix, &[0xFF; 64]].concat()
}

fn part<const N: usize>(key: &[u8], at: usize) -> Result<[u8; N], StoreError> {
    let bytes = key.get(at..).and_then(|rest| rest.first_chunk::<N>());
    bytes.copied().ok_or_else(|| StoreError::Damaged("a key is too short".to_owned()))
}

pub(super) fn number(bytes: &[u8], at: usize) -> Result<u64, StoreError> {
    part(bytes, at).map(u64::from_be_bytes)
}

#[cfg(test)]
mod tests {
    use super::{due_key, open_key, parse_due, parse_open, parse_work, work_key};
    use crate::control::{EndpointId, RequestId, SubscriptionId, TargetId};
    use crate::deliveries::outcome::{Cause, What, WorkId};
    use crate::journal::{Offset, Partition};
    use crate::payment::samples::{at, payment_id};

    #[test]
    fn keys_are_read_as_they_were_written() {
        let targets = [TargetId::Endpoint(EndpointId([1; 16])), TargetId::Subscription(SubscriptionId([1; 16]))];
        for (target, cause) in targets.into_iter().zip([Cause::Live, Cause::Asked(RequestId([9; 16]))]) {
            let work = WorkId { target, partition: Partition(3), offset: Offset(42), cause };
            assert_eq!(parse_due(&due_key(&work, at(7))).unwrap(), (at(7), work));
            assert_eq!(parse_work(&work_key(&work)).unwrap(), work);
            let name = "PaymentFailed".to_owned();
            let what = What::Event { payment: payment_id("a"), version: 2, name, event: String::new() };
            assert_eq!(parse_open(&open_key(&work, &what)).unwrap(), work);
        }
    }
}
