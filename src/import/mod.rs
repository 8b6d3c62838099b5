//! Makes a log of an archive (docs/decisions/0009): into an empty log, in the order of each partition, with the time at which
//! the first log took each record. What it is stands on the control log before the first record does, so that a log of which
//! a part is missing is served by nobody, and one that is whole charges for nothing that another may be charging for.
//!
//! The one module that appends what is not new. The commands about archives are here too, for they open logs.

mod args;
mod command;

use std::collections::VecDeque;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;

use crate::archive::{Archive, Header, Rejected, Scope, Trailer};
use crate::control::{Control, Decided, EndpointState, ImportedArchive, ImportedRange, NewRejection, Step};
use crate::journal::{Appending, Journal, Offset, Partition, Position};
use crate::payment::{Signed, Timestamp};
use crate::progress::Progress;
use crate::projection::Rejections;

pub use args::{ArchiveCommand, ExportArgs, ImportArgs, LogsArgs};
pub use command::run;

/// Records that were handed to the log and are not acknowledged yet.
const IN_FLIGHT_MAX: usize = 4_096;
/// What those may take of memory, in bytes.
const IN_FLIGHT_BYTES_MAX: usize = 16 * 1024 * 1024;
/// How long a step of the import may take to be read back from the control log.
const PATIENCE: Duration = Duration::from_secs(30);

/// An archive that may be imported: read to its end, and found whole.
pub struct Checked<'a> {
    path: &'a Path,
    header: Header,
    trailer: Trailer,
    /// How many records each partition has.
    counts: Vec<Offset>,
    /// Where in the new log those records will stand that were rejected on the old one.
    rejected: Vec<(Position, Rejected)>,
}

impl<'a> Checked<'a> {
    /// Reads all of it, before anything is touched.
    pub fn open(path: &'a Path, partial: bool) -> anyhow::Result<Self> {
        let archive = Archive::open(path)?;
        match archive.header().scope {
            Scope::Log => {}
            Scope::Histories if partial => {}
            Scope::Histories => bail!(
                "{} holds the histories of some payments only: in the new log the keys of all others are new, and a request that \
                 is repeated charges again; if that is meant, say --partial",
                path.display()
            ),
            Scope::Piece => bail!(
                "{} holds a piece of the log, cut by time or by offsets: of some payments the beginning or the end is missing, \
                 and no log can be made of it; export whole histories",
                path.display()
            ),
        }
        let mut counts = vec![Offset(0); archive.header().partitions as usize];
        let known = archive.header().rejected.clone();
        let mut rejected = Vec::new();
        let verified = archive.verify(|record| {
            let Position { partition, offset } = record.position; // within bounds: it was compared with the header
            let at = Position::new(partition, counts[partition.0 as usize]);
            counts[partition.0 as usize] = at.offset.next();
            let is_it = |known: &&Rejected| (known.partition, known.offset) == (partition.0, offset.0);
            rejected.extend(known.iter().find(is_it).map(|known| (at, known.clone())));
        });
        let (header, trailer) = verified.with_context(|| format!("cannot use {}", path.display()))?;
        Ok(Self { path, header, trailer, counts, rejected })
    }

    /// Into how many partitions it can be imported.
    #[must_use]
    pub fn partitions(&self) -> u32 {
        self.header.partitions
    }

    fn step(&self) -> Step {
        let range = |(to, partition): (&Offset, u32)| ImportedRange { partition, from: 0, to: to.0 };
        let archive = ImportedArchive {
            log: self.header.log.clone(),
            digest: self.trailer.digest.to_string(),
            records: self.trailer.records,
        };
        Step::Begin { archive, ranges: self.counts.iter().zip(0..).map(range).collect() }
    }
}

/// Appends all of `archive` to `log`, and says so on `control`, its control log. Blocks, and must be called within a tokio
/// runtime. Answers with how many records there were.
pub fn import(
    archive: &Checked<'_>,
    log: &dyn Journal,
    control: Arc<dyn Journal>,
    signed: &Signed,
) -> anyhow::Result<u64> {
    ensure!(
        log.partitions() == archive.partitions(),
        "the archive is of a log with {} partitions, and this log has {}: a key's partition would change; give --partitions {}",
        archive.partitions(),
        log.partitions(),
        archive.partitions()
    );
    must_be_empty(log)?;
    let (control, follower) = Control::open(control, log.log_id(), Rejections::default())?;
    if let Some(before) = control.import() {
        bail!(
            "an import into this log was begun at {} by {} and is not to be repeated: delete the log with its control log, and \
             import anew",
            before.begun.at,
            before.begun.operator
        );
    }
    ensure!(
        control.webhooks().known().endpoints.values().all(|known| known.endpoint.state == EndpointState::Deleted),
        "there are webhook endpoints on the control log of this log, and they would be told of everything in the archive as if it \
         happened now: delete them, and create them anew when the import is finished"
    );
    ensure!(
        control.subscriptions().is_empty(),
        "there are push subscriptions on the control log of this log, and their browsers would be told of everything in the \
         archive that they may still be told: delete them first (`paylog push rm`)"
    );
    let stop = CancellationToken::new();
    let following = stop.clone();
    let follower = std::thread::spawn(move || follower.expecting_an_import().run(&following));
    let imported = steps(archive, log, &control, signed);
    stop.cancel();
    let followed = follower.join();
    let records = imported.with_context(|| {
        "the import is not finished; if it has begun, the log holds a part, and no service starts on it: delete the log with its \
         control log, and import anew"
    })?;
    match followed {
        Ok(followed) => followed?,
        Err(_) => bail!("the reader of the control log has failed"),
    }
    Ok(records)
}

fn steps(archive: &Checked<'_>, log: &dyn Journal, control: &Control, signed: &Signed) -> anyhow::Result<u64> {
    say(control, &archive.step(), signed)?;
    for (position, rejected) in &archive.rejected {
        reject(control, *position, rejected)?;
    }
    must_be_empty(log)?; // of two imports at once, the later one has not appended anything yet
    let records = append_all(archive, log)?;
    for (count, partition) in archive.counts.iter().zip(0..).map(|(count, p)| (*count, Partition(p))) {
        let end = log.ends(partition)?.uncommitted;
        ensure!(
            end == count,
            "partition {partition} ends at {end} and not at {count}: somebody else has written to it"
        );
    }
    say(control, &Step::Finish, signed)?;
    Ok(records)
}

fn must_be_empty(log: &dyn Journal) -> anyhow::Result<()> {
    for partition in (0..log.partitions()).map(Partition) {
        let end = log.ends(partition)?.uncommitted;
        ensure!(
            end == Offset(0),
            "partition {partition} of this log ends at {end}: an archive is imported into an empty log alone, so that no order and \
             no key is mixed with another's; give another --data-dir or --topic-prefix"
        );
    }
    Ok(())
}

fn say(control: &Control, step: &Step, signed: &Signed) -> anyhow::Result<()> {
    match Handle::current().block_on(control.step_import(step, signed, Timestamp::now(), PATIENCE))? {
        Decided::Effective(_) => Ok(()),
        Decided::Late => bail!("another import into this log has begun at the same time"),
        Decided::Unconfirmed => {
            bail!("the control log did not give back in {} s what was written to it", PATIENCE.as_secs())
        }
    }
}

/// What every fold of the old log passed over, every fold of the new one does: said before the record is there.
fn reject(control: &Control, position: Position, rejected: &Rejected) -> anyhow::Result<()> {
    let signed = Signed::new(&rejected.operator, &rejected.reason);
    let signed = signed.map_err(|_| anyhow::anyhow!("the rejection of {position} is not signed by an operator"))?;
    let new = NewRejection { position, signed, at: Timestamp::now() };
    match Handle::current().block_on(control.reject(new, PATIENCE))? {
        Decided::Effective(_) => Ok(()),
        Decided::Late | Decided::Unconfirmed => bail!("the rejection of {position} could not be recorded"),
    }
}

/// The archive has no gaps, so the position of each record is known before.
fn append_all(archive: &Checked<'_>, log: &dyn Journal) -> anyhow::Result<u64> {
    let mut reading = Archive::open(archive.path)?;
    let mut ends = vec![Offset(0); archive.counts.len()];
    let mut in_flight = InFlight::default();
    let (mut progress, mut records) = (Progress::new("importing", "records", archive.trailer.records), 0);
    while let Some(record) = reading.next_record()? {
        let end = &mut ends[record.position.partition.0 as usize]; // compared with the header by `reading`
        let expected = Position::new(record.position.partition, *end);
        *end = end.next();
        in_flight.add(expected, record.weight(), log.restore(&record))?;
        records += 1;
        progress.reached(records);
    }
    in_flight.settle_all()?;
    progress.end();
    ensure!(reading.trailer() == Some(archive.trailer), "{} was changed while it was imported", archive.path.display());
    Ok(records)
}

/// What was handed to the log and is not acknowledged yet, in that order.
#[derive(Default)]
struct InFlight {
    appends: VecDeque<(Position, usize, Appending)>,
    bytes: usize,
}

impl InFlight {
    fn add(&mut self, expected: Position, bytes: usize, append: Appending) -> anyhow::Result<()> {
        self.appends.push_back((expected, bytes, append));
        self.bytes += bytes;
        while self.appends.len() > IN_FLIGHT_MAX || self.bytes > IN_FLIGHT_BYTES_MAX {
            self.settle_one()?;
        }
        Ok(())
    }

    fn settle_all(&mut self) -> anyhow::Result<()> {
        while !self.appends.is_empty() {
            self.settle_one()?;
        }
        Ok(())
    }

    fn settle_one(&mut self) -> anyhow::Result<()> {
        let Some((expected, bytes, append)) = self.appends.pop_front() else { return Ok(()) };
        self.bytes -= bytes;
        let at = Handle::current().block_on(append).with_context(|| format!("appending the record for {expected}"))?;
        ensure!(at == expected, "the record for {expected} stands at {at}: somebody else has written to the log");
        Ok(())
    }
}
