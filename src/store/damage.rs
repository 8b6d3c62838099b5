//! What is wrong with a store whose bytes are not those that were written, and how that is remembered: a mark beside its
//! directory, so that whoever opens it next knows what this process has met.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use super::files::beside;

/// Beside a store on disk.
#[derive(Debug)]
pub(super) struct Damage {
    store: PathBuf,
    mark: PathBuf,
    met: AtomicBool,
}

impl Damage {
    pub fn of(store: &Path) -> Self {
        let mark = mark_of(store);
        Self { met: AtomicBool::new(mark.exists()), mark, store: store.to_owned() }
    }

    /// Where it is.
    pub fn store(&self) -> &Path {
        &self.store
    }

    pub fn is_met(&self) -> bool {
        self.met.load(Ordering::Acquire)
    }

    /// Marks the store if this error says that it is damaged.
    pub fn heed(&self, error: fjall::Error) -> fjall::Error {
        if is_damage(&error) && !self.met.swap(true, Ordering::AcqRel) {
            let marked = std::fs::write(&self.mark, error.to_string());
            tracing::error!(%error, marked = marked.is_ok(), mark = %self.mark.display(), "the store is damaged");
        }
        error
    }
}

/// Where a damaged store is marked.
pub(super) fn mark_of(store: &Path) -> PathBuf {
    beside(store, "damaged")
}

/// Does it say that bytes are not those that were written? A disk that is full or refuses us says nothing of them.
pub(super) fn is_damage(error: &fjall::Error) -> bool {
    match error {
        fjall::Error::Io(error) => is_lost(error),
        fjall::Error::Storage(lsm) => std::error::Error::source(lsm)
            .and_then(|source| source.downcast_ref::<std::io::Error>())
            .is_none_or(is_lost),
        fjall::Error::JournalRecovery(_)
        | fjall::Error::InvalidVersion(_)
        | fjall::Error::Decompress(_)
        | fjall::Error::InvalidTrailer
        | fjall::Error::InvalidTag(_)
        | fjall::Error::Unrecoverable => true,
        _ => false,
    }
}

/// A file that is gone or too short.
fn is_lost(error: &std::io::Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::NotFound | ErrorKind::UnexpectedEof | ErrorKind::InvalidData | ErrorKind::AlreadyExists
    )
}
