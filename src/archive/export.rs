//! Copies a log, or a part of it, into an archive: partition by partition, up to where each ended when this began, so that an
//! archive of a log that is written meanwhile is one of one moment.

use anyhow::ensure;

use super::selection::Chooser;
use super::{Compression, Format, Header, Rejected, Selection, Target, Trailer, Writer};
use crate::journal::{Offset, Partition, Position, Reader};
use crate::payment::Timestamp;
use crate::progress::Progress;
use crate::schema::Codec;

/// What is exported, and into what.
pub struct Export<'a> {
    pub log: &'a dyn Reader,
    pub topic: Option<String>,
    pub codec: &'a Codec,
    pub selection: Selection,
    /// What the control log says of records of this log.
    pub rejected: Vec<Rejected>,
    /// Where to begin and where to end in some partitions, in place of the beginning and the end of all.
    pub from: Vec<Position>,
    pub to: Vec<Position>,
    pub target: Target,
    pub format: Format,
    pub compression: Compression,
    pub now: Timestamp,
}

/// Blocks.
pub fn export(export: &Export<'_>) -> anyhow::Result<(Header, Trailer)> {
    let (from, to) = bounds(export)?;
    let mut chooser = Chooser::new(&export.selection, export.codec, export.log.partitions())?;
    let numbers = |offsets: &[Offset]| offsets.iter().map(|offset| offset.0).collect::<Vec<_>>();
    let bounds = (numbers(&from), numbers(&to));
    let (log, topic) = (export.log.log_id(), export.topic.clone());
    let rejected = export.rejected.clone();
    let header = Header { rejected, ..Header::new(log, topic, bounds, export.selection.clone(), export.now) };
    let mut writer = Writer::begin(&export.target, export.format, export.compression, &header)?;
    let looked_into: Vec<Partition> =
        (0..export.log.partitions()).map(Partition).filter(|p| chooser.looks_into(*p)).collect();
    let span = |p: &Partition| to[p.0 as usize].0.saturating_sub(from[p.0 as usize].0);
    let mut progress = Progress::new("exporting", "offsets", looked_into.iter().map(span).sum());
    let mut before = 0;
    for partition in looked_into {
        let (begin, end) = (from[partition.0 as usize], to[partition.0 as usize]);
        for record in export.log.originals(partition, begin, end)? {
            let record = record?;
            progress.reached(before + record.position.offset.next().0.saturating_sub(begin.0));
            if chooser.takes(&record)? {
                writer.add(&record, export.codec)?;
            }
        }
        before += span(&partition);
    }
    progress.end();
    let trailer = writer.finish()?;
    Ok((header, trailer))
}

/// Of each partition where to begin, and before which offset to end: at most at its committed end now.
fn bounds(export: &Export<'_>) -> anyhow::Result<(Vec<Offset>, Vec<Offset>)> {
    let partitions = export.log.partitions();
    let (mut from, mut to) = (vec![Offset(0); partitions as usize], Vec::new());
    for partition in (0..partitions).map(Partition) {
        to.push(export.log.ends(partition)?.committed);
    }
    for position in export.from.iter().chain(&export.to) {
        let p = position.partition;
        ensure!(p.0 < partitions, "there is no partition {p}: the log has {partitions}");
    }
    for Position { partition, offset } in &export.from {
        from[partition.0 as usize] = *offset;
    }
    for Position { partition, offset } in &export.to {
        let end = &mut to[partition.0 as usize];
        ensure!(*offset <= *end, "partition {partition} ends at {end}, before {offset}");
        *end = *offset;
    }
    for p in 0..partitions as usize {
        ensure!(from[p] <= to[p], "partition {p} ends at {}, before {}", to[p], from[p]);
    }
    Ok((from, to))
}
