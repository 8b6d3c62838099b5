//! A history on disk: one directory, one file for each part, one line of JSON for each fact. The only file of the checker
//! that does I/O.

use std::fs::File;
use std::io::{BufRead, BufReader, BufWriter, Write};
use std::path::Path;

use anyhow::Context;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::history::History;

const OPTIONS: &str = "options.json";
const OPERATIONS: &str = "operations.jsonl";
const LOG: &str = "log.jsonl";
const UNCOMMITTED: &str = "log_uncommitted.jsonl";
const EARLIER: &str = "log_earlier.jsonl";
const PARTITIONS: &str = "partitions.jsonl";
const LEDGER: &str = "ledger.json";
const STREAMS: &str = "streams.jsonl";
const PROJECTIONS: &str = "projections.jsonl";
const OFFSETS: &str = "offsets.jsonl";
const DEAD_LETTERS: &str = "dead_letters.jsonl";
const INJECTED: &str = "injected.jsonl";

/// Reads the history in `dir`. What is not there was not recorded, but for the options and the log, without which there
/// is nothing to judge.
pub fn load(dir: &Path) -> anyhow::Result<History> {
    for required in [OPTIONS, LOG] {
        anyhow::ensure!(dir.join(required).is_file(), "{} has no {required}: it holds no history", dir.display());
    }
    Ok(History {
        options: document(dir, OPTIONS)?.unwrap_or_default(),
        operations: lines(dir, OPERATIONS)?,
        log: lines(dir, LOG)?,
        uncommitted: lines(dir, UNCOMMITTED)?,
        earlier: lines(dir, EARLIER)?,
        partitions: lines(dir, PARTITIONS)?,
        ledger: document(dir, LEDGER)?,
        streams: lines(dir, STREAMS)?,
        projections: lines(dir, PROJECTIONS)?,
        offsets: lines(dir, OFFSETS)?,
        dead_letters: lines(dir, DEAD_LETTERS)?,
        injected: lines(dir, INJECTED)?,
    })
}

/// Writes all of it into `dir`, which is made if need be.
pub fn save(history: &History, dir: &Path) -> anyhow::Result<()> {
    std::fs::create_dir_all(dir).with_context(|| format!("cannot make {}", dir.display()))?;
    write_document(dir, OPTIONS, &history.options)?;
    if let Some(ledger) = &history.ledger {
        write_document(dir, LEDGER, ledger)?;
    }
    write_lines(dir, OPERATIONS, &history.operations)?;
    write_lines(dir, LOG, &history.log)?;
    write_lines(dir, UNCOMMITTED, &history.uncommitted)?;
    write_lines(dir, EARLIER, &history.earlier)?;
    write_lines(dir, PARTITIONS, &history.partitions)?;
    write_lines(dir, STREAMS, &history.streams)?;
    write_lines(dir, PROJECTIONS, &history.projections)?;
    write_lines(dir, OFFSETS, &history.offsets)?;
    write_lines(dir, DEAD_LETTERS, &history.dead_letters)?;
    write_lines(dir, INJECTED, &history.injected)
}

fn open(dir: &Path, name: &str) -> anyhow::Result<Option<BufReader<File>>> {
    match File::open(dir.join(name)) {
        Ok(file) => Ok(Some(BufReader::new(file))),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error).with_context(|| format!("cannot read {name}")),
    }
}

fn lines<T: DeserializeOwned>(dir: &Path, name: &str) -> anyhow::Result<Vec<T>> {
    let Some(file) = open(dir, name)? else { return Ok(Vec::new()) };
    let parse = |(line, number): (std::io::Result<String>, u64)| {
        let line = line.with_context(|| format!("cannot read {name}"))?;
        serde_json::from_str(&line).with_context(|| format!("line {number} of {name} is not what it should be"))
    };
    file.lines().zip(1..).map(parse).collect()
}

fn document<T: DeserializeOwned>(dir: &Path, name: &str) -> anyhow::Result<Option<T>> {
    let Some(file) = open(dir, name)? else { return Ok(None) };
    let value = serde_json::from_reader(file).with_context(|| format!("{name} is not what it should be"))?;
    Ok(Some(value))
}

fn write_lines<T: Serialize>(dir: &Path, name: &str, all: &[T]) -> anyhow::Result<()> {
    write(dir, name, |file| {
        for one in all {
            serde_json::to_writer(&mut *file, one)?;
            file.write_all(b"\n")?;
        }
        Ok(())
    })
}

fn write_document<T: Serialize>(dir: &Path, name: &str, value: &T) -> anyhow::Result<()> {
    write(dir, name, |file| Ok(serde_json::to_writer_pretty(file, value)?))
}

fn write(dir: &Path, name: &str, fill: impl FnOnce(&mut BufWriter<File>) -> anyhow::Result<()>) -> anyhow::Result<()> {
    let fill = || -> anyhow::Result<()> {
        let mut file = BufWriter::new(File::create(dir.join(name))?);
        fill(&mut file)?;
        Ok(file.flush()?)
    };
    fill().with_context(|| format!("cannot write {name}"))
}

#[cfg(test)]
mod tests {
    use super::{load, save};
    use crate::checker::Checker;
    use crate::checker::good::good;

    #[test]
    fn a_history_survives_a_round_trip_through_its_files() {
        let (dir, checker) = (tempfile::tempdir().unwrap(), Checker::new().unwrap());
        save(&good(), dir.path()).unwrap();
        let back = load(dir.path()).unwrap();
        assert_eq!(back.log, good().log);
        assert_eq!(back.operations, good().operations);
        assert_eq!(back.streams, good().streams);
        assert_eq!(checker.check(&back), checker.check(&good()));
    }

    #[test]
    fn a_directory_without_a_history_is_refused_and_a_bad_line_is_named() {
        let dir = tempfile::tempdir().unwrap();
        assert!(load(dir.path()).unwrap_err().to_string().contains("options.json"));
        save(&good(), dir.path()).unwrap();
        std::fs::write(dir.path().join("operations.jsonl"), "{}\n").unwrap();
        assert!(load(dir.path()).unwrap_err().to_string().contains("line 1 of operations.jsonl"));
    }
}
