//! What all our Kafka clients share: librdkafka's logs go to `tracing`, its errors leave marks that the owner of the
//! client reads at its own pace, and neither a rebalance nor a delivery report runs any code of ours but a hand-over.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Mutex, PoisonError};

use rdkafka::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext};
use rdkafka::error::{KafkaError, KafkaResult};
use rdkafka::message::{DeliveryResult, Message};
use rdkafka::producer::ProducerContext;
use rdkafka::topic_partition_list::TopicPartitionList;
use rdkafka::types::RDKafkaRespErr;
use tokio::sync::oneshot;

use super::error::{Undelivered, is_denied, is_end_of_partition, is_fatal, is_transport};
use super::native::persisted;
use super::partitions_of;
use crate::journal::{Assignment, Offset, Partition, Position};
use crate::telemetry::Seldom;

/// What became of one record that was handed to a producer.
pub(super) type Delivery = Result<Position, Undelivered>;

/// The context of every client of ours. `name` says in the log which one speaks.
pub(super) struct Context {
    name: &'static str,
    /// The client is of no use any more: its owner makes a new one.
    fatal: AtomicBool,
    /// A connection that was in use broke, or a request timed out, since the owner last asked: librdkafka repeats what was
    /// in flight, and the first of it may yet arrive. Only clients that say so in their settings are told.
    doubt: AtomicBool,
    /// The cluster has not let us in since the owner last asked.
    denied: AtomicBool,
    /// Changes of assignment that the group's loop has not seen yet, in order.
    rebalances: Mutex<VecDeque<Assignment>>,
    /// The group has answered since the owner last asked.
    group_answered: AtomicBool,
    /// The partitions that the client does not read, since the owner last asked: none of them is, or it had to stop.
    stopped: Mutex<Option<BTreeSet<Partition>>>,
    /// How many rebalances the client had counted when it last told.
    rebalances_counted: AtomicI64,
    /// While a member leaves, nobody looks at `rebalances` any more: the callback answers librdkafka itself.
    leaving: AtomicBool,
    /// An outage is told by librdkafka many times a second: by its events, and to whoever reads.
    told: Seldom,
    read: Seldom,
}

/// The part of librdkafka's statistics that is looked at.
#[derive(serde::Deserialize)]
struct Statistics {
    cgrp: Option<Membership>,
    #[serde(default)]
    topics: BTreeMap<String, TopicStatistics>,
}

#[derive(serde::Deserialize)]
struct TopicStatistics {
    partitions: BTreeMap<String, PartitionStatistics>,
}

#[derive(serde::Deserialize)]
struct PartitionStatistics {
    partition: i64,
    fetch_state: String,
}

impl Statistics {
    /// Of a member, which knows one topic.
    fn stopped(&self) -> BTreeSet<Partition> {
        let partitions = self.topics.values().flat_map(|topic| topic.partitions.values());
        let stopped = partitions.filter(|partition| partition.fetch_state == "none");
        stopped.filter_map(|partition| u32::try_from(partition.partition).ok().map(Partition)).collect()
    }
}

#[derive(serde::Deserialize)]
struct Membership {
    state: String,
    join_state: String,
    rebalance_cnt: i64,
}

impl Context {
    pub(super) fn new(name: &'static str) -> Self {
        Self {
            name,
            fatal: AtomicBool::new(false),
            doubt: AtomicBool::new(false),
            denied: AtomicBool::new(false),
            rebalances: Mutex::default(),
            group_answered: AtomicBool::new(false),
            stopped: Mutex::default(),
            rebalances_counted: AtomicI64::new(0),
            leaving: AtomicBool::new(false),
            told: Seldom::new(),
            read: Seldom::new(),
        }
    }

    /// Is an error that a reader met, and that will pass, to be said in the log?
    pub(super) fn is_news(&self, error: &KafkaError) -> bool {
        !is_transport(error) || self.read.now()
    }

    pub(super) fn is_fatal(&self) -> bool {
        self.fatal.load(Ordering::Acquire)
    }

    /// Whether something was in doubt since the last call.
    pub(super) fn take_doubt(&self) -> bool {
        self.doubt.swap(false, Ordering::AcqRel)
    }

    /// Whether we were not let in since the last call.
    pub(super) fn take_denied(&self) -> bool {
        self.denied.swap(false, Ordering::AcqRel)
    }

    /// Whether the group gave a sign of life since the last call.
    pub(super) fn take_group_answered(&self) -> bool {
        self.group_answered.swap(false, Ordering::AcqRel)
    }

    /// Which partitions were not read when the client last told, if it has told since the last call.
    pub(super) fn take_stopped(&self) -> Option<BTreeSet<Partition>> {
        self.stopped.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    pub(super) fn next_rebalance(&self) -> Option<Assignment> {
        self.rebalances().pop_front()
    }

    pub(super) fn has_no_rebalance(&self) -> bool {
        self.rebalances().is_empty()
    }

    pub(super) fn leave(&self) {
        self.leaving.store(true, Ordering::Release);
    }

    fn rebalances(&self) -> std::sync::MutexGuard<'_, VecDeque<Assignment>> {
        // A panic cannot leave a half-made queue behind, so a poisoned lock is as good as any.
        self.rebalances.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl ClientContext for Context {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, text: &str) {
        let client = self.name;
        if lost_a_request(facility, text) {
            self.doubt.store(true, Ordering::Release);
        }
        match level {
            RDKafkaLogLevel::Emerg | RDKafkaLogLevel::Alert | RDKafkaLogLevel::Critical => {
                tracing::error!(client, facility, text, "librdkafka");
            }
            // librdkafka calls a broker that went away an error; it reconnects by itself.
            RDKafkaLogLevel::Error | RDKafkaLogLevel::Warning => {
                tracing::warn!(client, facility, text, "librdkafka");
            }
            RDKafkaLogLevel::Notice | RDKafkaLogLevel::Info => tracing::info!(client, facility, text, "librdkafka"),
            RDKafkaLogLevel::Debug => tracing::debug!(client, facility, text, "librdkafka"),
        }
    }

    /// Of a member's statistics two things are of interest: its membership, steady or at least on its way through
    /// rebalances, and what it does not read.
    fn stats_raw(&self, statistics: &[u8]) {
        let Ok(statistics) = serde_json::from_slice::<Statistics>(statistics) else { return };
        *self.stopped.lock().unwrap_or_else(PoisonError::into_inner) = Some(statistics.stopped());
        let Some(group) = statistics.cgrp else { return };
        let counted = self.rebalances_counted.swap(group.rebalance_cnt, Ordering::AcqRel);
        if counted != group.rebalance_cnt || (group.state == "up" && group.join_state == "steady") {
            self.group_answered.store(true, Ordering::Release);
        }
    }

    fn error(&self, error: KafkaError, reason: &str) {
        if is_fatal(&error) {
            self.fatal.store(true, Ordering::Release);
        }
        let denied = is_denied(&error);
        if denied {
            self.denied.store(true, Ordering::Release);
        }
        // The end of a partition is an error event too, and no error.
        if !is_end_of_partition(&error) && (!(denied || is_transport(&error)) || self.told.now()) {
            tracing::warn!(client = self.name, %error, reason, "kafka client error");
        }
    }
}

/// Does this line of librdkafka's log tell that a request may be on its way without anybody waiting for its answer? There is
/// no other way to know: librdkafka raises no error for a connection that was closed in order, none for an error that it has
/// met in the last 30 s, and one for every broker that merely cannot be reached. Its debug log leaves none out and names
/// the state in which a connection broke; requests are only sent in these two. `mock_tests` notices if it changes its words.
fn lost_a_request(facility: &str, text: &str) -> bool {
    match facility {
        "FAIL" => text.contains("in state UP") || text.contains("in state REAUTH"),
        "REQTMOUT" => true,
        _ => false,
    }
}

impl ConsumerContext for Context {
    /// Only hands the change over. In the cooperative protocol nothing moves until the loop answers by assign or
    /// unassign, so it may take its time.
    fn rebalance(&self, consumer: &BaseConsumer<Self>, kind: RDKafkaRespErr, list: &mut TopicPartitionList) {
        let assigned = kind == RDKafkaRespErr::RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS;
        if self.leaving.load(Ordering::Acquire) {
            let answer = if assigned { consumer.incremental_assign(list) } else { consumer.incremental_unassign(list) };
            if let Err(error) = answer {
                tracing::warn!(client = self.name, %error, "could not answer a rebalance while leaving");
            }
            return;
        }
        let partitions = partitions_of(list);
        self.rebalances().push_back(if assigned {
            Assignment::Assigned(partitions)
        } else {
            // Only here does librdkafka still know whether the partitions are lost: an answer resets it.
            Assignment::Revoked { partitions, lost: consumer.assignment_lost() }
        });
    }

    /// Only of who commits outside transactions: a group that stands still would have all of it read again, and told as lost once
    /// it is gone.
    fn commit_callback(&self, result: KafkaResult<()>, _: &TopicPartitionList) {
        static SELDOM: Seldom = Seldom::new();
        if let Err(error) = result
            && SELDOM.now()
        {
            tracing::warn!(client = self.name, %error, "the group's positions are not committed: they are tried again");
        }
    }
}

impl ProducerContext for Context {
    type DeliveryOpaque = Box<oneshot::Sender<Delivery>>;

    fn delivery(&self, result: &DeliveryResult<'_>, waiting: Self::DeliveryOpaque) {
        let delivery = match result {
            Ok(message) => position_of(message.partition(), message.offset()),
            Err((error, message)) => {
                let partition = u32::try_from(message.partition()).ok().map(Partition);
                Err(Undelivered::new(error, partition, persisted(message)))
            }
        };
        // Whoever asked may have given up: then nobody wants to know.
        let _ = waiting.send(delivery);
    }
}

fn position_of(partition: i32, offset: i64) -> Delivery {
    match (u32::try_from(partition), u64::try_from(offset)) {
        (Ok(partition), Ok(offset)) => Ok(Position::new(Partition(partition), Offset(offset))),
        // librdkafka has no offset for a record that turned out to be a duplicate of one that was acknowledged before
        // (a retry after a lost answer): it is on the log, but nobody can say where.
        _ => Err(Undelivered::without_offset(u32::try_from(partition).ok().map(Partition))),
    }
}

#[cfg(test)]
mod tests {
    use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};

    use super::{Context, lost_a_request};

    #[test]
    fn an_outage_is_said_once_a_minute_and_everything_else_at_once() {
        let context = Context::new("tail");
        let news = |code| context.is_news(&KafkaError::MessageConsumption(code));
        assert!(news(Code::AllBrokersDown));
        assert!(!news(Code::AllBrokersDown) && !news(Code::BrokerTransportFailure), "said a moment ago");
        assert!(news(Code::TopicAuthorizationFailed) && news(Code::TopicAuthorizationFailed));
    }

    #[test]
    fn only_a_connection_in_use_can_lose_a_request() {
        let broke = "127.0.0.1:9092/1: Disconnected (after 1034ms in state UP) (_TRANSPORT): error log suppressed";
        assert!(lost_a_request("FAIL", broke));
        assert!(lost_a_request("REQTMOUT", "Timed out EndTxnRequest in flight (after 8000ms, timeout #1)"));
        // A broker that is down is tried once a second: no transaction is in doubt for that.
        let refused =
            "127.0.0.1:9092/1: Connect to ipv4#127.0.0.1:9092 failed: Connection refused (after 0ms in state CONNECT)";
        assert!(!lost_a_request("FAIL", refused));
        assert!(!lost_a_request("STATE", "127.0.0.1:9092/1: Broker changed state UP -> DOWN"));
    }
}
