//! Server-Sent Events: blocks to bytes, and the loop that reads a feed as fast as its socket drains and no faster.

use std::convert::Infallible;
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream;
use tokio::time::{Instant, sleep, sleep_until};
use tokio_util::sync::CancellationToken;
use warp::http::HeaderValue;
use warp::http::header::{CACHE_CONTROL, CONNECTION, CONTENT_TYPE};
use warp::reply::{Reply, Response};

use super::feed::{Block, Feed, Next, Reading};
use super::{Streams, returning};
use crate::journal::LogId;
use crate::telemetry::{self, OpenStream};

/// Blocks are sent together up to about this many bytes.
const CHUNK_BYTES: usize = 16 * 1024;
/// A comment: it says nothing, and that the stream lives.
const HEARTBEAT: &[u8] = b":\n\n";

fn write(block: &Block, log: LogId, into: &mut Vec<u8>) {
    if let Some((name, data)) = block.body(log) {
        into.extend_from_slice(b"event: ");
        into.extend_from_slice(name.as_bytes());
        // JSON holds no line break, so that the data is one line.
        into.extend_from_slice(b"\ndata: ");
        // Structs of texts and numbers always serialise, and a Vec takes everything.
        let _ = serde_json::to_writer(&mut *into, &data);
        into.push(b'\n');
    }
    if let Some(id) = &block.id {
        into.extend_from_slice(b"id: ");
        into.extend_from_slice(id.as_bytes());
        into.push(b'\n');
    }
    into.push(b'\n');
}

fn retry(ms: u64) -> String {
    format!("retry: {ms}\n\n")
}

pub(super) fn respond(streams: &Streams, feed: Feed) -> Response {
    let pump = Pump {
        reading: Reading::new(feed),
        log: streams.view.log_id(),
        opened: false,
        over: false,
        heartbeat: streams.config.heartbeat,
        old_at: returning::old_at(streams.config.max_age),
        shutdown: streams.shutdown.clone(),
        _counted: telemetry::stream_opened("sse"),
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
    // Or a client whose stream was ended for its age comes back to this very instance, over the same connection.
    headers.insert(CONNECTION, HeaderValue::from_static("close"));
    response
}

struct Pump {
    reading: Reading,
    log: LogId,
    opened: bool,
    over: bool,
    heartbeat: Duration,
    old_at: Instant,
    shutdown: CancellationToken,
    _counted: OpenStream,
}

/// What comes after a chunk.
enum Then {
    More,
    Wait,
    End,
}

impl Pump {
    /// The next bytes; `None` ends the stream. Called when the socket has taken the bytes before.
    async fn next(&mut self) -> Option<Bytes> {
        loop {
            if self.over || Instant::now() >= self.old_at {
                return None;
            }
            if self.shutdown.is_cancelled() {
                return Some(self.going());
            }
            let (chunk, then) = self.chunk();
            if !chunk.is_empty() {
                return Some(chunk.into());
            }
            match then {
                Then::More => {
                    tokio::task::yield_now().await;
                    continue;
                }
                Then::Wait => {}
                Then::End => return None,
            }
            tokio::select! {
                biased;
                () = self.shutdown.cancelled() => return Some(self.going()),
                () = self.reading.woken() => {}
                () = sleep_until(self.old_at) => return None,
                () = sleep(self.heartbeat) => return Some(self.heartbeat()),
            }
        }
    }

    /// What there is to say now, without waiting.
    fn chunk(&mut self) -> (Vec<u8>, Then) {
        let mut chunk = Vec::new();
        if !self.opened {
            // At once: these bytes flush the head through every proxy.
            self.opened = true;
            chunk.extend_from_slice(retry(returning::retry_ms()).as_bytes());
        }
        while chunk.len() < CHUNK_BYTES {
            match self.reading.next() {
                Next::Block(block) => write(&block, self.log, &mut chunk),
                Next::Later => return (chunk, Then::More),
                Next::Wait => return (chunk, Then::Wait),
                Next::End => return (chunk, Then::End),
            }
        }
        (chunk, Then::More)
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

#[cfg(test)]
mod tests {
    use super::{Block, write};
    use crate::journal::{LogId, Offset, Partition, Position};
    use crate::payment::{Payment, samples};
    use crate::projection::Entry;
    use crate::stream::feed::Data;

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
        let change = Data::Change(Box::new(Entry {
            position: Position::new(Partition(0), Offset(0)),
            appended_at: event.occurred_at,
            version: Some(1),
            event,
            payment: payment.unwrap(),
        }));
        let block = written(Some("07070707.1"), change);
        let lines: Vec<&str> = block.split('\n').collect();
        assert_eq!((lines[0], lines[2]), ("event: PaymentInProgress", "id: 07070707.1"));
        let data: serde_json::Value = serde_json::from_str(lines[1].strip_prefix("data: ").unwrap()).unwrap();
        assert_eq!((&data["event"]["version"], &data["payment"]["amount"]), (&1.into(), &1999.into()));
        assert_eq!(lines[3..], ["", ""]);
    }
}
