//! Reads the log to where it ends, and sorts its records by payment. What they say is not looked at yet.

use std::time::{Duration, Instant};

use super::super::progress::{Last, hash_of};
use super::super::reader::POLL;
use super::super::rows::{decode, encode};
use super::super::{FoldError, Offsets};
use super::{Bulk, Gathered};
use crate::journal::{Offset, Partition, Position, Reader, Record, Seen};
use crate::payment::PaymentId;
use crate::priority::worked;
use crate::store::{Merge, Sorter, StoreError};

pub(super) enum Ended {
    /// All records, sorted, and how many they are.
    There(Gathered, Merge, u64),
    Stopped,
    NotSorted(&'static str),
}

/// What a record is sorted by, and so the order in which it is folded: its payment, then its offset.
pub(super) const KEY_BYTES: usize = PAYMENT_BYTES + 8;
pub(super) const PAYMENT_BYTES: usize = 16;
/// What is in memory goes to a run after so long, full or not: it is what a kill costs.
const RUN_MAX: Duration = Duration::from_secs(2);
/// In front of what stands on the log: its partition, and when the log took it.
pub(super) const FRAME_BYTES: usize = 12;

pub(super) fn gather(bulk: &Bulk<'_>) -> Result<Ended, FoldError> {
    let to = bulk.to;
    let (mut sorter, note) = Sorter::open(&bulk.runs(), bulk.run_bytes)?;
    let mut gathered = match note.map(|note| decode::<Gathered>(&note)).transpose()? {
        Some(gathered) if gathered.is_of(bulk.log) => gathered,
        Some(_) => return Err(StoreError::Damaged("sorted runs are of another log".to_owned()).into()),
        None => Gathered::nothing_of(bulk.log),
    };
    let from: Vec<Offset> = gathered.partitions.iter().map(|(next, _)| Offset(*next)).collect();
    let mut tail = bulk.log.tail(&from)?;
    let (mut lasts, mut rotated) = (vec![None; from.len()], Instant::now());
    (bulk.after)(Duration::ZERO, gathered.offsets().sum() / 3);
    while !gathered.offsets().covers(to) {
        if bulk.stop.is_cancelled() {
            // What is in memory is read again.
            return Ok(Ended::Stopped);
        }
        let (before, mut taken) = (worked(), Ok(()));
        let items = tail.each(bulk.batch_max, POLL, &mut |seen| {
            if taken.is_ok() {
                taken = gathered.take(seen, to, &mut lasts, &mut sorter);
            }
        })?;
        if let Err(why) = taken {
            return Ok(Ended::NotSorted(why));
        }
        if items > 0 {
            if sorter.is_full() || rotated.elapsed() > RUN_MAX {
                sorter.rotate(encode(gathered.with(&lasts))?)?;
                rotated = Instant::now();
            }
            (bulk.after)(worked() - before, gathered.offsets().sum() / 3);
        }
    }
    let rows = sorter.rows();
    let merge = sorter.merge(&encode(gathered.with(&lasts))?)?;
    tracing::info!(store = %bulk.store.display(), records = rows, "the log is sorted by payment");
    Ok(Ended::There(gathered, merge, rows))
}

impl Gathered {
    fn nothing_of(log: &dyn Reader) -> Self {
        Self { log: log.log_id().0, partitions: vec![(0, None); log.partitions() as usize] }
    }

    fn is_of(&self, log: &dyn Reader) -> bool {
        (self.log, self.partitions.len()) == (log.log_id().0, log.partitions() as usize)
    }

    pub fn offsets(&self) -> Offsets {
        let mut offsets = Offsets::start(self.partitions.len() as u32);
        for ((next, _), p) in self.partitions.iter().zip(0..) {
            offsets.set(Position::new(Partition(p), Offset(*next)));
        }
        offsets
    }

    /// With what the records last taken come to.
    fn with(&mut self, lasts: &[Option<Taken>]) -> &Self {
        for ((_, last), taken) in self.partitions.iter_mut().zip(lasts) {
            *last = taken.as_ref().map_or(*last, |(offset, value)| Some::<Last>((offset.0, hash_of(value))));
        }
        self
    }

    /// If it comes before `to`.
    fn take(
        &mut self,
        seen: Seen<'_>,
        to: &Offsets,
        lasts: &mut [Option<Taken>],
        sorter: &mut Sorter,
    ) -> Result<(), &'static str> {
        let (Seen::Record { position, .. } | Seen::CaughtUp(position)) = seen;
        let Position { partition, offset } = position;
        let (end, at) = (to.of(partition), partition.0 as usize);
        self.partitions[at].0 = match seen {
            Seen::Record { appended_at_us, key, value, .. } if offset < end => {
                push(position, appended_at_us, key, value, sorter)?;
                let (last, bytes) = lasts[at].get_or_insert_default();
                *last = offset;
                bytes.clear();
                bytes.extend_from_slice(value);
                offset.next().0
            }
            // Everything before it has been read.
            Seen::Record { .. } => end.0,
            Seen::CaughtUp(_) => offset.min(end).0,
        };
        Ok(())
    }
}

/// The last record of a partition.
type Taken = (Offset, Vec<u8>);

fn push(at: Position, appended_at_us: i64, key: &[u8], value: &[u8], sorter: &mut Sorter) -> Result<(), &'static str> {
    let id = std::str::from_utf8(key).ok().and_then(PaymentId::parse).ok_or("a key is not a payment's id")?;
    let mut key = [0; KEY_BYTES];
    key[..PAYMENT_BYTES].copy_from_slice(id.as_bytes());
    key[PAYMENT_BYTES..].copy_from_slice(&at.offset.0.to_be_bytes());
    let mut frame = [0; FRAME_BYTES];
    frame[..4].copy_from_slice(&at.partition.0.to_le_bytes());
    frame[4..].copy_from_slice(&appended_at_us.to_le_bytes());
    sorter.push(&key, &[&frame, value]);
    Ok(())
}

/// A record as it was pushed; `None` for what none is.
pub(super) fn record_of(key: &[u8], value: &[u8]) -> Option<(PaymentId, Record)> {
    let id = PaymentId::from_bytes(*key.first_chunk()?);
    let offset = Offset(u64::from_be_bytes(key[PAYMENT_BYTES..].try_into().ok()?));
    let partition = Partition(u32::from_le_bytes(*value.first_chunk()?));
    let appended_at_us = i64::from_le_bytes(value.get(4..FRAME_BYTES)?.try_into().ok()?);
    let position = Position::new(partition, offset);
    Some((id, Record { position, appended_at_us, key: Vec::new(), value: value[FRAME_BYTES..].to_vec() }))
}
