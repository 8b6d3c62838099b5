//! Makes a store of a checkpoint. One thread reads and verifies, another fills the tables, under a name that nobody opens;
//! only when the last digest was found right, and the rows stand where the header says, does the store bear its own name.

use std::iter::Peekable;
use std::path::Path;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;

use super::block::{Block, take};
use super::{Checkpoint, CheckpointError, Header};
use crate::projection::Standing;
use crate::store::{Load, Row, StoreError};

/// Blocks that wait to be put into a table, beside the one in each thread's hand.
const AHEAD_MAX: usize = 2;

type Read = Result<Block, CheckpointError>;

/// The rows of one table, out of the blocks that hold them.
struct Rows<'a> {
    blocks: &'a mut Peekable<std::sync::mpsc::IntoIter<Read>>,
    table: u32,
    block: Vec<u8>,
    at: usize,
}

/// Into `store`, where there must be nothing yet. Answers with how many rows there are; `after` is called for every block that
/// was read. Blocks.
pub fn restore(
    checkpoint: Checkpoint,
    store: &Path,
    after: impl FnMut(&Checkpoint) + Send,
) -> Result<u64, CheckpointError> {
    let header = checkpoint.header().clone();
    let load = Load::begin(store)?;
    let (sender, blocks) = sync_channel(AHEAD_MAX);
    let rows = thread::scope(|scope| {
        let reading = move || read(checkpoint, &sender, after);
        thread::Builder::new().name("checkpoint-read".to_owned()).spawn_scoped(scope, reading)?;
        fill(&load, &header, blocks)
    })?;
    let stands = match load.store() {
        Some(store) => Standing::of(&store.snapshot()?)?,
        None => None,
    };
    if stands != header.standing() {
        let text = "its rows do not stand where its header says: make another, or fold the log from its start";
        return Err(CheckpointError::NotACheckpoint(format!("the checkpoint cannot be used: {text}")));
    }
    load.finish()?;
    Ok(rows)
}

/// To the end, or until nobody takes the blocks any more.
fn read(mut checkpoint: Checkpoint, blocks: &SyncSender<Read>, mut after: impl FnMut(&Checkpoint)) {
    while let Some(block) = checkpoint.next_block().transpose() {
        let failed = block.is_err();
        if blocks.send(block).is_err() || failed {
            return;
        }
        after(&checkpoint);
    }
}

fn fill(load: &Load, header: &Header, blocks: Receiver<Read>) -> Result<u64, CheckpointError> {
    let (mut blocks, mut rows) = (blocks.into_iter().peekable(), 0);
    for (name, table) in header.tables.iter().zip(0..) {
        let of_table = Rows { blocks: &mut blocks, table, block: Vec::new(), at: 0 };
        rows += load.table(name, of_table)?;
    }
    match blocks.next() {
        None => Ok(rows),
        Some(Err(error)) => Err(error),
        // A block is of one of the tables, and they come in order.
        Some(Ok(_)) => Err(CheckpointError::Store(StoreError::Damaged("rows of no table".to_owned()))),
    }
}

impl Iterator for Rows<'_> {
    type Item = Result<Row, CheckpointError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.at == self.block.len() {
            let block = self.blocks.next_if(|read| read.as_ref().map_or(true, |block| block.table == self.table))?;
            match block {
                Ok(block) => (self.block, self.at) = (block.rows, 0),
                Err(error) => return Some(Err(error)),
            }
        }
        let (key, value, next) = take(&self.block, self.at)?; // whole rows, as they were judged
        let row = (key.into(), value.into());
        self.at = next;
        Some(Ok(row))
    }
}
