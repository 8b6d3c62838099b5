//! What every member of a group does: ask where the group stands, and let go of it well.

use std::time::{Duration, Instant};

use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::topic_partition_list::TopicPartitionList;

use super::context::Context;
use super::error::{is_unstable, journal_error};
use crate::journal::{Assignment, JournalError, Partition};

/// How long an earlier owner's open transaction may take to end: its timeout (10 s), the broker's next look for timed
/// out ones (10 s), and the writing of the markers.
const STABLE_WAIT_MAX: Duration = Duration::from_secs(30);
/// How long one question for committed offsets may take before it is asked again.
const STABLE_TURN: Duration = Duration::from_secs(5);
/// Between two looks at offsets that are still part of a transaction.
const STABLE_PAUSE: Duration = Duration::from_millis(20);

/// Asks for the committed offsets of `partitions` as stable: the broker refuses while a transaction over them is open.
pub(super) fn stable_offsets(
    member: &BaseConsumer<Context>,
    partitions: TopicPartitionList,
) -> Result<TopicPartitionList, JournalError> {
    let deadline = Instant::now() + STABLE_WAIT_MAX;
    loop {
        let answer = member.committed_offsets(partitions.clone(), STABLE_TURN);
        let error = match answer {
            Ok(offsets) => {
                let failed = offsets.elements().iter().find_map(|element| element.error().err());
                let Some(error) = failed else { return Ok(offsets) };
                error
            }
            Err(error) => error,
        };
        if !is_unstable(&error) {
            return Err(journal_error("read the group's offsets", &error));
        }
        if Instant::now() >= deadline {
            let text = "an earlier owner's transaction does not end: find it with kafka-transactions.sh find-hanging";
            return Err(JournalError::Unavailable(text.into()));
        }
        std::thread::sleep(STABLE_PAUSE);
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
