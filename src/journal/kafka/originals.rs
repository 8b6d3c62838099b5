//! Reads one partition from an offset to before another, committed records only, each exactly as it stands there. Joins no
//! group and commits nothing.

use std::time::{Duration, Instant};

use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;

use super::context::Context;
use super::error::{ReadVerdict, is_end_of_partition, journal_error, read_verdict};
use super::foreign::source_record_of;
use super::{KafkaConfig, REQUEST_TIMEOUT, drop_within, kafka_offset, kafka_partition, list_of, settings};
use crate::journal::{JournalError, Offset, Partition, SourceRecord};

/// How long the log may be silent before the copy is given up: it can be begun again, and a log that is away for longer is
/// somebody's to look at.
const SILENCE_MAX: Duration = Duration::from_secs(60);
/// How long closing may take before the client is left behind.
const CLOSE_DEADLINE: Duration = Duration::from_secs(5);

pub(super) struct KafkaOriginals {
    topic: String,
    /// `None` once everything was read.
    consumer: Option<BaseConsumer<Context>>,
    partition: Partition,
    to: Offset,
}

impl KafkaOriginals {
    pub(super) fn open(
        config: &KafkaConfig,
        partition: Partition,
        from: Offset,
        to: Offset,
    ) -> Result<Self, JournalError> {
        let topic = config.topic_prefix.clone();
        if from >= to {
            return Ok(Self { topic, consumer: None, partition, to });
        }
        let consumer: BaseConsumer<Context> = settings::tail(config)
            .create_with_context(Context::new("originals"))
            .map_err(|error| journal_error("create a reader", &error))?;
        let at = list_of(&topic, [(partition, kafka_offset(from))]);
        consumer.assign(&at).map_err(|error| journal_error("assign a partition", &error))?;
        Ok(Self { topic, consumer: Some(consumer), partition, to })
    }

    fn read(&self, consumer: &BaseConsumer<Context>) -> Result<Option<SourceRecord>, JournalError> {
        let deadline = Instant::now() + SILENCE_MAX;
        loop {
            let wait = deadline.saturating_duration_since(Instant::now());
            match consumer.poll(wait) {
                Some(Ok(message)) => {
                    let record = source_record_of(&message)?;
                    return Ok((record.position.offset < self.to).then_some(record));
                }
                Some(Err(error)) if self.has_ended(consumer, &error)? => return Ok(None),
                Some(Err(_)) => {}
                None if wait.is_zero() => {
                    let at = format!("{} {}", self.topic, self.partition);
                    let text = format!("{at} has not answered for {} s", SILENCE_MAX.as_secs());
                    return Err(JournalError::Unavailable(text));
                }
                None => {}
            }
        }
    }

    /// What follows the last record before `to` can be markers alone, up to the end. A leader that is new may say that the end
    /// is before `to`, for a moment: then there is more to come.
    fn has_ended(&self, consumer: &BaseConsumer<Context>, error: &KafkaError) -> Result<bool, JournalError> {
        if is_end_of_partition(error) {
            let doing = format!("ask for the end of {} {}", self.topic, self.partition);
            let positions = consumer.position().map_err(|error| journal_error(&doing, &error))?;
            let at = positions.find_partition(&self.topic, kafka_partition(self.partition)).map(|at| at.offset());
            let reached = match at {
                Some(rdkafka::Offset::Offset(offset)) => offset,
                // Nothing was read: there is no record, or the partition's end was asked for too early.
                _ => {
                    let ends = consumer.fetch_watermarks(&self.topic, kafka_partition(self.partition), REQUEST_TIMEOUT);
                    ends.map_err(|error| journal_error(&doing, &error))?.1
                }
            };
            return Ok(u64::try_from(reached).is_ok_and(|reached| Offset(reached) >= self.to));
        }
        match read_verdict(error) {
            ReadVerdict::Lost => Err(journal_error(&format!("read {} {}", self.topic, self.partition), error)),
            ReadVerdict::End(_) | ReadVerdict::GoOn => Ok(false),
        }
    }

    fn close(&mut self) {
        if let Some(consumer) = self.consumer.take() {
            drop_within(consumer, "originals", CLOSE_DEADLINE);
        }
    }
}

impl Iterator for KafkaOriginals {
    type Item = Result<SourceRecord, JournalError>;

    fn next(&mut self) -> Option<Self::Item> {
        let read = self.read(self.consumer.as_ref()?);
        let last = match &read {
            Ok(Some(record)) => record.position.offset.next() >= self.to,
            Ok(None) | Err(_) => true,
        };
        if last {
            self.close();
        }
        read.transpose()
    }
}

impl Drop for KafkaOriginals {
    fn drop(&mut self) {
        self.close();
    }
}
