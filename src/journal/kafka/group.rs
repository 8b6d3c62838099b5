//! What every member of a group does: ask where the group stands, listen for it, and let go of it well.

use std::time::{Duration, Instant};

use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::topic_partition_list::TopicPartitionList;

use super::context::Context;
use super::error::{is_transport, is_unstable, journal_error};
use super::pulse::Silence;
use super::{KafkaConfig, settings};
use crate::journal::{Assignment, JournalError, Partition};

/// How long an earlier owner's open transaction may take to end: its timeout (10 s), the broker's next look for timed
/// out ones (10 s), and the writing of the markers. Beyond that somebody should look.
const STABLE_WAIT_MAX: Duration = Duration::from_secs(30);
/// How long one question for committed offsets may take: its loop does nothing else meanwhile. If there was no answer, the
/// next may take twice as long, up to the most: a coordinator that is slow must not be asked in vain for ever.
const STABLE_TURN: Duration = Duration::from_millis(300);
const STABLE_TURN_MAX: Duration = Duration::from_secs(5);

/// A group from which nothing was heard for this many times `max.poll.interval.ms` is silent: it waits that long for its
/// slowest member, and then it has to answer.
const GROUP_SILENT: u32 = 3;
/// How often a silent group makes us ask whether the cluster answers at all, until it has been silent for too long.
const PROBES: u32 = 6;
/// How long the cluster may take to show that it is only the group that is silent.
const PROBE_TIMEOUT: Duration = Duration::from_secs(1);

/// Notices a group that has fallen silent. A member that the group has forgotten, or that does not ask again, would do
/// nothing and say nothing for ever.
pub(super) struct GroupSilence {
    silence: Silence,
    /// After how much silence the cluster is asked next.
    probe: Duration,
    max: Duration,
}

impl GroupSilence {
    pub(super) fn new(config: &KafkaConfig) -> Self {
        let max = settings::poll_interval(config) * GROUP_SILENT;
        Self { silence: Silence::new(Instant::now()), probe: max / PROBES, max }
    }

    /// `Err` if the group has been silent for too long, and the cluster was not. A cluster that does not answer will be back,
    /// and the group gets its whole time from then on.
    pub(super) fn check(&mut self, member: &BaseConsumer<Context>, topic: &str) -> Result<(), JournalError> {
        let silent = self.silence.look(Instant::now(), member.context().take_group_answered());
        if silent < self.max / PROBES {
            self.probe = self.max / PROBES;
        }
        if silent < self.probe {
            return Ok(());
        }
        self.probe += self.max / PROBES;
        if let Err(error) = member.fetch_metadata(Some(topic), PROBE_TIMEOUT) {
            tracing::warn!(%error, "neither the group nor the cluster answers");
            self.silence = Silence::new(Instant::now());
            return Ok(());
        }
        if silent < self.max {
            return Ok(());
        }
        Err(JournalError::Unavailable(format!(
            "the group has not answered for {} s, and the cluster does: this process must be started again; if that does not \
             help, look at the group's coordinator (kafka-consumer-groups.sh --describe --state)",
            silent.as_secs()
        )))
    }
}

/// The question where the group stands, asked now and then: the broker refuses the answer while a transaction of an earlier
/// owner is open over it.
pub(super) struct Fence {
    turn: Duration,
    /// Since when there has been no answer.
    since: Option<Instant>,
}

impl Fence {
    pub(super) fn new() -> Self {
        Self { turn: STABLE_TURN, since: None }
    }

    /// The committed offsets of `partitions`, all of them stable. `Unavailable`: not yet, ask again in a moment.
    pub(super) fn stable_offsets(
        &mut self,
        member: &BaseConsumer<Context>,
        partitions: &TopicPartitionList,
    ) -> Result<TopicPartitionList, JournalError> {
        let error = match committed(member, partitions, self.turn) {
            Ok(offsets) => {
                *self = Self::new();
                return Ok(offsets);
            }
            Err(error) => error,
        };
        if is_unstable(&error) {
            return Err(self.not_yet("an earlier owner's transaction has not ended"));
        }
        if is_transport(&error) {
            self.turn = (self.turn * 2).min(STABLE_TURN_MAX);
            return Err(self.not_yet("the group's coordinator has not answered in time"));
        }
        Err(journal_error("read the group's offsets", &error))
    }

    fn not_yet(&mut self, why: &str) -> JournalError {
        let since = *self.since.get_or_insert_with(Instant::now);
        let hint = if since.elapsed() < STABLE_WAIT_MAX { "" } else { HANGING };
        JournalError::Unavailable(format!("the group's offsets are not to be had yet: {why}{hint}"))
    }
}

/// What to do about it, in the end.
const HANGING: &str = "; if that goes on, find its transaction with kafka-transactions.sh find-hanging";

fn committed(
    member: &BaseConsumer<Context>,
    partitions: &TopicPartitionList,
    within: Duration,
) -> Result<TopicPartitionList, KafkaError> {
    let offsets = member.committed_offsets(partitions.clone(), within)?;
    match offsets.elements().iter().find_map(|element| element.error().err()) {
        None => Ok(offsets),
        Some(error) => Err(error),
    }
}

/// Answers whatever the group still waits for, so that it lets us go.
pub(super) fn answer_all(
    member: &BaseConsumer<Context>,
    unanswered: Option<Assignment>,
    list: impl Fn(Vec<Partition>) -> TopicPartitionList,
) {
    member.context().leave();
    let waiting = unanswered.into_iter().chain(std::iter::from_fn(|| member.context().next_rebalance()));
    for assignment in waiting {
        let answer = match assignment {
            Assignment::Assigned(partitions) => member.incremental_assign(&list(partitions)),
            Assignment::Revoked { partitions, .. } => member.incremental_unassign(&list(partitions)),
        };
        if let Err(error) = answer {
            tracing::warn!(%error, "could not answer a rebalance while leaving");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cluster_that_cannot_be_reached_says_nothing_about_the_group() {
        // Nobody listens on port 1.
        let config = KafkaConfig::new("127.0.0.1:1", "instance");
        let member: BaseConsumer<Context> =
            settings::member(&config).create_with_context(Context::new("member")).expect("a member");
        let max = PROBES * PROBE_TIMEOUT;
        let mut group = GroupSilence { silence: Silence::new(Instant::now()), probe: Duration::ZERO, max };
        group.check(&member, "payments").expect("there is nothing to end for");
        // Before, a cluster that was back after an hour had 30 s to have the group as well.
        let silent = group.silence.look(Instant::now(), false);
        assert!(silent < PROBE_TIMEOUT, "the group has its whole time again, and not {silent:?} less");
    }
}
