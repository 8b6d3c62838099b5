//! `replay export`, `replay import`, `replay check-archive`: opens what they work on, and says what was done.

use std::io::Write;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, bail, ensure};

use super::{ArchiveCommand, Checked, ExportArgs, ImportArgs, import};
use crate::archive::{Archive, Compression, Export, Format, Rejected, Scope, Selection, Target, export, position};
use crate::control::{Control, Rejection};
use crate::journal::kafka::restore;
use crate::journal::{Journal, Position};
use crate::payment::{Signed, Timestamp};
use crate::projection::Rejections;
use crate::service::offline::{Offline, kafka_config};

/// Blocks, and must be called within a tokio runtime.
pub fn run(command: &ArchiveCommand, out: &mut impl Write) -> anyhow::Result<()> {
    match command {
        ArchiveCommand::Export(args) => export_command(args, out),
        ArchiveCommand::Import(args) => import_command(args, out),
        ArchiveCommand::CheckArchive { file } => check(file, out),
    }
}

fn export_command(args: &ExportArgs, out: &mut impl Write) -> anyhow::Result<()> {
    let (target, format, compression) = target(args)?;
    let codec = args.logs.kafka.registry.reading_codec()?;
    let from = positions("--from", &args.from)?;
    let to = positions("--to", &args.to)?;
    let logs = Offline::open(&args.logs.kafka, &args.logs.data_dir)?;
    let topic = args.logs.kafka.servers().map(|_| args.logs.kafka.topic_prefix.clone());
    let selection = selection(args);
    let whole = Export {
        log: logs.journal.as_ref(),
        topic,
        codec: &codec,
        selection,
        rejected: rejected(&logs)?,
        from,
        to,
        target,
        format,
        compression,
        now: Timestamp::now(),
    };
    let (header, trailer) = export(&whole)?;
    let ends: Vec<String> = header.to.iter().map(u64::to_string).collect();
    let said = format!(
        "{} records of the log {} up to {} (by partition), digest {}",
        trailer.records,
        header.log,
        ends.join(" "),
        trailer.digest
    );
    match whole.target {
        Target::File(_) => writeln!(out, "{said}")?,
        Target::Stdout => tracing::info!("{said}"), // what stands on standard output is the archive
    }
    Ok(())
}

/// What operators have said of records of this log.
fn rejected(logs: &Offline) -> anyhow::Result<Vec<Rejected>> {
    let (control, _) = Control::open(Arc::clone(&logs.control), logs.journal.log_id(), Rejections::default())?;
    let rejected = |rejection: Rejection| {
        let Position { partition, offset } = rejection.position;
        let Rejection { operator, reason, .. } = rejection;
        Rejected { partition: partition.0, offset: offset.0, operator, reason }
    };
    Ok(control.rejections().into_iter().map(rejected).collect())
}

fn target(args: &ExportArgs) -> anyhow::Result<(Target, Format, Compression)> {
    let named = |ending: &str| args.file.to_string_lossy().ends_with(ending);
    let format = args.format.unwrap_or(if named(".avro") { Format::Avro } else { Format::Jsonl });
    let compression = args.compress.unwrap_or(match format {
        Format::Avro => Compression::Deflate,
        Format::Jsonl if named(".gz") => Compression::Gzip,
        Format::Jsonl => Compression::None,
    });
    if args.file != Path::new("-") {
        return Ok((Target::File(args.file.clone()), format, compression));
    }
    ensure!(format == Format::Jsonl, "standard output takes JSON lines: give a file for Avro");
    Ok((Target::Stdout, format, compression))
}

fn selection(args: &ExportArgs) -> Selection {
    Selection {
        partitions: args.only_partitions.clone(),
        payments: args.payments.clone(),
        customer: args.customer.clone(),
        since_us: args.since.map(jiff::Timestamp::as_microsecond),
        until_us: args.until.map(jiff::Timestamp::as_microsecond),
        offsets: !(args.from.is_empty() && args.to.is_empty()),
    }
}

fn positions(flag: &str, texts: &[String]) -> anyhow::Result<Vec<Position>> {
    texts.iter().map(|text| position(text).with_context(|| format!("{flag} {text} is not PARTITION:OFFSET"))).collect()
}

fn import_command(args: &ImportArgs, out: &mut impl Write) -> anyhow::Result<()> {
    let signed = Signed::new(&args.operator, &args.reason).map_err(|invalid| anyhow::anyhow!("{}", invalid.detail))?;
    let archive = Checked::open(&args.file, args.partial)?;
    let (asked, has) = (args.logs.kafka.partitions, archive.partitions());
    if asked != has {
        bail!("the archive is of a log with {has} partitions, and {asked} are configured: give --partitions {has}");
    }
    let records = match kafka_config(&args.logs.kafka) {
        None => {
            let logs = Offline::embedded(has, &args.logs.data_dir)?;
            import(&archive, logs.journal.as_ref(), Arc::clone(&logs.control), &signed)?
        }
        Some(config) => {
            restore::prepare(&config, args.replication)?;
            let log: Arc<dyn Journal> = restore::open(config.clone())?;
            let control = crate::journal::kafka::KafkaJournal::open(config.control())?;
            let records = import(&archive, log.as_ref(), control, &signed)?;
            restore::finish(&config).context(
                "all records are imported, and the topic could not be set up to take payments: no service starts on it before it is",
            )?;
            records
        }
    };
    writeln!(
        out,
        "{records} records imported; the gateway will only be asked about their open payments, and nothing is charged for them, \
         until `paylog parked adopt`"
    )?;
    Ok(())
}

fn check(file: &Path, out: &mut impl Write) -> anyhow::Result<()> {
    let archive = Archive::open(file)?;
    let verified = archive.verify(|_| {});
    let (header, trailer) = verified.with_context(|| file.display().to_string())?;
    let scope = match header.scope {
        Scope::Log => "all of the log",
        Scope::Histories => "the histories of some payments of the log",
        Scope::Piece => "a piece of the log",
    };
    let (created, log, records) = (&header.created_at, &header.log, trailer.records);
    writeln!(
        out,
        "whole and unchanged: {records} records, {scope} {log}, made at {created}, digest {}",
        trailer.digest
    )?;
    Ok(())
}
