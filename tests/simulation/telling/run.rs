//! One seed of those who tell: faults, then none any more, until nothing is left to tell; then everything is thrown away and
//! folded anew, which tells nobody anything; and then what came where, and what stands on the log, is judged.

use std::collections::BTreeMap;
use std::sync::Arc;

use paylog::control::EndpointId;
use paylog::journal::{Offset, Partition};
use paylog::store::Store;
use tokio::task::coop::unconstrained;

use super::people::People;
use super::teller::Teller;
use super::{DELIVERIES, PAYMENTS, World, judge};
use crate::core::Core;
use crate::log::{Life, Log, Topic};
use crate::plan::{HOUR_US, MINUTE_US, Plan, SECOND_US};
use crate::planted::Mistake;
use crate::run::{Counts, Judges, Verdict, round};
use crate::schedule;
use crate::world::Program;

/// After the faults, how long it may take until nothing is left to tell: the longest pause between two attempts, and what a
/// clock that was hours off has written down.
const QUIET_MAX_US: u64 = 60 * HOUR_US;
const ROUNDS_MAX: usize = 5_000;
/// The longest that time is let pass at once while nothing happens.
const PAUSE_MAX_US: u64 = 30 * MINUTE_US;

pub fn run(seed: u64, mistake: Option<Mistake>, loud: bool, judges: &Judges) -> Verdict {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
    let runtime = runtime.expect("a runtime without I/O");
    let plan = Plan::new(seed);
    let people = People::new(&plan, &judges.office);
    let partitions = plan.partitions;
    let mut core = Core::new(plan, mistake, loud);
    core.beside = vec![Topic::new(partitions), Topic::new(1)];
    let world = World::new(core, people, &judges.codec);
    let verdict = runtime.block_on(unconstrained(whole(&world, seed)));
    let _context = runtime.enter();
    world.end();
    verdict
}

async fn whole(world: &Arc<World>, seed: u64) -> Verdict {
    let steps = world.core().plan.steps;
    for _ in 0..steps {
        schedule::step(world, None);
        tokio::task::yield_now().await;
    }
    {
        let mut core = world.core();
        core.faults_on = false;
        schedule::set_clocks_right(&mut core);
        core.machines.iter_mut().for_each(|machine| (machine.crash_in, machine.freeze_in) = (None, None));
        let now = core.now_us;
        core.trace.line(now, format_args!("the faults have ended"));
    }
    let began_us = world.core().now_us;
    schedule::pass(world.as_ref(), MINUTE_US); // what was under way has arrived
    quiet(world).await;
    let longest_open_ms = (world.core().now_us - began_us) / 1_000;
    let violations = judge::judge(world);
    let anew = folded_anew(world).await;
    let seen = world.seen();
    let (core, people) = (world.core(), world.people());
    let counts = Counts {
        payments: people.stories.len() as u64,
        told: people.arrivals.len() as u64,
        records: outcomes(&core),
        longest_open_ms,
        lines: core.trace.lines,
        ..Counts::default()
    };
    let violations = seen.into_iter().chain(violations).chain(anew).collect();
    Verdict { seed, violations, hash: core.trace.hash(), faults: core.trace.faults.clone(), counts }
}

/// How many there are.
fn outcomes(core: &Core) -> u64 {
    let topic = core.topic_of(DELIVERIES);
    topic.partitions().map(|partition| topic.end(partition).0).sum()
}

/// Everybody gets a turn, again and again, until nothing is left to do.
async fn quiet(world: &Arc<World>) {
    let (began, mut pause) = (world.core().now_us, SECOND_US / 20);
    for _ in 0..ROUNDS_MAX {
        let before = world.core().trace.lines;
        (0..world.count()).for_each(|process| round(world, process));
        let idle = world.core().trace.lines == before;
        pause = if idle { (pause * 2).min(PAUSE_MAX_US) } else { SECOND_US / 20 };
        if idle && what_is_left(world).is_empty() {
            return;
        }
        if world.core().now_us > began + QUIET_MAX_US {
            break;
        }
        schedule::pass(world.as_ref(), pause);
        tokio::task::yield_now().await;
    }
    world.saw(format!("liveness: {}", what_is_left(world)));
}

/// In words; empty if it is nothing.
fn what_is_left(world: &World) -> String {
    let mut left = Vec::new();
    for process in 0..world.count() {
        let here = world.with(process, |here| left_of(world, here, &mut left));
        if here.is_none() {
            left.push(format!("process {process} is not there"));
        }
    }
    left.join("; ")
}

fn left_of(world: &World, here: &Teller, left: &mut Vec<String>) {
    let ends = |log: Log| -> Vec<Offset> {
        let core = world.core();
        let topic = core.topic_of(log);
        topic.partitions().map(|partition| topic.end(partition)).collect()
    };
    let (payments, outcomes, process) = (ends(PAYMENTS), ends(DELIVERIES), here.life.process);
    let receivers: Vec<_> = world.people().receivers.iter().map(|receiver| receiver.id).collect();
    let folded = here.view.folded();
    let told = (0..outcomes.len() as u32).map(|p| here.deliveries.folded_to(Partition(p)));
    if folded.as_slice() != payments || !told.eq(outcomes.iter().copied()) {
        left.push(format!("process {process} has not folded all"));
    }
    if here.tasks.are_there() {
        left.push(format!("process {process} is at something"));
    }
    for id in &receivers {
        match here.deliveries.open_count(*id, 100) {
            Ok(Some(0)) => {}
            open => left.push(format!("{id} is still to be told {open:?} things, by process {process}")),
        }
    }
}

/// Everybody dies, and one begins with nothing: it comes to the same, and tells nobody anything.
async fn folded_anew(world: &Arc<World>) -> Option<String> {
    let before_it = world.with(0, |here| ended(world, here)).unwrap_or_default();
    (0..world.count()).for_each(|process| world.kill(process));
    let (life, told, before) = {
        let mut core = world.core();
        let machine = &mut core.machines[0];
        (machine.start, machine.dead) = (machine.start + 1, false);
        let life = Life { process: 0, start: machine.start };
        (life, world.people().arrivals.len(), outcomes(&core))
    };
    schedule::pass(world.as_ref(), MINUTE_US); // the others are out of the group
    let disk = [Store::in_memory(), Store::in_memory()];
    let started = Teller::start(world, life, &disk);
    let mut teller = match started {
        Ok(teller) => teller,
        Err(reason) => return Some(format!("nothing can be folded anew: {reason}")),
    };
    for _ in 0..ROUNDS_MAX / 10 {
        let done = teller.fold(world).and_then(|()| teller.turn());
        if let Err(reason) = done {
            return Some(format!("what is folded anew ends: {reason}"));
        }
        while let (1.., _) | (_, 1..) = teller.tasks.ready() {
            teller.tasks.ask(0);
            teller.tasks.run(0);
        }
        schedule::pass(world.as_ref(), SECOND_US);
        tokio::task::yield_now().await;
    }
    let (now_told, after) = (world.people().arrivals.len(), outcomes(&world.core()));
    if (told, before) != (now_told, after) {
        return Some(format!("what was folded anew has told {} things", now_told - told));
    }
    let mut left = Vec::new();
    left_of(world, &teller, &mut left);
    let core = world.core();
    let unowned = core.topic_of(DELIVERIES).partitions().filter(|partition| core.group.owner(*partition).is_none());
    left.extend(unowned.map(|partition| format!("nobody has {partition}")));
    drop(core);
    if !left.is_empty() {
        return Some(format!("what is folded anew does not come to its end: {}", left.join("; ")));
    }
    (before_it != ended(world, &teller)).then(|| "what is folded anew comes to something else".to_owned())
}

/// What became of everything that was told to its end: by receiver, and where the event stands.
type Ends = BTreeMap<(EndpointId, Partition, Offset), Vec<(&'static str, u32)>>;

/// What nobody was told, for its endpoint was disabled or begun anew, is found by none who begins with nothing.
fn ended(world: &World, teller: &Teller) -> Ends {
    let people = world.people();
    let mut ends = Ends::new();
    for receiver in &people.receivers {
        for story in &people.stories {
            for entry in teller.view.events_after(story.id, 0, 100).unwrap_or_default() {
                let told = teller.deliveries.of_event(receiver.id, entry.position).unwrap_or_default();
                let over = told.iter().filter(|told| ["delivered", "given_up"].contains(&told.state));
                let over: Vec<_> = over.map(|told| (told.state, told.attempts)).collect();
                ends.insert((receiver.id, entry.position.partition, entry.position.offset), over);
            }
        }
    }
    ends
}
