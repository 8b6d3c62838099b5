//! Server-Sent Events: blocks to bytes, and the loop that reads a feed as fast as its socket drains and no faster.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream;
use tokio::time::{Instant, sleep, sleep_until};
use tokio_util::sync::CancellationToken;
use warp::http::HeaderValue;
use warp::http::header::{CACHE_CONTROL, CONTENT_TYPE};
use warp::reply::{Reply, Response};

use super::Streams;
use super::customer::CustomerFeed;
use super::payment::PaymentFeed;
use crate::contract::{FrameBody, ResetBody, SnapshotBody};
use crate::journal::LogId;
use crate::payment::Payment;
use crate::projection::Entry;
use crate::store::StoreError;

/// Blocks are sent together up to about this many bytes.
const CHUNK_BYTES: usize = 16 * 1024;
/// Clients are told to come back after this long, each with its own share of the spread: an instance that goes down must not
/// be followed by all of its readers at once.
const RETRY_MS: u64 = 1000;
const RETRY_SPREAD_MS: u64 = 2000;
/// A comment: it says nothing, and that the stream lives.
const HEARTBEAT: &[u8] = b":\n\n";

/// One block of the stream. What has no id does not move the client's cursor.
pub(super) struct Block {
    pub(super) id: Option<String>,
    pub(super) data: Data,
}

pub(super) enum Data {
    Reset,
    Snapshot {
        payment: Box<Payment>,
        at_least: String,
        /// The last of several, and where older payments begin, if there are any.
        last: Option<Option<String>>,
    },
    Change(Box<Entry>),
    /// An id alone: a place to come back to.
    Nothing,
}

/// What a feed has for now.
pub(super) enum Read {
    Blocks(Vec<Block>),
    /// Nothing, until it is woken.
    Wait,
    /// Nothing, ever.
    End,
}

/// What a stream follows.
pub(super) enum Feed {
    Payment(PaymentFeed),
    Customer(CustomerFeed),
}

impl Feed {
    fn read(&mut self) -> Result<Read, StoreError> {
        match self {
            Self::Payment(feed) => feed.read(),
            Self::Customer(feed) => feed.read(),
        }
    }

    async fn woken(&mut self) {
        match self {
            Self::Payment(feed) => feed.woken().await,
            Self::Customer(feed) => feed.woken().await,
        }
    }
}

impl Block {
    pub(super) fn reset() -> Self {
        Self { id: None, data: Data::Reset }
    }

    fn write(&self, log: LogId, into: &mut Vec<u8>) {
        match &self.data {
            Data::Reset => event("reset", &ResetBody::new(log), into),
            Data::Snapshot { payment, at_least, last: None } => {
                event("snapshot", &SnapshotBody::new(payment, at_least), into);
            }
            Data::Snapshot { payment, at_least, last: Some(next_cursor) } => {
                event("snapshot", &SnapshotBody::last(payment, at_least, next_cursor.as_deref()), into);
            }
            Data::Change(entry) => event(entry.event.data.name(), &FrameBody::new(entry, log), into),
            Data::Nothing => {}
        }
        if let Some(id) = &self.id {
            into.extend_from_slice(b"id: ");
            into.extend_from_slice(id.as_bytes());
            into.push(b'\n');
        }
        into.push(b'\n');
    }
}

/// JSON holds no line break, so that the data is one line.
fn event(name: &str, data: &impl serde::Serialize, into: &mut Vec<u8>) {
    into.extend_from_slice(b"event: ");
    into.extend_from_slice(name.as_bytes());
    into.extend_from_slice(b"\ndata: ");
    // Structs of texts and numbers always serialise, and a Vec takes everything.
    let _ = serde_json::to_writer(&mut *into, data);
    into.push(b'\n');
}

// === the response ===

pub(super) fn respond(streams: &Streams, feed: Feed) -> Response {
    let pump = Pump {
        feed,
        log: streams.view.log_id(),
        pending: VecDeque::new(),
        opened: false,
        ended: false,
        heartbeat: streams.config.heartbeat,
        ends_at: Instant::now() + streams.config.max_age,
        shutdown: streams.shutdown.clone(),
    };
    let body = stream::unfold(pump, async |mut pump: Pump| {
        let chunk = pump.next().await?;
        Some((Ok::<_, Infallible>(chunk), pump))
    });
    let mut response = warp::reply::stream(body).into_response();
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    // Or nginx collects frames until it has a page of them.
    headers.insert("x-accel-buffering", HeaderValue::from_static("no"));
    response
}

struct Pump {
    feed: Feed,
    log: LogId,
    /// Read, and not yet taken by the socket: one read's worth at most.
    pending: VecDeque<Block>,
    opened: bool,
    ended: bool,
    heartbeat: Duration,
    ends_at: Instant,
    shutdown: CancellationToken,
}

impl Pump {
    /// The next bytes; `None` ends the stream. Called when the socket has taken the bytes before.
    async fn next(&mut self) -> Option<Bytes> {
        loop {
            if self.shutdown.is_cancelled() || Instant::now() >= self.ends_at {
                return None;
            }
            let chunk = self.chunk();
            if !chunk.is_empty() {
                return Some(chunk.into());
            }
            if self.ended {
                return None;
            }
            tokio::select! {
                biased;
                () = self.shutdown.cancelled() => return None,
                () = self.feed.woken() => {}
                () = sleep_until(self.ends_at) => return None,
                () = sleep(self.heartbeat) => return Some(Bytes::from_static(HEARTBEAT)),
            }
        }
    }

    /// What there is to say now, without waiting.
    fn chunk(&mut self) -> Vec<u8> {
        let mut chunk = Vec::new();
        if !self.opened {
            self.opened = true;
            chunk.extend_from_slice(opening().as_bytes());
        }
        while chunk.len() < CHUNK_BYTES {
            match self.pending.pop_front() {
                Some(block) => block.write(self.log, &mut chunk),
                None if self.ended || !self.refill() => break,
                None => {}
            }
        }
        chunk
    }

    /// `false` if there is nothing for now.
    fn refill(&mut self) -> bool {
        match self.feed.read() {
            Ok(Read::Blocks(blocks)) => {
                self.pending = blocks.into();
                return true;
            }
            Ok(Read::Wait) => {}
            Ok(Read::End) => self.ended = true,
            Err(e) => {
                tracing::error!(error = %e, "a stream ends: the store cannot be read");
                self.ended = true;
            }
        }
        self.pending = VecDeque::new();
        false
    }
}

/// The first bytes, at once: they flush the head through every proxy.
fn opening() -> String {
    format!("retry: {}\n\n", RETRY_MS + rand::random_range(0..RETRY_SPREAD_MS))
}

#[cfg(test)]
mod tests {
    use super::{Block, Data};
    use crate::journal::{LogId, Offset, Partition, Position};
    use crate::payment::{Payment, samples};
    use crate::projection::Entry;

    fn written(id: Option<&str>, data: Data) -> String {
        let mut bytes = Vec::new();
        Block { id: id.map(str::to_owned), data }.write(LogId([7; 16]), &mut bytes);
        String::from_utf8(bytes).unwrap()
    }

    fn payment() -> Payment {
        let mut payment = None;
        Payment::fold(&mut payment, &samples::event(0, samples::in_progress(1999)), samples::at(0)).unwrap();
        payment.unwrap()
    }

    #[test]
    fn each_block_is_as_the_standard_wants_it() {
        assert_eq!(written(None, Data::Reset), "event: reset\ndata: {\"log\":\"07070707\"}\n\n");
        assert_eq!(written(Some("07070707.AA"), Data::Nothing), "id: 07070707.AA\n\n");
        let event = samples::event(0, samples::in_progress(1999));
        let position = Position::new(Partition(0), Offset(0));
        let change = Data::Change(Box::new(Entry {
            position,
            appended_at: event.occurred_at,
            version: Some(1),
            event,
            payment: payment(),
        }));
        let block = written(Some("07070707.1"), change);
        let lines: Vec<&str> = block.split('\n').collect();
        assert_eq!((lines[0], lines[2]), ("event: PaymentInProgress", "id: 07070707.1"));
        let data: serde_json::Value = serde_json::from_str(lines[1].strip_prefix("data: ").unwrap()).unwrap();
        assert_eq!((&data["event"]["version"], &data["payment"]["amount"]), (&1.into(), &1999.into()));
        assert_eq!(lines[3..], ["", ""]);
    }

    #[test]
    fn only_the_last_snapshot_says_whether_there_are_more() {
        let data = |last| {
            let at_least = "07070707.0.0".to_owned();
            let block = written(None, Data::Snapshot { payment: Box::new(payment()), at_least, last });
            let line = block.lines().find_map(|line| line.strip_prefix("data: ")).unwrap().to_owned();
            serde_json::from_str::<serde_json::Value>(&line).unwrap()
        };
        assert!(data(None).get("more").is_none());
        assert_eq!(data(Some(None))["more"], false);
        let more = data(Some(Some("07070707.AA".to_owned())));
        assert_eq!((&more["more"], &more["next_cursor"]), (&true.into(), &"07070707.AA".into()));
    }
}
