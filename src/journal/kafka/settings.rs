//! Every librdkafka setting that we rely on, each with its reason. Defaults of librdkafka are not relied on: they have
//! changed before. What the user sets (`--kafka key=value`) is applied first; what correctness needs is applied last,
//! and a user's value that contradicts it is refused at start.

use std::time::Duration;

use rdkafka::ClientConfig;
use rdkafka::bindings::rd_kafka_conf_res_t as ConfRes;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::error::KafkaError;

use super::KafkaConfig;
use crate::journal::JournalError;

/// The broker ends a transaction that stays open for longer. Bounds how long a crashed writer can hold up readers.
pub(super) const TRANSACTION_TIMEOUT: Duration = Duration::from_secs(10);
/// How long one request may take: below the transaction timeout, so that a lost one is noticed while it is open.
const SOCKET_TIMEOUT_MS: &str = "8000";

/// Longer than the longest blocking call of a loop, which is a transaction that a slow broker holds up: a member that went
/// without a poll for longer is taken for one that hangs, and its process is ended.
const POLL_INTERVAL: Duration = Duration::from_secs(60);
const STATISTICS_EVERY_MAX: Duration = Duration::from_secs(5);
/// librdkafka takes no larger `message.max.bytes`.
const MESSAGE_BYTES_CEILING: usize = 1_000_000_000;

/// Who sees uncommitted records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Isolation {
    Committed,
    Uncommitted,
}

/// The settings that are ours alone: name, the one value that a user may repeat (none: ours to choose), and why.
const MANDATORY: &[(&str, Option<&str>, &str)] = &[
    ("acks", Some("all"), "a 2xx means that every in-sync replica has the record"),
    ("allow.auto.create.topics", Some("false"), "a deleted topic must not come back empty"),
    ("auto.offset.reset", Some("error"), "a reader must never skip or repeat history silently"),
    ("bootstrap.servers", None, "use --bootstrap-servers"),
    ("check.crcs", Some("true"), "a damaged record must halt, not be folded"),
    ("delivery.report.only.error", Some("false"), "every append waits for its report"),
    ("enable.auto.commit", Some("false"), "positions are committed with what they cover"),
    ("enable.auto.offset.store", Some("false"), "positions are committed with what they cover"),
    ("enable.idempotence", Some("true"), "a retry inside the client must not append twice"),
    ("enable.partition.eof", None, "the tail must know when it has caught up"),
    ("group.id", None, "use --group"),
    (
        "group.instance.id",
        None,
        "a static member that died keeps its lanes, and two with one id take them from each other",
    ),
    ("group.protocol", Some("classic"), "rebalances are served as the classic protocol gives them"),
    ("group.remote.assignor", None, "rebalances are served as the classic protocol gives them"),
    ("isolation.level", None, "each reader of paylog needs its own"),
    ("max.in.flight.requests.per.connection", None, "more than 5 break the order of an idempotent producer"),
    ("partition.assignment.strategy", Some("cooperative-sticky"), "lanes that stay must not stop in a rebalance"),
    ("statistics.interval.ms", None, "the watch over the group needs its own"),
    ("transaction.timeout.ms", Some("10000"), "takeover waits for it"),
    ("transactional.id", None, "it is the group and the instance id"),
];

/// librdkafka knows some settings by two names. Given both, which one wins would be chance.
const ALIASES: &[(&str, &str)] = &[
    ("compression.type", "compression.codec"),
    ("delivery.timeout.ms", "message.timeout.ms"),
    ("max.in.flight", "max.in.flight.requests.per.connection"),
    ("message.send.max.retries", "retries"),
    ("metadata.broker.list", "bootstrap.servers"),
    ("queue.buffering.max.ms", "linger.ms"),
    ("request.required.acks", "acks"),
];

/// Refuses what the user may not set. Says the name of a setting, never its value: it may be a secret.
pub fn validate(config: &KafkaConfig) -> Result<(), JournalError> {
    for (key, value) in &config.overrides {
        let name = canonical(key);
        let mandatory = MANDATORY.iter().find(|(mandatory, _, _)| *mandatory == name);
        if let Some((_, allowed, reason)) = mandatory
            && *allowed != Some(same_value(name, value).as_str())
        {
            let needed = allowed.map_or_else(|| "is set by paylog".into(), |v| format!("must be {v}"));
            let text = format!("the Kafka setting {key} cannot be overridden, it {needed}: {reason}; remove it");
            return Err(JournalError::Refused(text));
        }
        // librdkafka's own judgement of the name and the value, which it gives without connecting.
        if let Err(error) = ClientConfig::new().set(key, value).create_native_config() {
            return Err(native_refusal(key, &error));
        }
    }
    if poll_interval(config) < POLL_INTERVAL {
        return Err(JournalError::Refused(format!(
            "the Kafka setting max.poll.interval.ms must be {} at least: a transaction on a slow cluster may take that long, \
             and its process would be taken for one that hangs; raise it, or remove it",
            POLL_INTERVAL.as_millis()
        )));
    }
    Ok(())
}

fn native_refusal(key: &str, error: &KafkaError) -> JournalError {
    let reason = match error {
        KafkaError::ClientConfig(ConfRes::RD_KAFKA_CONF_UNKNOWN, ..) => "has no such setting",
        _ => "does not take this value of it",
    };
    JournalError::Refused(format!("the Kafka setting {key} cannot be used: librdkafka {reason}"))
}

fn canonical(key: &str) -> &str {
    ALIASES.iter().find(|(alias, _)| *alias == key).map_or(key, |(_, name)| *name)
}

/// A value in the spelling of [`MANDATORY`].
fn same_value(name: &str, value: &str) -> String {
    let value = value.trim().to_ascii_lowercase();
    match (name, value.as_str()) {
        ("acks", "-1") => "all".into(),
        (_, "t" | "1") if name != "acks" => "true".into(),
        (_, "f" | "0") if name != "acks" => "false".into(),
        _ => value,
    }
}

/// The API's producer: idempotent, without transactions.
pub(super) fn appender(config: &KafkaConfig) -> ClientConfig {
    let mut settings = producer(config);
    // An answer must come while the client of the API still waits: delivered, or not known.
    user(&mut settings, config, &[("message.timeout.ms", "10000")]);
    settings
}

/// The producer of the lanes' transactions. Its transactional id is the committer's to choose.
pub(super) fn committer(config: &KafkaConfig) -> ClientConfig {
    let mut settings = producer(config);
    let defaults = [
        // Below the transaction timeout, else librdkafka refuses to start.
        ("message.timeout.ms", "8000"),
        // The broker answers "concurrent transactions" to a quick next one; with librdkafka's 100 ms between tries a
        // cycle takes 150 to 260 ms (measured, DESIGN.md 7).
        ("retry.backoff.ms", "2"),
        ("retry.backoff.max.ms", "20"),
    ];
    user(&mut settings, config, &defaults);
    // A transaction learns from this log that it is in doubt (context.rs). What the user wants to see comes with it.
    let debug = settings.get("debug").map_or_else(|| "broker".to_owned(), |user| format!("{user},broker"));
    settings.set("debug", debug);
    settings.set_log_level(RDKafkaLogLevel::Debug);
    settings.set("transaction.timeout.ms", TRANSACTION_TIMEOUT.as_millis().to_string());
    settings
}

/// The reader of committed records. It has a group id only because librdkafka wants one to assign partitions; it never
/// joins, and never commits.
pub(super) fn tail(config: &KafkaConfig) -> ClientConfig {
    let mut settings = reader(config, Isolation::Committed);
    let defaults = [
        // What is prefetched is bounded: this is memory of every process.
        ("queued.max.messages.kbytes", "32768"),
        ("queued.min.messages", "50000"),
        // The end of a partition is told by an empty fetch, and a fetch at the end waits for this long.
        ("fetch.wait.max.ms", "50"),
        ("fetch.min.bytes", "1"),
        // librdkafka waits this long after an error or when its queue is full: 500 and 1000 ms are long for a tail.
        ("fetch.error.backoff.ms", "100"),
        ("fetch.queue.backoff.ms", "20"),
    ];
    user(&mut settings, config, &defaults);
    settings.set("enable.partition.eof", "true");
    settings
}

/// The member of the group: for membership and lag alone, it fetches nothing.
pub(super) fn member(config: &KafkaConfig) -> ClientConfig {
    let mut settings = reader(config, Isolation::Committed);
    let poll_interval_ms = POLL_INTERVAL.as_millis().to_string();
    let defaults = [
        // A dead process is noticed in 10 s, as its transaction is.
        ("session.timeout.ms", "10000"),
        ("heartbeat.interval.ms", "2000"),
        // A loop that hangs for a minute has lost its lanes.
        ("max.poll.interval.ms", poll_interval_ms.as_str()),
    ];
    user(&mut settings, config, &defaults);
    // The state of the membership is told nowhere else (lanes.rs).
    let statistics = (poll_interval(config) / 4).min(STATISTICS_EVERY_MAX);
    settings.set("statistics.interval.ms", statistics.as_millis().to_string());
    settings.set("group.protocol", "classic");
    settings.set("partition.assignment.strategy", "cooperative-sticky");
    settings.set("enable.partition.eof", "false");
    settings
}

/// How long a member may go without a poll before the group gives its partitions away: the default, or the user's.
pub(super) fn poll_interval(config: &KafkaConfig) -> Duration {
    let set = config.overrides.iter().rev().find(|(key, _)| key == "max.poll.interval.ms");
    let interval_ms = set.and_then(|(_, value)| value.trim().parse().ok()); // what is no number, librdkafka refuses
    interval_ms.map_or(POLL_INTERVAL, Duration::from_millis)
}

/// The member of the intake's group, who reads requests. Where a partition is read from is always said.
pub(super) fn requests(config: &KafkaConfig, group: &str) -> ClientConfig {
    let mut settings = member(config);
    let defaults = [
        // What is prefetched is bounded: this is memory of every process.
        ("queued.max.messages.kbytes", "16384"),
        ("queued.min.messages", "10000"),
        // As the tail: the defaults are long for somebody who waits for a payment.
        ("fetch.min.bytes", "1"),
        ("fetch.error.backoff.ms", "100"),
        ("fetch.queue.backoff.ms", "20"),
    ];
    user(&mut settings, config, &defaults);
    settings.set("group.id", group);
    settings
}

/// The producer of the intake's transactions: as [`committer`], but it sends records of up to `bytes_max`.
pub(super) fn intake_committer(config: &KafkaConfig, bytes_max: usize) -> ClientConfig {
    let mut settings = committer(config);
    let chosen = settings.get("message.max.bytes").and_then(|chosen| chosen.parse().ok()).unwrap_or(0);
    let bytes_max = bytes_max.max(chosen).min(MESSAGE_BYTES_CEILING);
    settings.set("message.max.bytes", bytes_max.to_string());
    settings
}

/// A client that looks things up: ends, single records, topics and their settings. `ListOffsets` follows the isolation.
pub(super) fn look_up(config: &KafkaConfig, isolation: Isolation) -> ClientConfig {
    let mut settings = reader(config, isolation);
    user(&mut settings, config, &[("fetch.wait.max.ms", "50"), ("queued.max.messages.kbytes", "2048")]);
    settings.set("enable.partition.eof", "true");
    settings
}

/// The client of `topics ensure` and of the guards (an admin client is a producer to librdkafka).
pub(super) fn admin(config: &KafkaConfig) -> ClientConfig {
    let mut settings = client(config);
    user(&mut settings, config, &[]);
    settings
}

fn producer(config: &KafkaConfig) -> ClientConfig {
    let mut settings = client(config);
    let defaults = [
        // A payment waits for the append, so hardly any time is spent on filling a batch.
        ("linger.ms", "1"),
        // A full queue refuses at once: the API answers 503 rather than hold what it cannot send.
        ("queue.buffering.max.messages", "100000"),
        ("queue.buffering.max.kbytes", "65536"),
    ];
    user(&mut settings, config, &defaults);
    settings.set("acks", "all");
    settings.set("enable.idempotence", "true");
    settings.set("max.in.flight.requests.per.connection", "5");
    settings
}

fn reader(config: &KafkaConfig, isolation: Isolation) -> ClientConfig {
    let mut settings = client(config);
    user(&mut settings, config, &[]);
    settings.set("group.id", &config.group);
    settings.set("enable.auto.commit", "false");
    settings.set("enable.auto.offset.store", "false");
    settings.set("auto.offset.reset", "error");
    settings.set("allow.auto.create.topics", "false");
    settings.set("check.crcs", "true");
    settings.set(
        "isolation.level",
        match isolation {
            Isolation::Committed => "read_committed",
            Isolation::Uncommitted => "read_uncommitted",
        },
    );
    settings
}

fn client(config: &KafkaConfig) -> ClientConfig {
    let mut settings = ClientConfig::new();
    let defaults = [
        ("client.id", "paylog"),
        ("socket.timeout.ms", SOCKET_TIMEOUT_MS),
        // A reconnect after a broker's restart must not wait for librdkafka's 10 s.
        ("reconnect.backoff.ms", "50"),
        ("reconnect.backoff.max.ms", "1000"),
        // Small requests that wait for their answer: Nagle would hold them back.
        ("socket.nagle.disable", "true"),
    ];
    user(&mut settings, config, &defaults);
    settings.set("bootstrap.servers", &config.bootstrap_servers);
    settings.set_log_level(RDKafkaLogLevel::Info);
    settings
}

/// Our defaults, then the user's wishes over them. Each kind of client adds its mandatory settings after this.
fn user(settings: &mut ClientConfig, config: &KafkaConfig, defaults: &[(&str, &str)]) {
    for (key, value) in defaults {
        settings.set(*key, *value);
    }
    for (key, value) in &config.overrides {
        // `validate` let a mandatory one through only if it says what we say.
        if MANDATORY.iter().all(|(mandatory, _, _)| *mandatory != canonical(key)) {
            settings.set(canonical(key), value);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(overrides: &[(&str, &str)]) -> KafkaConfig {
        let mut config = KafkaConfig::new("127.0.0.1:9092", "test");
        config.overrides = overrides.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        config
    }

    #[test]
    fn an_override_that_contradicts_correctness_is_refused_by_either_name() {
        for (key, value) in [
            ("acks", "1"),
            ("request.required.acks", "1"),
            ("enable.idempotence", "false"),
            ("isolation.level", "read_uncommitted"),
            ("metadata.broker.list", "elsewhere:9092"),
            ("auto.offset.reset", "latest"),
            ("group.instance.id", "static"),
            ("transactional.id", "mine"),
        ] {
            let refusal = validate(&config(&[(key, value)])).unwrap_err();
            assert!(matches!(&refusal, JournalError::Refused(text) if text.contains(key)), "{key}: {refusal}");
        }
    }

    #[test]
    fn what_librdkafka_does_not_take_is_refused_at_the_start() {
        for (key, value) in [("no.such.setting", "1"), ("max.poll.interval.ms", "soon"), ("linger.ms", "-7")] {
            let refusal = validate(&config(&[(key, value)])).unwrap_err();
            assert!(matches!(&refusal, JournalError::Refused(text) if text.contains(key)), "{key}: {refusal}");
        }
    }

    #[test]
    fn a_loop_may_go_without_a_poll_for_as_long_as_a_transaction_takes() {
        let refusal = validate(&config(&[("max.poll.interval.ms", "59999")])).unwrap_err();
        assert!(refusal.to_string().contains("must be 60000 at least"), "{refusal}");
        assert!(validate(&config(&[("max.poll.interval.ms", "60000")])).is_ok());
    }

    #[test]
    fn an_override_that_repeats_what_is_mandatory_is_let_through() {
        let same = [("acks", "-1"), ("acks", "all"), ("enable.idempotence", "1"), ("auto.offset.reset", "error")];
        assert!(validate(&config(&same)).is_ok());
    }

    #[test]
    fn an_override_beats_our_default_by_either_name() {
        let settings = appender(&config(&[("queue.buffering.max.ms", "7"), ("delivery.timeout.ms", "9000")]));
        assert_eq!(settings.get("linger.ms"), Some("7"));
        assert_eq!(settings.get("message.timeout.ms"), Some("9000"));
        assert_eq!(settings.get("acks"), Some("all"));
    }

    #[test]
    fn librdkafka_takes_every_setting() {
        let config = config(&[]);
        let all = [
            appender(&config),
            committer(&config),
            intake_committer(&config, usize::MAX),
            tail(&config),
            member(&config),
            requests(&config, "group-intake"),
            look_up(&config, Isolation::Uncommitted),
            admin(&config),
        ];
        for settings in all {
            settings.create_native_config().unwrap();
        }
    }

    #[test]
    fn the_transaction_timeout_is_said_once() {
        let (_, allowed, _) = MANDATORY.iter().find(|(key, _, _)| *key == "transaction.timeout.ms").unwrap();
        assert_eq!(*allowed, Some(TRANSACTION_TIMEOUT.as_millis().to_string().as_str()));
    }
}
