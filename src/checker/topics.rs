//! The group's offsets and the dead letters (I16, I19).

use std::collections::{BTreeMap, HashMap};

use crate::checker::history::{DeadLetter, GroupOffset, History};
use crate::checker::report::{Invariant, Report};

/// Of a record's bytes, how many are shown.
const SHOWN_BYTES: usize = 16;

pub(super) fn judge(history: &History, report: &mut Report) {
    offsets_only_grow(&history.offsets, report);
    as_injected(history, report);
}

fn offsets_only_grow(offsets: &[GroupOffset], report: &mut Report) {
    if offsets.is_empty() {
        report.not_judged.insert(Invariant::OffsetsOnlyGrow);
    }
    let mut in_time: Vec<&GroupOffset> = offsets.iter().collect();
    in_time.sort_by_key(|one| one.at);
    let mut last: HashMap<(&str, u32), u64> = HashMap::new();
    for one in in_time {
        let before = last.insert((&one.group, one.partition), one.offset).unwrap_or_default();
        if one.offset < before && !one.reset {
            let evidence = format!("partition {} went from {before} back to {}", one.partition, one.offset);
            report.found(Invariant::OffsetsOnlyGrow, &one.group, evidence);
        }
    }
}

fn as_injected(history: &History, report: &mut Report) {
    report.counts.dead_letters = history.dead_letters.len() as u64;
    if history.injected.is_empty() && history.dead_letters.is_empty() {
        report.not_judged.insert(Invariant::DeadLettersAsInjected);
        return;
    }
    let mut balance: BTreeMap<&DeadLetter, i64> = BTreeMap::new();
    for injected in &history.injected {
        *balance.entry(injected).or_default() += 1;
    }
    for found in &history.dead_letters {
        *balance.entry(found).or_default() -= 1;
    }
    for (letter, missing) in balance.into_iter().filter(|(_, missing)| *missing != 0) {
        let begin = data_encoding::HEXLOWER.encode(&letter.value[..letter.value.len().min(SHOWN_BYTES)]);
        let evidence = match missing {
            1.. => format!("refused {missing} times too few: {} bytes, {begin}", letter.value.len()),
            _ => format!("refused {} times too often: {} bytes, {begin}", -missing, letter.value.len()),
        };
        report.found(Invariant::DeadLettersAsInjected, &letter.source, evidence);
    }
}
