//! What a checkpoint says of itself: before its rows what they are of, after them how many they are.

use super::{CheckpointError, FORMAT, HEADER_BYTES_MAX};
use crate::journal::{LogId, Offset, Partition, Position, Reader};
use crate::payment::Timestamp;
use crate::projection::{FoldError, Last, Offsets, Standing};

#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Header {
    /// The version of the format.
    pub paylog_checkpoint: u32,
    /// The version of paylog that wrote it.
    pub paylog: String,
    pub created_at: String,
    /// With its version: rows of another are other rows.
    pub projection: String,
    /// The id of the log.
    pub log: String,
    /// By partition.
    pub folded: Vec<Folded>,
    /// In the order of their names, in which they follow.
    pub tables: Vec<String>,
}

/// How far one partition had been folded.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Folded {
    /// The offset to be folded next.
    pub next: u64,
    /// The record that was folded last, if there was any.
    pub last: Option<LastFolded>,
}

#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LastFolded {
    pub offset: u64,
    /// The first half of the SHA-256 of its value.
    pub hash: String,
}

/// More than a projection has.
const TABLES_MAX: usize = 256;
/// What a table's name is made of, and how long it can be.
const NAME_BYTES_MAX: usize = 128;

/// Rows by table, in the order of [`Header::tables`].
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Trailer {
    pub rows: Vec<u64>,
}

impl Header {
    /// For the rows of `projection` that stand at `standing`, at `now`.
    #[must_use]
    pub fn new(projection: &str, standing: &Standing, tables: Vec<String>, now: Timestamp) -> Self {
        let folded = standing.offsets.as_slice().iter().zip(&standing.lasts).map(|(next, last)| Folded {
            next: next.0,
            last: last.map(|(offset, hash)| LastFolded { offset, hash: data_encoding::HEXLOWER.encode(&hash) }),
        });
        Self {
            paylog_checkpoint: FORMAT,
            paylog: env!("CARGO_PKG_VERSION").to_owned(),
            created_at: now.to_string(),
            projection: projection.to_owned(),
            log: standing.log.to_string(),
            folded: folded.collect(),
            tables,
        }
    }

    pub(super) fn text(&self) -> Result<String, CheckpointError> {
        let text = serde_json::to_string(self).map_err(|e| CheckpointError::Io(e.into()))?;
        if text.len() > HEADER_BYTES_MAX {
            return Err(CheckpointError::Unwritable(format!("the header is larger than {HEADER_BYTES_MAX} bytes")));
        }
        Ok(text)
    }

    /// As its text stands in the file, if it is one of a format that is known here.
    pub(super) fn parse(text: &[u8]) -> Result<Self, CheckpointError> {
        #[derive(serde::Deserialize)]
        struct Versioned {
            paylog_checkpoint: u32,
        }
        let no = || CheckpointError::NotACheckpoint("the header of this checkpoint cannot be read".to_owned());
        let version: Versioned = serde_json::from_slice(text).map_err(|_| no())?;
        if version.paylog_checkpoint != FORMAT {
            let text = format!(
                "the checkpoint has format {}, and this paylog knows {FORMAT}: use the paylog that wrote it, or a later one, or \
                 fold the log from its start",
                version.paylog_checkpoint
            );
            return Err(CheckpointError::NotACheckpoint(text));
        }
        let header: Self = serde_json::from_slice(text).map_err(|_| no())?;
        let one_by_one = header.tables.is_sorted_by(|one, next| one < next);
        if !one_by_one || header.tables.len() > TABLES_MAX || !header.tables.iter().all(|name| is_name(name)) {
            return Err(no());
        }
        header.standing().ok_or_else(no)?;
        Ok(header)
    }

    /// Where its rows stand.
    pub(super) fn standing(&self) -> Option<Standing> {
        let log = LogId(data_encoding::HEXLOWER.decode(self.log.as_bytes()).ok()?.try_into().ok()?);
        let mut offsets = Offsets::start(u32::try_from(self.folded.len()).ok().filter(|partitions| *partitions > 0)?);
        let mut lasts = Vec::new();
        for (folded, partition) in self.folded.iter().zip((0..).map(Partition)) {
            offsets.set(Position::new(partition, Offset(folded.next)));
            lasts.push(match &folded.last {
                Some(last) => Some(last.parse()?),
                None => None,
            });
        }
        Some(Standing { log, offsets, lasts })
    }

    /// `partition:offset` of every partition.
    #[must_use]
    pub fn offsets(&self) -> String {
        let next = self.folded.iter().zip(0..).map(|(folded, partition)| format!("{partition}:{}", folded.next));
        next.collect::<Vec<_>>().join(" ")
    }

    /// Are its rows those that `projection` would write here?
    pub fn is_of(&self, projection: &str) -> Result<(), CheckpointError> {
        if self.projection == projection {
            return Ok(());
        }
        let text = format!(
            "the checkpoint is of {}, and this paylog folds {projection}: take one that this version has made, or fold the log \
             from its start",
            self.projection
        );
        Err(CheckpointError::NotForThis(text))
    }

    /// Is it of this log, and has this log all that was folded into it? Blocks.
    pub fn compare(&self, log: &dyn Reader) -> Result<(), CheckpointError> {
        const DO: &str = "or leave the checkpoint out, and the log is folded from its start";
        let standing = self.standing().ok_or_else(|| CheckpointError::NotForThis("it is of no log".to_owned()))?;
        let text = match standing.compare(log) {
            Ok(()) => return Ok(()),
            Err(FoldError::Journal(error)) => return Err(error.into()),
            Err(FoldError::OtherLog(other)) => format!(
                "the checkpoint is of another log ({other}) than this one ({}, with {} partitions): give one of this log, {DO}",
                log.log_id(),
                log.partitions()
            ),
            Err(FoldError::Ahead(next, end)) => format!(
                "the checkpoint was folded to {next}, and the log ends at {end} there: the log is an older copy, or has lost \
                 records; bring the newer one, {DO}"
            ),
            Err(FoldError::Changed(position)) => format!(
                "the record at {position} is not the one that is in the checkpoint: the log has been changed or replaced since; \
                 find out how, {DO}"
            ),
            Err(other) => other.to_string(),
        };
        Err(CheckpointError::NotForThis(text))
    }
}

fn is_name(table: &str) -> bool {
    let good = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    (1..=NAME_BYTES_MAX).contains(&table.len()) && table.bytes().all(good)
}

impl LastFolded {
    fn parse(&self) -> Option<Last> {
        let hash = data_encoding::HEXLOWER.decode(self.hash.as_bytes()).ok()?;
        Some((self.offset, hash.try_into().ok()?))
    }
}

impl Trailer {
    #[must_use]
    pub fn rows(&self) -> u64 {
        self.rows.iter().sum()
    }
}
