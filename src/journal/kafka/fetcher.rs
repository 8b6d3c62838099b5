//! A member of a group that fetches: what reads requests, ours or a hub's. Where it stands is for its owner to commit.
//!
//! Promises that a record of a partition that is ours is handed out once, in order: whatever is older than the assignment
//! in force, or was handed out before, is dropped here. What cannot be read is asked for again for ever; what the topic no
//! longer has is told, never passed over in silence.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use rdkafka::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::topic_partition_list::TopicPartitionList;

use super::context::Context;
use super::error::{ReadVerdict, is_fatal, journal_error, read_verdict};
use super::foreign::source_record_of;
use super::group::{Fence, GroupSilence, answer_all};
use super::reseat::Reseat;
use super::{KafkaConfig, REQUEST_TIMEOUT, drop_within, kafka_offset, kafka_partition, list_of, wait_until};
use crate::journal::{Assignment, Incoming, JournalError, Offset, Partition, Position, SourceRecord};

/// What one poll hands out at most: records are copied, and a foreign one can be large.
const POLL_BYTES_MAX: usize = 8 * 1024 * 1024;
const TAKE: &str = "take partitions of requests";
/// How long the cluster may take to say where a partition begins and ends, or which take records.
pub(super) const ASK_TIMEOUT: Duration = Duration::from_secs(3);
/// For a member that is dropped without leaving: after a panic, for example.
pub(super) const DROP_DEADLINE: Duration = Duration::from_secs(5);

pub(super) struct Fetcher {
    topic: String,
    /// `None` only while it is being dropped.
    member: Option<BaseConsumer<Context>>,
    /// The partitions in force: what may be moved on.
    pub(super) held: BTreeSet<Partition>,
    /// The next offset to hand out of each of them; none before the first record of one that is read from its beginning.
    next: BTreeMap<Partition, Offset>,
    paused: BTreeSet<Partition>,
    /// Handed out and not answered yet: the group waits for it.
    unanswered: Option<Assignment>,
    fence: Fence,
    reseat: Reseat,
    silence: GroupSilence,
}

impl Fetcher {
    /// Joins, which takes time: it does not wait for it. `name` says in the log who speaks.
    pub(super) fn join(
        config: &KafkaConfig,
        settings: &ClientConfig,
        name: &'static str,
        topic: &str,
    ) -> Result<Self, JournalError> {
        let member: BaseConsumer<Context> = settings
            .create_with_context(Context::new(name))
            .map_err(|error| journal_error("create the member of the intake's group", &error))?;
        member.subscribe(&[topic]).map_err(|error| journal_error("join the intake's group", &error))?;
        Ok(Self {
            topic: topic.to_owned(),
            member: Some(member),
            held: BTreeSet::new(),
            next: BTreeMap::new(),
            paused: BTreeSet::new(),
            unanswered: None,
            fence: Fence::new(),
            reseat: Reseat::new(),
            silence: GroupSilence::new(config),
        })
    }

    pub(super) fn member(&self) -> Result<&BaseConsumer<Context>, JournalError> {
        self.member.as_ref().ok_or_else(left)
    }

    /// Has the cluster not let us in, since the last call?
    pub(super) fn was_denied(&self) -> bool {
        self.member.as_ref().is_some_and(|member| member.context().take_denied())
    }

    /// Each partition where it is to be read from: `auto.offset.reset` never decides.
    fn list(&self, partitions: impl IntoIterator<Item = Partition>) -> TopicPartitionList {
        let place = |partition| match self.next.get(&partition) {
            Some(next) => (partition, kafka_offset(*next)),
            None => (partition, rdkafka::Offset::Beginning),
        };
        list_of(&self.topic, partitions.into_iter().map(place))
    }

    /// Where the group stands in `partitions`, those left out in which it never was. `Unavailable`: not yet known.
    pub(super) fn stands(&mut self, partitions: &[Partition]) -> Result<Vec<Position>, JournalError> {
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
        let (topic, Some(member)) = (&self.topic, &self.member) else { return };
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
            let ends = self.member()?.fetch_watermarks(&self.topic, kafka_partition(partition), wait);
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

    pub(super) fn poll(&mut self, max: usize, timeout: Duration) -> Result<Vec<Incoming>, JournalError> {
        if let Some(member) = &self.member {
            self.silence.check(member, &self.topic)?;
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
            let wait = if incoming.is_empty() { wait_until(deadline) } else { Duration::ZERO };
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

    pub(super) fn assign(&mut self, partitions: &[Partition]) -> Result<(), JournalError> {
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

    pub(super) fn unassign(&mut self, partitions: &[Partition]) -> Result<(), JournalError> {
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

    pub(super) fn pause(&mut self, partitions: &[Partition]) -> Result<(), JournalError> {
        self.paused.extend(partitions);
        let list = self.list(partitions.iter().copied());
        self.member()?.pause(&list).map_err(|error| journal_error("pause partitions of requests", &error))
    }

    pub(super) fn resume(&mut self, partitions: &[Partition]) -> Result<(), JournalError> {
        self.paused.retain(|partition| !partitions.contains(partition));
        let list = self.list(partitions.iter().copied());
        self.member()?.resume(&list).map_err(|error| journal_error("resume partitions of requests", &error))
    }

    /// Leaves the group. Closing a member runs a last rebalance and waits for its answer, so it must not begin with one
    /// outstanding.
    pub(super) fn close(&mut self, deadline: Duration) {
        if let Some(member) = self.member.take() {
            answer_all(&member, self.unanswered.take(), |partitions| self.list(partitions));
            drop_within(member, "intake", deadline);
        }
    }
}

pub(super) fn left() -> JournalError {
    JournalError::Unavailable("the intake has left its group".into())
}

impl Drop for Fetcher {
    fn drop(&mut self) {
        self.close(DROP_DEADLINE);
    }
}
