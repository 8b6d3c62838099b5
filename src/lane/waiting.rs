//! Payments whose merchant has no room at the moment. They wait here, in memory, so that those of other merchants behind
//! them in the due index need not wait with them.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use crate::payment::{MerchantId, PaymentId, Timestamp};
use crate::projection::DueKey;

/// Payments that wait so, in one lane; beyond that the whole lane waits.
pub(super) const WAITING_MAX: usize = 20_000;

#[derive(Default)]
pub(super) struct Waiting {
    merchants: BTreeMap<MerchantId, Queue>,
    payments: HashSet<PaymentId>,
}

#[derive(Default)]
struct Queue {
    keys: BTreeSet<DueKey>,
    /// There is no room before then, whatever ends.
    until: Option<Timestamp>,
}

impl Waiting {
    pub fn has_room(&self) -> bool {
        self.payments.len() < WAITING_MAX
    }

    pub fn has(&self, id: PaymentId) -> bool {
        self.payments.contains(&id)
    }

    /// Must this merchant's next payment wait behind others?
    pub fn has_any_of(&self, merchant: &MerchantId) -> bool {
        self.merchants.contains_key(merchant)
    }

    pub fn push(&mut self, merchant: &MerchantId, key: DueKey, until: Option<Timestamp>) {
        let queue = self.merchants.entry(merchant.clone()).or_default();
        queue.keys.insert(key);
        queue.until = until;
        self.payments.insert(key.payment_id);
    }

    /// Behind those that wait already.
    pub fn join(&mut self, merchant: &MerchantId, key: DueKey) {
        if let Some(queue) = self.merchants.get_mut(merchant) {
            queue.keys.insert(key);
            self.payments.insert(key.payment_id);
        }
    }

    /// For whom there is no room yet.
    pub fn put_off(&mut self, merchant: &MerchantId, until: Option<Timestamp>) {
        if let Some(queue) = self.merchants.get_mut(merchant) {
            queue.until = until;
        }
    }

    /// Merchants that may have room: something has `ended`, or their time has come.
    pub fn ready(&self, now: Timestamp, ended: bool) -> Vec<MerchantId> {
        let ready = self.merchants.iter().filter(|(_, queue)| queue.until.map_or(ended, |until| until <= now));
        ready.map(|(merchant, _)| merchant.clone()).collect()
    }

    /// The first payment of this merchant leaves the queue.
    pub fn pop(&mut self, merchant: &MerchantId) -> Option<DueKey> {
        let queue = self.merchants.get_mut(merchant)?;
        let first = queue.keys.pop_first();
        if queue.keys.is_empty() {
            self.merchants.remove(merchant);
        }
        if let Some(key) = first {
            self.payments.remove(&key.payment_id);
        }
        first
    }

    pub fn clock_set_back(&mut self, now: Timestamp) {
        for queue in self.merchants.values_mut() {
            queue.until = queue.until.map(|until| until.min(now));
        }
    }

    pub fn wake_at(&self) -> Option<Timestamp> {
        self.merchants.values().filter_map(|queue| queue.until).min()
    }
}

#[cfg(test)]
mod tests {
    use super::Waiting;
    use crate::payment::MerchantId;
    use crate::payment::samples::{at, payment_id};
    use crate::projection::DueKey;

    #[test]
    fn a_merchants_payments_leave_in_their_order_when_there_may_be_room() {
        let key = |second, name: &str| DueKey { due_at: at(second), payment_id: payment_id(name) };
        let (a, b) = (MerchantId::parse("a").unwrap(), MerchantId::parse("b").unwrap());
        let mut waiting = Waiting::default();
        waiting.push(&a, key(2, "second"), None);
        waiting.join(&a, key(1, "first"));
        waiting.join(&b, key(1, "none"));
        waiting.push(&b, key(3, "third"), Some(at(50)));
        assert_eq!((waiting.wake_at(), waiting.has_any_of(&b)), (Some(at(50)), true));
        assert!(waiting.ready(at(10), false).is_empty());
        assert_eq!(waiting.ready(at(10), true), std::slice::from_ref(&a));
        assert_eq!(waiting.ready(at(50), true), [a.clone(), b.clone()]);
        assert_eq!(
            (waiting.pop(&a), waiting.pop(&a), waiting.pop(&a)),
            (Some(key(1, "first")), Some(key(2, "second")), None)
        );
        assert!(!waiting.has(payment_id("first")) && waiting.has(payment_id("third")) && !waiting.has_any_of(&a));
    }
}
