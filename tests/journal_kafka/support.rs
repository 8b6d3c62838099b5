//! A broker of its own topics and group for each test, and the waits that every story needs.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use paylog::journal::kafka::{KafkaConfig, KafkaJournal, ensure};
use paylog::journal::{
    Assignment, Journal, Lanes, NewRecord, Offset, Partition, Position, Record, Tail, TailItem, Transaction,
    TransactionError,
};
use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::message::{Headers, Message};
use rdkafka::topic_partition_list::TopicPartitionList;

pub const PARTITIONS: u32 = 3;
pub const DEADLINE: Duration = Duration::from_secs(60);
pub const TURN: Duration = Duration::from_millis(100);

pub fn bootstrap() -> String {
    std::env::var("PAYLOG_TEST_BOOTSTRAP").expect(
        "PAYLOG_TEST_BOOTSTRAP is not set: start a broker with `scripts/kafka up` and set it to what that prints",
    )
}

/// 1 unless PAYLOG_TEST_REPLICATION says 3, for a cluster of three brokers.
pub fn replication() -> u16 {
    std::env::var("PAYLOG_TEST_REPLICATION").map_or(1, |set| set.parse().expect("PAYLOG_TEST_REPLICATION is a number"))
}

pub fn config() -> KafkaConfig {
    let unique = uuid::Uuid::new_v4().simple().to_string();
    KafkaConfig {
        topic_prefix: format!("payments-{unique}"),
        group: format!("group-{unique}"),
        partitions: PARTITIONS,
        allow_single_replica: true,
        ..KafkaConfig::new(bootstrap(), "first")
    }
}

pub fn open() -> (KafkaConfig, Arc<KafkaJournal>) {
    let config = config();
    ensure(&config, replication()).expect("the topics can be made");
    let journal = KafkaJournal::open(config.clone()).expect("the journal opens");
    (config, journal)
}

pub fn twin(config: &KafkaConfig, instance_id: &str) -> Arc<KafkaJournal> {
    KafkaJournal::open(KafkaConfig { instance_id: instance_id.into(), ..config.clone() }).expect("the twin opens")
}

pub fn record(partition: u32, value: &str) -> NewRecord {
    NewRecord {
        partition: Partition(partition),
        key: b"key".to_vec(),
        headers: vec![("ce_type".into(), b"test".to_vec())],
        value: value.as_bytes().to_vec(),
    }
}

pub fn at(partition: u32, offset: u64) -> Position {
    Position::new(Partition(partition), Offset(offset))
}

pub fn append(journal: &dyn Journal, record: NewRecord) -> Position {
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    runtime.block_on(journal.append(record)).expect("the record is appended")
}

/// Polls until `fact` holds, or panics saying what did not come true.
pub fn until<T>(what: &str, fact: impl FnMut() -> Option<T>) -> T {
    until_within(DEADLINE, what, fact)
}

pub fn until_within<T>(patience: Duration, what: &str, mut fact: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + patience;
    loop {
        if let Some(found) = fact() {
            return found;
        }
        assert!(Instant::now() < deadline, "not in time: {what}");
    }
}

/// Joins alone, and takes everything.
pub fn joined(journal: &dyn Journal) -> Box<dyn Lanes> {
    let mut lanes = journal.lanes().expect("a member");
    let mut held = 0;
    until("the first member holds all partitions", || {
        if let Some(Assignment::Assigned(partitions)) = lanes.poll(TURN).expect("poll") {
            lanes.assign(&partitions).expect("assign");
            held += partitions.len();
        }
        (held == PARTITIONS as usize).then_some(())
    });
    lanes
}

/// Everything that a new reader sees until it has caught up with all partitions, and where it stands then.
pub fn read_all(journal: &dyn Journal) -> (Vec<Record>, BTreeMap<u32, u64>) {
    let mut tail = journal.tail(&[Offset(0); PARTITIONS as usize]).expect("a tail");
    catch_up(journal, &mut *tail)
}

/// To the uncommitted ends: a commit answers before its markers are written, so that the committed end may still be
/// before what was just committed.
pub fn catch_up(journal: &dyn Journal, tail: &mut dyn Tail) -> (Vec<Record>, BTreeMap<u32, u64>) {
    let (mut records, mut ends) = (Vec::new(), BTreeMap::new());
    let targets: Vec<u64> = (0..PARTITIONS).map(|p| journal.ends(Partition(p)).expect("ends").uncommitted.0).collect();
    until("the tail caught up", || {
        for item in tail.poll(1000, TURN).expect("poll") {
            match item {
                TailItem::Record(record) => records.push(record),
                TailItem::CaughtUp(end) => {
                    ends.insert(end.partition.0, end.offset.0);
                }
            }
        }
        targets.iter().zip(0..).all(|(target, p)| ends.get(&p).is_some_and(|end| end >= target)).then_some(())
    });
    (records, ends)
}

/// The headers of a record, as any consumer sees them: our own reader has no use for them.
pub fn headers_at(config: &KafkaConfig, position: Position) -> Vec<(String, Vec<u8>)> {
    let consumer: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", &config.bootstrap_servers)
        .set("group.id", "headers")
        .create()
        .expect("a consumer");
    let mut list = TopicPartitionList::new();
    let (partition, offset) = (position.partition.0 as i32, position.offset.0 as i64);
    list.add_partition_offset(&config.topic_prefix, partition, rdkafka::Offset::Offset(offset)).expect("a list");
    consumer.assign(&list).expect("assigned");
    until("the record comes", || {
        let message = consumer.poll(TURN)?.expect("a message");
        let headers = message.headers()?.iter();
        Some(headers.map(|header| (header.key.to_owned(), header.value.unwrap_or_default().to_vec())).collect())
    })
}

pub fn values(records: &[Record]) -> Vec<String> {
    records.iter().map(|record| String::from_utf8_lossy(&record.value).into_owned()).collect()
}

pub fn begin(lanes: &mut dyn Lanes) -> Box<dyn Transaction + '_> {
    lanes.begin().expect("a transaction begins")
}

pub fn committed(
    lanes: &mut dyn Lanes,
    records: &[NewRecord],
    next: &[Position],
) -> Result<Vec<Position>, TransactionError> {
    let mut transaction = lanes.begin()?;
    for record in records {
        transaction.append(record.clone())?;
    }
    transaction.commit(next)
}

pub fn create_topic(config: &KafkaConfig, partitions: i32, setting: Option<(&str, &str)>) {
    let admin: AdminClient<DefaultClientContext> =
        ClientConfig::new().set("bootstrap.servers", &config.bootstrap_servers).create().expect("an admin client");
    let mut topic = NewTopic::new(&config.topic_prefix, partitions, TopicReplication::Fixed(1));
    let history = [("retention.ms", "-1"), ("retention.bytes", "-1"), ("message.timestamp.type", "LogAppendTime")];
    let mut all: BTreeMap<&str, &str> = history.into_iter().collect();
    all.extend(setting);
    for (key, value) in all {
        topic = topic.set(key, value);
    }
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    let results = runtime.block_on(admin.create_topics([&topic], &AdminOptions::new())).expect("an answer");
    assert!(results.iter().all(Result::is_ok), "the topic is made: {results:?}");
}
