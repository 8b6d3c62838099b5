//! Why a log, or an event of it, is not folded, and what there is to do about it.

use std::io;

use crate::journal::{JournalError, Offset, Position};
use crate::store::StoreError;

/// Why an event was not folded.
#[derive(Debug, thiserror::Error)]
pub enum ApplyError {
    #[error(transparent)]
    Store(#[from] StoreError),
    /// It cannot be folded, and its partition must halt before it. The text is for people and repeats nothing of the record.
    #[error("{0}")]
    Unfoldable(String),
}

#[derive(Debug, thiserror::Error)]
pub enum FoldError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// Not `From`: an error of a file is not always of this one.
    #[error("the list of versions cannot be read or written: {0}")]
    Versions(#[source] io::Error),
    #[error(
        "the rows in this data directory are of another log ({0}): start with an empty --data-dir, or point paylog at the \
         log they came from"
    )]
    OtherLog(String),
    #[error(
        "the rows in this directory are those of the projection {0}: move it to where they belong, and rows of {1} are folded \
         in its place"
    )]
    OtherProjection(String, String),
    #[error(
        "the record at {0} is not the one that was folded: the log has been changed or replaced under this data directory; \
         find out how, then start with an empty --data-dir to fold it anew"
    )]
    Changed(Position),
    #[error(
        "the rows in this data directory were folded to {0}, and the log ends at {1} there: it is an older copy, or has lost \
         records; bring the newer one, or start with an empty --data-dir to fold what is left"
    )]
    Ahead(Position, Offset),
    #[error(
        "the record at {0} is in the rows of this data directory, and an operator has rejected it since: restart, and the \
         rows are folded anew without it"
    )]
    RejectedSince(Position),
    #[error(
        "the rows in this data directory have passed over the record at {0}, and the control log does not say that an \
         operator rejected it: the control log has lost records or was replaced; restore it"
    )]
    NeverRejected(Position),
}
