//! Everything of one simulation: what the processes share, the processes, their disks, their clients.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use paylog::schema::Codec;
use paylog::store::Store;

use crate::client::Clients;
use crate::core::{Core, Due};
use crate::log::Life;
use crate::plan::{Plan, SESSION_TIMEOUT_US};
use crate::planted::Mistake;
use crate::process::Process;
use crate::schedule;

/// Copies of its store that a process has at most to be restored from.
const BACKUPS_MAX: usize = 3;

pub struct World {
    core: Mutex<Core>,
    pub codec: Arc<Codec>,
    /// A process is not here while it is stopped in the middle of something.
    processes: Vec<Mutex<Option<Process>>>,
    disks: Mutex<Vec<Disk>>,
    clients: Mutex<Clients>,
    /// What must never happen and did, seen on the way.
    seen: Mutex<Vec<String>>,
}

struct Disk {
    store: Store,
    backups: Vec<Store>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl World {
    pub fn new(plan: Plan, mistake: Option<Mistake>, loud: bool, codec: &Arc<Codec>) -> Arc<Self> {
        let disk = |_| Disk { store: Store::in_memory(), backups: vec![Store::in_memory()] };
        Arc::new(Self {
            codec: Arc::clone(codec),
            processes: (0..plan.processes).map(|_| Mutex::default()).collect(),
            disks: Mutex::new((0..plan.processes).map(disk).collect()),
            clients: Mutex::new(Clients::new(&plan)),
            seen: Mutex::default(),
            core: Mutex::new(Core::new(plan, mistake, loud)),
        })
    }

    pub fn core(&self) -> MutexGuard<'_, Core> {
        lock(&self.core)
    }

    pub fn clients(&self) -> MutexGuard<'_, Clients> {
        lock(&self.clients)
    }

    pub fn saw(&self, what: String) {
        let mut core = self.core();
        let now = core.now_us;
        core.trace.line(now, format_args!("VIOLATION {what}"));
        lock(&self.seen).push(what);
    }

    pub fn seen(&self) -> Vec<String> {
        lock(&self.seen).clone()
    }

    // === processes ===

    pub fn count(&self) -> usize {
        self.processes.len()
    }

    /// Does something with a process, if it is there.
    pub fn with<T>(&self, process: usize, act: impl FnOnce(&mut Process) -> T) -> Option<T> {
        let taken = lock(&self.processes[process]).take();
        let mut taken = taken?;
        let result = act(&mut taken);
        // It may have died on the way.
        if self.core().is_over(taken.life) {
            drop(taken);
        } else {
            *lock(&self.processes[process]) = Some(taken);
        }
        Some(result)
    }

    pub fn is_here(&self, process: usize) -> bool {
        lock(&self.processes[process]).is_some()
    }

    pub fn kill(&self, process: usize) {
        self.core().kill(process);
        let killed = lock(&self.processes[process]).take();
        drop(killed);
    }

    /// Starts a process that is down, on what its disk has.
    pub fn start(self: &Arc<Self>, process: usize) {
        let store = self.disk(process);
        let life = {
            let mut core = self.core();
            let now = core.now_us;
            let machine = &mut core.machines[process];
            (machine.start, machine.dead, machine.newest_append_us) = (machine.start + 1, false, None);
            let life = Life { process, start: machine.start };
            core.trace.line(now, format_args!("{process} starts, for the {}. time", life.start));
            life
        };
        match Process::start(self, life, store) {
            Ok(started) if !self.core().is_over(life) => *lock(&self.processes[process]) = Some(started),
            Ok(_) => {}
            Err(_) if self.core().is_over(life) => {}
            Err(reason) => {
                self.saw(format!("process {process} does not start: {reason}"));
                self.core().kill(process);
            }
        }
    }

    /// As it was left, or as it was when it was last copied, or empty.
    fn disk(&self, process: usize) -> Store {
        let mut core = self.core();
        let old_store = core.plan.rates.old_store;
        let mut disks = lock(&self.disks);
        let Disk { store, backups } = &mut disks[process];
        if core.happens(old_store) {
            core.trace.fault("a process starts on an old copy of its store");
            let old = core.random.pick(backups).copy();
            *store = old.unwrap_or_else(Store::in_memory);
        }
        store.clone()
    }

    pub fn back_up(&self, process: usize) {
        let which = self.core().random.below(BACKUPS_MAX);
        let Disk { store, backups } = &mut lock(&self.disks)[process];
        let Some(copy) = store.copy() else { return };
        match backups.get_mut(which) {
            Some(backup) => *backup = copy,
            None => backups.push(copy),
        }
    }

    /// A process that is to stop for a while does so here, in the middle of a call, while the others go on.
    pub fn freeze(self: &Arc<Self>, life: Life) {
        let steps = {
            let mut core = self.core();
            let another = core.machines.iter().any(|machine| machine.frozen);
            let machine = &mut core.machines[life.process];
            if machine.freeze_in != Some(0) || machine.start != life.start || machine.dead || another {
                machine.freeze_in = machine.freeze_in.map(|left| left.saturating_sub(1));
                return;
            }
            (machine.freeze_in, machine.frozen) = (None, true);
            core.trace.fault("a process stops in the middle of a call");
            let now = core.now_us;
            core.trace.line(now, format_args!("{} stops", life.process));
            core.after(SESSION_TIMEOUT_US, Due::Session(life));
            core.random.between(5, 120) as usize
        };
        for _ in 0..steps {
            schedule::step(self, Some(life.process));
        }
        let mut core = self.core();
        core.machines[life.process].frozen = false;
        let now = core.now_us;
        core.trace.line(now, format_args!("{} goes on", life.process));
    }

    /// So that nothing holds the world any more.
    pub fn end(&self) {
        for process in 0..self.count() {
            self.kill(process);
        }
    }
}
