//! The log on Apache Kafka, for any number of processes. The only module that knows rdkafka.
//!
//! One [`KafkaJournal`] is one topic. It owns the idempotent producer of [`appender`] and the readers of [`look_up`],
//! and gives out [`tail`]s and [`lanes`]; each of those owns its own client and belongs to one thread.

mod appender;
pub mod bare;
mod committer;
mod context;
mod dead_letters;
mod error;
mod fetcher;
mod foreign;
mod group;
mod guards;
mod heights;
mod history;
pub mod hub;
mod lanes;
mod look_up;
#[cfg(test)]
mod mock_tests;
mod native;
mod pulse;
mod reader;
mod requests;
mod reseat;
pub mod restore;
mod settings;
mod tail;
mod threaded;
mod topics;
mod transaction;

use std::collections::BTreeMap;
use std::fmt;
use std::future::Future;
use std::pin::pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context as TaskContext, Poll, Wake, Waker};
use std::thread::{self, Thread};
use std::time::{Duration, Instant};

use rdkafka::message::OwnedHeaders;
use rdkafka::producer::BaseRecord;
use rdkafka::topic_partition_list::TopicPartitionList;

use crate::journal::{
    Appending, Ends, Engine, History, Journal, JournalError, Lanes, LogId, NewRecord, Offset, Partition, Position,
    Reader, Record, Requests, SourceRecord, Span, Tail,
};
use appender::Appender;
use heights::Heights;
use look_up::LookUp;
use pulse::Pulse;
use topics::Kind;

pub use dead_letters::DeadLetters;
pub use reader::reader;
pub use settings::validate;
pub use topics::{Ensured, Planned, check, ensure, plan};

/// How many partitions the event topic is created with, for ever.
pub const DEFAULT_PARTITIONS: u32 = 12;
pub const DEFAULT_TOPIC_PREFIX: &str = "payments";
pub const DEFAULT_GROUP: &str = "paylog-processor";

/// How long the guards wait for an old client to close.
const CLOSE_DEADLINE: Duration = Duration::from_secs(5);
/// How long a question to the cluster may take.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);

/// Where the log is and who we are on it.
#[derive(Clone)]
pub struct KafkaConfig {
    pub bootstrap_servers: String,
    /// The event topic's name; the other topics are `<prefix>.requests`, `.deliveries`, `.dead-letter`, `.control`.
    pub topic_prefix: String,
    pub group: String,
    /// Kept in the data directory, so that a restart ends what its predecessor left open.
    pub instance_id: String,
    pub partitions: u32,
    /// For trying things out: a log on a single broker is lost with its disk.
    pub allow_single_replica: bool,
    /// The user's librdkafka settings. May hold secrets.
    pub overrides: Vec<(String, String)>,
}

/// The event topic.
pub struct KafkaJournal {
    config: KafkaConfig,
    log_id: LogId,
    appender: Appender,
    /// Replaced at each look of the guards. A client that has seen a later leader believes no metadata that know of an earlier
    /// one, and would never hear of a log that was restored from a backup.
    look_up: Mutex<Arc<LookUp>>,
    /// How many replicas must have a record before it is acknowledged: `min.insync.replicas` as the guards last saw it.
    in_sync_min: Arc<AtomicU64>,
    heights: Arc<Heights>,
    /// Of the lanes that were given out.
    pulse: Arc<Pulse>,
    /// Of the intake.
    intake_pulse: Arc<Pulse>,
}

impl KafkaConfig {
    #[must_use]
    pub fn new(bootstrap_servers: impl Into<String>, instance_id: impl Into<String>) -> Self {
        Self {
            bootstrap_servers: bootstrap_servers.into(),
            topic_prefix: DEFAULT_TOPIC_PREFIX.into(),
            group: DEFAULT_GROUP.into(),
            instance_id: instance_id.into(),
            partitions: DEFAULT_PARTITIONS,
            allow_single_replica: false,
            overrides: Vec::new(),
        }
    }

    /// Where the control log is: a journal of its own, of one partition (docs/decisions/0006).
    #[must_use]
    pub fn control(&self) -> Self {
        Self { topic_prefix: format!("{}.control", self.topic_prefix), partitions: 1, ..self.clone() }
    }
}

impl KafkaConfig {
    /// Where the log of deliveries is: a journal of its own, whose lanes have a group of their own (docs/decisions/0017).
    #[must_use]
    pub fn deliveries(&self) -> Self {
        let topic_prefix = format!("{}.deliveries", self.topic_prefix);
        Self { topic_prefix, group: format!("{}-notify", self.group), ..self.clone() }
    }
}

impl fmt::Debug for KafkaConfig {
    /// Without the values of the overrides: one of them may be a password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let overridden: Vec<&str> = self.overrides.iter().map(|(key, _)| key.as_str()).collect();
        f.debug_struct("KafkaConfig")
            .field("bootstrap_servers", &self.bootstrap_servers)
            .field("topic_prefix", &self.topic_prefix)
            .field("group", &self.group)
            .field("instance_id", &self.instance_id)
            .field("partitions", &self.partitions)
            .field("allow_single_replica", &self.allow_single_replica)
            .field("overridden", &overridden)
            .finish()
    }
}

impl KafkaJournal {
    /// Connects, finds the topic and runs the guards. Blocks.
    pub fn open(config: KafkaConfig) -> Result<Arc<Self>, JournalError> {
        Self::open_as(config, Kind::History)
    }

    fn open_as(config: KafkaConfig, kind: Kind) -> Result<Arc<Self>, JournalError> {
        settings::validate(&config)?;
        let log_id = topics::topic_id(&config)?;
        let look_up = LookUp::new(&config)?;
        let in_sync_min = Arc::new(AtomicU64::new(guards::check_event_topic_as(&config, &look_up, kind)?));
        let heights = Arc::new(Heights::new(config.partitions));
        let appender = Appender::new(&config, &heights)?;
        let look_up = Mutex::new(Arc::new(look_up));
        tracing::info!(topic = config.topic_prefix, %log_id, partitions = config.partitions, "kafka journal open");
        Ok(Arc::new(Self {
            config,
            log_id,
            appender,
            look_up,
            in_sync_min,
            heights,
            pulse: Arc::default(),
            intake_pulse: Arc::default(),
        }))
    }
}

impl KafkaJournal {
    fn look_up(&self) -> Arc<LookUp> {
        Arc::clone(&self.look_up.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn replace_look_up(&self, fresh: Arc<LookUp>) {
        let old = std::mem::replace(&mut *self.look_up.lock().unwrap_or_else(PoisonError::into_inner), fresh);
        drop_within(old, "look-up", CLOSE_DEADLINE);
    }
}

impl Reader for KafkaJournal {
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
        Ok(Box::new(tail::KafkaTail::open(&self.config, &self.heights, from)?))
    }

    fn ends(&self, partition: Partition) -> Result<Ends, JournalError> {
        self.look_up().ends(partition)
    }

    fn read(&self, position: Position) -> Result<Option<Record>, JournalError> {
        self.look_up().read(position)
    }

    fn first_since(&self, taken_us: i64) -> Result<Vec<Offset>, JournalError> {
        self.look_up().first_since(self.config.partitions, taken_us)
    }

    fn history(&self, spans: &[Span]) -> Result<Box<dyn History>, JournalError> {
        Ok(Box::new(history::KafkaHistory::open(&self.config, &self.heights, spans)?))
    }

    fn check(&self) -> Result<(), JournalError> {
        self.heights.check()?;
        let now = topics::topic_id(&self.config)?;
        if now != self.log_id {
            let topic = &self.config.topic_prefix;
            let text =
                format!("the topic {topic} was deleted and made again (its id was {}, is {now}): restart", self.log_id);
            return Err(JournalError::Refused(text));
        }
        let fresh = Arc::new(LookUp::new(&self.config)?);
        let in_sync_min = guards::check_event_topic(&self.config, &fresh)?;
        self.replace_look_up(fresh);
        self.in_sync_min.store(in_sync_min, Ordering::Relaxed);
        Ok(())
    }
}

impl Journal for KafkaJournal {
    fn append(&self, record: NewRecord) -> Appending {
        self.appender.append(record)
    }

    fn restore(&self, record: &SourceRecord) -> Appending {
        self.appender.restore(record)
    }

    fn lanes(&self) -> Result<Box<dyn Lanes>, JournalError> {
        Ok(Box::new(lanes::KafkaLanes::join(&self.config, &self.pulse, &self.heights)?))
    }

    fn writable(&self, partition: Partition) -> Result<(), JournalError> {
        self.unwritable()?.remove(&partition).map_or(Ok(()), |why| Err(JournalError::Unavailable(why)))
    }

    fn unwritable(&self) -> Result<BTreeMap<Partition, String>, JournalError> {
        self.look_up().unwritable(self.config.partitions, self.in_sync_min.load(Ordering::Relaxed))
    }

    fn check_members(&self) -> Result<(), JournalError> {
        let interval = settings::poll_interval(&self.config);
        self.pulse.must_be_served("lanes", interval)?;
        self.intake_pulse.must_be_served("intake", interval)
    }

    fn requests(&self) -> Result<Box<dyn Requests>, JournalError> {
        Ok(Box::new(requests::KafkaRequests::join(&self.config, &self.intake_pulse, &self.in_sync_min)?))
    }
}

/// A record as the producers take it. Partition and all are ours to choose, never the client's.
fn base_record<'a, D: rdkafka::util::IntoOpaque>(
    topic: &'a str,
    record: &'a NewRecord,
    opaque: D,
) -> BaseRecord<'a, [u8], [u8], D> {
    let mut headers = OwnedHeaders::new_with_capacity(record.headers.len());
    for (key, value) in &record.headers {
        headers = headers.insert(rdkafka::message::Header { key, value: Some(value.as_slice()) });
    }
    BaseRecord::with_opaque_to(topic, opaque)
        .partition(kafka_partition(record.partition))
        .key(record.key.as_slice())
        .payload(record.value.as_slice())
        .headers(headers)
}

/// Kafka counts partitions in an `i32`; a number that does not fit names no partition there either.
fn kafka_partition(partition: Partition) -> i32 {
    i32::try_from(partition.0).unwrap_or(i32::MAX)
}

fn kafka_offset(offset: Offset) -> rdkafka::Offset {
    rdkafka::Offset::Offset(i64::try_from(offset.0).unwrap_or(i64::MAX))
}

fn partitions_of(list: &TopicPartitionList) -> Vec<Partition> {
    list.elements().iter().filter_map(|element| u32::try_from(element.partition()).ok().map(Partition)).collect()
}

/// `partitions` of `topic`, each at its offset.
fn list_of(topic: &str, positions: impl IntoIterator<Item = (Partition, rdkafka::Offset)>) -> TopicPartitionList {
    let mut list = TopicPartitionList::new();
    for (partition, offset) in positions {
        if let Err(error) = list.add_partition_offset(topic, kafka_partition(partition), offset) {
            // Only an offset that is neither a number nor one of Kafka's names is refused, and we make none.
            tracing::error!(%partition, %error, "an offset that Kafka does not know");
        }
    }
    list
}

/// Waits for an answer of the admin client, whose own thread completes it. A runtime is neither needed nor wanted: this
/// runs on blocking threads, with or without one around.
fn wait<F: Future>(future: F) -> F::Output {
    struct Unpark(Thread);
    impl Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }
    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    let mut context = TaskContext::from_waker(&waker);
    let mut future = pin!(future);
    loop {
        match future.as_mut().poll(&mut context) {
            Poll::Ready(output) => return output,
            Poll::Pending => thread::park(),
        }
    }
}

/// What is left until `deadline`, for a poll. In whole milliseconds, rounded up, as librdkafka waits: rdkafka 0.39 spins through
/// what is left of one.
fn wait_until(deadline: Instant) -> Duration {
    let left_ms = deadline.saturating_duration_since(Instant::now()).as_nanos().div_ceil(1_000_000);
    Duration::from_millis(u64::try_from(left_ms).unwrap_or(u64::MAX))
}

/// Drops a client on a thread of its own and waits for it no longer than `deadline`: closing one can hang.
fn drop_within<T: Send + 'static>(client: T, name: &'static str, deadline: Duration) {
    let began = Instant::now();
    let (done, closed) = std::sync::mpsc::channel();
    let closer = thread::Builder::new().name(format!("close-{name}")).spawn(move || {
        drop(client);
        let _ = done.send(());
    });
    if let Err(error) = closer {
        // The client went down with the closure, on this thread: there is nothing left to wait for.
        tracing::warn!(client = name, %error, "no thread to close a kafka client on");
    } else if closed.recv_timeout(deadline).is_err() {
        let waited_ms = began.elapsed().as_millis();
        tracing::warn!(client = name, waited_ms, "a kafka client does not close, leaving it behind");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A client that cannot be closed before somebody lets it.
    struct Stuck(std::sync::mpsc::Receiver<()>);

    impl Drop for Stuck {
        fn drop(&mut self) {
            let _ = self.0.recv();
        }
    }

    #[test]
    fn a_client_that_does_not_close_is_left_behind() {
        let (let_go, stuck) = std::sync::mpsc::channel();
        let (deadline, began) = (Duration::from_millis(50), Instant::now());
        drop_within(Stuck(stuck), "stuck", deadline);
        assert!(began.elapsed() >= deadline, "it was waited for");
        // Had it been waited for to the end, nobody would ever have come here to let it go.
        drop(let_go);
        let began = Instant::now();
        drop_within("closes at once", "quick", Duration::from_secs(60));
        assert!(began.elapsed() < Duration::from_secs(60), "what closes is not waited for longer");
    }

    #[test]
    fn a_config_that_is_printed_shows_no_secret() {
        let mut config = KafkaConfig::new("127.0.0.1:9092", "a");
        config.overrides.push(("sasl.password".into(), "hunter2".into()));
        let printed = format!("{config:?}");
        assert!(printed.contains("sasl.password") && !printed.contains("hunter2"), "{printed}");
    }

    #[test]
    fn a_poll_waits_for_whole_milliseconds() {
        let wait = wait_until(Instant::now() + Duration::from_micros(2500));
        assert!(wait.as_micros().is_multiple_of(1000) && wait <= Duration::from_millis(3), "{wait:?}");
        assert_eq!(wait_until(Instant::now()), Duration::ZERO);
    }
}
