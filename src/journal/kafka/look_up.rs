//! Questions about the log that no loop asks: where a partition ends and begins, what stands at one position.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaResult;
use rdkafka::metadata::Metadata;

use super::context::Context;
use super::error::{ReadVerdict, is_end_of_partition, is_out_of_range, is_passing_error, journal_error, read_verdict};
use super::settings::{self, Isolation};
use super::tail::record_of;
use super::{KafkaConfig, REQUEST_TIMEOUT, kafka_offset, kafka_partition, list_of, wait_until};
use crate::journal::{Ends, JournalError, Offset, Partition, Position, Record};

/// Between two tries of a question that the cluster could not answer yet.
const RETRY_PAUSE: Duration = Duration::from_millis(50);

pub(super) struct LookUp {
    topic: String,
    /// One question at a time: it reads by assigning itself to a single position.
    committed: Mutex<BaseConsumer<Context>>,
    uncommitted: BaseConsumer<Context>,
}

impl LookUp {
    pub(super) fn new(config: &KafkaConfig) -> Result<Self, JournalError> {
        Self::of(config, &config.topic_prefix)
    }

    pub(super) fn of(config: &KafkaConfig, topic: &str) -> Result<Self, JournalError> {
        Ok(Self {
            topic: topic.into(),
            committed: Mutex::new(create(config, Isolation::Committed)?),
            uncommitted: create(config, Isolation::Uncommitted)?,
        })
    }

    /// The uncommitted end is asked for first: then the committed end can be the later one, and a caller who waits for
    /// it waits too little only by what was written since.
    pub(super) fn ends(&self, partition: Partition) -> Result<Ends, JournalError> {
        let (_, uncommitted) = self.watermarks(&self.uncommitted, partition)?;
        let (_, committed) = self.watermarks(&self.lock(), partition)?;
        // Both grow; so that the pair is one that could be seen at one moment, the later answer is not counted.
        Ok(Ends { committed: committed.min(uncommitted), uncommitted })
    }

    /// The first offset that the partition still has.
    pub(super) fn begin(&self, partition: Partition) -> Result<Offset, JournalError> {
        self.watermarks(&self.uncommitted, partition).map(|(begin, _)| begin)
    }

    /// One question to each broker (`ListOffsets` by time, KIP-79), which keeps an index of its records by time.
    pub(super) fn first_since(&self, partitions: u32, taken_us: i64) -> Result<Vec<Offset>, JournalError> {
        let doing = format!("ask where {} stood at a time", self.topic);
        let (broken, all) =
            (|what: &str| JournalError::Broken(format!("{doing}: {what}")), (0..partitions).map(Partition));
        // Kafka keeps milliseconds, and takes less than zero for a word of its own.
        let since_ms = rdkafka::Offset::Offset(taken_us.max(0).unsigned_abs().div_ceil(1000).cast_signed());
        let asked = list_of(&self.topic, all.clone().map(|partition| (partition, since_ms)));
        let found = ask(&doing, |left| {
            let found = self.lock().offsets_for_times(asked.clone(), left)?;
            found.elements().iter().try_for_each(|at| at.error())?;
            Ok(found)
        })?;
        let first =
            |partition| match found.find_partition(&self.topic, kafka_partition(partition)).map(|at| at.offset()) {
                Some(rdkafka::Offset::Offset(offset)) => {
                    u64::try_from(offset).map(Offset).map_err(|_| broken("below zero"))
                }
                Some(_) => self.ends(partition).map(|ends| ends.committed),
                None => Err(broken("a partition is missing in the answer")),
            };
        all.map(first).collect()
    }

    pub(super) fn metadata(&self) -> Result<Metadata, JournalError> {
        self.uncommitted
            .fetch_metadata(Some(&self.topic), REQUEST_TIMEOUT)
            .map_err(|error| journal_error(&format!("ask about the topic {}", self.topic), &error))
    }

    /// Which of so many partitions take no records, and why: one question for all of them.
    pub(super) fn unwritable(
        &self,
        partitions: u32,
        in_sync_min: u64,
    ) -> Result<BTreeMap<Partition, String>, JournalError> {
        let metadata = self.metadata()?;
        let judged = (0..partitions).map(Partition).map(|p| (p, writable(&metadata, &self.topic, p, in_sync_min)));
        Ok(judged.filter_map(|(partition, verdict)| Some((partition, verdict.err()?))).collect())
    }

    pub(super) fn read(&self, position: Position) -> Result<Option<Record>, JournalError> {
        let consumer = self.lock();
        let (begin, end) = self.watermarks(&consumer, position.partition)?;
        if position.offset < begin || position.offset >= end {
            return Ok(None);
        }
        let at = list_of(&self.topic, [(position.partition, kafka_offset(position.offset))]);
        consumer.assign(&at).map_err(|error| journal_error("assign a partition", &error))?;
        let found = read_at(&consumer, position);
        consumer.unassign().map_err(|error| journal_error("let go of a partition", &error))?;
        found
    }

    fn watermarks(
        &self,
        consumer: &BaseConsumer<Context>,
        partition: Partition,
    ) -> Result<(Offset, Offset), JournalError> {
        let doing = format!("ask for the end of {} {partition}", self.topic);
        let asked = |left| consumer.fetch_watermarks(&self.topic, kafka_partition(partition), left);
        let (low, high) = ask(&doing, asked)?;
        match (u64::try_from(low), u64::try_from(high)) {
            (Ok(low), Ok(high)) => Ok((Offset(low), Offset(high))),
            _ => Err(JournalError::Broken(format!("the ends of {} {partition} are {low} and {high}", self.topic))),
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BaseConsumer<Context>> {
        // Every question begins with an assignment of its own, so a panic leaves nothing behind that matters.
        self.committed.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// `once` is told how long it may take. librdkafka asks a new topic, or one whose leader has just moved, only once.
fn ask<T>(doing: &str, once: impl Fn(Duration) -> KafkaResult<T>) -> Result<T, JournalError> {
    let deadline = Instant::now() + REQUEST_TIMEOUT;
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        match once(left) {
            Ok(answer) => return Ok(answer),
            Err(error) if is_passing_error(&error) && !left.is_zero() => thread::sleep(RETRY_PAUSE),
            Err(error) => return Err(journal_error(doing, &error)),
        }
    }
}

/// Has this partition a leader, and enough replicas in sync? `Err` says what is missing.
pub(super) fn writable(metadata: &Metadata, topic: &str, partition: Partition, in_sync_min: u64) -> Result<(), String> {
    let found = metadata.topics().iter().find(|found| found.name() == topic);
    let mut partitions = found.into_iter().flat_map(|topic| topic.partitions());
    let refuse = |why: &str| Err(format!("partition {partition} of {topic} takes no records: {why}"));
    let Some(found) = partitions.find(|found| found.id() == kafka_partition(partition)) else {
        return refuse("the cluster does not know it");
    };
    let in_sync = found.isr().len();
    if found.leader() < 0 {
        return refuse("it has no leader");
    }
    if (in_sync as u64) < in_sync_min {
        return refuse(&format!("{in_sync} replicas are in sync and {in_sync_min} must be"));
    }
    Ok(())
}

fn create(config: &KafkaConfig, isolation: Isolation) -> Result<BaseConsumer<Context>, JournalError> {
    settings::look_up(config, isolation)
        .create_with_context(Context::new("look-up"))
        .map_err(|error| journal_error("create a reader", &error))
}

fn read_at(consumer: &BaseConsumer<Context>, position: Position) -> Result<Option<Record>, JournalError> {
    let deadline = Instant::now() + REQUEST_TIMEOUT;
    loop {
        let wait = wait_until(deadline);
        match consumer.poll(wait) {
            Some(Ok(message)) => {
                let record = record_of(&message)?;
                // What comes later means that a marker, or an aborted record, stands at the position.
                return Ok((record.position == position).then_some(record));
            }
            Some(Err(error)) if is_end_of_partition(&error) || is_out_of_range(&error) => return Ok(None),
            Some(Err(error)) if read_verdict(&error) == ReadVerdict::Lost => {
                return Err(journal_error(&format!("read {position}"), &error));
            }
            Some(Err(_)) => {}
            None if wait.is_zero() => {
                return Err(JournalError::Unavailable(format!("no answer when reading {position}")));
            }
            None => {}
        }
    }
}
