//! Reads the topic of dead letters, for people. Joins no group and commits nothing.

use std::collections::BTreeMap;
use std::time::Instant;

use rdkafka::consumer::{BaseConsumer, Consumer};

use super::context::Context;
use super::error::{ReadVerdict, is_end_of_partition, is_out_of_range, journal_error, read_verdict};
use super::foreign::source_record_of;
use super::look_up::LookUp;
use super::settings::{self, Isolation};
use super::{KafkaConfig, REQUEST_TIMEOUT, kafka_offset, list_of, topics, wait_until};
use crate::journal::{JournalError, Offset, Partition, Position, SourceRecord};

/// Where the newest are looked for first: so many offsets before the end for each that is wanted, since the markers of
/// transactions take offsets too. If that was too few, this many times more.
const SPAN: u64 = 4;

pub struct DeadLetters {
    topic: String,
    look_up: LookUp,
    consumer: BaseConsumer<Context>,
}

impl DeadLetters {
    /// Connects. Blocks, as everything here.
    pub fn open(config: &KafkaConfig) -> Result<Self, JournalError> {
        settings::validate(config)?;
        let [_, _, _, dead_letters, _] = topics::topics_of(config);
        let consumer = settings::look_up(config, Isolation::Committed)
            .create_with_context(Context::new("dead-letters"))
            .map_err(|error| journal_error("create a reader", &error))?;
        Ok(Self { look_up: LookUp::of(config, &dead_letters.name)?, topic: dead_letters.name, consumer })
    }

    /// The newest `limit` of all partitions, the newest last, each as `shown` makes it: a record is let go at once.
    pub fn newest<T>(&self, limit: usize, shown: impl Fn(&SourceRecord) -> T) -> Result<Vec<T>, JournalError> {
        let mut newest = BTreeMap::new();
        for partition in (0..self.partitions()?).map(Partition) {
            let (begin, end) = (self.look_up.begin(partition)?, self.look_up.ends(partition)?.committed);
            let mut span = SPAN.saturating_mul(limit as u64);
            loop {
                let from = Offset(end.0.saturating_sub(span)).max(begin);
                let mut found = 0;
                self.read_range(partition, from, end, |record| {
                    found += 1;
                    newest.insert((record.timestamp_us, partition, record.position.offset), shown(&record));
                    if newest.len() > limit {
                        newest.pop_first();
                    }
                })?;
                if found >= limit || from == begin {
                    break;
                }
                span = span.saturating_mul(SPAN);
            }
        }
        Ok(newest.into_values().collect())
    }

    /// The one at exactly this place.
    pub fn read(&self, position: Position) -> Result<Option<SourceRecord>, JournalError> {
        if position.partition.0 >= self.partitions()? {
            return Ok(None);
        }
        let end = self.look_up.ends(position.partition)?.committed;
        if position.offset < self.look_up.begin(position.partition)? || position.offset >= end {
            return Ok(None);
        }
        let mut found = None;
        self.read_range(position.partition, position.offset, position.offset.next(), |record| found = Some(record))?;
        Ok(found)
    }

    fn partitions(&self) -> Result<u32, JournalError> {
        let metadata = self.look_up.metadata()?;
        let found = metadata.topics().iter().find(|found| found.name() == self.topic);
        match found.map(|found| found.partitions().len()) {
            None | Some(0) => Err(topics::missing(&self.topic)),
            Some(partitions) => Ok(u32::try_from(partitions).unwrap_or(u32::MAX)),
        }
    }

    /// Hands out the committed records from `from` to before `to`.
    fn read_range(
        &self,
        partition: Partition,
        from: Offset,
        to: Offset,
        mut each: impl FnMut(SourceRecord),
    ) -> Result<(), JournalError> {
        if from >= to {
            return Ok(());
        }
        let at = list_of(&self.topic, [(partition, kafka_offset(from))]);
        self.consumer.assign(&at).map_err(|error| journal_error("assign a partition", &error))?;
        let mut deadline = Instant::now() + REQUEST_TIMEOUT;
        loop {
            let wait = wait_until(deadline);
            match self.consumer.poll(wait) {
                Some(Ok(message)) => {
                    let record = source_record_of(&message)?;
                    let offset = record.position.offset;
                    if offset < to {
                        each(record);
                    }
                    if offset.next() >= to {
                        return Ok(());
                    }
                    deadline = Instant::now() + REQUEST_TIMEOUT;
                }
                Some(Err(error)) if is_end_of_partition(&error) || is_out_of_range(&error) => return Ok(()),
                Some(Err(error)) if read_verdict(&error) == ReadVerdict::Lost => {
                    return Err(journal_error(&format!("read {} {partition}", self.topic), &error));
                }
                None if wait.is_zero() => {
                    return Err(JournalError::Unavailable(format!(
                        "no answer when reading {} {partition}",
                        self.topic
                    )));
                }
                Some(Err(_)) | None => {}
            }
        }
    }
}
