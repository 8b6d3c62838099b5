//! The door for requests: what comes in, and what one transaction moves.

use std::time::{Duration, Instant};

use paylog::journal::kafka::{KafkaConfig, KafkaJournal};
use paylog::journal::{
    Assignment, DeadLetter, Fate, Incoming, Journal, JournalError, Partition, Passage, Position, Requests, SourceRecord,
};
use rdkafka::ClientConfig;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};

use crate::support::{DEADLINE, PARTITIONS, TURN, at, create_topic, open, read_all, record, twin, until, values};

fn send(config: &KafkaConfig, values: &[(u32, &str)]) {
    let producer: BaseProducer =
        ClientConfig::new().set("bootstrap.servers", &config.bootstrap_servers).create().expect("a producer");
    let topic = format!("{}.requests", config.topic_prefix);
    for (partition, value) in values {
        let record: BaseRecord<'_, str, str> = BaseRecord::to(&topic).partition(*partition as i32).payload(*value);
        producer.send(record).map_err(|(error, _)| error).expect("sent");
    }
    producer.flush(DEADLINE).expect("delivered");
}

/// Joins alone, takes everything, and answers with what it read until there is as much as `wanted`.
fn joined(journal: &KafkaJournal, wanted: usize) -> (Box<dyn Requests>, Vec<SourceRecord>) {
    let mut requests = journal.requests().expect("a member");
    let mut held = 0;
    let mut read = Vec::new();
    until("all is assigned and read", || {
        read.extend(records(&mut *requests, &mut held));
        (held == PARTITIONS as usize && read.len() >= wanted).then_some(())
    });
    (requests, read)
}

/// One poll, which takes and gives up whatever the group says.
fn records(requests: &mut dyn Requests, held: &mut usize) -> Vec<SourceRecord> {
    let mut read = Vec::new();
    for incoming in requests.poll(100, TURN).expect("poll") {
        match incoming {
            Incoming::Record(record) => read.push(record),
            Incoming::Group(Assignment::Assigned(partitions)) => {
                requests.assign(&partitions).expect("assign");
                *held += partitions.len();
            }
            Incoming::Group(Assignment::Revoked { partitions, .. }) => {
                requests.unassign(&partitions).expect("unassign");
                *held -= partitions.len();
            }
            Incoming::Gone { .. } => panic!("nothing is gone: {incoming:?}"),
        }
    }
    read
}

fn letter(value: &str) -> DeadLetter {
    let value = Some(value.as_bytes().to_vec());
    DeadLetter { partition: Partition(2), key: None, headers: vec![("why".to_owned(), None)], value }
}

fn passage(event: &str, next: Position) -> Passage {
    Passage { events: vec![record(1, event)], dead_letters: vec![letter("no")], next: vec![next] }
}

fn texts(records: &[SourceRecord]) -> Vec<&str> {
    records.iter().map(|r| std::str::from_utf8(r.value.as_deref().unwrap_or_default()).unwrap()).collect()
}

#[test]
#[ignore = "needs Kafka: scripts/kafka up"]
fn a_member_reads_on_from_where_the_group_stands() {
    let (config, journal) = open();
    send(&config, &[(0, "a"), (0, "b"), (0, "c")]);
    let (mut first, read) = joined(&journal, 3);
    assert_eq!(texts(&read), ["a", "b", "c"], "from the beginning");
    first.commit(&passage("b", at(0, 2))).expect("commit");
    first.leave(DEADLINE);
    let (second, read) = joined(&twin(&config, "second"), 1);
    assert_eq!(texts(&read), ["c"]);
    second.leave(DEADLINE);
    assert_eq!(values(&read_all(&*journal).0), ["b"], "on the log");
}

#[test]
#[ignore = "needs Kafka: scripts/kafka up"]
fn a_recycled_member_knows_what_was_moved_on_and_what_was_not() {
    let (config, journal) = open();
    send(&config, &[(0, "a"), (1, "b")]);
    let (mut requests, _) = joined(&journal, 2);
    assert_eq!(requests.recycle().expect("recycle"), [], "the group never was anywhere");
    requests.commit(&passage("a", at(0, 1))).expect("commit");
    assert_eq!(requests.recycle().expect("recycle"), [at(0, 1)]);
    requests.commit(&passage("b", at(1, 1))).expect("as good as new");
    requests.leave(DEADLINE);
}

#[test]
#[ignore = "needs Kafka: scripts/kafka up"]
fn what_is_not_ours_is_not_moved_on() {
    let (config, journal) = open();
    send(&config, &[(0, "a")]);
    let (mut first, _) = joined(&journal, 1);
    let mut second = twin(&config, "second").requests().expect("a second member");
    let (mut of_first, mut of_second) = (PARTITIONS as usize, 0);
    until("both have some", || {
        records(&mut *first, &mut of_first);
        records(&mut *second, &mut of_second);
        (of_first > 0 && of_second > 0 && of_first + of_second == PARTITIONS as usize).then_some(())
    });
    // Each partition is one's own, and the other is refused it.
    let tries: Vec<(bool, bool)> = (0..PARTITIONS)
        .map(|partition| {
            let moved = |requests: &mut Box<dyn Requests>| match requests.commit(&passage("x", at(partition, 0))) {
                Ok(()) => true,
                Err(error) => {
                    assert_eq!(error.fate, Fate::Retry, "{error}");
                    false
                }
            };
            (moved(&mut first), moved(&mut second))
        })
        .collect();
    assert!(tries.iter().all(|(first, second)| first != second), "{tries:?}");
    assert_eq!(values(&read_all(&*journal).0).len(), PARTITIONS as usize, "what was refused is not on the log");
    second.leave(DEADLINE);
    first.leave(DEADLINE);
}

#[test]
#[ignore = "needs Kafka: scripts/kafka up"]
fn a_paused_partition_is_read_on_where_it_stood() {
    let (config, journal) = open();
    let (mut requests, _) = joined(&journal, 0);
    requests.pause(&[Partition(0)]).expect("pause");
    send(&config, &[(0, "a"), (0, "b"), (1, "other")]);
    let mut held = 0;
    let read =
        until("the other one is read", || Some(records(&mut *requests, &mut held)).filter(|read| !read.is_empty()));
    assert_eq!(texts(&read), ["other"]);
    requests.resume(&[Partition(0)]).expect("resume");
    let mut read = Vec::new();
    until("the rest comes", || {
        read.extend(records(&mut *requests, &mut held));
        (read.len() >= 2).then_some(())
    });
    assert_eq!(texts(&read), ["a", "b"]);
    requests.leave(DEADLINE);
}

/// Whoever waits for an earlier owner's transaction polls meanwhile, and takes the partition when it has ended.
#[test]
#[ignore = "needs Kafka: scripts/kafka up"]
fn a_transaction_of_an_earlier_owner_is_waited_for_in_short_turns() {
    let (config, journal) = open();
    send(&config, &[(0, "a"), (0, "b")]);
    let (topic, group) = (format!("{}.requests", config.topic_prefix), format!("{}-intake", config.group));
    let client = || {
        let mut client = ClientConfig::new();
        client.set("bootstrap.servers", &config.bootstrap_servers).set("group.id", &group);
        client
    };
    let member: BaseConsumer = client().create().expect("a consumer");
    let earlier: BaseProducer = client().set("transactional.id", &group).create().expect("a producer");
    earlier.init_transactions(DEADLINE).expect("an id");
    earlier.begin_transaction().expect("begun");
    let mut moved = rdkafka::TopicPartitionList::new();
    moved.add_partition_offset(&topic, 0, rdkafka::Offset::Offset(1)).expect("a list");
    let metadata = member.group_metadata().expect("a group");
    earlier.send_offsets_to_transaction(&moved, &metadata, DEADLINE).expect("moved on, and not committed");

    let mut requests = journal.requests().expect("a member");
    let mut offered = Vec::new();
    until("all is offered", || {
        for incoming in requests.poll(100, TURN).expect("poll") {
            match incoming {
                Incoming::Group(Assignment::Assigned(partitions)) => offered.extend(partitions),
                other => panic!("{other:?} before anything is taken"),
            }
        }
        (offered.len() == PARTITIONS as usize).then_some(())
    });
    let mut take = || {
        let began = Instant::now();
        let taken = requests.assign(&offered);
        assert!(began.elapsed() < Duration::from_secs(3), "a short turn: {:?}", began.elapsed());
        assert!(requests.poll(100, Duration::ZERO).expect("poll").iter().all(|i| matches!(i, Incoming::Record(_))));
        taken
    };
    for _ in 0..3 {
        assert!(matches!(take(), Err(JournalError::Unavailable(_))), "its transaction is open");
    }
    earlier.commit_transaction(DEADLINE).expect("committed");
    until("they are taken", || take().ok());
    requests.commit(&passage("b", at(0, 2))).expect("ours");
    requests.leave(DEADLINE);
}

/// The reader is in the middle when what comes next is removed: it says so, and reads on at what is left.
#[test]
#[ignore = "needs Kafka: scripts/kafka up"]
fn what_is_removed_under_a_reader_is_told() {
    let (config, journal) = open();
    send(&config, &[(0, "a")]);
    let (mut requests, _) = joined(&journal, 1);
    requests.pause(&[Partition(0)]).expect("pause");
    send(&config, &[(0, "b"), (0, "c"), (0, "d")]);
    let admin: rdkafka::admin::AdminClient<rdkafka::client::DefaultClientContext> =
        ClientConfig::new().set("bootstrap.servers", &config.bootstrap_servers).create().expect("an admin client");
    let mut removed = rdkafka::TopicPartitionList::new();
    let topic = format!("{}.requests", config.topic_prefix);
    removed.add_partition_offset(&topic, 0, rdkafka::Offset::Offset(3)).expect("a list");
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    runtime.block_on(admin.delete_records(&removed, &rdkafka::admin::AdminOptions::new())).expect("removed");
    requests.resume(&[Partition(0)]).expect("resume");
    let mut seen = Vec::new();
    until("the rest comes", || {
        seen.extend(requests.poll(100, TURN).expect("poll"));
        (seen.len() >= 2).then_some(())
    });
    assert_eq!(seen[0], Incoming::Gone { partition: Partition(0), missing: Some(2) });
    assert!(matches!(&seen[1], Incoming::Record(record) if record.position == at(0, 3)), "{seen:?}");
    requests.commit(&passage("d", at(0, 4))).expect("and it can be moved on");
    requests.leave(Duration::from_secs(5));
}

/// The topic ended before the place where the group stands, and was written past it before anybody looked: what stands at
/// lower offsets was never read.
#[test]
#[ignore = "needs Kafka: scripts/kafka up"]
fn a_topic_that_has_lost_its_end_and_grown_again_is_read_from_its_beginning() {
    const STANDS: u64 = 20;
    let (config, journal) = open();
    let (topic, group) = (format!("{}.requests", config.topic_prefix), format!("{}-intake", config.group));
    let mut stands = rdkafka::TopicPartitionList::new();
    stands.add_partition_offset(&topic, 0, rdkafka::Offset::Offset(STANDS as i64)).expect("a list");
    let consumer = || -> BaseConsumer {
        let mut client = ClientConfig::new();
        client.set("bootstrap.servers", &config.bootstrap_servers).set("group.id", &group);
        client.set("auto.offset.reset", "error").create().expect("a consumer")
    };
    let earlier = consumer();
    earlier.commit(&stands, CommitMode::Sync).expect("committed");
    send(&config, &[(0, "a"), (1, "other")]);
    let (mut requests, _) = joined(&journal, 0);
    // Whoever asks for the same place later, and has its answer, asked after our member.
    earlier.assign(&stands).expect("assigned");
    until("there is no such place", || earlier.poll(TURN)).expect_err("it is past the end");
    send(&config, &vec![(0, "later"); 2 * STANDS as usize]);

    let mut seen = Vec::new();
    let of_0 = |i: &Incoming| matches!(i, Incoming::Record(record) if record.position.partition == Partition(0));
    until("all is read", || {
        seen.extend(requests.poll(1_000, TURN).expect("poll"));
        (seen.iter().filter(|incoming| of_0(incoming)).count() > 2 * STANDS as usize).then_some(())
    });
    assert!(seen.contains(&Incoming::Gone { partition: Partition(0), missing: None }), "{seen:?}");
    let first = seen.iter().find(|incoming| of_0(incoming));
    assert!(matches!(first, Some(Incoming::Record(record)) if record.position == at(0, 0)), "{first:?}");
    let others = seen.iter().filter(|i| matches!(i, Incoming::Record(r) if r.position.partition == Partition(1)));
    assert!(others.count() <= 1, "no other partition is read again: {seen:?}");
    requests.leave(DEADLINE);
}

#[test]
#[ignore = "needs Kafka: scripts/kafka up"]
fn a_twin_with_the_same_instance_id_stops_the_first_intake() {
    let (config, journal) = open();
    send(&config, &[(0, "a")]);
    let (mut first, _) = joined(&journal, 1);
    first.commit(&passage("a", at(0, 1))).expect("commit");
    let mut twin = twin(&config, "first").requests().expect("a twin");
    let error = first.commit(&passage("b", at(0, 1))).expect_err("fenced");
    assert_eq!(error.fate, Fate::Recycle, "it might have been a timeout while the machine slept: {error}");
    first.recycle().expect("recycle");
    twin.recycle().expect("and so does the twin");
    let error = first.commit(&passage("b", at(0, 1))).expect_err("fenced");
    assert_eq!(error.fate, Fate::Stop, "{error}");
}

#[test]
#[ignore = "needs Kafka: scripts/kafka up"]
fn without_its_topics_there_is_no_intake() {
    let config = crate::support::config();
    create_topic(&config, PARTITIONS as i32, None);
    let journal = KafkaJournal::open(config).expect("the log alone is enough for others");
    match journal.requests() {
        Err(JournalError::Refused(text)) => assert!(text.contains("paylog topics ensure"), "{text}"),
        other => panic!("without topics: {:?}", other.err()),
    }
}
