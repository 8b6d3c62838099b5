//! The committer: the transactional producer of a process, and the ids under which it may be had.
//!
//! Promises that no transaction begins while the last one may still take effect: then the producer is recycled first.
//!
//! An id cannot be had while its last transaction cannot end: its markers are to be written to a partition that is below
//! its min ISR, or its coordinator's own partition is. Waiting for that would stop every lane for the sake of one
//! partition, so the next id takes its place. What the old id left is harmless: it commits only if all its records had been
//! acknowledged before it was given up, and a lane acts again only after the fold has passed all of those.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rdkafka::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerGroupMetadata};
use rdkafka::producer::{BaseProducer, Producer};

use super::context::Context;
use super::error::{Fences, is_retriable, is_transport, journal_error, transaction_error};
use super::heights::Heights;
use super::transaction::{KafkaTransaction, failure};
use super::{KafkaConfig, drop_within, native, settings};
use crate::journal::{Fate, JournalError, Partition, TransactionError};

/// How many ids an instance has, used one at a time: as many as coordinators and partitions may fail one after the other
/// before the first of them is well again.
const IDS_MAX: u32 = 8;
/// An id that could not be had is passed over this long: by then the partition that held it up is well, or another has failed.
const PASSED_OVER: Duration = Duration::from_secs(60);
/// How long one id is tried before the next one: an end that only has to be written takes milliseconds.
const INIT_TURN: Duration = Duration::from_secs(3);
/// How long a start tries: a cluster that is starting too needs some time to find its coordinators.
const START_WAIT_MAX: Duration = Duration::from_secs(40);
/// librdkafka's clock: less than this is no time at all to it.
const TICK: Duration = Duration::from_millis(1);
const CLOSE_DEADLINE: Duration = Duration::from_secs(5);
/// How many events one look at the queue serves at most.
const EVENTS_MAX: usize = 10_000;

pub(super) type Producing = BaseProducer<Context>;

pub(super) struct Committer {
    settings: ClientConfig,
    /// The group and the instance: what all its ids begin with.
    instance: String,
    /// The topic that the group reads, whose offsets the transactions carry.
    pub(super) read: String,
    /// The topic that a transaction's `append` writes to.
    pub(super) written: String,
    /// How high that topic is known to be, if nothing else is written to.
    pub(super) heights: Option<Arc<Heights>>,
    /// `None` until a recycling has succeeded.
    producer: Option<Producing>,
    /// Something of the last transaction may still take effect: no other may begin on this producer.
    pub(super) in_doubt: bool,
    pub(super) fences: Fences,
    ids: Ids,
}

/// Which of the ids is tried: the first, unless it could not be had a moment ago.
#[derive(Default)]
struct Ids {
    number: u32,
    failed: Option<Instant>,
}

impl Ids {
    fn next(&mut self, now: Instant) -> u32 {
        if self.failed.is_some_and(|failed| now.saturating_duration_since(failed) >= PASSED_OVER) {
            *self = Self::default();
        }
        self.number
    }

    /// The one that was tried could not be had.
    fn pass_over(&mut self, now: Instant) {
        (self.number, self.failed) = ((self.number + 1) % IDS_MAX, Some(now));
    }
}

impl Committer {
    /// For the lanes, which read the log and write to it. Connects, and ends what an earlier producer of this instance left
    /// open. Blocks.
    pub(super) fn new(config: &KafkaConfig, heights: &Arc<Heights>) -> Result<Self, JournalError> {
        let (instance, topic) = (instance(&config.group, config), &config.topic_prefix);
        Self::of(instance, settings::committer(config), topic, topic, Some(Arc::clone(heights)))
    }

    /// For a member that reads the topic `read` and writes to `written`. Blocks as [`Self::new`].
    pub(super) fn of(
        instance: String,
        settings: ClientConfig,
        read: &str,
        written: &str,
        heights: Option<Arc<Heights>>,
    ) -> Result<Self, JournalError> {
        let deadline = Instant::now() + START_WAIT_MAX;
        let (read, written) = (read.to_owned(), written.to_owned());
        let (producer, fences, ids) = (None, Fences::default(), Ids::default());
        let mut committer = Self { settings, instance, read, written, heights, producer, in_doubt: false, fences, ids };
        loop {
            match committer.recycle() {
                Ok(()) => return Ok(committer),
                Err(JournalError::Unavailable(reason)) if Instant::now() < deadline => {
                    tracing::warn!(reason, "there is no transactional producer yet");
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// Drops the producer and makes a new one. Blocks for a few seconds at most: one that could not be had is tried under
    /// the next id when this is called again.
    pub(super) fn recycle(&mut self) -> Result<(), JournalError> {
        if let Some(old) = self.producer.take() {
            drop_within(old, "committer", CLOSE_DEADLINE);
        }
        let now = Instant::now();
        self.fences.recycled(now);
        let transactional_id = format!("{}/{}", self.instance, self.ids.next(now));
        self.settings.set("transactional.id", &transactional_id);
        match create(&self.settings, &transactional_id) {
            Ok(producer) => self.producer = Some(producer),
            Err(error) => {
                self.ids.pass_over(Instant::now());
                return Err(error);
            }
        }
        self.in_doubt = false;
        tracing::info!(transactional_id, "made a new transactional producer");
        Ok(())
    }

    /// Begins a transaction with the membership of `member` as it is now, over the partitions it holds.
    pub(super) fn begin<'a>(
        &'a mut self,
        member: &BaseConsumer<Context>,
        held: &'a BTreeSet<Partition>,
    ) -> Result<KafkaTransaction<'a>, TransactionError> {
        let membership = membership(member)?;
        let producer = self.usable()?;
        serve(producer);
        // What went wrong while nothing was in flight left nothing in doubt.
        producer.context().take_doubt();
        if let Err(error) = producer.begin_transaction() {
            let failed = transaction_error("begin a transaction", &error, Duration::ZERO, &self.fences);
            // Nothing was begun, so there is nothing to abort: what cannot begin needs a new producer.
            self.in_doubt = true;
            let fate = if failed.fate == Fate::Retry { Fate::Recycle } else { failed.fate };
            return Err(TransactionError { fate, ..failed });
        }
        Ok(KafkaTransaction::new(self, membership, held))
    }

    /// Lets librdkafka speak (logs, errors) while no transaction is open.
    pub(super) fn serve(&self) {
        if let Some(producer) = &self.producer {
            serve(producer);
        }
    }

    pub(super) fn close(&mut self, deadline: Duration) {
        if let Some(producer) = self.producer.take() {
            drop_within(producer, "committer", deadline);
        }
    }

    fn usable(&self) -> Result<&Producing, TransactionError> {
        match &self.producer {
            Some(producer) if !self.in_doubt && !producer.context().is_fatal() => Ok(producer),
            _ => Err(failure(Fate::Recycle, "the producer must be recycled first")),
        }
    }

    pub(super) fn producer(&self) -> Result<&Producing, TransactionError> {
        self.producer.as_ref().ok_or_else(|| failure(Fate::Recycle, "there is no producer"))
    }
}

/// This instance in `group`.
pub(super) fn instance(group: &str, config: &KafkaConfig) -> String {
    format!("{group}/{}", config.instance_id)
}

/// The metadata that fences a transaction. Read between two looks at the generation: without a generation the broker
/// would take the offsets of anybody.
fn membership(member: &BaseConsumer<Context>) -> Result<ConsumerGroupMetadata, TransactionError> {
    let before = native::generation(member.client());
    let metadata = member.group_metadata();
    match (metadata, before) {
        (Some(metadata), Some(_)) if native::generation(member.client()) == before && !member.assignment_lost() => {
            Ok(metadata)
        }
        _ => Err(failure(Fate::Retry, "not a member of the group at the moment")),
    }
}

fn create(settings: &ClientConfig, transactional_id: &str) -> Result<Producing, JournalError> {
    let producer: Producing = settings
        .create_with_context(Context::new("committer"))
        .map_err(|error| journal_error("create the transactional producer", &error))?;
    let deadline = Instant::now() + INIT_TURN;
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        match producer.init_transactions(left) {
            Ok(()) => return Ok(producer),
            Err(error) if (is_retriable(&error) || is_transport(&error)) && left > TICK => {
                tracing::warn!(transactional_id, %error, "the transaction coordinator does not answer yet");
                serve(&producer);
            }
            Err(error) => {
                let error = journal_error(&format!("take over the transactional id {transactional_id}"), &error);
                drop_within(producer, "committer", CLOSE_DEADLINE);
                return Err(error);
            }
        }
    }
}

/// Serves everything that waits: a poll of no time serves one event.
pub(super) fn serve(producer: &Producing) {
    for _ in 0..EVENTS_MAX {
        if native::events_waiting(producer.client()) == 0 {
            return;
        }
        producer.poll(Duration::ZERO);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_that_is_stuck_is_not_tried_again_at_once() {
        let (mut ids, now) = (Ids::default(), Instant::now());
        assert_eq!((ids.next(now), ids.next(now + PASSED_OVER)), (0, 0));
        ids.pass_over(now);
        ids.pass_over(now);
        assert_eq!(ids.next(now), 2);
        assert_eq!(ids.next(now + PASSED_OVER / 2), 2, "also after it was had");
        assert_eq!(ids.next(now + PASSED_OVER), 0);
        (0..IDS_MAX).for_each(|_| ids.pass_over(now));
        assert_eq!(ids.next(now), 0, "they go round");
    }
}
