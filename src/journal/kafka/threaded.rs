//! A producer whose reports are served by a thread of its own, as rdkafka's `ThreadedProducer` has one: that one spins through the
//! last millisecond of every tenth of a second (0.39), and its process does so with each that it has.

use std::ops::Deref;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use rdkafka::ClientConfig;
use rdkafka::producer::BaseProducer;

use super::context::Context;
use super::error::journal_error;
use crate::journal::JournalError;

/// How long a poll waits. rdkafka gives librdkafka the whole milliseconds that are left of it, and is awake again when what is
/// beyond them has gone by.
const TURN: Duration = Duration::from_micros(100_050);

pub(super) struct Threaded {
    producer: Arc<BaseProducer<Context>>,
    is_over: Arc<AtomicBool>,
    /// `None` at the end.
    serving: Option<JoinHandle<()>>,
}

impl Threaded {
    pub fn create(name: &'static str, settings: &ClientConfig) -> Result<Self, JournalError> {
        let doing = "create a producer";
        let producer: BaseProducer<Context> =
            settings.create_with_context(Context::new(name)).map_err(|error| journal_error(doing, &error))?;
        let (producer, is_over) = (Arc::new(producer), Arc::new(AtomicBool::new(false)));
        let (served, over) = (Arc::clone(&producer), Arc::clone(&is_over));
        let serving = thread::Builder::new().name(format!("reports-{name}")).spawn(move || {
            while !over.load(Ordering::Relaxed) {
                served.poll(TURN);
            }
        });
        let serving = serving.map_err(|error| JournalError::Unavailable(format!("{doing}: no thread: {error}")))?;
        Ok(Self { producer, is_over, serving: Some(serving) })
    }
}

impl Deref for Threaded {
    type Target = BaseProducer<Context>;

    fn deref(&self) -> &Self::Target {
        &self.producer
    }
}

impl Drop for Threaded {
    /// Takes a poll's time, and that of the producer's own end.
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::Relaxed);
        if self.serving.take().is_some_and(|serving| serving.join().is_err()) {
            tracing::error!("the thread of a producer's reports has panicked");
        }
    }
}
