//! What holds up requests of others, for those who are asked about it: which partition of them waits, for what and since when,
//! as intake says it; and of which schemas' ids an operator has said that nobody is to wait for them any more.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use crate::journal::{Partition, Position};
use crate::lock::lock;
use crate::payment::Timestamp;

/// A partition of requests that waits, at its first record that cannot go on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeldRequest {
    pub position: Position,
    pub since: Timestamp,
    pub waits_for: WaitsFor,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WaitsFor {
    /// The partition of the log that it belongs to has halted.
    HaltedPartition(Partition),
    /// The schema registry has not said what this id is.
    SchemaId(u32),
}

/// Everything that waits in this process, by the topic that it was read from.
#[derive(Clone, Debug, Default)]
pub struct Holding(Arc<Mutex<BTreeMap<String, Vec<HeldRequest>>>>);

impl Holding {
    /// What of this topic waits now.
    pub fn tell(&self, topic: &str, held: Vec<HeldRequest>) {
        let mut all = lock(&self.0);
        match all.get_mut(topic) {
            Some(before) => *before = held,
            None => drop(all.insert(topic.to_owned(), held)),
        }
    }

    /// This topic is read here no longer.
    pub fn leave(&self, topic: &str) {
        lock(&self.0).remove(topic);
    }

    /// `None` if this process reads no requests.
    #[must_use]
    pub fn all(&self) -> Option<Vec<(String, HeldRequest)>> {
        let all = lock(&self.0);
        let held = all.iter().flat_map(|(topic, held)| held.iter().map(|one| (topic.clone(), one.clone())));
        (!all.is_empty()).then(|| held.collect())
    }
}

/// Ids of schemas that no request waits for: the control log says which.
#[derive(Clone, Debug, Default)]
pub struct RefusedIds(Arc<RwLock<BTreeSet<u32>>>);

impl RefusedIds {
    pub fn tell(&self, id: u32, refused: bool) {
        let mut ids = self.0.write().unwrap_or_else(PoisonError::into_inner);
        if refused {
            ids.insert(id)
        } else {
            ids.remove(&id)
        };
    }

    #[must_use]
    pub fn contains(&self, id: u32) -> bool {
        self.0.read().unwrap_or_else(PoisonError::into_inner).contains(&id)
    }
}
