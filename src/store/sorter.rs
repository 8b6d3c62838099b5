//! Sorts more rows than memory holds: an external merge sort (Knuth, volume 3, 5.4). What is pushed stays in memory until that
//! is full, is then sorted and written to a file, a run, and at the end the runs are merged.
//!
//! A run bears its name only when it is whole. Killed at any moment, those before are there, each with a note of whoever wrote it
//! on how far it was; nothing is synced, and bytes that are not those that were written are noticed.

use std::fs::{self, File};
use std::io::{self, BufWriter, ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::thread::{self, JoinHandle};

use flate2::Crc;

use super::StoreError;
use super::files::{beside, remove};
use super::runs::{Footer, HEADER_BYTES, Merge, header, prefix_of};

/// Runs that are merged at once; of more, the first are made one before.
const MERGED_MAX: usize = 64;
const WRITE_BYTES: usize = 256 * 1024;
const SUFFIX: &str = ".run";

/// Rows on their way to be sorted. Of those with the same key each is kept.
pub struct Sorter {
    directory: PathBuf,
    buffer: Buffer,
    /// The buffer before, on a thread of its own.
    spilling: Option<JoinHandle<Result<Buffer, StoreError>>>,
    runs: Vec<Run>,
    rows: u64,
}

/// A file of sorted rows; of several that were merged, it stands for all of them.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Run {
    first: u32,
    last: u32,
}

#[derive(Default)]
struct Buffer {
    /// Rows, each behind its header.
    bytes: Vec<u8>,
    rows: Vec<Place>,
    bytes_max: usize,
}

/// Where a row is, and how its key begins, so that most are told apart without a look at them.
struct Place {
    prefix: u128,
    at: u32,
    key_bytes: u16,
    value_bytes: u32,
}

impl Sorter {
    /// In `directory`, with the runs that are there, and the note of the last of them. Up to three times `bytes_max` are in memory.
    pub fn open(directory: &Path, bytes_max: usize) -> Result<(Self, Option<Vec<u8>>), StoreError> {
        fs::create_dir_all(directory).map_err(failed)?;
        let runs = runs_in(directory).map_err(failed)?;
        let (mut rows, mut note) = (0, None);
        for run in &runs {
            let footer = Footer::read(&mut File::open(run.path(directory)).map_err(failed)?)?;
            rows += footer.rows;
            note = Some(footer.note);
        }
        let buffer = Buffer { bytes_max: bytes_max.min(u32::MAX as usize / 2), ..Buffer::default() };
        Ok((Self { directory: directory.to_owned(), buffer, spilling: None, runs, rows }, note))
    }

    /// All that is there is of no use.
    pub fn discard(directory: &Path) -> Result<(), StoreError> {
        remove(directory).map_err(failed)
    }

    /// How many rows there are, those in memory too.
    #[must_use]
    pub fn rows(&self) -> u64 {
        self.rows
    }

    /// A key is at most 65,535 bytes long.
    pub fn push(&mut self, key: &[u8], value: &[&[u8]]) {
        self.rows += 1;
        self.buffer.push(key, value);
    }

    /// Is there so much in memory that it should go to a run?
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.buffer.bytes.len() >= self.buffer.bytes_max
    }

    /// Begins to write what is in memory to a run that will bear this note, once the one before is written.
    pub fn rotate(&mut self, note: Vec<u8>) -> Result<(), StoreError> {
        let empty = match self.spilled()? {
            Some(buffer) => buffer,
            None => Buffer { bytes_max: self.buffer.bytes_max, ..Buffer::default() },
        };
        let full = std::mem::replace(&mut self.buffer, empty);
        let number = self.runs.last().map_or(0, |run| run.last + 1);
        let run = Run { first: number, last: number };
        let path = run.path(&self.directory);
        self.runs.push(run);
        let spill = move || full.spill(&path, note);
        self.spilling = Some(thread::Builder::new().name("sort".to_owned()).spawn(spill).map_err(failed)?);
        Ok(())
    }

    /// All rows, in the order of their keys, once there are few enough runs. Of the note see [`Sorter::rotate`].
    pub fn merge(&mut self, note: &[u8]) -> Result<Merge, StoreError> {
        if !self.buffer.rows.is_empty() || self.runs.is_empty() {
            self.rotate(note.to_vec())?;
        }
        self.spilled()?;
        self.buffer = Buffer { bytes_max: self.buffer.bytes_max, ..Buffer::default() };
        while self.runs.len() > MERGED_MAX {
            let many: Vec<Run> = self.runs.drain(..MERGED_MAX).collect();
            let run = Run { first: many[0].first, last: many[MERGED_MAX - 1].last };
            let mut merge = self.merge_of(&many)?;
            let mut writing = Writing::begin(&run.path(&self.directory)).map_err(failed)?;
            while let Some((key, value)) = merge.next()? {
                writing.row(&[&header(key.len() as u16, value.len() as u32), key, value]).map_err(failed)?;
            }
            writing.finish(note.to_vec()).map_err(failed)?;
            many.iter().try_for_each(|run| fs::remove_file(run.path(&self.directory))).map_err(failed)?;
            self.runs.insert(0, run);
        }
        self.merge_of(&self.runs)
    }

    fn merge_of(&self, runs: &[Run]) -> Result<Merge, StoreError> {
        let files = runs.iter().map(|run| File::open(run.path(&self.directory)));
        Merge::of(files.collect::<io::Result<Vec<_>>>().map_err(failed)?)
    }

    fn spilled(&mut self) -> Result<Option<Buffer>, StoreError> {
        let Some(spilling) = self.spilling.take() else { return Ok(None) };
        let buffer = spilling.join().map_err(|_| failed(io::Error::other("the thread that sorts has panicked")))?;
        buffer.map(Some)
    }
}

impl Drop for Sorter {
    /// Whoever deletes the directory next must not meet a file that is just being written.
    fn drop(&mut self) {
        if let Err(error) = self.spilled() {
            tracing::warn!(%error, "a run was not written");
        }
    }
}

impl Run {
    fn path(&self, directory: &Path) -> PathBuf {
        directory.join(format!("{:08}-{:08}{SUFFIX}", self.first, self.last))
    }

    fn parse(name: &str) -> Option<Self> {
        let (first, last) = name.strip_suffix(SUFFIX)?.split_once('-')?;
        Some(Self { first: first.parse().ok()?, last: last.parse().ok()? })
    }

    fn stands_for(&self, other: &Self) -> bool {
        self.first <= other.first && other.last <= self.last
    }
}

/// In order. Those that another stands for are left by a merge that was killed, and deleted.
fn runs_in(directory: &Path) -> io::Result<Vec<Run>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        match entry.file_name().to_str().and_then(Run::parse) {
            Some(run) => found.push(run),
            None => fs::remove_file(entry.path())?,
        }
    }
    found.sort_by_key(|run| (run.first, std::cmp::Reverse(run.last)));
    let mut runs: Vec<Run> = Vec::new();
    for run in found {
        if runs.last().is_some_and(|last| last.stands_for(&run)) {
            fs::remove_file(run.path(directory))?;
        } else {
            runs.push(run);
        }
    }
    Ok(runs)
}

impl Buffer {
    fn push(&mut self, key: &[u8], value: &[&[u8]]) {
        let (at, value_bytes) = (self.bytes.len() as u32, value.iter().map(|part| part.len()).sum::<usize>() as u32);
        let key_bytes = key.len() as u16;
        self.bytes.extend_from_slice(&header(key_bytes, value_bytes));
        self.bytes.extend_from_slice(key);
        value.iter().for_each(|part| self.bytes.extend_from_slice(part));
        self.rows.push(Place { prefix: prefix_of(key), at, key_bytes, value_bytes });
    }

    /// Answers with itself, empty.
    fn spill(mut self, path: &Path, note: Vec<u8>) -> Result<Self, StoreError> {
        let bytes = &self.bytes;
        let key = |place: &Place| &bytes[place.at as usize + HEADER_BYTES..][..usize::from(place.key_bytes)];
        self.rows.sort_unstable_by(|a, b| a.prefix.cmp(&b.prefix).then_with(|| key(a).cmp(key(b))));
        let mut writing = Writing::begin(path).map_err(failed)?;
        for place in &self.rows {
            let row_bytes = HEADER_BYTES + usize::from(place.key_bytes) + place.value_bytes as usize;
            writing.row(&[&bytes[place.at as usize..][..row_bytes]]).map_err(failed)?;
        }
        writing.finish(note).map_err(failed)?;
        self.bytes.clear();
        self.rows.clear();
        Ok(self)
    }
}

/// A run on its way.
struct Writing {
    path: PathBuf,
    file: BufWriter<File>,
    rows: u64,
    bytes: u64,
    crc: Crc,
}

impl Writing {
    fn begin(path: &Path) -> io::Result<Self> {
        let file = BufWriter::with_capacity(WRITE_BYTES, File::create(beside(path, "part"))?);
        Ok(Self { path: path.to_owned(), file, rows: 0, bytes: 0, crc: Crc::new() })
    }

    fn row(&mut self, parts: &[&[u8]]) -> io::Result<()> {
        self.rows += 1;
        for part in parts {
            self.bytes += part.len() as u64;
            self.crc.update(part);
            self.file.write_all(part)?;
        }
        Ok(())
    }

    fn finish(mut self, note: Vec<u8>) -> io::Result<()> {
        let footer = Footer { note, rows: self.rows, bytes: self.bytes, crc: self.crc.sum() };
        self.file.write_all(&footer.encode())?;
        self.file.into_inner().map_err(io::IntoInnerError::into_error)?;
        fs::rename(beside(&self.path, "part"), &self.path)
    }
}

pub(super) fn failed(error: io::Error) -> StoreError {
    match error.kind() {
        ErrorKind::NotFound | ErrorKind::UnexpectedEof => StoreError::Damaged(format!("a run cannot be read: {error}")),
        _ => fjall::Error::from(error).into(),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use super::{MERGED_MAX, Run, Sorter};
    use crate::store::StoreError;

    /// Neither in order nor all different in their first 16 bytes.
    fn key(n: u32) -> Vec<u8> {
        format!("the same for all {:010}", n.wrapping_mul(2_654_435_761) % 1_000_003).into_bytes()
    }

    /// `runs` runs of 100 rows, from `from`.
    fn write(directory: &Path, from: u32, runs: u32) {
        let (mut sorter, _) = Sorter::open(directory, 1000).unwrap();
        for run in from..from + runs {
            (run * 100..run * 100 + 100).for_each(|n| sorter.push(&key(n), &[b"v", &n.to_be_bytes()]));
            assert!(sorter.is_full());
            sorter.rotate(vec![run as u8]).unwrap();
        }
    }

    fn read(directory: &Path) -> Result<Vec<Vec<u8>>, StoreError> {
        let (mut sorter, _) = Sorter::open(directory, 1000)?;
        let mut merge = sorter.merge(b"all")?;
        let mut keys = Vec::new();
        while let Some((key, value)) = merge.next()? {
            keys.push([key, value].concat());
        }
        Ok(keys)
    }

    #[test]
    fn rows_come_in_the_order_of_their_keys_however_many_runs_there_are() {
        let directory = tempfile::tempdir().unwrap();
        let runs = MERGED_MAX as u32 * 2 + 3;
        write(directory.path(), 0, 3);
        write(directory.path(), 3, runs - 3);
        let mut all: Vec<_> = (0..runs * 100).map(|n| [&key(n)[..], b"v", &n.to_be_bytes()].concat()).collect();
        all.sort();
        assert!(read(directory.path()).unwrap() == all);
        assert!(fs::read_dir(directory.path()).unwrap().count() < MERGED_MAX, "they were made fewer");
        assert!(read(directory.path()).unwrap() == all, "and are all there");
        assert_eq!(Sorter::open(directory.path(), 1).unwrap().1.as_deref(), Some(&[runs as u8 - 1][..]));
    }

    #[test]
    fn what_a_kill_has_left_is_passed_over() {
        let directory = tempfile::tempdir().unwrap();
        write(directory.path(), 0, 2);
        fs::write(directory.path().join("00000002-00000002.run.part"), b"half").unwrap();
        let (sorter, note) = Sorter::open(directory.path(), 1000).unwrap();
        assert_eq!((sorter.rows(), note), (200, Some(vec![1])));
        // One that stands for both, and one of them still there.
        fs::remove_file(Run { first: 1, last: 1 }.path(directory.path())).unwrap();
        let (one, both) = (Run { first: 0, last: 0 }, Run { first: 0, last: 1 });
        fs::copy(one.path(directory.path()), both.path(directory.path())).unwrap();
        assert_eq!(Sorter::open(directory.path(), 1000).unwrap().0.rows(), 100);
        assert!(!one.path(directory.path()).exists());
    }

    #[test]
    fn no_byte_of_a_run_changes_unnoticed() {
        let directory = tempfile::tempdir().unwrap();
        write(directory.path(), 0, 1);
        let (path, rows) = (Run { first: 0, last: 0 }.path(directory.path()), read(directory.path()).unwrap());
        let whole = fs::read(&path).unwrap();
        for at in 0..whole.len() {
            let mut bytes = whole.clone();
            bytes[at] ^= 0x10;
            fs::write(&path, bytes).unwrap();
            assert!(read(directory.path()).unwrap_err().is_damage(), "byte {at}");
        }
        for length in 0..whole.len() {
            fs::write(&path, &whole[..length]).unwrap();
            assert!(read(directory.path()).unwrap_err().is_damage(), "{length} bytes");
        }
        fs::write(&path, whole).unwrap();
        assert!(read(directory.path()).unwrap() == rows);
    }

    #[test]
    fn nothing_is_sorted_to_nothing() {
        let directory = tempfile::tempdir().unwrap();
        assert_eq!(read(&directory.path().join("none")).unwrap().len(), 0);
    }
}
