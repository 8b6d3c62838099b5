//! The directory of a store: it is made whole or not at all, and deleted whole or not at all, whatever ends the process in
//! the middle, a full disk too; and one that is not a store's is left alone.

use std::fs::{self, File};
use std::io::{self, ErrorKind, Write};
use std::path::{Path, PathBuf};

use fjall::Database;

use super::damage::mark_of;

/// Written last when a store is made.
const MARKER: &str = "version";
/// What else is in the directory of each.
const TABLES: &str = "keyspaces";
/// What a file system puts in an empty directory itself.
const NOBODYS: &str = "lost+found";

/// What is there where a store should be.
pub(super) enum Found {
    Nothing,
    Store,
    /// It is a store, but for its marker.
    Damaged,
    /// The name of something that no store has.
    Foreign(String),
}

impl Found {
    pub fn at(path: &Path) -> io::Result<Self> {
        let entries = match fs::read_dir(path) {
            Err(e) if e.kind() == ErrorKind::NotFound => return Ok(Self::Nothing),
            entries => entries?,
        };
        let names = entries.map(|entry| Ok(entry?.file_name())).collect::<io::Result<Vec<_>>>()?;
        Ok(if names.iter().any(|name| name == MARKER) {
            Self::Store
        } else if names.iter().any(|name| name == TABLES) {
            Self::Damaged
        } else {
            let other = names.iter().find(|name| *name != NOBODYS);
            other.map_or(Self::Nothing, |name| Self::Foreign(name.to_string_lossy().into_owned()))
        })
    }
}

/// An empty store, aside first. Half of one would be taken for one that is damaged.
pub(super) fn make(path: &Path) -> Result<(), fjall::Error> {
    match fs::remove_dir(path) {
        Err(e) if e.kind() != ErrorKind::NotFound => return Ok(()), // somebody's mount: it has to be made in there
        _ => {}
    }
    let begun = beside(path, "begun");
    remove(&begun)?;
    fs::create_dir_all(&begun)?;
    drop(Database::builder(&begun).open()?);
    fs::rename(&begun, path)?;
    Ok(sync_parent(path)?)
}

/// Deletes what a [`discard`] and a load left that were killed.
pub(super) fn sweep(path: &Path) -> io::Result<()> {
    remove(&beside(path, DISCARDED))?;
    remove(&beside(path, LOADED))
}

pub(super) fn discard(path: &Path) -> io::Result<()> {
    let condemned = beside(path, DISCARDED);
    remove(&condemned)?;
    match fs::rename(path, &condemned) {
        Err(e) if e.kind() == ErrorKind::NotFound => {}
        renamed => renamed.and_then(|()| sync_parent(path))?,
    }
    remove(&condemned)?;
    match fs::remove_file(mark_of(path)) {
        Err(e) if e.kind() == ErrorKind::NotFound => Ok(()),
        done => done,
    }
}

/// Where a store is loaded: a name that is never opened to be read.
pub(super) const LOADED: &str = "part";
/// Where a store is deleted: a name that is never opened.
pub(super) const DISCARDED: &str = "discarded";

/// A small file, all of it or nothing, through a power cut too.
pub fn write_whole(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let part = beside(path, "part");
    let mut file = File::create(&part)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(part, path)?;
    sync_parent(path)
}

/// Another name in the same directory.
pub fn beside(path: &Path, what: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".");
    name.push(what);
    name.into()
}

pub(super) fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_dir_all(path) {
        Err(e) if e.kind() == ErrorKind::NotFound => Ok(()),
        done => done,
    }
}

pub(super) fn sync_parent(path: &Path) -> io::Result<()> {
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    File::open(parent.unwrap_or(Path::new(".")))?.sync_all()
}
