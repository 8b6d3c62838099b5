//! Writes a checkpoint, in the memory of one block.

use std::io::Write;
use std::path::Path;
use std::time::Instant;

use super::block::{self, Head, TRAILER};
use super::room::Room;
use super::{BLOCK_BYTES, Chain, CheckpointError, Header, MAGIC, STRETCH_MAX, Trailer};
use crate::archive::{Digest, Out};
use crate::payment::Timestamp;
use crate::projection::Standing;
use crate::store::Snapshot;

/// Behind the seals of the tables, which are the last of their rows.
const END: [u8; 33] = [0xFF; 33];

/// What may wait to be written to the disk, in bytes: the log's own syncs wait behind it.
const UNSETTLED_MAX: usize = 8 * 1024 * 1024;

/// Called after every short stretch of work, with what was written so far and how long the stretch took: it may rest for a
/// while. `false` ends it.
pub type Pause<'a> = &'a mut dyn FnMut(&Made, std::time::Duration) -> bool;

/// What was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Made {
    pub rows: u64,
    /// As they were before they were compressed.
    pub raw_bytes: u64,
    pub bytes: u64,
    pub digest: Digest,
}

struct Writer {
    out: Out,
    room: Room,
    chain: Chain,
    made: Made,
    /// Of the block that is being filled.
    block: Vec<u8>,
    stored: Vec<u8>,
    /// Bytes that may not be on the disk yet.
    unsettled: usize,
    worked_since: Instant,
}

/// Writes the rows of `projection` to a file that is there whole or not at all; refused if there is one of this name.
pub fn write(
    path: &Path,
    projection: &str,
    rows: &Snapshot,
    now: Timestamp,
    after: Pause<'_>,
) -> Result<(Header, Made), CheckpointError> {
    let Some(standing) = Standing::of(rows)? else {
        return Err(CheckpointError::Unwritable("they are of no log yet: nothing has been folded".to_owned()));
    };
    let header = Header::new(projection, &standing, rows.tables(), now);
    let mut writer = Writer::begin(path, &header)?;
    let mut trailer = Trailer { rows: Vec::new() };
    for (name, table) in header.tables.iter().zip(0..) {
        trailer.rows.push(writer.table(name, table, rows, after)?);
    }
    let made = writer.finish(&trailer)?;
    Ok((header, made))
}

impl Writer {
    fn begin(path: &Path, header: &Header) -> Result<Self, CheckpointError> {
        let text = header.text()?;
        let room = Room::beside(path);
        room.has(BLOCK_BYTES as u64)?;
        let mut out = Out::file(path).map_err(|e| CheckpointError::Unwritable(format!("{e:#}")))?;
        let chain = Chain::begin(text.as_bytes());
        let length = u32::try_from(text.len()).unwrap_or(u32::MAX).to_le_bytes(); // it is bounded
        for part in [&MAGIC[..], &length, text.as_bytes(), &chain.last().0] {
            out.write_all(part)?;
        }
        let bytes = (MAGIC.len() + 4 + text.len() + 32) as u64;
        let made = Made { rows: 0, raw_bytes: 0, bytes, digest: chain.last() };
        let (block, stored) = (Vec::with_capacity(2 * BLOCK_BYTES), Vec::new());
        Ok(Self { out, room, chain, made, block, stored, unsettled: 0, worked_since: Instant::now() })
    }

    fn table(&mut self, name: &str, table: u32, rows: &Snapshot, after: Pause<'_>) -> Result<u64, CheckpointError> {
        let before = self.made.rows;
        for row in rows.range(name, &[], &END) {
            let (key, value) = row?;
            if !block::put(&mut self.block, &key, &value) {
                let text = format!("a row of the table {name} takes {} bytes", key.len() + value.len());
                return Err(CheckpointError::Unwritable(text));
            }
            self.made.rows += 1;
            if self.block.len() >= BLOCK_BYTES {
                self.end_block(table)?;
                self.rest(after)?;
            } else if self.made.rows.is_multiple_of(STRETCH_MAX) {
                self.rest(after)?;
            }
        }
        if !self.block.is_empty() {
            self.end_block(table)?;
            self.rest(after)?;
        }
        Ok(self.made.rows - before)
    }

    fn end_block(&mut self, table: u32) -> Result<(), CheckpointError> {
        self.stored.resize(lz4_flex::block::get_maximum_output_size(self.block.len()), 0);
        let compressed = lz4_flex::block::compress_into(&self.block, &mut self.stored);
        let length = compressed.map_err(|e| CheckpointError::Unwritable(format!("they cannot be compressed: {e}")))?;
        self.stored.truncate(length);
        let (block, stored) = (std::mem::take(&mut self.block), std::mem::take(&mut self.stored));
        self.made.raw_bytes += block.len() as u64;
        self.put(table, block.len(), &stored)?;
        (self.block, self.stored) = (block, stored);
        self.block.clear();
        Ok(())
    }

    fn put(&mut self, table: u32, raw: usize, stored: &[u8]) -> Result<(), CheckpointError> {
        self.room.has(stored.len() as u64)?;
        let length = |len: usize| u32::try_from(len).unwrap_or(u32::MAX); // a block is bounded
        let head = Head { table, raw: length(raw), stored: length(stored.len()) }.bytes();
        let digest = self.chain.add(&head, stored);
        for part in [&head[..], stored, &digest.0] {
            self.out.write_all(part)?;
        }
        self.made.bytes += (head.len() + stored.len() + digest.0.len()) as u64;
        self.made.digest = digest;
        self.unsettled += stored.len();
        if self.unsettled >= UNSETTLED_MAX {
            self.out.settle()?;
            self.unsettled = 0;
        }
        Ok(())
    }

    fn rest(&mut self, after: Pause<'_>) -> Result<(), CheckpointError> {
        let goes_on = after(&self.made, self.worked_since.elapsed());
        self.worked_since = Instant::now();
        if goes_on { Ok(()) } else { Err(CheckpointError::Stopped) }
    }

    /// It is whole: only now it bears its name.
    fn finish(mut self, trailer: &Trailer) -> Result<Made, CheckpointError> {
        let text = serde_json::to_vec(trailer).map_err(|e| CheckpointError::Io(e.into()))?;
        self.put(TRAILER, text.len(), &text)?;
        self.out.keep()?;
        Ok(self.made)
    }
}
