//! One simulated process that tells: everything of ours that `paylog notify` runs, with every thread and task in the
//! scheduler's hand.

use std::sync::Arc;
use std::time::Duration;

use paylog::clock::{Clock, Clocks};
use paylog::control::{self, Control};
use paylog::deliveries::{self, Deliveries, DeliveriesError, Scanner};
use paylog::executor::Executor;
use paylog::journal::{Journal, JournalError, Reader, Tail};
use paylog::notifier::{Notifier, Parts, Running};
use paylog::projection::{Folder, Rejections, View};
use paylog::store::Store;

use super::network::Network;
use super::people::{self, People};
use super::{CONTROL, DELIVERIES, PAYMENTS};
use crate::door::Door;
use crate::log::{Life, Log};
use crate::process::{ModelClock, Tasks};
use crate::world::{Program, World};

/// A question to the log is asked so often, when there is no answer.
const ASKED_MAX: usize = 1_000;

pub struct Teller {
    pub life: Life,
    pub tasks: Arc<Tasks>,
    pub control: Arc<Control>,
    pub view: View,
    pub deliveries: Deliveries,
    decisions: control::Follower,
    folder: Folder,
    tail: Box<dyn Tail>,
    outcomes: deliveries::Follower,
    scanner: Scanner,
    running: Running,
}

/// As who starts a process does: a log that does not answer now is asked again.
fn patient<T, E>(mut ask: impl FnMut() -> Result<T, E>, is_away: impl Fn(&E) -> bool) -> Result<T, E> {
    for _ in 0..ASKED_MAX {
        match ask() {
            Err(error) if is_away(&error) => {}
            answer => return answer,
        }
    }
    ask()
}

fn is_away(error: &JournalError) -> bool {
    matches!(error, JournalError::Unavailable(_))
}

impl Program for Teller {
    type People = People;
    const STORES: usize = 2;

    fn start(world: &Arc<World<Self>>, life: Life, disk: &[Store]) -> Result<Self, String> {
        let door = |log: Log| Arc::new(Door { world: Arc::clone(world) as _, life, log, is_scan: false });
        let scanned = Arc::new(Door { world: Arc::clone(world) as _, life, log: PAYMENTS, is_scan: true });
        let (payments, log, decisions) = (door(PAYMENTS), door(DELIVERIES), door(CONTROL));
        let machine: Arc<dyn Clock> = Arc::new(ModelClock { world: Arc::clone(world) as _, process: life.process });
        let (clocks, codec) = (Clocks::new(machine), Arc::clone(&world.codec));
        let open =
            || Control::open(Arc::clone(&decisions) as Arc<dyn Journal>, payments.log_id(), Rejections::default());
        let (control, decisions) = patient(open, is_away).map_err(|e| format!("no control: {e}"))?;
        let control = Arc::new(control);
        let opened = Folder::open(disk[0].clone(), payments.as_ref(), Arc::clone(&codec), clocks.clone());
        let (folder, view) = opened.map_err(|e| format!("cannot open the fold: {e}"))?;
        let tail = folder.tail(payments.as_ref()).map_err(|e| format!("cannot read the log: {e}"))?;
        let open = || Deliveries::open_in(disk[1].clone(), log.as_ref(), payments.as_ref(), &control);
        let away = |error: &DeliveriesError| matches!(error, DeliveriesError::Journal(error) if is_away(error));
        let opened = patient(open, away).map_err(|e| format!("cannot open the deliveries: {e}"))?;
        let (deliveries, outcomes) = opened.ok_or("the rows of deliveries are of other logs")?;
        let scanner = deliveries.scanner(scanned as _, view.clone(), codec);
        let tasks = Arc::new(Tasks::default());
        let notifier = {
            let (people, chance) = (world.people(), Arc::clone(world));
            let (weak, known) = (Arc::downgrade(&tasks), Arc::clone(&control));
            let network = Network { world: Arc::clone(world), life, tasks: weak, control: known };
            let chance = Arc::new(move || chance.core().random.below(1_000) as f64 / 1e3);
            let executor: Arc<dyn Executor> = Arc::clone(&tasks) as _;
            let means = people.office.means.with(executor, Arc::new(network), chance);
            let parts = Parts {
                deliveries: deliveries.clone(),
                log: log as _,
                view: view.clone(),
                control: Arc::clone(&control),
                key: people.office.key.clone(),
                vapid: (people.office.vapid.clone(), None),
                clocks,
            };
            Notifier::new(parts, &people.args, Duration::ZERO, means)
        };
        let running = notifier.start().map_err(|e| format!("cannot join the group: {e}"))?;
        let teller =
            Self { life, tasks, control, view, deliveries, decisions, folder, tail, outcomes, scanner, running };
        teller.heed(world);
        Ok(teller)
    }

    fn life(&self) -> Life {
        self.life
    }

    fn tasks(&self) -> Arc<Tasks> {
        Arc::clone(&self.tasks)
    }

    fn turn(&mut self) -> Result<(), String> {
        self.running.turn(Duration::ZERO).map_err(|e| format!("the lanes ended: {e}"))
    }

    /// One of its folds goes on, whichever; once there are no faults any more, all of them.
    fn fold(&mut self, world: &World<Self>) -> Result<(), String> {
        let which = {
            let mut core = world.core();
            if core.faults_on { Some(core.random.below(4)) } else { None }
        };
        let is_due = |n: usize| which.is_none_or(|which| which == n);
        if is_due(0) {
            self.decisions.turn(Duration::ZERO).map_err(|e| format!("the decisions ended: {e}"))?;
            self.heed(world);
        }
        if is_due(1) {
            self.folder.turn(self.tail.as_mut(), Duration::ZERO).map_err(|e| format!("the fold ended: {e}"))?;
        }
        if is_due(2) {
            self.outcomes.turn(Duration::ZERO).map_err(|e| format!("the fold of deliveries ended: {e}"))?;
        }
        if is_due(3) {
            self.scanner.turn(Duration::ZERO).map_err(|e| format!("the scan ended: {e}"))?;
        }
        Ok(())
    }

    fn act(world: &Arc<World<Self>>, except: Option<usize>) {
        people::act(world, except);
    }

    fn hear(_world: &Arc<World<Self>>) {}

    fn operate(world: &Arc<World<Self>>, process: usize) {
        people::operate(world, process);
    }
}

impl Teller {
    /// Notes since when it knows of whom that they are disabled.
    fn heed(&self, world: &World<Self>) {
        let (known, begun) = (self.control.webhooks().known(), self.tasks.begun());
        let mut people = world.people();
        for (id, endpoint) in &known.endpoints {
            if endpoint.endpoint.is_enabled() {
                people.told_off.remove(&(self.life, *id));
            } else {
                people.told_off.entry((self.life, *id)).or_insert(begun);
            }
        }
    }
}

impl Drop for Teller {
    /// What is under way holds what runs it.
    fn drop(&mut self) {
        self.tasks.clear();
    }
}
