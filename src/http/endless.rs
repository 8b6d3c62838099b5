//! An answer that goes on for as long as its reader reads it: a stream of events.
//!
//! Over HTTP/1.1 a connection that carries one is for nothing else any more. So its socket is taken out of hyper, whose
//! buffers (8 KiB to read and 8 KiB to write, for as long as the connection lives) would be nearly all of what a quiet
//! stream costs (`research/sse-serving.md`). Over HTTP/2 it is one body among others.

use std::convert::Infallible;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, OnceLock};
use std::task::{Context, Poll, ready};
use std::time::SystemTime;

use bytes::Bytes;
use futures_util::stream::Fuse;
use futures_util::{FutureExt, Stream, StreamExt, future};
use tokio::io::{AsyncRead, AsyncWriteExt, ReadBuf};
use tokio::runtime::{Builder, Runtime};
use warp::reply::{Reply, Response};

use super::stall::StallIo;

use crate::lock::lock;

/// What a client may still say on the connection of its stream, and nobody reads: the requests that it had sent already.
const PASSED_OVER_MAX_BYTES: usize = 64 * 1024;
/// So much of it is looked at in one go.
const LOOK_BYTES: usize = 256;

/// The parts of a body, one after the other. The next is asked for when the socket has taken the one before.
type Chunks = Pin<Box<dyn Stream<Item = Bytes> + Send + Sync>>;

/// On its way from a route to the connection, among the extensions of an answer.
#[derive(Clone)]
struct Endless(Arc<Mutex<Option<Chunks>>>);

/// An answer with this body, to be given headers. Only [`super::serve`] can send it.
pub fn endless(chunks: impl Stream<Item = Bytes> + Send + Sync + 'static) -> Response {
    let mut response = warp::reply().into_response();
    let chunks: Chunks = Box::pin(chunks);
    response.extensions_mut().insert(Endless(Arc::new(Mutex::new(Some(chunks)))));
    response
}

/// Where endless answers are sent: threads of their own, started with the first. What ten thousand of them are woken by at
/// once they do one after the other, and a request is not to stand behind that.
#[derive(Default)]
pub(super) struct Senders(OnceLock<Option<Runtime>>);

impl Senders {
    pub(super) fn spawn(&self, sending: impl Future<Output = ()> + Send + 'static) {
        let start = || {
            let runtime = Builder::new_multi_thread().thread_name("streams").enable_all().build();
            runtime.inspect_err(|error| tracing::warn!(%error, "streams have no threads of their own")).ok()
        };
        match self.0.get_or_init(start) {
            Some(own) => own.spawn(sending),
            None => tokio::spawn(sending),
        };
    }
}

impl Drop for Senders {
    /// May happen on a thread that must not wait.
    fn drop(&mut self) {
        if let Some(Some(runtime)) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}

fn take(response: &mut Response) -> Option<Chunks> {
    let Endless(chunks) = response.extensions_mut().remove()?;
    lock(&chunks).take()
}

/// The answer with its body inside, as for any other.
pub(super) fn as_body(mut response: Response) -> Response {
    if let Some(chunks) = take(&mut response) {
        *response.body_mut() = warp::reply::stream(chunks.map(Ok::<_, Infallible>)).into_response().into_body();
    }
    response
}

/// What is to be sent over a socket that is for nothing else any more.
pub(super) struct Sending {
    head: Vec<u8>,
    chunks: Chunks,
}

impl Sending {
    /// `None` of any other answer.
    pub(super) fn of(response: &mut Response) -> Option<Self> {
        let chunks = take(response)?;
        Some(Self { head: head(response), chunks })
    }

    /// Until all was sent, or the client has left: how is its own affair.
    pub(super) async fn run(self, mut io: StallIo) {
        let _ = self.send(&mut io).await;
    }

    async fn send(self, io: &mut StallIo) -> io::Result<()> {
        let Self { mut head, chunks } = self;
        let (mut chunks, mut passed_over) = (chunks.fuse(), 0);
        // What there is at once goes with the head.
        if let Some(Some(first)) = chunks.next().now_or_never() {
            head.extend_from_slice(&first);
        }
        io.write_all(&head).await?;
        drop(head);
        while let Some(chunk) = next(&mut chunks, io, &mut passed_over).await? {
            io.write_all(&chunk).await?;
        }
        io.shutdown().await
    }
}

/// A body without a length ends with its connection (RFC 9112, 6.3, 8).
fn head(response: &Response) -> Vec<u8> {
    let mut head = format!("HTTP/1.1 {}\r\n", response.status()).into_bytes();
    let date = httpdate::fmt_http_date(SystemTime::now());
    let own = [("connection", "close"), ("date", date.as_str())].map(|(name, value)| (name, value.as_bytes()));
    let given = response.headers().iter().map(|(name, value)| (name.as_str(), value.as_bytes()));
    for (name, value) in own.into_iter().chain(given.filter(|(name, _)| *name != "content-length")) {
        head.extend_from_slice(&[name.as_bytes(), b": ", value, b"\r\n"].concat());
    }
    head.extend_from_slice(b"\r\n");
    head
}

/// The next chunk; `None` after the last. An error if the client leaves first.
async fn next(chunks: &mut Fuse<Chunks>, io: &mut StallIo, passed_over: &mut usize) -> io::Result<Option<Bytes>> {
    future::poll_fn(|cx| match chunks.poll_next_unpin(cx) {
        Poll::Ready(chunk) => Poll::Ready(Ok(chunk)),
        Poll::Pending => left(io, passed_over, cx).map(Err),
    })
    .await
}

/// Ready when the client has closed its side. What else it sends on this connection is passed over, and one that goes on with
/// that is let go.
fn left(io: &mut StallIo, passed_over: &mut usize, cx: &mut Context<'_>) -> Poll<io::Error> {
    loop {
        let mut bytes = [0; LOOK_BYTES];
        let mut buffer = ReadBuf::new(&mut bytes);
        match ready!(Pin::new(&mut *io).poll_read(cx, &mut buffer)) {
            Ok(()) if buffer.filled().is_empty() => return Poll::Ready(io::ErrorKind::UnexpectedEof.into()),
            Ok(()) if *passed_over > PASSED_OVER_MAX_BYTES => return Poll::Ready(io::ErrorKind::InvalidData.into()),
            Ok(()) => *passed_over += buffer.filled().len(),
            Err(e) => return Poll::Ready(e),
        }
    }
}
