//! Membership in the group of those who take requests in: unlike a lane's it fetches, and its transactions carry offsets of
//! the topic that it reads.
//!
//! Promises that a record of a partition that is ours is handed out once, in order: whatever is older than the assignment
//! in force, or was handed out before, is dropped here. What cannot be read is asked for again for ever; what the topic no
//! longer has is told, never passed over in silence.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::topic_partition_list::TopicPartitionList;

use super::committer::{Committer, instance};
use super::context::Context;
use super::error::{ReadVerdict, code_error, is_fatal, journal_error, read_verdict};
use super::foreign::{letter_record, source_record_of};
use super::group::{Fence, GroupSilence, answer_all};
use super::guards::Letters;
use super::look_up::writable;
use super::pulse::Pulse;
use super::reseat::Reseat;
use super::{
    KafkaConfig, REQUEST_TIMEOUT, base_record, drop_within, guards, kafka_offset, kafka_partition, list_of, settings,
    topics,
};
use crate::journal::{
    Assignment, Crossing, Fate, Incoming, JournalError, Offset, Partition, Passage, Position, Requests, SourceRecord,
    Target, Transaction, TransactionError,
};

/// What one poll hands out at most: records are copied, and a foreign one can be large.
const POLL_BYTES_MAX: usize = 8 * 1024 * 1024;
const TAKE: &str = "take partitions of requests";
/// How long the cluster may take to say which partitions take records.
const ASK_TIMEOUT: Duration = Duration::from_secs(3);
/// For a member that is dropped without leaving: after a panic, for example.
const DROP_DEADLINE: Duration = Duration::from_secs(5);

pub(super) struct KafkaRequests {
    crossing: Crossing,
    events: String,
    dead_letters: String,
    partitions: u32,
    /// How many replicas must have a record before it is acknowledged, of the log and of the dead letters.
    in_sync_min: Arc<AtomicU64>,
    letters_in_sync_min: u64,
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
    fence: Fence,
    /// The producer is new already, and it is not known yet what of its predecessor's was moved on.
    recycled: bool,
    reseat: Reseat,
    silence: GroupSilence,
    pulse: Arc<Pulse>,
    deadline: Duration,
}

impl KafkaRequests {
    /// Connects, looks at the topics on both sides, and joins. Blocks.
    pub(super) fn join(
        config: &KafkaConfig,
        pulse: &Arc<Pulse>,
        in_sync_min: &Arc<AtomicU64>,
    ) -> Result<Self, JournalError> {
        let [events, requests, _, dead_letters, _] = topics::topics_of(config);
        let Letters { bytes_max, in_sync_min: letters_in_sync_min } = guards::check_crossing(config)?;
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
            partitions: events.partitions,
            in_sync_min: Arc::clone(in_sync_min),
            letters_in_sync_min,
            member: Some(member),
            committer,
            held: BTreeSet::new(),
            next: BTreeMap::new(),
            paused: BTreeSet::new(),
            unanswered: None,
            fence: Fence::new(),
            recycled: false,
            reseat: Reseat::new(),
            silence: GroupSilence::new(config),
            pulse: Arc::clone(pulse),
            deadline: DROP_DEADLINE,
        })
    }

    fn member(&self) -> Result<&BaseConsumer<Context>, JournalError> {
        self.member.as_ref().ok_or_else(left)
    }

    /// Each partition where it is to be read from: `auto.offset.reset` never decides.
    fn list(&self, partitions: impl IntoIterator<Item = Partition>) -> TopicPartitionList {
        let place = |partition| match self.next.get(&partition) {
            Some(next) => (partition, kafka_offset(*next)),
            None => (partition, rdkafka::Offset::Beginning),
        };
        list_of(&self.crossing.requests, partitions.into_iter().map(place))
    }

    /// Where the group stands in `partitions`, those left out in which it never was. `Unavailable`: not yet known.
    fn stands(&mut self, partitions: &[Partition]) -> Result<Vec<Position>, JournalError> {
        if partitions.is_empty() {
            return Ok(Vec::new());
        }
        let asked = self.list(partitions.iter().copied());
        let Self { member: Some(member), fence, .. } = self else { return Err(left()) };
        let offsets = fence.stable_offsets(member, &asked)?;
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
        let (topic, Some(member)) = (&self.crossing.requests, &self.member) else { return };
        if read_verdict(error) == ReadVerdict::Lost {
            tracing::error!(topic, %error, "requests could not be read, trying again");
            self.reseat.failed(error, member.context());
        } else if member.context().is_news(error) {
            tracing::warn!(topic, %error, "the intake's reader is disturbed and goes on");
        }
    }

    /// Reads on where reading has failed. A partition that does not say where it begins and ends waits, and no other for it.
    fn reseat(&mut self) -> Result<Vec<Incoming>, JournalError> {
        let (mut gone, mut unknown) = (Vec::new(), BTreeSet::new());
        let deadline = Instant::now() + REQUEST_TIMEOUT;
        for (partition, next) in self.next.clone() {
            let wait = deadline.saturating_duration_since(Instant::now()).min(ASK_TIMEOUT);
            let ends = self.member()?.fetch_watermarks(&self.crossing.requests, kafka_partition(partition), wait);
            match ends.map(|(low, high)| (u64::try_from(low), u64::try_from(high))) {
                Ok((Ok(low), Ok(high))) => {
                    let told = self.reseat.judge(partition, next, Offset(low), Offset(high));
                    if told.is_some() {
                        self.next.insert(partition, Offset(low));
                    }
                    gone.extend(told);
                }
                Ok(_) => {}
                Err(error) => {
                    tracing::warn!(%partition, %error, "the ends of a partition of requests are not known yet");
                    unknown.insert(partition);
                }
            }
        }
        let known: BTreeSet<Partition> = self.held.difference(&unknown).copied().collect();
        let (all, paused) = (self.list(known.iter().copied()), self.list(known.intersection(&self.paused).copied()));
        let doing = |error| journal_error(TAKE, &error);
        self.member()?.incremental_unassign(&all).map_err(doing)?;
        self.member()?.incremental_assign(&all).map_err(doing)?;
        self.member()?.pause(&paused).map_err(doing)?;
        self.reseat.done(unknown.is_empty());
        Ok(gone)
    }

    /// One question for all partitions of a topic.
    fn unwritable_of(
        &self,
        topic: &str,
        partitions: u32,
        in_sync_min: u64,
    ) -> Result<Vec<(Partition, String)>, JournalError> {
        let metadata = self
            .member()?
            .fetch_metadata(Some(topic), ASK_TIMEOUT)
            .map_err(|error| journal_error(&format!("ask about the topic {topic}"), &error))?;
        // Of one that we may not write to, that is: nothing would ever go there.
        if let Some(error) = metadata.topics().iter().find_map(|found| found.error()) {
            let code = error.into();
            return Err(code_error(code, format!("could not ask about the topic {topic}: {code}")));
        }
        let judged = (0..partitions).map(Partition).map(|p| (p, writable(&metadata, topic, p, in_sync_min)));
        Ok(judged.filter_map(|(partition, verdict)| verdict.err().map(|why| (partition, why))).collect())
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
            let Self { member: Some(member), reseat, .. } = self else { return Err(left()) };
            if reseat.is_due(member.context()) {
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
                    bytes += record.weight();
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
        // With nothing in it: the group waits for this answer, and is not to wait for an earlier owner's transaction. Nor is
        // anything taken and paused meanwhile: librdkafka forgets a look-up of an offset over a resume that comes too early.
        self.member()?.incremental_assign(&self.list([])).map_err(|error| journal_error(TAKE, &error))?;
        self.unanswered = None;
        for stands in self.stands(partitions)? {
            self.next.insert(stands.partition, stands.offset);
        }
        let list = self.list(partitions.iter().copied());
        self.member()?.incremental_assign(&list).map_err(|error| journal_error(TAKE, &error))?;
        self.held.extend(partitions);
        Ok(())
    }

    fn unassign(&mut self, partitions: &[Partition]) -> Result<(), JournalError> {
        // Those that were never taken are not known to librdkafka: the answer is enough.
        let list = self.list(partitions.iter().copied().filter(|partition| self.held.contains(partition)));
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

    fn unwritable(&mut self) -> Result<BTreeMap<Target, String>, JournalError> {
        let mut unwritable = BTreeMap::new();
        let in_sync_min = self.in_sync_min.load(Ordering::Relaxed);
        for (partition, why) in self.unwritable_of(&self.events, self.partitions, in_sync_min)? {
            unwritable.insert(Target::Log(partition), why);
        }
        let partitions = self.crossing.dead_letter_partitions;
        for (partition, why) in self.unwritable_of(&self.dead_letters, partitions, self.letters_in_sync_min)? {
            unwritable.insert(Target::DeadLetters(partition), why);
        }
        Ok(unwritable)
    }

    fn commit(&mut self, passage: &Passage) -> Result<(), TransactionError> {
        self.move_on(passage)
    }

    fn recycle(&mut self) -> Result<Vec<Position>, JournalError> {
        if !self.recycled {
            self.committer.recycle()?;
        }
        let held: Vec<Partition> = self.held.iter().copied().collect();
        self.recycled = true;
        let stands = self.stands(&held)?;
        self.recycled = false;
        Ok(stands)
    }

    fn leave(mut self: Box<Self>, deadline: Duration) {
        self.deadline = deadline;
    }
}

fn left() -> JournalError {
    JournalError::Unavailable("the intake has left its group".into())
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
