//! Server-Sent Events: blocks to bytes, and the loop that reads a feed as fast as its socket drains and no faster.

use std::pin::Pin;
use std::time::Duration;

use bytes::Bytes;
use futures_util::{FutureExt, Stream, stream};
use tokio::time::{Instant, Sleep, sleep_until};
use tokio_util::sync::CancellationToken;
use warp::http::HeaderValue;
use warp::http::header::{CACHE_CONTROL, CONTENT_TYPE};
use warp::reply::Response;

use super::feed::{Block, Data, Feed, Next, Reading};
use super::{Place, Streams, returning};
use crate::access::Permit;
use crate::http::{Problem, endless};
use crate::journal::LogId;
use crate::telemetry::{self, OpenStream};

/// Blocks are sent together up to about this many bytes.
const CHUNK_BYTES: usize = 16 * 1024;
/// A comment: it says nothing, and that the stream lives.
const HEARTBEAT: &[u8] = b":\n\n";

pub(super) fn write(block: &Block, log: LogId, into: &mut Vec<u8>) {
    if let Some((name, data)) = block.body(log) {
        event(name, &data, into);
    }
    if let Some(id) = &block.id {
        into.extend_from_slice(b"id: ");
        into.extend_from_slice(id.as_bytes());
        into.push(b'\n');
    }
    into.push(b'\n');
}

fn event(name: &str, data: &impl serde::Serialize, into: &mut Vec<u8>) {
    into.extend_from_slice(b"event: ");
    into.extend_from_slice(name.as_bytes());
    // JSON holds no line break, so that the data is one line.
    into.extend_from_slice(b"\ndata: ");
    // Structs of texts and numbers always serialise, and a Vec takes everything.
    let _ = serde_json::to_writer(&mut *into, data);
    into.push(b'\n');
}

fn retry(ms: u64) -> String {
    format!("retry: {ms}\n\n")
}

pub(super) fn respond(streams: &Streams, feed: Feed, permit: &Permit, place: Place) -> Response {
    let pump = Pump { _place: place, ..Pump::new(streams, feed, permit) };
    answer(stream::unfold(pump, async |mut pump: Pump| {
        let chunk = pump.next().await?;
        Some((chunk, pump))
    }))
}

/// A stream that says why there is none, and when to come back.
pub(super) fn turn_away(problem: &Problem) -> Response {
    let mut bytes = retry(returning::full_retry_ms()).into_bytes();
    event("problem", &problem.body(), &mut bytes);
    bytes.push(b'\n');
    answer(stream::iter([bytes.into()]))
}

fn answer(body: impl Stream<Item = Bytes> + Send + Sync + 'static) -> Response {
    let mut response = endless(body);
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    // Or nginx collects frames until it has a page of them.
    headers.insert("x-accel-buffering", HeaderValue::from_static("no"));
    response
}

type PermitEnded = Pin<Box<dyn Future<Output = ()> + Send + Sync>>;

struct Pump {
    reading: Reading,
    log: LogId,
    opened: bool,
    over: bool,
    /// There was a long look: others go first.
    looked: bool,
    heartbeat: Duration,
    /// Until when nothing need go out: kept over every wake that brings nothing for this client.
    silent_until: Instant,
    old_at: Instant,
    /// Goes off at the earlier of the two, or before: most of what wakes a stream only puts its heartbeat off.
    timer: Pin<Box<Sleep>>,
    permit_ended: Option<PermitEnded>,
    shutdown: CancellationToken,
    /// Among the streams of its client.
    _place: Place,
    _counted: OpenStream,
}

/// What comes after a chunk.
enum Then {
    More,
    Wait,
    End,
}

impl Pump {
    fn new(streams: &Streams, feed: Feed, permit: &Permit) -> Self {
        let heartbeat = streams.config.heartbeat;
        let silent_until = Instant::now() + heartbeat;
        let old_at = returning::old_at(streams.config.max_age);
        Self {
            reading: Reading::new(feed),
            log: streams.view.log_id(),
            opened: false,
            over: false,
            looked: false,
            heartbeat,
            silent_until,
            old_at,
            timer: Box::pin(sleep_until(old_at.min(silent_until))),
            // A box for those alone who need one: most of a machine's memory is streams.
            permit_ended: (!permit.is_endless()).then(|| Box::pin(permit.clone().ended()) as PermitEnded),
            shutdown: streams.shutdown.clone(),
            _place: Vec::new(),
            _counted: telemetry::stream_opened("sse"),
        }
    }

    /// The next bytes; `None` ends the stream. Called when the socket has taken the bytes before.
    async fn next(&mut self) -> Option<Bytes> {
        let bytes = self.bytes().await;
        self.silent_until = Instant::now() + self.heartbeat;
        bytes
    }

    async fn bytes(&mut self) -> Option<Bytes> {
        loop {
            if std::mem::take(&mut self.looked) {
                tokio::task::yield_now().await;
            }
            if self.over || Instant::now() >= self.old_at || self.is_no_longer_permitted() {
                return None;
            }
            if self.shutdown.is_cancelled() {
                return Some(self.going());
            }
            let (chunk, then) = self.chunk();
            if !chunk.is_empty() {
                return Some(chunk);
            }
            if matches!(then, Then::End) {
                return None;
            }
            if Instant::now() >= self.silent_until {
                return Some(self.heartbeat());
            }
            if matches!(then, Then::More) {
                continue;
            }
            let next = self.old_at.min(self.silent_until);
            if self.timer.is_elapsed() || self.timer.deadline() > next {
                self.timer.as_mut().reset(next);
            }
            tokio::select! {
                biased;
                () = ended(&mut self.permit_ended) => self.over = true,
                () = self.reading.woken() => {}
                // What it was is seen above.
                () = self.timer.as_mut() => {}
            }
        }
    }

    /// A stream that always has something to say does not wait, and so does not hear of it there.
    fn is_no_longer_permitted(&mut self) -> bool {
        ended(&mut self.permit_ended).now_or_never().is_some()
    }

    /// What there is to say now, without waiting.
    fn chunk(&mut self) -> (Bytes, Then) {
        let mut chunk = Vec::new();
        if !self.opened {
            // At once: these bytes flush the head through every proxy.
            self.opened = true;
            chunk.extend_from_slice(retry(returning::retry_ms()).as_bytes());
        }
        let then = loop {
            match self.reading.next() {
                Next::Block(block) => {
                    write(&block, self.log, &mut chunk);
                    if matches!(block.data, Data::Nothing) {
                        self.looked = true;
                        break Then::More;
                    }
                }
                // As it is: many are told it.
                Next::Step(step) if chunk.is_empty() => return (step.text(), Then::More),
                Next::Step(step) => chunk.extend_from_slice(&step.text()),
                Next::Later => {
                    self.looked = true;
                    break Then::More;
                }
                Next::Wait => break Then::Wait,
                // A client that was not told all comes back, and is told why.
                Next::End | Next::Failed(_) => break Then::End,
            }
            if chunk.len() >= CHUNK_BYTES {
                break Then::More;
            }
        };
        (chunk.into(), then)
    }

    /// The last bytes of an instance that stops.
    fn going(&mut self) -> Bytes {
        self.over = true;
        retry(returning::drain_retry_ms()).into()
    }

    fn heartbeat(&mut self) -> Bytes {
        let Some(cursor) = self.reading.moved() else { return Bytes::from_static(HEARTBEAT) };
        let mut bytes = Vec::new();
        write(&cursor, self.log, &mut bytes);
        bytes.into()
    }
}

async fn ended(permit: &mut Option<PermitEnded>) {
    match permit {
        Some(permit) => permit.await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::{Block, Data, Pump, Then, write};
    use crate::access::Caller;
    use crate::journal::{LogId, Offset, Partition, Position};
    use crate::payment::{MerchantId, Payment, samples};
    use crate::projection::Entry;
    use crate::stream::feed::Frame;
    use crate::stream::tests::{Growing, all_of_type, begun_and_tried_again};

    fn written(id: Option<&str>, data: Data) -> String {
        let mut bytes = Vec::new();
        write(&Block { id: id.map(str::to_owned), data }, LogId([7; 16]), &mut bytes);
        String::from_utf8(bytes).unwrap()
    }

    #[test]
    fn each_block_is_as_the_standard_wants_it() {
        assert_eq!(written(None, Data::Reset), "event: reset\ndata: {\"log\":\"07070707\"}\n\n");
        assert_eq!(written(Some("07070707.AA"), Data::Nothing), "id: 07070707.AA\n\n");
        let event = samples::event(0, samples::in_progress(1999));
        let mut payment = None;
        Payment::fold(&mut payment, &event, samples::at(0)).unwrap();
        let entry = Entry {
            position: Position::new(Partition(0), Offset(0)),
            appended_at: event.occurred_at,
            version: Some(1),
            event,
            payment: payment.unwrap(),
        };
        let change = Data::Change(Arc::new(Frame::new(&entry, LogId([7; 16]))));
        let block = written(Some("07070707.1"), change);
        let lines: Vec<&str> = block.split('\n').collect();
        assert_eq!((lines[0], lines[2]), ("event: PaymentInProgress", "id: 07070707.1"));
        let data: serde_json::Value = serde_json::from_str(lines[1].strip_prefix("data: ").unwrap()).unwrap();
        assert_eq!((&data["event"]["version"], &data["payment"]["amount"]), (&1.into(), &1999.into()));
        assert_eq!(lines[3..], ["", ""]);
    }

    /// What happens and is not asked for is no reason to be silent.
    #[tokio::test]
    async fn a_filtered_stream_of_a_busy_merchant_sends_its_heartbeats() {
        let directory = tempfile::tempdir().unwrap();
        let mut log = Growing::open(directory.path());
        let streams = log.streams();
        let caller = Caller::of(MerchantId::default());
        let feed = streams.feed(&caller, all_of_type("PaymentParked", None)).unwrap().unwrap();
        let mut pump = Pump::new(&streams, feed, caller.permit());
        let opening = pump.next().await.unwrap();
        assert!(opening.starts_with(b"retry: "), "{opening:?}");
        tokio::select! {
            told = pump.next() => {
                let told = told.unwrap();
                assert!(told.starts_with(b"id: "), "the cursor, which has moved: {told:?}");
            }
            () = log.is_busy() => panic!("nothing was told"),
        }
    }

    #[tokio::test]
    async fn a_chunk_ends_with_a_long_look() {
        let directory = tempfile::tempdir().unwrap();
        let mut log = Growing::open(directory.path());
        log.grow(begun_and_tried_again(400)).await;
        let streams = log.streams();
        let start: &'static str = crate::projection::Offsets::start(1).encode(streams.view.log_id()).leak();
        let caller = Caller::of(MerchantId::default());
        let feed = streams.feed(&caller, all_of_type("PaymentParked", Some(start))).unwrap().unwrap();
        let mut pump = Pump::new(&streams, feed, caller.permit());
        let (chunk, then) = pump.chunk();
        let ids = std::str::from_utf8(&chunk).unwrap().matches("id: ").count();
        assert!(ids == 1 && matches!(then, Then::More) && pump.looked, "{ids} cursors");
    }
}
