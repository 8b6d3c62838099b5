//! The Kafka engine against a real broker. Every test owns its topics and its group, and waits on facts with a deadline.
//!
//!     PAYLOG_TEST_BOOTSTRAP=$(scripts/kafka up | cut -d= -f2) cargo test --test journal_kafka -- --ignored

mod faults;
mod figures;
mod requests;
mod support;

use std::collections::BTreeMap;

use paylog::journal::kafka::{KafkaConfig, KafkaJournal, check, ensure};
use paylog::journal::{Assignment, Fate, Journal, JournalError, Offset, Partition, Position, Reader, TailItem};
use rdkafka::ClientConfig;

use support::{
    DEADLINE, TURN, append, at, begin, catch_up, committed, config, create_topic, headers_at, joined, open, read_all,
    record, replication, twin, until, values,
};

#[test]
#[ignore = "needs Kafka: scripts/kafka up"]
fn an_append_answers_with_its_position_in_order() {
    let (config, journal) = open();
    let positions: Vec<Position> = (0..3).map(|i| append(&*journal, record(1, &i.to_string()))).collect();
    assert_eq!(positions, [at(1, 0), at(1, 1), at(1, 2)]);
    let found = journal.read(at(1, 1)).expect("read").expect("a record");
    assert_eq!((found.value.as_slice(), found.key.as_slice()), (&b"1"[..], &b"key"[..]));
    assert_eq!(headers_at(&config, at(1, 1)), [("ce_type".to_owned(), b"test".to_vec())]);
    assert!(found.appended_at_us > 1_500_000_000_000_000, "the log's clock: {}", found.appended_at_us);
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
    let made: Vec<bool> = ensure(&config, replication()).expect("ensure").iter().map(|topic| topic.created).collect();
    let again: Vec<bool> = ensure(&config, replication()).expect("again").iter().map(|topic| topic.created).collect();
    assert_eq!((made, again), (vec![true; 5], vec![false; 5]));
    check(&config).expect("the guards are content");
    let strict = KafkaConfig { allow_single_replica: false, ..config };
    let judged = check(&strict);
    assert_eq!(judged.is_ok(), replication() >= 3, "too few replicas need the operator's word: {judged:?}");
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

/// Kafka's clock says milliseconds, and between records stand markers.
#[test]
#[ignore = "needs Kafka: scripts/kafka up"]
fn where_the_log_stood_at_a_time_is_found() {
    let (_, journal) = open();
    let mut lanes = joined(&*journal);
    let first = |taken_us| journal.first_since(taken_us).expect("an answer");
    assert_eq!(first(i64::MIN), [Offset(0); 3], "nothing is there yet");
    for _ in 0..3 {
        committed(&mut *lanes, &[record(0, "a"), record(0, "b")], &[]).expect("commit");
        std::thread::sleep(std::time::Duration::from_millis(2)); // the next have another time
    }
    let taken = |offset| journal.read(at(0, offset)).expect("read").map(|record| record.appended_at_us);
    for offset in [0, 1, 3, 4, 6, 7] {
        let taken_us = taken(offset).expect("a record");
        let found = first(taken_us)[0].0;
        let (before, there) = ((0..found).rev().find_map(taken), (found..).find_map(taken));
        assert!(before < Some(taken_us) && there == Some(taken_us), "{offset}: {found}");
        assert_eq!(first(taken_us - 999)[0].0, found, "within the millisecond before it there is nothing");
    }
    assert_eq!((first(i64::MIN), first(i64::MAX)), (vec![Offset(0); 3], vec![Offset(9), Offset(0), Offset(0)]));
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

/// Whoever may write to the topic can write records as large as it takes: they are not copied all at once.
#[test]
#[ignore = "needs Kafka: scripts/kafka up"]
fn a_tail_hands_out_a_bounded_number_of_bytes() {
    const RECORDS: usize = 40;
    let large = "x".repeat(900_000);
    let (_, journal) = open();
    let mut tail = journal.tail(&[Offset(0); 3]).expect("a tail");
    for _ in 0..RECORDS {
        append(&*journal, record(0, &large));
    }
    let mut seen = 0;
    until("all is read", || {
        let items = tail.poll(1_000, TURN).expect("poll");
        let records = items.iter().filter(|item| matches!(item, TailItem::Record(_))).count();
        assert!(records * large.len() <= 17 * 1024 * 1024, "{records} at once");
        seen += records;
        (seen == RECORDS).then_some(())
    });
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

    let lost = until("the first is asked to give up", || match first.poll(TURN).expect("poll") {
        Some(Assignment::Revoked { partitions, lost }) => Some((partitions, lost)),
        _ => None,
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
    let mut twin = twin(&config, "first").lanes().expect("a twin");
    let fenced =
        |first: &mut dyn paylog::journal::Lanes| committed(first, &[record(0, "b")], &[at(0, 2)]).expect_err("fenced");
    let error = fenced(&mut *first);
    assert_eq!(error.fate, Fate::Recycle, "it might have been a timeout while the machine slept: {error}");
    first.recycle().expect("recycle");
    twin.recycle().expect("and so does the twin");
    let error = fenced(&mut *first);
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
    let cases = [
        (3, Some(("cleanup.policy", "compact")), "cleanup.policy"),
        (3, Some(("retention.ms", "604800000")), "retention.ms"),
        (3, Some(("message.timestamp.type", "CreateTime")), "message.timestamp.type"),
        (4, None, "4 partitions"),
    ];
    for (partitions, setting, wrong) in cases {
        let config = config();
        create_topic(&config, partitions, setting);
        match KafkaJournal::open(config) {
            Err(JournalError::Refused(text)) => assert!(text.contains(wrong), "{wrong}: {text}"),
            other => panic!("{wrong}: {:?}", other.err()),
        }
    }
}
