//! The event topic for those who only read it: no producer is made, so that none can be used.

use std::sync::Arc;

use super::heights::Heights;
use super::history::KafkaHistory;
use super::look_up::LookUp;
use super::tail::KafkaTail;
use super::{KafkaConfig, guards, settings, topics};
use crate::journal::{
    Ends, Engine, History, JournalError, LogId, Offset, Partition, Position, Reader, Record, Span, Tail,
};

struct KafkaReader {
    config: KafkaConfig,
    log_id: LogId,
    look_up: LookUp,
    heights: Arc<Heights>,
}

/// Connects and finds the topic. Does not run the guards: whoever reads to judge wants to hear what they say. Blocks.
pub fn reader(config: KafkaConfig) -> Result<Arc<dyn Reader>, JournalError> {
    settings::validate(&config)?;
    let log_id = topics::topic_id(&config)?;
    let (look_up, heights) = (LookUp::new(&config)?, Arc::new(Heights::new(config.partitions)));
    Ok(Arc::new(KafkaReader { config, log_id, look_up, heights }))
}

impl Reader for KafkaReader {
    fn engine(&self) -> Engine {
        Engine::Kafka
    }

    fn log_id(&self) -> LogId {
        self.log_id
    }

    fn partitions(&self) -> u32 {
        self.config.partitions
    }

    fn tail(&self, from: &[Offset]) -> Result<Box<dyn Tail>, JournalError> {
        Ok(Box::new(KafkaTail::open(&self.config, &self.heights, from)?))
    }

    fn ends(&self, partition: Partition) -> Result<Ends, JournalError> {
        self.look_up.ends(partition)
    }

    fn read(&self, position: Position) -> Result<Option<Record>, JournalError> {
        self.look_up.read(position)
    }

    fn first_since(&self, taken_us: i64) -> Result<Vec<Offset>, JournalError> {
        self.look_up.first_since(self.config.partitions, taken_us)
    }

    fn history(&self, spans: &[Span]) -> Result<Box<dyn History>, JournalError> {
        Ok(Box::new(KafkaHistory::open(&self.config, &self.heights, spans)?))
    }

    fn check(&self) -> Result<(), JournalError> {
        guards::check_event_topic(&self.config, &self.look_up).map(drop)
    }
}
