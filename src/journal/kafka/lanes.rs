//! Membership in the group of writers. The group says which partitions are ours and shows our lag; it fetches nothing:
//! records come from the process's tail.
//!
//! A rebalance is a value that `poll` hands out. In the cooperative protocol the group waits for our answer, so the loop
//! ends its lanes first and answers then.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer};
use rdkafka::topic_partition_list::TopicPartitionList;

use super::committer::Committer;
use super::context::Context;
use super::error::{is_fatal, is_stale_member, journal_error};
use super::group::{Fence, GroupSilence, answer_all};
use super::heights::Heights;
use super::pulse::Pulse;
use super::{KafkaConfig, drop_within, kafka_offset, list_of, settings, wait_until};
use crate::journal::{Assignment, JournalError, Lanes, Partition, Position, Transaction, TransactionError};

/// For a member that is dropped without leaving: after a panic, for example.
const DROP_DEADLINE: Duration = Duration::from_secs(5);

pub(super) struct KafkaLanes {
    topic: String,
    /// `None` only while it is being dropped.
    member: Option<BaseConsumer<Context>>,
    committer: Committer,
    /// The partitions in force: what may be written.
    held: BTreeSet<Partition>,
    /// The partitions that librdkafka was told we take; more than `held` only when waiting for an earlier owner failed.
    taken: BTreeSet<Partition>,
    /// Handed out and not answered yet: the group waits for it.
    unanswered: Option<Assignment>,
    fence: Fence,
    silence: GroupSilence,
    pulse: Arc<Pulse>,
    deadline: Duration,
}

impl KafkaLanes {
    pub(super) fn join(config: &KafkaConfig, pulse: &Arc<Pulse>, heights: &Arc<Heights>) -> Result<Self, JournalError> {
        // The committer first: with it ends what this instance's predecessor left open.
        let committer = Committer::new(config, heights)?;
        let member: BaseConsumer<Context> = settings::member(config)
            .create_with_context(Context::new("member"))
            .map_err(|error| journal_error("create the member of the group", &error))?;
        let topic = config.topic_prefix.clone();
        member.subscribe(&[&topic]).map_err(|error| journal_error("join the group", &error))?;
        pulse.beat();
        Ok(Self {
            topic,
            member: Some(member),
            committer,
            held: BTreeSet::new(),
            taken: BTreeSet::new(),
            unanswered: None,
            fence: Fence::new(),
            silence: GroupSilence::new(config),
            pulse: Arc::clone(pulse),
            deadline: DROP_DEADLINE,
        })
    }

    fn member(&self) -> Result<&BaseConsumer<Context>, JournalError> {
        self.member.as_ref().ok_or_else(left)
    }

    /// At the end, so that nothing is fetched in the moment before the pause, and no committed offset is needed.
    fn list(&self, partitions: impl IntoIterator<Item = Partition>) -> TopicPartitionList {
        list_of(&self.topic, partitions.into_iter().map(|partition| (partition, rdkafka::Offset::End)))
    }

    /// Answers whatever the group still waits for, so that it lets us go.
    fn answer_all(&mut self) {
        if let Some(member) = &self.member {
            answer_all(member, self.unanswered.take(), |partitions| self.list(partitions));
        }
    }
}

impl Lanes for KafkaLanes {
    fn poll(&mut self, timeout: Duration) -> Result<Option<Assignment>, JournalError> {
        self.pulse.beat();
        self.committer.serve();
        if let Some(member) = &self.member {
            self.silence.check(member, &self.topic)?;
        }
        let deadline = Instant::now() + timeout;
        loop {
            let member = self.member()?;
            if let Some(assignment) = member.context().next_rebalance() {
                self.unanswered = Some(assignment.clone());
                return Ok(Some(assignment));
            }
            let wait = wait_until(deadline);
            match member.poll(wait) {
                Some(Err(error)) if is_fatal(&error) => return Err(journal_error("stay in the group", &error)),
                Some(Err(error)) if member.context().is_news(&error) => {
                    tracing::warn!(%error, "the group is disturbed and goes on");
                }
                // Also a record that was fetched before the pause: the tail has it too.
                _ => {}
            }
            if wait.is_zero() && self.member()?.context().has_no_rebalance() {
                return Ok(None);
            }
        }
    }

    fn assign(&mut self, partitions: &[Partition]) -> Result<(), JournalError> {
        let fresh: Vec<Partition> = partitions.iter().copied().filter(|p| !self.taken.contains(p)).collect();
        let list = self.list(fresh.iter().copied());
        let member = self.member()?;
        // Also with nothing in it: the group waits for this answer.
        member.incremental_assign(&list).map_err(|error| journal_error("take partitions", &error))?;
        member.pause(&list).map_err(|error| journal_error("pause partitions", &error))?;
        self.unanswered = None;
        self.taken.extend(fresh);
        // Until an earlier owner's transaction over them has ended, they are not ours.
        if !partitions.is_empty() {
            let asked = self.list(partitions.iter().copied());
            let Self { member: Some(member), fence, .. } = self else { return Err(left()) };
            fence.stable_offsets(member, &asked)?;
        }
        self.held.extend(partitions);
        Ok(())
    }

    fn unassign(&mut self, partitions: &[Partition]) -> Result<(), JournalError> {
        self.held.retain(|partition| !partitions.contains(partition));
        self.taken.retain(|partition| !partitions.contains(partition));
        let list = self.list(partitions.iter().copied());
        self.unanswered = None;
        self.member()?.incremental_unassign(&list).map_err(|error| journal_error("give up partitions", &error))
    }

    fn begin(&mut self) -> Result<Box<dyn Transaction + '_>, TransactionError> {
        let Self { member, committer, held, .. } = self;
        match member {
            Some(member) => Ok(Box::new(committer.begin(member, held)?)),
            None => Err(TransactionError {
                fate: crate::journal::Fate::Stop,
                culprit: None,
                reason: "the member has left the group".into(),
            }),
        }
    }

    fn recycle(&mut self) -> Result<(), JournalError> {
        self.committer.recycle()
    }

    fn commit_positions(&mut self, next: &[Position]) -> Result<(), JournalError> {
        let ours = next.iter().filter(|position| self.held.contains(&position.partition));
        let list = list_of(&self.topic, ours.map(|position| (position.partition, kafka_offset(position.offset))));
        if list.count() == 0 {
            return Ok(());
        }
        match self.member()?.commit(&list, CommitMode::Sync) {
            Ok(()) => Ok(()),
            // Told as a failure: who believes that they are committed does not commit them again, and an idle lane lags for
            // ever.
            Err(error) if is_stale_member(&error) => {
                Err(JournalError::Unavailable(format!("could not commit positions, the group is changing: {error}")))
            }
            Err(error) => Err(journal_error("commit positions", &error)),
        }
    }

    fn leave(mut self: Box<Self>, deadline: Duration) {
        self.deadline = deadline;
    }
}

fn left() -> JournalError {
    JournalError::Unavailable("the member has left the group".into())
}

impl Drop for KafkaLanes {
    /// Closing a member runs a last rebalance and waits for its answer, so it must not begin with one outstanding.
    fn drop(&mut self) {
        self.pulse.end();
        let began = Instant::now();
        self.answer_all();
        if let Some(member) = self.member.take() {
            drop_within(member, "member", self.deadline);
        }
        self.committer.close(self.deadline.saturating_sub(began.elapsed()));
    }
}
