//! What operators wish of the versions, and what they are shown.

use super::super::FoldError;
use super::super::live::Served;
use super::manifest::{Manifest, Version, name};
use super::{EXCHANGE_MAX, Effort, NotDone, Phase, Rebuilds, Running, Status, Versions};
use crate::payment::Signed;

impl<P: Served> Rebuilds for Versions<P> {
    fn name(&self) -> &'static str {
        P::NAME
    }

    fn is_damaged(&self) -> bool {
        self.live.built().store.is_damaged()
    }

    fn compare(&self) -> Result<(), FoldError> {
        self.live.built().progress.compare(self.sources.log.as_ref())
    }

    fn versions(&self) -> Vec<Status> {
        let state = self.state();
        let Manifest { serving, other, .. } = &state.manifest;
        let status = |version: &Version| {
            let running = state.running.get(&version.number);
            let building = running.filter(|_| version.phase == Phase::Building);
            let folded = running.map_or(0, Running::folded);
            Status {
                version: name::<P>(version.number),
                phase: version.phase,
                since: version.since.clone(),
                note: version.note.clone(),
                folded,
                pace: building.map(|running| running.report.pace(folded)).unwrap_or_default(),
                compared: running.map(|running| running.report.compared()).unwrap_or_default(),
            }
        };
        [Some(serving), other.as_ref()].into_iter().flatten().map(status).collect()
    }

    fn rebuild(&self, effort: Option<Effort>) -> Result<String, NotDone> {
        let effort = effort.unwrap_or(self.sources.effort);
        let number = {
            let mut state = self.state();
            if let Some(other) = &state.manifest.other {
                return Err(NotDone::AlreadyThere(name::<P>(other.number), other.phase));
            }
            let number = state.manifest.last + 1;
            let other = Some(Version::new(number, Phase::Building, self.now()));
            let manifest = Manifest { other, last: number, ..state.manifest.clone() };
            manifest.write::<P>(&self.sources.stores)?;
            state.manifest = manifest;
            number
        };
        tracing::info!(version = name::<P>(number), "a version of a projection is built beside the one that is served");
        self.begin_anew(number, effort);
        Ok(name::<P>(number))
    }

    fn promote(&self, version: &str, by: &Signed, accepted: bool) -> Result<(), NotDone> {
        let (version, wish) = (version.to_owned(), "promoted");
        if let Some(accepted) = self.accept_upgrade(&version, by, accepted) {
            return accepted;
        }
        self.exchange(version, by, |version, phase| match phase {
            Phase::Verified => Ok(()),
            Phase::CaughtUp | Phase::Different if accepted => Ok(()),
            Phase::CaughtUp | Phase::Different => Err(NotDone::NotTheSame(version, phase)),
            Phase::Building | Phase::Uncompared | Phase::Serving | Phase::Retired | Phase::Failed => {
                Err(NotDone::NotNow { version, phase, wish })
            }
        })
    }

    fn rollback(&self, version: &str, by: &Signed) -> Result<(), NotDone> {
        let (version, wish) = (version.to_owned(), "gone back to");
        self.exchange(version, by, |version, phase| match phase {
            Phase::Retired => Ok(()),
            _ => Err(NotDone::NotNow { version, phase, wish }),
        })
    }

    fn cancel(&self, version: &str, by: &Signed) -> Result<(), NotDone> {
        let mut state = self.state();
        let Some(other) = state.manifest.other.clone().filter(|other| name::<P>(other.number) == version) else {
            return Err(NotDone::NoSuch(version.to_owned()));
        };
        let manifest = Manifest { other: None, ..state.manifest.clone() };
        manifest.write::<P>(&self.sources.stores)?;
        state.manifest = manifest;
        let open = state.running.remove(&other.number).map(|running| {
            running.stop.cancel();
            running.open_state()
        });
        state.condemned.push((other.number, open));
        let (operator, reason) = (by.operator(), by.reason());
        tracing::warn!(version, operator, reason, phase = %other.phase, "a version of a projection is let go");
        Ok(())
    }
}

impl<P: Served> Versions<P> {
    /// Serves the other version, if `may` allows it, and keeps the one that is served now.
    fn exchange(
        &self,
        version: String,
        by: &Signed,
        may: impl FnOnce(String, Phase) -> Result<(), NotDone>,
    ) -> Result<(), NotDone> {
        let mut state = self.state();
        let Some(other) = state.manifest.other.clone().filter(|other| name::<P>(other.number) == version) else {
            return Err(NotDone::NoSuch(version));
        };
        let running = state.running.get(&other.number);
        let following =
            running.filter(|running| running.report.does_follow()).and_then(|running| running.built.clone());
        // What is on its way will be something else soon.
        if following.is_some() || !matches!(other.phase, Phase::Building | Phase::CaughtUp) {
            may(version.clone(), other.phase)?;
        }
        let Some(to) = following else { return Err(NotDone::NotYet(version)) };
        // It would be the same as one that nobody has accepted, or nobody has judged.
        let serving = || name::<P>(state.manifest.serving.number);
        match state.manifest.serving.phase {
            Phase::Different => return Err(NotDone::NotTheSame(serving(), Phase::Different)),
            Phase::Uncompared => return Err(NotDone::NotYet(serving())),
            _ => {}
        }
        if let Err(behind) = self.live.meet(&to, EXCHANGE_MAX) {
            return Err(NotDone::Behind(version, behind));
        }
        let (operator, reason, now, before) = (by.operator(), by.reason(), self.now(), state.manifest.clone());
        let note = format!("{} until then, put in place by {operator}: {reason}", other.phase);
        let serving = Version { note: Some(note), ..Version::new(other.number, Phase::Serving, now.clone()) };
        let retired = Version::new(before.serving.number, Phase::Retired, now);
        let manifest = Manifest { serving, other: Some(retired), last: before.last };
        // First on disk: were the process killed now, the next would serve what was found to be right.
        manifest.write::<P>(&self.sources.stores)?;
        if let Err(behind) = self.live.exchange(&to, EXCHANGE_MAX) {
            before.write::<P>(&self.sources.stores)?;
            return Err(NotDone::Behind(version, behind));
        }
        state.manifest = manifest;
        tracing::warn!(version, was = %other.phase, operator, reason, "a version of a projection is served now");
        Ok(())
    }
}
