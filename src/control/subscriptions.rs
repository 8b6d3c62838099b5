//! Every push subscription that is not over, for those who take them in and those who tell them. There may be many: each
//! change touches what it is about and nothing else.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::ops::Bound;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::ids::SubscriptionId;
use super::push::{KnownSubscription, PushScope, PushStep};
use crate::journal::Offset;
use crate::payment::{CustomerId, MerchantId, PaymentId, Timestamp};

/// Over which time changes are bounded.
pub const CHANGES_PERIOD: Duration = Duration::from_secs(60 * 60);
/// And how many there may be for one payment or one customer: each stands on the control log for ever.
pub const CHANGES_MAX: usize = 60;

/// Cheap to clone; all clones are one.
#[derive(Clone, Default)]
pub struct Subscriptions(Arc<Mutex<Known>>);

/// A customer's name is its merchant's.
type Whose = (MerchantId, PushScope);

#[derive(Default)]
struct Known {
    all: BTreeMap<SubscriptionId, Arc<KnownSubscription>>,
    of: HashMap<Whose, BTreeSet<SubscriptionId>>,
    of_merchant: HashMap<MerchantId, BTreeSet<SubscriptionId>>,
    /// By where they were created on the control log.
    by_offset: BTreeMap<Offset, SubscriptionId>,
    lately: Lately,
}

/// Changes of the last hour, by the times that they bear.
#[derive(Default)]
struct Lately {
    list: VecDeque<(Timestamp, Whose)>,
    counts: HashMap<Whose, usize>,
}

impl Subscriptions {
    #[must_use]
    pub fn find(&self, id: SubscriptionId) -> Option<Arc<KnownSubscription>> {
        self.known().all.get(&id).cloned()
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.known().all.is_empty()
    }

    /// Those who are told of this payment: for its own sake, or for its customer's.
    #[must_use]
    pub fn who_hear(
        &self,
        merchant: &MerchantId,
        payment: PaymentId,
        customer: &CustomerId,
    ) -> Vec<Arc<KnownSubscription>> {
        let known = self.known();
        let scopes = [PushScope::Payment(payment), PushScope::Customer(customer.clone())];
        let of = scopes.into_iter().filter_map(|scope| known.of.get(&(merchant.clone(), scope)));
        of.flatten().filter_map(|id| known.all.get(id).cloned()).collect()
    }

    /// Those created at or behind this place on the control log, in its order, at most `max`.
    #[must_use]
    pub fn since(&self, from: Offset, max: usize) -> Vec<Arc<KnownSubscription>> {
        let known = self.known();
        known.by_offset.range(from..).take(max).filter_map(|(_, id)| known.all.get(id).cloned()).collect()
    }

    /// A merchant's, by id, behind this one, at most `max`.
    #[must_use]
    pub fn of_merchant(
        &self,
        merchant: &MerchantId,
        after: Option<SubscriptionId>,
        max: usize,
    ) -> Vec<Arc<KnownSubscription>> {
        let known = self.known();
        let Some(ids) = known.of_merchant.get(merchant) else { return Vec::new() };
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        ids.range((from, Bound::Unbounded)).take(max).filter_map(|id| known.all.get(id).cloned()).collect()
    }

    #[must_use]
    pub fn count_of_merchant(&self, merchant: &MerchantId) -> usize {
        self.known().of_merchant.get(merchant).map_or(0, BTreeSet::len)
    }

    #[must_use]
    pub fn count_of(&self, merchant: &MerchantId, scope: &PushScope) -> usize {
        self.known().of.get(&(merchant.clone(), scope.clone())).map_or(0, BTreeSet::len)
    }

    /// Were there so many changes lately that there are no more for now?
    #[must_use]
    pub fn is_busy(&self, merchant: &MerchantId, scope: &PushScope, now: Timestamp) -> bool {
        let mut known = self.known();
        known.lately.forget(now);
        known.lately.counts.get(&(merchant.clone(), scope.clone())).is_some_and(|count| *count >= CHANGES_MAX)
    }

    pub(super) fn tell(&self, step: &PushStep) {
        let mut known = self.known();
        match step {
            PushStep::Created(created) => {
                known.remove(created.subscription.id);
                known.insert(created);
            }
            PushStep::Removed(id, at) => {
                if let Some(whose) = known.remove(*id) {
                    known.lately.note(*at, whose);
                }
            }
        }
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Known {
    fn insert(&mut self, known: &Arc<KnownSubscription>) {
        let (id, merchant) = (known.subscription.id, known.subscription.merchant.clone());
        let whose = (merchant.clone(), known.subscription.scope.clone());
        self.of_merchant.entry(merchant).or_default().insert(id);
        self.of.entry(whose.clone()).or_default().insert(id);
        self.by_offset.insert(known.control_offset, id);
        self.all.insert(id, Arc::clone(known));
        self.lately.note(known.created_at, whose);
    }

    fn remove(&mut self, id: SubscriptionId) -> Option<Whose> {
        let known = self.all.remove(&id)?;
        self.by_offset.remove(&known.control_offset);
        let whose = (known.subscription.merchant.clone(), known.subscription.scope.clone());
        leave(&mut self.of_merchant, &whose.0, id);
        leave(&mut self.of, &whose, id);
        Some(whose)
    }
}

fn leave<K: std::hash::Hash + Eq>(sets: &mut HashMap<K, BTreeSet<SubscriptionId>>, key: &K, id: SubscriptionId) {
    let Some(set) = sets.get_mut(key) else { return };
    set.remove(&id);
    if set.is_empty() {
        sets.remove(key);
    }
}

impl Lately {
    fn note(&mut self, at: Timestamp, whose: Whose) {
        self.forget(at);
        *self.counts.entry(whose.clone()).or_default() += 1;
        self.list.push_back((at, whose));
    }

    fn forget(&mut self, now: Timestamp) {
        while let Some((_, whose)) = self.list.pop_front_if(|(at, _)| now.since(*at) >= CHANGES_PERIOD) {
            if let Some(count) = self.counts.get_mut(&whose) {
                *count -= 1;
                if *count == 0 {
                    self.counts.remove(&whose);
                }
            }
        }
    }
}
