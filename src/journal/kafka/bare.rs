//! A topic read with librdkafka and nothing else: what anyone who reads it here can reach at best, and what `paylog bench`
//! holds a rebuild against.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use rdkafka::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;

use super::context::Context;
use super::error::journal_error;
use super::{KafkaConfig, list_of};
use crate::journal::{JournalError, Partition};

/// A broker that sends nothing for so long has no more.
const SILENCE_MAX: Duration = Duration::from_secs(30);

/// How much there was, and how long it took from the first record to the end of the last partition.
#[derive(Clone, Copy, Debug, Default)]
pub struct Consumed {
    pub records: u64,
    pub bytes: u64,
    pub took: Duration,
}

/// Reads every committed record of the event topic once, and forgets it. librdkafka's own defaults, but for what is asked:
/// its checksums are off, and it may hold as much as it likes. Blocks.
pub fn consume(config: &KafkaConfig) -> Result<Consumed, JournalError> {
    let mut settings = ClientConfig::new();
    settings.set("bootstrap.servers", &config.bootstrap_servers).set("group.id", "paylog-bench-bare");
    settings.set("enable.auto.commit", "false").set("enable.partition.eof", "true");
    settings.set("isolation.level", "read_committed");
    let consumer: BaseConsumer<Context> = settings
        .create_with_context(Context::new("bare"))
        .map_err(|error| journal_error("create the consumer", &error))?;
    let partitions = (0..config.partitions).map(|partition| (Partition(partition), rdkafka::Offset::Beginning));
    let list = list_of(&config.topic_prefix, partitions);
    consumer.assign(&list).map_err(|error| journal_error("assign the partitions", &error))?;
    let (mut consumed, mut began, mut ended) = (Consumed::default(), None, BTreeSet::new());
    while ended.len() < config.partitions as usize {
        match consumer.poll(SILENCE_MAX) {
            Some(Ok(message)) => {
                began.get_or_insert_with(Instant::now);
                consumed.records += 1;
                consumed.bytes += (message.key_len() + message.payload_len()) as u64;
            }
            Some(Err(KafkaError::PartitionEOF(partition))) => drop(ended.insert(partition)),
            Some(Err(error)) => return Err(journal_error("read the topic", &error)),
            None => return Err(JournalError::Unavailable("the broker sends nothing".to_owned())),
        }
    }
    consumed.took = began.map(|began| began.elapsed()).unwrap_or_default();
    Ok(consumed)
}
