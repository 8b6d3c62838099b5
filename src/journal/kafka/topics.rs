//! The five topics of DESIGN.md 4: made with their settings, or looked at and never altered, or told to whoever makes topics by
//! other means.

use std::collections::BTreeMap;
use std::fmt;
use std::thread;
use std::time::{Duration, Instant};

use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use serde::Serialize;

use super::context::Context;
use super::error::{code_error, is_missing_topic, journal_error, topic_exists_already};
use super::look_up::LookUp;
use super::{KafkaConfig, REQUEST_TIMEOUT, guards, native, settings, wait};
use crate::journal::{JournalError, LogId};

const YEAR_MS: &str = "31536000000";
const WEEK_MS: &str = "604800000";
/// Whose clock the time of a record is by.
pub(super) const TIMESTAMP_TYPE: &str = "message.timestamp.type";
/// Kafka's own default, said aloud because the dead letters are measured against it.
pub(super) const REQUEST_BYTES_MAX: u64 = 1_048_588;
/// A dead letter is the original record with headers that say where it came from and why it was refused.
pub(super) const DEAD_LETTER_BYTES_MAX: u64 = REQUEST_BYTES_MAX + 64 * 1024;

/// Between two looks at a topic that was just made.
pub(super) const SPREAD_PAUSE: Duration = Duration::from_millis(50);

/// What one topic is for, and so how it must be set up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// History: kept for ever, an order by offset, no record removed.
    History,
    /// The same, while it is restored from an archive: its records keep the times that they had.
    Restored,
    /// Kept long, for people.
    DeadLetter,
    /// Written by others, read once.
    Requests,
}

/// One topic of ours.
pub(super) struct Topic {
    pub(super) name: String,
    pub(super) kind: Kind,
    pub(super) partitions: u32,
}

/// What `ensure` did about one topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ensured {
    pub topic: String,
    /// False: it was there, and is as it must be.
    pub created: bool,
}

impl fmt::Display for Ensured {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.topic, if self.created { "created" } else { "is there already" })
    }
}

pub(super) fn topics_of(config: &KafkaConfig) -> [Topic; 5] {
    let prefix = &config.topic_prefix;
    let topic = |name: String, kind, partitions| Topic { name, kind, partitions };
    [
        topic(prefix.clone(), Kind::History, config.partitions),
        topic(format!("{prefix}.requests"), Kind::Requests, config.partitions),
        topic(format!("{prefix}.deliveries"), Kind::History, config.partitions),
        topic(format!("{prefix}.dead-letter"), Kind::DeadLetter, config.partitions),
        topic(format!("{prefix}.control"), Kind::History, 1),
    ]
}

/// One topic as whoever makes topics by other means than [`ensure`] has to make it.
#[derive(Clone, Debug, Serialize)]
pub struct Planned {
    pub name: String,
    pub partitions: u32,
    pub replication_factor: u16,
    /// History: without it there are no payments any more.
    pub kept_for_ever: bool,
    pub config: BTreeMap<&'static str, String>,
}

/// What [`ensure`] makes. Asks nobody.
pub fn plan(config: &KafkaConfig, replication: u16) -> Result<Vec<Planned>, JournalError> {
    refuse_few_replicas(config, replication)?;
    let planned = topics_of(config).into_iter().map(|topic| Planned {
        partitions: topic.partitions,
        replication_factor: replication,
        kept_for_ever: topic.kind == Kind::History,
        config: settings_of(&topic, replication).into_iter().collect(),
        name: topic.name,
    });
    Ok(planned.collect())
}

fn refuse_few_replicas(config: &KafkaConfig, replication: u16) -> Result<(), JournalError> {
    if replication < guards::REPLICAS_MIN && !config.allow_single_replica {
        let text =
            format!("replication factor {replication} loses payments with a disk: use 3, or --allow-single-replica");
        return Err(JournalError::Refused(text));
    }
    Ok(())
}

fn topics_with(config: &KafkaConfig, event_topic: Kind) -> [Topic; 5] {
    let mut topics = topics_of(config);
    topics[0].kind = event_topic;
    topics
}

/// Makes the topics that are missing and checks all of them. `replication` is the replication factor: 3 or more, or with
/// `allow_single_replica` anything. Blocks.
pub fn ensure(config: &KafkaConfig, replication: u16) -> Result<Vec<Ensured>, JournalError> {
    ensure_as(config, replication, Kind::History)
}

/// With an event topic of this kind.
pub(super) fn ensure_as(
    config: &KafkaConfig,
    replication: u16,
    event_topic: Kind,
) -> Result<Vec<Ensured>, JournalError> {
    settings::validate(config)?;
    refuse_few_replicas(config, replication)?;
    let admin = admin(config)?;
    let mut ensured = Vec::new();
    for topic in topics_with(config, event_topic) {
        let created = create(&admin, &topic, replication)?;
        ensured.push(Ensured { topic: topic.name, created });
    }
    // A topic that was just made is not known everywhere at once, nor even to the broker that made it.
    let deadline = Instant::now() + REQUEST_TIMEOUT;
    let made = ensured.iter().any(|topic| topic.created);
    while let Err(refused) = check_as(config, event_topic) {
        if !made || Instant::now() >= deadline {
            return Err(refused);
        }
        thread::sleep(SPREAD_PAUSE);
    }
    Ok(ensured)
}

/// The guards, over all five topics. Blocks.
pub fn check(config: &KafkaConfig) -> Result<(), JournalError> {
    check_as(config, Kind::History)
}

fn check_as(config: &KafkaConfig, event_topic: Kind) -> Result<(), JournalError> {
    settings::validate(config)?;
    let admin = admin(config)?;
    for topic in topics_with(config, event_topic) {
        let look_up = LookUp::of(config, &topic.name)?;
        guards::check_topic(config, &admin, &look_up, &topic)?;
    }
    Ok(())
}

pub(super) fn admin(config: &KafkaConfig) -> Result<AdminClient<Context>, JournalError> {
    settings::admin(config)
        .create_with_context(Context::new("admin"))
        .map_err(|error| journal_error("create the admin client", &error))
}

/// The event topic's id. A topic that is not there is refused with what to do.
pub(super) fn topic_id(config: &KafkaConfig) -> Result<LogId, JournalError> {
    let topic = &config.topic_prefix;
    let timeout_ms = i32::try_from(REQUEST_TIMEOUT.as_millis()).unwrap_or(i32::MAX);
    native::topic_id(admin(config)?.inner(), topic, timeout_ms).map_err(|code| {
        if is_missing_topic(code) {
            missing(topic)
        } else {
            code_error(code, format!("could not find the topic {topic} at {}: {code}", config.bootstrap_servers))
        }
    })
}

pub(super) fn missing(topic: &str) -> JournalError {
    JournalError::Refused(format!("the topic {topic} does not exist: run `paylog topics ensure`"))
}

fn create(admin: &AdminClient<Context>, topic: &Topic, replication: u16) -> Result<bool, JournalError> {
    let doing = format!("create the topic {}", topic.name);
    let settings = settings_of(topic, replication);
    let partitions = i32::try_from(topic.partitions).unwrap_or(i32::MAX);
    let mut new = NewTopic::new(&topic.name, partitions, TopicReplication::Fixed(i32::from(replication)));
    for (key, value) in &settings {
        new = new.set(key, value);
    }
    let options = AdminOptions::new().operation_timeout(Some(REQUEST_TIMEOUT)).request_timeout(Some(REQUEST_TIMEOUT));
    let results = wait(admin.create_topics([&new], &options)).map_err(|error| journal_error(&doing, &error))?;
    match results.into_iter().next() {
        Some(Ok(_)) => Ok(true),
        Some(Err((_, code))) if topic_exists_already(code) => Ok(false),
        Some(Err((_, code))) => Err(code_error(code, format!("could not {doing}: {code}"))),
        None => Err(JournalError::Unavailable(format!("could not {doing}: no answer"))),
    }
}

fn settings_of(topic: &Topic, replication: u16) -> Vec<(&'static str, String)> {
    let in_sync = if replication >= guards::REPLICAS_MIN { guards::IN_SYNC_MIN } else { 1 };
    let mut settings = vec![
        ("cleanup.policy", "delete".into()),
        ("min.insync.replicas", in_sync.to_string()),
        ("unclean.leader.election.enable", "false".into()),
    ];
    settings.extend(match topic.kind {
        Kind::History => vec![
            ("retention.ms", "-1".into()),
            ("retention.bytes", "-1".into()),
            (TIMESTAMP_TYPE, "LogAppendTime".into()),
        ],
        Kind::Restored => {
            vec![("retention.ms", "-1".into()), ("retention.bytes", "-1".into()), (TIMESTAMP_TYPE, "CreateTime".into())]
        }
        Kind::DeadLetter => {
            vec![("retention.ms", YEAR_MS.into()), ("max.message.bytes", DEAD_LETTER_BYTES_MAX.to_string())]
        }
        Kind::Requests => vec![("retention.ms", WEEK_MS.into()), ("max.message.bytes", REQUEST_BYTES_MAX.to_string())],
    });
    settings
}
