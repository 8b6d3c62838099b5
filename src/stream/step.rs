//! What comes next for all of one scope who have been told the same: made, and written, once for all of them.

use std::sync::{Arc, OnceLock};

use bytes::Bytes;

use super::Types;
use super::feed::{Block, Data, Frame};
use super::sse;
use crate::journal::{LogId, Position};
use crate::projection::Offsets;

/// From one cursor to another.
pub(super) struct Step {
    from: Arc<Offsets>,
    types: Types,
    /// Each with its id.
    pub(super) blocks: Vec<Block>,
    /// The cursor that the last of them tells.
    pub(super) told: Arc<Offsets>,
    /// Past all that was looked at.
    pub(super) to: Arc<Offsets>,
    log: LogId,
    text: OnceLock<Bytes>,
}

impl Step {
    pub(super) fn new(
        from: &Arc<Offsets>,
        types: &Types,
        frames: Vec<(Position, Arc<Frame>)>,
        to: Offsets,
        log: LogId,
    ) -> Self {
        let mut told = Offsets::clone(from);
        let block = |(position, frame): (Position, Arc<Frame>)| {
            told.advance(position.next());
            Block { id: Some(told.encode(log)), data: Data::Change(frame) }
        };
        let blocks = frames.into_iter().map(block).collect();
        let (told, to) = (Arc::new(told), Arc::new(to));
        // Most of the time all that was looked at was told: ten thousand keep one cursor then.
        let to = if told == to { Arc::clone(&told) } else { to };
        Self { from: Arc::clone(from), types: types.clone(), blocks, told, to, log, text: OnceLock::new() }
    }

    /// Is it what comes after this cursor, for one who asks for these types?
    pub(super) fn follows(&self, cursor: &Arc<Offsets>, types: &Types) -> bool {
        (Arc::ptr_eq(&self.from, cursor) || self.from == *cursor) && self.types == *types
    }

    /// As server-sent events.
    pub(super) fn text(&self) -> Bytes {
        let write = || {
            let mut bytes = Vec::with_capacity(self.bytes());
            self.blocks.iter().for_each(|block| sse::write(block, self.log, &mut bytes));
            bytes.into()
        };
        self.text.get_or_init(write).clone()
    }

    /// What its text takes, about.
    pub(super) fn bytes(&self) -> usize {
        const LABELS: usize = "event: \ndata: \nid: \n\n".len();
        let length = |block: &Block| {
            let frame = match &block.data {
                Data::Change(frame) => frame.name.len() + frame.text().len(),
                _ => 0,
            };
            LABELS + frame + block.id.as_ref().map_or(0, String::len)
        };
        self.blocks.iter().map(length).sum()
    }
}
