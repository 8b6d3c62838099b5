//! `paylog bench`: what this machine does, on the journal it is given. Seven figures, each from the product's own parts in
//! their production wiring, with a gateway that costs nothing:
//!
//! * results per second from a backlog: initiations on the log, then the fold and the lanes are started;
//! * latency from POST to the last frame of a stream, at a fixed rate (open loop: a late answer delays no request);
//! * how much slower the others' payments become while the provider hangs for one merchant (`--bulkhead`);
//! * how much slower payments become while a version of the projection is built beside the one that is served (`--beside`, or
//!   `--beside-only`);
//! * how long after an event its webhook is received, and how many are delivered a second (`--webhooks`);
//! * events per second of a rebuild: an empty store, the whole log;
//! * a checkpoint of that store: how long it takes to write, and until an instance that starts from it has caught up.
//!
//! A figure is only as good as its conditions: quote them together, and compare only what ran in one run.

mod args;
mod backlog;
mod beside;
mod bulkhead;
mod checkpoint;
mod latency;
mod rebuild;
mod webhooks;

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context;
use tokio_util::sync::CancellationToken;

use crate::clock::Clocks;
use crate::control::Imports;
use crate::gateway::Gateway;
use crate::journal::embedded::EmbeddedJournal;
use crate::journal::kafka::{self, KafkaJournal};
use crate::journal::{Journal, Partition};
use crate::lane::{Bounds, Driver, LaneError};
use crate::processor::{Policy, Processor};
use crate::projection::{Folder, View};
use crate::schema::Codec;
use crate::store::Store;

pub use args::BenchArgs;
pub use rebuild::StepArgs;

/// How long the lanes wait for calls under way when a bench is over: what hangs by design is not waited for.
const DRAIN: Duration = Duration::from_secs(1);
/// How often a bench looks whether it is done: the resolution of its figures.
const LOOK_EVERY: Duration = Duration::from_millis(10);

/// A log of its own for one figure, in a directory that goes when it is dropped.
struct Bed {
    directory: std::path::PathBuf,
    args: BenchArgs,
    codec: Arc<Codec>,
}

pub async fn run(args: BenchArgs) -> anyhow::Result<()> {
    if let Some(step) = args.step.step {
        return tokio::task::spawn_blocking(move || rebuild::run(step, &args)).await?;
    }
    let engine = if args.kafka.servers().is_some() { "kafka" } else { "embedded" };
    println!("journal {engine}, {} partitions, gateway at zero cost", args.kafka.partitions);
    if args.beside_only {
        return beside::measure(&Bed::new(&args, "beside")?).await;
    }
    if args.backlog > 0 {
        let bed = Bed::new(&args, "backlog")?;
        tokio::task::spawn_blocking(move || backlog::drain(&bed)).await??;
    }
    if args.rate > 0 && args.seconds > 0 {
        latency::measure(&Bed::new(&args, "latency")?).await?;
    }
    if args.bulkhead && args.rate > 0 && args.seconds > 0 {
        bulkhead::measure(&Bed::new(&args, "bulkhead")?).await?;
    }
    if args.beside && args.rate > 0 && args.seconds > 0 {
        beside::measure(&Bed::new(&args, "beside")?).await?;
    }
    if args.webhooks > 0 && args.rate > 0 && args.seconds > 0 {
        webhooks::measure(&Bed::new(&args, "webhooks")?).await?;
    }
    if args.rebuild > 0 {
        let bed = Bed::new(&args, "rebuild")?;
        tokio::task::spawn_blocking(move || backlog::rebuild(&bed)).await??;
    }
    Ok(())
}

impl Bed {
    fn new(args: &BenchArgs, figure: &str) -> anyhow::Result<Self> {
        let mut args = args.clone();
        let name = format!("bench-{figure}-{}", uuid::Uuid::new_v4().simple());
        args.kafka.topic_prefix.clone_from(&name);
        args.kafka.group.clone_from(&name);
        args.kafka.allow_single_replica = true;
        let directory = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&directory).context("cannot create the bench's directory")?;
        Ok(Self { directory, args, codec: Arc::new(Codec::new()?) })
    }

    /// Creates the topics, where there are topics.
    fn ensure(&self) -> anyhow::Result<()> {
        if let Some(config) = self.args.kafka.config("bench") {
            kafka::ensure(&config, 1)?;
        }
        Ok(())
    }

    fn open(&self) -> anyhow::Result<Arc<dyn Journal>> {
        self.ensure()?;
        match self.args.kafka.config("bench") {
            Some(config) => Ok(KafkaJournal::open(config)?),
            None => Ok(EmbeddedJournal::open(&self.directory.join("journal"), self.args.kafka.partitions)?),
        }
    }

    fn store(&self) -> std::path::PathBuf {
        self.directory.join("store")
    }

    /// Folds on a thread of its own until `stop`.
    fn fold(
        &self,
        journal: &Arc<dyn Journal>,
        store: &Path,
        stop: &CancellationToken,
    ) -> anyhow::Result<(View, std::thread::JoinHandle<anyhow::Result<()>>)> {
        let (folder, view) =
            Folder::open(Store::open(store)?, journal.as_ref(), Arc::clone(&self.codec), Clocks::system())?;
        let (journal, stop) = (Arc::clone(journal), stop.clone());
        let thread = std::thread::Builder::new()
            .name("fold".to_owned())
            .spawn(move || folder.run(journal.as_ref(), &stop).map_err(anyhow::Error::from))?;
        Ok((view, thread))
    }
}

/// Lanes at work on a thread of their own, until they are told to stop.
struct Lanes {
    stop: CancellationToken,
    thread: std::thread::JoinHandle<Result<(), LaneError>>,
}

impl Lanes {
    /// Must be called within a tokio runtime: the effects run there.
    fn start(bed: &Bed, journal: &Arc<dyn Journal>, view: &View, gateway: Arc<dyn Gateway>) -> anyhow::Result<Self> {
        let runtime = tokio::runtime::Handle::current();
        let driver = Driver {
            journal: Arc::clone(journal),
            view: view.clone(),
            codec: Arc::clone(&bed.codec),
            imports: Imports::default(),
            worker: Arc::new(Processor::new(gateway, view.clocks().clone(), Policy::default())),
            bounds: Bounds { drain: DRAIN, ..Bounds::default() },
            executor: Arc::new(runtime.clone()),
        };
        let stop = CancellationToken::new();
        let stopped = stop.clone();
        let thread =
            std::thread::Builder::new().name("lanes".to_owned()).spawn(move || driver.run(&runtime, &stopped))?;
        Ok(Self { stop, thread })
    }

    /// Blocks until they have drained.
    fn end(self) -> anyhow::Result<()> {
        self.stop.cancel();
        Ok(self.thread.join().map_err(|_| anyhow::anyhow!("the lanes panicked"))??)
    }
}

impl Drop for Bed {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.directory);
    }
}

/// Blocks until the fold has reached the log's end in every partition.
fn wait_folded(journal: &dyn Journal, view: &View) -> anyhow::Result<()> {
    loop {
        let mut folded = view.folded().positions().collect::<Vec<_>>().into_iter();
        let behind = folded.try_fold(false, |behind, next| {
            anyhow::Ok(behind || next.offset < journal.ends(next.partition)?.uncommitted)
        })?;
        if !behind {
            return Ok(());
        }
        std::thread::sleep(LOOK_EVERY);
    }
}

/// Blocks until nothing is due in any partition. Looks on from where it last found something: what has ended leaves marks in
/// the index, and to step over all of them again and again would be a good part of what is measured.
fn wait_idle(view: &View) -> anyhow::Result<()> {
    for partition in (0..view.partitions()).map(Partition) {
        let mut from = crate::projection::DueKey::FIRST;
        while let Some(first) = view.due(partition, from, 1)?.first() {
            from = *first;
            std::thread::sleep(LOOK_EVERY);
        }
    }
    Ok(())
}

fn per_second(count: u64, took: Duration) -> f64 {
    count as f64 / took.as_secs_f64()
}

/// Prints one figure, and how long it took.
fn figure(name: &str, count: u64, began: Instant) {
    let took = began.elapsed();
    println!("{name}: {:.0}/s ({count} in {:.2} s)", per_second(count, took), took.as_secs_f64());
}
