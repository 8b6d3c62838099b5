//! What was seen while it happened. Shared by all who look; nothing is judged here.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use paylog::checker::{Connection, GroupOffset, Operation};
use paylog::payment::Timestamp;

pub struct Recorder {
    began: Instant,
    pub operations: Log<Operation>,
    pub streams: Log<Connection>,
    pub offsets: Log<GroupOffset>,
    pub faults: Log<Fault>,
}

/// Something that was done to the system.
#[derive(Clone, Debug, serde::Serialize)]
pub struct Fault {
    pub at: Timestamp,
    pub second: f64,
    pub kind: &'static str,
    pub what: String,
}

/// A list that many write to.
pub struct Log<T>(Mutex<Vec<T>>);

impl Recorder {
    pub fn new() -> Self {
        Self {
            began: Instant::now(),
            operations: Log::default(),
            streams: Log::default(),
            offsets: Log::default(),
            faults: Log::default(),
        }
    }

    pub fn fault(&self, kind: &'static str, what: impl Into<String>) {
        let (what, second) = (what.into(), self.began.elapsed().as_secs_f64());
        println!("{second:7.1} s  {kind}: {what}");
        self.faults.push(Fault { at: Timestamp::now(), second, kind, what });
    }

    /// How often each kind of fault was done.
    pub fn faults_by_kind(&self) -> BTreeMap<&'static str, usize> {
        let mut kinds = BTreeMap::new();
        for fault in self.faults.all() {
            *kinds.entry(fault.kind).or_default() += 1;
        }
        kinds
    }
}

impl<T> Default for Log<T> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<T: Clone> Log<T> {
    pub fn push(&self, one: T) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(one);
    }

    pub fn all(&self) -> Vec<T> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}
