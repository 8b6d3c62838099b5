//! Checkpoints: a projection's rows as they were at one moment, in one file that says of itself whether it is whole and
//! unchanged (docs/decisions/0011). An instance that has no rows yet starts from one, and folds only what the log has since.
//!
//! * [`write()`] makes one of a snapshot; [`Maker`] does it beside a running system.
//! * [`Checkpoint`] reads one, and verifies it.
//! * [`restore`] makes a store of one, which is there whole or not at all.
//!
//! A checkpoint is a [`Header`], the rows table by table and in there by key, and a trailer with their counts: each a link of
//! a [`Chain`] of digests. Nothing of a link is looked at before its digest was found right. It is no signature: who can
//! write the file can write all of it anew, and the log remains what it is compared with.

mod block;
mod chain;
mod header;
mod maker;
mod read;
mod restore;
mod room;
#[cfg(test)]
mod tests;
mod write;

use std::io::ErrorKind;

use crate::journal::JournalError;
use crate::store::StoreError;

pub use chain::Chain;
pub use header::{Header, Trailer};
pub use maker::{Busy, Maker, Making, State, Status, Wanted};
pub use read::Checkpoint;
pub use restore::restore;
pub use write::{Made, Pause, write};

/// The version of the format, in every header.
pub const FORMAT: u32 = 1;
/// What every checkpoint begins with, whatever its format.
const MAGIC: &[u8; 18] = b"paylog checkpoint\n";
/// Rows are gathered to so many bytes before they are compressed: a millisecond's work.
const BLOCK_BYTES: usize = 256 * 1024;
/// Rows that are copied at a stretch by one who rests in between: again about a millisecond's work, for as long may what is
/// served have to wait for a processor.
const STRETCH_MAX: u64 = 200;
/// The largest block: one row more. An event is far smaller, and so is a payment with all its offsets.
const BLOCK_BYTES_MAX: usize = 32 * 1024 * 1024;
/// The largest header: a thousand partitions have two numbers and a hash each in it.
const HEADER_BYTES_MAX: usize = 256 * 1024;
/// As the store bounds it.
const KEY_BYTES_MAX: usize = u16::MAX as usize;

/// Why a checkpoint is not written, read or used. Whatever it is: nothing of it has reached a store that is read.
#[derive(Debug, thiserror::Error)]
pub enum CheckpointError {
    #[error("{0}")]
    NotACheckpoint(String),
    /// `block` counts from 1.
    #[error(
        "the checkpoint is damaged in block {block}: {reason}; bring another copy of it or another checkpoint, or fold the log \
         from its start"
    )]
    Damaged { block: u64, reason: String },
    /// It is whole, and not for this projection, or not for this log.
    #[error("{0}")]
    NotForThis(String),
    #[error("the rows cannot be put into a checkpoint: {0}")]
    Unwritable(String),
    /// Told to stop.
    #[error("it was stopped before it was whole")]
    Stopped,
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// Nothing of it is left.
    #[error(
        "the disk is full, or would be soon: what is served needs what room there is; make room, or keep fewer checkpoints, and \
         try again"
    )]
    Full,
    #[error("the checkpoint cannot be read or written: {0}")]
    Io(std::io::Error),
}

impl From<std::io::Error> for CheckpointError {
    fn from(error: std::io::Error) -> Self {
        match error.kind() {
            ErrorKind::StorageFull | ErrorKind::QuotaExceeded => Self::Full,
            _ => Self::Io(error),
        }
    }
}
