//! Every key that there is, for those who let in.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};

use tokio::sync::watch;

use super::key::{Key, KeyId};

/// Every key there is, as this instance knows it now. Cheap to clone; all clones are one.
#[derive(Clone)]
pub struct Keys(Arc<Shared>);

struct Shared {
    known: RwLock<HashMap<KeyId, Arc<Key>>>,
    changed: watch::Sender<()>,
}

impl Default for Keys {
    fn default() -> Self {
        Self(Arc::new(Shared { known: RwLock::default(), changed: watch::channel(()).0 }))
    }
}

impl Keys {
    #[must_use]
    pub fn find(&self, id: &KeyId) -> Option<Arc<Key>> {
        self.0.known.read().unwrap_or_else(PoisonError::into_inner).get(id).cloned()
    }

    /// By id.
    #[must_use]
    pub fn all(&self) -> Vec<Arc<Key>> {
        let known = self.0.known.read().unwrap_or_else(PoisonError::into_inner);
        let mut all: Vec<_> = known.values().cloned().collect();
        all.sort_by(|a, b| a.id.cmp(&b.id));
        all
    }

    /// Was there ever a key on the log, whatever has become of it? One that was revoked closes the door as one that is good.
    #[must_use]
    pub fn ever_any(&self) -> bool {
        let known = self.0.known.read().unwrap_or_else(PoisonError::into_inner);
        known.values().any(|key| key.stands_on_the_log())
    }

    /// Wakes whenever something has become of a key.
    #[must_use]
    pub fn changes(&self) -> watch::Receiver<()> {
        self.0.changed.subscribe()
    }

    /// Has a key known that stands on no log, or what a document has made of one that does.
    pub fn tell(&self, key: Key) {
        self.0.known.write().unwrap_or_else(PoisonError::into_inner).insert(key.id.clone(), Arc::new(key));
        self.0.changed.send_replace(());
    }
}

#[cfg(test)]
mod tests {
    use super::Keys;
    use crate::control::key::{Holder, Key, KeyDigest, KeyId, KeyStep, encode, fold};
    use crate::payment::Signed;
    use crate::payment::samples::at;

    #[test]
    fn what_is_told_of_keys_is_known_at_once_and_a_revoked_one_still_counts() {
        let (keys, id) = (Keys::default(), KeyId::parse("abcdefghijklmn27").unwrap());
        let changes = keys.changes();
        keys.tell(Key::of_this_process(id.clone(), Holder::Operator, KeyDigest([1; 32]), at(0)));
        assert!(changes.has_changed().unwrap() && !keys.ever_any(), "it stands on no log");
        let signed = Signed::new("ada", "a new shop").unwrap();
        let step = KeyStep::Create { holder: Holder::Operator, digest: KeyDigest([7; 32]) };
        let created = fold(None, &encode(&id, 1, &step, &signed, at(0)).unwrap()).unwrap();
        keys.tell(created.revoked());
        assert!(keys.ever_any() && !keys.find(&id).unwrap().is_good(at(0)));
        assert_eq!(keys.all().len(), 1);
    }
}
