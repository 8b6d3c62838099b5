//! The rows of an instance that stands still: where they stand, and whether they are what the log folds to.

use std::cell::RefCell;
use std::collections::HashSet;

use anyhow::bail;

use super::report::{Invariant, Report};
use super::selection::Chosen;
use super::verify::Verification;
use crate::journal::{LogId, Position};
use crate::projection::totals::Totals;
use crate::projection::{
    Difference, Offsets, Pair, Payments, Projection, Rows, Standing, compare, is_empty, passed_over, stands_at,
    tables_of_one,
};
use crate::store::{Store, StoreError};

#[derive(Clone)]
pub struct Against {
    pub payments: Store,
    /// `None` if the instance keeps none.
    pub totals: Option<Store>,
}

/// How far each store was folded; nothing for one that cannot be compared.
#[derive(Default)]
pub(super) struct Stands {
    pub payments: Option<Offsets>,
    pub totals: Option<Offsets>,
}

/// As what differences are told, and what the two sides are called.
#[derive(Clone, Copy)]
pub(super) struct Told {
    pub invariant: Invariant,
    pub left: &'static str,
    pub right: &'static str,
}

const AS_FOLDED: Told = Told { invariant: Invariant::StoreAsFolded, left: "the fold", right: "the store" };

impl Stands {
    pub fn of(
        verification: &Verification<'_>,
        rejected: &HashSet<Position>,
        report: &mut Report,
    ) -> anyhow::Result<Self> {
        let Some(Against { payments, totals }) = &verification.against else { return Ok(Self::default()) };
        let payments = stand::<Payments>(payments, verification, rejected, report)?;
        let totals = match totals {
            Some(_) if !verification.selection.is_everything() => None,
            Some(totals) => stand::<Totals>(totals, verification, rejected, report)?,
            None => {
                report.notes.push("the instance keeps no totals: there is nothing to compare those with".to_owned());
                None
            }
        };
        Ok(Self { payments, totals })
    }
}

/// Where the store stands, if this log has come so far.
fn stand<P: Projection>(
    store: &Store,
    Verification { log, ends, .. }: &Verification<'_>,
    rejected: &HashSet<Position>,
    report: &mut Report,
) -> anyhow::Result<Option<Offsets>> {
    let Some((of, stand)) = stands_at(store)? else {
        if is_empty(&store.snapshot()?)? {
            report.notes.push(format!("{} is empty: nothing is compared with it", store_of::<P>()));
        } else {
            let what = format!("{} has rows, and does not say of which log: it is damaged", store_of::<P>());
            report.found(Invariant::StoreAsFolded, None, None, what);
        }
        return Ok(None);
    };
    refuse_another(of, log.log_id())?;
    if let Err(error) = Standing::of(&store.snapshot()?) {
        report.found(Invariant::StoreAsFolded, None, None, format!("{}: {error}", store_of::<P>()));
    }
    for position in passed_over(store)?.into_iter().filter(|position| !rejected.contains(position)) {
        let what = format!("{} has passed over it, and no operator has rejected it", store_of::<P>());
        report.found(Invariant::RejectedHonoured, None, Some(position), what);
    }
    let lost: Vec<Position> = stand.positions().filter(|next| next.offset > ends.of(next.partition)).collect();
    for next in &lost {
        let end = ends.of(next.partition);
        let what = format!("{} was folded to offset {}, and the log ends at {end}", store_of::<P>(), next.offset);
        report.found(Invariant::InOrder, None, Some(*next), what);
    }
    Ok(lost.is_empty().then_some(stand))
}

fn refuse_another(of: LogId, log: LogId) -> anyhow::Result<()> {
    if of != log {
        bail!("the rows are of another log ({of}) than the one that is read ({log}): they cannot be compared");
    }
    Ok(())
}

impl Against {
    /// `fold` stands where they stand.
    pub(super) fn compare_payments(
        &self,
        verification: &Verification<'_>,
        fold: &Store,
        chosen: &Chosen<'_>,
        report: &mut Report,
    ) -> anyhow::Result<()> {
        let failed = RefCell::new(None);
        let is_meant = |id| chosen.has(id).unwrap_or_else(|error| failed.replace(Some(error)).is_some());
        let rows = if verification.selection.is_everything() { Rows::All } else { Rows::Of(&is_meant) };
        let pair = Pair { left: &fold.snapshot()?, right: &self.payments.snapshot()?, codec: &verification.codec };
        same_tables::<Payments>(&pair, report);
        let mut found = |difference| AS_FOLDED.tell::<Payments>(report, difference);
        let compared = compare::<Payments>(&pair, &rows, &mut found, &mut |_| true)?;
        if let Some(error) = failed.into_inner() {
            return Err(StoreError::into(error));
        }
        report.counts.rows_of_the_store = Some(compared);
        Ok(())
    }

    /// The same for the totals.
    pub(super) fn compare_totals(
        &self,
        verification: &Verification<'_>,
        fold: &Store,
        report: &mut Report,
    ) -> anyhow::Result<()> {
        let Some(totals) = &self.totals else { return Ok(()) };
        let pair = Pair { left: &fold.snapshot()?, right: &totals.snapshot()?, codec: &verification.codec };
        same_tables::<Totals>(&pair, report);
        report.counts.sums_of_the_store = Some(verification.compare_all::<Totals>(fold, totals, AS_FOLDED, report)?);
        Ok(())
    }
}

/// Rows are compared where both have the table.
fn same_tables<P: Projection>(pair: &Pair<'_>, report: &mut Report) {
    let (missing, strange) = tables_of_one(pair);
    for (tables, what) in [(missing, "has no table"), (strange, "has a table that is not its own:")] {
        for table in tables {
            report.found(Invariant::StoreAsFolded, None, None, format!("{} {what} {table}", store_of::<P>()));
        }
    }
}

fn store_of<P: Projection>() -> String {
    format!("the store of {}", P::NAME)
}

impl Told {
    pub fn tell<P: Projection>(self, report: &mut Report, difference: Difference) {
        let Self { invariant, left, right } = self;
        let Difference { table, key, field, payment, position, left: one, right: other } = difference;
        let said = |value: Option<String>| value.unwrap_or_else(|| "nothing".to_owned());
        // Both projections have a table of payments.
        let of = if P::NAME == Payments::NAME { String::new() } else { format!("{}/", P::NAME) };
        let what = format!("{of}{table}, {key}, {field}: {left} has {}, {right} has {}", said(one), said(other));
        report.found(invariant, payment, position, what);
    }
}
