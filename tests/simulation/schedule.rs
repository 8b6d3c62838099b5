//! Who goes next: one choice at a time, from the seed. Also what goes wrong with processes and their clocks; what goes wrong
//! at the broker and at the provider is chosen there, where it happens.

use std::future::Future;
use std::sync::Arc;
use std::task::{Context, Waker};
use std::time::Duration;

use crate::core::Core;
use crate::plan::{HOUR_US, Plan, SECOND_US, SKEW_MAX_US};
use crate::world::{Program, Site, World};

/// How far a clock is off that nobody should believe.
const WRONG_BY_MAX_US: u64 = 5 * HOUR_US;

/// One step of anybody but `except`, which stands still in the middle of one.
pub fn step<P: Program>(world: &Arc<World<P>>, except: Option<usize>) {
    trouble(world, except);
    let choice = world.core().random.below(100);
    match choice {
        0..=14 => pass_some_time(world.as_ref()),
        15..=19 => P::act(world, except),
        20..=24 => P::hear(world),
        _ => {
            let process = {
                let mut core = world.core();
                let count = world.count();
                core.random.below(count)
            };
            if Some(process) != except {
                go_on(world, process);
            }
        }
    }
}

fn go_on<P: Program>(world: &Arc<World<P>>, process: usize) {
    if !world.is_here(process) {
        return start_again(world, process);
    }
    let Some((woken, questions)) = world.with(process, |here| here.tasks().ready()) else { return };
    let choice = {
        let mut core = world.core();
        let of = 2 + usize::from(woken > 0) * 2 + usize::from(questions > 0);
        (core.random.below(of), core.random.below(woken.max(1)), core.random.below(questions.max(1)))
    };
    let done = match choice {
        (0, ..) => world.with(process, |here| here.turn()),
        (1, ..) => world.with(process, |here| here.fold(world)),
        (2 | 3, which, _) if woken > 0 => {
            world.with(process, |here| here.tasks().run(which));
            None
        }
        (.., which) => {
            world.with(process, |here| here.tasks().ask(which));
            None
        }
    };
    ended(world, process, done);
}

/// A process that ends by itself does so for a reason, and there is none in this model.
pub fn ended<P: Program>(world: &Arc<World<P>>, process: usize, done: Option<Result<(), String>>) {
    if let Some(Err(reason)) = done
        && !world.core().machines[process].dead
    {
        world.saw(format!("process {process} ended: {reason}"));
        world.kill(process);
    }
}

fn start_again<P: Program>(world: &Arc<World<P>>, process: usize) {
    let ready = {
        let core = world.core();
        let machine = &core.machines[process];
        machine.dead && machine.down_until_us <= core.now_us
    };
    if ready {
        world.start(process);
    }
}

// === time ===

fn pass_some_time(world: &dyn Site) {
    let us = {
        let mut core = world.core();
        let next = core.next_due_us().map_or(0, |at| at.saturating_sub(core.now_us));
        match core.random.below(20) {
            0 => core.random.skewed(30 * SECOND_US),
            1..=7 => next.min(60 * SECOND_US),
            _ => core.random.skewed(SECOND_US / 10),
        }
    };
    pass(world, us);
}

/// The broker's time and that of everybody's timers.
pub fn pass(world: &dyn Site, us: u64) {
    let mut core = world.core();
    let before = core.now_us;
    core.pass(us);
    let passed = Duration::from_micros(core.now_us - before);
    drop(core);
    // Moves the clock at once; its timers fire when the runtime is next idle for a moment.
    let mut advance = std::pin::pin!(tokio::time::advance(passed));
    let _ = advance.as_mut().poll(&mut Context::from_waker(Waker::noop()));
}

// === trouble ===

fn trouble<P: Program>(world: &Arc<World<P>>, except: Option<usize>) {
    let mut core = world.core();
    let rates = core.plan.rates.clone();
    let count = world.count();
    let process = core.random.below(count);
    if Some(process) == except || core.machines[process].dead {
        return;
    }
    if core.happens(rates.crash) {
        core.machines[process].crash_in = Some(core.random.skewed(60) as u32);
    }
    if core.happens(rates.freeze) {
        core.machines[process].freeze_in = Some(core.random.skewed(60) as u32);
    }
    if core.happens(rates.kick) {
        core.put_out_process(process, None);
    }
    if core.happens(rates.clock_hours) {
        wrong_clock(&mut core, process);
    }
    let hanging = core.happens(rates.hanging);
    if hanging {
        core.hang();
    }
    let (outage, backup, operator) = (core.happens(rates.outage), core.random.chance(10), core.happens(rates.operator));
    drop(core);
    if operator {
        P::operate(world, process);
    }
    if backup {
        world.back_up(process);
    }
    if outage {
        black_out(world, except);
    }
}

fn wrong_clock(core: &mut Core, process: usize) {
    core.trace.fault("a clock is hours off");
    let off = core.random.skewed(WRONG_BY_MAX_US) as i64;
    let sign = if core.random.chance(500) { 1 } else { -1 };
    core.machines[process].skew_us = off * sign;
    let now = core.now_us;
    core.trace.line(now, format_args!("the clock of {process} is off by {} s", off * sign / 1_000_000));
}

/// Nothing runs for a long time, perhaps longer than the provider remembers a key.
fn black_out<P: Program>(world: &Arc<World<P>>, except: Option<usize>) {
    for process in (0..world.count()).filter(|process| Some(*process) != except) {
        world.kill(process);
    }
    let us = {
        let mut core = world.core();
        core.trace.fault("an outage");
        let window = core.plan.provider.key_window_us;
        core.random.between(window / 4, window * 2)
    };
    pass(world.as_ref(), us);
}

/// People set right the clocks that are far off.
pub fn set_clocks_right(core: &mut Core) {
    for process in 0..core.machines.len() {
        if core.machines[process].skew_us.unsigned_abs() > SKEW_MAX_US {
            core.machines[process].skew_us = Plan::small_skew(&mut core.random);
        }
    }
}
