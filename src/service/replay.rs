//! The commands `replay ...`: opens what they read, and nothing that could be written to but stores of their own.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, ensure};
use serde_json::json;

use super::data_dir::DataDir;
use crate::control;
use crate::journal::embedded::EmbeddedJournal;
use crate::journal::{Position, Reader, kafka};
use crate::projection::Payments;
use crate::projection::totals::Totals;
use crate::projection::versions::serving_dir;
use crate::replay::{Against, Reading, Verification, VerifyArgs, WrongFlags, ends_of, shown};
use crate::store::Store;

/// A name among those of a group: nothing joins it.
const READER_ID: &str = "replay";

/// What is read: the log, what operators rejected of it, and the rows of an instance.
struct Sources {
    log: Arc<dyn Reader>,
    rejected: Vec<Position>,
    against: Option<Against>,
    /// Held until everything has been read.
    _taken: Vec<DataDir>,
}

/// A directory of this run alone, gone with it.
struct WorkDir(PathBuf);

/// Runs `replay verify`. Blocks. An error if a violation was found.
pub fn verify(args: &VerifyArgs, out: &mut impl Write) -> anyhow::Result<()> {
    let sources = Sources::open(args)?;
    let log = sources.log.as_ref();
    let selection = args.chosen.selection(log.partitions())?;
    let (codec, ends) = (Arc::new(args.kafka.registry.reading_codec()?), ends_of(log)?);
    eprintln!("log {}, {} partitions, read to {}", log.log_id(), log.partitions(), shown(&ends));
    let Sources { rejected, against, .. } = &sources;
    let against = against.clone();
    let verification = Verification { log, codec, rejected, against, selection, ends };
    if args.dry_run {
        return dry_run(&verification, out);
    }
    let work = WorkDir::make(&args.work_dir.clone().unwrap_or_else(std::env::temp_dir))?;
    let report = verification.run(&work.0, args.show_max)?;
    if args.json {
        let (log, ends) = (log.log_id().to_string(), shown(&verification.ends));
        let (violations, warnings) = (report.violations(), report.warnings());
        let whole = json!({"log": log, "ends": ends, "violations": violations, "warnings": warnings, "report": report});
        writeln!(out, "{whole:#}")?;
    } else {
        writeln!(out, "{report}")?;
    }
    ensure!(report.violations() == 0, "the log, or what was folded of it, is not as it must be");
    Ok(())
}

fn dry_run(verification: &Verification<'_>, out: &mut impl Write) -> anyhow::Result<()> {
    for Reading { what, spans } in verification.readings() {
        for span in &spans {
            let (partition, records) = (span.partition, span.len_max());
            writeln!(
                out,
                "{what}: partition {partition}, offsets {} to {}, {records} records at most",
                span.from, span.to
            )?;
        }
        let all: u64 = spans.iter().map(crate::journal::Span::len_max).sum();
        writeln!(out, "{what}: {all} records at most, of {} partitions", spans.len())?;
    }
    Ok(())
}

impl Sources {
    fn open(args: &VerifyArgs) -> anyhow::Result<Self> {
        let mut taken = Vec::new();
        if let Some(path) = &args.data_dir {
            taken.push(take(path)?);
        }
        if let Some(path) = args.against.as_ref().filter(|path| args.data_dir.as_ref() != Some(path)) {
            taken.push(take(path)?);
        }
        let (log, control) = match (args.kafka.config(READER_ID), &args.data_dir, taken.first()) {
            (Some(config), _, _) => (kafka::reader(config.clone())?, kafka::reader(config.control())?),
            (None, Some(_), Some(data)) => {
                (EmbeddedJournal::reader(&data.journal())?, EmbeddedJournal::reader(&data.control())?)
            }
            (None, _, _) => {
                let text = "give --bootstrap-servers (PAYLOG_BOOTSTRAP_SERVERS) for a log on Kafka, or --data-dir for that \
                            of a stopped instance";
                return Err(WrongFlags(text.to_owned()).into());
            }
        };
        log.check().context("the log is not set up as it must be (see `paylog topics check`)")?;
        let rejected = control::read(control.as_ref(), log.log_id()).context("cannot read the control log")?;
        let rejected = rejected.into_iter().map(|rejection| rejection.position).collect();
        // The rows are those of the directory that was named last.
        let against = taken.last().map(|data| -> anyhow::Result<_> {
            let payments = open_store(&serving_dir::<Payments>(&data.stores())?, args.against.is_some())?;
            let totals = open_store(&serving_dir::<Totals>(&data.stores())?, false)?;
            Ok(payments.map(|payments| Against { payments, totals }))
        });
        Ok(Self { log, rejected, against: against.transpose()?.flatten(), _taken: taken })
    }
}

/// Takes the data directory of an instance, which must not be running.
fn take(path: &Path) -> anyhow::Result<DataDir> {
    let shown = path.display();
    ensure!(path.is_dir(), "there is no data directory {shown}");
    DataDir::take(path).with_context(|| {
        format!(
            "the rows in {shown} cannot be read while an instance has them: stop it, or give a copy that was made while it \
             was stopped, or leave the directory out to verify the log alone"
        )
    })
}

fn open_store(path: &Path, must_be: bool) -> anyhow::Result<Option<Store>> {
    if path.is_dir() {
        return Ok(Some(Store::open(path)?));
    }
    ensure!(!must_be, "there are no rows in {}: nothing can be compared with them", path.display());
    Ok(None)
}

impl WorkDir {
    fn make(parent: &Path) -> anyhow::Result<Self> {
        let path = parent.join(format!("paylog-verify-{}", uuid::Uuid::new_v4().simple()));
        std::fs::create_dir_all(&path).with_context(|| format!("cannot make the work directory {}", path.display()))?;
        Ok(Self(path))
    }
}

impl Drop for WorkDir {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_dir_all(&self.0) {
            tracing::warn!(path = %self.0.display(), %error, "the work directory is left behind");
        }
    }
}
