//! How high each partition is known to be: a guard that costs nothing and needs no minute.
//!
//! A record can only be appended above all that has been read before. One that lands lower is on another log: the topic was
//! deleted and made again, or was cut, and nothing that is appended to it is safe. The guards tell which, later.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use crate::journal::{JournalError, Offset, Partition, Position};

pub(super) struct Heights {
    /// By partition: the offset after the highest record that a reader has handed out.
    read: Vec<AtomicU64>,
    /// A record has landed where another one stood.
    replaced: AtomicBool,
}

impl Heights {
    pub(super) fn new(partitions: u32) -> Self {
        Self { read: (0..partitions).map(|_| AtomicU64::new(0)).collect(), replaced: AtomicBool::new(false) }
    }

    /// A record was read here.
    pub(super) fn raise(&self, read: Position) {
        if let Some(height) = self.read.get(read.partition.0 as usize) {
            height.fetch_max(read.offset.next().0, Ordering::Relaxed);
        }
    }

    pub(super) fn of(&self, partition: Partition) -> Offset {
        Offset(self.read.get(partition.0 as usize).map_or(0, |height| height.load(Ordering::Relaxed)))
    }

    /// A record was appended at `at`, when the partition was known to be `height` high.
    pub(super) fn judge(&self, height: Offset, at: Position) -> Result<Position, JournalError> {
        if at.offset >= height {
            return Ok(at);
        }
        self.replaced.store(true, Ordering::Release);
        tracing::error!(position = %at, %height, "a record landed where another one stood");
        Err(replaced())
    }

    /// Nothing may be appended any more once one record has landed where another stood.
    pub(super) fn check(&self) -> Result<(), JournalError> {
        if self.replaced.load(Ordering::Acquire) { Err(replaced()) } else { Ok(()) }
    }
}

fn replaced() -> JournalError {
    JournalError::Refused(
        "the topic has been replaced or cut under this process: a record was appended where another one stood; find out how, \
         then restore the topic, or start with an empty data directory"
            .into(),
    )
}

#[cfg(test)]
mod tests {
    use super::Heights;
    use crate::journal::{Offset, Partition, Position};

    #[test]
    fn a_record_that_lands_where_another_stood_is_noticed_and_remembered() {
        let (heights, p) = (Heights::new(2), Partition(1));
        heights.raise(Position::new(p, Offset(4)));
        heights.raise(Position::new(p, Offset(2)));
        assert_eq!(heights.of(p), Offset(5));
        assert!(heights.judge(heights.of(p), Position::new(p, Offset(5))).is_ok());
        assert!(heights.check().is_ok());
        assert!(heights.judge(heights.of(p), Position::new(p, Offset(0))).is_err());
        assert!(heights.check().is_err());
        assert_eq!(heights.of(Partition(7)), Offset(0), "a partition that the log does not have");
    }
}
