//! Why a store does not do what it was asked for, and what there is to do about it.

use std::error::Error;
use std::io::ErrorKind;
use std::path::PathBuf;

use super::damage::is_damage;

#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    #[error(
        "{0} is in use by another paylog process: stop that one, or give this one another --data-dir (PAYLOG_DATA_DIR)"
    )]
    Locked(PathBuf),
    #[error("cannot open the store at {path}: {reason}")]
    Open { path: PathBuf, reason: String },
    /// What was in the store before is there, and of what was being written nothing or all. It takes no more.
    #[error("the disk is full: make space, then start paylog again; nothing that was acknowledged is lost")]
    Full,
    /// As after [`StoreError::Full`], for whoever came later, or because what was written had to be moved on and could not be.
    #[error(
        "an earlier write to the store failed, and it takes no more (the log says why; the disk may be full): see to the \
         disk, then start paylog again; nothing that was acknowledged is lost"
    )]
    Shut,
    #[error("the store failed ({0}): see to the disk, then start paylog again")]
    Failed(fjall::Error),
    /// Its bytes are not those that were written. Rows that are folded from a log are folded anew at the next start; a log is
    /// to be restored from a copy.
    #[error("the store is damaged: {0}")]
    Damaged(String),
    /// It is not what was to be opened, and was left as it is.
    #[error(
        "{path} is not {expected}, for there is {found} in it: move it away if it is to be kept, or give another --data-dir \
         (PAYLOG_DATA_DIR)"
    )]
    Foreign { path: PathBuf, expected: String, found: String },
}

impl StoreError {
    /// Is the store not what was written?
    #[must_use]
    pub fn is_damage(&self) -> bool {
        match self {
            Self::Damaged(_) => true,
            Self::Failed(error) => is_damage(error),
            Self::Locked(_) | Self::Open { .. } | Self::Full | Self::Shut | Self::Foreign { .. } => false,
        }
    }
}

impl From<fjall::Error> for StoreError {
    fn from(error: fjall::Error) -> Self {
        match error {
            fjall::Error::Poisoned => Self::Shut,
            error if is_full(&error) => Self::Full,
            error => Self::Failed(error),
        }
    }
}

/// Says it, or has it for its reason.
pub(super) fn is_full(error: &(dyn Error + 'static)) -> bool {
    let of_system = error.downcast_ref::<std::io::Error>();
    let full = of_system.is_some_and(|error| matches!(error.kind(), ErrorKind::StorageFull | ErrorKind::QuotaExceeded));
    full || error.source().is_some_and(is_full)
}
