//! What a broker may answer to a transaction, and what becomes of it (research/reliability.md, (b) 4 to 11), with librdkafka
//! as it ships against its own mock cluster. The mock answers as it is told and keeps no rules: what is visible, who is
//! fenced and what times out is shown on real brokers (tests/journal_kafka).

use std::sync::Arc;
use std::time::{Duration, Instant};

use rdkafka::ClientConfig;
use rdkafka::mocking::MockCluster;
use rdkafka::producer::{BaseProducer, DefaultProducerContext, Producer};
use rdkafka::types::{RDKafkaApiKey as Api, RDKafkaRespErr as Answer};

use super::heights::Heights;
use super::lanes::KafkaLanes;
use super::{KafkaConfig, native};
use crate::journal::{Assignment, Fate, JournalError, Lanes, NewRecord, Offset, Partition, Position, TransactionError};
use Answer::{
    RD_KAFKA_RESP_ERR__TRANSPORT as TRANSPORT, RD_KAFKA_RESP_ERR_CONCURRENT_TRANSACTIONS as CONCURRENT,
    RD_KAFKA_RESP_ERR_COORDINATOR_NOT_AVAILABLE as NO_COORDINATOR,
    RD_KAFKA_RESP_ERR_ELIGIBLE_LEADERS_NOT_AVAILABLE as UNHANDLED,
    RD_KAFKA_RESP_ERR_FENCED_INSTANCE_ID as FENCED_INSTANCE,
    RD_KAFKA_RESP_ERR_GROUP_AUTHORIZATION_FAILED as GROUP_FORBIDDEN,
    RD_KAFKA_RESP_ERR_ILLEGAL_GENERATION as ILLEGAL_GENERATION,
    RD_KAFKA_RESP_ERR_INVALID_PRODUCER_EPOCH as INVALID_EPOCH,
    RD_KAFKA_RESP_ERR_INVALID_PRODUCER_ID_MAPPING as INVALID_MAPPING,
    RD_KAFKA_RESP_ERR_INVALID_TXN_STATE as INVALID_STATE, RD_KAFKA_RESP_ERR_NOT_ENOUGH_REPLICAS as NOT_ENOUGH_REPLICAS,
    RD_KAFKA_RESP_ERR_PRODUCER_FENCED as FENCED, RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED as TOPIC_FORBIDDEN,
    RD_KAFKA_RESP_ERR_UNKNOWN_MEMBER_ID as UNKNOWN_MEMBER,
};

const PARTITIONS: u32 = 3;
const DEADLINE: Duration = Duration::from_secs(30);

/// A cluster that answers as it is told, and a member that holds all its partitions.
struct Bed {
    lanes: Box<KafkaLanes>,
    /// The cluster is a part of this client.
    owner: BaseProducer<DefaultProducerContext>,
}

impl Bed {
    fn new() -> Self {
        Self::with(&[])
    }

    fn with(overrides: &[(&str, &str)]) -> Self {
        let owner: BaseProducer<DefaultProducerContext> =
            ClientConfig::new().set("test.mock.num.brokers", "1").create().expect("a mock cluster");
        native::mock_groups_begin_at_once(owner.client());
        let cluster = cluster_of(&owner);
        let partitions = i32::try_from(PARTITIONS).expect("few");
        cluster.create_topic("payments", partitions, 1).expect("a topic");
        let mut config = KafkaConfig::new(cluster.bootstrap_servers(), "instance");
        config.partitions = PARTITIONS;
        config.overrides = overrides.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        let mut lanes = Box::new(
            KafkaLanes::join(&config, &Arc::default(), &Arc::new(Heights::new(PARTITIONS))).expect("a member"),
        );
        let (mut held, deadline) = (0, Instant::now() + DEADLINE);
        while held < PARTITIONS as usize {
            assert!(Instant::now() < deadline, "the member is given its partitions");
            if let Some(Assignment::Assigned(partitions)) = lanes.poll(Duration::from_millis(20)).expect("poll") {
                lanes.assign(&partitions).expect("assign");
                held += partitions.len();
            }
        }
        drop(cluster);
        Self { lanes, owner }
    }

    fn answer(&self, request: Api, answers: &[Answer]) {
        cluster_of(&self.owner).request_errors(request, answers);
    }

    fn clear(&self, request: Api) {
        cluster_of(&self.owner).clear_request_errors(request);
    }

    /// One transaction over one partition.
    fn transact(&mut self) -> Result<Vec<Position>, TransactionError> {
        let value = b"an outcome".to_vec();
        let mut transaction = self.lanes.begin()?;
        transaction.append(NewRecord { partition: Partition(1), key: b"key".to_vec(), headers: Vec::new(), value })?;
        transaction.commit(&[Position::new(Partition(1), Offset(1))])
    }

    /// What was refused is committed by a transaction that follows, without a new producer. Not always by the next one:
    /// librdkafka purges a failed transaction late, and may purge the records of the next one with it.
    fn goes_on(&mut self) {
        for _ in 0..3 {
            match self.transact() {
                Ok(_) => return,
                Err(again) => assert_eq!((again.fate, again.culprit), (Fate::Retry, None), "{again}"),
            }
        }
        panic!("no transaction commits on the same producer");
    }

    /// No transaction begins on the old producer, and one commits on the new.
    fn needs_recycling(&mut self) {
        let refused = self.transact().expect_err("the old producer takes no other transaction");
        assert_eq!(refused.fate, Fate::Recycle, "{refused}");
        self.lanes.recycle().expect("a new producer");
        self.transact().expect("the outcome is committed by the new producer");
    }
}

fn cluster_of(owner: &BaseProducer<DefaultProducerContext>) -> MockCluster<'_, DefaultProducerContext> {
    owner.client().mock_cluster().expect("the cluster of this client")
}

/// (b) 4: the commit may have been carried out by a request whose answer was lost, and may be carried out again later.
#[test]
fn a_commit_over_broken_connections_leaves_the_producer_in_doubt() {
    let mut bed = Bed::new();
    bed.answer(Api::EndTxn, &[TRANSPORT, TRANSPORT, TRANSPORT]);
    let doubted = bed.transact().expect_err("a commit that met transport errors is looked up on the log");
    assert_eq!(doubted.fate, Fate::Recycle, "{doubted}");
    bed.needs_recycling();
}

/// (b) 5: the broker says the same to a producer whose transaction it timed out while the machine slept.
#[test]
fn a_producer_that_was_fenced_or_is_in_a_wrong_state_is_recycled() {
    for answer in [INVALID_EPOCH, FENCED, INVALID_STATE] {
        let mut bed = Bed::new();
        bed.answer(Api::EndTxn, &[answer]);
        let refused = bed.transact().expect_err("no commit");
        assert_eq!(refused.fate, Fate::Recycle, "{answer:?}: {refused}");
        bed.needs_recycling();
    }
}

/// (b) 5: two that share an id fence each other as often as they are recycled, until one of them stops.
#[test]
fn a_producer_that_is_fenced_again_at_once_stops() {
    let mut bed = Bed::new();
    for fate in [Fate::Recycle, Fate::Stop] {
        bed.answer(Api::EndTxn, &[FENCED]);
        let refused = bed.transact().expect_err("no commit");
        assert_eq!(refused.fate, fate, "{refused}");
        bed.needs_recycling();
    }
}

/// (b) 6: the last transaction's end is still being written; this one waits for it.
#[test]
fn concurrent_transactions_only_delay() {
    let mut bed = Bed::new();
    bed.answer(Api::AddPartitionsToTxn, &[CONCURRENT; 20]);
    bed.transact().expect("delayed, not aborted");
    bed.goes_on();
}

/// (b) 7: no outcome is lost and nothing is charged again, for the same records go into the next transaction.
#[test]
fn a_transaction_of_an_old_generation_is_aborted_and_tried_again() {
    for answer in [ILLEGAL_GENERATION, UNKNOWN_MEMBER, FENCED_INSTANCE] {
        let mut bed = Bed::new();
        bed.answer(Api::TxnOffsetCommit, &[answer]);
        let refused = bed.transact().expect_err("the group refuses");
        assert_eq!(refused.fate, Fate::Retry, "{answer:?}: {refused}");
        bed.goes_on();
    }
}

/// (b) 8: a right that was taken away does not come back by asking again.
#[test]
fn what_is_forbidden_stops_the_writer() {
    for (request, answer) in [(Api::TxnOffsetCommit, GROUP_FORBIDDEN), (Api::AddPartitionsToTxn, TOPIC_FORBIDDEN)] {
        let mut bed = Bed::new();
        bed.answer(request, &[answer; 10]);
        let refused = bed.transact().expect_err("forbidden");
        assert_eq!(refused.fate, Fate::Stop, "{refused}");
        assert!(refused.reason.contains("authorization failed"), "{refused}");
    }
}

/// (b) 9: the partition is named, so that it can be left out.
#[test]
fn a_partition_that_is_below_its_min_isr_is_named_as_the_culprit() {
    let mut bed = Bed::with(&[("message.timeout.ms", "400")]);
    bed.answer(Api::Produce, &[NOT_ENOUGH_REPLICAS; 100_000]);
    let refused = bed.transact().expect_err("not enough replicas");
    assert_eq!((refused.fate, refused.culprit), (Fate::Recycle, Some(Partition(1))), "{refused}");
    bed.clear(Api::Produce);
    bed.needs_recycling();
}

/// (b) 10: librdkafka knows the name of the code and handles it nowhere, as it is with TRANSACTION_ABORTABLE (120) in those
/// versions that know that one. Ours has no name for it, and brokers send it to no request of transaction protocol v1.
#[test]
fn an_answer_that_librdkafka_does_not_handle_aborts() {
    for request in [Api::AddPartitionsToTxn, Api::Produce, Api::AddOffsetsToTxn, Api::TxnOffsetCommit, Api::EndTxn] {
        let mut bed = Bed::new();
        bed.answer(request, &[UNHANDLED]);
        let refused = bed.transact().expect_err("not committed");
        match refused.fate {
            Fate::Retry => bed.goes_on(),
            Fate::Recycle => bed.needs_recycling(),
            Fate::Stop => panic!("{request:?}: {refused}"),
        }
    }
}

/// (b) 11: a broker forgets an id that was idle for a week.
#[test]
fn a_producer_that_the_broker_has_forgotten_is_recycled() {
    for request in [Api::AddPartitionsToTxn, Api::AddOffsetsToTxn, Api::TxnOffsetCommit, Api::EndTxn] {
        let mut bed = Bed::new();
        bed.answer(request, &[INVALID_MAPPING]);
        let refused = bed.transact().expect_err("forgotten");
        assert_eq!(refused.fate, Fate::Recycle, "{request:?}: {refused}");
        bed.needs_recycling();
    }
}

/// The last transaction of an id cannot end as long as one of its partitions is below its min ISR.
#[test]
fn an_id_that_cannot_be_had_gives_way_to_the_next() {
    for answer in [CONCURRENT, NO_COORDINATOR] {
        let mut bed = Bed::new();
        bed.answer(Api::InitProducerId, &[answer; 50]);
        let stuck = bed.lanes.recycle().expect_err("the first id cannot be had");
        assert!(matches!(stuck, JournalError::Unavailable(_)), "{answer:?}: {stuck}");
        let refused = bed.transact().expect_err("there is no producer");
        assert_eq!(refused.fate, Fate::Recycle, "{refused}");
        bed.clear(Api::InitProducerId);
        bed.lanes.recycle().expect("the second id");
        bed.goes_on();
    }
}

/// Lanes ask for the group's offsets in short turns, so that others go on; but one that is always too short asks for ever.
#[test]
fn a_coordinator_that_is_slow_is_given_more_time() {
    let mut bed = Bed::new();
    cluster_of(&bed.owner).broker_round_trip_time(1, Duration::from_millis(700)).expect("slow");
    let mut turns = 1;
    while let Err(late) = bed.lanes.assign(&[Partition(1)]) {
        assert!(matches!(late, JournalError::Unavailable(_)), "{late}");
        turns += 1;
        assert!(turns < 10, "it is never given enough: {late}");
    }
    assert!(turns > 1, "the first turn is short");
}

/// A member that the group has forgotten and does not take back would do nothing, and say nothing, for ever.
#[test]
fn a_group_that_is_silent_while_the_cluster_answers_ends_the_member() {
    let short = [("session.timeout.ms", "400"), ("max.poll.interval.ms", "400"), ("heartbeat.interval.ms", "100")];
    let mut bed = Bed::with(&short);
    bed.answer(Api::JoinGroup, &[NO_COORDINATOR; 100_000]);
    bed.answer(Api::Heartbeat, &[UNKNOWN_MEMBER]);
    let deadline = Instant::now() + DEADLINE;
    let silent = loop {
        assert!(Instant::now() < deadline, "nobody notices");
        match bed.lanes.poll(Duration::from_millis(20)) {
            Ok(Some(Assignment::Revoked { partitions, .. })) => bed.lanes.unassign(&partitions).expect("unassign"),
            Ok(Some(Assignment::Assigned(partitions))) => panic!("{partitions:?} of a group that does not answer"),
            Ok(None) => {}
            Err(error) => break error,
        }
    };
    assert!(silent.to_string().contains("the group has not answered for 1 s"), "{silent}");
}
