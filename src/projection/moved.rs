//! How far one batch takes each partition, and where a partition has stopped.

use std::collections::BTreeMap;

use super::reader::Recorded;
use crate::journal::{Offset, Partition};
use crate::schema::{Codec, DecodeError};

/// Where a partition stopped.
pub(super) struct Halted {
    pub at: Offset,
    /// What may be read when the schema registry has said more.
    pub unread: Option<DecodeError>,
}

impl Halted {
    /// Nothing is wrong: the answer of the registry is waited for.
    pub fn waits(&self) -> bool {
        matches!(self.unread, Some(DecodeError::NotRegistered(_)))
    }

    /// Has the registry said more since?
    pub fn is_past(&self, codec: &Codec) -> bool {
        self.unread.as_ref().is_some_and(|error| codec.is_past(error))
    }
}

/// How far one batch takes each partition.
pub(super) struct Moved<'i> {
    pub next: Offset,
    /// The last record on the way, if there was any.
    pub last: Option<&'i Recorded>,
}

pub(super) fn moves<'i>(
    moved: &mut BTreeMap<Partition, Moved<'i>>,
    partition: Partition,
    next: Offset,
    last: Option<&'i Recorded>,
) {
    let moved = moved.entry(partition).or_insert(Moved { next, last: None });
    moved.next = next;
    moved.last = last.or(moved.last);
}
