//! Where an archive goes, or a checkpoint: a file that is there whole or not at all, or standard output.

use std::fs::{File, OpenOptions};
use std::io::{BufWriter, Stdout, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};

/// For its owner's eyes: it holds what is known of payments and of who made them.
const MODE: u32 = 0o600;

pub(crate) enum Out {
    File(Box<PartFile>),
    Stdout(BufWriter<Stdout>),
}

/// A file under a name that nobody takes for a whole one, until it is whole.
pub(crate) struct PartFile {
    file: BufWriter<File>,
    part: PathBuf,
    whole: PathBuf,
    kept: bool,
}

impl Out {
    pub(crate) fn stdout() -> Self {
        Self::Stdout(BufWriter::new(std::io::stdout()))
    }

    /// Refused if there is something under this name already.
    pub(crate) fn file(path: &Path) -> anyhow::Result<Self> {
        let shown = path.display();
        if path.exists() {
            bail!("{shown} exists already: give another name, or move it away");
        }
        let mut part = path.as_os_str().to_owned();
        part.push(".part");
        let part = PathBuf::from(part);
        let opened = OpenOptions::new().write(true).create(true).truncate(false).mode(MODE).open(&part);
        let file = opened.with_context(|| format!("cannot write {}", part.display()))?;
        if file.try_lock().is_err() {
            bail!("{} is being written by another paylog", part.display());
        }
        file.set_len(0).with_context(|| format!("cannot write {}", part.display()))?; // of one that was killed
        Ok(Self::File(Box::new(PartFile { file: BufWriter::new(file), part, whole: path.to_owned(), kept: false })))
    }

    /// What was written so far goes to the disk now, and not all at once at the end, where it would hold up others.
    pub(crate) fn settle(&mut self) -> std::io::Result<()> {
        match self {
            Self::Stdout(out) => out.flush(),
            Self::File(file) => {
                file.file.flush()?;
                file.file.get_ref().sync_data()
            }
        }
    }

    /// Only now it bears its name.
    pub(crate) fn keep(self) -> std::io::Result<()> {
        match self {
            Self::Stdout(mut out) => out.flush(),
            Self::File(mut file) => {
                file.file.flush()?;
                file.file.get_ref().sync_all()?;
                std::fs::rename(&file.part, &file.whole)?;
                file.kept = true;
                match file.whole.parent().filter(|parent| !parent.as_os_str().is_empty()) {
                    Some(parent) => File::open(parent)?.sync_all(),
                    None => File::open(".")?.sync_all(),
                }
            }
        }
    }
}

impl Write for Out {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        match self {
            Self::File(file) => file.file.write(bytes),
            Self::Stdout(out) => out.write(bytes),
        }
    }

    fn flush(&mut self) -> std::io::Result<()> {
        match self {
            Self::File(file) => file.file.flush(),
            Self::Stdout(out) => out.flush(),
        }
    }
}

impl Drop for PartFile {
    fn drop(&mut self) {
        if !self.kept {
            // A part that stays is not taken for a whole one either, and the next one is written over it.
            drop(std::fs::remove_file(&self.part));
        }
    }
}
