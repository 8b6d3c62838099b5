//! The way of one version, on a thread of its own: folded from the start of the log, compared with the version that is
//! served, and then folded on. It can write to its own store and to nothing else.

use std::time::{Duration, Instant};

use tokio_util::sync::CancellationToken;

use super::super::difference::{Difference, Pair, Rows, compare};
use super::super::error::FoldError;
use super::super::fold::{Fold, FoldedTo};
use super::super::live::{Live, Served};
use super::super::{Built, Offsets};
use super::manifest::Phase;
use super::report::Report;
use crate::journal::Reader;
use crate::schema::Codec;
use crate::store::StoreError;

/// Between two questions where the log ends.
const ASK_EVERY: Duration = Duration::from_secs(5);
/// Between two looks whether it should stop.
const TURN: Duration = Duration::from_millis(20);
/// How long the version that is served may stand still on its way to where the new one is.
const MEET_MAX: Duration = Duration::from_secs(30);
/// Records that are folded, and rows that are compared, at a stretch by one that rests in between: about a millisecond's work,
/// for as long may what is served have to wait for a processor.
const STRETCH_MAX: usize = 200;

/// The part of the time in which it may work, so that what is served is disturbed less: it works for a batch, and then rests
/// in proportion.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Effort(u32);

pub(super) struct Building<'a, P: Served> {
    pub log: &'a dyn Reader,
    pub codec: &'a Codec,
    pub live: &'a Live<P>,
    pub built: &'a Built<P>,
    pub report: &'a Report,
    pub effort: Effort,
    pub stop: &'a CancellationToken,
    /// Called at every new phase, with what there is to say of it.
    pub reached: &'a dyn Fn(Phase, Option<String>),
}

impl Effort {
    /// It never rests.
    pub const FULL: Self = Self(100);

    /// In percent of the time, 1 to 100.
    #[must_use]
    pub fn percent(percent: u32) -> Option<Self> {
        (1..=100).contains(&percent).then_some(Self(percent))
    }

    pub(super) fn batch_max(self) -> Option<usize> {
        (self != Self::FULL).then_some(STRETCH_MAX)
    }

    /// After so much work.
    #[must_use]
    pub fn rest(self, worked: Duration) -> Duration {
        worked * (100 - self.0) / self.0
    }
}

impl<P: Served> Building<'_, P> {
    /// From `phase`, in which it was left, until told to stop.
    pub fn run(&self, mut fold: Fold<P>, phase: Phase) -> Result<(), FoldError> {
        if matches!(phase, Phase::Building) {
            self.build(&mut fold)?;
            if self.stop.is_cancelled() {
                return Ok(());
            }
            (self.reached)(Phase::CaughtUp, None);
            self.verify(&mut fold)?;
        }
        self.report.follows();
        fold.run(self.log, self.stop)
    }

    /// To the end of the log.
    fn build(&self, fold: &mut Fold<P>) -> Result<(), FoldError> {
        let (progress, mut asked) = (fold.progress(), None::<Instant>);
        fold.set_batch_max(self.effort.batch_max());
        fold.follow(self.log, self.stop, &mut |worked| {
            let now = Instant::now();
            if asked.is_none_or(|asked| now.duration_since(asked) >= ASK_EVERY) {
                asked = Some(now);
                // The next answer will do as well.
                Offsets::ends_of(self.log).into_iter().for_each(|ends| self.report.ends_at(&ends));
            }
            self.report.passed(progress.folded().sum(), now);
            if progress.caught_up() {
                return false;
            }
            pause(self.effort.rest(worked), self.stop);
            true
        })?;
        fold.set_batch_max(None);
        Ok(())
    }

    /// At the same offsets, row by row.
    fn verify(&self, fold: &mut Fold<P>) -> Result<(), FoldError> {
        let tell = |note: String| (self.reached)(Phase::CaughtUp, Some(format!("it was not compared: {note}")));
        if !self.meet() {
            if !self.stop.is_cancelled() {
                tell(
                    "the version that is served does not come as far as this one (has a partition halted?)".to_owned(),
                );
            }
            return Ok(());
        }
        let served = self.live.built();
        let (frozen, at) = served.frozen()?;
        match fold.fold_to(&at, self.log, self.stop)? {
            FoldedTo::There => {}
            FoldedTo::Stopped => return Ok(()),
            FoldedTo::Halt(position) => {
                tell(format!("it cannot fold the record at {position}, which the version that is served has folded"));
                return Ok(());
            }
        }
        let (built, _) = self.built.frozen()?;
        self.report.compares();
        let pair = Pair { left: &frozen, right: &built, codec: self.codec };
        match self.compare(|found, after| compare::<P>(&pair, &Rows::All, found, after)) {
            // What is served is damaged, and this version is not the worse for it.
            Err(error) if served.store.is_damaged() && !self.built.store.is_damaged() => {
                tell(format!("the version that is served cannot be read: {error}"));
            }
            Err(error) => return Err(error.into()),
            Ok(_) if self.stop.is_cancelled() => {}
            Ok(rows) => match self.report.compared().differences {
                0 => (self.reached)(Phase::Verified, Some(format!("the same in {rows} rows"))),
                n => (self.reached)(Phase::Different, Some(format!("{n} differences in {rows} rows"))),
            },
        }
        Ok(())
    }

    /// By `with`, which tells every difference and is told when to stop. Answers with how many rows were compared.
    pub fn compare(
        &self,
        with: impl FnOnce(&mut dyn FnMut(Difference), &mut dyn FnMut(u64) -> bool) -> Result<u64, StoreError>,
    ) -> Result<u64, StoreError> {
        let mut worked = Instant::now();
        let mut after = |rows: u64| {
            if rows.is_multiple_of(STRETCH_MAX as u64) {
                self.report.compared_to(rows);
                pause(self.effort.rest(worked.elapsed()), self.stop);
                worked = Instant::now();
            }
            !self.stop.is_cancelled()
        };
        let rows = with(&mut |found| self.report.differs(found), &mut after)?;
        self.report.compared_to(rows);
        Ok(rows)
    }

    /// Waits until the version that is served is as far as this one, which stands still; not for ever, if it stands still too.
    fn meet(&self) -> bool {
        let (mut moved, mut stands_at) = (Instant::now(), None);
        while !self.stop.is_cancelled() {
            let folded = self.live.built().progress.folded();
            if folded.covers(&self.built.progress.folded()) {
                return true;
            }
            if stands_at.as_ref() != Some(&folded) {
                (moved, stands_at) = (Instant::now(), Some(folded));
            }
            if moved.elapsed() > MEET_MAX {
                return false;
            }
            pause(TURN, self.stop);
        }
        false
    }
}

/// No longer than until it is stopped.
pub(super) fn pause(time: Duration, stop: &CancellationToken) {
    let until = Instant::now() + time;
    while !stop.is_cancelled() {
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return;
        }
        std::thread::sleep(left.min(TURN));
    }
}
