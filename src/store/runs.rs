//! Files of sorted rows, and how several are read as one.
//!
//! A run is its rows, each behind a header (length of the key, 2 bytes, and of the value, 4), then a footer: the note, its length
//! (4 bytes), how many rows and how many bytes of them there are (8 each), their CRC-32, and that of the footer before it (4 each).

use std::cmp::{Ordering, Reverse};
use std::collections::BinaryHeap;
use std::collections::binary_heap::PeekMut;
use std::fs::File;
use std::io::{BufReader, Read, Seek, SeekFrom};

use flate2::Crc;

use super::StoreError;
use super::sorter::failed;

pub(super) const HEADER_BYTES: usize = 6;
/// Behind the note.
pub(super) const FOOTER_BYTES: usize = 28;
/// Of each run that is merged.
const READ_BYTES: usize = 128 * 1024;

pub(super) struct Footer {
    pub note: Vec<u8>,
    pub rows: u64,
    /// Of the rows.
    pub bytes: u64,
    /// Of the rows.
    pub crc: u32,
}

/// A key and its value.
type Pair<'a> = (&'a [u8], &'a [u8]);

/// Rows of several runs in the order of their keys.
pub struct Merge {
    sources: BinaryHeap<Reverse<Box<Source>>>,
    /// The first of them has been handed out.
    given: bool,
}

/// A run that is read.
struct Source {
    file: BufReader<File>,
    footer: Footer,
    /// Rows that were read.
    rows: u64,
    bytes: u64,
    crc: Crc,
    /// The one that is next.
    row: Vec<u8>,
    key_bytes: usize,
    prefix: u128,
}

pub(super) fn header(key_bytes: u16, value_bytes: u32) -> [u8; HEADER_BYTES] {
    let (key, value) = (key_bytes.to_le_bytes(), value_bytes.to_le_bytes());
    [key[0], key[1], value[0], value[1], value[2], value[3]]
}

/// Compares as the first 16 bytes of the key do.
pub(super) fn prefix_of(key: &[u8]) -> u128 {
    match key.first_chunk() {
        Some(bytes) => u128::from_be_bytes(*bytes),
        None => {
            let mut bytes = [0; 16];
            bytes[..key.len()].copy_from_slice(key);
            u128::from_be_bytes(bytes)
        }
    }
}

impl Footer {
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = self.note.clone();
        bytes.extend_from_slice(&(self.note.len() as u32).to_le_bytes());
        bytes.extend_from_slice(&self.rows.to_le_bytes());
        bytes.extend_from_slice(&self.bytes.to_le_bytes());
        bytes.extend_from_slice(&self.crc.to_le_bytes());
        let mut crc = Crc::new();
        crc.update(&bytes);
        bytes.extend_from_slice(&crc.sum().to_le_bytes());
        bytes
    }

    /// Leaves the file at its start.
    pub fn read(file: &mut File) -> Result<Self, StoreError> {
        let length = file.metadata().map_err(failed)?.len();
        let torn = || StoreError::Damaged("a run has lost its end".to_owned());
        let tail = read_at(file, length.checked_sub(FOOTER_BYTES as u64).ok_or_else(torn)?, FOOTER_BYTES)?;
        let number = |at: usize| tail[at..at + 4].iter().rev().fold(0, |sum, byte| sum << 8 | u64::from(*byte));
        let note_bytes = number(0);
        let all = note_bytes + FOOTER_BYTES as u64;
        let mut whole = read_at(file, length.checked_sub(all).ok_or_else(torn)?, all as usize)?;
        let mut crc = Crc::new();
        crc.update(&whole[..whole.len() - 4]);
        let long = |at: usize| number(at) | number(at + 4) << 32;
        let (rows, bytes) = (long(4), long(12));
        if u64::from(crc.sum()) != number(24) || bytes + all != length {
            return Err(torn());
        }
        file.rewind().map_err(failed)?;
        whole.truncate(note_bytes as usize);
        Ok(Self { note: whole, rows, bytes, crc: number(20) as u32 })
    }
}

fn read_at(file: &mut File, at: u64, length: usize) -> Result<Vec<u8>, StoreError> {
    let mut bytes = vec![0; length];
    file.seek(SeekFrom::Start(at)).and_then(|_| file.read_exact(&mut bytes)).map_err(failed)?;
    Ok(bytes)
}

impl Merge {
    pub(super) fn of(files: Vec<File>) -> Result<Self, StoreError> {
        let mut sources = BinaryHeap::new();
        for file in files {
            let mut source = Box::new(Source::of(file)?);
            if source.advance()? {
                sources.push(Reverse(source));
            }
        }
        Ok(Self { sources, given: false })
    }

    /// The next key and its value.
    #[expect(clippy::should_implement_trait, reason = "what it answers is borrowed until the next one is asked for")]
    pub fn next(&mut self) -> Result<Option<Pair<'_>>, StoreError> {
        if self.given
            && let Some(mut first) = self.sources.peek_mut()
            && !first.0.advance()?
        {
            PeekMut::pop(first);
        }
        self.given = true;
        Ok(self.sources.peek().map(|Reverse(first)| first.row.split_at(first.key_bytes)))
    }
}

impl Source {
    fn of(mut file: File) -> Result<Self, StoreError> {
        let footer = Footer::read(&mut file)?;
        let file = BufReader::with_capacity(READ_BYTES, file);
        Ok(Self { file, footer, rows: 0, bytes: 0, crc: Crc::new(), row: Vec::new(), key_bytes: 0, prefix: 0 })
    }

    /// `false` at the end, where all of it has been found to be what was written.
    fn advance(&mut self) -> Result<bool, StoreError> {
        if self.rows == self.footer.rows {
            let whole = self.bytes == self.footer.bytes && self.crc.sum() == self.footer.crc;
            return if whole { Ok(false) } else { Err(changed()) };
        }
        let mut header = [0; HEADER_BYTES];
        self.file.read_exact(&mut header).map_err(failed)?;
        self.key_bytes = usize::from(u16::from_le_bytes([header[0], header[1]]));
        let value_bytes = u32::from_le_bytes([header[2], header[3], header[4], header[5]]) as usize;
        let row_bytes = self.key_bytes + value_bytes;
        self.bytes += (HEADER_BYTES + row_bytes) as u64;
        // Before so much memory is taken.
        if self.bytes > self.footer.bytes {
            return Err(changed());
        }
        self.row.resize(row_bytes, 0);
        self.file.read_exact(&mut self.row).map_err(failed)?;
        self.crc.update(&header);
        self.crc.update(&self.row);
        self.rows += 1;
        self.prefix = prefix_of(&self.row[..self.key_bytes]);
        Ok(true)
    }

    fn key(&self) -> &[u8] {
        &self.row[..self.key_bytes]
    }
}

fn changed() -> StoreError {
    StoreError::Damaged("a run is not what was written".to_owned())
}

impl Ord for Source {
    fn cmp(&self, other: &Self) -> Ordering {
        self.prefix.cmp(&other.prefix).then_with(|| self.key().cmp(other.key()))
    }
}

impl PartialOrd for Source {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Source {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Source {}
