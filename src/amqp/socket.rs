//! The way to the broker's machine, which can be cut. The library waits for ever for the goodbye of a broker that it has said
//! goodbye to, and keeps the socket open meanwhile: without this a broker that never answers could use up the process's files.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};

#[derive(Debug)]
pub(super) struct Socket {
    stream: TcpStream,
    // Two: each wakes whoever has asked it last.
    no_more_read: Pin<Box<WaitForCancellationFutureOwned>>,
    no_more_written: Pin<Box<WaitForCancellationFutureOwned>>,
}

impl Socket {
    /// Fails once `cut` says so, whatever it is doing.
    pub fn new(stream: TcpStream, cut: &CancellationToken) -> Self {
        let cut = || Box::pin(cut.clone().cancelled_owned());
        Self { stream, no_more_read: cut(), no_more_written: cut() }
    }

    fn is_cut(of: &mut Pin<Box<WaitForCancellationFutureOwned>>, cx: &mut Context<'_>) -> io::Result<()> {
        match of.as_mut().poll(cx) {
            Poll::Ready(()) => Err(io::ErrorKind::ConnectionAborted.into()),
            Poll::Pending => Ok(()),
        }
    }
}

impl AsyncRead for Socket {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, to: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Self::is_cut(&mut self.no_more_read, cx)?;
        Pin::new(&mut self.stream).poll_read(cx, to)
    }
}

impl AsyncWrite for Socket {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, from: &[u8]) -> Poll<io::Result<usize>> {
        Self::is_cut(&mut self.no_more_written, cx)?;
        Pin::new(&mut self.stream).poll_write(cx, from)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Self::is_cut(&mut self.no_more_written, cx)?;
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
