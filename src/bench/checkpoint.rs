//! A checkpoint of rows that have just been folded, against folding them anew.

use std::sync::Arc;
use std::time::Instant;

use super::{Bed, figure};
use crate::checkpoint::{Checkpoint, restore, write};
use crate::clock::Clocks;
use crate::journal::Journal;
use crate::payment::Timestamp;
use crate::projection::{Built, Folder, Payments, versioned_name};
use crate::store::Store;

/// Nothing else is at work, and it never rests.
pub(super) fn measure(bed: &Bed, journal: &dyn Journal, built: &Built<Payments>) -> anyhow::Result<()> {
    let (file, store) = (bed.directory.join("checkpoint"), bed.directory.join("restored"));
    let began = Instant::now();
    let (rows, _) = built.frozen()?;
    let (_, made) = write(&file, &versioned_name::<Payments>(), &rows, Timestamp::now(), &mut |_, _| true)?;
    figure("rows written to a checkpoint", made.rows, began);
    println!("  {} bytes in the file, of {} bytes of rows", made.bytes, made.raw_bytes);
    drop(rows);

    let began = Instant::now();
    Checkpoint::open(&file)?.verify(|_| {})?;
    figure("rows of a checkpoint verified", made.rows, began);

    let began = Instant::now();
    let checkpoint = Checkpoint::open(&file)?;
    checkpoint.header().compare(journal)?;
    restore(checkpoint, &store, |_| {})?;
    figure("rows restored from a checkpoint", made.rows, began);
    let codec = Arc::clone(&bed.codec);
    let (mut folder, view) = Folder::open(Store::open(&store)?, journal, codec, Clocks::system())?;
    folder.catch_up(journal)?;
    anyhow::ensure!(view.caught_up() && view.folded() == built.progress.folded(), "it did not come as far");
    figure("rows served by an instance that started from it", made.rows, began);
    Ok(())
}
