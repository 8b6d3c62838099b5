//! The API's idempotent producer: one record in, one position out.
//!
//! Promises that every append is answered: a position, "certainly not", or "nobody knows". A producer that librdkafka
//! declares dead is replaced by the next append; what it still held has been answered by then.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rdkafka::producer::{BaseRecord, Producer};
use tokio::sync::oneshot;

use super::context::Delivery;
use super::error::refused_append;
use super::foreign::restored_record;
use super::heights::Heights;
use super::threaded::Threaded;
use super::{KafkaConfig, base_record, drop_within, settings};
use crate::journal::{AppendError, Appending, JournalError, NewRecord, Offset, SourceRecord};

/// How long the old producer is waited for when a new one takes its place, off the append's own thread.
const CLOSE_DEADLINE: Duration = Duration::from_secs(5);

type Outgoing<'r> = BaseRecord<'r, [u8], [u8], Box<oneshot::Sender<Delivery>>>;

pub(super) struct Appender {
    config: KafkaConfig,
    heights: Arc<Heights>,
    /// Held only to look or to swap, never while something is sent.
    current: Mutex<Arc<Threaded>>,
}

impl Appender {
    pub(super) fn new(config: &KafkaConfig, heights: &Arc<Heights>) -> Result<Self, JournalError> {
        let producer = create(config)?;
        Ok(Self { config: config.clone(), heights: Arc::clone(heights), current: Mutex::new(Arc::new(producer)) })
    }

    pub(super) fn append(&self, record: NewRecord) -> Appending {
        // Before it is sent: a moment later it may have been read itself.
        let height = self.heights.of(record.partition);
        let (waiting, answer) = oneshot::channel();
        let sent = self.enqueue(base_record(&self.config.topic_prefix, &record, Box::new(waiting)));
        self.answer(height, sent.map(|()| answer))
    }

    /// With the time that it had on another log: kept by a topic that is set up for it, and by no other.
    pub(super) fn restore(&self, record: &SourceRecord) -> Appending {
        let height = self.heights.of(record.position.partition);
        let (waiting, answer) = oneshot::channel();
        let sent = self.enqueue(restored_record(&self.config.topic_prefix, record, Box::new(waiting)));
        self.answer(height, sent.map(|()| answer))
    }

    fn answer(&self, height: Offset, sent: Result<oneshot::Receiver<Delivery>, AppendError>) -> Appending {
        let heights = Arc::clone(&self.heights);
        match sent {
            Ok(answer) => Box::pin(async move {
                match answer.await {
                    Ok(Ok(at)) => heights.judge(height, at).map_err(|error| AppendError::Unknown(error.to_string())),
                    Ok(Err(undelivered)) => Err(undelivered.into_append_error()),
                    // Its producer was closed without a report.
                    Err(_) => Err(AppendError::Unknown("the producer was closed".into())),
                }
            }),
            Err(error) => Box::pin(async move { Err(error) }),
        }
    }

    fn enqueue(&self, record: Outgoing<'_>) -> Result<(), AppendError> {
        self.heights.check().map_err(|error| AppendError::NotAppended(error.to_string()))?;
        let producer = self.producer().map_err(|error| AppendError::NotAppended(error.to_string()))?;
        producer.send(record).map_err(|(error, _)| refused_append(&error))
    }

    fn producer(&self) -> Result<Arc<Threaded>, JournalError> {
        let mut current = self.lock();
        if current.context().is_fatal() {
            tracing::warn!("the producer failed for good, making a new one");
            let fresh = Arc::new(create(&self.config)?);
            let old = std::mem::replace(&mut *current, fresh);
            // Closing flushes, for up to half a second: not on a thread that serves requests.
            std::thread::spawn(move || drop_within(old, "appender", CLOSE_DEADLINE));
        }
        Ok(Arc::clone(&current))
    }

    fn lock(&self) -> MutexGuard<'_, Arc<Threaded>> {
        self.current.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn create(config: &KafkaConfig) -> Result<Threaded, JournalError> {
    Threaded::create("appender", &settings::appender(config))
}
