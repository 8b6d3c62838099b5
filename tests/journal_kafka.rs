//! The Kafka engine against a real broker. Every test owns its topics and its group, and waits on facts with a deadline.
//!
//!     PAYLOG_TEST_BOOTSTRAP=$(scripts/kafka up | cut -d= -f2) cargo test --test journal_kafka -- --ignored

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use paylog::journal::kafka::{KafkaConfig, KafkaJournal, check, ensure};
use paylog::journal::{
    Assignment, Fate, Journal, JournalError, Lanes, NewRecord, Offset, Partition, Position, Record, Tail, TailItem,
    Transaction, TransactionError,
};
use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;

const PARTITIONS: u32 = 3;
const DEADLINE: Duration = Duration::from_secs(60);
const TURN: Duration = Duration::from_millis(100);

fn bootstrap() -> String {
    std::env::var("PAYLOG_TEST_BOOTSTRAP").expect(
        "PAYLOG_TEST_BOOTSTRAP is not set: start a broker with `scripts/kafka up` and set it to what that prints",
    )
}

fn config() -> KafkaConfig {
    let unique = uuid::Uuid::new_v4().simple().to_string();
    KafkaConfig {
        topic_prefix: format!("payments-{unique}"),
        group: format!("group-{unique}"),
        partitions: PARTITIONS,
        allow_single_replica: true,
        ..KafkaConfig::new(bootstrap(), "first")
    }
}

fn open() -> (KafkaConfig, Arc<KafkaJournal>) {
    let config = config();
    ensure(&config, 1).expect("the topics can be made");
    let journal = KafkaJournal::open(config.clone()).expect("the journal opens");
    (config, journal)
}

fn twin(config: &KafkaConfig, instance_id: &str) -> Arc<KafkaJournal> {
    KafkaJournal::open(KafkaConfig {
        instance_id: instance_id.into(),
        ..config.clone()
    })
    .expect("the twin opens")
}

fn record(partition: u32, value: &str) -> NewRecord {
    NewRecord {
        partition: Partition(partition),
        key: b"key".to_vec(),
        headers: vec![("ce_type".into(), b"test".to_vec())],
        value: value.as_bytes().to_vec(),
    }
}

fn at(partition: u32, offset: u64) -> Position {
    Position::new(Partition(partition), Offset(offset))
}

fn append(journal: &dyn Journal, record: NewRecord) -> Position {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .expect("a runtime");
    runtime
        .block_on(journal.append(record))
        .expect("the record is appended")
}

/// Polls until `fact` holds, or panics saying what did not come true.
fn until<T>(what: &str, mut fact: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + DEADLINE;
    loop {
        if let Some(found) = fact() {
            return found;
        }
        assert!(Instant::now() < deadline, "not in time: {what}");
    }
}

/// Joins alone, and takes everything.
fn joined(journal: &dyn Journal) -> Box<dyn Lanes> {
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
fn read_all(journal: &dyn Journal) -> (Vec<Record>, BTreeMap<u32, u64>) {
    let mut tail = journal.tail(&[Offset(0); PARTITIONS as usize]).expect("a tail");
    catch_up(journal, &mut *tail)
}

fn catch_up(journal: &dyn Journal, tail: &mut dyn Tail) -> (Vec<Record>, BTreeMap<u32, u64>) {
    let (mut records, mut ends) = (Vec::new(), BTreeMap::new());
    let targets: Vec<u64> = (0..PARTITIONS)
        .map(|p| journal.ends(Partition(p)).expect("ends").committed.0)
        .collect();
    until("the tail caught up", || {
        for item in tail.poll(1000, TURN).expect("poll") {
            match item {
                TailItem::Record(record) => records.push(record),
                TailItem::CaughtUp(end) => {
                    ends.insert(end.partition.0, end.offset.0);
                }
            }
        }
        targets
            .iter()
            .zip(0..)
            .all(|(target, p)| ends.get(&p).is_some_and(|end| end >= target))
            .then_some(())
    });
    (records, ends)
}

fn values(records: &[Record]) -> Vec<String> {
    records
        .iter()
        .map(|record| String::from_utf8_lossy(&record.value).into_owned())
        .collect()
}

fn begin(lanes: &mut dyn Lanes) -> Box<dyn Transaction + '_> {
    lanes.begin().expect("a transaction begins")
}

fn committed(
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

fn create_topic(config: &KafkaConfig, partitions: i32, settings: &[(&str, &str)]) {
    let admin: AdminClient<DefaultClientContext> = ClientConfig::new()
        .set("bootstrap.servers", &config.bootstrap_servers)
        .create()
        .expect("an admin client");
    let mut topic = NewTopic::new(&config.topic_prefix, partitions, TopicReplication::Fixed(1));
    let history = [
        ("retention.ms", "-1"),
        ("retention.bytes", "-1"),
        ("message.timestamp.type", "LogAppendTime"),
    ];
    let mut all: BTreeMap<&str, &str> = history.into_iter().collect();
    all.extend(settings.iter().copied());
    for (key, value) in all {
        topic = topic.set(key, value);
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .expect("a runtime");
    let results = runtime
        .block_on(admin.create_topics([&topic], &AdminOptions::new()))
        .expect("an answer");
    assert!(results.iter().all(Result::is_ok), "the topic is made: {results:?}");
}

#[test]
#[ignore = "needs Kafka: scripts/kafka up"]
fn an_append_answers_with_its_position_in_order() {
    let (_, journal) = open();
    let positions: Vec<Position> = (0..3).map(|i| append(&*journal, record(1, &i.to_string()))).collect();
    assert_eq!(positions, [at(1, 0), at(1, 1), at(1, 2)]);
    let found = journal.read(at(1, 1)).expect("read").expect("a record");
    assert_eq!((found.value.as_slice(), found.key.as_slice()), (&b"1"[..], &b"key"[..]));
    assert_eq!(found.headers, [("ce_type".to_owned(), b"test".to_vec())]);
    assert!(
        found.appended_at_us > 1_500_000_000_000_000,
        "the log's clock: {}",
        found.appended_at_us
    );
    assert_eq!(journal.read(at(1, 3)).expect("read"), None, "past the end");
    assert_eq!(journal.read(at(0, 0)).expect("read"), None, "an empty partition");
}

#[test]
#[ignore = "needs Kafka: scripts/kafka up"]
fn a_missing_topic_is_refused_with_what_to_do() {
    match KafkaJournal::open(config()) {
        Err(JournalError::Refused(text)) => assert!(text.contains("paylog topics ensure"), "{text}"),
        other => panic!("a missing topic: {:?}", other.err()),
    }
}

#[test]
#[ignore = "needs Kafka: scripts/kafka up"]
fn ensure_twice_makes_the_topics_once() {
    let config = config();
    let made: Vec<bool> = ensure(&config, 1)
        .expect("ensure")
        .iter()
        .map(|topic| topic.created)
        .collect();
    let again: Vec<bool> = ensure(&config, 1)
        .expect("again")
        .iter()
        .map(|topic| topic.created)
        .collect();
    assert_eq!((made, again), (vec![true; 5], vec![false; 5]));
    check(&config).expect("the guards are content");
    let strict = KafkaConfig {
        allow_single_replica: false,
        ..config
    };
    assert!(
        matches!(check(&strict), Err(JournalError::Refused(_))),
        "a single replica"
    );
}

#[test]
#[ignore = "needs Kafka: scripts/kafka up"]
fn a_commit_answers_the_positions_that_the_tail_reads() {
    let (_, journal) = open();
    let mut lanes = joined(&*journal);
    let records = [record(0, "a"), record(1, "b"), record(0, "c"), record(0, "d")];
    let positions = committed(&mut *lanes, &records, &[at(0, 7), at(1, 8)]).expect("commit");
    assert_eq!(positions, [at(0, 0), at(1, 0), at(0, 1), at(0, 2)]);
    let (mut seen, ends) = read_all(&*journal);
    seen.sort_by_key(|record| record.position.partition);
    assert_eq!(values(&seen), ["a", "c", "d", "b"]);
    assert_eq!(ends, BTreeMap::from([(0, 4), (1, 2), (2, 0)]), "the markers count");
    assert_eq!(journal.read(at(0, 3)).expect("read"), None, "a marker is no record");
}

#[test]
#[ignore = "needs Kafka: scripts/kafka up"]
fn a_tail_that_begins_at_the_end_has_caught_up_at_once() {
    let (_, journal) = open();
    let mut lanes = joined(&*journal);
    committed(&mut *lanes, &[record(0, "a")], &[]).expect("commit");
    // At 1 stands the marker, 2 is the end.
    for from in [1, 2] {
        let mut tail = journal.tail(&[Offset(from), Offset(0), Offset(0)]).expect("a tail");
        let (records, ends) = catch_up(&*journal, &mut *tail);
        assert_eq!((records.len(), ends[&0]), (0, 2), "from {from}");
    }
}

#[test]
#[ignore = "needs Kafka: scripts/kafka up"]
fn a_tail_from_past_the_end_is_broken_for_the_log_lost_what_was_folded() {
    let (_, journal) = open();
    let mut tail = journal.tail(&[Offset(5), Offset(0), Offset(0)]).expect("a tail");
    let error = until("the tail breaks", || tail.poll(10, TURN).err());
    assert!(matches!(error, JournalError::Broken(_)), "{error}");
}

#[test]
#[ignore = "needs Kafka: scripts/kafka up"]
fn an_aborted_transaction_is_never_seen_and_its_marker_counts() {
    let (_, journal) = open();
    let mut lanes = joined(&*journal);
    let mut transaction = begin(&mut *lanes);
    transaction.append(record(0, "never")).expect("append");
    wait_until_open(&*journal);
    transaction.abort().expect("abort");
    let mut dropped = begin(&mut *lanes);
    dropped.append(record(1, "nor this")).expect("append");
    drop(dropped);
    append(&*journal, record(0, "plain"));
    let (seen, ends) = read_all(&*journal);
    assert_eq!(values(&seen), ["plain"]);
    assert_eq!(ends[&0], 3, "a record, its abort marker, a record");
    committed(&mut *lanes, &[record(1, "after")], &[]).expect("the producer is as good as new");
}

/// Until an open transaction stands between the two ends of partition 0.
fn wait_until_open(journal: &dyn Journal) {
    until("a transaction is open on partition 0", || {
        let ends = journal.ends(Partition(0)).expect("ends");
        (ends.committed < ends.uncommitted).then_some(())
    });
}

#[test]
#[ignore = "needs Kafka: scripts/kafka up"]
fn the_ends_differ_while_a_transaction_is_open() {
    let (_, journal) = open();
    let mut lanes = joined(&*journal);
    let mut transaction = begin(&mut *lanes);
    transaction.append(record(0, "a")).expect("append");
    wait_until_open(&*journal);
    assert_eq!(transaction.commit(&[at(0, 1)]).expect("commit"), [at(0, 0)]);
    until("the ends meet", || {
        let ends = journal.ends(Partition(0)).expect("ends");
        (ends.committed == Offset(2) && ends.uncommitted == Offset(2)).then_some(())
    });
}

#[test]
#[ignore = "needs Kafka: scripts/kafka up"]
fn a_second_member_takes_over_by_values_and_the_first_cannot_write_what_it_lost() {
    let (config, journal) = open();
    let mut first = joined(&*journal);
    let mut transaction = begin(&mut *first);
    transaction.append(record(0, "of an old generation")).expect("append");
    let mut second = twin(&config, "second").lanes().expect("a second member");
    // Cooperative: the newcomer gets nothing yet, but the generation has moved on.
    let nothing = until("the second member is in", || second.poll(TURN).expect("poll"));
    assert_eq!(nothing, Assignment::Assigned(vec![]));
    second.assign(&[]).expect("assign");
    let error = transaction.commit(&[at(0, 1)]).expect_err("an old generation");
    assert_eq!(error.fate, Fate::Retry, "{error}");

    let lost = until("the first is asked to give up", || {
        match first.poll(TURN).expect("poll") {
            Some(Assignment::Revoked { partitions, lost }) => Some((partitions, lost)),
            _ => None,
        }
    });
    assert!(!lost.1 && !lost.0.is_empty(), "a plain revocation: {lost:?}");
    first.unassign(&lost.0).expect("unassign");
    let error = committed(&mut *first, &[record(lost.0[0].0, "not mine")], &[]).expect_err("not held");
    assert_eq!((error.fate, error.culprit), (Fate::Retry, Some(lost.0[0])), "{error}");

    let taken = until("the second takes over", || {
        if let Some(Assignment::Assigned(partitions)) = first.poll(TURN).expect("poll") {
            first.assign(&partitions).expect("assign");
        }
        match second.poll(TURN).expect("poll") {
            Some(Assignment::Assigned(partitions)) if !partitions.is_empty() => Some(partitions),
            _ => None,
        }
    });
    assert_eq!(taken, lost.0);
    second.assign(&taken).expect("assign");
    let p = taken[0].0;
    let written = committed(&mut *second, &[record(p, "mine")], &[at(p, 1)]).expect("the new owner commits");
    assert_eq!(written[0].partition, taken[0]);
    assert_eq!(values(&read_all(&*journal).0), ["mine"]);
    second.leave(DEADLINE);
    first.leave(DEADLINE);
}

#[test]
#[ignore = "needs Kafka: scripts/kafka up"]
fn a_twin_with_the_same_instance_id_stops_the_first() {
    let (config, journal) = open();
    let mut first = joined(&*journal);
    committed(&mut *first, &[record(0, "a")], &[at(0, 1)]).expect("commit");
    let _twin = twin(&config, "first").lanes().expect("a twin");
    let error = committed(&mut *first, &[record(0, "b")], &[at(0, 2)]).expect_err("fenced");
    assert_eq!(error.fate, Fate::Stop, "{error}");
}

#[test]
#[ignore = "needs Kafka: scripts/kafka up"]
fn recycling_ends_what_the_old_producer_left_in_flight() {
    let (_, journal) = open();
    let mut lanes = joined(&*journal);
    let mut transaction = begin(&mut *lanes);
    transaction.append(record(0, "left in flight")).expect("append");
    wait_until_open(&*journal);
    std::mem::forget(transaction);
    lanes.recycle().expect("recycle");
    let positions = committed(&mut *lanes, &[record(0, "after")], &[at(0, 2)]).expect("commit");
    assert_eq!(positions, [at(0, 2)], "after the record and its abort marker");
    assert_eq!(values(&read_all(&*journal).0), ["after"]);
}

#[test]
#[ignore = "needs Kafka: scripts/kafka up"]
fn positions_are_committed_outside_a_transaction() {
    let (config, journal) = open();
    let mut lanes = joined(&*journal);
    lanes.commit_positions(&[at(2, 5)]).expect("commit positions");
    let consumer: rdkafka::consumer::BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", &config.bootstrap_servers)
        .set("group.id", &config.group)
        .create()
        .expect("a consumer");
    let mut list = rdkafka::TopicPartitionList::new();
    list.add_partition(&config.topic_prefix, 2);
    let found = rdkafka::consumer::Consumer::committed_offsets(&consumer, list, DEADLINE).expect("offsets");
    assert_eq!(found.elements()[0].offset(), rdkafka::Offset::Offset(5));
}

#[test]
#[ignore = "needs Kafka: scripts/kafka up"]
fn a_topic_that_would_lose_history_is_refused() {
    let cases: [(i32, &[(&str, &str)], &str); 4] = [
        (3, &[("cleanup.policy", "compact")], "cleanup.policy"),
        (3, &[("retention.ms", "604800000")], "retention.ms"),
        (3, &[("message.timestamp.type", "CreateTime")], "message.timestamp.type"),
        (4, &[], "4 partitions"),
    ];
    for (partitions, settings, wrong) in cases {
        let config = config();
        create_topic(&config, partitions, settings);
        match KafkaJournal::open(config) {
            Err(JournalError::Refused(text)) => assert!(text.contains(wrong), "{wrong}: {text}"),
            other => panic!("{wrong}: {:?}", other.err()),
        }
    }
}

#[test]
#[ignore = "needs Kafka, and prints figures: run alone with --nocapture"]
fn figures() {
    let (_, journal) = open();
    let mut lanes = joined(&*journal);
    for size in [1_u32, 10, 100] {
        let records: Vec<NewRecord> = (0..size).map(|i| record(i % PARTITIONS, &"x".repeat(200))).collect();
        let next: Vec<Position> = (0..PARTITIONS.min(size)).map(|p| at(p, 1)).collect();
        print_percentiles(&format!("transaction of {size}"), || {
            committed(&mut *lanes, &records, &next).expect("commit");
        });
    }
    print_percentiles("append", || {
        append(&*journal, record(0, &"x".repeat(200)));
    });
    let batch: Vec<NewRecord> = (0..5000).map(|i| record(i % PARTITIONS, &"x".repeat(200))).collect();
    let began = Instant::now();
    for _ in 0..40 {
        committed(&mut *lanes, &batch, &[at(0, 1)]).expect("commit");
    }
    println!(
        "transactions of 5000: {:.0} records/s",
        200_000.0 / began.elapsed().as_secs_f64()
    );
    let began = Instant::now();
    let (records, _) = read_all(&*journal);
    println!(
        "tail: {:.0} records/s of {}",
        records.len() as f64 / began.elapsed().as_secs_f64(),
        records.len()
    );
}

fn print_percentiles(what: &str, mut once: impl FnMut()) {
    let mut took: Vec<Duration> = (0..200)
        .map(|_| {
            let began = Instant::now();
            once();
            began.elapsed()
        })
        .collect();
    took.sort();
    println!("{what}: p50 {:?}, p99 {:?}", took[100], took[198]);
}
