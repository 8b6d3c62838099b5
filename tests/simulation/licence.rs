//! The rule for charges past the key window (DESIGN.md 8), held against every request that was sent: inside four fifths of
//! the window a repeat is safe; past it only a final "not found" allows one, and not for long. The provider of the model, as
//! Stripe, forgives most breaches of it; the rule is there for the one that it does not.

use std::collections::BTreeMap;

use paylog::payment::{Payment, PaymentId, Timestamp};
use paylog::projection::home_of;
use paylog::schema::Codec;

use crate::core::Core;
use crate::log::State;
use crate::plan::{ORIGIN_US, SECOND_US};
use crate::provider::{Asks, Request};

/// How far clocks that are believed may differ, and with them what is measured by the later of two.
const TOLERANCE_US: u64 = 62 * SECOND_US;
/// A clock may be this far behind the log's.
const BEHIND_MAX_US: i64 = 60 * SECOND_US as i64;

pub fn judge(core: &Core, codec: &Codec) -> Vec<String> {
    let payments = payments(core, codec);
    let charges = core.provider.requests.iter().filter(|request| matches!(request.asks, Asks::Charge { .. }));
    let charges = charges.filter(|request| !core.operated.contains(&request.charge.key));
    charges.filter_map(|request| judge_one(core, request, payments.get(&request.charge.key)?)).collect()
}

fn payments(core: &Core, codec: &Codec) -> BTreeMap<PaymentId, Payment> {
    let mut payments: BTreeMap<PaymentId, Option<Payment>> = BTreeMap::new();
    for partition in core.topic.partitions() {
        for slot in core.topic.slots(partition) {
            let committed = slot.entry.as_ref().filter(|entry| entry.state == State::Committed);
            let Some(event) = committed.and_then(|entry| codec.decode(&entry.record.value).ok()) else { continue };
            let at = Timestamp::from_micros((ORIGIN_US + slot.appended_at_us as i64) / 1000 * 1000);
            let Some(at) = at else { continue };
            // What cannot be folded is reported elsewhere.
            let _ = Payment::fold(payments.entry(event.payment_id).or_default(), &event, at);
        }
    }
    payments.into_iter().filter_map(|(id, payment)| Some((id, payment?))).collect()
}

fn judge_one(core: &Core, request: &Request, payment: &Payment) -> Option<String> {
    let Request { sender, machine_us, newest_append_us, .. } = request;
    let (id, newest) = (request.charge.key, newest_append_us.unwrap_or(i64::MIN));
    if newest.saturating_sub(*machine_us) > BEHIND_MAX_US {
        return Some(format!("clocks: {sender:?} charged {id} by a clock that was far behind the log's"));
    }
    if !knows_the_time(core, request) {
        return Some(format!(
            "clocks: {sender:?} charged {id} before anything new was on the log, and did not ask first"
        ));
    }
    let safe_until = payment.window_from.as_micros() - ORIGIN_US + (core.plan.provider.key_window_us / 10 * 8) as i64;
    // A clock that was changed measures nothing: then only what its own process knew can be held against it.
    let changed = core.trace.faults.contains_key("a clock is hours off");
    let now = if changed { newest.max(*machine_us) } else { request.sent_us as i64 - TOLERANCE_US as i64 };
    if now <= safe_until || is_licensed(core, request, changed) {
        return None;
    }
    let late = (now - safe_until) as u64 / SECOND_US;
    Some(format!("licence: {sender:?} charged {id} without one, {late} s after the window was safe"))
}

/// Only what was appended since a process began tells it how its clock stands to the log's; before that it asks first.
fn knows_the_time(core: &Core, request: &Request) -> bool {
    let taken = core.ownerships.iter().filter(|own| own.life == request.sender).map(|own| own.from).min();
    let Some(taken) = taken else { return true };
    let mut slots = core.topic.partitions().flat_map(|partition| core.topic.slots(partition));
    let mut before = core.provider.requests.iter().filter(|other| other.sent_tick < request.sent_tick);
    slots.any(|slot| slot.entry.is_some() && (taken..request.sent_tick).contains(&slot.tick))
        || before.any(|other| {
            let mine = other.sender == request.sender && other.charge.key == request.charge.key;
            mine && matches!(other.asks, Asks::Inquiry { .. })
        })
}

fn is_licensed(core: &Core, request: &Request, clocks_changed: bool) -> bool {
    let promises = &core.plan.provider;
    let (final_after, lasts) = (promises.not_found_final_after_us(), promises.key_window_us / 10 + TOLERANCE_US);
    let id = request.charge.key;
    let partition = home_of(id, core.plan.partitions);
    let mine = |other: &&Request| other.sender == request.sender && other.charge.key == id;
    let mut inquiries = core.provider.requests.iter().filter(mine).filter(|other| {
        matches!(other.asks, Asks::Inquiry { found_nothing: true, .. }) && other.sent_tick < request.sent_tick
    });
    if clocks_changed {
        return inquiries.next().is_some();
    }
    inquiries.any(|inquiry| {
        let taken = core
            .ownerships
            .iter()
            .filter(|own| own.life == request.sender && own.partition == partition && own.from < inquiry.sent_tick);
        let charged = core
            .provider
            .requests
            .iter()
            .filter(mine)
            .filter(|other| matches!(other.asks, Asks::Charge { .. }) && other.sent_tick < inquiry.sent_tick);
        let settled_us = taken.map(|own| own.from_us).chain(charged.map(|other| other.sent_us)).max();
        let is_final = settled_us.is_some_and(|settled_us| inquiry.sent_us + TOLERANCE_US >= settled_us + final_after);
        is_final && request.sent_us <= inquiry.sent_us + lasts
    })
}
