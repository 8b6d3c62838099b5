//! What must have happened once the faults were over (I24 to I27), and what may be parked.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use crate::checker::book::Book;
use crate::checker::history::{History, Kind, Liveness, Parking};
use crate::checker::life::Life;
use crate::checker::report::{Invariant, Report};
use crate::payment::{PaymentId, Phase};

const MICROS_A_MILLI: i64 = 1_000;

pub(super) fn judge(book: &Book, history: &History, report: &mut Report) {
    for life in book.lives.values() {
        parked_for_cause(life, &history.options.parking, report);
    }
    let Some(liveness) = &history.options.liveness else {
        report.not_judged.extend([
            Invariant::EndsInTime,
            Invariant::NothingHangs,
            Invariant::OffsetsReachTheEnd,
            Invariant::SeenEverywhere,
        ]);
        return;
    };
    let open = book.lives.values().filter(|life| !ends_in_time(life, liveness, report)).count();
    nothing_hangs(history, report);
    if open == 0 {
        offsets_reach_the_end(history, report);
    }
    seen_everywhere(book, history, liveness, report);
}

fn parked_for_cause(life: &Life, parking: &Parking, report: &mut Report) {
    if let Phase::Parked { reason, detail } = &life.payment.phase
        && !life.is_parked_for_cause(parking)
    {
        report.found(Invariant::ParkedForCause, life.id, format!("no fault calls for it: {reason}: {detail}"));
    }
}

/// Answers whether it has ended, or is parked.
fn ends_in_time(life: &Life, liveness: &Liveness, report: &mut Report) -> bool {
    let parked = matches!(life.payment.phase, Phase::Parked { .. });
    let rested_at = if parked { life.steps.last().map(|step| step.appended_at) } else { life.ended_at() };
    let accepted_at = life.initiations.first().map_or(liveness.faults_ended_at, |first| first.appended_at);
    let from = accepted_at.max(liveness.faults_ended_at);
    let until = rested_at.unwrap_or(liveness.observed_at);
    let open_ms = u64::try_from((until.as_micros() - from.as_micros()) / MICROS_A_MILLI).unwrap_or(0);
    report.counts.longest_open_ms = report.counts.longest_open_ms.max(open_ms);
    if open_ms > liveness.bar_ms {
        let state = if rested_at.is_some() { "it stayed open" } else { "it is still open, after" };
        let evidence = format!("{state} {open_ms} ms, {}, version {}", life.payment.phase.name(), life.version());
        report.found(Invariant::EndsInTime, life.id, evidence);
    }
    rested_at.is_some()
}

fn nothing_hangs(history: &History, report: &mut Report) {
    if history.partitions.is_empty() {
        report.not_judged.insert(Invariant::NothingHangs);
    }
    for ends in history.partitions.iter().filter(|ends| ends.committed < ends.uncommitted) {
        let evidence = format!("it is committed up to {}, and goes on to {}", ends.committed, ends.uncommitted);
        report.found(Invariant::NothingHangs, format!("partition {}", ends.partition), evidence);
    }
}

fn offsets_reach_the_end(history: &History, report: &mut Report) {
    let mut last: BTreeMap<(&str, u32), (i64, u64)> = BTreeMap::new();
    for one in &history.offsets {
        let entry = last.entry((&one.group, one.partition)).or_default();
        *entry = (*entry).max((one.at.as_micros(), one.offset));
    }
    if last.is_empty() || history.partitions.is_empty() {
        report.not_judged.insert(Invariant::OffsetsReachTheEnd);
        return;
    }
    for ((group, partition), (_, offset)) in last {
        let end = history.partitions.iter().find(|ends| ends.partition == partition).map(|ends| ends.committed);
        if end.is_some_and(|end| offset != end) {
            let evidence = format!("partition {partition} stands at {offset}, and ends at {}", end.unwrap_or_default());
            report.found(Invariant::OffsetsReachTheEnd, group, evidence);
        }
    }
}

/// Every instance that answers after all is at rest shows every payment as it is.
fn seen_everywhere(book: &Book, history: &History, liveness: &Liveness, report: &mut Report) {
    let Some(rest_from) = liveness.rest_from else {
        report.not_judged.insert(Invariant::SeenEverywhere);
        return;
    };
    let mut seen: HashMap<&str, BTreeSet<PaymentId>> = HashMap::new();
    let at_rest = history.operations.iter().filter(|one| one.kind == Kind::Get && one.invoked_at >= rest_from);
    for (operation, answer) in at_rest.filter_map(|one| one.answer().map(|answer| (one, answer))) {
        let Some(life) = book.life(&answer.payment_id) else { continue };
        if answer.version == Some(life.version()) {
            seen.entry(&operation.instance).or_default().insert(life.id);
        }
    }
    if seen.is_empty() && !book.lives.is_empty() {
        report.found(Invariant::WellFormed, "reads", "there are none after all was at rest");
    }
    let seen: BTreeMap<&str, BTreeSet<PaymentId>> = seen.into_iter().collect();
    for (instance, seen) in seen {
        for id in book.lives.keys().filter(|id| !seen.contains(id)) {
            report.found(Invariant::SeenEverywhere, id, format!("{instance} does not show it as it is"));
        }
    }
}
