//! The provider's ledger against the log: charged what was accepted, once, and as the payment ended (I1, I2, I3).

use std::collections::HashMap;

use crate::checker::book::Book;
use crate::checker::history::{History, LedgerEntry, Parking};
use crate::checker::life::{End, Life};
use crate::checker::report::{Invariant, Report};
use crate::payment::Status;

pub(super) fn judge(book: &Book, history: &History, report: &mut Report) {
    let Some(ledger) = &history.ledger else {
        let all = [Invariant::ChargedAsAccepted, Invariant::ChargedOnce, Invariant::SameBodyEveryTry];
        report.not_judged.extend(all);
        report.not_judged.insert(Invariant::EndAsCharged);
        return;
    };
    let mut by_key: HashMap<&str, Vec<&LedgerEntry>> = HashMap::new();
    for entry in ledger {
        report.counts.charges += entry.charges;
        report.counts.requests_at_the_provider += entry.requests;
        by_key.entry(&entry.key).or_default().push(entry);
        as_accepted(entry, book.life(&entry.key), &history.options.parking, report);
    }
    for life in book.lives.values() {
        let entries = by_key.get(life.id.to_string().as_str()).map_or(&[][..], Vec::as_slice);
        once(life, entries, report);
        same_body(life, entries, report);
        as_ended(life, entries, &history.options.flipped, report);
    }
}

/// A payment that is parked for cause may be so because the provider charged something else.
fn as_accepted(entry: &LedgerEntry, life: Option<&Life>, parking: &Parking, report: &mut Report) {
    let LedgerEntry { key, charges, amount, currency, requests, .. } = entry;
    let Some(life) = life else {
        let evidence = format!("{charges} charges in {requests} requests, and the log knows no such payment");
        report.found(Invariant::ChargedAsAccepted, key, evidence);
        return;
    };
    if (*charges == 0 && currency.is_empty()) || life.is_parked_for_cause(parking) {
        return;
    }
    let accepted = life.canonical().money;
    if accepted.amount() != *amount || !accepted.currency().code().eq_ignore_ascii_case(currency) {
        let evidence =
            format!("accepted {} {}, and the provider has {amount} {currency}", accepted.amount(), accepted.currency());
        report.found(Invariant::ChargedAsAccepted, key, evidence);
    }
}

fn once(life: &Life, entries: &[&LedgerEntry], report: &mut Report) {
    let charges: u64 = entries.iter().map(|entry| entry.charges).sum();
    if charges > 1 + life.charge_agains {
        report.found(Invariant::ChargedOnce, life.id, format!("{charges} charges"));
    }
}

fn same_body(life: &Life, entries: &[&LedgerEntry], report: &mut Report) {
    let mut digests = entries.iter().flat_map(|entry| &entry.body_digests);
    let Some(first) = digests.next() else { return };
    if let Some(other) = digests.find(|other| *other != first) {
        report.found(Invariant::SameBodyEveryTry, life.id, format!("one try sent {first}, another {other}"));
    }
}

/// By the first end on the log, not by the fold.
fn as_ended(life: &Life, entries: &[&LedgerEntry], flipped: &[String], report: &mut Report) {
    let Some((place, end)) = life.ends.first() else { return };
    if life.settled_by_hand {
        return;
    }
    let charges: u64 = entries.iter().map(|entry| entry.charges).sum();
    let requests: u64 = entries.iter().map(|entry| entry.requests).sum();
    let evidence = match (end, end.status()) {
        (End::Successful { reference, .. }, _) if charges == 0 => {
            format!("successful at {place} with the reference {reference}, and there is no charge")
        }
        (End::Successful { reference, .. }, _) if is_unknown(reference, entries) => {
            format!("successful at {place} with the reference {reference}, which is no charge of it")
        }
        (_, Status::Failed) if charges > 0 && !flipped.contains(&life.id.to_string()) => {
            format!("failed at {place}, and there are {charges} charges")
        }
        (_, Status::Failed) if requests == 0 => format!("failed at {place}, and the provider was never asked"),
        _ => return,
    };
    report.found(Invariant::EndAsCharged, life.id, evidence);
}

fn is_unknown(reference: &String, entries: &[&LedgerEntry]) -> bool {
    let mut known = entries.iter().flat_map(|entry| &entry.references).peekable();
    known.peek().is_some() && known.all(|known| known != reference)
}
