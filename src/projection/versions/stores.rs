//! The stores of versions that are not served: made, opened, taken up after a restart, and deleted.

use std::path::Path;
use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use super::super::bulk::{self, Done};
use super::super::error::FoldError;
use super::super::fold::Fold;
use super::super::live::Served;
use super::make::Making;
use super::manifest::{Phase, Version, name};
use super::report::Report;
use super::{Begin, Effort, Running, Sources, Versions};
use crate::journal::JournalError;
use crate::store::{Open, Store, StoreError};

impl<P: Served> Versions<P> {
    /// Goes on with the version that was beside the one that is served when the process ended; one whose rows are of no use is
    /// built anew.
    pub(super) fn take_up(&self) -> anyhow::Result<()> {
        let manifest = self.state().manifest.clone();
        if let Err(error) = manifest.sweep::<P>(&self.sources.stores) {
            tracing::error!(%error, "versions that were let go cannot be deleted");
        }
        let Some(Version { number, phase, .. }) = manifest.other else { return Ok(()) };
        if phase == Phase::Building && !self.sources.stores.join(name::<P>(number)).exists() {
            self.begin_anew(number, self.sources.effort);
            return Ok(());
        }
        let (opened, kept) = match self.open(number) {
            Err(FoldError::Journal(error @ JournalError::Unavailable(_))) => {
                return Err(FoldError::Journal(error).into());
            }
            Err(FoldError::RejectedSince(_)) => (self.reopen(number), false),
            Err(FoldError::Store(error)) if error.is_damage() => (self.reopen(number), false),
            opened => (opened, true),
        };
        let phase = match phase {
            Phase::Verified | Phase::Retired if kept => phase,
            _ => Phase::Building,
        };
        match opened {
            Ok(fold) => {
                if phase == Phase::Building {
                    self.reached(number, phase, None);
                }
                self.begin(Begin { number, phase, fold: Some(fold), effort: self.sources.effort });
            }
            Err(error) => {
                tracing::error!(version = name::<P>(number), %error, "a version that is not served cannot be opened");
                self.reached(number, Phase::Failed, Some(error.to_string()));
            }
        }
        Ok(())
    }

    fn reopen(&self, number: u32) -> Result<Fold<P>, FoldError> {
        tracing::warn!(version = name::<P>(number), "a version that is not served is of no use: it is built anew");
        discard(&self.sources.stores.join(name::<P>(number)))?;
        self.open(number)
    }

    /// There is no store yet, but maybe a part of what it is made from.
    pub(super) fn begin_anew(&self, number: u32, effort: Effort) {
        self.state().running.insert(number, Running::of(None));
        self.begin(Begin { number, phase: Phase::Building, fold: None, effort });
    }

    /// The store of a version that is not served; nobody is told of what its fold meets. Whoever let go of it meanwhile finds it
    /// condemned.
    fn open(&self, number: u32) -> Result<Fold<P>, FoldError> {
        let Sources { stores, log, codec, rejections, .. } = &self.sources;
        let store = Store::open(&stores.join(name::<P>(number)))?;
        let open = store.open_state();
        let mut fold = Fold::new(store, log.as_ref(), Arc::clone(codec))?.heeding(rejections)?;
        fold.progress().speak(false);
        let built = fold.built(self.live.hearers().clone());
        let mut state = self.state();
        if state.manifest.other.as_ref().is_some_and(|other| other.number == number) {
            // Whoever watches its making goes on watching.
            state.running.entry(number).or_insert_with(|| Running::of(None)).built = Some(built);
        } else {
            state.condemned.push((number, Some(open)));
        }
        drop(state);
        Ok(fold)
    }

    /// The store of a version that has none, from the whole log at once, if that can be; `None` if it was stopped.
    pub(super) fn make(
        &self,
        number: u32,
        report: &Report,
        effort: Effort,
        stop: &CancellationToken,
    ) -> Result<Option<Fold<P>>, FoldError> {
        let Sources { stores, log, codec, rejections, .. } = &self.sources;
        let (log, store) = (log.as_ref(), &stores.join(name::<P>(number)));
        let making = Making { log, rejections, codec, store, report, effort, stop };
        match making.run::<P>(self.live.hearers())? {
            Done::Whole => {}
            Done::Stopped => return Ok(None),
            Done::NotSorted(why) => {
                tracing::info!(
                    version = name::<P>(number),
                    why,
                    "a version of a projection is folded record by record"
                );
            }
        }
        self.open(number).map(Some)
    }

    /// A version that has failed because the disk is full lets go of its rows at once: what is served needs room too.
    pub(super) fn make_room(&self, number: u32, error: Option<&FoldError>) {
        if !matches!(error, Some(FoldError::Store(StoreError::Full | StoreError::Shut))) {
            return;
        }
        {
            let mut state = self.state();
            let open = state.running.remove(&number).map(|running| running.open_state());
            state.condemned.push((number, open));
        }
        self.delete_condemned();
    }

    /// Of a store that takes long to delete nobody else waits for the lock.
    pub(super) fn delete_condemned(&self) {
        let mut condemned = std::mem::take(&mut self.state().condemned);
        condemned.retain(|(number, open)| {
            let path = self.sources.stores.join(name::<P>(*number));
            if open.as_ref().is_some_and(Open::is_open) {
                return true;
            }
            match discard(&path) {
                Ok(()) => false,
                Err(error) => {
                    if self.seldom.now() {
                        tracing::warn!(path = %path.display(), %error, "a version that was let go cannot be deleted yet");
                    }
                    true
                }
            }
        });
        self.state().condemned.extend(condemned);
    }
}

/// A store, and what it was made from.
pub(super) fn discard(store: &Path) -> Result<(), StoreError> {
    bulk::discard(store)?;
    Store::discard(store)
}
