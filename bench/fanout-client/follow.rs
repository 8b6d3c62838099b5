//! Many streams on one thread: each a socket and what of its last line has not arrived. They read into one buffer.

use std::cell::RefCell;
use std::future::poll_fn;
use std::net::SocketAddr;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Instant;

use anyhow::Context as _;
use tokio::io::{AsyncRead, AsyncWriteExt, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::Semaphore;

use crate::book::{Page, Plan, Tally};
use crate::dialect::Dialect;
use crate::parser::{Parser, Told};

/// Read at once, at most.
const READ_BYTES_MAX: usize = 64 * 1024;
/// Opened at once, at most: a listener's queue is not what is measured.
const OPENING_MAX: usize = 64;

pub struct Followers {
    pub plan: Arc<Plan>,
    pub tally: RefCell<Tally>,
    buffer: RefCell<Vec<u8>>,
    opening: Semaphore,
}

impl Followers {
    pub fn new(plan: Arc<Plan>) -> Rc<Self> {
        let (tally, buffer) = (RefCell::default(), RefCell::new(vec![0; READ_BYTES_MAX]));
        Rc::new(Self { plan, tally, buffer, opening: Semaphore::new(OPENING_MAX) })
    }

    /// Opens all streams, each in a task of its own. Must be called in a `LocalSet`.
    pub fn open(self: &Rc<Self>, dialect: Dialect, address: SocketAddr) {
        for number in 0..self.plan.streams {
            let followers = Rc::clone(self);
            tokio::task::spawn_local(async move {
                let Err(error) = followers.follow(dialect, address, number).await;
                followers.tally.borrow_mut().broken.push(format!("stream {number}: {error:#}"));
            });
        }
    }

    async fn follow(
        &self,
        dialect: Dialect,
        address: SocketAddr,
        number: u64,
    ) -> Result<std::convert::Infallible, anyhow::Error> {
        let channel = format!("c{}", self.plan.channel_of_stream(number));
        let mut follower = Follower { number, parser: Parser::new(dialect.ready()), page: Page::default() };
        let permit = self.opening.acquire().await?;
        let mut stream = TcpStream::connect(address).await.context("cannot connect")?;
        // So that ten thousand of them leave no ports behind that cannot be used for a minute.
        stream.set_zero_linger()?;
        stream.write_all(dialect.subscription(&channel, &address.to_string()).as_bytes()).await?;
        self.read(&mut stream, &mut follower).await?;
        drop(permit);
        loop {
            self.read(&mut stream, &mut follower).await?;
        }
    }

    async fn read(&self, stream: &mut TcpStream, follower: &mut Follower) -> anyhow::Result<()> {
        poll_fn(|cx| self.poll_read(cx, stream, follower)).await
    }

    fn poll_read(
        &self,
        cx: &mut Context<'_>,
        stream: &mut TcpStream,
        follower: &mut Follower,
    ) -> Poll<anyhow::Result<()>> {
        let mut bytes = self.buffer.borrow_mut();
        let mut buffer = ReadBuf::new(&mut bytes);
        match Pin::new(stream).poll_read(cx, &mut buffer) {
            Poll::Pending => Poll::Pending,
            Poll::Ready(Err(error)) => Poll::Ready(Err(error.into())),
            Poll::Ready(Ok(())) if buffer.filled().is_empty() => {
                Poll::Ready(Err(anyhow::anyhow!("the server closed the connection")))
            }
            Poll::Ready(Ok(())) => Poll::Ready(self.take(buffer.filled(), follower)),
        }
    }

    fn take(&self, bytes: &[u8], follower: &mut Follower) -> anyhow::Result<()> {
        let at = Instant::now();
        let mut tally = self.tally.borrow_mut();
        tally.bytes += bytes.len() as u64;
        let Follower { number, parser, page } = follower;
        let mut wrong = Ok(());
        parser.feed(bytes, &mut |told| match told {
            Told::Ready => tally.ready += 1,
            Told::Publication(publication) => {
                if let Err(error) = tally.told(&self.plan, *number, page, publication, at) {
                    wrong = Err(error);
                }
            }
        })?;
        wrong
    }
}

struct Follower {
    number: u64,
    parser: Parser,
    page: Page,
}
