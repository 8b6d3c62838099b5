//! Where on the log something happened, by the log's own clock.

use crate::journal::{JournalError, Offset, Partition, Position, Reader};
use crate::payment::Timestamp;

/// Offsets behind one that holds no record that are looked at one by one; past them the log is read on.
const GAP_LOOKS: u64 = 8;

/// The first offset of the partition whose record the log took at `since` or later; its committed end if there is none. Blocks.
/// The log's clock runs forward, as far as brokers' clocks do.
pub fn offset_at(log: &dyn Reader, partition: Partition, since: Timestamp) -> Result<Offset, JournalError> {
    let end = log.ends(partition)?.committed.0;
    let (mut low, mut high) = (0, end);
    while low < high {
        let middle = low + (high - low) / 2;
        match first_from(log, partition, middle, high)? {
            Some((at, taken_us)) if taken_us < since.as_micros() => low = at + 1,
            // Nothing from the middle to here was taken before.
            Some(_) | None => high = middle,
        }
    }
    Ok(Offset(low))
}

/// The first record at `from` or behind it, before `to`, and when the log took it.
fn first_from(log: &dyn Reader, partition: Partition, from: u64, to: u64) -> Result<Option<(u64, i64)>, JournalError> {
    for offset in from..to.min(from.saturating_add(GAP_LOOKS)) {
        if let Some(record) = log.read(Position::new(partition, Offset(offset)))? {
            return Ok(Some((offset, record.appended_at_us)));
        }
    }
    let rest = from.saturating_add(GAP_LOOKS);
    if rest >= to {
        return Ok(None);
    }
    let first = log.originals(partition, Offset(rest), Offset(to))?.next().transpose()?;
    Ok(first.map(|record| (record.position.offset.0, record.timestamp_us)))
}

#[cfg(test)]
#[path = "since_tests.rs"]
mod tests;
