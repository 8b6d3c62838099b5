//! Reads all partitions forward, committed records only, and says when it has caught up.
//!
//! Promises never to skip: what it cannot read, or what the log no longer has, ends it. It joins no group and commits
//! nothing: where to read from is the fold's to know.

use std::sync::Arc;
use std::time::{Duration, Instant};

use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::message::{BorrowedMessage, Message};

use super::context::Context;
use super::error::{ReadVerdict, journal_error, read_verdict};
use super::heights::Heights;
use super::{KafkaConfig, drop_within, kafka_offset, kafka_partition, list_of, settings, wait_until};
use crate::journal::{JournalError, Offset, Partition, Position, Record, Seen, Tail, TailItem};

/// What one poll hands out at most: a foreign record can be as large as the topic allows.
const POLL_BYTES_MAX: usize = 16 * 1024 * 1024;
/// How long closing may take before the client is left behind.
const CLOSE_DEADLINE: Duration = Duration::from_secs(5);

pub(super) struct KafkaTail {
    topic: String,
    /// `None` only while it is being dropped.
    consumer: Option<BaseConsumer<Context>>,
    heights: Arc<Heights>,
    /// Where each partition stood at first: librdkafka has no position until something was read.
    from: Vec<Offset>,
}

impl KafkaTail {
    pub(super) fn open(config: &KafkaConfig, heights: &Arc<Heights>, from: &[Offset]) -> Result<Self, JournalError> {
        let partitions = config.partitions as usize;
        assert_eq!(from.len(), partitions, "a tail needs one offset for each partition");
        Self::of(config, heights, from, (0..config.partitions).map(Partition))
    }

    /// Reads only these partitions.
    pub(super) fn of(
        config: &KafkaConfig,
        heights: &Arc<Heights>,
        from: &[Offset],
        partitions: impl Iterator<Item = Partition>,
    ) -> Result<Self, JournalError> {
        let topic = config.topic_prefix.clone();
        let consumer: BaseConsumer<Context> = settings::tail(config)
            .create_with_context(Context::new("tail"))
            .map_err(|error| journal_error("create the tail's consumer", &error))?;
        let at = |partition: Partition| from.get(partition.0 as usize).copied().unwrap_or_default();
        let list = list_of(&topic, partitions.map(|partition| (partition, kafka_offset(at(partition)))));
        consumer.assign(&list).map_err(|error| journal_error("assign the tail's partitions", &error))?;
        Ok(Self { topic, consumer: Some(consumer), heights: Arc::clone(heights), from: from.to_vec() })
    }

    /// Fetches no more of this partition.
    pub(super) fn pause(&self, partition: Partition) -> Result<(), JournalError> {
        let list = list_of(&self.topic, [(partition, rdkafka::Offset::Invalid)]);
        self.consumer()?.pause(&list).map_err(|error| journal_error("pause a partition", &error))
    }

    fn consumer(&self) -> Result<&BaseConsumer<Context>, JournalError> {
        self.consumer.as_ref().ok_or_else(|| JournalError::Unavailable("the tail is closed".into()))
    }

    /// What a failed read says of the log, if anything.
    fn end_of(&self, error: &KafkaError) -> Result<Option<Position>, JournalError> {
        match read_verdict(error) {
            ReadVerdict::End(partition) => {
                let offset = self.position(partition)?;
                Ok(Some(Position::new(partition, offset)))
            }
            ReadVerdict::GoOn => {
                if self.consumer()?.context().is_news(error) {
                    tracing::warn!(topic = self.topic, %error, "the tail is disturbed and goes on");
                }
                Ok(None)
            }
            ReadVerdict::Lost => Err(JournalError::Broken(format!(
                "could not read on from {}: {error}; the log no longer holds what follows what was folded, so nothing may \
                 be folded: check the topic, then rebuild",
                self.topic
            ))),
        }
    }

    /// Where the consumer stands: past the last record that was handed out and the transaction markers after it.
    fn position(&self, partition: Partition) -> Result<Offset, JournalError> {
        let positions = self.consumer()?.position().map_err(|error| journal_error("ask for the position", &error))?;
        let at = positions.find_partition(&self.topic, kafka_partition(partition)).map(|element| element.offset());
        match at {
            Some(rdkafka::Offset::Offset(offset)) => u64::try_from(offset)
                .map(Offset)
                .map_err(|_| JournalError::Broken(format!("position {offset} of {partition}"))),
            // Nothing was read yet, so the end is where it began.
            _ => self.from.get(partition.0 as usize).copied().ok_or_else(|| {
                JournalError::Broken(format!("the end of partition {partition}, which was not asked for"))
            }),
        }
    }
}

/// What was read: what the caller made of a record, or the end.
pub(super) enum Read<T> {
    Record(T),
    CaughtUp(Position),
}

impl KafkaTail {
    /// As [`Tail::each`], with records as librdkafka has them.
    fn visit(
        &self,
        max: usize,
        timeout: Duration,
        take: &mut dyn FnMut(Read<&BorrowedMessage<'_>>) -> Result<(), JournalError>,
    ) -> Result<usize, JournalError> {
        let consumer = self.consumer()?;
        let deadline = Instant::now() + timeout;
        let (mut items, mut bytes) = (0, 0);
        while items < max && bytes < POLL_BYTES_MAX {
            let wait = if items == 0 { wait_until(deadline) } else { Duration::ZERO };
            match consumer.poll(wait) {
                Some(Ok(message)) => {
                    self.heights.raise(position_of(&message)?);
                    bytes += message.key_len() + message.payload_len();
                    items += 1;
                    take(Read::Record(&message))?;
                }
                Some(Err(error)) => {
                    if let Some(end) = self.end_of(&error)? {
                        items += 1;
                        take(Read::CaughtUp(end))?;
                    }
                }
                // A rebalance or a log line ends a poll early too.
                None if items == 0 && Instant::now() < deadline => {}
                None => break,
            }
        }
        Ok(items)
    }

    /// As [`Tail::poll`], with what the caller makes of what was read.
    pub(super) fn read<T>(
        &self,
        max: usize,
        timeout: Duration,
        of: &impl Fn(Read<&BorrowedMessage<'_>>) -> Result<T, JournalError>,
    ) -> Result<Vec<T>, JournalError> {
        let mut items = Vec::new();
        self.visit(max, timeout, &mut |read| {
            items.push(of(read)?);
            Ok(())
        })?;
        Ok(items)
    }
}

impl Tail for KafkaTail {
    fn poll(&mut self, max: usize, timeout: Duration) -> Result<Vec<TailItem>, JournalError> {
        self.read(max, timeout, &|read| {
            Ok(match read {
                Read::Record(message) => TailItem::Record(record_of(message)?),
                Read::CaughtUp(next) => TailItem::CaughtUp(next),
            })
        })
    }

    fn each(&mut self, max: usize, timeout: Duration, take: &mut dyn FnMut(Seen<'_>)) -> Result<usize, JournalError> {
        self.visit(max, timeout, &mut |read| {
            take(match read {
                Read::Record(message) => Seen::Record {
                    position: position_of(message)?,
                    appended_at_us: timestamp_us_of(message),
                    key: message.key().unwrap_or_default(),
                    value: message.payload().unwrap_or_default(),
                },
                Read::CaughtUp(next) => Seen::CaughtUp(next),
            });
            Ok(())
        })
    }
}

impl Drop for KafkaTail {
    fn drop(&mut self) {
        if let Some(consumer) = self.consumer.take() {
            drop_within(consumer, "tail", CLOSE_DEADLINE);
        }
    }
}

/// A copy of a record: the fold keeps what it likes of it, and librdkafka's memory is free at once.
pub(super) fn record_of(message: &BorrowedMessage<'_>) -> Result<Record, JournalError> {
    Ok(Record {
        position: position_of(message)?,
        appended_at_us: timestamp_us_of(message),
        key: message.key().unwrap_or_default().to_vec(),
        value: message.payload().unwrap_or_default().to_vec(),
    })
}

pub(super) fn position_of(message: &BorrowedMessage<'_>) -> Result<Position, JournalError> {
    let at = (u32::try_from(message.partition()), u64::try_from(message.offset()));
    let (Ok(partition), Ok(offset)) = at else {
        return Err(JournalError::Broken(format!("a record at {}:{}", message.partition(), message.offset())));
    };
    Ok(Position::new(Partition(partition), Offset(offset)))
}

/// Kafka keeps milliseconds.
pub(super) fn timestamp_us_of(message: &BorrowedMessage<'_>) -> i64 {
    message.timestamp().to_millis().unwrap_or(0).saturating_mul(1000)
}
