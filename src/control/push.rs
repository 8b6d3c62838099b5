//! Browsers that are told of a payment or of a customer's payments by Web Push, on the control log.
//!
//! ```json
//! {"type": "PushSubscriptionCreated", "entity": "push-subscription/ps_...", "version": 1, "log": "<log>", "at": "...",
//!  "id": "ps_...", "merchant_id": "acme", "scope": {"payment": {"payment_id": "pay_...", "from": 7}},
//!  "service": "https://push.example", "sealed": {"key_id": "...", "sealed": "..."}}
//! {"type": "PushSubscriptionRemoved", "entity": "push-subscription/ps_...", "version": 2, "log": "<log>", "at": "...",
//!  "reason": "gone"}
//! ```
//!
//! One that was made with a stream token says when it ends, and by which key's token it was made: it ends with that too
//! (`"ends_at": "...", "key": "..."`).
//!
//! Where a browser is written to, and its keys, are sealed. Once removed nothing of it is known but that it was there. The same
//! browser may come again: that is the next version. `from` is where the rows of payments were when it subscribed.

use std::sync::Arc;
use std::time::Duration;

use super::ids::SubscriptionId;
use super::key::KeyId;
use super::keys::Keys;
use super::seal::Sealed;
use super::telling::Document;
use super::{Control, Decided};
use crate::journal::{AppendError, LogId, Offset, Partition, Position};
use crate::payment::{CustomerId, MerchantId, PaymentId, Timestamp};

/// Subscriptions for one payment or one customer that are not over; the fold knows no more.
pub(super) const OF_SCOPE_MAX: usize = 10;

/// So long before its end a subscription may be over for somebody whose clock is ahead, or who reads the log late.
const NEARLY_OVER: Duration = Duration::from_secs(60 * 60);

const ENTITY: &str = "push-subscription/";
const CREATED: &str = "PushSubscriptionCreated";
const REMOVED: &str = "PushSubscriptionRemoved";

/// What a browser is told of.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum PushScope {
    Payment(PaymentId),
    Customer(CustomerId),
}

/// From where on: what stands before is not for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PushFrom {
    /// Of the partition of its payment.
    One(Offset),
    /// By partition.
    Each(Vec<Offset>),
}

/// For how long one is told that was subscribed with a stream token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lease {
    pub ends_at: Timestamp,
    /// The key that the token was asked for with. Once it is revoked nobody is told any more whom it let in.
    pub key: Option<KeyId>,
}

/// A browser that asks to be told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewSubscription {
    pub id: SubscriptionId,
    pub merchant: MerchantId,
    pub scope: PushScope,
    pub from: PushFrom,
    /// The origin of its push service, to be shown.
    pub service: String,
    /// Its endpoint and its keys.
    pub sealed: Sealed,
    /// `None` if its merchant itself had it told: it is over when somebody says so.
    pub lease: Option<Lease>,
}

/// One as it is now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KnownSubscription {
    pub subscription: NewSubscription,
    pub created_at: Timestamp,
    pub version: u64,
    /// Where on the control log it was created.
    pub control_offset: Offset,
    /// And where it came first, if it was only renewed since.
    pub since: Offset,
}

/// Why one is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PushRemoval {
    /// Somebody asked.
    Asked,
    /// Its payment has ended, and it was told so, or could not be.
    Told,
    /// Its time is over, or the key that stands behind it was revoked.
    Ended,
    /// Its push service says that there is no such browser.
    Gone,
    /// Nothing but failure, for days.
    Failing,
}

/// What a document does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum PushStep {
    Created(Arc<KnownSubscription>),
    Removed(SubscriptionId, Timestamp),
}

#[derive(serde::Serialize, serde::Deserialize)]
struct CreatedBody {
    id: SubscriptionId,
    merchant_id: String,
    scope: ScopeBody,
    service: String,
    sealed: Sealed,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    ends_at: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    key: Option<String>,
}

#[derive(serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
enum ScopeBody {
    Payment { payment_id: String, from: u64 },
    Customer { customer_id: String, from: Vec<u64> },
}

#[derive(serde::Serialize, serde::Deserialize)]
struct RemovedBody {
    reason: String,
}

impl PushScope {
    /// What it is, for whoever hashes or shows it.
    #[must_use]
    pub fn text(&self) -> String {
        match self {
            Self::Payment(id) => format!("payment:{id}"),
            Self::Customer(id) => format!("customer:{}", id.as_str()),
        }
    }
}

impl PushFrom {
    #[must_use]
    pub fn of(&self, partition: Partition) -> Offset {
        match self {
            Self::One(offset) => *offset,
            Self::Each(offsets) => offsets.get(partition.0 as usize).copied().unwrap_or_default(),
        }
    }
}

impl NewSubscription {
    #[must_use]
    pub fn covers(&self, position: Position) -> bool {
        position.offset >= self.from.of(position.partition)
    }

    /// Is it not to be told any more, whatever stands on the log? A key that nobody knows here is not revoked.
    #[must_use]
    pub fn has_ended(&self, keys: &Keys, now: Timestamp) -> bool {
        self.lease.as_ref().is_some_and(|lease| {
            let key = lease.key.as_ref().and_then(|id| keys.find(id));
            lease.ends_at <= now || key.is_some_and(|key| key.revoked.is_some())
        })
    }
}

impl KnownSubscription {
    /// Is it what that was, for longer? Then it is told from where it was before. Not if some notifier may have taken it for
    /// over by then, and have dropped what it was to be told: where its time was nearly over, by whichever clock, or where
    /// another key stands behind it, as when the one before has gone.
    pub(super) fn renews(&self, before: &Self) -> bool {
        let is_of = |known: &Self| (known.subscription.scope.clone(), known.subscription.from.clone());
        let lasts = before.subscription.lease.as_ref().is_none_or(|lease| {
            let key = self.subscription.lease.as_ref().and_then(|lease| lease.key.as_ref());
            self.created_at.plus(NEARLY_OVER) < lease.ends_at && (lease.key.is_none() || lease.key.as_ref() == key)
        });
        is_of(self) == is_of(before) && lasts
    }
}

impl PushRemoval {
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Asked => "asked",
            Self::Told => "told",
            Self::Ended => "ended",
            Self::Gone => "gone",
            Self::Failing => "failing",
        }
    }
}

pub(super) fn knows(kind: &str) -> bool {
    [CREATED, REMOVED].contains(&kind)
}

/// What a document whose version is the next of its entity does; `None` if it is about another log.
pub(super) fn fold(log: LogId, offset: Offset, kind: &str, value: &[u8]) -> Result<Option<PushStep>, String> {
    if kind == CREATED { created(log, offset, value) } else { removed(log, value) }
}

fn created(log: LogId, offset: Offset, value: &[u8]) -> Result<Option<PushStep>, String> {
    let Some(document) = Document::<CreatedBody>::read(log, value)? else { return Ok(None) };
    let CreatedBody { id, merchant_id, scope, service, sealed, ends_at, key } = document.body;
    if subscription_in(&document.entity) != Some(id) {
        return Err("it names one subscription as its entity and tells of another".to_owned());
    }
    let (scope, from) = match scope {
        ScopeBody::Payment { payment_id, from } => {
            (PaymentId::parse(&payment_id).map(PushScope::Payment), PushFrom::One(Offset(from)))
        }
        ScopeBody::Customer { customer_id, from } => {
            let from = from.into_iter().map(Offset).collect();
            (CustomerId::parse(&customer_id).ok().map(PushScope::Customer), PushFrom::Each(from))
        }
    };
    let merchant = MerchantId::parse(&merchant_id).map_err(|_| "its merchant is none".to_owned())?;
    let scope = scope.ok_or_else(|| "it does not say of whom it is to tell".to_owned())?;
    let created_at = Timestamp::parse(&document.at).ok_or_else(|| "its time cannot be read".to_owned())?;
    let lease = ends_at.map(|ends_at| lease_of(&ends_at, key.as_deref())).transpose()?;
    let subscription = NewSubscription { id, merchant, scope, from, service, sealed, lease };
    let version = document.version;
    let known = KnownSubscription { subscription, created_at, version, control_offset: offset, since: offset };
    Ok(Some(PushStep::Created(Arc::new(known))))
}

fn lease_of(ends_at: &str, key: Option<&str>) -> Result<Lease, String> {
    let ends_at = Timestamp::parse(ends_at).ok_or_else(|| "its end cannot be read".to_owned())?;
    let parse = |id| KeyId::parse(id).ok_or_else(|| "the key behind it is none".to_owned());
    Ok(Lease { ends_at, key: key.map(parse).transpose()? })
}

fn removed(log: LogId, value: &[u8]) -> Result<Option<PushStep>, String> {
    let Some(document) = Document::<RemovedBody>::read(log, value)? else { return Ok(None) };
    let id = subscription_in(&document.entity).ok_or_else(|| "its entity is no subscription".to_owned())?;
    let at = Timestamp::parse(&document.at).ok_or_else(|| "its time cannot be read".to_owned())?;
    Ok(Some(PushStep::Removed(id, at)))
}

fn subscription_in(entity: &str) -> Option<SubscriptionId> {
    SubscriptionId::parse(entity.strip_prefix(ENTITY)?)
}

impl From<&NewSubscription> for CreatedBody {
    fn from(new: &NewSubscription) -> Self {
        let scope = match (&new.scope, &new.from) {
            (PushScope::Payment(id), from) => {
                ScopeBody::Payment { payment_id: id.to_string(), from: from.of(Partition(0)).0 }
            }
            (PushScope::Customer(id), PushFrom::Each(from)) => ScopeBody::Customer {
                customer_id: id.as_str().to_owned(),
                from: from.iter().map(|offset| offset.0).collect(),
            },
            (PushScope::Customer(id), PushFrom::One(_)) => {
                ScopeBody::Customer { customer_id: id.as_str().to_owned(), from: Vec::new() }
            }
        };
        let (service, sealed) = (new.service.clone(), new.sealed.clone());
        let ends_at = new.lease.as_ref().map(|lease| lease.ends_at.to_string());
        let key = new.lease.as_ref().and_then(|lease| Some(lease.key.as_ref()?.as_str().to_owned()));
        Self { id: new.id, merchant_id: new.merchant.as_str().to_owned(), scope, service, sealed, ends_at, key }
    }
}

// === for those who decide ===

impl Control {
    /// Has a browser told from now on. Of two that ask the same at once one is late, and the other one's stands.
    pub async fn subscribe(
        &self,
        new: &NewSubscription,
        at: Timestamp,
        patience: Duration,
    ) -> Result<Decided<Arc<KnownSubscription>>, AppendError> {
        let entity = format!("{ENTITY}{}", new.id);
        let value = self.push_document(CREATED, &entity, at, CreatedBody::from(new))?;
        let Some(offset) = self.decide(entity, value, patience).await? else { return Ok(Decided::Unconfirmed) };
        let mine = self.subscriptions().find(new.id).filter(|known| known.control_offset == offset);
        Ok(mine.map_or(Decided::Late, Decided::Effective))
    }

    /// Has it told of nothing more. Whoever asks for it after another changes nothing.
    pub async fn unsubscribe(
        &self,
        known: &KnownSubscription,
        reason: PushRemoval,
        at: Timestamp,
        patience: Duration,
    ) -> Result<Decided<()>, AppendError> {
        let id = known.subscription.id;
        let is_as_it_was = || self.subscriptions().find(id).is_some_and(|now| now.version == known.version);
        if !is_as_it_was() {
            return Ok(Decided::Late);
        }
        let entity = format!("{ENTITY}{id}");
        let value = self.push_document(REMOVED, &entity, at, RemovedBody { reason: reason.name().to_owned() })?;
        match self.decide(entity, value, patience).await? {
            None => Ok(Decided::Unconfirmed),
            Some(_) if is_as_it_was() => Ok(Decided::Late),
            Some(_) => Ok(Decided::Effective(())),
        }
    }

    fn push_document<T: serde::Serialize>(
        &self,
        kind: &str,
        entity: &str,
        at: Timestamp,
        body: T,
    ) -> Result<Vec<u8>, AppendError> {
        let version = self.shared.state().version(entity) + 1;
        self.document(kind, entity, version, at, body)
    }
}

#[cfg(test)]
#[path = "push_tests.rs"]
mod tests;
