//! One seed, from its beginning to its verdict: faults, then (in most seeds) none any more, until everything is quiet; and
//! then what is on the log, at the provider and in every projection is judged.

use std::sync::Arc;

use paylog::checker::{Checker, ProjectionDigest};
use paylog::journal::Offset;
use paylog::payment::Phase;
use paylog::schema::Codec;
use paylog::store::Store;
use tokio::task::coop::unconstrained;

use crate::client::{self, Clients};
use crate::core::Core;
use crate::evidence;
use crate::history::{Bar, digests, history};
use crate::licence;
use crate::log::Life;
use crate::plan::{HOUR_US, MINUTE_US, Plan, SECOND_US};
use crate::planted::Mistake;
use crate::process::Process;
use crate::schedule;
use crate::telling::Office;
use crate::trace::Faults;
use crate::world::{Program, World};

/// After the faults, how long it may take until all is quiet. Some of it a clock that was hours off has written down.
const QUIET_MAX_US: u64 = 40 * HOUR_US;
const ROUNDS_MAX: usize = 5_000;
/// The longest that time is let pass at once while nothing happens.
const PAUSE_MAX_US: u64 = MINUTE_US;

/// What is the same for all seeds.
pub struct Judges {
    pub codec: Arc<Codec>,
    pub checker: Checker,
    pub office: Arc<Office>,
}

pub struct Verdict {
    pub seed: u64,
    pub violations: Vec<String>,
    pub hash: u64,
    pub faults: Faults,
    pub counts: Counts,
}

#[derive(Default)]
pub struct Counts {
    pub payments: u64,
    pub charges: u64,
    pub records: u64,
    pub parked: u64,
    pub repeated_ends: u64,
    /// Requests to those who are told.
    pub told: u64,
    pub longest_open_ms: u64,
    pub lines: u64,
}

pub fn run(seed: u64, mistake: Option<Mistake>, loud: bool, judges: &Judges) -> Verdict {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
    let runtime = runtime.expect("a runtime without I/O");
    let plan = Plan::new(seed);
    let clients = Clients::new(&plan);
    let world = World::new(Core::new(plan, mistake, loud), clients, &judges.codec);
    let verdict = runtime.block_on(unconstrained(whole(&world, judges)));
    let _context = runtime.enter();
    world.end();
    verdict
}

async fn whole(world: &Arc<World>, judges: &Judges) -> Verdict {
    let (steps, endless, seed) = {
        let core = world.core();
        (core.plan.steps, core.plan.endless, core.plan.seed)
    };
    for _ in 0..steps {
        schedule::step(world, None);
        tokio::task::yield_now().await;
    }
    let (bar, digests) = if endless {
        give_up(world);
        (None, rebuilt(world).await.into_iter().collect())
    } else {
        let bar = settle(world).await;
        (Some(bar), projections(world).await)
    };
    judge(world, judges, seed, bar, digests)
}

/// Everybody dies; what was open at the broker comes to its end.
fn give_up(world: &Arc<World>) {
    (0..world.count()).for_each(|process| world.kill(process));
    world.core().faults_on = false;
    schedule::pass(world.as_ref(), MINUTE_US);
    client::hear(world);
}

// === after the faults ===

async fn settle(world: &Arc<World>) -> Bar {
    let began_us = {
        let mut core = world.core();
        core.faults_on = false;
        schedule::set_clocks_right(&mut core);
        core.machines.iter_mut().for_each(|machine| (machine.crash_in, machine.freeze_in) = (None, None));
        let now = core.now_us;
        core.trace.line(now, format_args!("the faults have ended"));
        now
    };
    let bar = Bar { faults_ended_us: began_us, bar_us: QUIET_MAX_US };
    quiet(world).await;
    // The provider has forgotten all keys, and everybody asks once more.
    let (window, orders) = {
        let core = world.core();
        (core.plan.provider.key_window_us, core.plan.payments)
    };
    schedule::pass(world.as_ref(), 2 * window);
    tokio::task::yield_now().await;
    for order in 0..orders {
        for process in 0..world.count() {
            client::pay(world, process, order);
        }
    }
    quiet(world).await;
    bar
}

/// Everybody gets a turn, again and again, until nothing is left to do.
async fn quiet(world: &Arc<World>) {
    let began = world.core().now_us;
    let mut pause = SECOND_US / 20;
    for _ in 0..ROUNDS_MAX {
        let before = world.core().trace.lines;
        (0..world.count()).for_each(|process| round(world, process));
        client::hear(world);
        ask_again(world);
        let idle = world.core().trace.lines == before;
        pause = if idle { (pause * 2).min(PAUSE_MAX_US) } else { SECOND_US / 20 };
        if idle && is_quiet(world) {
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

pub fn round<P: Program>(world: &Arc<World<P>>, process: usize) {
    const TASKS_MAX: usize = 200;
    if !world.is_here(process) {
        world.start(process);
    }
    for _ in 0..2 {
        let folded = world.with(process, |here| here.fold(world));
        schedule::ended(world, process, folded);
        for _ in 0..TASKS_MAX {
            let Some((woken, questions)) = world.with(process, |here| here.tasks().ready()) else { return };
            if woken == 0 && questions == 0 {
                break;
            }
            world.with(process, |here| if questions > 0 { here.tasks().ask(0) } else { here.tasks().run(0) });
        }
        let turned = world.with(process, |here| here.turn());
        schedule::ended(world, process, turned);
    }
}

/// Who was not told what became of an order asks again.
fn ask_again(world: &Arc<World>) {
    if world.clients().are_waiting() {
        return;
    }
    let unanswered = world.clients().orders.iter().position(|order| !order.answered);
    let process = world.core().random.below(world.count());
    if let Some(order) = unanswered {
        client::pay(world, process, order);
    }
}

fn is_quiet(world: &World) -> bool {
    what_is_left(world).is_empty()
}

/// In words; empty if it is nothing.
fn what_is_left(world: &World) -> String {
    let mut left = Vec::new();
    let (ids, all_told) = {
        let clients = world.clients();
        let ids: Vec<_> = clients.orders.iter().map(|order| client::payment_id(&order.key)).collect();
        (ids, !clients.are_waiting() && clients.orders.iter().all(|order| order.answered))
    };
    if !all_told {
        left.push("a client has no answer".to_owned());
    }
    let ends: Vec<(Offset, Offset)> = {
        let core = world.core();
        core.topic.partitions().map(|p| (core.topic.stable_end(p), core.topic.end(p))).collect()
    };
    if ends.iter().any(|(stable, end)| stable != end) {
        left.push("a transaction is open".to_owned());
    }
    for process in 0..world.count() {
        world.with(process, |here| {
            let folded = here.view.folded();
            if folded.as_slice().iter().zip(&ends).any(|(folded, (stable, _))| folded != stable) {
                left.push(format!("process {process} has not folded all"));
            }
            if let Some(reason) = here.view.halted() {
                left.push(format!("process {process} has halted: {reason}"));
            }
            for id in &ids {
                match here.view.payment(*id) {
                    Ok(Some(row)) if row.payment.is_terminal() => {}
                    Ok(Some(row)) if matches!(row.payment.phase, Phase::Parked { .. }) => {}
                    Ok(None) => {}
                    Ok(Some(row)) => left.push(format!("{id} is {}, by process {process}", row.payment.phase.name())),
                    Err(error) => left.push(format!("{id} cannot be read: {error}")),
                }
            }
        });
    }
    left.join("; ")
}

// === the verdict ===

/// What every process holds, and what one holds that folds the log anew.
async fn projections(world: &Arc<World>) -> Vec<ProjectionDigest> {
    let mut all = Vec::new();
    for process in 0..world.count() {
        let of = world.with(process, |here| {
            let offsets: Vec<u64> = here.view.folded().as_slice().iter().map(|offset| offset.0).collect();
            digests(&process.to_string(), &here.store, &offsets)
        });
        all.extend(of.unwrap_or_default());
    }
    (0..world.count()).for_each(|process| world.kill(process));
    all.extend(rebuilt(world).await);
    all
}

async fn rebuilt(world: &Arc<World>) -> Vec<ProjectionDigest> {
    let life = {
        let mut core = world.core();
        let machine = &mut core.machines[0];
        (machine.start, machine.dead) = (machine.start + 1, false);
        Life { process: 0, start: machine.start }
    };
    let store = Store::in_memory();
    let Ok(mut process) = Process::start(world, life, std::slice::from_ref(&store)) else {
        world.saw("the log cannot be folded anew".to_owned());
        return Vec::new();
    };
    for _ in 0..ROUNDS_MAX {
        if let Err(error) = process.fold(world) {
            world.saw(format!("the log cannot be folded anew: {error}"));
        }
        if process.view.caught_up() {
            break;
        }
        tokio::task::yield_now().await;
    }
    let offsets: Vec<u64> = process.view.folded().as_slice().iter().map(|offset| offset.0).collect();
    digests("rebuilt", &store, &offsets)
}

fn judge(world: &World, judges: &Judges, seed: u64, bar: Option<Bar>, projections: Vec<ProjectionDigest>) -> Verdict {
    let history = history(world, bar, projections);
    let report = judges.checker.check(&history);
    let mut violations = world.seen();
    violations.extend(report.violations.iter().map(ToString::to_string));
    let core = world.core();
    violations.extend(evidence::judge(&core, &judges.codec));
    violations.extend(licence::judge(&core, &judges.codec));
    let counts = Counts {
        payments: report.counts.payments,
        charges: report.counts.charges,
        records: report.counts.records,
        parked: report.counts.parked.values().sum(),
        repeated_ends: report.counts.repeated_ends,
        told: 0,
        longest_open_ms: report.counts.longest_open_ms,
        lines: core.trace.lines,
    };
    Verdict { seed, violations, hash: core.trace.hash(), faults: core.trace.faults.clone(), counts }
}
