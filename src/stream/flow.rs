//! One subscription of a WebSocket: its feed as messages, one after the other, as they are asked for.

use std::sync::Arc;
use std::time::Duration;

use futures_util::Stream;
use futures_util::stream;
use tokio::time::{Instant, sleep_until};

use super::Streams;
use super::feed::{Data, Next, Reading};
use super::message::Told;
use crate::http::Problem;
use crate::journal::LogId;

/// What a subscription has come to.
pub(super) enum Flowed {
    Message(String),
    /// A message that tells a cursor alone, with perhaps a long look before it.
    Cursor(String),
    /// All was told.
    End(Arc<str>),
    /// Not all was told, and no more will be.
    Failed(Arc<str>, Box<Problem>),
}

/// What a subscription tells, one message after the other.
pub(super) struct Flow {
    id: Arc<str>,
    /// `None` is a payment of which all was told before it began.
    reading: Option<Reading>,
    log: LogId,
    heartbeat: Duration,
    /// Until when nothing need be told: kept over every wake that brings nothing for this subscription.
    silent_until: Instant,
}

impl Flow {
    pub(super) fn new(id: Arc<str>, reading: Option<Reading>, streams: &Streams) -> Self {
        let heartbeat = streams.config.heartbeat;
        Self { id, reading, log: streams.view.log_id(), heartbeat, silent_until: Instant::now() + heartbeat }
    }

    pub(super) fn messages(self) -> impl Stream<Item = Flowed> + Send {
        stream::unfold(Some(self), async |flow: Option<Self>| Some(flow?.next().await))
    }

    async fn next(mut self) -> (Flowed, Option<Self>) {
        let Some(mut reading) = self.reading.take() else { return (Flowed::End(self.id), None) };
        let block = loop {
            match reading.next() {
                Next::Block(block) => break block,
                Next::Step(step) => {
                    reading.unfold(&step);
                    continue;
                }
                Next::Later => tokio::task::yield_now().await,
                Next::Wait => tokio::select! {
                    () = reading.woken() => {}
                    () = sleep_until(self.silent_until) => {}
                },
                Next::End => return (Flowed::End(self.id), None),
                Next::Failed(problem) => return (Flowed::Failed(self.id, problem), None),
            }
            if Instant::now() >= self.silent_until {
                self.silent_until = Instant::now() + self.heartbeat;
                if let Some(block) = reading.moved() {
                    break block;
                }
            }
        };
        self.silent_until = Instant::now() + self.heartbeat;
        let text = Told::block(&self.id, &block, self.log).text();
        self.reading = Some(reading);
        match block.data {
            Data::Nothing => (Flowed::Cursor(text), Some(self)),
            _ => (Flowed::Message(text), Some(self)),
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::StreamExt;

    use super::{Flow, Flowed, Reading};
    use crate::access::Caller;
    use crate::payment::MerchantId;
    use crate::stream::tests::{Growing, all_of_type};

    #[tokio::test]
    async fn a_filtered_subscription_of_a_busy_merchant_tells_its_cursor() {
        let directory = tempfile::tempdir().unwrap();
        let mut log = Growing::open(directory.path());
        let streams = log.streams();
        let feed =
            streams.feed(&Caller::of(MerchantId::default()), all_of_type("PaymentParked", None)).unwrap().unwrap();
        let mut messages = Box::pin(Flow::new("a".into(), Some(Reading::new(feed)), &streams).messages());
        assert!(matches!(messages.next().await, Some(Flowed::Cursor(_))), "the opening");
        tokio::select! {
            told = messages.next() => assert!(matches!(told, Some(Flowed::Cursor(_)))),
            () = log.is_busy() => panic!("nothing was told"),
        }
    }
}
