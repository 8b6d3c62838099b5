//! The transactions of the committer.
//!
//! Promises that a transaction ends in one of three ways: committed, with the place of each record; certainly aborted;
//! or in doubt, and then the producer takes no other until it is recycled (librdkafka speaks transaction protocol v1,
//! in which a delayed end of one transaction can end the next one: only a new epoch is safe).

use std::collections::BTreeSet;
use std::thread;
use std::time::{Duration, Instant};

use rdkafka::consumer::ConsumerGroupMetadata;
use rdkafka::error::KafkaError;
use rdkafka::producer::{BaseRecord, Producer, PurgeConfig};
use rdkafka::util::Timeout;
use tokio::sync::oneshot;

use super::committer::{Committer, Producing, serve};
use super::context::Delivery;
use super::error::{is_queue_full, is_retriable, transaction_error};
use super::settings::TRANSACTION_TIMEOUT;
use super::{base_record, kafka_offset, list_of};
use crate::journal::{Fate, NewRecord, Partition, Position, Transaction, TransactionError};

/// A commit that takes this long was retried inside librdkafka: an earlier request of it may still be on its way.
const COMMIT_SLOW: Duration = Duration::from_secs(3);
/// How long librdkafka may take to end a transaction: longer than the broker lets one be open, so that the two cannot disagree
/// about one that goes on. A process once stood still for two minutes after all links had been cut, when nothing else but this
/// wait had no end.
const END_MAX: Timeout = Timeout::After(Duration::from_secs(15));
/// How long all records of a transaction may take to be acknowledged, or purged: a little more than each may.
const DELIVERY_WAIT_MAX: Duration = Duration::from_secs(9);
/// How long an append waits for room in the queue.
const QUEUE_WAIT_MAX: Duration = Duration::from_secs(1);
/// Before a call that has not ended is resumed: some answer at once.
const RESUME_PAUSE: Duration = Duration::from_millis(20);
/// Between two looks for reports. Not a poll's own wait: rdkafka's takes all the time it is given, and spins through the last
/// millisecond of it.
const TURN: Duration = Duration::from_micros(200);

/// Where the report of a record goes.
type Waiting = Box<oneshot::Sender<Delivery>>;
type Sending<'r> = BaseRecord<'r, [u8], [u8], Waiting>;

pub(super) fn failure(fate: Fate, reason: &str) -> TransactionError {
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

impl<'a> KafkaTransaction<'a> {
    pub(super) fn new(
        committer: &'a mut Committer,
        membership: ConsumerGroupMetadata,
        held: &'a BTreeSet<Partition>,
    ) -> Self {
        Self { committer, membership, held, began: Instant::now(), deliveries: Vec::new(), open: true }
    }

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
            resumed(self.began, || {
                producer.send_offsets_to_transaction(&offsets, &self.membership, TRANSACTION_TIMEOUT)
            })
            .map_err(|error| self.error("send the offsets", &error))?;
        }
        resumed(self.began, || producer.commit_transaction(END_MAX)).map_err(|error| self.error("commit", &error))?;
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
                    serve(producer);
                    thread::sleep(TURN);
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
        let (age, heights) = (self.began.elapsed(), &self.committer.heights);
        let mut positions = Vec::with_capacity(self.deliveries.len());
        for delivery in &mut self.deliveries {
            match delivery.try_recv() {
                // No reader has got past what this transaction appends, for it is open.
                Ok(Ok(position)) => {
                    if let Some(heights) = heights {
                        let judged = heights.judge(heights.of(position.partition), position);
                        judged.map_err(|replaced| failure(Fate::Stop, &replaced.to_string()))?;
                    }
                    positions.push(position);
                }
                Ok(Err(undelivered)) if undelivered.is_purged() => return Err(self.why_purged()),
                Ok(Err(undelivered)) => {
                    return Err(undelivered.into_transaction_error(age, &self.committer.fences));
                }
                Err(_) => return Err(failure(Fate::Recycle, "a record has no delivery report")),
            }
        }
        Ok(positions)
    }

    /// A transaction that librdkafka gave up is purged, and its records do not say why. A commit does: it is refused while a
    /// record of the transaction was not delivered, so it can commit nothing.
    fn why_purged(&self) -> TransactionError {
        let refused = self.committer.producer().map(|producer| producer.commit_transaction(END_MAX));
        match refused {
            Ok(Err(error)) => self.error("deliver the records", &error),
            Ok(Ok(())) => failure(Fate::Recycle, "a transaction committed without all its records"),
            Err(error) => error,
        }
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
        resumed(began, || producer.abort_transaction(END_MAX)).map_err(|error| {
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
        transaction_error(doing, error, self.began.elapsed(), &self.committer.fences)
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
    loop {
        serve(producer);
        if producer.in_flight_count() == 0 {
            return true;
        }
        if Instant::now() >= deadline {
            return false;
        }
        thread::sleep(TURN);
    }
}

/// A call that fails as retriable is unfinished, not failed: the same call resumes it. Not for longer than the broker lets
/// a transaction be open: what has not ended by then needs a new producer, and the lanes must not hang in it.
fn resumed(began: Instant, mut call: impl FnMut() -> Result<(), KafkaError>) -> Result<(), KafkaError> {
    loop {
        match call() {
            Err(error) if is_retriable(&error) && began.elapsed() < TRANSACTION_TIMEOUT => {
                tracing::debug!(%error, "a transactional call goes on");
                thread::sleep(RESUME_PAUSE);
            }
            ended => return ended,
        }
    }
}
