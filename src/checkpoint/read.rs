//! Reads a checkpoint, block by block, and verifies everything on the way: a digest before what it stands for is looked at,
//! then the shape and the order of the rows, and at the end their counts.

use std::fs::File;
use std::io::{BufReader, ErrorKind, Read};
use std::path::Path;

use super::block::{Block, Head, TRAILER, take};
use super::{Chain, CheckpointError, HEADER_BYTES_MAX, Header, MAGIC, Trailer};
use crate::archive::Digest;

const BUFFER_BYTES: usize = 256 * 1024;

pub struct Checkpoint {
    file: BufReader<File>,
    header: Header,
    chain: Chain,
    /// Good ones so far.
    blocks: u64,
    /// Rows so far, by table.
    rows: Vec<u64>,
    /// The table that was read last, and the last key in it.
    last: Option<(u32, Vec<u8>)>,
    trailer: Option<Trailer>,
    bytes: u64,
    /// Of the whole file.
    size: u64,
}

impl Checkpoint {
    /// Reads and verifies the header.
    pub fn open(path: &Path) -> Result<Self, CheckpointError> {
        let file = File::open(path)?;
        let metadata = file.metadata()?;
        let no = |why: &str| CheckpointError::NotACheckpoint(format!("this is no checkpoint of paylog's: {why}"));
        if !metadata.is_file() {
            return Err(no("it is no file"));
        }
        let mut file = BufReader::with_capacity(BUFFER_BYTES, file);
        let mut magic = [0; MAGIC.len()];
        if !fill(&mut file, &mut magic)? || magic != *MAGIC {
            return Err(no("it does not begin like one"));
        }
        let (mut length, mut digest) = ([0; 4], [0; 32]);
        let length_read = fill(&mut file, &mut length)?;
        let length = u32::from_le_bytes(length) as usize;
        if !length_read || length > HEADER_BYTES_MAX {
            return Err(no("its header has no length that can be"));
        }
        let mut text = vec![0; length];
        if !(fill(&mut file, &mut text)? && fill(&mut file, &mut digest)?) {
            return Err(no("it ends in the middle of its header"));
        }
        let chain = Chain::begin(&text);
        if chain.last() != Digest(digest) {
            return Err(CheckpointError::Damaged { block: 0, reason: "the header is not what was written".to_owned() });
        }
        let header = Header::parse(&text)?;
        let (rows, bytes) = (vec![0; header.tables.len()], (MAGIC.len() + 4 + length + 32) as u64);
        let (blocks, last, trailer, size) = (0, None, None, metadata.len());
        Ok(Self { file, header, chain, blocks, rows, last, trailer, bytes, size })
    }

    #[must_use]
    pub fn header(&self) -> &Header {
        &self.header
    }

    /// Of how many bytes of the file, out of how many.
    #[must_use]
    pub fn progress(&self) -> (u64, u64) {
        (self.bytes, self.size)
    }

    /// Rows that were found to be good so far.
    #[must_use]
    pub fn rows(&self) -> u64 {
        self.rows.iter().sum()
    }

    /// The last link of the chain: of the whole file, once it has been read.
    #[must_use]
    pub fn digest(&self) -> Digest {
        self.chain.last()
    }

    /// Reads all of it; `after` is called for every block.
    pub fn verify(mut self, mut after: impl FnMut(&Self)) -> Result<Self, CheckpointError> {
        while self.next_block()?.is_some() {
            after(&self);
        }
        Ok(self)
    }

    /// The next rows, verified; `None` once the trailer has been found to be right, and the file to end there.
    pub(super) fn next_block(&mut self) -> Result<Option<Block>, CheckpointError> {
        if self.trailer.is_some() {
            return Ok(None);
        }
        let (mut bytes, mut digest) = ([0; Head::BYTES], [0; 32]);
        self.fill(&mut bytes)?;
        let head = Head::parse(bytes).ok_or_else(|| self.damaged("no block is so large"))?;
        let mut stored = vec![0; head.stored as usize];
        self.fill(&mut stored)?;
        self.fill(&mut digest)?;
        if self.chain.add(&bytes, &stored) != Digest(digest) {
            return Err(self.damaged("it is not what was written"));
        }
        self.bytes += (bytes.len() + stored.len() + digest.len()) as u64;
        if head.table == TRAILER {
            self.end(&stored)?;
            return Ok(None);
        }
        let rows = lz4_flex::block::decompress(&stored, head.raw as usize)
            .ok()
            .filter(|rows| rows.len() == head.raw as usize)
            .ok_or_else(|| self.damaged("it cannot be decompressed"))?;
        let block = Block { table: head.table, rows };
        self.judge(&block)?;
        self.blocks += 1;
        Ok(Some(block))
    }

    /// Are there whole rows in it, and do they follow those before?
    fn judge(&mut self, block: &Block) -> Result<(), CheckpointError> {
        let table = block.table as usize;
        let before = self.last.as_ref().map_or(0, |(table, _)| *table);
        if table >= self.rows.len() || block.table < before {
            return Err(self.damaged("it is of a table that cannot follow here"));
        }
        let last = self.last.take().filter(|(of, _)| *of == block.table).map(|(_, key)| key);
        let (mut last, mut at, mut count) = (last.as_deref(), 0, 0);
        while at < block.rows.len() {
            let row = take(&block.rows, at).filter(|(key, ..)| last.is_none_or(|last| last < *key));
            let Some((key, _, next)) = row else { return Err(self.damaged("its rows are not whole, or not in order")) };
            (last, at) = (Some(key), next);
            count += 1;
        }
        let Some(last) = last.map(<[u8]>::to_vec) else { return Err(self.damaged("there is no row in it")) };
        self.last = Some((block.table, last));
        self.rows[table] += count;
        Ok(())
    }

    fn end(&mut self, text: &[u8]) -> Result<(), CheckpointError> {
        let trailer: Option<Trailer> = serde_json::from_slice(text).ok();
        let trailer = trailer.filter(|trailer| trailer.rows == self.rows);
        let trailer = trailer.ok_or_else(|| self.damaged("the trailer does not tell of the rows that are here"))?;
        if fill(&mut self.file, &mut [0])? {
            return Err(self.damaged("something stands behind the trailer"));
        }
        self.trailer = Some(trailer);
        Ok(())
    }

    fn fill(&mut self, bytes: &mut [u8]) -> Result<(), CheckpointError> {
        match fill(&mut self.file, bytes)? {
            true => Ok(()),
            false => Err(self.damaged("the file ends in the middle of it")),
        }
    }

    /// In the block after those that were good.
    pub(super) fn damaged(&self, reason: &str) -> CheckpointError {
        CheckpointError::Damaged { block: self.blocks + 1, reason: reason.to_owned() }
    }
}

/// `false` if the file ends before.
fn fill(file: &mut impl Read, bytes: &mut [u8]) -> Result<bool, CheckpointError> {
    match file.read_exact(bytes) {
        Ok(()) => Ok(true),
        Err(e) if e.kind() == ErrorKind::UnexpectedEof => Ok(false),
        Err(e) => Err(e.into()),
    }
}
