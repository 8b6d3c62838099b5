//! Takes messages on one connection: so many at a time, each judged and appended beside the others, and settled when it is
//! known what became of it.

use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::held::{Held, Holding};
use super::judge::{Judged, judge};
use super::{Ended, ServiceBus};
use crate::amqp::{Delivery, Receiver, Settlement, Ticket};
use crate::intake::IntakeError;
use crate::intake::request::{Refused, Unread};
use crate::journal::{AppendError, NewRecord, Partition};
use crate::payment::{Event, EventData, RequestId};
use crate::projection::home_of;
use crate::recording::event_record;
use crate::schema::{DecodeError, traceparent};
use crate::telemetry::{self, Seldom};

/// Messages that are here and not settled, at most; new ones are asked for when half of them are done. With the largest
/// message that the queue takes it bounds the memory.
const UNSETTLED_MAX: usize = 128;
/// Between two looks whether a partition that has halted goes on, and two tries to append.
const HOLD_PAUSE: Duration = Duration::from_secs(1);
/// How long a message is held that cannot be appended, before it is given back for somebody else to try: an outage must not
/// use up how often its queue gives it out. One of each partition stays, and nothing is asked for until that one is done.
const HOLD_MAX: Duration = Duration::from_secs(60);

/// No partition of the log: of messages that wait for the schema registry to say what they are.
const UNEXPLAINED: Partition = Partition(u32::MAX);

type Under<'a> = Pin<Box<dyn Future<Output = Result<Done, IntakeError>> + Send + 'a>>;

pub(super) struct Taking<'a> {
    bus: &'a ServiceBus,
    receiver: Receiver,
    under_way: FuturesUnordered<Under<'a>>,
    /// Ends the waits of what is under way, not what is being appended.
    stopping: CancellationToken,
    held: Held,
    /// Has it been said that nothing is asked for?
    blocked: bool,
    has_settled: bool,
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
    NotAppended,
    /// Nobody has looked at it to the end: the process stops.
    Left,
}

impl<'a> Taking<'a> {
    pub fn new(bus: &'a ServiceBus, receiver: Receiver) -> Self {
        let (under_way, stopping) = (FuturesUnordered::new(), CancellationToken::new());
        Self { bus, receiver, under_way, stopping, held: Held::default(), blocked: false, has_settled: false }
    }

    /// Has it come to the end of a message?
    pub fn has_settled(&self) -> bool {
        self.has_settled
    }

    /// Until the stop, after which what is being appended is settled still.
    pub async fn run(&mut self, stop: &CancellationToken) -> Result<(), Ended> {
        let mut looks = tokio::time::interval(HOLD_PAUSE);
        while !stop.is_cancelled() {
            self.ask_for_more().await?;
            tokio::select! {
                () = stop.cancelled() => {}
                _ = looks.tick() => {}
                delivery = self.receiver.receive() => self.begin(delivery?),
                Some(done) = self.under_way.next() => self.settle(done?).await?,
            }
        }
        self.drain().await
    }

    pub async fn close(self) {
        self.receiver.close().await;
    }

    /// Not at every message. What was asked for is never taken back: the library takes what comes then for a broken promise.
    async fn ask_for_more(&mut self) -> Result<(), Ended> {
        if self.is_blocked() {
            return Ok(());
        }
        let (here, granted) = (self.under_way.len(), self.receiver.credit() as usize);
        if here + granted <= UNSETTLED_MAX / 2 {
            self.receiver.grant(u32::try_from(UNSETTLED_MAX - here).unwrap_or(u32::MAX)).await?;
        }
        Ok(())
    }

    fn is_blocked(&mut self) -> bool {
        telemetry::service_bus_held(self.held.messages());
        let in_the_way = self.held.in_the_way();
        if let Some(partition) = in_the_way.filter(|_| !self.blocked) {
            tracing::warn!(%partition, "no more messages are asked for: the partition has halted, or cannot be written");
        }
        self.blocked = in_the_way.is_some();
        self.blocked
    }

    fn begin(&mut self, delivery: Delivery) {
        let (bus, stopping, held) = (self.bus, self.stopping.clone(), self.held.clone());
        self.under_way.push(Box::pin(one(bus, delivery, stopping, held)));
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
            Became::NotAppended => {
                telemetry::service_bus_given_back();
                Settlement::GivenBack
            }
            Became::Left => Settlement::GivenBack,
        };
        let settled = settlement != Settlement::GivenBack;
        self.receiver.settle(done.ticket, settlement).await?;
        self.has_settled |= settled;
        Ok(())
    }

    /// Nothing new is begun or asked for. What comes yet is given back; what is being appended is waited for.
    async fn drain(&mut self) -> Result<(), Ended> {
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

/// The whole way of one message.
async fn one(
    bus: &ServiceBus,
    delivery: Delivery,
    stopping: CancellationToken,
    held: Held,
) -> Result<Done, IntakeError> {
    let Delivery { ticket, message } = delivery;
    let done = |became| Ok(Done { ticket, became });
    let (read_at, mut unexplained) = (std::time::Instant::now(), None);
    let judged = loop {
        match judge(message.clone(), read_at, &bus.requests) {
            Ok(judged) => break judged,
            Err(Unread::Refused(refused)) => return done(Became::Refused(refused)),
            Err(Unread::NotRegistered(id)) => {
                bus.requests.want(id);
                let holding = unexplained.get_or_insert_with(|| held.hold(UNEXPLAINED));
                if read_at.elapsed() >= HOLD_MAX && !holding.is_only_one() {
                    return done(Became::NotAppended);
                }
                tokio::select! {
                    () = stopping.cancelled() => return done(Became::Left),
                    () = tokio::time::sleep(HOLD_PAUSE) => {}
                }
            }
        }
    };
    drop(unexplained);
    let (id, fingerprint) = (judged.asked.id, judged.asked.fingerprint);
    let home = home_of(id, bus.journal.partitions());
    let record = match event(bus, judged, home) {
        Ok(record) => record,
        Err(refused) => return done(Became::Refused(refused)),
    };
    let (began, mut holding) = (Instant::now(), None);
    loop {
        // Also what an append has left on the log that seemed to have failed.
        if let Some(row) = bus.view.payment(id)? {
            return done(Became::Known { repeat: row.payment.initiation.fingerprint == fingerprint });
        }
        if !bus.view.is_halted(home) {
            match bus.journal.append(record.clone()).await {
                Ok(_) => return done(Became::Accepted),
                Err(error) => not_appended(home, &error),
            }
            if began.elapsed() >= HOLD_MAX && holding.as_ref().is_some_and(|holding: &Holding| !holding.is_only_one()) {
                return done(Became::NotAppended);
            }
        }
        holding.get_or_insert_with(|| held.hold(home));
        tokio::select! {
            () = stopping.cancelled() => return done(Became::Left),
            () = tokio::time::sleep(HOLD_PAUSE) => {}
        }
    }
}

fn not_appended(home: Partition, error: &AppendError) {
    static SELDOM: Seldom = Seldom::new();
    if SELDOM.now() {
        tracing::warn!(partition = %home, %error, "a message is held: it is tried again to append it");
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
