//! Which of the stores of a projection is read. One is, at any time; it can be exchanged for another that has come as far,
//! while everybody reads, and nobody sees the log go back.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tokio::sync::watch;

use super::fold::{Fold, Projection};
use super::{Offsets, Progress};
use crate::journal::Position;
use crate::lock::lock;
use crate::store::{Snapshot, Store, StoreError};

/// Between two looks at how far a store has come that is waited for.
const TURN: Duration = Duration::from_millis(1);

/// A projection that is read while it is folded.
pub trait Served: Projection {
    /// Reads its rows. Cheap to clone.
    type Rows: Clone + Send + Sync + 'static;
    /// Whom its fold tells of what has changed.
    type Hearers: Clone + Send + Sync + 'static;

    fn rows(&self) -> Self::Rows;

    /// From now on it tells them, as long as `progress` speaks.
    fn tell(&mut self, hearers: Self::Hearers, progress: Arc<Progress>);

    /// Everything that they have read may be different now. Up to `folded` they may not have been told of anything.
    fn exchanged(hearers: &Self::Hearers, folded: &Offsets);
}

/// One store of a projection.
pub struct Built<P: Served> {
    pub store: Store,
    pub rows: P::Rows,
    pub progress: Arc<Progress>,
}

/// The store of a projection that is read.
pub struct Live<P: Served> {
    built: watch::Sender<Arc<Built<P>>>,
    hearers: P::Hearers,
    /// Why it should not be read, if it should not.
    withheld: Mutex<Option<Withheld>>,
}

/// Why a store is not to be read, although it is the only one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Withheld {
    /// It has not been compared with the rows of the code before it.
    NotCompared,
    /// They differ, and an operator has to accept that first. For people.
    Differs(String),
}

/// The store that was to be read did not come as far as the one that is read, in time.
#[derive(Debug, thiserror::Error)]
#[error("it did not come as far as the one that is served within {0:?}: look whether it still folds, and try again")]
pub struct Behind(Duration);

impl<P: Served> Fold<P> {
    /// What it writes, to be read; its hearers are told.
    pub fn built(&mut self, hearers: P::Hearers) -> Arc<Built<P>> {
        let progress = self.progress();
        self.projection.tell(hearers, Arc::clone(&progress));
        Arc::new(Built { store: self.store.clone(), rows: self.projection.rows(), progress })
    }
}

impl<P: Served> Built<P> {
    /// Its rows as they are now, and how far they have been folded.
    pub fn frozen(&self) -> Result<(Snapshot, Offsets), StoreError> {
        let _held = self.progress.hold();
        Ok((self.store.snapshot()?, self.progress.folded()))
    }
}

impl<P: Served> Live<P> {
    pub fn new(built: Arc<Built<P>>, hearers: P::Hearers) -> Self {
        Self { built: watch::channel(built).0, hearers, withheld: Mutex::default() }
    }

    /// What is read now. Whoever reads twice, and wants both of one time, holds on to it.
    #[must_use]
    pub fn built(&self) -> Arc<Built<P>> {
        Arc::clone(&self.built.borrow())
    }

    #[must_use]
    pub fn hearers(&self) -> &P::Hearers {
        &self.hearers
    }

    /// Why whoever asks should go elsewhere, although there is something to read.
    #[must_use]
    pub fn withheld(&self) -> Option<Withheld> {
        lock(&self.withheld).clone()
    }

    /// See [`Live::withheld`].
    pub fn withhold(&self, why: Option<Withheld>) {
        *lock(&self.withheld) = why;
    }

    /// Returns when the record at `position` is in the rows that are read then; never, for a partition that the log does not
    /// have.
    pub async fn wait_folded(&self, position: Position) {
        let mut exchanges = self.built.subscribe();
        loop {
            let progress = Arc::clone(&exchanges.borrow_and_update().progress);
            tokio::select! {
                () = progress.wait_folded(position) => {}
                _ = exchanges.changed() => {}
            }
            if self.built().progress.has_folded(position) {
                return;
            }
        }
    }

    /// Returns when `to` is as far as what is read was when this was called. Blocks, no longer than `patience`.
    pub fn meet(&self, to: &Built<P>, patience: Duration) -> Result<(), Behind> {
        let (at, deadline) = (self.built().progress.folded(), Instant::now() + patience);
        while !to.progress.folded().covers(&at) {
            if Instant::now() >= deadline {
                return Err(Behind(patience));
            }
            std::thread::sleep(TURN);
        }
        Ok(())
    }

    /// Has `to` read instead, once it is as far as what is read now. For that moment the fold of the latter stands still.
    /// Blocks, no longer than twice `patience`.
    pub fn exchange(&self, to: &Arc<Built<P>>, patience: Duration) -> Result<(), Behind> {
        let from = self.built();
        // Nearly as far, before anything has to stand still for it.
        self.meet(to, patience)?;
        {
            let _held = from.progress.hold();
            self.meet(to, patience)?;
            to.progress.has_caught_up_as(&from.progress);
            self.built.send_replace(Arc::clone(to));
            to.progress.takes_over(&from.progress);
        }
        P::exchanged(&self.hearers, &to.progress.folded());
        Ok(())
    }
}
