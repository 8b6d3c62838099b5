//! Who wants to know when something was folded. Nothing is queued for anyone: a watcher is woken, and reads the store from
//! where it stands. So a slow reader costs nothing, and a watcher that is not there costs less.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, Mutex};

use tokio::sync::watch;

use super::Scope;
use crate::lock::lock;
use crate::payment::{CustomerId, MerchantId, PaymentId};

/// Wakes when its payment, or something of its customer or merchant, was folded.
pub struct Watch {
    /// `None` only while it is dropped.
    seen: Option<watch::Receiver<()>>,
    of: Of,
    registry: Arc<Registry>,
}

type Customer = (MerchantId, CustomerId);

enum Of {
    Payment(PaymentId),
    Customer(Customer),
    Merchant(MerchantId),
}

#[derive(Default)]
pub(super) struct Registry {
    payments: Mutex<HashMap<PaymentId, watch::Sender<()>>>,
    customers: Mutex<HashMap<Customer, watch::Sender<()>>>,
    merchants: Mutex<HashMap<MerchantId, watch::Sender<()>>>,
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

    /// Wakes whoever watches one of these payments, its customer or its merchant.
    pub fn wake<'p>(&self, changed: impl Iterator<Item = (PaymentId, &'p MerchantId, &'p CustomerId)>) {
        let (payments, customers) = (lock(&self.payments), lock(&self.customers));
        let merchants = lock(&self.merchants);
        if payments.is_empty() && customers.is_empty() && merchants.is_empty() {
            return;
        }
        for (id, merchant, customer) in changed {
            if let Some(watchers) = payments.get(&id) {
                watchers.send_replace(());
            }
            if let Some(watchers) = merchants.get(merchant) {
                watchers.send_replace(());
            }
            if customers.is_empty() {
                continue;
            }
            if let Some(watchers) = customers.get(&(merchant.clone(), customer.clone())) {
                watchers.send_replace(());
            }
        }
    }

    /// Wakes everyone.
    pub fn wake_all(&self) {
        lock(&self.payments).values().for_each(|watchers| watchers.send_replace(()));
        lock(&self.customers).values().for_each(|watchers| watchers.send_replace(()));
        lock(&self.merchants).values().for_each(|watchers| watchers.send_replace(()));
    }
}

fn subscribe<K: Hash + Eq>(watched: &Mutex<HashMap<K, watch::Sender<()>>>, key: K) -> watch::Receiver<()> {
    lock(watched).entry(key).or_insert_with(|| watch::channel(()).0).subscribe()
}

/// The leaving watcher is let go under the lock, so that of two that leave at once the second sees that it is the last.
fn forget<K: Hash + Eq>(watched: &Mutex<HashMap<K, watch::Sender<()>>>, key: &K, leaving: Option<watch::Receiver<()>>) {
    let mut watched = lock(watched);
    drop(leaving);
    if watched.get(key).is_some_and(|watchers| watchers.receiver_count() == 0) {
        watched.remove(key);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::{Registry, Scope, lock};
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
        registry.wake([(payment_id("a"), &merchant, &customer)].into_iter());
        one.changed().await;
        of_customer.changed().await;
        all.changed().await;
        drop(one);
        assert_eq!(lock(&registry.payments).len(), 1, "the second still watches");
        drop((second, of_customer, all));
        assert!(lock(&registry.payments).is_empty() && lock(&registry.customers).is_empty());
        assert!(lock(&registry.merchants).is_empty());
    }
}
