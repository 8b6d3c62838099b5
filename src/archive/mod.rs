//! Archives of the log: the whole of it, or a part, in one file that says of itself whether it is whole and unchanged
//! (docs/decisions/0009). Written by [`export`], read and verified by [`Archive`]; two [`Format`]s hold the same.
//!
//! An archive is a [`Header`], the records by partition and in there by offset, each with a link of a [`Chain`] of digests,
//! and a trailer with the count and the last digest. The chain begins with the header: no record and no word of the header
//! can be changed, left out, added or moved without the digests telling so. It is no signature: who can write the file can
//! write all of it anew.
//!
//! Nothing here can append to a log, charge or send: of the journal it is given the `Reader`.

mod avro;
mod base64;
mod chain;
mod export;
mod file;
mod jsonl;
mod read;
mod selection;
#[cfg(test)]
mod tests;
mod write;

use crate::journal::{LogId, Position, SourceRecord};
use crate::payment::Timestamp;

pub use chain::{Chain, Digest};
pub use export::{Export, export};
pub(crate) use file::Out;
pub use read::Archive;
pub use selection::{Scope, Selection, position};
pub use write::{Compression, Format, Target, Writer};

/// The version of the format, in every header. An archive of a later one is refused.
pub const FORMAT: u32 = 1;
/// The largest record that is archived, with its headers: twice what a topic takes unless it was told otherwise.
pub const RECORD_BYTES_MAX: usize = 2 * 1024 * 1024;
/// The largest header: a thousand partitions have two numbers each in it.
const HEADER_BYTES_MAX: usize = 256 * 1024;

/// What an archive says of itself before its records.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Header {
    /// First, so that a person or `file` knows at once what this is.
    pub paylog_archive: u32,
    /// The version of paylog that wrote it.
    pub paylog: String,
    pub created_at: String,
    /// The id of the log.
    pub log: String,
    /// The topic's name; an embedded log has none.
    pub topic: Option<String>,
    pub partitions: u32,
    /// Of each partition the first offset that was read, and the one before which reading ended.
    pub from: Vec<u64>,
    pub to: Vec<u64>,
    /// What of it is in here.
    pub scope: Scope,
    pub selection: Selection,
    /// The records that every fold of the log passes over: without this a log that is made of the archive would halt there.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub rejected: Vec<Rejected>,
}

/// A record that an operator has rejected, where it stands on the log, and who said so.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rejected {
    pub partition: u32,
    pub offset: u64,
    pub operator: String,
    pub reason: String,
}

/// What an archive says of itself after its records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Trailer {
    pub records: u64,
    pub digest: Digest,
}

/// One part of an archive, as it was read.
enum Entry {
    Record(SourceRecord, Digest),
    Trailer(Trailer),
}

#[derive(Debug, thiserror::Error)]
pub enum ArchiveError {
    #[error("{0}")]
    NotAnArchive(String),
    /// `record` counts from 1.
    #[error("the archive is damaged at record {record}{}: {reason}", shown(.at))]
    Damaged { record: u64, at: Option<Position>, reason: String },
    #[error("the archive cannot be read: {0}")]
    Io(#[from] std::io::Error),
}

fn shown(at: &Option<Position>) -> String {
    at.map_or_else(String::new, |at| format!(", which says that it is {at} of the log"))
}

impl Header {
    /// For a log of `from.len()` partitions, read from `from` to `to` at `now`.
    #[must_use]
    pub fn new(
        log: LogId,
        topic: Option<String>,
        (from, to): (Vec<u64>, Vec<u64>),
        selection: Selection,
        now: Timestamp,
    ) -> Self {
        Self {
            paylog_archive: FORMAT,
            paylog: env!("CARGO_PKG_VERSION").to_owned(),
            created_at: now.to_string(),
            log: log.to_string(),
            topic,
            partitions: u32::try_from(from.len()).unwrap_or(u32::MAX),
            from,
            to,
            scope: selection.scope(),
            selection,
            rejected: Vec::new(),
        }
    }

    /// As its text stands in the archive, if that is a header of a version that is known here.
    pub fn parse(text: &[u8]) -> Result<Self, ArchiveError> {
        #[derive(serde::Deserialize)]
        struct Versioned {
            paylog_archive: u32,
        }
        let no = |why: &str| ArchiveError::NotAnArchive(format!("this is no archive of paylog's: {why}"));
        let version: Versioned = serde_json::from_slice(text).map_err(|_| no("it has no header"))?;
        if version.paylog_archive != FORMAT {
            let text = format!(
                "the archive has format {}, and this paylog knows {FORMAT}: use the paylog that wrote it, or a later one",
                version.paylog_archive
            );
            return Err(ArchiveError::NotAnArchive(text));
        }
        let header: Self = serde_json::from_slice(text).map_err(|_| no("its header cannot be read"))?;
        let partitions = header.partitions as usize;
        if partitions == 0 || header.from.len() != partitions || header.to.len() != partitions {
            return Err(no("its header does not say where each partition begins and ends"));
        }
        Ok(header)
    }

    fn text(&self) -> Result<String, ArchiveError> {
        let text = serde_json::to_string(self).map_err(|e| ArchiveError::Io(e.into()))?;
        if text.len() > HEADER_BYTES_MAX {
            return Err(ArchiveError::NotAnArchive(format!("the header is larger than {HEADER_BYTES_MAX} bytes")));
        }
        Ok(text)
    }
}
