//! How many of something each may have at once: connections of an address, streams of a key.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, Mutex};

use crate::lock::lock;

/// Who has how many. Nobody is in it who has none.
pub struct Quota<K: Hash + Eq>(Mutex<HashMap<Arc<K>, usize>>);

/// One of those that `K` has, for as long as it lives.
pub struct Held<K: Hash + Eq> {
    of: Arc<K>,
    quota: Arc<Quota<K>>,
}

impl<K: Hash + Eq> Default for Quota<K> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<K: Hash + Eq> Quota<K> {
    /// `None` if `of` has `max` already.
    #[must_use]
    pub fn take(self: &Arc<Self>, of: K, max: usize) -> Option<Held<K>> {
        let mut all = lock(&self.0);
        let (of, has) = match all.get_key_value(&of) {
            Some((of, has)) => (Arc::clone(of), *has),
            None => (Arc::new(of), 0),
        };
        if has >= max {
            return None;
        }
        all.insert(Arc::clone(&of), has + 1);
        Some(Held { of, quota: Arc::clone(self) })
    }
}

impl<K: Hash + Eq> Drop for Held<K> {
    fn drop(&mut self) {
        let mut all = lock(&self.quota.0);
        if let Some(has) = all.get_mut(&self.of) {
            *has -= 1;
            if *has == 0 {
                all.remove(&self.of);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::{Quota, lock};

    #[test]
    fn each_has_its_own_and_what_is_given_back_is_there_again() {
        let quota = Arc::new(Quota::default());
        let one = quota.take("a", 2).unwrap();
        let two = quota.take("a", 2).unwrap();
        assert!(quota.take("a", 2).is_none() && quota.take("c", 0).is_none());
        let other = quota.take("b", 1).unwrap();
        drop(one);
        let again = quota.take("a", 2).unwrap();
        drop((two, other, again));
        assert!(lock(&quota.0).is_empty(), "nobody is kept who has none");
    }
}
