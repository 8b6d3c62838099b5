//! What only the model can see: who was entitled to what at which moment. These are the promises of the fence, of catching
//! up and of the epochs, which cost nobody money as long as the provider remembers its keys, and are to be kept all the
//! same. A transaction that was ended by a stray end, the known hole of the protocol, is held to none of them.

use paylog::journal::Partition;
use paylog::payment::{Event, EventData, PaymentId};
use paylog::projection::home_of;
use paylog::schema::Codec;

use crate::core::Core;
use crate::log::{Entry, Life, Slot, State};
use crate::provider::{Asks, Request, What};
use crate::transactions::STRANGER;

/// A committed outcome.
struct Outcome<'c> {
    partition: Partition,
    offset: u64,
    tick: u64,
    writer: Life,
    /// When its transaction was decided.
    decided: u64,
    event: Event,
    entry: &'c Entry,
}

pub fn judge(core: &Core, codec: &Codec) -> Vec<String> {
    let mut found = Vec::new();
    let outcomes = outcomes(core, codec);
    for outcome in &outcomes {
        found.extend(one_writer(core, outcome));
        found.extend(of_this_epoch(core, outcome));
        found.extend(charged_as_asked(core, outcome));
    }
    found.extend(ended_again(core, &outcomes));
    for request in core.provider.requests.iter().filter(|request| matches!(request.asks, Asks::Charge { .. })) {
        found.extend(knew_the_end(core, request, &outcomes));
    }
    found
}

fn outcomes<'c>(core: &'c Core, codec: &Codec) -> Vec<Outcome<'c>> {
    let mut outcomes = Vec::new();
    for partition in core.topic.partitions() {
        for (slot, offset) in core.topic.slots(partition).iter().zip(0..) {
            outcomes.extend(outcome(core, codec, slot, partition, offset));
        }
    }
    outcomes
}

fn outcome<'c>(core: &Core, codec: &Codec, slot: &'c Slot, partition: Partition, offset: u64) -> Option<Outcome<'c>> {
    let ours = |entry: &&Entry| entry.state == State::Committed && entry.writer.process != STRANGER;
    let entry = slot.entry.as_ref().filter(ours)?;
    let decided = core.txns.all[entry.txn?].decided.filter(|decided| !decided.stray)?.tick;
    let event = codec.decode(&entry.record.value).ok()?;
    Some(Outcome { partition, offset, tick: slot.tick, writer: entry.writer, decided, event, entry })
}

/// Once a lane has been taken, nothing of an earlier owner is written to its partition.
fn one_writer(core: &Core, outcome: &Outcome<'_>) -> Option<String> {
    let Outcome { partition, offset, tick, writer, .. } = outcome;
    let taken = core.ownerships.iter().filter(|own| own.partition == *partition && own.from < *tick);
    let mine = taken.clone().filter(|own| own.life == *writer).map(|own| own.from).max();
    let newer =
        taken.filter(|own| own.life != *writer && own.rightful).find(|own| mine.is_none_or(|mine| own.from > mine))?;
    Some(format!(
        "one writer: {partition}:{offset} was written by {writer:?} after {:?} had taken the partition",
        newer.life
    ))
}

/// An end is recorded in the same epoch of the lane in which the provider was asked.
fn of_this_epoch(core: &Core, outcome: &Outcome<'_>) -> Option<String> {
    let attempt = match &outcome.event.data {
        EventData::PaymentSuccessful(end) => end.attempt,
        EventData::PaymentFailed(end) => end.attempt,
        _ => return None,
    };
    let id = outcome.event.payment_id;
    if core.operated.contains(&id) {
        return None;
    }
    let asked = core.provider.requests.iter().filter(|request| {
        request.sender == outcome.writer && request.charge.key == id && request.charge.attempt == attempt
    });
    let own = core.ownerships.iter().filter(|own| own.life == outcome.writer && own.partition == outcome.partition);
    let own: Vec<_> = own.collect();
    let within = |request: &Request| {
        let holds = |at: u64, from: u64, to: Option<u64>| from < at && to.is_none_or(|to| at < to);
        own.iter().any(|o| holds(request.sent_tick, o.from, o.to) && holds(outcome.tick, o.from, o.to))
    };
    let asked: Vec<&Request> = asked.collect();
    if asked.iter().any(|request| within(request)) {
        return None;
    }
    let what = match asked[..] {
        [] => "nobody had asked the provider",
        [..] => "the provider was asked in an older epoch",
    };
    Some(format!("epochs: the end of {id} at {}:{}: {what}", outcome.partition, outcome.offset))
}

/// A payment is successful only by a receipt for what was asked.
fn charged_as_asked(core: &Core, outcome: &Outcome<'_>) -> Option<String> {
    let EventData::PaymentSuccessful(end) = &outcome.event.data else { return None };
    let made = core.provider.made.get(&outcome.event.payment_id)?;
    let wrong = made.iter().find_map(|made| match &made.what {
        What::Charged(receipt) if receipt.reference == end.gateway_reference => {
            receipt.mismatch(&core.provider.requests[made.request].charge)
        }
        _ => None,
    })?;
    let by_hand = core.operated.contains(&outcome.event.payment_id);
    (!by_hand).then(|| format!("receipts: {} is successful, and {wrong}", outcome.event.payment_id))
}

/// A lane that was taken over knows every end that was decided before.
fn knew_the_end(core: &Core, request: &Request, outcomes: &[Outcome<'_>]) -> Option<String> {
    let (id, sender, sent) = (request.charge.key, request.sender, request.sent_tick);
    let partition = home_of(id, core.plan.partitions);
    let taken =
        core.ownerships.iter().filter(|own| own.life == sender && own.partition == partition && own.from < sent);
    let recycled = core.recycled.iter().filter(|(life, tick)| *life == sender && *tick < sent).map(|(_, tick)| *tick);
    let own_ends = outcomes.iter().filter(|o| o.writer == sender && o.decided < sent).map(|o| o.decided + 1);
    let since = taken.map(|own| own.from).chain(recycled).chain(own_ends).max()?;
    let end = outcomes.iter().find(|outcome| is_end(&outcome.event, id) && outcome.decided < since)?;
    Some(format!(
        "catching up: {sender:?} asked for {id} again, which had ended at {}:{}, as it must have known",
        end.partition, end.offset
    ))
}

fn is_end(event: &Event, id: PaymentId) -> bool {
    event.payment_id == id && matches!(event.data, EventData::PaymentSuccessful(_) | EventData::PaymentFailed(_))
}

/// The same end twice takes a transaction that was ended by a stray end.
fn ended_again(core: &Core, outcomes: &[Outcome<'_>]) -> Vec<String> {
    let strays = core.txns.all.iter().any(|txn| txn.decided.is_some_and(|decided| decided.stray));
    if strays {
        return Vec::new();
    }
    let mut ends: Vec<&Outcome<'_>> = outcomes.iter().filter(|o| is_end(&o.event, o.event.payment_id)).collect();
    ends.sort_by_key(|end| (end.event.payment_id, end.offset));
    let twice = ends.windows(2).filter(|pair| pair[0].event.payment_id == pair[1].event.payment_id);
    twice
        .map(|pair| {
            let (first, second) = (pair[0], pair[1]);
            debug_assert!(first.entry.txn.is_some());
            format!(
                "ended once: {} ended at {}:{} and again at {}",
                first.event.payment_id, first.partition, first.offset, second.offset
            )
        })
        .collect()
}
