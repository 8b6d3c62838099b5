//! The control log: what operators have decided about the installation itself. A second journal with one partition, kept
//! for ever like the first, and folded by every instance (docs/decisions/0006). So far it holds which records of the log of
//! payments are rejected (DESIGN.md 4), which were imported from another (docs/decisions/0009), the keys of the HTTP face
//! (docs/decisions/0016), and who is told of payments by webhook (docs/decisions/0017) or by Web Push (docs/decisions/0018).
//!
//! [`Control`] is held by whoever asks or decides; a [`Follower`] reads on, on a thread of its own, and tells the fold of
//! the payments. Nothing is decided here before it stands on the log: of two decisions about the same the lower offset
//! wins, in every instance alike.

mod credential;
pub mod described;
mod document;
pub mod hubs;
mod ids;
mod import;
mod key;
mod keys;
mod kinds;
mod push;
mod requests;
mod schemas;
mod seal;
mod state;
mod subscriptions;
mod telling;
mod webhooks;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::holding::RefusedIds;
use crate::journal::{
    AppendError, Journal, JournalError, LogId, NewRecord, Offset, Partition, Position, Reader, Tail, TailItem,
};
use crate::payment::{MerchantId, Signed, Timestamp};
use crate::projection::Rejections;

pub use credential::{BadCredential, Credential};
pub use document::{NewRejection, Rejection};
pub use ids::{EndpointId, RequestId, SubscriptionId, TargetId};
pub use import::{Import, ImportedArchive, ImportedRange, Imports, Mark, Origin, Step};
pub use key::{Holder, KEY_ID_CHARS, Key, KeyDigest, KeyId, KeyStep};
pub use keys::Keys;
pub use kinds::{EndpointKind, PayloadKind};
pub use push::{KnownSubscription, Lease, NewSubscription, PushFrom, PushRemoval, PushScope};
pub use requests::Requests;
pub use schemas::SchemaDecision;
pub use seal::{SealError, Sealed, SecretsKey};
use state::{Folded, State};
pub use subscriptions::{CHANGES_MAX, CHANGES_PERIOD, NoRoom, SubscriptionLimits, Subscriptions};
pub use webhooks::{
    Asks, Change, ENDPOINTS_MAX, Endpoint, EndpointSecret, EndpointState, KnownEndpoint, KnownWebhooks, Range, Request,
    Webhooks,
};

/// The control log has one partition, so that everything on it has one order.
pub const PARTITIONS: u32 = 1;
const PARTITION: Partition = Partition(0);

/// Records that are taken at once.
const BATCH_MAX: usize = 1_000;
/// How long one read waits: the bound on how late a stop is noticed.
const POLL: Duration = Duration::from_millis(100);
/// How long a start waits for the next record of the control log. It may take longer for all of them: they are kept for ever.
const STALLED_MAX: Duration = Duration::from_secs(60);

/// Decides, by appending, and knows what was decided.
pub struct Control {
    journal: Arc<dyn Journal>,
    shared: Arc<Shared>,
}

/// Keeps up with the control log.
pub struct Follower {
    tail: Box<dyn Tail>,
    shared: Arc<Shared>,
    /// Has an import into the log begun, or may one begin while this runs?
    expects_import: bool,
}

struct Shared {
    /// The log of payments that this instance folds: decisions about another are not for it.
    payments: LogId,
    state: Mutex<State>,
    /// The next offset to fold.
    next: watch::Sender<Offset>,
    rejections: Rejections,
    imports: Imports,
    keys: Keys,
    webhooks: Webhooks,
    subscriptions: Subscriptions,
    refused_ids: RefusedIds,
}

/// What became of a decision.
#[derive(Debug)]
pub enum Decided<T = Rejection> {
    /// It stands.
    Effective(T),
    /// Somebody had decided the same before.
    Late,
    /// It is on the control log, and this instance has not folded it in time.
    Unconfirmed,
}

/// Every record of the log `payments` that is rejected now, for whoever only reads. Blocks.
pub fn read(journal: &dyn Reader, payments: LogId) -> Result<Vec<Rejection>, JournalError> {
    let (shared, _) = read_to_the_end(journal, payments, Rejections::default())?;
    Ok(shared.state().rejections().cloned().collect())
}

/// How far the control log was read, and since when no further.
struct Progress {
    next: Offset,
    at: Instant,
}

impl Progress {
    fn has_stalled(&mut self, next: Offset, now: Instant) -> bool {
        if next > self.next {
            *self = Self { next, at: now };
        }
        now.saturating_duration_since(self.at) >= STALLED_MAX
    }
}

fn read_to_the_end(
    journal: &dyn Reader,
    payments: LogId,
    rejections: Rejections,
) -> Result<(Arc<Shared>, Follower), JournalError> {
    // Past the committed end stands at most what a transaction still holds back; none of ours is there.
    let end = journal.ends(PARTITION)?.committed;
    let tail = journal.tail(&[Offset(0)])?;
    let (state, next) = (Mutex::default(), watch::channel(Offset(0)).0);
    let (imports, keys, webhooks) = (Imports::default(), Keys::default(), Webhooks::default());
    let (subscriptions, refused_ids) = (Subscriptions::default(), RefusedIds::default());
    let shared = Shared { payments, state, next, rejections, imports, keys, webhooks, subscriptions, refused_ids };
    let shared = Arc::new(shared);
    let mut follower = Follower { tail, shared: Arc::clone(&shared), expects_import: false };
    let mut progress = Progress { next: Offset(0), at: Instant::now() };
    loop {
        let next = *shared.next.borrow();
        if next >= end {
            break;
        }
        if progress.has_stalled(next, Instant::now()) {
            let waited_s = STALLED_MAX.as_secs();
            let text = format!("the control log ends at {end}, and nothing came behind {next} in {waited_s} s");
            return Err(JournalError::Unavailable(text));
        }
        follower.turn(POLL)?;
    }
    follower.expects_import = shared.state().import().is_some();
    Ok((shared, follower))
}

impl Control {
    /// Reads the control log to its end, so that a fold that begins after this knows every rejection that was made before.
    /// Blocks.
    pub fn open(
        journal: Arc<dyn Journal>,
        payments: LogId,
        rejections: Rejections,
    ) -> Result<(Self, Follower), JournalError> {
        let (shared, follower) = read_to_the_end(journal.as_ref(), payments, rejections)?;
        Ok((Self { journal, shared }, follower))
    }

    /// The guards of the control log itself. Blocks.
    pub fn check(&self) -> Result<(), JournalError> {
        self.journal.check()
    }

    /// Every record of the log of payments that is rejected, by position.
    #[must_use]
    pub fn rejections(&self) -> Vec<Rejection> {
        self.shared.state().rejections().cloned().collect()
    }

    /// Rejects a record, for ever. Whether it may be rejected is for the caller to know: that its own fold has halted there.
    pub async fn reject(&self, new: NewRejection, patience: Duration) -> Result<Decided, AppendError> {
        let position = new.position;
        if self.shared.state().is_decided(self.shared.payments, position) {
            return Ok(Decided::Late);
        }
        let value = document::encode(self.shared.payments, &new).map_err(not_encoded)?;
        let key = document::entity_of(self.shared.payments, position);
        Ok(match self.decide(key, value, patience).await? {
            Some(offset) => self.shared.decided_at(position, offset),
            None => Decided::Unconfirmed,
        })
    }

    /// What was imported from another log, for those who act.
    #[must_use]
    pub fn imports(&self) -> Imports {
        self.shared.imports.clone()
    }

    /// The import into the log of payments, if there ever was one.
    #[must_use]
    pub fn import(&self) -> Option<Import> {
        self.shared.state().import().cloned()
    }

    /// Begins, finishes or adopts an import. Whether that may be done is for the caller to know.
    pub async fn step_import(
        &self,
        step: &Step,
        signed: &Signed,
        at: Timestamp,
        patience: Duration,
    ) -> Result<Decided<Import>, AppendError> {
        let value = import::encode(self.shared.payments, step, signed, at).map_err(not_encoded)?;
        let before = self.import();
        let key = import::entity_of(self.shared.payments);
        Ok(match self.decide(key, value, patience).await? {
            None => Decided::Unconfirmed,
            Some(_) => match self.import() {
                // Ours is the only one that says so, by this operator and at this time.
                Some(now) if Some(&now) != before.as_ref() && now.is_by(step, signed, at) => Decided::Effective(now),
                _ => Decided::Late,
            },
        })
    }

    /// Who may come in, for those who let in.
    #[must_use]
    pub fn keys(&self) -> Keys {
        self.shared.keys.clone()
    }

    /// Which browsers are told, for those who tell them.
    #[must_use]
    pub fn subscriptions(&self) -> Subscriptions {
        self.shared.subscriptions.clone()
    }

    /// Creates a key, gives it an end or revokes it. Whether that may be done is for the caller to know.
    pub async fn step_key(
        &self,
        id: &KeyId,
        step: &KeyStep,
        signed: &Signed,
        at: Timestamp,
        patience: Duration,
    ) -> Result<Decided<Key>, AppendError> {
        let version = key::next_version(self.shared.state().key(id));
        let value = key::encode(id, version, step, signed, at).map_err(not_encoded)?;
        Ok(match self.decide(key::entity_of(id), value, patience).await? {
            None => Decided::Unconfirmed,
            Some(_) => match self.shared.state().key(id) {
                Some(now) if now.is_by(version, signed, at) => Decided::Effective(now.clone()),
                _ => Decided::Late,
            },
        })
    }

    /// Appends a decision, and waits for this instance to fold it: `None` if it has not in time.
    async fn decide(&self, key: String, value: Vec<u8>, patience: Duration) -> Result<Option<Offset>, AppendError> {
        let headers = vec![("content-type".to_owned(), b"application/json".to_vec())];
        let record = NewRecord { partition: PARTITION, key: key.into_bytes(), headers, value };
        let position = self.journal.append(record).await?;
        let mut next = self.shared.next.subscribe();
        let folded = next.wait_for(|next| *next > position.offset);
        match tokio::time::timeout(patience, folded).await {
            Ok(Ok(_)) => Ok(Some(position.offset)),
            Ok(Err(_)) | Err(_) => Ok(None),
        }
    }
}

fn not_encoded(error: serde_json::Error) -> AppendError {
    AppendError::NotAppended(format!("the decision cannot be encoded: {error}"))
}

impl Follower {
    /// For the process that imports.
    #[must_use]
    pub fn expecting_an_import(mut self) -> Self {
        self.expects_import = true;
        self
    }

    /// Keeps up until told to stop. Blocks: give it a thread of its own.
    pub fn run(mut self, stop: &CancellationToken) -> Result<(), JournalError> {
        while !stop.is_cancelled() {
            self.turn(POLL)?;
            // What acts here does not know it in time, and might charge for what another log acts for.
            if !self.expects_import && self.shared.state().import().is_some() {
                return Err(JournalError::Refused(
                    "an import into the log of this running process has begun: restart the process when it is done"
                        .to_owned(),
                ));
            }
        }
        Ok(())
    }

    /// Folds what has come, and waits for something for so long at most.
    pub fn turn(&mut self, wait: Duration) -> Result<(), JournalError> {
        for item in self.tail.poll(BATCH_MAX, wait)? {
            let next = match item {
                TailItem::Record(record) => {
                    self.shared.fold(record.position.offset, &record.value);
                    record.position.offset.next()
                }
                TailItem::CaughtUp(next) => next.offset,
            };
            self.shared.next.send_replace(next);
        }
        Ok(())
    }
}

impl Shared {
    fn fold(&self, offset: Offset, value: &[u8]) {
        match self.state().fold(self.payments, offset, value) {
            Folded::Rejected(rejection) => {
                let Rejection { position, operator, .. } = rejection;
                tracing::warn!(%position, operator, control_offset = %offset, "a record of the log of payments is rejected");
                self.rejections.tell(position);
            }
            Folded::Imported(import) => {
                let (records, finished, adopted) = (import.archive.records, import.finished, import.adopted.is_some());
                tracing::warn!(records, finished, adopted, "the log of payments holds records that were imported");
                self.imports.tell(&import, Timestamp::now());
            }
            Folded::Key(key) => {
                let merchant = key.holder.merchant().map(MerchantId::as_str);
                let (scope, ended) = (key.holder.scope(), key.revoked.is_some() || key.expires_at.is_some());
                tracing::info!(key = %key.id, scope, merchant, ended, "a key of the HTTP face is known");
                self.keys.tell(key);
            }
            Folded::Webhooks(known) => self.webhooks.tell(known),
            Folded::Push(step) => {
                if !self.subscriptions.tell(&step) {
                    tracing::info!(control_offset = %offset, "one push subscription more than there may be has no effect");
                }
            }
            Folded::Schema(SchemaDecision { schema_id, refused, mark, .. }) => {
                let operator = mark.operator;
                tracing::warn!(
                    schema_id,
                    refused,
                    operator,
                    "of requests by an id of the schema registry it is decided"
                );
                self.refused_ids.tell(schema_id, refused);
            }
            Folded::NotForUs => {}
            Folded::Late => tracing::info!(control_offset = %offset, "a decision came after another about the same"),
            Folded::Unreadable(reason) => {
                tracing::error!(
                    control_offset = %offset,
                    reason,
                    "a record of the control log cannot be read and has no effect here; is this paylog older than another?"
                );
            }
        }
    }

    fn decided_at(&self, entity: Position, offset: Offset) -> Decided {
        let state = self.state();
        let mine = state.rejections().find(|known| known.position == entity && known.control_offset == offset);
        mine.cloned().map_or(Decided::Late, Decided::Effective)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::{Progress, STALLED_MAX};
    use crate::journal::Offset;

    /// Millions of records take longer than any wait for the next one.
    #[test]
    fn a_start_waits_for_as_long_as_there_is_progress() {
        let (begun, second) = (Instant::now(), Duration::from_secs(1));
        let mut progress = Progress { next: Offset(0), at: begun };
        for n in 1..10 {
            let now = begun + n * (STALLED_MAX - second);
            assert!(!progress.has_stalled(Offset(u64::from(n)), now), "{n}");
        }
        let last = begun + 9 * (STALLED_MAX - second);
        assert!(!progress.has_stalled(Offset(9), last + STALLED_MAX - second));
        assert!(progress.has_stalled(Offset(9), last + STALLED_MAX));
    }
}
