//! What the processes of a simulation share: time, chance, the broker, the provider, and what is due to happen. One lock,
//! one thread; whoever holds it calls nothing of the product.

use std::collections::{BTreeMap, BTreeSet};

use paylog::journal::{NewRecord, Offset, Partition};
use paylog::payment::PaymentId;

use crate::group::{Group, MemberId};
use crate::log::{Entry, Life, Log, State, Topic, TxnId};
use crate::plan::{Plan, SECOND_US, SESSION_TIMEOUT_US};
use crate::planted::Mistake;
use crate::provider::{Provider, RequestId};
use crate::random::Random;
use crate::trace::Trace;
use crate::transactions::Transactions;

pub struct Core {
    pub plan: Plan,
    pub mistake: Option<Mistake>,
    pub random: Random,
    pub trace: Trace,
    /// Since the simulation's beginning, by the broker's clock, which is right.
    pub now_us: u64,
    ticks: u64,
    due: BTreeMap<(u64, u64), Due>,
    pub topic: Topic,
    pub beside: Vec<Topic>,
    pub txns: Transactions,
    pub group: Group,
    pub provider: Provider,
    pub machines: Vec<Machine>,
    pub ownerships: Vec<Ownership>,
    /// When a life had a new producer: its lanes must catch up again.
    pub recycled: Vec<(Life, u64)>,
    pub faults_on: bool,
    /// What was appended to the log with owners and acknowledged to who did it, and when in the order of everything.
    pub acknowledged: BTreeMap<(Partition, Offset), u64>,
    /// Payments of which a person has decided something.
    pub operated: BTreeSet<PaymentId>,
}

/// What will happen at some time.
pub enum Due {
    /// An append that nobody knows of any more.
    Append(Life, Log, Box<NewRecord>),
    EndTransaction {
        process: usize,
        epoch: i16,
        commit: bool,
        meant: Option<TxnId>,
    },
    Marker(TxnId, Option<Partition>),
    TransactionTimeout(TxnId),
    /// A transaction that was committed is there once more.
    Repeat(TxnId),
    /// Unless this life is awake by then, it is put out of the group.
    Session(Life),
    Arrival(RequestId),
    Charged(RequestId),
    Answer(RequestId),
}

/// What a process runs on.
#[derive(Default)]
pub struct Machine {
    pub start: u32,
    pub dead: bool,
    /// Calls to the outside until it dies in the middle of one.
    pub crash_in: Option<u32>,
    /// Calls to its lanes until it stops for a while, in the middle of one.
    pub freeze_in: Option<u32>,
    pub frozen: bool,
    pub skew_us: i64,
    /// The newest of the log's times that its fold has read, since its start.
    pub newest_append_us: Option<i64>,
    /// Not started again before then.
    pub down_until_us: u64,
}

/// From the moment a lane was taken until it was given up.
pub struct Ownership {
    pub life: Life,
    pub partition: Partition,
    pub from: u64,
    pub from_us: u64,
    pub to: Option<u64>,
    /// The group agrees. One that was put out and has not heard of it may take what is another's.
    pub rightful: bool,
}

impl Core {
    pub fn new(plan: Plan, mistake: Option<Mistake>, loud: bool) -> Self {
        let mut random = Random::new(plan.seed);
        let machine = |_| Machine { skew_us: Plan::small_skew(&mut random), dead: true, ..Machine::default() };
        let machines = (0..plan.processes).map(machine).collect();
        Self {
            topic: Topic::new(plan.partitions),
            beside: Vec::new(),
            plan,
            mistake,
            random,
            trace: Trace::new(loud),
            now_us: 0,
            ticks: 0,
            due: BTreeMap::new(),
            txns: Transactions::default(),
            group: Group::default(),
            provider: Provider::default(),
            machines,
            ownerships: Vec::new(),
            recycled: Vec::new(),
            faults_on: true,
            acknowledged: BTreeMap::new(),
            operated: BTreeSet::new(),
        }
    }

    /// The next moment in the order of everything that is called.
    pub fn tick(&mut self) -> u64 {
        self.ticks += 1;
        self.ticks
    }

    pub fn happens(&mut self, per_mille: u32) -> bool {
        self.faults_on && per_mille > 0 && self.random.chance(per_mille)
    }

    pub fn is_planted(&self, mistake: Mistake) -> bool {
        self.mistake == Some(mistake)
    }

    pub fn after(&mut self, wait_us: u64, what: Due) {
        let tick = self.tick();
        self.due.insert((self.now_us + wait_us, tick), what);
    }

    /// When something is due next.
    pub fn next_due_us(&self) -> Option<u64> {
        self.due.keys().next().map(|(at, _)| *at)
    }

    /// Lets time pass, and what is due in it happen.
    pub fn pass(&mut self, us: u64) {
        let until = self.now_us + us;
        while let Some(entry) = self.due.first_entry().filter(|entry| entry.key().0 <= until) {
            self.now_us = self.now_us.max(entry.key().0);
            let what = entry.remove();
            self.happen(what);
        }
        self.now_us = until;
    }

    /// Takes out the first thing of this kind that is due at some time.
    pub fn take_due(&mut self, of_kind: impl Fn(&Due) -> bool) -> Option<Due> {
        let at = self.due.iter().find(|(_, due)| of_kind(due)).map(|(at, _)| *at)?;
        self.due.remove(&at)
    }

    pub fn happen(&mut self, what: Due) {
        match what {
            Due::Append(writer, log, record) => {
                self.append(writer, log, *record);
            }
            Due::EndTransaction { process, epoch, commit, meant } => {
                let now = self.now_us;
                let ended = self.end_txn(process, epoch, commit, meant);
                self.trace
                    .line(now, format_args!("broker: a late end of {process}/{epoch}, commit={commit}: {ended:?}"));
            }
            Due::Marker(txn, place) => self.write_marker(txn, place),
            Due::TransactionTimeout(txn) => self.time_out_txn(txn),
            Due::Repeat(txn) => self.repeat_txn(txn),
            Due::Session(life) => {
                let machine = &self.machines[life.process];
                if machine.start != life.start || machine.dead || machine.frozen {
                    self.put_out_process(life.process, Some(life.start));
                }
            }
            Due::Arrival(request) => self.arrive(request),
            Due::Charged(request) => self.charge_now(request),
            Due::Answer(request) => self.answer_now(request),
        }
    }

    /// An append outside of transactions.
    pub fn append(&mut self, writer: Life, log: Log, record: NewRecord) -> paylog::journal::Position {
        let producer = (100 + writer.process as i64, 0);
        let entry = Entry { record, writer, txn: None, state: State::Committed, producer };
        let (now, tick) = (self.now_us, self.tick());
        let topic = match log {
            Log::Own => &mut self.topic,
            Log::Beside(n) => &mut self.beside[n],
        };
        let position = topic.append(now, tick, entry);
        self.trace.line(now, format_args!("broker: appended at {position}"));
        position
    }

    pub fn topic_of(&self, log: Log) -> &Topic {
        match log {
            Log::Own => &self.topic,
            Log::Beside(n) => &self.beside[n],
        }
    }

    // === processes ===

    /// Is this life over?
    pub fn is_over(&self, life: Life) -> bool {
        let machine = &self.machines[life.process];
        machine.dead || machine.start != life.start
    }

    /// Kill -9: nothing of it does anything any more. What it sent is on its way.
    pub fn kill(&mut self, process: usize) {
        let (now, tick) = (self.now_us, self.tick());
        let machine = &mut self.machines[process];
        if machine.dead {
            return;
        }
        (machine.dead, machine.crash_in, machine.freeze_in) = (true, None, None);
        let life = Life { process, start: machine.start };
        let down = if self.faults_on { self.random.skewed(60 * SECOND_US) } else { 0 };
        self.machines[process].down_until_us = now + down;
        for own in self.ownerships.iter_mut().filter(|own| own.life == life && own.to.is_none()) {
            own.to = Some(tick);
        }
        self.trace.line(now, format_args!("process {process} dies"));
        self.after(SESSION_TIMEOUT_US, Due::Session(life));
    }

    pub fn own(&mut self, life: Life, member: MemberId, partitions: &[Partition]) {
        let (now, from) = (self.now_us, self.tick());
        self.trace.line(now, format_args!("{} takes {partitions:?}", life.process));
        for partition in partitions.iter().copied() {
            let rightful = self.group.owner(partition) == Some(member);
            self.ownerships.push(Ownership { life, partition, from, from_us: now, to: None, rightful });
        }
    }

    pub fn disown(&mut self, life: Life, partitions: &[Partition]) {
        let (now, to) = (self.now_us, self.tick());
        self.trace.line(now, format_args!("{} gives up {partitions:?}", life.process));
        let open = |own: &&mut Ownership| own.life == life && own.to.is_none() && partitions.contains(&own.partition);
        self.ownerships.iter_mut().filter(open).for_each(|own| own.to = Some(to));
    }

    /// Counts one call of a process to the outside. `false` if it is dead, perhaps since now.
    pub fn may_call(&mut self, life: Life, what: &str) -> bool {
        if self.is_over(life) {
            return false;
        }
        let (now, process) = (self.now_us, life.process);
        let machine = &mut self.machines[process];
        if machine.crash_in == Some(0) {
            self.trace.fault("a process dies in the middle of a call");
            self.trace.line(now, format_args!("process {process} was at {what}"));
            self.kill(process);
            return false;
        }
        machine.crash_in = machine.crash_in.map(|left| left - 1);
        true
    }
}
