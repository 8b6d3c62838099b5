//! The event topic while it is restored from an archive. Its records must keep the times at which another log took them, so
//! until it is whole it has `message.timestamp.type=CreateTime`. The guards refuse such a topic to every service; then it gets
//! `LogAppendTime`, for good. No topic that a service may be using is ever set up otherwise: it is made so, or left alone.

use std::sync::Arc;
use std::thread;
use std::time::Instant;

use rdkafka::admin::{AdminOptions, AlterConfig, ConfigSource, ResourceSpecifier};

use super::error::{code_error, journal_error};
use super::look_up::LookUp;
use super::topics::{self, Kind, SPREAD_PAUSE, TIMESTAMP_TYPE};
use super::{KafkaConfig, KafkaJournal, REQUEST_TIMEOUT, guards, settings, wait};
use crate::journal::JournalError;

/// How long one record may take: nobody waits for it as a client of the API does, and a broker may be restarted meanwhile.
const MESSAGE_TIMEOUT: (&str, &str) = ("message.timeout.ms", "300000");

/// Makes the topics that are missing, the event topic so that it keeps the times that it is given. One that is there must have
/// been made so. Blocks.
pub fn prepare(config: &KafkaConfig, replication: u16) -> Result<(), JournalError> {
    topics::ensure_as(config, replication, Kind::Restored).map(drop)
}

/// The event topic, if it is as [`prepare`] makes it. Blocks.
pub fn open(mut config: KafkaConfig) -> Result<Arc<KafkaJournal>, JournalError> {
    if config.overrides.iter().all(|(key, _)| key != MESSAGE_TIMEOUT.0) {
        config.overrides.push((MESSAGE_TIMEOUT.0.to_owned(), MESSAGE_TIMEOUT.1.to_owned()));
    }
    KafkaJournal::open_as(config, Kind::Restored)
}

/// From now on the log's clock is the broker's: the topic is one like any other. Blocks.
pub fn finish(config: &KafkaConfig) -> Result<(), JournalError> {
    settings::validate(config)?;
    let admin = topics::admin(config)?;
    let topic = &config.topic_prefix;
    let (doing, resource) = (format!("set up the topic {topic}"), ResourceSpecifier::Topic(topic));
    let options = AdminOptions::new().request_timeout(Some(REQUEST_TIMEOUT));
    let described = wait(admin.describe_configs([&resource], &options)).map_err(|e| journal_error(&doing, &e))?;
    let mut own = Vec::new();
    for answer in described {
        let resource = answer.map_err(|code| code_error(code, format!("could not {doing}: {code}")))?;
        own.extend(resource.entries.into_iter().filter(|entry| matches!(entry.source, ConfigSource::DynamicTopic)));
    }
    // What is not said is set back to the broker's default.
    let mut alter = AlterConfig::new(ResourceSpecifier::Topic(topic));
    for entry in own.iter().filter(|entry| entry.name != TIMESTAMP_TYPE) {
        if let Some(value) = &entry.value {
            alter = alter.set(&entry.name, value);
        }
    }
    alter = alter.set(TIMESTAMP_TYPE, "LogAppendTime");
    for answer in wait(admin.alter_configs([&alter], &options)).map_err(|e| journal_error(&doing, &e))? {
        answer.map_err(|(_, code)| code_error(code, format!("could not {doing}: {code}")))?;
    }
    let deadline = Instant::now() + REQUEST_TIMEOUT;
    while let Err(refused) = LookUp::new(config).and_then(|look_up| guards::check_event_topic(config, &look_up)) {
        if Instant::now() >= deadline {
            return Err(refused);
        }
        thread::sleep(SPREAD_PAUSE);
    }
    Ok(())
}
