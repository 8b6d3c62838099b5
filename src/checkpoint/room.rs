//! Room on a disk that others need too: a checkpoint is a copy, and takes none of the last of it.

use std::path::{Path, PathBuf};

use super::CheckpointError;

/// What is left to what is served, in bytes; of a small disk its sixteenth.
const LEFT_MIN: u64 = 64 * 1024 * 1024;

/// The disk that a file is on.
pub(super) struct Room(PathBuf);

impl Room {
    pub fn beside(file: &Path) -> Self {
        let parent = file.parent().filter(|parent| !parent.as_os_str().is_empty());
        Self(parent.unwrap_or(Path::new(".")).to_owned())
    }

    /// Is there room for so many bytes more?
    pub fn has(&self, bytes: u64) -> Result<(), CheckpointError> {
        let disk = rustix::fs::statvfs(&self.0).map_err(std::io::Error::from)?;
        let (size, free) = (disk.f_blocks.saturating_mul(disk.f_frsize), disk.f_bavail.saturating_mul(disk.f_frsize));
        if suffices(size, free, bytes) { Ok(()) } else { Err(CheckpointError::Full) }
    }
}

/// A file system that does not say how large it is, is tried.
fn suffices(size: u64, free: u64, bytes: u64) -> bool {
    size == 0 || free >= bytes.saturating_add(LEFT_MIN.min(size / 16))
}

#[cfg(test)]
mod tests {
    use super::{LEFT_MIN, suffices};
    use crate::checkpoint::CheckpointError;

    #[test]
    fn something_is_left_to_what_is_served() {
        let large = 1 << 40;
        assert!(suffices(large, LEFT_MIN + 5, 5) && !suffices(large, LEFT_MIN + 4, 5));
        assert!(suffices(1_600, 105, 5) && !suffices(1_600, 104, 5), "a small disk");
        assert!(suffices(0, 0, 5), "of a file system that does not say");
    }

    #[test]
    fn a_write_that_finds_no_room_says_so() {
        for kind in [std::io::ErrorKind::StorageFull, std::io::ErrorKind::QuotaExceeded] {
            assert!(matches!(CheckpointError::from(std::io::Error::from(kind)), CheckpointError::Full));
        }
        let other = CheckpointError::from(std::io::Error::from(std::io::ErrorKind::PermissionDenied));
        assert!(matches!(other, CheckpointError::Io(_)));
    }
}
