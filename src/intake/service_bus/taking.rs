//! Takes messages on one connection: so many at a time, each judged and appended beside the others, and settled when it is
//! known what became of it.

use std::future::{Future, pending};
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use tokio_util::sync::CancellationToken;

use super::judge::{Judged, judge};
use super::{Ended, ServiceBus};
use crate::amqp::{Delivery, Pause, Receiver, Settlement, Ticket};
use crate::intake::IntakeError;
use crate::intake::request::{Refused, Unread};
use crate::journal::{JournalError, NewRecord, Partition};
use crate::payment::{Event, EventData, RequestId};
use crate::projection::home_of;
use crate::recording::event_record;
use crate::schema::{DecodeError, traceparent};
use crate::telemetry::{self, Seldom};

/// Messages that are here and not settled, at most; new ones are asked for when half of them are done. With the largest
/// message that the queue takes it bounds the memory.
const UNSETTLED_MAX: usize = 128;
/// Between two looks whether a partition that has halted goes on.
const HALT_PAUSE: Duration = Duration::from_secs(1);

type Under<'a> = Pin<Box<dyn Future<Output = Result<Done, IntakeError>> + Send + 'a>>;
type Probe = Pin<Box<dyn Future<Output = Result<(), JournalError>> + Send>>;

pub(super) struct Taking<'a> {
    bus: &'a ServiceBus,
    receiver: Receiver,
    under_way: FuturesUnordered<Under<'a>>,
    /// Ends the waits of what is under way, not what is being appended.
    stopping: CancellationToken,
    /// Where the log could not be written: nothing is asked for until it can.
    trouble: Option<(Partition, Probe)>,
    pause: Pause,
}

/// What became of a message.
struct Done {
    ticket: Ticket,
    became: Became,
}

enum Became {
    Accepted,
    /// The payment is known already, and asks for the same, or not.
    Known {
        repeat: bool,
    },
    Refused(Refused),
    /// It was not appended, or may not have been.
    NotAppended(Partition),
    /// Nobody has looked at it to the end: the process stops.
    Left,
}

impl<'a> Taking<'a> {
    pub fn new(bus: &'a ServiceBus, receiver: Receiver) -> Self {
        let (under_way, stopping) = (FuturesUnordered::new(), CancellationToken::new());
        Self { bus, receiver, under_way, stopping, trouble: None, pause: Pause::default() }
    }

    /// Until the stop, after which what is being appended is settled still.
    pub async fn run(&mut self, stop: &CancellationToken) -> Result<(), Ended> {
        while !stop.is_cancelled() {
            self.ask_for_more().await?;
            tokio::select! {
                () = stop.cancelled() => {}
                delivery = self.receiver.receive() => self.begin(delivery?),
                Some(done) = self.under_way.next() => self.settle(done?).await?,
                answer = probe(&mut self.trouble) => self.probed(answer),
            }
        }
        self.drain().await
    }

    pub async fn close(self) {
        self.receiver.close().await;
    }

    async fn ask_for_more(&mut self) -> Result<(), Ended> {
        let here = self.under_way.len();
        let wanted = if self.trouble.is_some() { 0 } else { UNSETTLED_MAX.saturating_sub(here) };
        let granted = self.receiver.credit() as usize;
        // Not at every message; but nothing may come while the log cannot be written.
        if granted + here <= UNSETTLED_MAX / 2 && wanted > 0 || wanted == 0 && granted > 0 {
            self.receiver.grant(u32::try_from(wanted).unwrap_or(u32::MAX)).await?;
        }
        Ok(())
    }

    fn begin(&mut self, delivery: Delivery) {
        let (bus, stopping) = (self.bus, self.stopping.clone());
        self.under_way.push(Box::pin(one(bus, delivery, stopping)));
    }

    async fn settle(&mut self, done: Done) -> Result<(), Ended> {
        let settlement = match done.became {
            Became::Accepted => {
                telemetry::request_taken("accepted");
                Settlement::Accepted
            }
            Became::Known { repeat } => {
                telemetry::request_taken(if repeat { "repeat" } else { "conflict" });
                Settlement::Accepted
            }
            Became::Refused(Refused { code, detail }) => {
                static SELDOM: Seldom = Seldom::new();
                telemetry::dead_letter(code);
                if SELDOM.now() {
                    tracing::warn!(reason = code, "a message is refused, and goes to the queue's dead letters");
                }
                Settlement::Rejected { reason: code, description: detail }
            }
            Became::NotAppended(home) => {
                telemetry::service_bus_given_back();
                self.wait_for(home);
                // First, or it would come back at once.
                self.ask_for_more().await?;
                Settlement::GivenBack
            }
            Became::Left => Settlement::GivenBack,
        };
        Ok(self.receiver.settle(done.ticket, settlement).await?)
    }

    fn wait_for(&mut self, home: Partition) {
        let (journal, pause) = (Arc::clone(&self.bus.journal), self.pause.next());
        let probe = async move {
            tokio::time::sleep(pause).await;
            let asked = tokio::task::spawn_blocking(move || journal.writable(home)).await;
            asked.unwrap_or_else(|error| Err(JournalError::Unavailable(error.to_string())))
        };
        self.trouble = Some((home, Box::pin(probe)));
    }

    fn probed(&mut self, answer: Result<(), JournalError>) {
        let Some((home, _)) = self.trouble.take() else { return };
        if let Err(error) = answer {
            tracing::warn!(partition = %home, %error, "messages wait: the log cannot be written");
            self.wait_for(home);
        }
    }

    /// Nothing new is begun. What comes yet is given back; what is being appended is waited for.
    async fn drain(&mut self) -> Result<(), Ended> {
        self.receiver.grant(0).await?;
        self.stopping.cancel();
        let deadline = tokio::time::sleep(self.bus.drain);
        tokio::pin!(deadline);
        while !self.under_way.is_empty() {
            tokio::select! {
                () = &mut deadline => break,
                delivery = self.receiver.receive() => {
                    let Delivery { ticket, .. } = delivery?;
                    self.settle(Done { ticket, became: Became::Left }).await?;
                }
                Some(done) = self.under_way.next() => self.settle(done?).await?,
            }
        }
        Ok(())
    }
}

/// When the log has been asked; never, if there is no reason to.
async fn probe(trouble: &mut Option<(Partition, Probe)>) -> Result<(), JournalError> {
    match trouble {
        Some((_, probe)) => probe.await,
        None => pending().await,
    }
}

/// The whole way of one message.
async fn one(bus: &ServiceBus, delivery: Delivery, stopping: CancellationToken) -> Result<Done, IntakeError> {
    let Delivery { ticket, message } = delivery;
    let done = |became| Ok(Done { ticket, became });
    let read_at = Instant::now();
    let judged = loop {
        match judge(message.clone(), read_at, &bus.requests) {
            Ok(judged) => break judged,
            Err(Unread::Refused(refused)) => return done(Became::Refused(refused)),
            // The schema registry has not said what its id is.
            Err(Unread::NotRegistered(_)) => tokio::select! {
                () = stopping.cancelled() => return done(Became::Left),
                () = tokio::time::sleep(HALT_PAUSE) => {}
            },
        }
    };
    if let Some(row) = bus.view.payment(judged.asked.id)? {
        let repeat = row.payment.initiation.fingerprint == judged.asked.fingerprint;
        return done(Became::Known { repeat });
    }
    let home = home_of(judged.asked.id, bus.journal.partitions());
    let record = match event(bus, judged, home) {
        Ok(record) => record,
        Err(refused) => return done(Became::Refused(refused)),
    };
    while bus.view.is_halted(home) {
        tokio::select! {
            () = stopping.cancelled() => return done(Became::Left),
            () = tokio::time::sleep(HALT_PAUSE) => {}
        }
    }
    match bus.journal.append(record).await {
        Ok(_) => done(Became::Accepted),
        Err(error) => {
            static SELDOM: Seldom = Seldom::new();
            if SELDOM.now() {
                tracing::warn!(partition = %home, %error, "a message is given back to its queue");
            }
            done(Became::NotAppended(home))
        }
    }
}

fn event(bus: &ServiceBus, judged: Judged, home: Partition) -> Result<NewRecord, Refused> {
    let Judged { asked, trace } = judged;
    let accepted = asked.payment.accept(asked.merchant, &bus.gateway, RequestId::random());
    let event = Event::new(asked.id, bus.view.clocks().machine(), EventData::PaymentInProgress(accepted));
    let trace = traceparent(trace.as_deref());
    event_record(&event, home, &bus.codec, Some(&trace)).map_err(|error| match error {
        DecodeError::TooLarge(_) => Refused { code: "record_too_large", detail: "its event is too large".to_owned() },
        other => Refused { code: "not_encodable", detail: other.to_string() },
    })
}
