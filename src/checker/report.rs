//! What the checker found: counts, and violations with their evidence.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde::Serialize;

/// How many violations of one invariant are printed; all are counted.
const SHOWN_MAX: usize = 20;

/// What must hold, by the numbers of `research/reliability.md` (c) and the promises of DESIGN.md 2.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub enum Invariant {
    /// The history itself can be believed: parts of it contradict each other otherwise.
    WellFormed,
    /// Every record on `payments` can be read.
    Readable,
    /// P4: all records of a payment are on the partition of its id, and bear its key.
    OnItsPartition,
    /// I1: what was charged is what was accepted.
    ChargedAsAccepted,
    /// I2: at most one charge for a payment.
    ChargedOnce,
    /// I2: every try of a payment had the same body.
    SameBodyEveryTry,
    /// I3: successful means charged, failed means not charged.
    EndAsCharged,
    /// I4: a payment ends once, and never in two ways.
    EndedOnce,
    /// I5: what was acknowledged is on the log; what was refused, or never asked for, is not.
    AcceptedIsDurable,
    /// I6: the same merchant and key is one payment, and another is another.
    SameKeySamePayment,
    /// I7: of several bodies with one key one wins, and the others are told so.
    OneBodyWins,
    /// I9: whatever anybody saw is committed on the log.
    OnlyCommittedIsSeen,
    /// I10: a place on the log has one record, whoever reads it.
    OneRecordAtAPlace,
    /// I11: versions are 1, 2, 3, and begin with `PaymentInProgress`.
    VersionsWithoutGap,
    /// I12, I13: at equal offsets every projection is equal, and equal to the fold of the log.
    ReplayEqualsLive,
    /// I14: a stream neither skips nor repeats, over any reconnect.
    StreamsAreWhole,
    /// I15: who names a position sees no less than what stands there.
    ReadsDoNotGoBack,
    /// I16: a group's offsets only grow.
    OffsetsOnlyGrow,
    /// I17: once a newer epoch of a committer has written to a partition, an older one does not.
    OneEpochAtATime,
    /// I19: the dead letters are what was injected, byte for byte.
    DeadLettersAsInjected,
    /// I20: nothing disappears from the log.
    LogIsKept,
    /// I21: nobody is told of another merchant's payment.
    MerchantsApart,
    /// I24: every payment ends, in time.
    EndsInTime,
    /// I24: only what a fault calls for is parked.
    ParkedForCause,
    /// I25: no transaction hangs after the faults ended.
    NothingHangs,
    /// I26: with nothing left to do, the group's offsets are at the end of the log.
    OffsetsReachTheEnd,
    /// I27: every instance shows everything in the end.
    SeenEverywhere,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Violation {
    pub invariant: Invariant,
    /// The payment, or whatever else it is about.
    pub subject: String,
    /// One line.
    pub evidence: String,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Report {
    pub counts: Counts,
    pub violations: Vec<Violation>,
    /// What was not judged, for the history does not hold what it takes.
    pub not_judged: BTreeSet<Invariant>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Counts {
    pub operations_ok: u64,
    pub operations_failed: u64,
    pub operations_indeterminate: u64,
    pub records: u64,
    pub records_aborted: u64,
    pub payments: u64,
    pub successful: u64,
    pub failed: u64,
    pub open: u64,
    pub parked: BTreeMap<String, u64>,
    pub charges: u64,
    pub requests_at_the_provider: u64,
    /// Later initiations that asked for the same.
    pub repeats: u64,
    /// Later initiations that asked for something else.
    pub conflicts: u64,
    /// The same end again, harmless.
    pub repeated_ends: u64,
    /// Other events that came too late.
    pub ignored: u64,
    pub dead_letters: u64,
    pub stream_connections: u64,
    pub stream_frames: u64,
    /// The longest that a payment stayed open after the faults had ended and it had been accepted.
    pub longest_open_ms: u64,
}

impl Report {
    #[must_use]
    pub fn is_clean(&self) -> bool {
        self.violations.is_empty()
    }

    /// How often this invariant was violated.
    #[must_use]
    pub fn of(&self, invariant: Invariant) -> usize {
        self.violations.iter().filter(|violation| violation.invariant == invariant).count()
    }

    pub(super) fn found(&mut self, invariant: Invariant, subject: impl fmt::Display, evidence: impl fmt::Display) {
        let (subject, evidence) = (subject.to_string(), evidence.to_string());
        self.violations.push(Violation { invariant, subject, evidence });
    }
}

impl Invariant {
    /// The number in `research/reliability.md` (c), or of the promise in DESIGN.md 2.
    #[must_use]
    pub fn number(self) -> &'static str {
        match self {
            Self::WellFormed => "history",
            Self::Readable => "readable",
            Self::OnItsPartition => "P4",
            Self::ChargedAsAccepted => "I1",
            Self::ChargedOnce | Self::SameBodyEveryTry => "I2",
            Self::EndAsCharged => "I3",
            Self::EndedOnce => "I4",
            Self::AcceptedIsDurable => "I5",
            Self::SameKeySamePayment => "I6",
            Self::OneBodyWins => "I7",
            Self::OnlyCommittedIsSeen => "I9",
            Self::OneRecordAtAPlace => "I10",
            Self::VersionsWithoutGap => "I11",
            Self::ReplayEqualsLive => "I12",
            Self::StreamsAreWhole => "I14",
            Self::ReadsDoNotGoBack => "I15",
            Self::OffsetsOnlyGrow => "I16",
            Self::OneEpochAtATime => "I17",
            Self::DeadLettersAsInjected => "I19",
            Self::LogIsKept => "I20",
            Self::MerchantsApart => "I21",
            Self::EndsInTime | Self::ParkedForCause => "I24",
            Self::NothingHangs => "I25",
            Self::OffsetsReachTheEnd => "I26",
            Self::SeenEverywhere => "I27",
        }
    }
}

impl fmt::Display for Invariant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {self:?}", self.number())
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}: {}", self.invariant, self.subject, self.evidence)
    }
}

impl fmt::Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { operations_ok, operations_failed, operations_indeterminate, .. } = self;
        writeln!(
            f,
            "operations: {operations_ok} ok, {operations_failed} refused, {operations_indeterminate} indeterminate"
        )?;
        writeln!(f, "log: {} records committed, {} aborted", self.records, self.records_aborted)?;
        let parked: u64 = self.parked.values().sum();
        let Self { payments, successful, failed, open, .. } = self;
        writeln!(f, "payments: {payments}: {successful} successful, {failed} failed, {parked} parked, {open} open")?;
        for (reason, count) in &self.parked {
            writeln!(f, "parked, {reason}: {count}")?;
        }
        writeln!(f, "provider: {} charges in {} requests", self.charges, self.requests_at_the_provider)?;
        let Self { repeats, conflicts, repeated_ends, ignored, .. } = self;
        writeln!(
            f,
            "without effect: {repeats} repeats, {conflicts} conflicts, {repeated_ends} repeated ends, {ignored} others"
        )?;
        writeln!(f, "dead letters: {}", self.dead_letters)?;
        writeln!(f, "streams: {} frames in {} connections", self.stream_frames, self.stream_connections)?;
        write!(f, "longest open after the faults ended: {:.1} s", self.longest_open_ms as f64 / 1_000.0)
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.counts)?;
        for invariant in &self.not_judged {
            writeln!(f, "not judged, for the history does not hold what it takes: {invariant}")?;
        }
        let mut shown: BTreeMap<Invariant, usize> = BTreeMap::new();
        for violation in &self.violations {
            let shown = shown.entry(violation.invariant).or_default();
            *shown += 1;
            match *shown {
                ..=SHOWN_MAX => writeln!(f, "VIOLATION {violation}")?,
                n if n == SHOWN_MAX + 1 => writeln!(f, "VIOLATION {}: and more", violation.invariant)?,
                _ => {}
            }
        }
        write!(f, "violations: {}", self.violations.len())
    }
}
