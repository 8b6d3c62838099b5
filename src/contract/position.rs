//! The texts that name a place: a position on the log, a state of the projection, a version of one payment. Each begins
//! with `log8`, so that what was true of one log is never believed of another.

use std::fmt;

use crate::journal::{LogId, Offset, Partition, Position};
use crate::payment::PaymentId;
use crate::projection::{BadOffsets, Live, Offsets, Row, Served, View, home_of};

/// What a reader wants to have been folded before it is answered: `at_least=`, `Paylog-Position`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AtLeast {
    /// The record at this position, as a POST answers.
    Record(Position),
    /// Everything that had been folded when some answer was given.
    State(Offsets),
}

/// Names one version of one payment: the ETag, and the id of a frame in the stream of that payment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VersionId {
    pub log: LogId,
    pub version: u64,
}

impl AtLeast {
    /// Takes `<log8>.<partition>.<offset>` and what [`Offsets::encode`] writes.
    pub fn decode(text: &str, log: LogId, partitions: u32) -> Result<Self, BadOffsets> {
        let mut parts = text.split('.');
        let (Some(log8), Some(partition), Some(offset), None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Offsets::decode(text, log, partitions).map(Self::State);
        };
        let same_log = same_log(log8, log)?;
        let partition = number(partition).and_then(|p| u32::try_from(p).ok()).ok_or(BadOffsets::Malformed)?;
        let offset = number(offset).ok_or(BadOffsets::Malformed)?;
        match (same_log, partition < partitions) {
            (false, _) => Err(BadOffsets::OtherLog),
            (true, false) => Err(BadOffsets::Malformed),
            (true, true) => Ok(Self::Record(Position::new(Partition(partition), Offset(offset)))),
        }
    }

    /// The part of it that lies on one partition: all that a reader of one payment has to wait for.
    #[must_use]
    pub fn on(&self, partition: Partition) -> Option<Position> {
        match self {
            Self::Record(position) => Some(*position),
            Self::State(next) => before(partition, next.of(partition)),
        }
    }

    /// The last position of each partition that must have been folded.
    fn positions(&self) -> Vec<Position> {
        match self {
            Self::Record(position) => vec![*position],
            Self::State(next) => next.positions().filter_map(|p| before(p.partition, p.offset)).collect(),
        }
    }

    /// Moves `offsets` on so far that they cover it.
    pub fn advance(&self, offsets: &mut Offsets) {
        self.positions().into_iter().for_each(|last| offsets.advance(last.next()));
    }

    #[must_use]
    pub fn is_reached(&self, view: &View) -> bool {
        self.positions().into_iter().all(|position| view.has_folded(position))
    }

    /// Returns when all of it has been folded.
    pub async fn reached<P: Served>(&self, live: &Live<P>) {
        for position in self.positions() {
            live.wait_folded(position).await;
        }
    }
}

fn before(partition: Partition, next: Offset) -> Option<Position> {
    next.0.checked_sub(1).map(|last| Position::new(partition, Offset(last)))
}

/// The text of one position: of an event, of an append.
#[must_use]
pub fn position_text(log: LogId, position: Position) -> String {
    format!("{}.{}.{}", log.log8(), position.partition, position.offset)
}

/// Where the last effective event of a payment stands: whoever has folded it sees no less than this row.
#[must_use]
pub fn last_position(row: &Row, partitions: u32) -> Position {
    // A row has at least the event that began it.
    let offset = row.events.last().copied().unwrap_or_default();
    Position::new(partition(row.payment.id, partitions), offset)
}

/// The partition of all events of a payment.
#[must_use]
pub fn partition(id: PaymentId, partitions: u32) -> Partition {
    home_of(id, partitions)
}

impl VersionId {
    /// The version in `<log8>.<version>`.
    pub fn decode(text: &str, log: LogId) -> Result<u64, BadOffsets> {
        let (log8, version) = text.split_once('.').ok_or(BadOffsets::Malformed)?;
        let same_log = same_log(log8, log)?;
        let version = number(version).ok_or(BadOffsets::Malformed)?;
        if same_log { Ok(version) } else { Err(BadOffsets::OtherLog) }
    }
}

impl fmt::Display for VersionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.log.log8(), self.version)
    }
}

fn same_log(log8: &str, log: LogId) -> Result<bool, BadOffsets> {
    let well_formed = log8.len() == 8 && log8.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
    if well_formed { Ok(log8 == log.log8()) } else { Err(BadOffsets::Malformed) }
}

/// Decimal digits, as we write them: no sign, no leading zero, at most 18 (an offset has 63 bits).
fn number(digits: &str) -> Option<u64> {
    let canonical = digits == "0" || !digits.starts_with('0');
    let digits = Some(digits).filter(|d| canonical && d.len() <= 18 && d.bytes().all(|b| b.is_ascii_digit()))?;
    digits.parse().ok()
}
