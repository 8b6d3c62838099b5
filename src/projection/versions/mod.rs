//! Versions of a projection, side by side: the one that is served, and at most one other, which is built from the log beside
//! it, compared with it at the same offsets, and then takes its place, or is let go.
//!
//! `building` → `caught-up` → `verified` (or `different`) → `serving`; and the one that was served becomes `retired`, is
//! folded on, and can be gone back to. Nothing here can make an effect: a version writes to its own store and to nothing
//! else (promise 7).

mod build;
mod make;
mod manifest;
mod report;
mod stores;
#[cfg(test)]
mod tests;
mod upgrade;
#[cfg(test)]
mod upgrade_tests;
#[cfg(test)]
mod verdict_tests;
mod wishes;

use std::collections::BTreeMap;
use std::io;
use std::panic::AssertUnwindSafe;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread::{self, Scope};
use std::time::Duration;

use anyhow::anyhow;
use tokio_util::sync::CancellationToken;

use super::Rejections;
use super::error::FoldError;
use super::fold::Fold;
use super::live::{Behind, Built, Live, Served};
use crate::clock::Clocks;
use crate::journal::Reader;
use crate::lock::lock;
use crate::payment::Signed;
use crate::schema::Codec;
use crate::store::Open;
use crate::telemetry::Seldom;
use build::Building;
use manifest::{Manifest, Version, name};
use report::Report;

pub use build::Effort;
pub use manifest::Phase;
pub use report::{Compared, DIFFERENCES_SHOWN_MAX, Pace};

/// How long an exchange may take: the fold of the version that is served stands still for it.
const EXCHANGE_MAX: Duration = Duration::from_secs(1);
/// Between two looks whether a directory that is to be deleted is still being read.
const SWEEP_EVERY: Duration = Duration::from_millis(200);

/// Why an operator's wish was not followed. Nothing has changed.
#[derive(Debug, thiserror::Error)]
pub enum NotDone {
    #[error("{0} is there already ({1}): promote it, or cancel it first")]
    AlreadyThere(String, Phase),
    #[error("there is no version {0} beside the one that is served: look at `paylog projection ls`")]
    NoSuch(String),
    #[error("{version} is {phase}: it cannot be {wish}")]
    NotNow { version: String, phase: Phase, wish: &'static str },
    #[error(
        "{0} was not found to be the same as the version that is served ({1}): look at it, then accept or cancel it"
    )]
    NotTheSame(String, Phase),
    #[error("{0} is still being built or compared, or has only just been opened: wait until it follows the log")]
    NotYet(String),
    #[error("{0} does not take the other's place: {1}")]
    Behind(String, Behind),
    #[error(transparent)]
    Fold(#[from] FoldError),
    #[error("the list of versions cannot be written: {0}")]
    Io(#[from] io::Error),
}

/// One version, for whoever looks.
#[derive(Clone, Debug, PartialEq)]
pub struct Status {
    pub version: String,
    pub phase: Phase,
    pub since: String,
    pub note: Option<String>,
    /// The sum of the offsets over all partitions.
    pub folded: u64,
    pub pace: Pace,
    pub compared: Compared,
}

/// What can be done with the versions of a projection, whichever it is. Blocks.
pub trait Rebuilds: Send + Sync {
    /// Of the projection.
    fn name(&self) -> &'static str;

    /// Has anything that was read of the rows that are served turned out not to be what was written?
    fn is_damaged(&self) -> bool;

    /// Do the records that were folded last still stand on the log?
    fn compare(&self) -> Result<(), FoldError>;

    /// The one that is served first.
    fn versions(&self) -> Vec<Status>;

    /// Begins to build a version beside the one that is served, with so much effort if it is said. Answers with its name.
    fn rebuild(&self, effort: Option<Effort>) -> Result<String, NotDone>;

    /// Serves it. One that is different, or was not compared, only if the differences are `accepted`.
    fn promote(&self, version: &str, by: &Signed, accepted: bool) -> Result<(), NotDone>;

    /// Serves the one again that was served before.
    fn rollback(&self, version: &str, by: &Signed) -> Result<(), NotDone>;

    /// Lets go of a version that is not served, and deletes it.
    fn cancel(&self, version: &str, by: &Signed) -> Result<(), NotDone>;
}

/// What the versions of a process are made from.
#[derive(Clone)]
pub struct Sources {
    /// The directory of all stores.
    pub stores: PathBuf,
    pub log: Arc<dyn Reader>,
    pub codec: Arc<Codec>,
    pub rejections: Rejections,
    pub clocks: Clocks,
    /// Of a version for which none is said, and of one whose building goes on after a restart.
    pub effort: Effort,
}

pub struct Versions<P: Served> {
    sources: Sources,
    live: Arc<Live<P>>,
    state: Mutex<State<P>>,
    events: Sender<Event<P>>,
    /// What cannot be deleted is said now and then.
    seldom: Seldom,
}

struct State<P: Served> {
    manifest: Manifest,
    /// By number.
    running: BTreeMap<u32, Running<P>>,
    /// Versions to be deleted, as soon as nobody has them open.
    condemned: Vec<(u32, Option<Open>)>,
}

/// A version that is folded.
struct Running<P: Served> {
    /// Nothing as long as its store is being made.
    built: Option<Arc<Built<P>>>,
    report: Arc<Report>,
    stop: CancellationToken,
    /// Held by whoever makes its store.
    making: Arc<()>,
}

/// For the thread that looks after the folds.
enum Event<P: Served> {
    Begin(Box<Begin<P>>),
    Ended(u32, anyhow::Result<()>),
}

/// A fold that is to run.
struct Begin<P: Served> {
    number: u32,
    phase: Phase,
    /// Nothing where there is no store yet.
    fold: Option<Fold<P>>,
    effort: Effort,
}

/// Says that the fold of a version has ended.
struct Ends<P: Served> {
    number: u32,
    result: anyhow::Result<()>,
    events: Sender<Event<P>>,
}

/// The directory in which the version of `P` is that is served, below that of all stores.
pub fn serving_dir<P: Served>(stores: &Path) -> io::Result<PathBuf> {
    Ok(stores.join(name::<P>(Manifest::read::<P>(stores)?.serving.number)))
}

/// The folds that [`Versions::run`] keeps going, and what it hears.
pub struct Folds<P: Served> {
    serving: Fold<P>,
    events: Receiver<Event<P>>,
}

impl<P: Served> Versions<P> {
    /// `serving` folds the store that `live` reads, which is that in [`serving_dir`].
    /// That the log does not answer is told: the start is to be tried again.
    pub fn new(sources: Sources, live: Arc<Live<P>>, serving: Fold<P>) -> anyhow::Result<(Arc<Self>, Folds<P>)> {
        let mut manifest = Manifest::read::<P>(&sources.stores)?;
        upgrade::mark::<P>(&mut manifest, &sources.stores, sources.clocks.machine().to_string())?;
        live.withhold(upgrade::withheld::<P>(&manifest.serving));
        let first = Running::of(Some(live.built()));
        let running = BTreeMap::from([(manifest.serving.number, first)]);
        let state = Mutex::new(State { manifest, running, condemned: Vec::new() });
        let (sender, events) = channel();
        let versions = Self { sources, live, state, events: sender, seldom: Seldom::new() };
        versions.take_up()?;
        Ok((Arc::new(versions), Folds { serving, events }))
    }

    /// Folds the version that is served, and the other, until told to stop or until the fold of the one that is served fails.
    /// A version that was left on its way goes on. Blocks.
    pub fn run(&self, folds: Folds<P>, stop: &CancellationToken) -> anyhow::Result<()> {
        let Folds { serving, events } = folds;
        let stop = &stop.child_token();
        thread::scope(|scope| -> anyhow::Result<()> {
            // However this ends, all folds end with it.
            let _ends = stop.clone().drop_guard();
            let number = self.state().manifest.serving.number;
            let begin = Begin { number, phase: Phase::Serving, fold: Some(serving), effort: Effort::FULL };
            self.spawn(scope, begin, stop)?;
            loop {
                match events.recv_timeout(SWEEP_EVERY) {
                    Ok(Event::Begin(begin)) => self.spawn(scope, *begin, stop)?,
                    Ok(Event::Ended(number, result)) if self.state().manifest.serving.number == number => {
                        return result;
                    }
                    Ok(Event::Ended(number, Err(error))) => {
                        self.make_room(number, error.downcast_ref());
                        let error = format!("{error:#}");
                        tracing::error!(version = name::<P>(number), error, "a version that is not served has failed");
                        self.reached(number, Phase::Failed, Some(error));
                    }
                    Ok(Event::Ended(..)) | Err(RecvTimeoutError::Timeout) => self.delete_condemned(),
                    Err(RecvTimeoutError::Disconnected) => return Ok(()),
                }
            }
        })
    }

    fn spawn<'s>(&'s self, scope: &'s Scope<'s, '_>, begin: Begin<P>, stop: &CancellationToken) -> anyhow::Result<()> {
        let Some(stop) = self.state().running.get_mut(&begin.number).map(|running| {
            // A version that was cancelled meanwhile stays so.
            if !running.stop.is_cancelled() {
                running.stop = stop.child_token();
            }
            running.stop.clone()
        }) else {
            return Ok(());
        };
        let mut ends = Ends { number: begin.number, result: Ok(()), events: self.events.clone() };
        let name = format!("fold-{}", begin.number);
        let run = move || {
            // fjall asserts on damaged bytes; of a version that is not served that is nobody else's business.
            let run = std::panic::catch_unwind(AssertUnwindSafe(|| self.fold(begin, &stop)));
            ends.with(run.map_err(|_| anyhow!("it panicked")).and_then(|ended| Ok(ended?)));
        };
        thread::Builder::new().name(name).spawn_scoped(scope, run)?;
        Ok(())
    }

    /// All the way of one version.
    fn fold(&self, begin: Begin<P>, stop: &CancellationToken) -> Result<(), FoldError> {
        let Begin { number, phase, fold, effort } = begin;
        let Some(making) = self.running(number, |running| (Arc::clone(&running.report), Arc::clone(&running.making)))
        else {
            return Ok(());
        };
        let (report, making) = making;
        let mut fold = match fold {
            Some(fold) => fold,
            None => match self.make(number, &report, effort, stop)? {
                Some(fold) => fold,
                None => return Ok(()),
            },
        };
        drop(making);
        let Some(built) = self.running(number, |running| running.built.clone()).flatten() else { return Ok(()) };
        let reached = |phase, note| self.reached(number, phase, note);
        let Sources { log, codec, .. } = &self.sources;
        let (log, live) = (log.as_ref(), &*self.live);
        let building = Building { log, codec, live, built: &built, report: &report, effort, stop, reached: &reached };
        if phase == Phase::Serving && !self.hold_against_older(&building, &mut fold)? {
            return Ok(());
        }
        building.run(fold, phase)
    }

    fn running<T>(&self, number: u32, of: impl FnOnce(&Running<P>) -> T) -> Option<T> {
        self.state().running.get(&number).map(of)
    }

    fn begin(&self, begin: Begin<P>) {
        // Nobody to hear it: everything has ended.
        drop(self.events.send(Event::Begin(Box::new(begin))));
    }

    fn reached(&self, number: u32, phase: Phase, note: Option<String>) {
        let (mut state, since) = (self.state(), self.now());
        let Some(other) = state.manifest.other.as_mut().filter(|other| other.number == number) else { return };
        *other = Version { number, phase, since, note };
        tracing::info!(version = name::<P>(number), %phase, note = other.note, "a version of a projection");
        if let Err(error) = state.manifest.write::<P>(&self.sources.stores) {
            tracing::error!(%error, "the list of versions cannot be written");
        }
    }

    fn state(&self) -> MutexGuard<'_, State<P>> {
        lock(&self.state)
    }

    fn now(&self) -> String {
        self.sources.clocks.machine().to_string()
    }
}

impl<P: Served> Running<P> {
    fn of(built: Option<Arc<Built<P>>>) -> Self {
        Self { built, report: Arc::default(), stop: CancellationToken::new(), making: Arc::default() }
    }

    fn folded(&self) -> u64 {
        self.built.as_ref().map_or_else(|| self.report.folded(), |built| built.progress.folded().sum())
    }

    /// Of its store, or of what it is made from.
    fn open_state(&self) -> Open {
        self.built.as_ref().map_or_else(|| Open::of(&self.making), |built| built.store.open_state())
    }
}

impl<P: Served> Ends<P> {
    fn with(&mut self, result: anyhow::Result<()>) {
        self.result = result;
    }
}

impl<P: Served> Drop for Ends<P> {
    fn drop(&mut self) {
        let result = std::mem::replace(&mut self.result, Ok(()));
        drop(self.events.send(Event::Ended(self.number, result)));
    }
}
