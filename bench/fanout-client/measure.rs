//! One server, one shape: opens the streams, then publishes at each rate, and waits until all is told.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use anyhow::Context;
use tokio::sync::oneshot;
use tokio::task::LocalSet;

use crate::book::{Plan, Shape, quantile_ms};
use crate::dialect::Dialect;
use crate::follow::Followers;
use crate::process::Server;
use crate::publish::{Batch, Published, Publisher};
use crate::row::Row;

/// How long all streams may take to open, and what was published to be told after the last publication.
const PATIENCE: Duration = Duration::from_secs(60);
/// With all streams open, before memory is looked at.
const SETTLE: Duration = Duration::from_secs(2);
const LOOK_EVERY: Duration = Duration::from_millis(10);
/// Each channel is published to at least so many times before anything is counted.
const WARM_UP_MIN: u64 = 1;
/// And for so long, at the rate that is measured.
const WARM_UP_SECONDS: u64 = 1;

#[derive(clap::Args)]
pub struct MeasureArgs {
    #[arg(long, value_enum)]
    dialect: Dialect,
    /// Where the server listens.
    #[arg(long)]
    address: SocketAddr,
    /// Its process; children are counted with it.
    #[arg(long)]
    pid: u32,
    #[arg(long, value_enum)]
    shape: Shape,
    /// With the shape `none`: the channels that are published to.
    #[arg(long)]
    streams: u64,
    /// Publications a second, over all channels; one line for each.
    #[arg(long, value_delimiter = ',', value_parser = clap::value_parser!(u64).range(1..))]
    rates: Vec<u64>,
    /// How long each is measured.
    #[arg(long)]
    seconds: u64,
    #[arg(long)]
    round: u32,
    /// The file that the lines are added to.
    #[arg(long)]
    out: PathBuf,
}

/// Resident memory of the server, in KiB.
#[derive(Clone, Copy)]
struct Memory {
    before: u64,
    idle: u64,
}

struct Bench<'a> {
    args: &'a MeasureArgs,
    server: Server,
    followers: Rc<Followers>,
    publisher: mpsc::Sender<(Batch, oneshot::Sender<anyhow::Result<Published>>)>,
    next: u64,
}

pub fn run(args: &MeasureArgs) -> anyhow::Result<()> {
    let channels = if args.shape == Shape::One { 1 } else { args.streams };
    let all = args.rates.iter().map(|rate| warm_up(*rate, channels) + rate * args.seconds).sum();
    let streams = if args.shape == Shape::None { 0 } else { args.streams };
    let plan = Arc::new(Plan::new(args.shape, streams, channels, all));
    let publisher = publisher(args, &plan)?;
    let (server, followers) = (Server { pid: args.pid }, Followers::new(plan));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let bench = Bench { args, server, followers, publisher, next: 1 };
    LocalSet::new().block_on(&runtime, bench.all(channels))
}

fn warm_up(rate: u64, channels: u64) -> u64 {
    (channels * WARM_UP_MIN).max(rate * WARM_UP_SECONDS)
}

/// Returns when the server has answered once. What is sent to it is published by a thread of its own.
fn publisher(
    args: &MeasureArgs,
    plan: &Arc<Plan>,
) -> anyhow::Result<mpsc::Sender<(Batch, oneshot::Sender<anyhow::Result<Published>>)>> {
    let (dialect, address, plan) = (args.dialect, args.address, Arc::clone(plan));
    let (sender, batches) = mpsc::channel::<(Batch, oneshot::Sender<anyhow::Result<Published>>)>();
    let (first, answered) = mpsc::channel();
    std::thread::spawn(move || {
        let publisher = match Publisher::new(dialect, address, plan) {
            Ok(publisher) => publisher,
            Err(error) => return drop(first.send(Err(error))),
        };
        let _ = first.send(publisher.aside());
        for (batch, done) in batches {
            let _ = done.send(publisher.run(batch)); // nobody waits for it any more
        }
    });
    answered.recv().context("the publisher ended")??;
    Ok(sender)
}

impl Bench<'_> {
    async fn all(mut self, channels: u64) -> anyhow::Result<()> {
        let before = self.server.resident_kib()?;
        self.followers.open(self.args.dialect, self.args.address);
        let streams = self.followers.plan.streams;
        self.wait(|followers| followers.tally.borrow().ready >= streams).await;
        let ready = self.followers.tally.borrow().ready;
        anyhow::ensure!(ready == streams, "{ready} of {streams} streams are ready; {}", self.broken());
        tokio::time::sleep(SETTLE).await;
        let memory = Memory { before, idle: self.server.resident_kib()? };
        for rate in &self.args.rates {
            let warm_up = warm_up(*rate, channels);
            let pace = if self.followers.plan.shape == Shape::One { *rate } else { (*rate).max(2_000) };
            self.followers.tally.borrow_mut().restart();
            self.published(warm_up, pace).await?;
            self.told(warm_up).await;
            let row = self.measure(*rate, memory).await?;
            row.add(&self.args.out)?;
            println!("{}", row.told());
            // What is not whole is judged by the report.
            if row.broken > 0 {
                eprintln!("{}", self.broken());
            }
        }
        Ok(())
    }

    async fn measure(&mut self, rate: u64, memory: Memory) -> anyhow::Result<Row> {
        self.followers.tally.borrow_mut().restart();
        let count = rate * self.args.seconds;
        let (cpu, own, began) = (self.server.cpu()?, own()?, Instant::now());
        let mut published = self.published(count, rate).await?;
        tokio::time::sleep_until((began + Duration::from_secs(self.args.seconds)).into()).await;
        self.told(count).await;
        let cpu = self.server.cpu()?.saturating_sub(cpu);
        let own = own_since(own)?;
        let tally = &mut *self.followers.tally.borrow_mut();
        tally.latencies_us.sort_unstable();
        published.answers_us.sort_unstable();
        let window = tally.last_at.map_or(Duration::ZERO, |last| last.duration_since(began));
        let streams = self.followers.plan.streams;
        let each = if streams == 0 { f64::NAN } else { 1.0 / streams as f64 };
        let grown = |now: u64| (now as f64 - memory.before as f64) * each;
        Ok(Row {
            server: self.args.dialect.name().to_owned(),
            shape: self.followers.plan.shape.name().to_owned(),
            streams,
            rate,
            round: self.args.round,
            expected: count * self.followers.plan.followers(),
            delivered: tally.delivered,
            duplicated: tally.duplicated,
            reordered: tally.reordered,
            broken: tally.broken.len() as u64,
            p50_ms: quantile_ms(&tally.latencies_us, 500),
            p99_ms: quantile_ms(&tally.latencies_us, 990),
            max_ms: quantile_ms(&tally.latencies_us, 1000),
            answer_p50_ms: quantile_ms(&published.answers_us, 500),
            answer_p99_ms: quantile_ms(&published.answers_us, 990),
            late_max_ms: published.late_max.as_secs_f64() * 1000.0,
            window_s: window.as_secs_f64().max(self.args.seconds as f64),
            cpu_s: cpu.as_secs_f64(),
            client_cpu_s: own.as_secs_f64(),
            before_kib: memory.before,
            idle_kib: memory.idle,
            stream_kib: grown(memory.idle),
            after_stream_kib: grown(self.server.resident_kib()?),
            event_bytes: tally.bytes as f64 / tally.delivered as f64,
        })
    }

    /// Returns when all of it has been answered.
    async fn published(&mut self, count: u64, rate: u64) -> anyhow::Result<Published> {
        let batch = Batch { first: self.next, count, rate };
        self.next += count;
        let (done, published) = oneshot::channel();
        self.publisher.send((batch, done)).map_err(|_| anyhow::anyhow!("the publisher ended"))?;
        published.await.context("the publisher ended")?
    }

    /// Waits until `count` publications have been told to all who follow them, or will not be.
    async fn told(&self, count: u64) {
        let expected = count * self.followers.plan.followers();
        self.wait(|followers| followers.tally.borrow().delivered >= expected).await;
    }

    async fn wait(&self, is_over: impl Fn(&Followers) -> bool) {
        let deadline = Instant::now() + PATIENCE;
        while !is_over(&self.followers) && Instant::now() < deadline {
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    fn broken(&self) -> String {
        let tally = self.followers.tally.borrow();
        let first = tally.broken.first().map_or_else(|| "no stream was broken".to_owned(), Clone::clone);
        format!("{} broken; {first}", tally.broken.len())
    }
}

fn own() -> anyhow::Result<Duration> {
    Server { pid: std::process::id() }.cpu()
}

fn own_since(before: Duration) -> anyhow::Result<Duration> {
    Ok(own()?.saturating_sub(before))
}
