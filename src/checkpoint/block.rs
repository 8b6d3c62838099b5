//! The parts of a checkpoint's file behind its header, and the rows in them.
//!
//! A block is a head of three numbers (which table, how long its rows are, how long they are as they are stored), the
//! rows compressed with LZ4, and the link of the chain. A row is the lengths of its key and its value, and both of them. All
//! numbers are u32, little-endian.

use super::{BLOCK_BYTES_MAX, KEY_BYTES_MAX};

/// In place of a table: what follows is the trailer, as JSON that is not compressed.
pub(super) const TRAILER: u32 = u32::MAX;

/// What stands before a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Head {
    /// Its place in [`super::Header::tables`], or [`TRAILER`].
    pub table: u32,
    pub raw: u32,
    pub stored: u32,
}

/// The rows of one table, or a part of them, as they were before they were compressed.
pub(super) struct Block {
    pub table: u32,
    pub rows: Vec<u8>,
}

impl Head {
    pub const BYTES: usize = 12;

    pub fn bytes(self) -> [u8; Self::BYTES] {
        let mut bytes = [0; Self::BYTES];
        for (place, number) in bytes.chunks_exact_mut(4).zip([self.table, self.raw, self.stored]) {
            place.copy_from_slice(&number.to_le_bytes());
        }
        bytes
    }

    /// `None` if no block is so large.
    pub fn parse(bytes: [u8; Self::BYTES]) -> Option<Self> {
        let number = |at: usize| u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
        let head = Self { table: number(0), raw: number(4), stored: number(8) };
        (head.raw as usize <= BLOCK_BYTES_MAX && head.stored as usize <= 2 * BLOCK_BYTES_MAX).then_some(head)
    }
}

/// `false` if there can be no such row in a checkpoint.
pub(super) fn put(rows: &mut Vec<u8>, key: &[u8], value: &[u8]) -> bool {
    let lengths = (u32::try_from(key.len()), u32::try_from(value.len()));
    let (Ok(key_len), Ok(value_len)) = lengths else { return false };
    if key.is_empty() || key.len() > KEY_BYTES_MAX || rows.len() + key.len() + value.len() + 8 > BLOCK_BYTES_MAX {
        return false;
    }
    rows.extend_from_slice(&key_len.to_le_bytes());
    rows.extend_from_slice(&value_len.to_le_bytes());
    rows.extend_from_slice(key);
    rows.extend_from_slice(value);
    true
}

/// The row at `at`, and where the next one begins; `None` if there is no row.
pub(super) fn take(rows: &[u8], at: usize) -> Option<(&[u8], &[u8], usize)> {
    let (lengths, rest) = rows.get(at..)?.split_first_chunk::<8>()?;
    let [a, b, c, d, e, f, g, h] = *lengths;
    let (key_len, value_len) = (u32::from_le_bytes([a, b, c, d]) as usize, u32::from_le_bytes([e, f, g, h]) as usize);
    let key = rest.get(..key_len).filter(|key| !key.is_empty() && key.len() <= KEY_BYTES_MAX)?;
    let value = rest.get(key_len..)?.get(..value_len)?;
    Some((key, value, at + 8 + key_len + value_len))
}
