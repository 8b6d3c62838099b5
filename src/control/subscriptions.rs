//! Every push subscription that is not over, for those who take them in and those who tell them. There may be many: each
//! change touches what it is about and nothing else.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::ops::Bound;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::ids::SubscriptionId;
use super::keys::Keys;
use super::push::{KnownSubscription, NewSubscription, OF_SCOPE_MAX, PushScope, PushStep};
use crate::journal::Offset;
use crate::payment::{CustomerId, MerchantId, PaymentId, Timestamp};

/// Over which time changes are bounded.
pub const CHANGES_PERIOD: Duration = Duration::from_secs(60 * 60);
/// And how many there may be for one payment or one customer: each stands on the control log for ever.
pub const CHANGES_MAX: usize = 60;

/// How many there may be, for those who take them in. That of one payment or customer is the fold's too.
#[derive(Clone, Copy, Debug)]
pub struct SubscriptionLimits {
    pub of_scope: usize,
    pub of_merchant: usize,
    /// Over all merchants: each takes 2.5 KiB in every process, so that these take 600 MiB.
    pub all: usize,
    /// Changes of one payment or customer within [`CHANGES_PERIOD`].
    pub changes: usize,
}

/// Why there can be no more of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoRoom {
    OfScope,
    OfMerchant,
    All,
    Busy,
}

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

impl SubscriptionLimits {
    pub const OURS: Self = Self { of_scope: OF_SCOPE_MAX, of_merchant: 100_000, all: 250_000, changes: CHANGES_MAX };
}

impl Subscriptions {
    /// `None` if there is room for this one, or it takes the place of what it was before.
    #[must_use]
    pub fn no_room(&self, new: &NewSubscription, now: Timestamp, limits: SubscriptionLimits) -> Option<NoRoom> {
        let mut known = self.known();
        known.lately.forget(now);
        let whose = (new.merchant.clone(), new.scope.clone());
        let is_new = !known.all.contains_key(&new.id);
        let of_merchant = known.of_merchant.get(&new.merchant).map_or(0, BTreeSet::len);
        let changes = known.lately.counts.get(&whose).copied().unwrap_or_default();
        // What is at its limit has nobody ended either, to make room.
        let full = [
            (changes >= limits.changes, NoRoom::Busy),
            (is_new && known.count_of(&whose) >= limits.of_scope, NoRoom::OfScope),
            (is_new && of_merchant >= limits.of_merchant, NoRoom::OfMerchant),
            (is_new && known.all.len() >= limits.all, NoRoom::All),
        ];
        full.into_iter().find_map(|(is_full, why)| is_full.then_some(why))
    }

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

    /// Those of the same payment or customer that are over, and that nobody has ended yet.
    #[must_use]
    pub fn ended_of(&self, new: &NewSubscription, keys: &Keys, now: Timestamp) -> Vec<Arc<KnownSubscription>> {
        let known = self.known();
        let of = known.of.get(&(new.merchant.clone(), new.scope.clone())).into_iter().flatten();
        of.filter_map(|id| known.all.get(id)).filter(|known| known.subscription.has_ended(keys, now)).cloned().collect()
    }

    /// How many were sealed with another key than this one, and one key of theirs.
    #[must_use]
    pub fn of_another_key(&self, ours: &str) -> Option<(usize, String)> {
        let known = self.known();
        let mut others = known.all.values().map(|known| &known.subscription.sealed.key_id).filter(|id| *id != ours);
        let first = others.next()?.clone();
        Some((1 + others.count(), first))
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

    /// `false` if it has no effect: there are as many of its payment or customer as there may be. Instances that were asked at
    /// once can each have believed that there was room, and here all of them come to the same. It depends on nothing but what
    /// stands on the log before, and no clock; so the bound stays what it is for as long as there are instances of two versions.
    pub(super) fn tell(&self, step: &PushStep) -> bool {
        let mut known = self.known();
        match step {
            PushStep::Created(created) => {
                let NewSubscription { id, merchant, scope, .. } = &created.subscription;
                let is_new = !known.all.contains_key(id);
                if is_new && known.count_of(&(merchant.clone(), scope.clone())) >= OF_SCOPE_MAX {
                    return false;
                }
                let before = known.all.get(id).filter(|before| created.renews(before)).map(|before| before.since);
                known.remove(*id);
                match before {
                    Some(since) => known.insert(&Arc::new(KnownSubscription { since, ..created.as_ref().clone() })),
                    None => known.insert(created),
                }
            }
            PushStep::Removed(id, at) => {
                if let Some(whose) = known.remove(*id) {
                    known.lately.note(*at, whose);
                }
            }
        }
        true
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Known {
    fn count_of(&self, whose: &Whose) -> usize {
        self.of.get(whose).map_or(0, BTreeSet::len)
    }

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
