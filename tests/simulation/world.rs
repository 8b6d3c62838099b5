//! Everything of one simulation: what the processes share, the processes, their disks, their clients.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use paylog::schema::Codec;
use paylog::store::Store;

use crate::client::Clients;
use crate::core::{Core, Due};
use crate::log::Life;
use crate::plan::SESSION_TIMEOUT_US;
use crate::process::{Process, Tasks};
use crate::schedule;

/// Copies of its store that a process has at most to be restored from.
const BACKUPS_MAX: usize = 3;

/// What the processes of a simulation are, and who is around them.
pub trait Program: Sized + Send + 'static {
    type People: Send + 'static;
    /// That a process has on its disk.
    const STORES: usize;

    /// Starts on what is on its disk. `Err` says why it cannot.
    fn start(world: &Arc<World<Self>>, life: Life, disk: &[Store]) -> Result<Self, String>;
    fn life(&self) -> Life;
    fn tasks(&self) -> Arc<Tasks>;
    fn turn(&mut self) -> Result<(), String>;
    fn fold(&mut self, world: &World<Self>) -> Result<(), String>;
    /// Somebody does something, with any process but `except`.
    fn act(world: &Arc<World<Self>>, except: Option<usize>);
    /// Whoever waits for something looks whether it has come.
    fn hear(world: &Arc<World<Self>>);
    /// Somebody decides something, by what this process shows.
    fn operate(world: &Arc<World<Self>>, process: usize);
}

/// What a door to the logs, and a member of the group, need of the world.
pub trait Site: Send + Sync {
    fn core(&self) -> MutexGuard<'_, Core>;
    /// If it is time for that; the others go on meanwhile.
    fn stop_for_a_while(self: Arc<Self>, life: Life);
}

pub struct World<P: Program = Process> {
    core: Mutex<Core>,
    pub codec: Arc<Codec>,
    /// A process is not here while it is stopped in the middle of something.
    processes: Vec<Mutex<Option<P>>>,
    disks: Mutex<Vec<Disk>>,
    people: Mutex<P::People>,
    /// What must never happen and did, seen on the way.
    seen: Mutex<Vec<String>>,
}

struct Disk {
    stores: Vec<Store>,
    backups: Vec<Vec<Store>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl World {
    pub fn clients(&self) -> MutexGuard<'_, Clients> {
        self.people()
    }
}

impl<P: Program> Site for World<P> {
    fn core(&self) -> MutexGuard<'_, Core> {
        lock(&self.core)
    }

    fn stop_for_a_while(self: Arc<Self>, life: Life) {
        self.freeze(life);
    }
}

fn empty<P: Program>() -> Vec<Store> {
    (0..P::STORES).map(|_| Store::in_memory()).collect()
}

impl<P: Program> World<P> {
    pub fn new(core: Core, people: P::People, codec: &Arc<Codec>) -> Arc<Self> {
        let (processes, disk) = (core.plan.processes, |_| Disk { stores: empty::<P>(), backups: vec![empty::<P>()] });
        Arc::new(Self {
            codec: Arc::clone(codec),
            processes: (0..processes).map(|_| Mutex::default()).collect(),
            disks: Mutex::new((0..processes).map(disk).collect()),
            people: Mutex::new(people),
            seen: Mutex::default(),
            core: Mutex::new(core),
        })
    }

    pub fn core(&self) -> MutexGuard<'_, Core> {
        lock(&self.core)
    }

    pub fn people(&self) -> MutexGuard<'_, P::People> {
        lock(&self.people)
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
    pub fn with<T>(&self, process: usize, act: impl FnOnce(&mut P) -> T) -> Option<T> {
        let taken = lock(&self.processes[process]).take();
        let mut taken = taken?;
        let result = act(&mut taken);
        // It may have died on the way.
        if self.core().is_over(taken.life()) {
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
        let disk = self.disk(process);
        let life = {
            let mut core = self.core();
            let now = core.now_us;
            let machine = &mut core.machines[process];
            (machine.start, machine.dead, machine.newest_append_us) = (machine.start + 1, false, None);
            let life = Life { process, start: machine.start };
            core.trace.line(now, format_args!("{process} starts, for the {}. time", life.start));
            life
        };
        match P::start(self, life, &disk) {
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
    fn disk(&self, process: usize) -> Vec<Store> {
        let mut core = self.core();
        let old_store = core.plan.rates.old_store;
        let mut disks = lock(&self.disks);
        let Disk { stores, backups } = &mut disks[process];
        if core.happens(old_store) {
            core.trace.fault("a process starts on an old copy of its store");
            // Each of them for itself: they may be of different ages.
            let old = (0..P::STORES).map(|n| core.random.pick(backups)[n].copy()).collect::<Option<Vec<_>>>();
            *stores = old.unwrap_or_else(empty::<P>);
        }
        stores.clone()
    }

    pub fn back_up(&self, process: usize) {
        let which = self.core().random.below(BACKUPS_MAX);
        let Disk { stores, backups } = &mut lock(&self.disks)[process];
        let Some(copy) = stores.iter().map(Store::copy).collect::<Option<Vec<_>>>() else { return };
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
