//! Where what is due begins. The store keeps a mark of each row that was removed until it compacts its files, and whoever looks
//! for the first that is due goes over all marks before it: a backlog would cost the square of its length. So it is remembered
//! what stood first when somebody looked last, and whatever becomes due before that.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::rows::{DUE_PREFIX_BYTES, behind};

/// Of each endpoint and partition; browsers are very many, and each has few rows.
#[derive(Default)]
pub(super) struct Firsts(Mutex<HashMap<Vec<u8>, First>>);

/// No row of its prefix stands before it.
struct First {
    key: Vec<u8>,
    /// How many rows were added so far: what was seen before one of them was added says nothing of that one.
    added: u64,
}

/// A look that has begun.
pub(super) struct Look {
    pub from: Vec<u8>,
    added: u64,
}

impl Firsts {
    pub fn begin(&self, prefix: &[u8]) -> Look {
        let mut firsts = self.lock();
        let first = firsts.entry(prefix.to_vec()).or_insert_with(|| First { key: prefix.to_vec(), added: 0 });
        Look { from: first.key.clone(), added: first.added }
    }

    /// What it has met first; `None` if there was nothing.
    pub fn end(&self, prefix: &[u8], look: &Look, first: Option<Vec<u8>>) {
        if let Some(known) = self.lock().get_mut(prefix).filter(|known| known.added == look.added) {
            known.key = first.unwrap_or_else(|| behind(prefix));
        }
    }

    /// A row is there now: whoever looks from now on sees it.
    pub fn added(&self, key: &[u8]) {
        let mut firsts = self.lock();
        if let Some(first) = key.get(..DUE_PREFIX_BYTES).and_then(|prefix| firsts.get_mut(prefix)) {
            first.added += 1;
            if key < first.key.as_slice() {
                first.key = key.to_vec();
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Vec<u8>, First>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::Firsts;
    use crate::control::EndpointId;
    use crate::deliveries::outcome::{Cause, WorkId};
    use crate::deliveries::rows::{DUE_PREFIX_BYTES, behind, due_key, due_prefix};
    use crate::journal::{Offset, Partition};
    use crate::payment::samples::at;

    const HERE: Partition = Partition(3);

    fn key(offset: u64) -> Vec<u8> {
        let target = EndpointId([1; 16]).into();
        due_key(&WorkId { target, partition: HERE, offset: Offset(offset), cause: Cause::Live }, at(0))
    }

    /// Between the two moments of a look somebody else has written.
    #[test]
    fn what_is_added_while_somebody_looks_is_not_passed_over() {
        let (firsts, prefix) = (Firsts::default(), due_prefix(HERE, EndpointId([1; 16]).into()));
        assert_eq!(prefix.len(), DUE_PREFIX_BYTES);
        firsts.added(&key(1));
        assert_eq!(firsts.begin(&prefix).from, prefix, "nobody has looked yet");
        let look = firsts.begin(&prefix);
        firsts.end(&prefix, &look, Some(key(5)));
        let look = firsts.begin(&prefix);
        assert_eq!(look.from, key(5));
        firsts.added(&key(9));
        firsts.end(&prefix, &look, None);
        assert_eq!(firsts.begin(&prefix).from, key(5), "it has not seen the one that came");
        firsts.added(&key(2));
        let look = firsts.begin(&prefix);
        assert_eq!(look.from, key(2));
        firsts.end(&prefix, &look, None);
        assert_eq!(firsts.begin(&prefix).from, behind(&prefix));
        firsts.added(&key(7));
        assert_eq!(firsts.begin(&prefix).from, key(7));
    }
}
