//! The log as bytes: nothing disappears from it, a place has one record whoever reads it, and a committer's epochs follow
//! each other (I10, I17, I20).

use std::collections::{HashMap, HashSet};

use crate::checker::history::{History, LogRecord, Place};
use crate::checker::report::{Invariant, Report};

pub(super) fn judge(history: &History, report: &mut Report) {
    let committed: HashMap<Place, &LogRecord> = history.log.iter().map(|record| (record.place, record)).collect();
    is_kept(history, &committed, report);
    against_uncommitted(history, &committed, report);
    one_epoch_at_a_time(history, report);
}

/// What an earlier reader saw is still there, and nothing has come in between.
fn is_kept(history: &History, committed: &HashMap<Place, &LogRecord>, report: &mut Report) {
    for ends in history.partitions.iter().filter(|ends| ends.start > 0) {
        let evidence = format!("its log begins at offset {}", ends.start);
        report.found(Invariant::LogIsKept, format!("partition {}", ends.partition), evidence);
    }
    if history.earlier.is_empty() {
        report.not_judged.insert(Invariant::LogIsKept);
        return;
    }
    let mut reached: HashMap<u32, u64> = HashMap::new();
    for record in &history.earlier {
        let place = record.place;
        let end = reached.entry(place.partition).or_default();
        *end = place.offset.max(*end);
        match committed.get(&place) {
            None => report.found(Invariant::LogIsKept, &record.key, format!("its record at {place} is gone")),
            Some(now) if now.value != record.value || now.key != record.key => {
                report.found(Invariant::LogIsKept, &record.key, format!("its record at {place} is another now"));
            }
            Some(_) => {}
        }
    }
    let before: HashSet<Place> = history.earlier.iter().map(|record| record.place).collect();
    for record in &history.log {
        let place = record.place;
        let end = reached.get(&place.partition).copied();
        if end.is_some_and(|end| place.offset < end) && !before.contains(&place) {
            report.found(Invariant::LogIsKept, &record.key, format!("its record at {place} came in afterwards"));
        }
    }
}

/// Whoever reads everything reads at least what is committed, and the same.
fn against_uncommitted(history: &History, committed: &HashMap<Place, &LogRecord>, report: &mut Report) {
    if history.uncommitted.is_empty() {
        report.not_judged.insert(Invariant::OneRecordAtAPlace);
        return;
    }
    let mut everything: HashMap<Place, &LogRecord> = HashMap::with_capacity(history.uncommitted.len());
    for record in &history.uncommitted {
        if let Some(other) = everything.insert(record.place, record).filter(|other| other.value != record.value) {
            report.found(Invariant::OneRecordAtAPlace, &other.key, format!("{} has two records", record.place));
        }
    }
    for record in &history.log {
        let same = everything.get(&record.place).map(|other| other.value == record.value && other.key == record.key);
        if same != Some(true) {
            let evidence = format!("who reads everything does not find the committed record at {}", record.place);
            report.found(Invariant::OneRecordAtAPlace, &record.key, evidence);
        }
    }
    report.counts.records_aborted = everything.keys().filter(|place| !committed.contains_key(place)).count() as u64;
}

fn one_epoch_at_a_time(history: &History, report: &mut Report) {
    let mut records: Vec<&LogRecord> = history.log.iter().chain(&history.uncommitted).collect();
    records.retain(|record| record.producer.is_some_and(|producer| producer.transactional));
    if records.is_empty() {
        report.not_judged.insert(Invariant::OneEpochAtATime);
    }
    records.sort_by_key(|record| record.place);
    let mut newest: HashMap<(u32, i64), (i16, Place)> = HashMap::new();
    for record in records {
        let (Some(producer), place) = (record.producer, record.place) else { continue };
        let (epoch, since) = newest.entry((place.partition, producer.id)).or_insert((producer.epoch, place));
        if producer.epoch < *epoch {
            let evidence = format!("epoch {} wrote {place} after epoch {epoch} had begun at {since}", producer.epoch);
            report.found(Invariant::OneEpochAtATime, format!("producer {}", producer.id), evidence);
        } else if producer.epoch > *epoch {
            (*epoch, *since) = (producer.epoch, place);
        }
    }
}
