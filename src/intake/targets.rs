//! Where requests go to: which partitions, of the log and of the dead letters, take no records at the moment. What belongs
//! there waits, and holds up only what stands behind it. Pure: every instant is passed in.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use crate::journal::{Partition, Target};

/// How long what the log said of its partitions is believed.
const BELIEVED: Duration = Duration::from_secs(5);
/// How often it is asked again while some take no records.
const ASKED_AGAIN: Duration = Duration::from_secs(1);
/// A partition whose deliveries failed is left out this long, even if the log calls it well.
const LEFT_OUT: Duration = Duration::from_secs(5);

#[derive(Default)]
pub(super) struct Targets {
    /// Nothing is known before the first answer, nor after a transaction that failed.
    asked: Option<Instant>,
    unwritable: BTreeMap<Target, String>,
    pub left_out: BTreeMap<Target, Instant>,
}

impl Targets {
    pub fn take(&self, target: Target) -> bool {
        !self.unwritable.contains_key(&target) && !self.left_out.contains_key(&target)
    }

    /// Has the log to be asked before anything goes on?
    pub fn are_unknown(&self, now: Instant) -> bool {
        let believed = if self.unwritable.is_empty() { BELIEVED } else { ASKED_AGAIN };
        self.asked.is_none_or(|asked| now.saturating_duration_since(asked) >= believed)
    }

    /// What the log answered. Says what is new of it in the log.
    pub fn learn(&mut self, unwritable: BTreeMap<Target, String>, now: Instant) {
        for (target, reason) in &unwritable {
            if !self.unwritable.contains_key(target) {
                tracing::warn!(reason, "what belongs to this partition waits, and what stands behind it");
            }
        }
        for target in self.unwritable.keys().filter(|target| !unwritable.contains_key(target)) {
            tracing::info!(?target, "takes records again");
        }
        (self.unwritable, self.asked) = (unwritable, Some(now));
    }

    /// A transaction over `written` failed, at `culprit` if that is known: a partition of either topic.
    pub fn failed(&mut self, written: impl Iterator<Item = Target>, culprit: Option<Partition>, now: Instant) {
        self.asked = None;
        let is_culprit = |target: &Target| match target {
            Target::Log(partition) | Target::DeadLetters(partition) => Some(*partition) == culprit,
        };
        self.left_out.extend(written.filter(is_culprit).map(|target| (target, now + LEFT_OUT)));
    }

    /// There is a new producer, which may have taken longer than a partition is left out: it must not begin with the culprit.
    pub fn begin_anew(&mut self, now: Instant) {
        self.asked = None;
        self.left_out.values_mut().for_each(|until| *until = now + LEFT_OUT);
    }

    /// Lets those be tried again whose time is over.
    pub fn pass(&mut self, now: Instant) {
        self.left_out.retain(|_, until| *until > now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CULPRIT: Partition = Partition(1);

    #[test]
    fn nothing_is_known_at_first_nor_for_long_nor_after_a_failure() {
        let (mut targets, now) = (Targets::default(), Instant::now());
        assert!(targets.are_unknown(now));
        targets.learn(BTreeMap::new(), now);
        assert!(!targets.are_unknown(now + BELIEVED / 2) && targets.are_unknown(now + BELIEVED));
        targets.learn(BTreeMap::from([(Target::Log(CULPRIT), "no leader".to_owned())]), now);
        assert!(!targets.take(Target::Log(CULPRIT)) && targets.take(Target::DeadLetters(CULPRIT)));
        assert!(targets.are_unknown(now + ASKED_AGAIN), "it may be well again soon");
        targets.learn(BTreeMap::new(), now);
        assert!(targets.take(Target::Log(CULPRIT)));
        targets.failed(std::iter::empty(), None, now);
        assert!(targets.are_unknown(now));
    }

    #[test]
    fn a_culprit_is_left_out_where_it_was_written_to_and_again_by_a_new_producer() {
        let (mut targets, now) = (Targets::default(), Instant::now());
        targets.failed([Target::Log(Partition(0)), Target::DeadLetters(CULPRIT)].into_iter(), Some(CULPRIT), now);
        assert!(targets.take(Target::Log(Partition(0))) && targets.take(Target::Log(CULPRIT)));
        assert!(!targets.take(Target::DeadLetters(CULPRIT)));
        let recycled = now + 2 * LEFT_OUT;
        targets.begin_anew(recycled);
        targets.pass(recycled);
        assert!(!targets.take(Target::DeadLetters(CULPRIT)), "its producer is new");
        targets.pass(recycled + LEFT_OUT);
        assert!(targets.take(Target::DeadLetters(CULPRIT)));
    }
}
