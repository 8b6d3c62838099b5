//! What came to the receivers, and what stands on the log of deliveries, held against what was asked for: at least once, under
//! one id, in order where order is wanted; every attempt on the log, as it was; and nobody passed over.

use std::collections::{BTreeMap, BTreeSet};

use paylog::control::{EndpointId, KnownEndpoint};
use paylog::deliveries::outcome::{self, Outcome, Result as Ended};
use paylog::journal::{LogId, Offset, Position};
use paylog::payment::PaymentId;
use paylog::projection::home_of;

use super::people::Arrival;
use super::{DELIVERIES, World};
use crate::log::Life;

/// One on the log, by whom it was written, and when in the order of everything.
struct Recorded {
    by: Life,
    tick: u64,
    /// When its writer was told that it stands there.
    acknowledged: Option<u64>,
    outcome: Outcome,
}

/// Of every payment: where its events with an effect stand, and their names.
type Events = BTreeMap<PaymentId, Vec<(Position, String)>>;

struct Evidence<'w> {
    world: &'w World,
    recorded: Vec<Recorded>,
    events: Events,
    endpoints: Vec<KnownEndpoint>,
    /// After how many attempts something is given up.
    attempts_max: u32,
    violations: Vec<String>,
}

pub fn judge(world: &World) -> Vec<String> {
    let shown = (0..world.count()).find_map(|process| {
        world.with(process, |here| {
            let known = here.control.webhooks().known();
            let endpoints = known.endpoints.values().map(|known| known.as_ref().clone()).collect();
            (events(world, here), endpoints)
        })
    });
    let Some((events, endpoints)) = shown else { return vec!["nobody is there to be asked".to_owned()] };
    let attempts_max = world.people().args.webhook_retry_ms.len() as u32 + 1;
    let recorded = recorded(world);
    let mut evidence = Evidence { world, recorded, events, endpoints, attempts_max, violations: Vec::new() };
    evidence.one_id_each();
    evidence.all_told();
    evidence.in_order();
    evidence.as_it_was();
    evidence.gone_is_gone();
    evidence.told_once_it_is_known();
    evidence.violations
}

fn events(world: &World, here: &mut super::teller::Teller) -> Events {
    let (ids, partitions) = {
        let ids: Vec<PaymentId> = world.people().stories.iter().map(|story| story.id).collect();
        (ids, world.core().plan.partitions)
    };
    let of = |id: PaymentId| {
        let entries = here.view.events_after(id, 0, 100).unwrap_or_default();
        let known = entries.into_iter().map(|entry| (entry.position, entry.event.data.name().to_owned()));
        (id, known.inspect(|(at, _)| assert_eq!(at.partition, home_of(id, partitions))).collect())
    };
    ids.into_iter().map(of).collect()
}

fn recorded(world: &World) -> Vec<Recorded> {
    let core = world.core();
    let topic = core.topic_of(DELIVERIES);
    let slots = topic.partitions().flat_map(|partition| {
        let at = move |offset| (partition, Offset(offset));
        topic.slots(partition).iter().zip(0..).map(move |(slot, offset)| (at(offset), slot))
    });
    let read = slots.filter_map(|(at, slot)| {
        let entry = slot.entry.as_ref()?;
        let outcome = outcome::decode(LogId([8; 16]), &entry.record.value).ok().flatten()?;
        let acknowledged = core.acknowledged.get(&at).copied();
        Some(Recorded { by: entry.writer, tick: slot.tick, acknowledged, outcome })
    });
    read.collect()
}

impl Evidence<'_> {
    fn saw(&mut self, what: String) {
        self.violations.push(what);
    }

    /// Given up after as many attempts as there are to be, or because it was gone; and since when that is known.
    fn given_up(&self, to: EndpointId, at: Position) -> Option<u64> {
        let of = self
            .recorded
            .iter()
            .filter(|one| one.outcome.work.target == to.into() && one.outcome.work.position() == at);
        let over = |one: &&Recorded| {
            matches!(one.outcome.result, Ended::Failed { next_at: None, .. })
                && (one.outcome.attempt >= self.attempts_max || one.outcome.status == Some(410))
        };
        of.filter(over).map(|one| one.tick).min()
    }

    /// The same thing has the same id, wherever and however often it is told; another thing has another.
    fn one_id_each(&mut self) {
        let mut ids: BTreeMap<(PaymentId, u64), BTreeSet<String>> = BTreeMap::new();
        for arrival in &self.world.people().arrivals {
            if let Some(of) = arrival.of {
                ids.entry(of).or_default().insert(arrival.id.clone());
            }
        }
        let distinct: BTreeSet<&String> = ids.values().flatten().collect();
        let many = ids.values().any(|ids| ids.len() != 1);
        if many || distinct.len() != ids.len() {
            self.saw("one event has two ids, or two events have one".to_owned());
        }
    }

    /// Whoever is enabled was told all that it wants, from where it was enabled on.
    fn all_told(&mut self) {
        let people = self.world.people();
        let mut missed = Vec::new();
        for known in self.endpoints.iter().filter(|known| known.endpoint.is_enabled()) {
            let endpoint = &known.endpoint;
            for (payment, events) in &self.events {
                for ((at, name), version) in events.iter().zip(1..) {
                    let named = endpoint.events.as_ref().is_none_or(|names| names.contains(name));
                    let is_for_it = named && at.offset >= endpoint.from_of(at.partition);
                    let came = |arrival: &Arrival| arrival.to == endpoint.id && arrival.of == Some((*payment, version));
                    let was_taken = people.arrivals.iter().any(|arrival| came(arrival) && arrival.was_taken());
                    if is_for_it && !was_taken && self.given_up(endpoint.id, *at).is_none() {
                        missed.push(format!("{} was never told of {name}, {payment} version {version}", endpoint.id));
                    }
                }
            }
        }
        drop(people);
        self.violations.extend(missed);
    }

    /// Where order is wanted nothing comes before what was earlier has been taken, or given up.
    fn in_order(&mut self) {
        let people = self.world.people();
        let mut early = Vec::new();
        for receiver in people.receivers.iter().filter(|receiver| receiver.ordered) {
            let came: Vec<&Arrival> = people.arrivals.iter().filter(|arrival| arrival.to == receiver.id).collect();
            for arrival in &came {
                let Some((payment, version)) = arrival.of else { continue };
                let events = self.events.get(&payment).map(Vec::as_slice).unwrap_or_default();
                for ((at, name), before) in events.iter().zip(1..version) {
                    let taken = |one: &&&Arrival| {
                        one.of == Some((payment, before)) && one.was_taken() && one.tick < arrival.tick
                    };
                    let given_up = self.given_up(receiver.id, *at).is_some_and(|tick| tick < arrival.tick);
                    let is_for_it = receiver.wants(name) && arrival.covers(*at);
                    if is_for_it && !given_up && !came.iter().any(|one| taken(&one)) {
                        early.push(format!("{} was told of {payment} version {version} before {before}", receiver.id));
                    }
                }
            }
        }
        drop(people);
        self.violations.extend(early);
    }

    /// What stands on the log was done, and said as it was; and what a process did that still runs stands there.
    fn as_it_was(&mut self) {
        type Attempts = BTreeMap<(Life, EndpointId, Option<(PaymentId, u64)>), Vec<Option<u16>>>;
        let (mut done, mut written): (Attempts, Attempts) = Default::default();
        for arrival in self.world.people().arrivals.iter().filter(|arrival| arrival.heard) {
            done.entry((arrival.from, arrival.to, arrival.of)).or_default().push(arrival.status);
        }
        let mut seen = BTreeSet::new();
        for Recorded { by, outcome, .. } in &self.recorded {
            let Some(to) = outcome.work.target.endpoint() else { continue };
            let of = match &outcome.what {
                outcome::What::Event { payment, version, .. } => Some((*payment, *version)),
                outcome::What::Test | outcome::What::Disabled { .. } => None,
            };
            // One that was not acknowledged stands there twice.
            if seen.insert((*by, outcome.work, outcome.attempt, outcome.at)) {
                written.entry((*by, to, of)).or_default().push(outcome.status);
            }
        }
        let mut wrong = Vec::new();
        for (key, written) in &mut written {
            written.sort_unstable();
            let mut left = done.get(key).cloned().unwrap_or_default();
            let made_up = written
                .iter()
                .any(|status| left.iter().position(|one| one == status).map(|at| left.swap_remove(at)).is_none());
            if made_up {
                wrong.push(format!("on the log of deliveries stands what {key:?} did not come to: {written:?}"));
            }
        }
        for ((by, to, of), done) in &done {
            let on_log = written.get(&(*by, *to, *of)).map_or(0, Vec::len);
            if on_log < done.len() && !self.world.core().is_over(*by) {
                wrong.push(format!("{} attempts at {to} are not on the log", done.len() - on_log));
            }
        }
        self.violations.extend(wrong);
    }

    /// Whoever was told, and knows that it stands on the log, is not told it again by the same process: at least once is for what
    /// is not known. And nobody makes more attempts than there are to be.
    fn told_once_it_is_known(&mut self) {
        let mut again = Vec::new();
        for one in &self.recorded {
            let (work, outcome) = (one.outcome.work, &one.outcome);
            let outcome::What::Event { payment, version, .. } = &outcome.what else { continue };
            if outcome.attempt > self.attempts_max {
                again.push(format!("attempt {} of {payment} version {version}", outcome.attempt));
            }
            let (Ended::Delivered, Some(known)) = (&outcome.result, one.acknowledged) else { continue };
            let is_same = |arrival: &&Arrival| work.target == arrival.to.into();
            let people = self.world.people();
            let mut came = people.arrivals.iter().filter(is_same);
            let is_again = |arrival: &Arrival| {
                arrival.from == one.by && arrival.of == Some((*payment, *version)) && arrival.tick > known
            };
            if came.any(is_again) {
                again.push(format!(
                    "{:?} tells {} of {payment} version {version} again, and knew better",
                    one.by, work.target
                ));
            }
        }
        self.violations.extend(again);
    }

    /// Who has said that it is gone is disabled, unless somebody has enabled it since.
    fn gone_is_gone(&mut self) {
        let people = self.world.people();
        let mut left = Vec::new();
        for known in &self.endpoints {
            let said = |arrival: &&Arrival| {
                let same = arrival.to == known.endpoint.id && arrival.enabled == known.enabled_offset;
                same && arrival.status == Some(410) && arrival.heard && !self.world.core().is_over(arrival.from)
            };
            if known.endpoint.is_enabled() && people.arrivals.iter().any(|arrival| said(&arrival)) {
                left.push(format!("{} has said that it is gone, and is enabled", known.endpoint.id));
            }
            let reason = known.endpoint.reason.as_deref();
            let answered = people.arrivals.iter().any(|one| one.to == known.endpoint.id && one.status == Some(410));
            if reason == Some("gone") && !answered {
                left.push(format!("{} is disabled for being gone, and never said so", known.endpoint.id));
            }
        }
        drop(people);
        self.violations.extend(left);
    }
}
