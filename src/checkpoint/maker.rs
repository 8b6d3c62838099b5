//! Makes checkpoints of what is served, one at a time, on a thread that rests in proportion to its work. Where they go is
//! fixed: no path comes from whoever asks for one.

use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime};

use tokio_util::sync::CancellationToken;

use super::{CheckpointError, Made, write};
use crate::clock::Clocks;
use crate::lock::lock;
use crate::projection::versions::Effort;
use crate::projection::{Live, Served, Standing, versioned_name};
use crate::telemetry;

/// How late a stop is noticed.
const TURN: Duration = Duration::from_millis(20);
/// How the names of all checkpoints end.
const ENDING: &str = ".checkpoint";

/// The side of whoever asks. Cheap to clone.
#[derive(Clone)]
pub struct Maker {
    latest: Latest,
    orders: Sender<Order>,
    projection: &'static str,
    /// `payments@4-`.
    prefix: String,
    directory: PathBuf,
    clocks: Clocks,
    effort: Effort,
}

/// The side that works.
pub struct Making<P: Served> {
    latest: Latest,
    orders: Receiver<Order>,
    directory: PathBuf,
    clocks: Clocks,
    live: Arc<Live<P>>,
}

/// What is asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Wanted {
    /// In how much of the time it may work.
    pub effort: Option<Effort>,
    /// How many checkpoints of this version of the projection may be there afterwards: older ones are deleted. Without it, none is.
    pub keep: Option<usize>,
}

type Latest = Arc<Mutex<Option<Status>>>;

struct Order {
    file: PathBuf,
    effort: Effort,
    keep: Option<usize>,
}

/// Of the checkpoint that was asked for last.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Status {
    pub file: PathBuf,
    pub state: State,
    /// What was written so far, or all of it.
    pub made: Option<Made>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum State {
    Writing,
    Whole,
    Failed(String),
}

/// One is being written.
#[derive(Debug, thiserror::Error)]
#[error("{} is being written: wait for it", .0.display())]
pub struct Busy(pub PathBuf);

impl Maker {
    /// Of what `live` reads, into `directory`.
    pub fn new<P: Served>(directory: PathBuf, live: Arc<Live<P>>, clocks: Clocks, effort: Effort) -> (Self, Making<P>) {
        let (latest, (sender, orders)) = (Latest::default(), channel());
        let making =
            Making { latest: Arc::clone(&latest), orders, directory: directory.clone(), clocks: clocks.clone(), live };
        let prefix = format!("{}-", versioned_name::<P>());
        (Self { latest, orders: sender, projection: P::NAME, prefix, directory, clocks, effort }, making)
    }

    /// Its name, without a version.
    #[must_use]
    pub fn projection(&self) -> &'static str {
        self.projection
    }

    /// Begins to write one.
    pub fn create(&self, wanted: Wanted) -> Result<Status, Busy> {
        let mut latest = lock(&self.latest);
        if let Some(Status { file, state: State::Writing, .. }) = &*latest {
            return Err(Busy(file.clone()));
        }
        let now: String = self.clocks.machine().to_string().chars().filter(|c| !matches!(c, '-' | ':')).collect();
        let file = self.directory.join(format!("{}{now}{ENDING}", self.prefix));
        let status = Status { file: file.clone(), state: State::Writing, made: None };
        *latest = Some(status.clone());
        // Nobody to hear it: the process ends.
        drop(self.orders.send(Order { file, effort: wanted.effort.unwrap_or(self.effort), keep: wanted.keep }));
        Ok(status)
    }

    /// How old the newest is that is there whole, and how large; made by this process or another.
    #[must_use]
    pub fn newest(&self) -> Option<(Duration, u64)> {
        let files = files(&self.directory, &self.prefix, ENDING).ok()?;
        let metadata = std::fs::metadata(files.iter().max()?).ok()?; // their names say when they were begun
        let made = metadata.modified().ok()?;
        Some((SystemTime::now().duration_since(made).unwrap_or_default(), metadata.len()))
    }

    #[must_use]
    pub fn latest(&self) -> Option<Status> {
        lock(&self.latest).clone()
    }
}

impl<P: Served> Making<P> {
    /// Follows every order, until told to stop. Blocks.
    pub fn run(&self, stop: &CancellationToken) {
        while !stop.is_cancelled() {
            match self.orders.recv_timeout(TURN) {
                Ok(order) => self.follow(&order, stop),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
        }
    }

    fn follow(&self, order: &Order, stop: &CancellationToken) {
        let (began, file) = (Instant::now(), order.file.display());
        let result = self.make(order, stop);
        telemetry::checkpoint_ended(P::NAME, ending(&result), began.elapsed());
        let (state, made) = match result {
            Ok(made) => {
                let Made { rows, bytes, digest, .. } = made;
                tracing::info!(%file, rows, bytes, %digest, seconds = began.elapsed().as_secs_f64(), "a checkpoint was made");
                if let Some(keep) = order.keep {
                    self.delete_older(keep);
                }
                (State::Whole, Some(made))
            }
            Err(error @ CheckpointError::Stopped) => {
                tracing::info!(%file, "a checkpoint was given up, for the process ends");
                (State::Failed(error.to_string()), None)
            }
            Err(error) => {
                tracing::error!(%file, %error, "a checkpoint could not be made");
                (State::Failed(error.to_string()), None)
            }
        };
        *lock(&self.latest) = Some(Status { file: order.file.clone(), state, made });
    }

    fn make(&self, order: &Order, stop: &CancellationToken) -> Result<Made, CheckpointError> {
        std::fs::create_dir_all(&self.directory)?;
        self.sweep()?;
        let (rows, at) = self.live.built().frozen()?;
        let mut after = |made: &Made, worked: Duration| {
            if let Some(latest) = &mut *lock(&self.latest) {
                latest.made = Some(*made);
            }
            pause(order.effort.rest(worked), stop);
            !stop.is_cancelled()
        };
        let projection = versioned_name::<P>();
        if Standing::of(&rows)?.is_none_or(|standing| standing.offsets != at) {
            return Err(CheckpointError::Unwritable("they do not stand where their fold says".to_owned()));
        }
        write(&order.file, &projection, &rows, self.clocks.machine(), &mut after).map(|(_, made)| made)
    }

    /// What was being written when a process was killed.
    fn sweep(&self) -> Result<(), CheckpointError> {
        for part in files(&self.directory, &format!("{}@", P::NAME), &format!("{ENDING}.part"))? {
            std::fs::remove_file(part)?;
        }
        Ok(())
    }

    fn delete_older(&self, keep: usize) {
        let deleted = files(&self.directory, &format!("{}-", versioned_name::<P>()), ENDING).and_then(|mut files| {
            files.sort(); // their names say when they were begun
            files.iter().rev().skip(keep).try_for_each(std::fs::remove_file)
        });
        if let Err(error) = deleted {
            tracing::error!(%error, "older checkpoints cannot be deleted");
        }
    }
}

fn ending(result: &Result<Made, CheckpointError>) -> &'static str {
    match result {
        Ok(_) => "made",
        Err(CheckpointError::Stopped) => "stopped",
        Err(CheckpointError::Full) => "full",
        Err(_) => "failed",
    }
}

/// Those whose names begin and end so.
fn files(directory: &Path, prefix: &str, ending: &str) -> std::io::Result<Vec<PathBuf>> {
    let all: std::io::Result<Vec<_>> = std::fs::read_dir(directory)?.collect();
    let is_meant = |name: &str| name.starts_with(prefix) && name.ends_with(ending);
    let meant = all?.into_iter().filter(|entry| entry.file_name().to_str().is_some_and(is_meant));
    Ok(meant.map(|entry| entry.path()).collect())
}

fn pause(time: Duration, stop: &CancellationToken) {
    let until = Instant::now() + time;
    while !stop.is_cancelled() {
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return;
        }
        std::thread::sleep(left.min(TURN));
    }
}
