//! Membership in the group of those who take requests in: unlike a lane's it fetches, and its transactions carry offsets of
//! the topic that it reads.
//!
//! Promises that a record of a partition that is ours is handed out once, in order: whatever is older than the assignment
//! in force, or was handed out before, is dropped here. What cannot be read is asked for again for ever; what the topic no
//! longer has is told, never passed over in silence.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::message::{BorrowedMessage, Message, OwnedHeaders};
use rdkafka::producer::BaseRecord;
use rdkafka::topic_partition_list::TopicPartitionList;
use rdkafka::util::IntoOpaque;

use super::committer::{Committer, instance};
use super::context::Context;
use super::error::{ReadVerdict, is_fatal, journal_error, read_verdict};
use super::group::{GroupSilence, STABLE_WAIT_MAX, answer_all, stable_offsets};
use super::pulse::Pulse;
use super::{
    KafkaConfig, REQUEST_TIMEOUT, base_record, drop_within, guards, kafka_offset, kafka_partition, list_of, native,
    settings, topics,
};
use crate::journal::{
    Assignment, Crossing, DeadLetter, Fate, Incoming, JournalError, Offset, Partition, Passage, Position, Requests,
    SourceRecord, Transaction, TransactionError,
};

/// What one poll hands out at most: records are copied, and a foreign one can be large.
const POLL_BYTES_MAX: usize = 8 * 1024 * 1024;
/// Between two tries to read on where reading failed.
const RESEAT_PAUSE: Duration = Duration::from_secs(1);
/// For a member that is dropped without leaving: after a panic, for example.
const DROP_DEADLINE: Duration = Duration::from_secs(5);

pub(super) struct KafkaRequests {
    crossing: Crossing,
    events: String,
    dead_letters: String,
    /// `None` only while it is being dropped.
    member: Option<BaseConsumer<Context>>,
    committer: Committer,
    /// The partitions in force: what may be moved on.
    held: BTreeSet<Partition>,
    /// The next offset to hand out of each of them; none before the first record of one that is read from its beginning.
    next: BTreeMap<Partition, Offset>,
    paused: BTreeSet<Partition>,
    /// Handed out and not answered yet: the group waits for it.
    unanswered: Option<Assignment>,
    /// Reading failed somewhere: when every partition is to be read on from where it stands.
    reseat_at: Option<Instant>,
    reseated: Instant,
    silence: GroupSilence,
    pulse: Arc<Pulse>,
    deadline: Duration,
}

impl KafkaRequests {
    /// Connects, looks at the topics on both sides, and joins. Blocks.
    pub(super) fn join(config: &KafkaConfig, pulse: &Arc<Pulse>) -> Result<Self, JournalError> {
        let [events, requests, _, dead_letters, _] = topics::topics_of(config);
        let bytes_max = guards::check_crossing(config)?;
        let crossing = Crossing {
            requests: requests.name,
            dead_letter_partitions: dead_letters.partitions,
            dead_letter_bytes_max: bytes_max,
        };
        let group = format!("{}-intake", config.group);
        // The committer first: with it ends what this instance's predecessor left open.
        let producer = settings::intake_committer(config, bytes_max);
        let committer = Committer::of(instance(&group, config), producer, &crossing.requests, &events.name, None)?;
        let member: BaseConsumer<Context> = settings::requests(config, &group)
            .create_with_context(Context::new("intake"))
            .map_err(|error| journal_error("create the member of the intake's group", &error))?;
        pulse.beat();
        member.subscribe(&[&crossing.requests]).map_err(|error| journal_error("join the intake's group", &error))?;
        Ok(Self {
            crossing,
            events: events.name,
            dead_letters: dead_letters.name,
            member: Some(member),
            committer,
            held: BTreeSet::new(),
            next: BTreeMap::new(),
            paused: BTreeSet::new(),
            unanswered: None,
            reseat_at: None,
            reseated: Instant::now() - RESEAT_PAUSE,
            silence: GroupSilence::new(config),
            pulse: Arc::clone(pulse),
            deadline: DROP_DEADLINE,
        })
    }

    fn member(&self) -> Result<&BaseConsumer<Context>, JournalError> {
        self.member.as_ref().ok_or_else(|| JournalError::Unavailable("the intake has left its group".into()))
    }

    /// Each partition where it is to be read from: `auto.offset.reset` never decides.
    fn list(&self, partitions: impl IntoIterator<Item = Partition>) -> TopicPartitionList {
        let place = |partition| match self.next.get(&partition) {
            Some(next) => (partition, kafka_offset(*next)),
            None => (partition, rdkafka::Offset::Beginning),
        };
        list_of(&self.crossing.requests, partitions.into_iter().map(place))
    }

    /// Where the group stands in `partitions`, those left out in which it never was.
    fn committed(&self, partitions: &[Partition]) -> Result<Vec<Position>, JournalError> {
        if partitions.is_empty() {
            return Ok(Vec::new());
        }
        let offsets = stable_offsets(self.member()?, self.list(partitions.iter().copied()), STABLE_WAIT_MAX)?;
        let position = |(partition, offset)| match (u32::try_from(partition), offset) {
            (Ok(partition), rdkafka::Offset::Offset(offset)) => {
                u64::try_from(offset).ok().map(|offset| Position::new(Partition(partition), Offset(offset)))
            }
            _ => None,
        };
        let elements = offsets.elements();
        Ok(elements.iter().filter_map(|element| position((element.partition(), element.offset()))).collect())
    }

    /// The record, unless it is of an assignment that has ended or was handed out before.
    fn fresh(&mut self, record: SourceRecord) -> Option<Incoming> {
        let Position { partition, offset } = record.position;
        if !self.held.contains(&partition) || self.next.get(&partition).is_some_and(|next| offset < *next) {
            return None;
        }
        self.next.insert(partition, offset.next());
        Some(Incoming::Record(record))
    }

    fn failed(&mut self, error: &rdkafka::error::KafkaError) {
        if read_verdict(error) == ReadVerdict::Lost {
            tracing::error!(topic = self.crossing.requests, %error, "requests could not be read, trying again");
            self.reseat_at = Some(self.reseated + RESEAT_PAUSE);
        } else if self.member.as_ref().is_some_and(|member| member.context().is_news(error)) {
            tracing::warn!(topic = self.crossing.requests, %error, "the intake's reader is disturbed and goes on");
        }
    }

    /// librdkafka stops reading a partition whose next offset is gone, and would skip a batch that is damaged. Neither is
    /// left to it: every partition is taken again where it stands, or at the first record that the topic still has.
    fn reseat(&mut self) -> Result<Vec<Incoming>, JournalError> {
        let mut gone = Vec::new();
        for (partition, next) in self.next.clone() {
            let ends =
                self.member()?.fetch_watermarks(&self.crossing.requests, kafka_partition(partition), REQUEST_TIMEOUT);
            let (Ok(low), Ok(high)) = (match ends {
                Ok((low, high)) => (u64::try_from(low), u64::try_from(high)),
                Err(error) => {
                    tracing::warn!(%partition, %error, "the ends of a partition of requests are not known yet");
                    self.reseat_at = Some(Instant::now() + RESEAT_PAUSE);
                    return Ok(gone);
                }
            }) else {
                continue;
            };
            if next.0 < low || next.0 > high {
                self.next.insert(partition, Offset(low));
                gone.push(Incoming::Gone { partition, missing: low.checked_sub(next.0) });
            }
        }
        let (all, paused) = (self.list(self.held.iter().copied()), self.list(self.paused.iter().copied()));
        let doing = |error| journal_error("take partitions of requests again", &error);
        self.member()?.incremental_unassign(&all).map_err(doing)?;
        self.member()?.incremental_assign(&all).map_err(doing)?;
        self.member()?.pause(&paused).map_err(doing)?;
        (self.reseat_at, self.reseated) = (None, Instant::now());
        Ok(gone)
    }

    fn move_on(&mut self, passage: &Passage) -> Result<(), TransactionError> {
        let Self { member, committer, held, events, dead_letters, .. } = self;
        let member = member.as_ref().ok_or_else(|| TransactionError {
            fate: Fate::Stop,
            culprit: None,
            reason: "the intake has left its group".into(),
        })?;
        let mut transaction = Box::new(committer.begin(member, held)?);
        let mut appended = Ok(());
        for event in &passage.events {
            appended = appended.and_then(|()| transaction.append_to(|waiting| base_record(events, event, waiting)));
        }
        for letter in &passage.dead_letters {
            appended = appended.and_then(|()| transaction.append_to(|to| letter_record(dead_letters, letter, to)));
        }
        match appended {
            Ok(()) => transaction.commit(&passage.next).map(|_| ()),
            Err(error) => {
                transaction.abort()?;
                Err(error)
            }
        }
    }
}

impl Requests for KafkaRequests {
    fn crossing(&self) -> &Crossing {
        &self.crossing
    }

    fn poll(&mut self, max: usize, timeout: Duration) -> Result<Vec<Incoming>, JournalError> {
        self.pulse.beat();
        self.committer.serve();
        if let Some(member) = &self.member {
            self.silence.check(member, &self.crossing.requests)?;
        }
        let deadline = Instant::now() + timeout;
        let (mut incoming, mut bytes) = (Vec::new(), 0);
        loop {
            if self.reseat_at.is_some_and(|at| at <= Instant::now()) {
                incoming.extend(self.reseat()?);
            }
            let member = self.member()?;
            if let Some(assignment) = member.context().next_rebalance() {
                self.unanswered = Some(assignment.clone());
                incoming.push(Incoming::Group(assignment));
                return Ok(incoming);
            }
            if incoming.len() >= max || bytes >= POLL_BYTES_MAX {
                return Ok(incoming);
            }
            let left = deadline.saturating_duration_since(Instant::now());
            let wait = if incoming.is_empty() { left } else { Duration::ZERO };
            match member.poll(wait).map(|read| read.map(|message| source_record_of(&message))) {
                Some(Ok(record)) => {
                    let record = record?;
                    bytes += record.value.as_ref().map_or(0, Vec::len);
                    incoming.extend(self.fresh(record));
                }
                Some(Err(error)) if is_fatal(&error) => {
                    return Err(journal_error("stay in the intake's group", &error));
                }
                Some(Err(error)) => self.failed(&error),
                None if wait.is_zero() && self.member()?.context().has_no_rebalance() => return Ok(incoming),
                None => {}
            }
        }
    }

    fn assign(&mut self, partitions: &[Partition]) -> Result<(), JournalError> {
        for stands in self.committed(partitions)? {
            self.next.insert(stands.partition, stands.offset);
        }
        let list = self.list(partitions.iter().copied());
        // Also with nothing in it: the group waits for this answer.
        self.member()?
            .incremental_assign(&list)
            .map_err(|error| journal_error("take partitions of requests", &error))?;
        self.unanswered = None;
        self.held.extend(partitions);
        Ok(())
    }

    fn unassign(&mut self, partitions: &[Partition]) -> Result<(), JournalError> {
        let list = self.list(partitions.iter().copied());
        for partition in partitions {
            self.held.remove(partition);
            self.next.remove(partition);
            self.paused.remove(partition);
        }
        self.unanswered = None;
        self.member()?
            .incremental_unassign(&list)
            .map_err(|error| journal_error("give up partitions of requests", &error))
    }

    fn pause(&mut self, partitions: &[Partition]) -> Result<(), JournalError> {
        self.paused.extend(partitions);
        let list = self.list(partitions.iter().copied());
        self.member()?.pause(&list).map_err(|error| journal_error("pause partitions of requests", &error))
    }

    fn resume(&mut self, partitions: &[Partition]) -> Result<(), JournalError> {
        self.paused.retain(|partition| !partitions.contains(partition));
        let list = self.list(partitions.iter().copied());
        self.member()?.resume(&list).map_err(|error| journal_error("resume partitions of requests", &error))
    }

    fn commit(&mut self, passage: &Passage) -> Result<(), TransactionError> {
        self.move_on(passage)
    }

    fn recycle(&mut self) -> Result<Vec<Position>, JournalError> {
        self.committer.recycle()?;
        let held: Vec<Partition> = self.held.iter().copied().collect();
        self.committed(&held)
    }

    fn leave(mut self: Box<Self>, deadline: Duration) {
        self.deadline = deadline;
    }
}

impl Drop for KafkaRequests {
    /// Closing a member runs a last rebalance and waits for its answer, so it must not begin with one outstanding.
    fn drop(&mut self) {
        self.pulse.end();
        let began = Instant::now();
        if let Some(member) = self.member.take() {
            answer_all(&member, self.unanswered.take(), |partitions| self.list(partitions));
            drop_within(member, "intake", self.deadline);
        }
        self.committer.close(self.deadline.saturating_sub(began.elapsed()));
    }
}

/// A copy of a record exactly as it came: librdkafka's memory is free at once.
pub(super) fn source_record_of(message: &BorrowedMessage<'_>) -> Result<SourceRecord, JournalError> {
    let at = (u32::try_from(message.partition()), u64::try_from(message.offset()));
    let (Ok(partition), Ok(offset)) = at else {
        return Err(JournalError::Broken(format!("a record at {}:{}", message.partition(), message.offset())));
    };
    Ok(SourceRecord {
        position: Position::new(Partition(partition), Offset(offset)),
        // Kafka keeps milliseconds.
        timestamp_us: message.timestamp().to_millis().unwrap_or(0).saturating_mul(1000),
        key: message.key().map(<[u8]>::to_vec),
        headers: native::headers_of(message),
        value: message.payload().map(<[u8]>::to_vec),
    })
}

fn letter_record<'r, D: IntoOpaque>(topic: &'r str, letter: &'r DeadLetter, to: D) -> BaseRecord<'r, [u8], [u8], D> {
    let mut headers = OwnedHeaders::new_with_capacity(letter.headers.len());
    for (key, value) in &letter.headers {
        headers = headers.insert(rdkafka::message::Header { key, value: value.as_deref() });
    }
    let mut record = BaseRecord::with_opaque_to(topic, to);
    record.partition = Some(kafka_partition(letter.partition));
    record.key = letter.key.as_deref();
    record.payload = letter.value.as_deref();
    record.headers = Some(headers);
    record
}
