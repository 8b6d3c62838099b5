//! Who wants to know when something was folded. Nothing is queued for anyone: a watcher is woken, and reads the store from
//! where it stands. So a slow reader costs nothing, and a watcher that is not there costs less.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, Mutex};

use tokio::sync::watch;

use super::{Offsets, Scope};
use crate::journal::{Partition, Position};
use crate::lock::lock;
use crate::payment::{CustomerId, MerchantId, PaymentId};

/// Wakes when its payment, or something of its customer or merchant, was folded.
pub struct Watch {
    /// `None` only while it is dropped.
    seen: Option<watch::Receiver<Ends>>,
    of: Of,
    registry: Arc<Registry>,
}

/// Where the last of what was folded of a scope ends, in each partition that has any of it: only of what was folded while somebody
/// watched. By partition.
#[derive(Default)]
struct Ends(Vec<Position>);

type Customer = (MerchantId, CustomerId);

enum Of {
    Payment(PaymentId),
    Customer(Customer),
    Merchant(MerchantId),
}

#[derive(Default)]
pub(super) struct Registry {
    payments: Mutex<HashMap<PaymentId, watch::Sender<Ends>>>,
    customers: Mutex<HashMap<Customer, watch::Sender<Ends>>>,
    merchants: Mutex<HashMap<MerchantId, watch::Sender<Ends>>>,
}

impl Watch {
    /// Returns once something was folded since this was made or last returned; at once, if it already has been. Never
    /// returns if nothing ever is.
    pub async fn changed(&mut self) {
        let changed = match &mut self.seen {
            Some(seen) => seen.changed().await.is_ok(),
            None => false,
        };
        if !changed {
            std::future::pending::<()>().await;
        }
    }

    /// Would [`Watch::changed`] return at once?
    #[must_use]
    pub fn has_changed(&self) -> bool {
        self.seen.as_ref().is_some_and(|seen| seen.has_changed().unwrap_or_default())
    }

    /// What was folded until now is not waited for any more.
    pub fn see(&mut self) {
        if let Some(seen) = &mut self.seen {
            seen.mark_unchanged();
        }
    }

    /// The partitions in which something of its scope was folded past `cursor` since this was made. For one payment, none.
    pub(super) fn past(&self, cursor: &Offsets) -> Vec<Partition> {
        let Some(seen) = &self.seen else { return Vec::new() };
        let ends = seen.borrow();
        ends.0.iter().filter(|end| end.offset > cursor.of(end.partition)).map(|end| end.partition).collect()
    }
}

impl Ends {
    fn advance(&mut self, end: Position) {
        match self.0.binary_search_by_key(&end.partition, |known| known.partition) {
            Ok(at) => self.0[at].offset = self.0[at].offset.max(end.offset),
            Err(at) => self.0.insert(at, end),
        }
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        match &self.of {
            Of::Payment(id) => forget(&self.registry.payments, id, self.seen.take()),
            Of::Customer(customer) => forget(&self.registry.customers, customer, self.seen.take()),
            Of::Merchant(merchant) => forget(&self.registry.merchants, merchant, self.seen.take()),
        }
    }
}

impl Registry {
    pub fn payment(self: &Arc<Self>, id: PaymentId) -> Watch {
        let seen = subscribe(&self.payments, id);
        Watch { seen: Some(seen), of: Of::Payment(id), registry: Arc::clone(self) }
    }

    pub fn scope(self: &Arc<Self>, scope: &Scope) -> Watch {
        let merchant = scope.merchant.clone();
        let (seen, of) = match &scope.customer {
            Some(customer) => {
                let customer = (merchant, customer.clone());
                (subscribe(&self.customers, customer.clone()), Of::Customer(customer))
            }
            None => (subscribe(&self.merchants, merchant.clone()), Of::Merchant(merchant)),
        };
        Watch { seen: Some(seen), of, registry: Arc::clone(self) }
    }

    /// Wakes whoever watches one of these payments, its customer or its merchant. Each comes with where its last event ends.
    pub fn wake<'p>(&self, changed: impl Iterator<Item = (PaymentId, &'p MerchantId, &'p CustomerId, Position)>) {
        let (payments, customers) = (lock(&self.payments), lock(&self.customers));
        let merchants = lock(&self.merchants);
        if payments.is_empty() && customers.is_empty() && merchants.is_empty() {
            return;
        }
        for (id, merchant, customer, end) in changed {
            if let Some(watchers) = payments.get(&id) {
                watchers.send_modify(|_| ());
            }
            if let Some(watchers) = merchants.get(merchant) {
                watchers.send_modify(|ends| ends.advance(end));
            }
            if customers.is_empty() {
                continue;
            }
            if let Some(watchers) = customers.get(&(merchant.clone(), customer.clone())) {
                watchers.send_modify(|ends| ends.advance(end));
            }
        }
    }

    /// Wakes everyone: anything before these offsets may have been folded unseen.
    pub fn wake_all(&self, ends: &Offsets) {
        let wake = |watchers: &watch::Sender<Ends>| {
            watchers.send_modify(|known| ends.positions().for_each(|end| known.advance(end)));
        };
        lock(&self.payments).values().for_each(wake);
        lock(&self.customers).values().for_each(wake);
        lock(&self.merchants).values().for_each(wake);
    }
}

fn subscribe<K: Hash + Eq>(watched: &Mutex<HashMap<K, watch::Sender<Ends>>>, key: K) -> watch::Receiver<Ends> {
    lock(watched).entry(key).or_insert_with(|| watch::channel(Ends::default()).0).subscribe()
}

/// The leaving watcher is let go under the lock, so that of two that leave at once the second sees that it is the last.
fn forget<K: Hash + Eq>(
    watched: &Mutex<HashMap<K, watch::Sender<Ends>>>,
    key: &K,
    leaving: Option<watch::Receiver<Ends>>,
) {
    let mut watched = lock(watched);
    drop(leaving);
    if watched.get(key).is_some_and(|watchers| watchers.receiver_count() == 0) {
        watched.remove(key);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::{Offsets, Registry, Scope, lock};
    use crate::journal::{Offset, Partition, Position};
    use crate::payment::samples::payment_id;
    use crate::payment::{CustomerId, MerchantId};

    #[tokio::test]
    async fn a_wake_before_the_wait_is_not_missed_and_nobody_left_leaves_nothing() {
        let registry = Arc::new(Registry::default());
        let (merchant, customer) = (MerchantId::default(), CustomerId::parse("cus_1").unwrap());
        let mut one = registry.payment(payment_id("a"));
        let scope = |customer| registry.scope(&Scope { merchant: merchant.clone(), customer });
        let (mut of_customer, mut all) = (scope(Some(customer.clone())), scope(None));
        let second = registry.payment(payment_id("a"));
        let end = |partition, offset| Position::new(Partition(partition), Offset(offset));
        registry.wake([(payment_id("a"), &merchant, &customer, end(1, 8))].into_iter());
        assert!(one.has_changed() && of_customer.has_changed() && all.has_changed());
        one.changed().await;
        of_customer.changed().await;
        all.changed().await;
        assert!(!one.has_changed() && !of_customer.has_changed() && !all.has_changed());
        let mut cursor = Offsets::start(3);
        assert_eq!((of_customer.past(&cursor), all.past(&cursor)), (vec![Partition(1)], vec![Partition(1)]));
        cursor.advance(end(1, 8));
        assert_eq!(all.past(&cursor), []);
        cursor.advance(end(2, 5));
        registry.wake_all(&cursor);
        assert_eq!(all.past(&Offsets::start(3)), [Partition(1), Partition(2)], "whatever was folded in silence");
        assert!(all.has_changed() && all.past(&cursor).is_empty());
        drop(one);
        assert_eq!(lock(&registry.payments).len(), 1, "the second still watches");
        drop((second, of_customer, all));
        assert!(lock(&registry.payments).is_empty() && lock(&registry.customers).is_empty());
        assert!(lock(&registry.merchants).is_empty());
    }
}
