//! The guards of DESIGN.md 4: what a topic must be before paylog trusts it with payments. Each refusal says what is wrong
//! and what mends it. Nothing is ever altered here.

use std::collections::HashMap;

use rdkafka::admin::{AdminClient, AdminOptions, ResourceSpecifier};

use super::context::Context;
use super::error::{code_error, is_missing_topic, journal_error};
use super::look_up::LookUp;
use super::topics::{self, Kind, REQUEST_BYTES_MAX, TIMESTAMP_TYPE, Topic};
use super::{KafkaConfig, REQUEST_TIMEOUT, wait};
use crate::journal::{JournalError, Offset, Partition};

pub(super) const REPLICAS_MIN: u16 = 3;
pub(super) const IN_SYNC_MIN: u16 = 2;
const IN_SYNC: &str = "min.insync.replicas";
const MESSAGE_BYTES_MAX: &str = "max.message.bytes";

/// A topic as the cluster describes it.
struct Described {
    partitions: u32,
    /// Of the partition that has the fewest.
    replicas: usize,
    settings: HashMap<String, String>,
}

/// The guards of the event topic alone: for every start, and every minute after it.
/// Answers with its `min.insync.replicas`.
pub(super) fn check_event_topic(config: &KafkaConfig, look_up: &LookUp) -> Result<u64, JournalError> {
    check_event_topic_as(config, look_up, Kind::History)
}

pub(super) fn check_event_topic_as(config: &KafkaConfig, look_up: &LookUp, kind: Kind) -> Result<u64, JournalError> {
    let [mut event_topic, ..] = topics::topics_of(config);
    event_topic.kind = kind;
    check_topic(config, &topics::admin(config)?, look_up, &event_topic)
}

/// What has to be known of the topic of dead letters.
pub(super) struct Letters {
    /// The size of the largest record that it takes.
    pub bytes_max: usize,
    pub in_sync_min: u64,
}

/// The guards of the topics on both sides of the intake.
pub(super) fn check_crossing(config: &KafkaConfig) -> Result<Letters, JournalError> {
    let [_, requests, _, dead_letters, _] = topics::topics_of(config);
    let admin = topics::admin(config)?;
    check_topic(config, &admin, &LookUp::of(config, &requests.name)?, &requests)?;
    let look_up = LookUp::of(config, &dead_letters.name)?;
    check_topic(config, &admin, &look_up, &dead_letters)?;
    let described = describe(&admin, &look_up, &dead_letters)?;
    let bytes_max = usize::try_from(number(&described, MESSAGE_BYTES_MAX)).unwrap_or(usize::MAX);
    Ok(Letters { bytes_max, in_sync_min: number(&described, IN_SYNC) })
}

pub(super) fn check_topic(
    config: &KafkaConfig,
    admin: &AdminClient<Context>,
    look_up: &LookUp,
    topic: &Topic,
) -> Result<u64, JournalError> {
    let described = describe(admin, look_up, topic)?;
    judge(topic, &described, config.allow_single_replica).map_err(JournalError::Refused)?;
    if matches!(topic.kind, Kind::History | Kind::Restored) {
        check_beginning(look_up, topic)?;
    }
    Ok(number(&described, IN_SYNC))
}

fn describe(admin: &AdminClient<Context>, look_up: &LookUp, topic: &Topic) -> Result<Described, JournalError> {
    let metadata = look_up.metadata()?;
    let found = metadata.topics().iter().find(|found| found.name() == topic.name);
    let Some(found) = found else {
        return Err(topics::missing(&topic.name));
    };
    if let Some(error) = found.error() {
        let code = error.into();
        if is_missing_topic(code) {
            return Err(topics::missing(&topic.name));
        }
        return Err(code_error(code, format!("could not ask about the topic {}: {code}", topic.name)));
    }
    let doing = format!("read the settings of the topic {}", topic.name);
    let options = AdminOptions::new().request_timeout(Some(REQUEST_TIMEOUT));
    let answers = wait(admin.describe_configs([&ResourceSpecifier::Topic(&topic.name)], &options))
        .map_err(|error| journal_error(&doing, &error))?;
    let mut settings = HashMap::new();
    for answer in answers {
        let resource = answer.map_err(|code| code_error(code, format!("could not {doing}: {code}")))?;
        settings.extend(resource.entries.into_iter().filter_map(|entry| Some((entry.name, entry.value?))));
    }
    Ok(Described {
        partitions: u32::try_from(found.partitions().len()).unwrap_or(u32::MAX),
        replicas: found.partitions().iter().map(|partition| partition.replicas().len()).min().unwrap_or(0),
        settings,
    })
}

/// The first offset of each partition must be the first that ever was.
fn check_beginning(look_up: &LookUp, topic: &Topic) -> Result<(), JournalError> {
    for partition in (0..topic.partitions).map(Partition) {
        let begin = look_up.begin(partition)?;
        if begin != Offset(0) {
            let name = &topic.name;
            return Err(JournalError::Refused(format!(
                "the topic {name} has lost the beginning of partition {partition}: it starts at offset {begin}, not 0, \
                 and what stood before is needed; restore the topic from a backup"
            )));
        }
    }
    Ok(())
}

/// Everything that can be told from a description.
fn judge(topic: &Topic, described: &Described, allow_single_replica: bool) -> Result<(), String> {
    let name = &topic.name;
    if topic.kind != Kind::Requests && described.partitions != topic.partitions {
        return Err(format!(
            "the topic {name} has {} partitions and not {}: a payment's partition would change; start with the number it \
             was created with (--partitions), or with another topic (--topic-prefix)",
            described.partitions, topic.partitions
        ));
    }
    let must: &[(&str, &str)] = match topic.kind {
        Kind::History => &[
            ("cleanup.policy", "delete"),
            ("retention.ms", "-1"),
            ("retention.bytes", "-1"),
            (TIMESTAMP_TYPE, "LogAppendTime"),
            ("unclean.leader.election.enable", "false"),
        ],
        Kind::Restored => &[
            ("cleanup.policy", "delete"),
            ("retention.ms", "-1"),
            ("retention.bytes", "-1"),
            (TIMESTAMP_TYPE, "CreateTime"),
            ("unclean.leader.election.enable", "false"),
        ],
        Kind::DeadLetter => &[("cleanup.policy", "delete"), ("unclean.leader.election.enable", "false")],
        Kind::Requests => &[],
    };
    for (key, value) in must {
        let is = described.settings.get(*key).map_or("not known", String::as_str);
        if is != *value && topic.kind == Kind::Restored && *key == TIMESTAMP_TYPE {
            return Err(in_use(name));
        }
        if is != *value {
            return Err(format!(
                "the topic {name} has {key}={is} and must have {key}={value}: {}",
                mend(name, key, value)
            ));
        }
    }
    if topic.kind == Kind::DeadLetter && number(described, MESSAGE_BYTES_MAX) <= REQUEST_BYTES_MAX {
        let value = topics::DEAD_LETTER_BYTES_MAX.to_string();
        let mend = mend(name, MESSAGE_BYTES_MAX, &value);
        return Err(format!("the topic {name} cannot take the largest request with a reason added: {mend}"));
    }
    if allow_single_replica || topic.kind == Kind::Requests { Ok(()) } else { judge_replicas(name, described) }
}

fn in_use(name: &str) -> String {
    format!(
        "the topic {name} is set up to take payments ({TIMESTAMP_TYPE}=LogAppendTime), so a service may be at work on it, and \
         records would lose the times that they had: import into a topic that does not exist yet (--topic-prefix), or delete \
         this one, if it is empty"
    )
}

fn judge_replicas(name: &str, described: &Described) -> Result<(), String> {
    let replicas = described.replicas;
    if replicas < usize::from(REPLICAS_MIN) {
        return Err(format!(
            "the topic {name} has {replicas} replicas and needs {REPLICAS_MIN}: add some with kafka-reassign-partitions.sh, \
             or accept the risk with --allow-single-replica"
        ));
    }
    if number(described, IN_SYNC) < u64::from(IN_SYNC_MIN) {
        let mend = mend(name, IN_SYNC, &IN_SYNC_MIN.to_string());
        return Err(format!("the topic {name} acknowledges what is on a single disk: {mend}"));
    }
    Ok(())
}

fn number(described: &Described, key: &str) -> u64 {
    described.settings.get(key).and_then(|value| value.parse().ok()).unwrap_or(0)
}

fn mend(topic: &str, key: &str, value: &str) -> String {
    format!("run `kafka-configs.sh --alter --topic {topic} --add-config {key}={value}`")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn topic(kind: Kind) -> Topic {
        Topic { name: "payments".into(), kind, partitions: 12 }
    }

    fn described(changes: &[(&str, &str)]) -> Described {
        let good = [
            ("cleanup.policy", "delete"),
            ("retention.ms", "-1"),
            ("retention.bytes", "-1"),
            ("message.timestamp.type", "LogAppendTime"),
            ("unclean.leader.election.enable", "false"),
            ("min.insync.replicas", "2"),
        ];
        let settings = good.iter().chain(changes).map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        Described { partitions: 12, replicas: 3, settings }
    }

    #[test]
    fn a_topic_that_is_as_it_must_be_passes() {
        assert_eq!(judge(&topic(Kind::History), &described(&[]), false), Ok(()));
    }

    #[test]
    fn every_setting_that_loses_history_is_refused_with_its_name_and_its_cure() {
        for (key, value) in [
            ("cleanup.policy", "compact"),
            ("cleanup.policy", "compact,delete"),
            ("retention.ms", "604800000"),
            ("retention.bytes", "1000"),
            ("message.timestamp.type", "CreateTime"),
            ("unclean.leader.election.enable", "true"),
            ("min.insync.replicas", "1"),
        ] {
            let refusal = judge(&topic(Kind::History), &described(&[(key, value)]), false).unwrap_err();
            assert!(refusal.contains(key) && refusal.contains("kafka-configs.sh"), "{key}={value}: {refusal}");
        }
    }

    #[test]
    fn a_single_replica_needs_the_operator_s_word() {
        let single = Described { replicas: 1, ..described(&[("min.insync.replicas", "1")]) };
        let refusal = judge(&topic(Kind::History), &single, false).unwrap_err();
        assert!(refusal.contains("--allow-single-replica"), "{refusal}");
        assert_eq!(judge(&topic(Kind::History), &single, true), Ok(()));
    }

    #[test]
    fn another_number_of_partitions_is_refused() {
        let more = Described { partitions: 13, ..described(&[]) };
        assert!(judge(&topic(Kind::History), &more, false).is_err());
        assert!(judge(&topic(Kind::Requests), &more, false).is_ok(), "requests may have any number");
    }
}
