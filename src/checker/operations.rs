//! What clients asked and were told, against the log (I5, I6, I7, I9, I11, I15, I21).

use std::collections::{BTreeMap, BTreeSet, HashMap};

use crate::checker::book::Book;
use crate::checker::history::{Answer, History, Kind, Operation, Outcome};
use crate::checker::life::Life;
use crate::checker::report::{Invariant, Report};
use crate::payment::{IdempotencyKey, MerchantId, PaymentId, Timestamp};

/// The refusal that says that another body came first.
const KEY_REUSED: &str = "idempotency_key_reused";
const NOT_FOUND: u16 = 404;

/// Who may pay with what key.
type Named<'h> = (&'h str, &'h str);

pub(super) fn judge(book: &Book, history: &History, report: &mut Report) {
    if history.operations.is_empty() {
        report.not_judged.extend([
            Invariant::AcceptedIsDurable,
            Invariant::SameKeySamePayment,
            Invariant::OneBodyWins,
            Invariant::ReadsDoNotGoBack,
        ]);
        return;
    }
    let skew_us = i64::try_from(history.options.clock_skew_ms).unwrap_or(i64::MAX).saturating_mul(1_000);
    let mut pays: BTreeMap<Named, Vec<&Operation>> = BTreeMap::new();
    for operation in &history.operations {
        count(operation, report);
        match (operation.kind, &operation.key) {
            (Kind::Pay, Some(key)) => pays.entry((&operation.merchant, key)).or_default().push(operation),
            (Kind::Pay, None) => report.found(Invariant::WellFormed, &operation.client, "a pay without a key"),
            (Kind::Get | Kind::History, _) => read(book, operation, report),
        }
        if let Some(answer) = operation.answer() {
            told(book, operation, answer, skew_us, report);
        }
    }
    for (named, operations) in &pays {
        paid(book, *named, operations, report);
    }
    one_payment_a_key(&pays, report);
    nothing_unasked(book, &pays, report);
}

fn count(operation: &Operation, report: &mut Report) {
    match operation.outcome {
        Outcome::Ok(_) => report.counts.operations_ok += 1,
        Outcome::Fail { .. } => report.counts.operations_failed += 1,
        Outcome::Indeterminate { .. } => report.counts.operations_indeterminate += 1,
    }
}

// === every answer ===

/// I9 and I21: what an answer shows of a payment stands on the log, and is its asker's.
fn told(book: &Book, operation: &Operation, answer: &Answer, skew_us: i64, report: &mut Report) {
    let Some(life) = book.life(&answer.payment_id) else {
        let invariant = match operation.kind {
            Kind::Pay => Invariant::AcceptedIsDurable,
            Kind::Get | Kind::History => Invariant::OnlyCommittedIsSeen,
        };
        let evidence =
            format!("{} was answered with {}, and the log does not know it", operation.client, answer.status);
        report.found(invariant, &answer.payment_id, evidence);
        return;
    };
    if life.canonical().merchant_id.as_str() != operation.merchant {
        let evidence = format!("it is of {}, and {} was told of it", life.canonical().merchant_id, operation.merchant);
        report.found(Invariant::MerchantsApart, life.id, evidence);
    }
    if let Some(version) = answer.version {
        let status = answer.payment_status.as_deref().unwrap_or_default();
        shown(life, version, status, operation.completed_at, skew_us, report);
    }
}

fn shown(life: &Life, version: u64, status: &str, at: Timestamp, skew_us: i64, report: &mut Report) {
    let evidence = match life.step(version) {
        None => format!("version {version} was shown, and the log has {} of it", life.version()),
        Some(step) if step.status.name() != status => {
            format!("version {version} was shown as {status:?}, and on the log it is {}", step.status.name())
        }
        Some(step) if at.as_micros().saturating_add(skew_us) < step.appended_at.as_micros() => {
            format!("version {version} was shown at {at}, and written at {} only", step.appended_at)
        }
        Some(_) => return,
    };
    report.found(Invariant::OnlyCommittedIsSeen, life.id, evidence);
}

// === reads ===

fn read(book: &Book, operation: &Operation, report: &mut Report) {
    let Some(life) = operation.payment_id.as_deref().and_then(|id| book.life(id)) else { return };
    let least = operation.at_least.map_or(0, |place| life.version_at(place));
    match &operation.outcome {
        Outcome::Ok(answer) => {
            if answer.payment_id != life.id.to_string() {
                report.found(Invariant::WellFormed, life.id, format!("the answer is about {}", answer.payment_id));
            }
            if let Some(version) = answer.version.filter(|version| *version < least) {
                let evidence = format!("version {version} was shown to who named the place of version {least}");
                report.found(Invariant::ReadsDoNotGoBack, life.id, evidence);
            }
            history_of(life, answer, report);
        }
        Outcome::Fail { status: NOT_FOUND, .. } if least > 0 => {
            let evidence = format!("404 to who named the place of version {least}");
            report.found(Invariant::ReadsDoNotGoBack, life.id, evidence);
        }
        Outcome::Fail { .. } | Outcome::Indeterminate { .. } => {}
    }
}

fn history_of(life: &Life, answer: &Answer, report: &mut Report) {
    for ((version, name), expected) in answer.events.iter().zip(1..) {
        let evidence = match life.step(*version) {
            _ if *version != expected => {
                let evidence = format!("its history goes on with version {version} where {expected} belongs");
                report.found(Invariant::VersionsWithoutGap, life.id, evidence);
                return;
            }
            Some(step) if step.name == name => continue,
            Some(step) => format!("its history has {name} as version {version}, and the log {}", step.name),
            None => format!("its history has version {version}, and the log {} of it", life.version()),
        };
        report.found(Invariant::OnlyCommittedIsSeen, life.id, evidence);
    }
}

// === pays ===

/// All that was asked with one key.
fn paid(book: &Book, named: Named, operations: &[&Operation], report: &mut Report) {
    let life = derived(named).and_then(|id| book.lives.get(&id));
    for operation in operations {
        match (&operation.outcome, life) {
            (Outcome::Ok(answer), Some(life)) => accepted(life, operation, answer, report),
            (Outcome::Fail { code, .. }, Some(life))
                if code == KEY_REUSED && operation.body.as_ref().is_some_and(|body| life.is_asked_by(body)) =>
            {
                let evidence = format!("{} asked for what it is, and was told of a conflict", operation.client);
                report.found(Invariant::OneBodyWins, life.id, evidence);
            }
            _ => {}
        }
    }
    let refused = |operation: &&Operation| match &operation.outcome {
        Outcome::Fail { code, .. } => code != KEY_REUSED,
        Outcome::Ok(_) | Outcome::Indeterminate { .. } => false,
    };
    if let Some(life) = life.filter(|_| operations.iter().all(refused)) {
        report.found(Invariant::AcceptedIsDurable, life.id, "every request for it was refused, and it is on the log");
    }
}

fn accepted(life: &Life, operation: &Operation, answer: &Answer, report: &mut Report) {
    if let Some(place) = answer.appended_at
        && !life.initiations.iter().any(|initiation| initiation.place == place)
    {
        let evidence = format!("{} was told that it stands at {place}, where it is not", operation.client);
        report.found(Invariant::AcceptedIsDurable, life.id, evidence);
    }
    if let Some(request_id) = &answer.request_id
        && !life.initiations.iter().any(|initiation| initiation.request_id == *request_id)
    {
        let evidence = format!("{} was told of the request {request_id}, which is not on the log", operation.client);
        report.found(Invariant::AcceptedIsDurable, life.id, evidence);
    }
    // Who was told no more than that it is recorded may still lose to who came first.
    if answer.confirmed && operation.body.as_ref().is_some_and(|body| !life.is_asked_by(body)) {
        let evidence =
            format!("{} asked for something else, and was answered with {}", operation.client, answer.status);
        report.found(Invariant::OneBodyWins, life.id, evidence);
    }
}

fn one_payment_a_key(pays: &BTreeMap<Named, Vec<&Operation>>, report: &mut Report) {
    let mut owner: HashMap<&str, Named> = HashMap::new();
    for (named, operations) in pays {
        let answers = operations.iter().filter_map(|operation| operation.answer());
        let ids: BTreeSet<&str> = answers.map(|answer| answer.payment_id.as_str()).collect();
        if ids.len() > 1 {
            let evidence = format!("one key of {} was answered with {} payments: {ids:?}", named.0, ids.len());
            report.found(Invariant::SameKeySamePayment, ids.iter().next().unwrap_or(&""), evidence);
        }
        for id in ids {
            if derived(*named).is_some_and(|derived| derived.to_string() != id) {
                let evidence = format!("it is not the payment that this key of {} names for ever", named.0);
                report.found(Invariant::SameKeySamePayment, id, evidence);
            }
            if let Some(other) = owner.insert(id, *named).filter(|other| other != named) {
                let evidence = format!("one payment for two keys, of {} and {}", other.0, named.0);
                report.found(Invariant::SameKeySamePayment, id, evidence);
            }
        }
    }
}

/// What stands on the log was asked for, whatever the asker was told.
fn nothing_unasked(book: &Book, pays: &BTreeMap<Named, Vec<&Operation>>, report: &mut Report) {
    let asked: BTreeSet<PaymentId> = pays.keys().filter_map(|named| derived(*named)).collect();
    for life in book.lives.values().filter(|life| !asked.contains(&life.id)) {
        report.found(Invariant::AcceptedIsDurable, life.id, "it is on the log, and nobody asked for it");
    }
}

fn derived((merchant, key): Named) -> Option<PaymentId> {
    let (merchant, key) = (MerchantId::parse(merchant).ok()?, IdempotencyKey::parse(key).ok()?);
    Some(PaymentId::derive(&merchant, &key))
}
