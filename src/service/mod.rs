//! One process: opens the journal, folds it, and serves, processes, or both, until told to stop or until a part of it
//! fails; then drains. Tests start it exactly as `main` does.

mod access;
pub mod checkpoint;
mod control;
mod data_dir;
pub mod described;
mod guard;
mod http;
mod intake;
mod measures;
pub mod offline;
pub mod replay;
mod service_bus;
mod webhooks;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

use crate::access::{Access, ApiKey};
use crate::api::Operator;
use crate::checkpoint::Maker;
use crate::clock::Clocks;
use crate::config::{KafkaArgs, ServiceArgs};
use crate::control::{Control, Follower, Imports};
use crate::deliveries::DeliveriesError;
use crate::journal::embedded::EmbeddedJournal;
use crate::journal::kafka::KafkaJournal;
use crate::journal::{Journal, JournalError, Reader};
use crate::lane::Driver;
use crate::processor::Processor;
use crate::projection::totals::Totals;
use crate::projection::versions::{Effort, Folds, Rebuilds, Sources, Versions, serving_dir};
use crate::projection::{Fold, FoldError, Folder, Live, Payments, Rejections, Served, View};
use crate::schema::Codec;
use crate::telemetry::{self, Seldom};
use data_dir::DataDir;
use webhooks::Webhooks;

/// Between two tries to open a log that does not answer.
const OPEN_PAUSE: Duration = Duration::from_secs(2);
/// How often a start that waits looks whether it still should.
const OPEN_TURN: Duration = Duration::from_millis(100);

/// What a process does besides folding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// `up`: everything.
    All,
    /// `serve`: API and streams.
    Serve,
    /// `process`: lanes.
    Process,
    /// `notify`: webhooks and Web Push.
    Notify,
}

impl Role {
    /// Who does is the one that takes requests of others in, too.
    fn charges(self) -> bool {
        matches!(self, Self::All | Self::Process)
    }
}

/// A process that is ready to run: everything is open, and it listens.
pub struct Service {
    args: ServiceArgs,
    role: Role,
    listener: TcpListener,
    opened: Opened,
    access: Arc<Access>,
}

/// What a process works on.
struct Opened {
    journal: Arc<dyn Journal>,
    codec: Arc<Codec>,
    control: Arc<Control>,
    follower: Follower,
    payments: Versioned<Payments>,
    view: View,
    totals: Option<Versioned<Totals>>,
    webhooks: Option<Webhooks>,
    data: Arc<DataDir>,
}

/// A projection that is about to be folded.
struct Versioned<P: Served> {
    versions: Arc<Versions<P>>,
    live: Arc<Live<P>>,
    folds: Folds<P>,
}

impl<P: Served> Versioned<P> {
    fn new(sources: Sources, live: Arc<Live<P>>, serving: Fold<P>) -> anyhow::Result<Self> {
        let (versions, folds) = Versions::new(sources, Arc::clone(&live), serving)?;
        Ok(Self { versions, live, folds })
    }

    /// Folds until told to stop. Holds the directory for as long.
    fn run(self, data: Arc<DataDir>, stop: &CancellationToken) -> anyhow::Result<()> {
        let Self { versions, live, folds } = self;
        let ended = versions.run(folds, stop);
        drop((versions, live)); // the stores are in the directory
        drop(data);
        ended
    }
}

impl Service {
    /// Binds, takes the data directory, opens the journal and runs the guards. A log on Kafka that does not answer is waited
    /// for, as it is by a process that runs; what it refuses ends the start. Dropped, it waits no more.
    pub async fn open(args: ServiceArgs, role: Role) -> anyhow::Result<Self> {
        Self::open_at(args, role, Clocks::system()).await
    }

    /// As [`Service::open`], on a machine whose clock says what `clocks` say.
    pub async fn open_at(args: ServiceArgs, role: Role, clocks: Clocks) -> anyhow::Result<Self> {
        telemetry::start();
        crate::open_files::raise(args.bounds.connections_max);
        if role != Role::All && args.kafka.servers().is_none() {
            bail!(
                "serve, process and notify need Kafka, for the embedded journal belongs to one process: give \
                 --bootstrap-servers (PAYLOG_BOOTSTRAP_SERVERS), or use `paylog up`"
            );
        }
        service_bus::check(&args, role)?;
        intake::check(&args, role)?;
        let listener = crate::http::bind(args.listen).with_context(|| format!("cannot listen on {}", args.listen))?;
        let codec = Arc::new(args.kafka.registry.writing_codec(&args.kafka.topic_prefix).await?);
        let (opening, wanted) = (args.clone(), CancellationToken::new());
        let unwanted = wanted.clone();
        let _while_waited_for = wanted.drop_guard();
        let opened = tokio::task::spawn_blocking(move || open(&opening, role, &codec, &clocks, &unwanted)).await??;
        let access = access::open(&args, role, listener.local_addr()?, &opened)?;
        Ok(Self { args, role, listener, opened, access })
    }

    pub fn address(&self) -> anyhow::Result<SocketAddr> {
        Ok(self.listener.local_addr()?)
    }

    #[must_use]
    pub fn journal(&self) -> Arc<dyn Journal> {
        Arc::clone(&self.opened.journal)
    }

    #[must_use]
    pub fn control(&self) -> Arc<Control> {
        Arc::clone(&self.opened.control)
    }

    #[must_use]
    pub fn view(&self) -> View {
        self.opened.view.clone()
    }

    /// A key to try things out with, as long as this process runs: where it is `up`, on this machine.
    #[must_use]
    pub fn demo_key(&self) -> Option<ApiKey> {
        let here = self.role == Role::All && self.listener.local_addr().is_ok_and(|address| address.ip().is_loopback());
        here.then(|| self.access.demo_key())
    }

    /// Runs until `stop`, then drains: first HTTP and the lanes, while the fold still moves, then the fold.
    pub async fn run(self, stop: CancellationToken) -> anyhow::Result<()> {
        let drain = self.args.drain();
        let fold_stop = CancellationToken::new();
        let (front, back) = self.start(&stop, &fold_stop)?;
        let deadline = async {
            stop.cancelled().await;
            tokio::time::sleep(drain).await;
        };
        // Whatever ends first stops the rest: a part cancels `stop` when it ends, well or not. What failed first is told.
        let mut failed = None;
        let ended = async {
            for parts in [front, back] {
                let mut parts: FuturesUnordered<Part> = parts.into_iter().collect();
                while let Some(ended) = parts.next().await {
                    failed = failed.take().or(ended.err());
                }
                fold_stop.cancel();
            }
        };
        let in_time = tokio::select! {
            () = ended => true,
            () = deadline => false,
        };
        if !in_time {
            tracing::warn!(drain_seconds = drain.as_secs(), "not everything had ended at the drain's deadline");
        }
        failed.map_or(Ok(()), Err)
    }

    /// The parts that stop first, and those that stop last.
    fn start(self, stop: &CancellationToken, fold_stop: &CancellationToken) -> anyhow::Result<(Vec<Part>, Vec<Part>)> {
        let Self { args, role, listener, opened, access } = self;
        let Opened { journal, codec, control, follower, payments, view, totals, webhooks, data } = opened;
        let mut front = Vec::new();
        let following = stop.clone();
        front.push(part("control", stop, move || Ok(follower.run(&following)?))?);
        let (mut back, mut projections) = (Vec::new(), vec![Arc::clone(&payments.versions) as Arc<dyn Rebuilds>]);
        let mut checkpoints = vec![maker(&args, &data, view.clocks(), &payments.live, stop, &mut front)?];
        let sums = totals.as_ref().map(|totals| Arc::clone(&totals.live));
        let (folding, held) = (fold_stop.clone(), Arc::clone(&data));
        back.push(part("fold", stop, move || payments.run(held, &folding))?);
        if let Some(totals) = totals {
            checkpoints.push(maker(&args, &data, view.clocks(), &totals.live, stop, &mut front)?);
            projections.push(Arc::clone(&totals.versions) as Arc<dyn Rebuilds>);
            let folding = fold_stop.clone();
            back.push(part("totals", stop, move || totals.run(data, &folding))?);
        }
        let (log, decisions) = (Arc::clone(&journal), Arc::clone(&control));
        let (rows, guarding, every) = (projections.clone(), stop.clone(), args.guard_every());
        let (told, taking) = (webhooks.as_ref().map(Webhooks::check), intake::Taking::new(&args, role)?);
        let served = taking.served(&journal);
        front.push(part("guard", stop, move || {
            let others = || decisions.check().and_then(|()| told.as_ref().map_or(Ok(()), |check| check()));
            guard::watch(log.as_ref(), &served, &others, &rows, every, &guarding)
        })?);
        let taken_in = webhooks.as_ref().map(Webhooks::taken_in);
        if let Some(webhooks) = webhooks {
            let (log, stops) = (Arc::clone(&journal) as Arc<dyn Reader>, (stop, fold_stop));
            let parts = webhooks.parts(&args, log, view.clone(), Arc::clone(&codec), Arc::clone(&control), stops)?;
            front.extend(parts.0);
            back.extend(parts.1);
        }
        if role.charges() {
            let driver = driver(&args, Arc::clone(&journal), view.clone(), Arc::clone(&codec), control.imports())?;
            let (lanes_stop, runtime) = (stop.clone(), tokio::runtime::Handle::current());
            front.push(part("lanes", stop, move || Ok(driver.run(&runtime, &lanes_stop)?))?);
        }
        front.extend(taking.parts(&args, role, &journal, &view, &codec, stop)?);
        front.extend(service_bus::part_of(&args, role, &journal, &view, &codec, stop)?);
        let api = http::api(&args, access, journal, codec, view, sums, stop);
        let operator = Operator { api, control, projections, checkpoints, holding: taking.holding };
        front.push(http::part(&args, role, listener, Arc::new(operator), taken_in, stop));
        Ok((front, back))
    }
}

/// Something of the process that runs until it is told to stop.
type Part = std::pin::Pin<Box<dyn Future<Output = anyhow::Result<()>> + Send>>;

/// Runs `work` on a thread of its own. However it ends, and be it by a panic, everything else is told to stop.
fn part(
    name: &'static str,
    stop: &CancellationToken,
    work: impl FnOnce() -> anyhow::Result<()> + Send + 'static,
) -> anyhow::Result<Part> {
    let (sender, ended) = oneshot::channel();
    let stops = stop.clone().drop_guard();
    thread::Builder::new().name(name.to_owned()).spawn(move || {
        let result = work();
        drop(sender.send(result));
        drop(stops);
    })?;
    Ok(Box::pin(async move {
        match ended.await {
            Ok(result) => result.with_context(|| format!("{name} failed")),
            Err(_) => bail!("{name} panicked"),
        }
    }))
}

/// What makes checkpoints of `live`, whose work goes to the parts.
fn maker<P: Served + 'static>(
    args: &ServiceArgs,
    data: &DataDir,
    clocks: &Clocks,
    live: &Arc<Live<P>>,
    stop: &CancellationToken,
    parts: &mut Vec<Part>,
) -> anyhow::Result<Maker> {
    let (clocks, stopped) = (clocks.clone(), stop.clone());
    let (maker, making) = Maker::new(data.checkpoints(), Arc::clone(live), clocks, args.rebuild_effort());
    let work = move || {
        making.run(&stopped);
        Ok(())
    };
    parts.push(part("checkpoints", stop, work)?);
    Ok(maker)
}

/// Tries until the log answers.
fn open(
    args: &ServiceArgs,
    role: Role,
    codec: &Arc<Codec>,
    clocks: &Clocks,
    unwanted: &CancellationToken,
) -> anyhow::Result<Opened> {
    let totals = args.totals && matches!(role, Role::All | Role::Serve);
    let (data, seldom) = (Arc::new(DataDir::take(&args.data_dir)?), Seldom::new());
    loop {
        let log = open_log(&args.kafka, codec, totals, clocks, &data, args.rebuild_effort(), &args.from_checkpoint);
        match log.and_then(|log| webhooks::open(args, role, log)) {
            Err(error) if args.kafka.servers().is_some() && is_away(&error) => {
                if seldom.now() {
                    let reason = format!("{error:#}");
                    tracing::warn!(
                        reason,
                        "the log does not answer: this process waits for it, and starts when it does"
                    );
                }
            }
            opened => return opened,
        }
        let tried = Instant::now();
        while tried.elapsed() < OPEN_PAUSE {
            anyhow::ensure!(!unwanted.is_cancelled(), "told to stop before the log answered");
            thread::sleep(OPEN_TURN);
        }
    }
}

fn is_away(error: &anyhow::Error) -> bool {
    let journal = match (error.downcast_ref(), error.downcast_ref()) {
        (Some(FoldError::Journal(error)), _) | (_, Some(DeliveriesError::Journal(error))) => Some(error),
        _ => error.downcast_ref(),
    };
    matches!(journal, Some(JournalError::Unavailable(_)))
}

fn open_log(
    kafka: &KafkaArgs,
    codec: &Arc<Codec>,
    totals: bool,
    clocks: &Clocks,
    data: &Arc<DataDir>,
    effort: Effort,
    from: &[PathBuf],
) -> anyhow::Result<Opened> {
    let journal: Arc<dyn Journal> = match kafka.config(data.instance_id()) {
        Some(config) => KafkaJournal::open(config)?,
        None => EmbeddedJournal::open(&data.journal(), kafka.partitions)?,
    };
    journal.check()?;
    let rejections = Rejections::default();
    let (control, follower) = control::open(kafka, data, journal.log_id(), &rejections)?;
    codec.heed(control.refused_ids());
    let stores = data.stores();
    let (log, codec) = (Arc::clone(&journal) as Arc<dyn Reader>, Arc::clone(codec));
    let shared = Arc::clone(&codec);
    let sources = Sources { stores, log, codec: shared, rejections, clocks: clocks.clone(), effort };
    let (payments, view) = payments(&sources, from)?;
    let totals = if totals { Some(sums(&sources, from)?) } else { None };
    let (control, data) = (Arc::new(control), Arc::clone(data));
    Ok(Opened { journal, codec, control, follower, payments, view, totals, webhooks: None, data })
}

fn payments(sources: &Sources, from: &[PathBuf]) -> anyhow::Result<(Versioned<Payments>, View)> {
    let Sources { stores, log, codec, rejections, clocks, .. } = sources;
    let dir = serving_dir::<Payments>(stores)?;
    let start = || checkpoint::start_from::<Payments>(from, &dir, log.as_ref());
    let (folder, view) = control::rows(&dir, start, |store| {
        let (folder, view) = Folder::open(store, log.as_ref(), Arc::clone(codec), clocks.clone())?;
        Ok((folder.heeding(rejections)?, view))
    })?;
    Ok((Versioned::new(sources.clone(), Arc::clone(view.live()), folder)?, view))
}

fn sums(sources: &Sources, from: &[PathBuf]) -> anyhow::Result<Versioned<Totals>> {
    let Sources { stores, log, codec, rejections, .. } = sources;
    let dir = serving_dir::<Totals>(stores)?;
    let start = || checkpoint::start_from::<Totals>(from, &dir, log.as_ref());
    let (fold, live) =
        control::rows(&dir, start, |store| Fold::<Totals>::open(store, log.as_ref(), Arc::clone(codec), rejections))?;
    Versioned::new(sources.clone(), live, fold)
}

fn driver(
    args: &ServiceArgs,
    journal: Arc<dyn Journal>,
    view: View,
    codec: Arc<Codec>,
    imports: Imports,
) -> anyhow::Result<Driver> {
    let gateway = args.gateway.open(Duration::from_millis(args.simulator_latency_ms))?;
    let worker = Processor::new(gateway, view.clocks().clone(), args.policy());
    let executor = Arc::new(tokio::runtime::Handle::current());
    Ok(Driver { journal, view, codec, imports, worker: Arc::new(worker), bounds: args.lane_bounds(), executor })
}
