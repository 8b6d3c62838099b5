//! `paylog replay verify`: judges every record of the log, folds the log twice and compares the two, and compares them with
//! the rows of an instance at the offsets at which that one stands: its payments, and its totals, which have offsets of their
//! own.

use std::collections::HashSet;
use std::path::Path;
use std::sync::Arc;

use anyhow::Context;

use super::against::{Against, Stands, Told};
use super::feed::{Feed, Spans};
use super::folds::{self, Folding};
use super::judge::Judge;
use super::report::{Invariant, Report};
use super::selection::{Chosen, Selection};
use crate::journal::{Offset, Position, Reader, Span};
use crate::progress::Progress;
use crate::projection::totals::{Recount, Totals};
use crate::projection::{Fold, Folder, Gap, Offsets, Pair, Projection, Rejections, Row, Rows, compare, gaps, home_of};
use crate::schema::Codec;
use crate::store::Store;

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
    pub against: Option<Against>,
    pub selection: Selection,
    /// How far the log is read: its committed ends when this was made.
    pub ends: Offsets,
}

/// What a verification would read: which spans, and for what.
pub struct Reading {
    pub what: &'static str,
    pub spans: Vec<Span>,
}

/// What the log comes to, folded once. Totals are sums over all payments: of a part of them there are none.
struct Folded {
    payments: Folder,
    totals: Option<Fold<Totals>>,
    stores: (Store, Store),
}

/// One of the two times that the log is folded.
struct Pass<'p, 'j, 'v> {
    chosen: &'p Chosen<'v>,
    judge: Option<&'p mut Judge<'j>>,
    batch_max: usize,
    progress: &'p mut Progress,
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
        if !self.selection.is_everything() {
            let note = "totals are sums over all payments: with a choice of payments they are not looked at";
            report.notes.push(note.to_owned());
        }
        let rejected: HashSet<Position> = self.rejected.iter().copied().collect();
        let chosen = self.choose(Store::open(&work.join("chosen"))?, &mut progress)?;
        let stands = Stands::of(self, &rejected, &mut report)?;
        let mut first = self.begin(work, "first")?;
        {
            let scratch = Store::open(&work.join("judge"))?;
            let mut judge =
                Judge::new(&self.codec, &rejected, scratch, self.log.partitions(), &mut report).context("judging")?;
            progress.begin("judging and folding");
            let (judged, progress) = (Some(&mut judge), &mut progress);
            let pass = Pass { chosen: &chosen, judge: judged, batch_max: FIRST_BATCH, progress };
            self.fold_first(&mut first, &stands, pass)?;
            self.judge_rows(&first, &work.join("counted"), &mut judge)?;
        }
        progress.begin("folding again");
        let mut second = self.begin(work, "second")?;
        let pass = Pass { chosen: &chosen, judge: None, batch_max: SECOND_BATCH, progress: &mut progress };
        self.fold_both(&mut second, [&Offsets::start(self.log.partitions()), &self.ends], pass)?;
        self.compare_folds(&first, &second, &mut report)?;
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

    // === the folds ===

    fn begin(&self, work: &Path, name: &str) -> anyhow::Result<Folded> {
        let open = |what: &str| Store::open(&work.join(format!("{name}-{what}")));
        let stores = (open("payments")?, open("totals")?);
        let everything = self.selection.is_everything();
        let totals = everything.then(|| self.fold_of(&stores.1)).transpose()?;
        Ok(Folded { payments: self.fold_of(&stores.0)?, totals, stores })
    }

    fn fold_of<P: Projection>(&self, store: &Store) -> anyhow::Result<Fold<P>> {
        let rejections = Rejections::default();
        self.rejected.iter().for_each(|position| rejections.tell(*position));
        Ok(Fold::new(store.clone(), self.log, Arc::clone(&self.codec))?.heeding(&rejections)?)
    }

    /// Each to where the instance has its rows, to be compared there, and then both to the end. What both have before them is
    /// read once.
    fn fold_first(&self, first: &mut Folded, stands: &Stands, mut pass: Pass<'_, '_, '_>) -> anyhow::Result<()> {
        let start = Offsets::start(self.log.partitions());
        let of = |one: &Option<Offsets>, other: &Option<Offsets>| one.clone().or_else(|| other.clone());
        let payments = of(&stands.payments, &stands.totals).unwrap_or_else(|| start.clone());
        let totals = of(&stands.totals, &stands.payments).unwrap_or_else(|| start.clone());
        let (both, either) = (payments.least(&totals), payments.most(&totals));
        self.fold_both(first, [&start, &both], pass.again())?;
        self.fold(&mut [&mut first.payments], [&both, &payments], pass.again())?;
        if let (Some(_), Some(against), Some(judge)) = (&stands.payments, &self.against, &mut pass.judge) {
            against.compare_payments(self, &first.stores.0, pass.chosen, judge.report)?;
        }
        if let Some(fold) = &mut first.totals {
            self.fold(&mut [fold], [&both, &totals], pass.silently())?;
            if let (Some(_), Some(against), Some(judge)) = (&stands.totals, &self.against, &mut pass.judge) {
                against.compare_totals(self, &first.stores.1, judge.report)?;
            }
            self.fold(&mut [fold], [&totals, &either], pass.silently())?;
        }
        self.fold(&mut [&mut first.payments], [&payments, &either], pass.again())?;
        self.fold_both(first, [&either, &self.ends], pass)
    }

    fn fold_both(&self, folded: &mut Folded, way: [&Offsets; 2], pass: Pass<'_, '_, '_>) -> anyhow::Result<()> {
        match &mut folded.totals {
            Some(totals) => self.fold(&mut [totals, &mut folded.payments], way, pass),
            None => self.fold(&mut [&mut folded.payments], way, pass),
        }
    }

    /// Folds on from one vector of offsets to the other.
    fn fold(
        &self,
        folds: &mut [&mut dyn Folding],
        [from, to]: [&Offsets; 2],
        pass: Pass<'_, '_, '_>,
    ) -> anyhow::Result<()> {
        let mut spans = self.selection.spans(to);
        spans.iter_mut().for_each(|span| span.from = from.of(span.partition).min(span.to));
        if spans.iter().all(|span| span.from == span.to) {
            return Ok(());
        }
        let Pass { chosen, judge, batch_max, progress } = pass;
        let spans = Spans::open(self.log, &spans, progress)?;
        Ok(folds::fold(folds, Feed::new(spans, &self.codec, chosen, judge, batch_max))?)
    }

    // === the two against each other, and against the log ===

    fn compare_folds(&self, first: &Folded, second: &Folded, report: &mut Report) -> anyhow::Result<()> {
        let told = Told { invariant: Invariant::FoldedAlike, left: "the first fold", right: "the second" };
        report.counts.rows_folded_twice =
            self.compare_all::<crate::projection::Payments>(&first.stores.0, &second.stores.0, told, report)?;
        if first.totals.is_some() {
            let compared = self.compare_all::<Totals>(&first.stores.1, &second.stores.1, told, report)?;
            report.counts.sums_folded_twice = Some(compared);
        }
        Ok(())
    }

    pub(super) fn compare_all<P: Projection>(
        &self,
        left: &Store,
        right: &Store,
        told: Told,
        report: &mut Report,
    ) -> anyhow::Result<u64> {
        let pair = Pair { left: &left.snapshot()?, right: &right.snapshot()?, codec: &self.codec };
        Ok(compare::<P>(&pair, &Rows::All, &mut |found| told.tell::<P>(report, found), &mut |_| true)?)
    }

    /// The versions in the feed, and the ends that the log has against those of the fold; and the totals against what the
    /// payments come to, counted again in a store at `counted`.
    fn judge_rows(&self, first: &Folded, counted: &Path, judge: &mut Judge<'_>) -> anyhow::Result<()> {
        let (partitions, mut found) = (self.log.partitions(), Vec::new());
        let mut recount = first.totals.as_ref().map(|_| Recount::new(Store::open(counted)?)).transpose()?;
        let mut each = |row: &Row| {
            judge.ended_as(&row.payment, home_of(row.payment.id, partitions))?;
            recount.as_mut().map_or(Ok(()), |recount| recount.count(&row.payment))
        };
        let payments = gaps(&first.stores.0, &self.codec, partitions, &mut each, &mut |gap: Gap| found.push(gap))?;
        for Gap { payment, position, what } in found {
            judge.report.found(Invariant::VersionsWithoutGap, payment, position, what);
        }
        judge.report.counts.payments = payments;
        match recount {
            Some(recount) => self.judge_totals(&recount.end()?, &first.stores.1, judge.report),
            None => Ok(()),
        }
    }

    pub(super) fn judge_totals(&self, counted: &Store, totals: &Store, report: &mut Report) -> anyhow::Result<()> {
        let told = Told { invariant: Invariant::TotalsOfPayments, left: "what is counted again", right: "the fold" };
        report.counts.sums_counted_again = Some(self.compare_all::<Totals>(counted, totals, told, report)?);
        Ok(())
    }
}

impl<'j, 'v> Pass<'_, 'j, 'v> {
    /// The same, for one of several stretches.
    fn again(&mut self) -> Pass<'_, 'j, 'v> {
        let Self { chosen, judge, batch_max, progress } = self;
        Pass { chosen, judge: judge.as_deref_mut(), batch_max: *batch_max, progress }
    }

    /// The same, over records that are judged elsewhere.
    fn silently(&mut self) -> Pass<'_, 'j, 'v> {
        Pass { judge: None, ..self.again() }
    }
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
