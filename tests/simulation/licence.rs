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

/// How far clocks that are believed may differ.
const TOLERANCE_US: u64 = 62 * SECOND_US;

pub fn judge(core: &Core, codec: &Codec) -> Vec<String> {
    // A clock that was changed measures nothing.
    let clocks_changed = core.trace.faults.contains_key("a clock is hours off");
    let payments = payments(core, codec);
    let charges = core.provider.requests.iter().filter(|request| matches!(request.asks, Asks::Charge { .. }));
    let charges = charges.filter(|request| !clocks_changed && !core.operated.contains(&request.charge.key));
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
    let window = core.plan.provider.key_window_us;
    let safe_until = (payment.window_from.as_micros() - ORIGIN_US) as u64 + window / 10 * 8 + TOLERANCE_US;
    if request.sent_us <= safe_until || is_licensed(core, request) {
        return None;
    }
    let late = (request.sent_us - safe_until) / SECOND_US;
    Some(format!(
        "licence: {:?} charged {} without one, {late} s after the window was safe",
        request.sender, request.charge.key
    ))
}

fn is_licensed(core: &Core, request: &Request) -> bool {
    let promises = &core.plan.provider;
    let (final_after, lasts) = (promises.not_found_final_after_us(), promises.key_window_us / 10 + TOLERANCE_US);
    let id = request.charge.key;
    let partition = home_of(id, core.plan.partitions);
    let mine = |other: &&Request| other.sender == request.sender && other.charge.key == id;
    let mut inquiries = core.provider.requests.iter().filter(mine).filter(|other| {
        matches!(other.asks, Asks::Inquiry { found_nothing: true, .. })
            && (other.sent_us..=other.sent_us + lasts).contains(&request.sent_us)
    });
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
        settled_us.is_some_and(|settled_us| inquiry.sent_us >= settled_us + final_after)
    })
}
