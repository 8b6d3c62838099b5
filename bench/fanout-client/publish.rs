//! Publications at even distances, open loop, on a thread of their own: a late answer delays no publication, and a busy
//! follower neither. Each goes over a connection that is kept and that no other uses.

use std::cell::RefCell;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio::task::LocalSet;
use tokio::time::sleep_until;

use crate::book::Plan;
use crate::dialect::Dialect;

/// Under way at once, at most; beyond it publications are late, and it is said how late.
const UNDER_WAY_MAX: usize = 512;
const ANSWER_BYTES_MAX: usize = 64 * 1024;
/// The customer, or the channel, whom nobody follows.
const ASIDE: &str = "aside";

/// The publications `first..first + count`.
#[derive(Clone, Copy)]
pub struct Batch {
    pub first: u64,
    pub count: u64,
    pub rate: u64,
}

#[derive(Default)]
pub struct Published {
    /// From when a publication was sent to its answer.
    pub answers_us: Vec<u32>,
    /// How long after its time one was sent, at most.
    pub late_max: Duration,
}

pub struct Publisher {
    runtime: tokio::runtime::Runtime,
    shared: Rc<Shared>,
}

struct Shared {
    dialect: Dialect,
    address: SocketAddr,
    plan: Arc<Plan>,
    /// The one used last is used next: what idles too long is closed by a server.
    idle: RefCell<Vec<TcpStream>>,
    under_way: Semaphore,
    published: RefCell<Published>,
}

impl Publisher {
    pub fn new(dialect: Dialect, address: SocketAddr, plan: Arc<Plan>) -> anyhow::Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let (idle, published) = (RefCell::default(), RefCell::default());
        let under_way = Semaphore::new(UNDER_WAY_MAX);
        Ok(Self { runtime, shared: Rc::new(Shared { dialect, address, plan, idle, under_way, published }) })
    }

    /// One that nobody follows: what is made at the first use is made then.
    pub fn aside(&self) -> anyhow::Result<()> {
        let number = 1;
        let publication = self.shared.publication(ASIDE, number, ASIDE);
        self.runtime.block_on(self.shared.exchange(publication, None))
    }

    /// Returns when all have been answered.
    pub fn run(&self, batch: Batch) -> anyhow::Result<Published> {
        let local = LocalSet::new();
        self.runtime.block_on(local.run_until(self.shared.all(batch)))?;
        Ok(self.shared.published.take())
    }
}

impl Shared {
    async fn all(self: &Rc<Self>, batch: Batch) -> anyhow::Result<()> {
        let began = tokio::time::Instant::now();
        let mut tasks = tokio::task::JoinSet::new();
        for n in 0..batch.count {
            let due = began + Duration::from_secs(1).mul_f64(n as f64 / batch.rate as f64);
            sleep_until(due).await;
            while let Some(done) = tasks.try_join_next() {
                done??;
            }
            let shared = Rc::clone(self);
            tasks.spawn_local(async move { shared.one(batch.first + n, due).await });
        }
        while let Some(done) = tasks.join_next().await {
            done??;
        }
        Ok(())
    }

    async fn one(&self, number: u64, due: tokio::time::Instant) -> anyhow::Result<()> {
        let _permit = self.under_way.acquire().await?;
        let channel = format!("c{}", self.plan.channel_of(number));
        let publication = self.publication(&channel, number, &number.to_string());
        self.exchange(publication, Some((number, due))).await.with_context(|| format!("publication {number}"))
    }

    fn publication(&self, channel: &str, number: u64, key: &str) -> String {
        self.dialect.publication(channel, number, key, &self.address.to_string())
    }

    async fn exchange(&self, publication: String, counted: Option<(u64, tokio::time::Instant)>) -> anyhow::Result<()> {
        let mut stream = self.connection().await?;
        let sent = Instant::now();
        if let Some((number, due)) = counted {
            self.plan.sends(number, sent);
            let mut published = self.published.borrow_mut();
            published.late_max = published.late_max.max(sent.duration_since(due.into_std()));
        }
        stream.write_all(publication.as_bytes()).await.context("cannot send")?;
        answer(&mut stream).await?;
        if let Some((number, _)) = counted {
            let answered = Instant::now();
            self.plan.answered(number, answered);
            let us = u32::try_from(answered.duration_since(sent).as_micros()).unwrap_or(u32::MAX);
            self.published.borrow_mut().answers_us.push(us);
        }
        self.idle.borrow_mut().push(stream);
        Ok(())
    }

    async fn connection(&self) -> anyhow::Result<TcpStream> {
        while let Some(stream) = { self.idle.borrow_mut().pop() } {
            let nothing = stream.try_read(&mut [0]);
            if nothing.is_err_and(|error| error.kind() == std::io::ErrorKind::WouldBlock) {
                return Ok(stream);
            }
        }
        let stream = TcpStream::connect(self.address).await.context("cannot connect")?;
        stream.set_nodelay(true)?;
        stream.set_zero_linger()?;
        Ok(stream)
    }
}

/// Reads an answer to its end, and holds it to be a yes.
async fn answer(stream: &mut TcpStream) -> anyhow::Result<()> {
    let mut bytes = Vec::with_capacity(2048);
    loop {
        anyhow::ensure!(bytes.len() <= ANSWER_BYTES_MAX, "the answer is too long");
        anyhow::ensure!(stream.read_buf(&mut bytes).await? > 0, "the server closed the connection");
        let Some(end) = memchr::memmem::find(&bytes, b"\r\n\r\n") else { continue };
        let head = String::from_utf8_lossy(&bytes[..end]).to_ascii_lowercase();
        anyhow::ensure!(head.starts_with("http/1.1 20"), "it answers {}", String::from_utf8_lossy(&bytes));
        let length = head.lines().find_map(|line| line.strip_prefix("content-length:"));
        let length: usize = length.map_or(Ok(0), |text| text.trim().parse()).context("no content-length")?;
        if bytes.len() >= end + 4 + length {
            return Ok(());
        }
    }
}
