//! An idempotent producer without transactions, whose every record is answered. One that librdkafka declares dead is replaced
//! at the next record.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use rdkafka::ClientConfig;
use rdkafka::producer::{BaseRecord, Producer as _};
use tokio::sync::oneshot;

use crate::journal::JournalError;
use crate::journal::kafka::context::Delivery;
use crate::journal::kafka::drop_within;
use crate::journal::kafka::error::undelivered;
use crate::journal::kafka::threaded::Threaded;
use crate::lock::lock;

/// How long closing is waited for, on a thread of its own.
const CLOSE_DEADLINE: Duration = Duration::from_secs(5);

type Waiting = Box<oneshot::Sender<Delivery>>;

pub(super) struct Outbox {
    name: &'static str,
    settings: ClientConfig,
    /// Held only to look or to swap. `None` at the end.
    current: Mutex<Option<Arc<Threaded>>>,
}

impl Outbox {
    /// Connects to nobody yet.
    pub fn open(name: &'static str, settings: ClientConfig) -> Result<Self, JournalError> {
        let producer = Threaded::create(name, &settings)?;
        Ok(Self { name, settings, current: Mutex::new(Some(Arc::new(producer))) })
    }

    /// Hands `record` over. What becomes of it is told by the receiver; a full queue is told there too.
    pub fn send<'r>(
        &self,
        record: impl FnOnce(Waiting) -> BaseRecord<'r, [u8], [u8], Waiting>,
    ) -> Result<oneshot::Receiver<Delivery>, JournalError> {
        let (waiting, answer) = oneshot::channel();
        if let Err((error, refused)) = self.producer()?.send(record(Box::new(waiting))) {
            // Nobody has taken it: whoever waits is told by us.
            let _ = refused.delivery_opaque.send(Err(undelivered(&error)));
        }
        Ok(answer)
    }

    /// Has the cluster not let us in, since the last call?
    pub fn was_denied(&self) -> bool {
        let current = lock(&self.current);
        current.as_ref().is_some_and(|producer| producer.context().take_denied())
    }

    fn producer(&self) -> Result<Arc<Threaded>, JournalError> {
        let mut current = lock(&self.current);
        match &*current {
            Some(producer) if !producer.context().is_fatal() => return Ok(Arc::clone(producer)),
            _ => tracing::warn!(client = self.name, "the producer failed for good, making a new one"),
        }
        let fresh = Arc::new(Threaded::create(self.name, &self.settings)?);
        close(current.replace(Arc::clone(&fresh)));
        Ok(fresh)
    }
}

impl Drop for Outbox {
    fn drop(&mut self) {
        close(lock(&self.current).take());
    }
}

/// Closing flushes, and may take long: never on a thread that does anything else.
fn close(producer: Option<Arc<Threaded>>) {
    if let Some(producer) = producer {
        std::thread::spawn(move || drop_within(producer, "outbox", CLOSE_DEADLINE));
    }
}
