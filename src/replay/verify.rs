//! `paylog replay verify`: judges every record of the log, folds the log twice and compares the two, and compares them with
//! the rows of an instance at the offsets at which that one stands.

use std::collections::HashSet;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use tracing::subscriber::{NoSubscriber, with_default};

use super::feed::{Feed, Spans};
use super::judge::Judge;
use super::report::{Invariant, Report};
use super::selection::{Chosen, Selection};
use crate::clock::Clocks;
use crate::journal::{Offset, Position, Reader, Span};
use crate::progress::Progress;
use crate::projection::{
    Difference, Folder, Gap, Offsets, Pair, Payments, Rejections, Rows, compare, gaps, home_of, is_empty, passed_over,
    stands_at,
};
use crate::schema::Codec;
use crate::store::{Store, StoreError};

/// How long one turn of a fold waits for the log.
const TURN: Duration = Duration::from_millis(200);
/// Records that the first fold takes at once, and the second: a prime, so that their batches never end together.
const FIRST_BATCH: usize = 5_000;
const SECOND_BATCH: usize = 1_009;

/// A verification that has not begun: what is read, and against what.
pub struct Verification<'a> {
    pub log: &'a dyn Reader,
    pub codec: Arc<Codec>,
    /// What operators have rejected, by the control log.
    pub rejected: &'a [Position],
    /// The rows of an instance that stands still.
    pub against: Option<Store>,
    pub selection: Selection,
    /// How far the log is read: its committed ends when this was made.
    pub ends: Offsets,
}

/// What a verification would read: which spans, and for what.
pub struct Reading {
    pub what: &'static str,
    pub spans: Vec<Span>,
}

/// The committed ends of the log, now: one vector of offsets.
pub fn ends_of(log: &dyn Reader) -> anyhow::Result<Offsets> {
    Offsets::ends_of(log).context("cannot ask where the log ends")
}

impl Verification<'_> {
    /// Everything that would be read, pass by pass. Reads nothing.
    #[must_use]
    pub fn readings(&self) -> Vec<Reading> {
        let spans = self.selection.spans(&self.ends);
        let look = Reading { what: "choosing the payments", spans: self.selection.looked_at(&self.ends) };
        let folds = ["judging and folding", "folding again"].map(|what| Reading { what, spans: spans.clone() });
        [look].into_iter().chain(folds).filter(|reading| !reading.spans.is_empty()).collect()
    }

    /// Does it, with its stores in `work`, an empty directory. Keeps at most `shown_max` findings of each invariant.
    pub fn run(&self, work: &Path, shown_max: usize) -> anyhow::Result<Report> {
        let total = self.readings().iter().flat_map(|reading| &reading.spans).map(Span::len_max).sum();
        let (mut progress, mut report) = (Progress::new("reading", "offsets", total), Report::new(shown_max));
        let rejected: HashSet<Position> = self.rejected.iter().copied().collect();
        let chosen = self.choose(Store::open(&work.join("chosen"))?, &mut progress)?;
        let stand = self.stand(&rejected, &mut report)?;
        let first = Store::open(&work.join("first"))?;
        {
            let scratch = Store::open(&work.join("judge"))?;
            let mut judge =
                Judge::new(&self.codec, &rejected, scratch, self.log.partitions(), &mut report).context("judging")?;
            progress.begin("judging and folding");
            let mut folder = self.folder(&first)?;
            let from = Offsets::start(self.log.partitions());
            if let (Some(stand), Some(store)) = (&stand, &self.against) {
                self.fold(&mut folder, (&from, stand), &chosen, Some(&mut judge), FIRST_BATCH, &mut progress)?;
                self.compare_store(&first, store, &chosen, judge.report)?;
            }
            let from = stand.unwrap_or(from);
            self.fold(&mut folder, (&from, &self.ends), &chosen, Some(&mut judge), FIRST_BATCH, &mut progress)?;
            self.judge_rows(&first, &mut judge)?;
        }
        progress.begin("folding again");
        let second = Store::open(&work.join("second"))?;
        let from = Offsets::start(self.log.partitions());
        let mut folder = self.folder(&second)?;
        self.fold(&mut folder, (&from, &self.ends), &chosen, None, SECOND_BATCH, &mut progress)?;
        let mut found = |difference: Difference| {
            tell_difference(&mut report, Invariant::FoldedAlike, difference, ("the first fold", "the second"))
        };
        let pair = Pair { left: &first.snapshot()?, right: &second.snapshot()?, codec: &self.codec };
        let rows = compare::<Payments>(&pair, &Rows::All, &mut found, &mut |_| true)?;
        report.counts.rows_folded_twice = rows;
        progress.end();
        Ok(report)
    }

    fn choose(&self, store: Store, progress: &mut Progress) -> anyhow::Result<Chosen<'_>> {
        let mut chosen = Chosen::new(&self.selection, store)?;
        let spans = self.selection.looked_at(&self.ends);
        if !spans.is_empty() {
            progress.begin("choosing the payments");
            Spans::open(self.log, &spans, progress)?.each(|written| {
                match self.codec.decode(&written.record.value) {
                    Ok(event) => chosen.look(&written.record, &event).map_err(anyhow::Error::from),
                    Err(_) => Ok(()),
                }
            })?;
        }
        Ok(chosen)
    }

    // === the rows of an instance ===

    /// Where the store stands, if there is one, and if this log has come so far.
    fn stand(&self, rejected: &HashSet<Position>, report: &mut Report) -> anyhow::Result<Option<Offsets>> {
        let Some(store) = &self.against else { return Ok(None) };
        let Some((log, stand)) = stands_at(store)? else {
            if is_empty(&store.snapshot()?)? {
                report.notes.push("the store is empty: nothing is compared with it".to_owned());
            } else {
                let what = "the store has rows, and does not say of which log: it is damaged".to_owned();
                report.found(Invariant::StoreAsFolded, None, None, what);
            }
            return Ok(None);
        };
        if log != self.log.log_id() {
            bail!(
                "the rows are of another log ({log}) than the one that is read ({}): they cannot be compared",
                self.log.log_id()
            );
        }
        for position in passed_over(store)?.into_iter().filter(|position| !rejected.contains(position)) {
            let what = "the store has passed over it, and no operator has rejected it".to_owned();
            report.found(Invariant::RejectedHonoured, None, Some(position), what);
        }
        let lost: Vec<Position> = stand.positions().filter(|next| next.offset > self.ends.of(next.partition)).collect();
        for next in &lost {
            let what = format!(
                "the store was folded to offset {}, and the log ends at {}",
                next.offset,
                self.ends.of(next.partition)
            );
            report.found(Invariant::InOrder, None, Some(*next), what);
        }
        Ok(lost.is_empty().then_some(stand))
    }

    fn compare_store(
        &self,
        first: &Store,
        store: &Store,
        chosen: &Chosen<'_>,
        report: &mut Report,
    ) -> anyhow::Result<()> {
        let failed = std::cell::RefCell::new(None);
        let is_meant = |id| chosen.has(id).unwrap_or_else(|error| failed.replace(Some(error)).is_some());
        let rows = if self.selection.is_everything() { Rows::All } else { Rows::Of(&is_meant) };
        let mut found = |difference: Difference| {
            tell_difference(report, Invariant::StoreAsFolded, difference, ("the fold", "the store"))
        };
        let pair = Pair { left: &first.snapshot()?, right: &store.snapshot()?, codec: &self.codec };
        let compared = compare::<Payments>(&pair, &rows, &mut found, &mut |_| true)?;
        if let Some(error) = failed.into_inner() {
            return Err(StoreError::into(error));
        }
        report.counts.rows_of_the_store = Some(compared);
        Ok(())
    }

    // === the folds ===

    fn folder(&self, store: &Store) -> anyhow::Result<Folder> {
        let rejections = Rejections::default();
        self.rejected.iter().for_each(|position| rejections.tell(*position));
        let (folder, _) = Folder::open(store.clone(), self.log, Arc::clone(&self.codec), Clocks::system())?;
        Ok(folder.heeding(&rejections)?)
    }

    /// Folds on from one vector of offsets to the other, in silence: what a fold says of halts and second ends is in the
    /// report.
    fn fold<'j>(
        &self,
        folder: &mut Folder,
        (from, to): (&Offsets, &Offsets),
        chosen: &Chosen<'_>,
        judge: Option<&mut Judge<'j>>,
        batch_max: usize,
        progress: &mut Progress,
    ) -> anyhow::Result<()> {
        let mut spans = self.selection.spans(to);
        spans.iter_mut().for_each(|span| span.from = from.of(span.partition).min(span.to));
        let spans = Spans::open(self.log, &spans, progress)?;
        let mut feed = Feed::new(spans, &self.codec, chosen, judge, batch_max);
        with_default(NoSubscriber::default(), || {
            while !feed.is_done() {
                folder.turn(&mut feed, TURN)?;
            }
            Ok(())
        })
    }

    /// The versions in the feed, and the ends that the log has against those of the fold.
    fn judge_rows(&self, store: &Store, judge: &mut Judge<'_>) -> anyhow::Result<()> {
        let (partitions, mut found) = (self.log.partitions(), Vec::new());
        let mut ended =
            |row: &crate::projection::Row| judge.ended_as(&row.payment, home_of(row.payment.id, partitions));
        let payments = gaps(store, &self.codec, partitions, &mut ended, &mut |gap: Gap| found.push(gap))?;
        for Gap { payment, position, what } in found {
            judge.report.found(Invariant::VersionsWithoutGap, payment, position, what);
        }
        judge.report.counts.payments = payments;
        Ok(())
    }
}

fn tell_difference(report: &mut Report, invariant: Invariant, difference: Difference, (left, right): (&str, &str)) {
    let Difference { table, key, field, payment, position, left: one, right: other } = difference;
    let said = |value: Option<String>| value.unwrap_or_else(|| "nothing".to_owned());
    let what = format!("{table}, {key}, {field}: {left} has {}, {right} has {}", said(one), said(other));
    report.found(invariant, payment, position, what);
}

/// For messages: `0:17 1:4`.
#[must_use]
pub fn shown(offsets: &Offsets) -> String {
    offsets
        .positions()
        .map(|Position { partition, offset: Offset(offset) }| format!("{partition}:{offset}"))
        .collect::<Vec<_>>()
        .join(" ")
}
