//! The first start of code that folds otherwise than the code before it (another [`Projection::VERSION`]): its rows are held
//! against those that the older code has left, at the offsets at which these stand, over the tables and fields that both
//! define ([`Older`]). The older rows can be served no more, for nothing that runs can read all of them; so what differs is
//! withheld, and this instance is not ready, until an operator accepts it.

use std::io;
use std::path::Path;

use super::super::difference::{Pair, compare_older};
use super::super::error::FoldError;
use super::super::fold::{Fold, FoldedTo, Projection};
use super::super::live::{Served, Withheld};
use super::super::older::Older;
use super::super::{Offsets, Standing};
use super::build::Building;
use super::manifest::{Manifest, Phase, Version, name, name_of};
use super::{NotDone, Versions};
use crate::payment::Signed;
use crate::store::{Snapshot, Store, StoreError};

/// Differences that are logged: their list is in memory only.
const LOGGED_MAX: usize = 10;

/// What the older code has left.
struct Left {
    /// Its store, as that code called it.
    name: String,
    older: Older,
    rows: Snapshot,
    at: Offsets,
}

/// What has come of it.
enum Verdict {
    Same(u64),
    Different(u64, u64),
    NotCompared(String),
}

/// Of a version that is in use, whether or not it should be.
pub(super) fn withheld<P: Projection>(serving: &Version, stores: &Path) -> Option<Withheld> {
    if serving.phase != Phase::Different {
        return older_version::<P>(serving, stores).map(|_| Withheld::NotCompared);
    }
    let note = serving.note.as_deref().unwrap_or_default();
    Some(Withheld::Differs(format!(
        "{} has {note}: look at `paylog projection ls`, then accept them with `paylog projection promote \
         --accept-differences`, or go back to the older paylog",
        name::<P>(serving.number)
    )))
}

impl<P: Served> Versions<P> {
    /// Once, before the rows of this code have gone on from where the older ones stand.
    pub(super) fn hold_against_older(&self, building: &Building<'_, P>, fold: &mut Fold<P>) -> Result<(), FoldError> {
        let serving = self.state().manifest.serving.clone();
        let Some(version) = older_version::<P>(&serving, &self.sources.stores) else { return Ok(()) };
        let of = format!("{}@{version}", P::NAME);
        let verdict = match self.left::<P>(version, &of) {
            Ok(left) => match compare(building, fold, &left)? {
                Some(verdict) => verdict,
                None => return Ok(()), // it was stopped, and begins anew at the next start
            },
            Err(why) => Verdict::NotCompared(why),
        };
        self.judged(building, &of, &verdict);
        Ok(())
    }

    /// Opens it; says why not.
    fn left<Q: Projection>(&self, version: u32, of: &str) -> Result<Left, String> {
        let older = Q::older(version).ok_or("this paylog does not know how to read its rows")?;
        let stores = &self.sources.stores;
        let number = Manifest::read_of(stores, of).map_err(|error| error.to_string())?.serving.number;
        let name = name_of(of, number);
        let open = |path: &Path| -> Result<_, StoreError> {
            let rows = Store::open(path)?.snapshot()?;
            Ok((Standing::of(&rows)?, rows))
        };
        let (standing, rows) = open(&stores.join(&name)).map_err(|error| format!("they cannot be read: {error}"))?;
        let standing = standing.ok_or("they are of no log")?;
        standing.compare(self.sources.log.as_ref()).map_err(|error| error.to_string())?;
        Ok(Left { name, older, rows, at: standing.offsets })
    }

    fn judged(&self, building: &Building<'_, P>, of: &str, verdict: &Verdict) {
        let (phase, note) = match verdict {
            Verdict::Same(rows) => (Phase::Serving, format!("the same as {of} in {rows} rows, in what both define")),
            Verdict::Different(n, rows) => (Phase::Different, format!("{n} differences to {of} in {rows} rows")),
            Verdict::NotCompared(why) => (Phase::Serving, format!("it was not compared with {of}: {why}")),
        };
        for found in building.report.compared().shown.iter().take(LOGGED_MAX) {
            let (table, key, field) = (&found.table, &found.key, &found.field);
            let (older, newer) =
                (found.left.as_deref().unwrap_or("nothing"), found.right.as_deref().unwrap_or("nothing"));
            tracing::warn!(projection = P::NAME, table, key, field, older, newer, "rows of two versions differ");
        }
        let mut state = self.state();
        let serving = &mut state.manifest.serving;
        *serving = Version { note: Some(note.clone()), ..Version::new(serving.number, phase, self.now()) };
        self.live.withhold(withheld::<P>(serving, &self.sources.stores));
        match phase {
            Phase::Different => {
                tracing::error!(version = name::<P>(1), note, "what is folded now is other than before: it is withheld")
            }
            _ => tracing::info!(version = name::<P>(1), note, "what is folded now, and what was before"),
        }
        if let Err(error) = state.manifest.write::<P>(&self.sources.stores) {
            tracing::error!(%error, "the list of versions cannot be written");
        }
    }

    /// If it is the version in use that is meant, and that one is withheld.
    pub(super) fn accept_upgrade(&self, version: &str, by: &Signed, accepted: bool) -> Option<Result<(), NotDone>> {
        let mut state = self.state();
        let serving = state.manifest.serving.clone();
        if serving.phase != Phase::Different || name::<P>(serving.number) != version {
            return None;
        }
        if !accepted {
            return Some(Err(NotDone::NotTheSame(version.to_owned(), serving.phase)));
        }
        let (operator, reason, was) = (by.operator(), by.reason(), serving.note.unwrap_or_default());
        let note = Some(format!("{was}, accepted by {operator}: {reason}"));
        let serving = Version { note, ..Version::new(serving.number, Phase::Serving, self.now()) };
        let manifest = Manifest { serving, ..state.manifest.clone() };
        if let Err(error) = manifest.write::<P>(&self.sources.stores) {
            return Some(Err(error.into()));
        }
        state.manifest = manifest;
        self.live.withhold(None);
        tracing::warn!(version, operator, reason, was, "a version that differs from the one before it is accepted");
        Some(Ok(()))
    }
}

/// `None` if it was stopped.
fn compare<P: Served>(
    building: &Building<'_, P>,
    fold: &mut Fold<P>,
    left: &Left,
) -> Result<Option<Verdict>, FoldError> {
    let Left { name: of, older, rows, at } = left;
    let not = |why: String| Ok(Some(Verdict::NotCompared(why)));
    if !at.covers(&fold.progress().folded()) {
        return not("this version has been folded further already".to_owned());
    }
    tracing::info!(
        version = name::<P>(1),
        older = of,
        "folded to where the rows of the older code stand, to be compared"
    );
    match fold.fold_to(at, building.log, building.stop)? {
        FoldedTo::There => {}
        FoldedTo::Stopped => return Ok(None),
        FoldedTo::Halt(position) => return not(format!("it cannot fold the record at {position}, which that one has")),
    }
    let (built, _) = building.built.frozen()?;
    building.report.compares();
    let pair = Pair { left: rows, right: &built, codec: building.codec };
    let rows = building.compare(|found, after| compare_older::<P>(&pair, older, found, after))?;
    if building.stop.is_cancelled() {
        return Ok(None);
    }
    Ok(Some(match building.report.compared().differences {
        0 => Verdict::Same(rows),
        n => Verdict::Different(n, rows),
    }))
}

/// The latest before this one of which there is a store, if `serving` is the first of this one and was not held against it.
fn older_version<P: Projection>(serving: &Version, stores: &Path) -> Option<u32> {
    if serving.number != 1 || serving.phase != Phase::Serving || serving.note.is_some() {
        return None;
    }
    let entries: io::Result<Vec<_>> = std::fs::read_dir(stores).and_then(Iterator::collect);
    let prefix = format!("{}@", P::NAME);
    let version = |name: &str| name.strip_prefix(&prefix)?.split('.').next()?.parse::<u32>().ok();
    let directories = entries.unwrap_or_default().into_iter().filter(|entry| entry.path().is_dir());
    directories.filter_map(|entry| version(entry.file_name().to_str()?)).filter(|older| *older < P::VERSION).max()
}
