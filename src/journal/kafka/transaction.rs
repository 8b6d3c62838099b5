//! The committer: the transactional producer of a process, and its transactions.
//!
//! Promises that a transaction ends in one of three ways: committed, with the place of each record; certainly aborted;
//! or in doubt, and then the producer takes no other until it is recycled (librdkafka speaks transaction protocol v1,
//! in which a delayed end of one transaction can end the next one: only a new epoch is safe).

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use rdkafka::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerGroupMetadata};
use rdkafka::error::KafkaError;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer, PurgeConfig};
use rdkafka::util::Timeout;
use tokio::sync::oneshot;

use super::context::{Context, Delivery};
use super::error::{is_queue_full, is_retriable, is_transport, journal_error, transaction_error};
use super::settings::TRANSACTION_TIMEOUT;
use super::{KafkaConfig, base_record, drop_within, kafka_offset, list_of, native, settings};
use crate::journal::{Fate, JournalError, NewRecord, Partition, Position, Transaction, TransactionError};

/// A commit that takes this long was retried inside librdkafka: an earlier request of it may still be on its way.
const COMMIT_SLOW: Duration = Duration::from_secs(3);
/// How long all records of a transaction may take to be acknowledged, or purged: a little more than each may.
const DELIVERY_WAIT_MAX: Duration = Duration::from_secs(9);
/// How long an append waits for room in the queue.
const QUEUE_WAIT_MAX: Duration = Duration::from_secs(1);
/// How often a call that says it can be resumed is resumed.
const RESUMES_MAX: u32 = 3;
/// How long a new producer may take until its epoch is known: a broker may need the transaction timeout, and then up to
/// 10 s more until it looks, to end what a predecessor left open.
const INIT_WAIT_MAX: Duration = Duration::from_secs(40);
const CLOSE_DEADLINE: Duration = Duration::from_secs(5);
/// rdkafka's poll always takes all the time it is given, so each turn is as short as librdkafka's clock allows.
const TURN: Duration = Duration::from_millis(1);
/// How many events one look at the queue serves: a poll of no time serves one.
const EVENTS_MAX: usize = 32;

type Producing = BaseProducer<Context>;
/// Where the report of a record goes.
type Waiting = Box<oneshot::Sender<Delivery>>;
type Sending<'r> = BaseRecord<'r, [u8], [u8], Waiting>;

pub(super) struct Committer {
    settings: ClientConfig,
    transactional_id: String,
    /// The topic that the group reads, whose offsets the transactions carry.
    read: String,
    /// The topic that [`Transaction::append`] writes to.
    written: String,
    /// `None` after a recycling that failed half-way.
    producer: Option<Producing>,
    /// Something of the last transaction may still take effect: no other may begin on this producer.
    in_doubt: bool,
}

impl Committer {
    /// For the lanes, which read the log and write to it. Connects, and ends what an earlier producer of this instance
    /// left open. Blocks.
    pub(super) fn new(config: &KafkaConfig) -> Result<Self, JournalError> {
        let transactional_id = transactional_id(&config.group, config);
        let settings = settings::committer(config, &transactional_id);
        Self::of(transactional_id, settings, &config.topic_prefix, &config.topic_prefix)
    }

    /// For a member that reads the topic `read` and writes to `written`. Blocks as [`Self::new`].
    pub(super) fn of(
        transactional_id: String,
        settings: ClientConfig,
        read: &str,
        written: &str,
    ) -> Result<Self, JournalError> {
        let producer = Some(create(&settings, &transactional_id)?);
        let (read, written) = (read.to_owned(), written.to_owned());
        Ok(Self { settings, transactional_id, read, written, producer, in_doubt: false })
    }

    pub(super) fn recycle(&mut self) -> Result<(), JournalError> {
        if let Some(old) = self.producer.take() {
            drop_within(old, "committer", CLOSE_DEADLINE);
        }
        self.producer = Some(create(&self.settings, &self.transactional_id)?);
        self.in_doubt = false;
        tracing::info!(transactional_id = self.transactional_id, "made a new transactional producer");
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
            let failed = transaction_error("begin a transaction", &error, Duration::ZERO, TRANSACTION_TIMEOUT);
            // Nothing was begun, so there is nothing to abort: what cannot begin needs a new producer.
            self.in_doubt = true;
            let fate = if failed.fate == Fate::Retry { Fate::Recycle } else { failed.fate };
            return Err(TransactionError { fate, ..failed });
        }
        let began = Instant::now();
        Ok(KafkaTransaction { committer: self, membership, held, began, deliveries: Vec::new(), open: true })
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

    fn producer(&self) -> Result<&Producing, TransactionError> {
        self.producer.as_ref().ok_or_else(|| failure(Fate::Recycle, "there is no producer"))
    }
}

/// Of this instance's one producer in `group`.
pub(super) fn transactional_id(group: &str, config: &KafkaConfig) -> String {
    format!("{group}/{}/0", config.instance_id)
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
    let deadline = Instant::now() + INIT_WAIT_MAX;
    loop {
        match producer.init_transactions(TRANSACTION_TIMEOUT) {
            Ok(()) => return Ok(producer),
            Err(error) if (is_retriable(&error) || is_transport(&error)) && Instant::now() < deadline => {
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

fn serve(producer: &Producing) {
    for _ in 0..EVENTS_MAX {
        producer.poll(Duration::ZERO);
    }
}

fn failure(fate: Fate, reason: &str) -> TransactionError {
    TransactionError { fate, culprit: None, reason: reason.into() }
}

pub(super) struct KafkaTransaction<'a> {
    committer: &'a mut Committer,
    membership: ConsumerGroupMetadata,
    held: &'a BTreeSet<Partition>,
    began: Instant,
    /// Where the report of each record will arrive, in the order of the appends.
    deliveries: Vec<oneshot::Receiver<Delivery>>,
    open: bool,
}

impl KafkaTransaction<'_> {
    fn try_commit(&mut self, next: &[Position]) -> Result<Vec<Position>, TransactionError> {
        for position in next {
            self.must_hold(position.partition)?;
        }
        let positions = self.delivered()?;
        let producer = self.committer.producer()?;
        let began = Instant::now();
        if !next.is_empty() {
            let offsets = next.iter().map(|position| (position.partition, kafka_offset(position.offset)));
            let offsets = list_of(&self.committer.read, offsets);
            resumed(|| producer.send_offsets_to_transaction(&offsets, &self.membership, TRANSACTION_TIMEOUT))
                .map_err(|error| self.error("send the offsets", &error))?;
        }
        // Any other timeout risks that librdkafka and the broker disagree; this one ends with the transaction's own.
        resumed(|| producer.commit_transaction(Timeout::Never)).map_err(|error| self.error("commit", &error))?;
        serve(producer);
        let took = began.elapsed();
        if producer.context().take_doubt() || took >= COMMIT_SLOW {
            let reason = format!("the commit took {} ms or met a transport error", took.as_millis());
            return Err(failure(Fate::Recycle, &reason));
        }
        Ok(positions)
    }

    /// Appends a record to any partition of any topic: for one who reads in one place and writes in another.
    pub(super) fn append_to<'r>(
        &mut self,
        record: impl FnOnce(Waiting) -> Sending<'r>,
    ) -> Result<(), TransactionError> {
        let report = self.send(record)?;
        self.deliveries.push(report);
        Ok(())
    }

    fn send<'r>(
        &self,
        record: impl FnOnce(Waiting) -> Sending<'r>,
    ) -> Result<oneshot::Receiver<Delivery>, TransactionError> {
        let producer = self.committer.producer()?;
        let deadline = Instant::now() + QUEUE_WAIT_MAX;
        let (waiting, report) = oneshot::channel();
        let mut sending = record(Box::new(waiting));
        loop {
            match producer.send(sending) {
                Ok(()) => return Ok(report),
                Err((error, back)) if is_queue_full(&error) && Instant::now() < deadline => {
                    producer.poll(TURN);
                    sending = back;
                }
                Err((error, refused)) => {
                    let culprit = refused.partition.and_then(|p| u32::try_from(p).ok()).map(Partition);
                    return Err(TransactionError { culprit, ..self.error("append", &error) });
                }
            }
        }
    }

    /// Waits until every record has its report. Must come before `commit_transaction`, whose flush in rdkafka polls for
    /// 100 ms at a time.
    fn delivered(&mut self) -> Result<Vec<Position>, TransactionError> {
        if !settle(self.committer.producer()?) {
            return Err(failure(Fate::Recycle, "the records were not acknowledged in time"));
        }
        let age = self.began.elapsed();
        let mut positions = Vec::with_capacity(self.deliveries.len());
        for delivery in &mut self.deliveries {
            match delivery.try_recv() {
                Ok(Ok(position)) => positions.push(position),
                Ok(Err(undelivered)) => return Err(undelivered.into_transaction_error(age, TRANSACTION_TIMEOUT)),
                Err(_) => return Err(failure(Fate::Recycle, "a record has no delivery report")),
            }
        }
        Ok(positions)
    }

    fn must_hold(&self, partition: Partition) -> Result<(), TransactionError> {
        if self.held.contains(&partition) {
            return Ok(());
        }
        let reason = format!("partition {partition} is not assigned to this instance");
        Err(TransactionError { fate: Fate::Retry, culprit: Some(partition), reason })
    }

    /// Ends a transaction that failed: aborted if that is certain, else in doubt.
    fn give_up(&mut self, error: TransactionError) -> TransactionError {
        let aborted =
            if error.fate == Fate::Retry { self.end_aborted() } else { Err(failure(error.fate, "not aborted")) };
        match aborted {
            Ok(()) => error,
            Err(abort) => {
                self.committer.in_doubt = true;
                TransactionError { fate: abort.fate, ..error }
            }
        }
    }

    /// librdkafka's abort serves no events, so the queue is emptied and all reports are served before it is called.
    fn end_aborted(&mut self) -> Result<(), TransactionError> {
        self.open = false;
        let aborted = self.try_abort();
        if aborted.is_err() {
            self.committer.in_doubt = true;
        }
        aborted
    }

    fn try_abort(&self) -> Result<(), TransactionError> {
        let producer = self.committer.producer()?;
        producer.purge(PurgeConfig::default().queue());
        if !settle(producer) {
            return Err(failure(Fate::Recycle, "the records could not be purged in time"));
        }
        let began = Instant::now();
        resumed(|| producer.abort_transaction(Timeout::Never)).map_err(|error| {
            let error = self.error("abort", &error);
            // An abort that failed is no clean abort, whatever its code.
            TransactionError { fate: if error.fate == Fate::Retry { Fate::Recycle } else { error.fate }, ..error }
        })?;
        serve(producer);
        if producer.context().take_doubt() || began.elapsed() >= COMMIT_SLOW {
            return Err(failure(Fate::Recycle, "the abort was slow or met a transport error"));
        }
        Ok(())
    }

    fn error(&self, doing: &str, error: &KafkaError) -> TransactionError {
        transaction_error(doing, error, self.began.elapsed(), TRANSACTION_TIMEOUT)
    }
}

impl Transaction for KafkaTransaction<'_> {
    fn append(&mut self, record: NewRecord) -> Result<(), TransactionError> {
        self.must_hold(record.partition)?;
        let report = self.send(|waiting| base_record(&self.committer.written, &record, waiting))?;
        self.deliveries.push(report);
        Ok(())
    }

    fn commit(mut self: Box<Self>, next: &[Position]) -> Result<Vec<Position>, TransactionError> {
        if self.deliveries.is_empty() && next.is_empty() {
            // Brokers have been known to choke on an empty transaction.
            return self.end_aborted().map(|()| Vec::new());
        }
        let committed = self.try_commit(next);
        match committed {
            Ok(positions) => {
                self.open = false;
                Ok(positions)
            }
            Err(error) => {
                let error = self.give_up(error);
                self.open = false;
                Err(error)
            }
        }
    }

    fn abort(mut self: Box<Self>) -> Result<(), TransactionError> {
        self.end_aborted()
    }
}

impl Drop for KafkaTransaction<'_> {
    fn drop(&mut self) {
        if self.open {
            tracing::warn!("a transaction was dropped, aborting it");
            if let Err(error) = self.end_aborted() {
                tracing::warn!(%error, "could not abort the dropped transaction");
            }
        }
    }
}

/// Serves reports until none is outstanding; `false` if that takes too long.
fn settle(producer: &Producing) -> bool {
    let deadline = Instant::now() + DELIVERY_WAIT_MAX;
    while producer.in_flight_count() > 0 {
        if Instant::now() >= deadline {
            return false;
        }
        producer.poll(TURN);
    }
    true
}

/// A call that fails as retriable is unfinished, not failed: the same call resumes it.
fn resumed(mut call: impl FnMut() -> Result<(), KafkaError>) -> Result<(), KafkaError> {
    let mut result = call();
    for _ in 0..RESUMES_MAX {
        match &result {
            Err(error) if is_retriable(error) => result = call(),
            _ => break,
        }
    }
    result
}
