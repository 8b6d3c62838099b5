//! Faults that need a real broker's rules: what times out, who is still a member, how a client closes, what the log has lost.

use std::time::{Duration, Instant};

use paylog::journal::kafka::{KafkaConfig, KafkaJournal, ensure};
use paylog::journal::{Assignment, Fate, Journal, JournalError, Offset, Partition, Reader};
use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::topic_partition_list::TopicPartitionList;

use support::{
    DEADLINE, PARTITIONS, TURN, append, at, begin, committed, joined, open, read_all, record, replication, until,
    until_within, values,
};

use crate::support;

/// research/reliability.md, (b) 12.
#[test]
#[ignore = "needs Kafka: scripts/kafka up"]
fn a_transaction_that_the_broker_timed_out_is_recycled_and_done_again() {
    let (_, journal) = open();
    let mut lanes = joined(&*journal);
    let mut transaction = begin(&mut *lanes);
    transaction.append(record(0, "an outcome")).expect("append");
    until("the broker has timed the transaction out", || {
        let ends = journal.ends(Partition(0)).expect("ends");
        (ends.committed == Offset(2)).then_some(())
    });
    let error = transaction.commit(&[at(0, 2)]).expect_err("it is over");
    assert_eq!(error.fate, Fate::Recycle, "{error}");
    lanes.recycle().expect("recycle");
    let positions = committed(&mut *lanes, &[record(0, "an outcome")], &[at(0, 2)]).expect("commit");
    assert_eq!(positions, [at(0, 2)], "after the record and its abort marker");
    assert_eq!(values(&read_all(&*journal).0), ["an outcome"]);
}

/// (b) 21: it is told that its partitions are lost, and comes back.
#[test]
#[ignore = "needs Kafka: scripts/kafka up"]
fn a_member_that_is_not_polled_loses_its_partitions_and_comes_back() {
    /// `max.poll.interval.ms`, and some time for the group.
    const UNPOLLED_MAX: Duration = Duration::from_secs(120);
    let (config, journal) = open();
    let mut lanes = joined(&*journal);
    let asking: BaseConsumer =
        ClientConfig::new().set("bootstrap.servers", &config.bootstrap_servers).create().expect("a client");
    until_within(UNPOLLED_MAX, "the group has lost its member", || {
        let groups = asking.fetch_group_list(Some(&config.group), DEADLINE).expect("the group");
        std::thread::sleep(TURN);
        groups.groups().iter().all(|group| group.members().is_empty()).then_some(())
    });
    let lost = until("the member hears that it has lost its partitions", || lanes.poll(TURN).expect("poll"));
    assert!(
        matches!(&lost, Assignment::Revoked { partitions, lost: true } if partitions.len() == PARTITIONS as usize),
        "{lost:?}"
    );
    let error = committed(&mut *lanes, &[record(0, "of a member no more")], &[at(0, 1)]).expect_err("no member");
    assert_eq!(error.fate, Fate::Retry, "{error}");
    lanes.unassign(&[Partition(0), Partition(1), Partition(2)]).expect("unassign");
    let again = until("the member comes back", || lanes.poll(TURN).expect("poll"));
    let Assignment::Assigned(partitions) = again else { panic!("{again:?}") };
    until("the partitions are taken again", || lanes.assign(&partitions).ok());
    committed(&mut *lanes, &[record(0, "of a member again")], &[at(0, 1)]).expect("commit");
    lanes.leave(DEADLINE);
    assert_eq!(values(&read_all(&*journal).0), ["of a member again"]);
}

/// (b) 26.
#[test]
#[ignore = "needs Kafka: scripts/kafka up"]
fn full_queues_and_an_open_transaction_do_not_hold_up_the_end() {
    const QUEUED: usize = 50_000;
    let (_, journal) = open();
    let mut lanes = joined(&*journal);
    committed(&mut *lanes, &vec![record(1, &"x".repeat(200)); 5_000], &[at(1, 1)]).expect("commit");
    let mut tail = journal.tail(&[Offset(0); PARTITIONS as usize]).expect("a tail");
    until("the tail has begun to prefetch", || (!tail.poll(1, TURN).expect("poll").is_empty()).then_some(()));
    let mut transaction = begin(&mut *lanes);
    for _ in 0..QUEUED {
        transaction.append(record(0, &"x".repeat(200))).expect("append");
    }
    // As a panic would leave it: neither committed nor aborted.
    std::mem::forget(transaction);
    let began = Instant::now();
    drop(tail);
    lanes.leave(Duration::from_secs(5));
    assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
    let mut next = joined(&*journal);
    committed(&mut *next, &[record(2, "the next")], &[at(2, 1)]).expect("whoever comes next ends the leftovers");
}

/// (b) 28, as far as the topic itself can say it: its beginning is gone.
#[test]
#[ignore = "needs Kafka: scripts/kafka up"]
fn a_log_that_has_lost_its_beginning_is_refused() {
    let (config, journal) = open();
    append(&*journal, record(1, "history"));
    append(&*journal, record(1, "more of it"));
    journal.check().expect("all is well");
    let mut list = TopicPartitionList::new();
    list.add_partition_offset(&config.topic_prefix, 1, rdkafka::Offset::Offset(1)).expect("a list");
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    runtime.block_on(admin(&config).delete_records(&list, &AdminOptions::new())).expect("deleted");
    for refused in [journal.check().err(), KafkaJournal::open(config).err()] {
        match refused {
            Some(JournalError::Refused(text)) => assert!(text.contains("lost the beginning of partition 1"), "{text}"),
            other => panic!("a lost beginning: {other:?}"),
        }
    }
}

/// What is appended to a topic that took the place of ours is never acknowledged, not even before the guards look.
#[test]
#[ignore = "needs Kafka: scripts/kafka up"]
fn nothing_is_acknowledged_on_a_topic_that_took_the_place_of_ours() {
    let (config, journal) = open();
    let mut lanes = joined(&*journal);
    for n in 0..3 {
        append(&*journal, record(0, &n.to_string()));
    }
    assert_eq!(read_all(&*journal).0.len(), 3);
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    let admin = admin(&config);
    let deleted = runtime.block_on(admin.delete_topics(&[&config.topic_prefix], &AdminOptions::new()));
    assert!(deleted.expect("deleted").iter().all(Result::is_ok));
    until("the topic is made again", || ensure(&config, replication()).ok());
    let error = until("an append arrives on the new topic", || {
        match runtime.block_on(journal.append(record(0, "astray"))).expect_err("never acknowledged").to_string() {
            error if error.contains("replaced or cut") => Some(error),
            _ => None, // the client has not found the new topic yet
        }
    });
    assert!(error.contains("may or may not"), "{error}");
    let after = runtime.block_on(journal.append(record(1, "astray"))).expect_err("refused at once").to_string();
    assert!(after.contains("was not appended"), "{after}");
    assert!(matches!(journal.check(), Err(JournalError::Refused(_))));
    let refused = until("a transaction arrives on the new topic", || {
        lanes.poll(Duration::ZERO).expect("poll");
        let error = committed(&mut *lanes, &[record(0, "astray")], &[at(0, 3)]).expect_err("never committed");
        if error.fate == Fate::Recycle {
            lanes.recycle().expect("recycle");
        }
        (error.fate == Fate::Stop).then_some(error)
    });
    assert!(refused.reason.contains("replaced or cut"), "{refused}");
}

fn admin(config: &KafkaConfig) -> AdminClient<DefaultClientContext> {
    ClientConfig::new().set("bootstrap.servers", &config.bootstrap_servers).create().expect("an admin client")
}
