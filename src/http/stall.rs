//! A socket that gives up on a reader who has stopped: as long as a write makes no progress, a clock runs. It holds its
//! place among the connections for as long as it lives, whatever protocol it comes to speak.

use std::future::Future;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Sleep, sleep};

use super::places::Place;

/// How every connection of HTTP/2 with prior knowledge begins (RFC 9113, 3.4).
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// What a client speaks, as its first bytes tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Protocol {
    Http1,
    Http2,
}

pub(super) struct StallIo {
    socket: TcpStream,
    _place: Place,
    /// Bytes that were looked at, and are still to be read.
    looked_at: Vec<u8>,
    patience: Duration,
    /// Runs while the socket takes nothing.
    stalled: Option<Pin<Box<Sleep>>>,
    /// Does it run?
    unsent: Arc<AtomicBool>,
}

impl StallIo {
    pub(super) fn new(socket: TcpStream, place: Place, patience: Duration) -> Self {
        Self { socket, _place: place, looked_at: Vec::new(), patience, stalled: None, unsent: Arc::default() }
    }

    /// Whether there is something that was to be sent, and that the socket has not taken.
    pub(super) fn unsent(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.unsent)
    }

    /// Looks at the first bytes, as many as tell: one, of most clients.
    pub(super) async fn protocol(&mut self) -> io::Result<Protocol> {
        let mut seen = Vec::new();
        while seen.len() < PREFACE.len() && PREFACE.starts_with(&seen) {
            let mut rest = (&mut self.socket).take((PREFACE.len() - seen.len()) as u64);
            if rest.read_buf(&mut seen).await? == 0 {
                break;
            }
        }
        let protocol = if seen == PREFACE { Protocol::Http2 } else { Protocol::Http1 };
        self.looked_at = seen;
        Ok(protocol)
    }

    /// Passes on what a write came to; ends the connection if it has been pending for too long. The clock wakes the task
    /// that writes, which then asks again.
    fn judge<T>(&mut self, written: Poll<io::Result<T>>, cx: &mut Context<'_>) -> Poll<io::Result<T>> {
        self.unsent.store(written.is_pending(), Ordering::Relaxed);
        if written.is_ready() {
            self.stalled = None;
            return written;
        }
        let patience = self.patience;
        let clock = self.stalled.get_or_insert_with(|| Box::pin(sleep(patience)));
        if clock.as_mut().poll(cx).is_pending() {
            return Poll::Pending;
        }
        // A reset, so that the kernel drops what it holds for this reader too, instead of keeping it for minutes more.
        let _ = self.socket.set_zero_linger();
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }
}

impl AsyncRead for StallIo {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.looked_at.is_empty() {
            return Pin::new(&mut self.socket).poll_read(cx, into);
        }
        let taken = into.remaining().min(self.looked_at.len());
        into.put_slice(&self.looked_at[..taken]);
        self.looked_at.drain(..taken);
        if !self.looked_at.is_empty() {
            return Poll::Ready(Ok(()));
        }
        self.looked_at = Vec::new();
        // With what is there besides: for a second read hyper would make room anew, and keep that for the connection's life.
        match Pin::new(&mut self.socket).poll_read(cx, into) {
            Poll::Ready(read) => Poll::Ready(read),
            Poll::Pending => Poll::Ready(Ok(())),
        }
    }
}

impl AsyncWrite for StallIo {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.socket).poll_write(cx, bytes);
        self.judge(written, cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.socket).poll_write_vectored(cx, slices);
        self.judge(written, cx)
    }

    /// Forwarded, or hyper copies everything into one buffer first.
    fn is_write_vectored(&self) -> bool {
        self.socket.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_shutdown(cx)
    }
}
