//! The first start of code that folds otherwise than the code before it (another [`Projection::VERSION`]): its rows are held
//! against those that the older code has left, at the offsets at which these stand, over the tables and fields that both
//! define ([`Older`]). The older rows can be served no more, for nothing that runs can read all of them; so what differs is
//! withheld, and this instance is not ready, until an operator accepts it.
//!
//! Until there is a verdict on disk the fold goes no further than the older rows stand: killed, it begins anew. That the log
//! does not answer, or a file cannot be opened or written, is none.

use std::collections::BTreeSet;
use std::io;
use std::panic::AssertUnwindSafe;
use std::path::Path;
use std::time::Duration;

use super::super::Standing;
use super::super::difference::{Pair, compare_older};
use super::super::error::FoldError;
use super::super::fold::{Fold, FoldedTo, Projection};
use super::super::live::{Served, Withheld};
use super::super::older::Older;
use super::build::{Building, pause};
use super::manifest::{Manifest, Phase, Version, name, name_of};
use super::{NotDone, Versions};
use crate::journal::JournalError;
use crate::payment::Signed;
use crate::store::{Snapshot, Store, StoreError};

/// Before a question that the log did not answer is asked again.
const ASK_PAUSE: Duration = Duration::from_secs(1);
/// Differences that are logged: their list is in memory only.
const LOGGED_MAX: usize = 10;

/// What the older code has left.
struct Left {
    /// Its store, as that code called it.
    name: String,
    older: Older,
    rows: Snapshot,
    standing: Standing,
}

/// The version that was in use before, if it is known which of its stores was.
struct Before {
    version: u32,
    store: Result<String, String>,
}

/// What has come of it.
struct Verdict {
    phase: Phase,
    note: String,
}

impl Verdict {
    fn same(of: &str, rows: u64) -> Self {
        Self { phase: Phase::Serving, note: format!("the same as {of} in {rows} rows, in what both define") }
    }

    fn different(note: String) -> Self {
        Self { phase: Phase::Different, note }
    }

    fn not_compared(of: &str, why: &str) -> Self {
        Self { phase: Phase::Serving, note: format!("it was not compared with {of}: {why}") }
    }
}

/// Has it to be held against older rows? Then that is written down before anything is folded: whatever is not compared, for
/// it was gone back from before that, is nothing that a later version can be held against.
pub(super) fn mark<P: Projection>(manifest: &mut Manifest, stores: &Path, now: String) -> io::Result<()> {
    let Version { number, phase, note, .. } = &manifest.serving;
    if *number == 1 && *phase == Phase::Serving && note.is_none() && before::<P>(stores)?.is_some() {
        manifest.serving = Version::new(1, Phase::Uncompared, now);
        manifest.write::<P>(stores)?;
    }
    Ok(())
}

/// Of a version that is in use, whether or not it should be.
pub(super) fn withheld<P: Projection>(serving: &Version) -> Option<Withheld> {
    match serving.phase {
        Phase::Uncompared => Some(Withheld::NotCompared),
        Phase::Different => Some(Withheld::Differs(format!(
            "{} is withheld ({}): look at `paylog projection ls`, then accept it with `paylog projection promote \
             --accept-differences`, or go back to the older paylog",
            name::<P>(serving.number),
            serving.note.as_deref().unwrap_or_default()
        ))),
        _ => None,
    }
}

impl<P: Served> Versions<P> {
    /// Once, before the rows of this code have gone on from where the older ones stand. Answers whether they may.
    pub(super) fn hold_against_older(&self, building: &Building<'_, P>, fold: &mut Fold<P>) -> Result<bool, FoldError> {
        if self.state().manifest.serving.phase != Phase::Uncompared {
            return Ok(true);
        }
        match self.verdict(building, fold)? {
            Some(verdict) => self.judged(building, verdict).map(|()| true),
            None => Ok(false), // it was stopped, and begins anew at the next start
        }
    }

    /// `None` if it was stopped.
    fn verdict(&self, building: &Building<'_, P>, fold: &mut Fold<P>) -> Result<Option<Verdict>, FoldError> {
        let stores = &self.sources.stores;
        let Some(Before { version, store }) = before::<P>(stores).map_err(FoldError::Versions)? else {
            return Ok(Some(Verdict::not_compared("what was before it", "it is gone")));
        };
        let of = format!("{}@{version}", P::NAME);
        let not = |why: &str| Ok(Some(Verdict::not_compared(&of, why)));
        let store = match store {
            Ok(store) => store,
            Err(why) => return not(&why),
        };
        let Some(older) = P::older(version) else { return not("this paylog does not know how to read its rows") };
        let left = match left(stores, store, older) {
            Err(error) if error.is_damage() || matches!(error, StoreError::Foreign { .. }) => {
                return not(&format!("they cannot be read: {error}"));
            }
            left => left?,
        };
        match self.is_of_this_log(&left, building) {
            Ok(true) => compare(building, fold, &left),
            Ok(false) => Ok(None),
            Err(error @ (FoldError::OtherLog(_) | FoldError::Changed(_) | FoldError::Ahead(..))) => {
                not(&error.to_string())
            }
            Err(error) => Err(error),
        }
    }

    /// Waits for a log that does not answer. `false` if it was stopped.
    fn is_of_this_log(&self, left: &Left, building: &Building<'_, P>) -> Result<bool, FoldError> {
        while !building.stop.is_cancelled() {
            match left.standing.compare(building.log) {
                Err(FoldError::Journal(JournalError::Unavailable(reason))) if self.seldom.now() => {
                    tracing::warn!(reason, older = left.name, "rows cannot be compared yet: the log does not answer");
                }
                Err(FoldError::Journal(JournalError::Unavailable(_))) => {}
                compared => return compared.map(|()| true),
            }
            pause(ASK_PAUSE, building.stop);
        }
        Ok(false)
    }

    /// On disk first: a verdict that is forgotten would never be found again once the fold has gone on.
    fn judged(&self, building: &Building<'_, P>, verdict: Verdict) -> Result<(), FoldError> {
        let Verdict { phase, note } = verdict;
        for found in building.report.compared().shown.iter().take(LOGGED_MAX) {
            let (table, key, field) = (&found.table, &found.key, &found.field);
            let (older, newer) =
                (found.left.as_deref().unwrap_or("nothing"), found.right.as_deref().unwrap_or("nothing"));
            tracing::warn!(projection = P::NAME, table, key, field, older, newer, "rows of two versions differ");
        }
        let mut state = self.state();
        let number = state.manifest.serving.number;
        let serving = Version { note: Some(note.clone()), ..Version::new(number, phase, self.now()) };
        let manifest = Manifest { serving, ..state.manifest.clone() };
        manifest.write::<P>(&self.sources.stores).map_err(FoldError::Versions)?;
        state.manifest = manifest;
        self.live.withhold(withheld::<P>(&state.manifest.serving));
        let version = name::<P>(number);
        match phase {
            Phase::Different => {
                tracing::error!(version, note, "what is folded now is other than before: it is withheld");
            }
            _ => tracing::info!(version, note, "what is folded now, and what was before"),
        }
        Ok(())
    }

    /// If it is the version in use that is meant, and that one is withheld.
    pub(super) fn accept_upgrade(&self, version: &str, by: &Signed, accepted: bool) -> Option<Result<(), NotDone>> {
        let mut state = self.state();
        let serving = state.manifest.serving.clone();
        if name::<P>(serving.number) != version {
            return None;
        }
        match serving.phase {
            Phase::Different => {}
            Phase::Uncompared => return Some(Err(NotDone::NotYet(version.to_owned()))),
            _ => return None,
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
    let Left { name: of, older, rows, standing } = left;
    let (at, not) = (&standing.offsets, |why: &str| Ok(Some(Verdict::not_compared(of, why))));
    if !at.covers(&fold.progress().folded()) {
        return not("this version has been folded further already");
    }
    let version = name::<P>(1);
    tracing::info!(version, older = of, "folded to where the rows of the older code stand, to be compared");
    match fold.fold_to(at, building.log, building.stop)? {
        FoldedTo::There => {}
        FoldedTo::Stopped => return Ok(None),
        FoldedTo::Halt(position) => {
            let note = format!("it cannot fold the record at {position}, which {of} has folded");
            return Ok(Some(Verdict::different(note)));
        }
    }
    let (built, _) = building.built.frozen()?;
    building.report.compares();
    let pair = Pair { left: rows, right: &built, codec: building.codec };
    let compared = building.compare(|found, after| compare_older::<P>(&pair, older, found, after));
    let differences = building.report.compared().differences;
    match compared {
        // Whoever reads the rows of this code would have met the damage if it were there. Of what was read before, it says nothing.
        Err(error) if error.is_damage() && !building.built.store.is_damaged() && differences == 0 => {
            not(&format!("not all of them can be read: {error}"))
        }
        Err(error) if error.is_damage() && !building.built.store.is_damaged() => {
            let note = format!("{differences} differences to {of}, of which not all can be read: {error}");
            Ok(Some(Verdict::different(note)))
        }
        Err(error) => Err(error.into()),
        Ok(_) if building.stop.is_cancelled() => Ok(None),
        Ok(rows) if differences == 0 => Ok(Some(Verdict::same(of, rows))),
        Ok(rows) => Ok(Some(Verdict::different(format!("{differences} differences to {of} in {rows} rows")))),
    }
}

/// Opens it as it is.
fn left(stores: &Path, name: String, older: Older) -> Result<Left, StoreError> {
    let store = Store::open(&stores.join(&name))?;
    // fjall asserts on damaged bytes.
    let read = std::panic::catch_unwind(AssertUnwindSafe(|| {
        let rows = store.snapshot()?;
        Ok((Standing::of(&rows)?, rows))
    }));
    match read.unwrap_or_else(|_| Err(StoreError::Damaged("where it stands cannot be read".to_owned())))? {
        (Some(standing), rows) => Ok(Left { name, older, rows, standing }),
        (None, _) => Err(StoreError::Damaged("it does not say of which log it is".to_owned())),
    }
}

/// The latest version before this one that was in use: not one that is withheld itself, or was never held against those
/// before it.
fn before<P: Projection>(stores: &Path) -> io::Result<Option<Before>> {
    let entries: Vec<_> = match std::fs::read_dir(stores) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
        entries => entries?.collect::<io::Result<_>>()?,
    };
    let versions = entries.iter().filter_map(|entry| version_of::<P>(entry.file_name().to_str()?));
    let versions: BTreeSet<u32> = versions.filter(|version| *version < P::VERSION).collect();
    for version in versions.into_iter().rev() {
        let of = format!("{}@{version}", P::NAME);
        let store = match Manifest::read_of(stores, &of) {
            Ok(Manifest { serving, .. }) => {
                let store = name_of(&of, serving.number);
                if serving.phase != Phase::Serving || !stores.join(&store).is_dir() {
                    continue;
                }
                Ok(store)
            }
            Err(error) if error.kind() == io::ErrorKind::InvalidData => Err(error.to_string()),
            Err(error) => return Err(error),
        };
        return Ok(Some(Before { version, store }));
    }
    Ok(None)
}

/// Of the directory of a store: `payments@3`, `payments@3.2`, and nothing else that stands beside them.
fn version_of<P: Projection>(directory: &str) -> Option<u32> {
    let version = directory.strip_prefix(P::NAME)?.strip_prefix('@')?;
    let (version, number) = version.split_once('.').unwrap_or((version, "1"));
    let version: u32 = version.parse().ok()?;
    (name_of(&format!("{}@{version}", P::NAME), number.parse().ok()?) == directory).then_some(version)
}
