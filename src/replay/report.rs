//! What a verification has found: every finding with its invariant, its payment and its place. All are counted; those that
//! are kept, to be shown, are bounded for each invariant.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Serialize, Serializer};

use crate::journal::Position;
use crate::payment::PaymentId;

/// What must hold. The names are part of the command's contract.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Invariant {
    /// Every record is an event that this version can read.
    Readable,
    /// Headers say what the value says.
    HeadersAgree,
    /// A record has the key of its payment, and stands on the partition that Java's partitioner gives to that key.
    OnItsPartition,
    /// Offsets grow, and the log is there from its beginning to its end.
    InOrder,
    /// The first record of a payment is its `PaymentInProgress`.
    InitiatedFirst,
    /// A payment never ends in two ways.
    EndedOnce,
    /// Versions are 1, 2, 3 without a gap.
    VersionsWithoutGap,
    /// What was passed over is what an operator has rejected.
    RejectedHonoured,
    /// Two folds of the log come to the same rows.
    FoldedAlike,
    /// The rows of an instance are what the log folds to.
    StoreAsFolded,
    /// The totals are what the payments come to, counted again.
    TotalsOfPayments,
    /// A warning: the same end was recorded again.
    EndedAgain,
    /// A warning: a writer's clock was far off the log's.
    ClockOff,
}

/// Something that is not as it must be, or a warning.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    pub invariant: Invariant,
    #[serde(serialize_with = "as_text")]
    pub payment: Option<PaymentId>,
    #[serde(serialize_with = "as_text")]
    pub position: Option<Position>,
    /// One line; repeats nothing of a record that cannot be read.
    pub what: String,
}

/// Everything that was found, and how much was looked at.
#[derive(Debug, Default, Serialize)]
pub struct Report {
    pub counts: Counts,
    /// How often each was found, shown or not.
    pub totals: BTreeMap<Invariant, u64>,
    pub findings: Vec<Finding>,
    /// What could not be looked at, and why.
    pub notes: Vec<String>,
    #[serde(skip)]
    shown_max: usize,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Counts {
    pub records: u64,
    pub rejected: u64,
    pub payments: u64,
    /// Rows of the two folds that were compared.
    pub rows_folded_twice: u64,
    /// Rows of an instance's store that were compared; `None` if there was none.
    pub rows_of_the_store: Option<u64>,
    /// The same for the rows of totals; `None` with a choice of payments.
    pub sums_folded_twice: Option<u64>,
    pub sums_of_the_store: Option<u64>,
    /// Sums that were counted again from the payments.
    pub sums_counted_again: Option<u64>,
}

impl Invariant {
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Readable => "readable",
            Self::HeadersAgree => "headers_agree",
            Self::OnItsPartition => "on_its_partition",
            Self::InOrder => "in_order",
            Self::InitiatedFirst => "initiated_first",
            Self::EndedOnce => "ended_once",
            Self::VersionsWithoutGap => "versions_without_gap",
            Self::RejectedHonoured => "rejected_honoured",
            Self::FoldedAlike => "folded_alike",
            Self::StoreAsFolded => "store_as_folded",
            Self::TotalsOfPayments => "totals_of_payments",
            Self::EndedAgain => "ended_again",
            Self::ClockOff => "clock_off",
        }
    }

    /// Someone should look, but nothing is broken.
    #[must_use]
    pub fn is_warning(self) -> bool {
        matches!(self, Self::EndedAgain | Self::ClockOff)
    }
}

impl Report {
    /// Keeps at most `shown_max` findings of each invariant.
    #[must_use]
    pub fn new(shown_max: usize) -> Self {
        Self { shown_max, ..Self::default() }
    }

    pub fn found(
        &mut self,
        invariant: Invariant,
        payment: Option<PaymentId>,
        position: Option<Position>,
        what: String,
    ) {
        let total = self.totals.entry(invariant).or_default();
        *total += 1;
        if *total <= self.shown_max as u64 {
            self.findings.push(Finding { invariant, payment, position, what });
        }
    }

    #[must_use]
    pub fn violations(&self) -> u64 {
        self.totals.iter().filter(|(invariant, _)| !invariant.is_warning()).map(|(_, total)| total).sum()
    }

    #[must_use]
    pub fn warnings(&self) -> u64 {
        self.totals.iter().filter(|(invariant, _)| invariant.is_warning()).map(|(_, total)| total).sum()
    }
}

impl Serialize for Invariant {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name())
    }
}

fn as_text<T: fmt::Display, S: Serializer>(value: &Option<T>, serializer: S) -> Result<S::Ok, S::Error> {
    match value {
        Some(value) => serializer.collect_str(value),
        None => serializer.serialize_none(),
    }
}

/// `VIOLATION ended_once pay_... at 3:17: ...`
impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.invariant.is_warning() { "warning " } else { "VIOLATION " })?;
        f.write_str(self.invariant.name())?;
        if let Some(payment) = self.payment {
            write!(f, " {payment}")?;
        }
        if let Some(position) = self.position {
            write!(f, " at {position}")?;
        }
        write!(f, ": {}", self.what)
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // By payment, so that all of one stands together.
        let mut findings: Vec<&Finding> = self.findings.iter().collect();
        findings.sort_by_key(|finding| {
            let position = finding.position.map(|position| (position.partition, position.offset));
            (finding.invariant.is_warning(), finding.payment, position, finding.invariant)
        });
        for finding in findings {
            writeln!(f, "{finding}")?;
        }
        for (invariant, total) in self.totals.iter().filter(|(_, total)| **total > self.shown_max as u64) {
            writeln!(f, "{}: {} of {total} are shown", invariant.name(), self.shown_max)?;
        }
        for note in &self.notes {
            writeln!(f, "note: {note}")?;
        }
        let Counts { records, rejected, payments, rows_folded_twice, rows_of_the_store, .. } = &self.counts;
        let Counts { sums_folded_twice, sums_of_the_store, sums_counted_again, .. } = &self.counts;
        writeln!(f, "{records} records of {payments} payments judged, {rejected} rejected ones passed over")?;
        writeln!(f, "{rows_folded_twice} rows folded twice and compared")?;
        match rows_of_the_store {
            Some(rows) => writeln!(f, "{rows} rows compared with those of the store")?,
            None => writeln!(f, "compared with no store (see --against)")?,
        }
        if let Some((twice, again)) = sums_folded_twice.zip(*sums_counted_again) {
            writeln!(
                f,
                "{twice} rows of totals folded twice and compared, {again} sums counted again from the payments"
            )?;
        }
        if let Some(rows) = sums_of_the_store {
            writeln!(f, "{rows} rows of totals compared with those of the store")?;
        }
        write!(f, "violations: {}, warnings: {}", self.violations(), self.warnings())
    }
}

#[cfg(test)]
mod tests {
    use super::{Invariant, Report};
    use crate::journal::{Offset, Partition, Position};
    use crate::payment::samples::payment_id;

    #[test]
    fn all_are_counted_and_a_bounded_number_is_shown() {
        let mut report = Report::new(2);
        for offset in 0..5 {
            let position = Some(Position::new(Partition(3), Offset(offset)));
            report.found(Invariant::EndedOnce, Some(payment_id("order-1")), position, "two ends".to_owned());
        }
        report.found(Invariant::ClockOff, None, None, "an hour".to_owned());
        assert_eq!((report.violations(), report.warnings(), report.findings.len()), (5, 1, 3));
        let text = report.to_string();
        let line = format!("VIOLATION ended_once {} at 3:0: two ends\n", payment_id("order-1"));
        assert!(text.starts_with(&line), "{text}");
        assert!(
            text.contains("warning clock_off: an hour\n") && text.contains("ended_once: 2 of 5 are shown"),
            "{text}"
        );
        let json = serde_json::to_value(&report).unwrap();
        assert_eq!(json["totals"]["ended_once"], 5);
        assert_eq!(json["findings"][0]["position"], "3:0");
    }
}
