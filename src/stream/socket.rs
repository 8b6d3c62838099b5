//! One WebSocket: several subscriptions, each a cursor that is read as fast as the socket drains and no faster. Nothing is
//! queued for a client that does not read; it is closed when it answers no ping, or takes nothing of what is for it.

use std::collections::HashMap;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::time::Duration;

use futures_util::stream::{self, AbortHandle, SelectAll};
use futures_util::{FutureExt, SinkExt, Stream, StreamExt};
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use tokio::io::AsyncReadExt;
use tokio::time::{Instant, MissedTickBehavior, interval_at, sleep_until, timeout};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, Role, WebSocketConfig};
use tokio_tungstenite::tungstenite::{Error, Message};
use warp::http::StatusCode;

use super::event_types::Types;
use super::feed::Reading;
use super::flow::{Flow, Flowed};
use super::message::{Asked, Subscribe, Told};
use super::{Streams, Wish, returning};
use crate::access::Caller;
use crate::http::Problem;
use crate::telemetry::{self, OpenStream};

/// Subscriptions of one socket.
pub(super) const SUBSCRIPTIONS_MAX: usize = 100;
/// A message of a client. More, and the socket is closed with 1009.
pub(super) const MESSAGE_MAX_BYTES: usize = 16 * 1024;
/// Messages of a client that could not be understood. One more, and the socket is closed with 1008.
pub(super) const MISTAKES_MAX: usize = 10;
/// Pings go out with every heartbeat. When so many of them have brought nothing from the client, it is closed.
const PINGS_UNANSWERED_MAX: u32 = 2;
/// What is ready is sent together, up to so many messages.
const TOGETHER_MAX: usize = 64;
/// How long a client has to answer a close.
const CLOSE_WAIT: Duration = Duration::from_secs(5);
const READ_BUFFER_BYTES: usize = 1024;
const WRITE_BUFFER_BYTES: usize = 16 * 1024;
/// More than the largest message is: a payment and its event, made of records of 64 KiB at most, and escaped.
const TOLD_MAX_BYTES: usize = 512 * 1024;

type Io = TokioIo<Upgraded>;
type Flows = SelectAll<Pin<Box<dyn Stream<Item = Flowed> + Send>>>;

struct Socket {
    ws: WebSocketStream<Io>,
    streams: Arc<Streams>,
    caller: Caller,
    subscriptions: HashMap<Arc<str>, AbortHandle>,
    flows: Flows,
    mistakes: usize,
    /// Pings sent since something came from the client.
    unanswered: u32,
    _counted: OpenStream,
}

/// Why a socket ends.
enum Ending {
    /// The client has gone, or takes nothing any more: there is nobody to tell.
    Gone,
    /// The client has closed; the answer is on its way.
    Closed,
    /// The client is to come back.
    GoingAway {
        retry_ms: u64,
    },
    TooLong,
    /// What it was let in by has ended.
    NoLongerPermitted,
    Because(CloseCode, &'static str),
}

pub(super) async fn serve(io: Io, streams: Arc<Streams>, caller: Caller) {
    let mut socket = Socket {
        ws: WebSocketStream::from_raw_socket(io, Role::Server, Some(config())).await,
        streams,
        caller,
        subscriptions: HashMap::new(),
        flows: SelectAll::new(),
        mistakes: 0,
        unanswered: 0,
        _counted: telemetry::stream_opened("websocket"),
    };
    let ending = match socket.run().await {
        Ok(ending) | Err(ending) => ending,
    };
    socket.end(ending).await;
}

fn config() -> WebSocketConfig {
    WebSocketConfig::default()
        .read_buffer_size(READ_BUFFER_BYTES)
        .write_buffer_size(WRITE_BUFFER_BYTES)
        // Or the answers to the pings of a client that reads nothing are kept, all of them.
        .max_write_buffer_size(WRITE_BUFFER_BYTES + TOLD_MAX_BYTES)
        .max_message_size(Some(MESSAGE_MAX_BYTES))
        .max_frame_size(Some(MESSAGE_MAX_BYTES))
}

impl Socket {
    /// Until it is to end; an `Err` comes from the middle of something.
    async fn run(&mut self) -> Result<Ending, Ending> {
        let heartbeat = self.streams.config.heartbeat;
        let shutdown = self.streams.shutdown.clone();
        let mut old = pin!(sleep_until(returning::old_at(self.streams.config.max_age)));
        let mut permit = pin!(self.caller.permit().clone().ended());
        let mut pings = interval_at(Instant::now() + heartbeat, heartbeat);
        pings.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                biased;
                () = shutdown.cancelled() => return Ok(Ending::GoingAway { retry_ms: returning::drain_retry_ms() }),
                () = permit.as_mut() => return Ok(Ending::NoLongerPermitted),
                () = old.as_mut() => return Ok(Ending::GoingAway { retry_ms: returning::retry_ms() }),
                // Before the pings: what has come while the socket was full is an answer too.
                received = self.ws.next() => self.received(received).await?,
                _ = pings.tick() => {
                    if self.unanswered >= PINGS_UNANSWERED_MAX {
                        return Ok(Ending::Because(CloseCode::Policy, "no answer to a ping"));
                    }
                    self.unanswered += 1;
                    self.send(Message::Ping(Vec::new().into())).await?;
                }
                Some(flowed) = self.flows.next(), if !self.flows.is_empty() => self.tell(flowed).await?,
            }
        }
    }

    // === from the client ===

    async fn received(&mut self, received: Option<Result<Message, Error>>) -> Result<(), Ending> {
        self.unanswered = 0;
        match received {
            Some(Ok(Message::Text(text))) => self.asked(&text).await,
            // The library answers pings.
            Some(Ok(Message::Ping(_) | Message::Pong(_) | Message::Frame(_))) => Ok(()),
            Some(Ok(Message::Binary(_))) => Err(Ending::Because(CloseCode::Unsupported, "messages are text")),
            Some(Ok(Message::Close(_))) => Err(Ending::Closed),
            Some(Err(Error::Capacity(_))) => Err(Ending::TooLong),
            Some(Err(Error::Utf8(_))) => Err(Ending::Because(CloseCode::Invalid, "a message is not UTF-8")),
            Some(Err(Error::Protocol(_))) => Err(Ending::Because(CloseCode::Protocol, "not as RFC 6455 has it")),
            Some(Err(_)) | None => Err(Ending::Gone),
        }
    }

    async fn asked(&mut self, text: &str) -> Result<(), Ending> {
        match Asked::parse(text) {
            Ok(Asked::Subscribe(asked)) => {
                let id = asked.id.clone();
                let answer = match self.subscribe(&asked) {
                    Ok(()) => Told::Subscribed { id: &id }.text(),
                    Err(problem) => Told::Error { id: Some(&id), error: problem.body() }.text(),
                };
                self.send(Message::text(answer)).await
            }
            Ok(Asked::Unsubscribe { id }) => {
                let answer = match self.unsubscribe(&id) {
                    Ok(()) => Told::Unsubscribed { id: &id }.text(),
                    Err(problem) => Told::Error { id: Some(&id), error: problem.body() }.text(),
                };
                self.send(Message::text(answer)).await
            }
            Err(problem) => {
                self.mistakes += 1;
                self.send(Message::text(Told::Error { id: None, error: problem.body() }.text())).await?;
                match self.mistakes > MISTAKES_MAX {
                    true => Err(Ending::Because(CloseCode::Policy, "too many messages that mean nothing")),
                    false => Ok(()),
                }
            }
        }
    }

    fn subscribe(&mut self, asked: &Subscribe) -> Result<(), Problem> {
        let refuse = |code, detail| Err(Problem::new(StatusCode::CONFLICT, code, detail));
        if self.subscriptions.contains_key(asked.id.as_str()) {
            return refuse("subscription_exists", "this id has a subscription: unsubscribe first".to_owned());
        }
        if self.subscriptions.len() >= SUBSCRIPTIONS_MAX {
            let detail = format!("a socket has at most {SUBSCRIPTIONS_MAX} subscriptions: open another socket");
            return refuse("too_many_subscriptions", detail);
        }
        let types = asked.types.as_ref().map(|types| Types::named(types.iter().map(String::as_str)));
        let wish = Wish {
            payment_id: asked.payment_id.as_deref(),
            customer_id: asked.customer_id.as_deref(),
            cursor: asked.cursor.as_deref(),
            at_least: asked.at_least.as_deref(),
            types: types.transpose()?.unwrap_or_default(),
        };
        let id: Arc<str> = asked.id.as_str().into();
        let reading = self.streams.feed(&self.caller, wish)?.map(Reading::new);
        let flow = Flow::new(Arc::clone(&id), reading, &self.streams);
        let (flow, handle) = stream::abortable(flow.messages());
        self.subscriptions.insert(id, handle);
        self.flows.push(Box::pin(flow));
        Ok(())
    }

    /// From now on nothing of it comes: what has been read and not sent is let go.
    fn unsubscribe(&mut self, id: &str) -> Result<(), Problem> {
        match self.subscriptions.remove(id) {
            Some(handle) => {
                handle.abort();
                Ok(())
            }
            None => {
                let detail = "this id has no subscription; that of a payment ends when all of it was told";
                Err(Problem::new(StatusCode::NOT_FOUND, "no_subscription", detail))
            }
        }
    }

    // === to the client ===

    /// This, and what else is ready.
    async fn tell(&mut self, first: Flowed) -> Result<(), Ending> {
        let mut looked = self.write(first).await?;
        for _ in 1..TOGETHER_MAX {
            if looked {
                break;
            }
            let Some(flowed) = self.flows.next().now_or_never().flatten() else { break };
            looked = self.write(flowed).await?;
        }
        self.ws.flush().await.map_err(|_| Ending::Gone)?;
        if looked {
            tokio::task::yield_now().await;
        }
        Ok(())
    }

    /// Are others to go first now?
    async fn write(&mut self, flowed: Flowed) -> Result<bool, Ending> {
        let looked = matches!(flowed, Flowed::Cursor(_));
        let text = match flowed {
            Flowed::Message(text) | Flowed::Cursor(text) => text,
            Flowed::End(id) => {
                self.subscriptions.remove(&id);
                Told::End { id: &id }.text()
            }
            Flowed::Failed(id, problem) => {
                self.subscriptions.remove(&id);
                Told::Error { id: Some(&id), error: problem.body() }.text()
            }
        };
        self.ws.feed(Message::text(text)).await.map_err(|_| Ending::Gone)?;
        Ok(looked)
    }

    async fn send(&mut self, message: Message) -> Result<(), Ending> {
        self.ws.send(message).await.map_err(|_| Ending::Gone)
    }

    // === the end ===

    async fn end(&mut self, ending: Ending) {
        let close = |code, reason: String| Some(CloseFrame { code, reason: reason.into() });
        let (frame, readable) = match ending {
            Ending::Gone => return,
            Ending::Closed => {
                // The library keeps the answer for the next read; what is written after a close it refuses.
                let _ = timeout(CLOSE_WAIT, async { while let Some(Ok(_)) = self.ws.next().await {} }).await;
                return;
            }
            Ending::GoingAway { retry_ms } => {
                if self.send(Message::text(Told::GoingAway { retry_ms }.text())).await.is_err() {
                    return;
                }
                (close(CloseCode::Away, format!("come back in {retry_ms} ms")), true)
            }
            Ending::NoLongerPermitted => {
                let problem = self.caller.permit().problem();
                let told = Told::Error { id: None, error: problem.body() }.text();
                if self.send(Message::text(told)).await.is_err() {
                    return;
                }
                (close(CloseCode::Policy, "no longer permitted".to_owned()), true)
            }
            Ending::TooLong => (close(CloseCode::Size, format!("at most {MESSAGE_MAX_BYTES} bytes")), false),
            Ending::Because(code, reason) => {
                // What was not understood has ended the reading of messages; what comes behind it is taken as bytes.
                let readable = !matches!(code, CloseCode::Protocol | CloseCode::Invalid);
                (close(code, reason.to_owned()), readable)
            }
        };
        let closing = async {
            if self.ws.close(frame).await.is_err() {
                return;
            }
            // Until the client has answered. A socket that is closed over unread bytes is reset, and with the reset the client
            // may lose the frame that says why.
            if readable {
                while let Some(Ok(_)) = self.ws.next().await {}
            } else {
                let mut unread = [0; 1024];
                while self.ws.get_mut().read(&mut unread).await.is_ok_and(|read| read > 0) {}
            }
        };
        // A client that does not answer is not waited for longer.
        let _ = timeout(CLOSE_WAIT, closing).await;
    }
}

#[cfg(test)]
mod tests {
    use futures_util::{FutureExt, SinkExt, StreamExt};
    use tokio_tungstenite::WebSocketStream;
    use tokio_tungstenite::tungstenite::protocol::Role;
    use tokio_tungstenite::tungstenite::{Error, Message};

    use super::{TOLD_MAX_BYTES, WRITE_BUFFER_BYTES, config};

    /// Each ping is answered, and the answers are taken by nobody.
    #[tokio::test]
    async fn what_is_kept_for_a_client_that_pings_and_reads_nothing_has_an_end() {
        const PINGS: usize = (WRITE_BUFFER_BYTES + TOLD_MAX_BYTES) / 125 + 1;
        let (ours, theirs) = tokio::io::duplex(1024);
        let mut server = WebSocketStream::from_raw_socket(ours, Role::Server, Some(config())).await;
        let mut client = WebSocketStream::from_raw_socket(theirs, Role::Client, None).await;
        for _ in 0..PINGS {
            let ping = Message::Ping(vec![0; 125].into());
            let (sent, received) = tokio::join!(client.send(ping), server.next());
            assert!(sent.is_ok() && matches!(received, Some(Ok(Message::Ping(_)))), "{sent:?} {received:?}");
        }
        let told = server.feed(Message::text("x".repeat(1024))).now_or_never();
        assert!(matches!(told, Some(Err(Error::WriteBufferFull(_)))), "{told:?}");
    }
}
