//! A process's membership in the group and its transactions, as `journal::Lanes` promises them; the client half of the
//! model, with the rules that the real one (`journal::kafka`) has: an end in doubt is answered with `Recycle`, and nothing
//! begins on a producer whose last transaction is in doubt.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use paylog::journal::{
    Assignment, Fate, JournalError, Lanes, NewRecord, Offset, Partition, Position, Transaction, TransactionError,
};

use crate::core::{Core, Due};
use crate::door::gone;
use crate::group::MemberId;
use crate::log::Life;
use crate::plan::SECOND_US;
use crate::planted::Mistake;
use crate::transactions::{Refusal, Sending};
use crate::world::Site;

pub struct MemberLanes {
    world: Arc<dyn Site>,
    life: Life,
    member: MemberId,
    epoch: i16,
    /// In force: what may be written.
    held: BTreeSet<Partition>,
    in_doubt: bool,
}

fn failure(fate: Fate, reason: &str) -> TransactionError {
    TransactionError { fate, culprit: None, reason: reason.to_owned() }
}

impl MemberLanes {
    pub fn join(world: Arc<dyn Site>, life: Life) -> Self {
        let mut core = world.core();
        let epoch = core.init_producer(life.process);
        let member = core.join_group(life);
        drop(core);
        Self { world, life, member, epoch, held: BTreeSet::new(), in_doubt: false }
    }

    /// Every call begins here: the process may stop for a while, or die.
    fn may_call(&self, what: &str) -> bool {
        Arc::clone(&self.world).stop_for_a_while(self.life);
        self.world.core().may_call(self.life, what)
    }

    fn stopped() -> TransactionError {
        failure(Fate::Stop, "the process is dead")
    }
}

impl Lanes for MemberLanes {
    fn poll(&mut self, _timeout: Duration) -> Result<Option<Assignment>, JournalError> {
        if !self.may_call("poll") {
            return Err(gone());
        }
        let world = Arc::clone(&self.world);
        let mut core = world.core();
        let mut news = core.news_of(self.member);
        if core.is_planted(Mistake::WorkOfAnOlderEpoch) {
            news = self.keep_from_the_driver(&mut core, news);
        }
        if let Some(news) = &news {
            let (now, process) = (core.now_us, self.life.process);
            core.trace.line(now, format_args!("{process} hears {news:?}"));
        }
        Ok(news)
    }

    fn assign(&mut self, partitions: &[Partition]) -> Result<(), JournalError> {
        if !self.may_call("assign") {
            return Err(gone());
        }
        let mut core = self.world.core();
        if core.is_unstable(partitions) && !core.is_planted(Mistake::NoFence) {
            return Err(JournalError::Unavailable("an earlier owner's transaction does not end".to_owned()));
        }
        core.own(self.life, self.member, partitions);
        self.held.extend(partitions);
        Ok(())
    }

    fn unassign(&mut self, partitions: &[Partition]) -> Result<(), JournalError> {
        if !self.may_call("unassign") {
            return Err(gone());
        }
        let mut core = self.world.core();
        core.disown(self.life, partitions);
        self.held.retain(|partition| !partitions.contains(partition));
        self.member = core.give_up(self.member, partitions);
        Ok(())
    }

    fn begin(&mut self) -> Result<Box<dyn Transaction + '_>, TransactionError> {
        if !self.may_call("begin") {
            return Err(Self::stopped());
        }
        if self.in_doubt {
            return Err(failure(Fate::Recycle, "the producer must be recycled first"));
        }
        let generation = self.world.core().generation_known_to(self.member);
        let generation = generation.ok_or_else(|| failure(Fate::Retry, "not a member of the group at the moment"))?;
        Ok(Box::new(Open { lanes: self, generation, sending: Sending::default(), positions: Vec::new() }))
    }

    fn recycle(&mut self) -> Result<(), JournalError> {
        if !self.may_call("recycle") {
            return Err(gone());
        }
        let mut core = self.world.core();
        let no_answer = core.plan.rates.no_answer;
        if core.happens(no_answer) {
            core.trace.fault("there is no new producer for a while");
            return Err(JournalError::Unavailable("the coordinator does not answer".to_owned()));
        }
        self.epoch = core.init_producer(self.life.process);
        self.in_doubt = false;
        let tick = core.tick();
        core.recycled.push((self.life, tick));
        Ok(())
    }

    fn commit_positions(&mut self, _next: &[Position]) -> Result<(), JournalError> {
        if self.may_call("commit positions") { Ok(()) } else { Err(gone()) }
    }

    fn leave(self: Box<Self>, _deadline: Duration) {}
}

impl MemberLanes {
    /// The planted mistake: lanes go on as if nothing had been, over a partition that went away and came back.
    fn keep_from_the_driver(&mut self, core: &mut Core, news: Option<Assignment>) -> Option<Assignment> {
        match news? {
            Assignment::Revoked { partitions, .. } => {
                core.disown(self.life, &partitions);
                self.member = core.give_up(self.member, &partitions);
                None
            }
            Assignment::Assigned(partitions) => {
                let (again, fresh) = partitions.into_iter().partition::<Vec<_>, _>(|p| self.held.contains(p));
                core.own(self.life, self.member, &again);
                Some(Assignment::Assigned(fresh))
            }
        }
    }
}

struct Open<'l> {
    lanes: &'l mut MemberLanes,
    /// As the client knew it when it began.
    generation: u32,
    sending: Sending,
    positions: Vec<Position>,
}

impl Open<'_> {
    fn must_hold(&self, partition: Partition) -> Result<(), TransactionError> {
        if self.lanes.held.contains(&partition) {
            return Ok(());
        }
        let reason = format!("partition {partition} is not assigned to this instance");
        Err(TransactionError { fate: Fate::Retry, culprit: Some(partition), reason })
    }

    fn refused(&mut self, refusal: Refusal) -> TransactionError {
        self.lanes.in_doubt = true;
        failure(Fate::Recycle, if refusal == Refusal::Fenced { "fenced" } else { "invalid transaction state" })
    }

    /// Aborts, and says what that leaves to do.
    fn give_up(&mut self, error: TransactionError) -> TransactionError {
        match self.end(false) {
            Ok(()) => error,
            Err(abort) => TransactionError { fate: abort.fate, ..error },
        }
    }

    /// Sends the end. `Err` with `Recycle` means that nobody knows what became of it.
    fn end(&mut self, commit: bool) -> Result<(), TransactionError> {
        let mut core = self.lanes.world.core();
        let (process, epoch, meant) = (self.lanes.life.process, self.lanes.epoch, self.sending.txn);
        if meant.is_none() {
            return Ok(()); // nothing was ever sent
        }
        let late = Due::EndTransaction { process, epoch, commit, meant };
        let in_doubt = core.plan.rates.in_doubt;
        if core.happens(in_doubt) {
            self.lanes.in_doubt = true;
            match core.random.below(3) {
                0 => core.trace.fault("the end of a transaction is lost"),
                1 => {
                    core.trace.fault("the end of a transaction is late");
                    let wait = core.random.skewed(8 * SECOND_US);
                    core.after(wait, late);
                }
                _ => {
                    core.trace.fault("the answer to a transaction's end is lost");
                    // It has taken effect, or has been refused: its sender learns nothing of either.
                    let _ = core.end_txn(process, epoch, commit, meant);
                }
            }
            return Err(failure(Fate::Recycle, "the end of the transaction was not answered in time"));
        }
        let ended = core.end_txn(process, epoch, commit, meant);
        let stray_end = core.plan.rates.stray_end;
        if ended.is_ok() && core.happens(stray_end) {
            // The client's first try, which it has repeated, is still on its way.
            core.trace.fault("a copy of a transaction's end is on its way");
            let wait = core.random.skewed(5 * SECOND_US);
            core.after(wait, late);
        }
        drop(core);
        ended.map_err(|refusal| self.refused(refusal))
    }

    fn deliver(&mut self, next: &[Position]) -> Result<(), TransactionError> {
        next.iter().try_for_each(|position| self.must_hold(position.partition))?;
        let mut core = self.lanes.world.core();
        let failed_delivery = core.plan.rates.failed_delivery;
        if core.happens(failed_delivery) {
            core.trace.fault("a record of a transaction is not delivered");
            let culprit = (!next.is_empty()).then(|| core.random.pick(next).partition);
            let reason = "not enough replicas".to_owned();
            return Err(TransactionError { fate: Fate::Retry, culprit, reason });
        }
        let current = core.is_current(self.lanes.member, self.generation);
        if !current && !core.is_planted(Mistake::NoFence) {
            core.trace.fault("a transaction of a stale member is refused");
            return Err(failure(Fate::Retry, "illegal generation"));
        }
        let (life, epoch) = (self.lanes.life, self.lanes.epoch);
        let sent = core.send_offsets(life, epoch, next, &mut self.sending);
        drop(core);
        sent.map_err(|refusal| self.refused(refusal))
    }
}

impl Transaction for Open<'_> {
    fn append(&mut self, record: NewRecord) -> Result<(), TransactionError> {
        if !self.lanes.may_call("append in a transaction") {
            return Err(MemberLanes::stopped());
        }
        self.must_hold(record.partition)?;
        let mut core = self.lanes.world.core();
        let (life, epoch) = (self.lanes.life, self.lanes.epoch);
        let produced = core.produce(life, epoch, record, &mut self.sending);
        drop(core);
        let position = produced.map_err(|refusal| self.refused(refusal))?;
        self.positions.push(position);
        Ok(())
    }

    fn commit(mut self: Box<Self>, next: &[Position]) -> Result<Vec<Position>, TransactionError> {
        if !self.lanes.may_call("send the offsets") {
            return Err(MemberLanes::stopped());
        }
        if let Err(error) = self.deliver(next) {
            let error = if error.fate == Fate::Retry { self.give_up(error) } else { error };
            return Err(error);
        }
        if !self.lanes.may_call("commit") {
            return Err(MemberLanes::stopped());
        }
        self.end(true)?;
        if !self.lanes.may_call("the answer to a commit") {
            return Err(MemberLanes::stopped());
        }
        let mut core = self.lanes.world.core();
        let (now, process) = (core.now_us, self.lanes.life.process);
        core.trace.line(now, format_args!("{process} has committed {:?}", self.positions));
        let forgets = core.is_planted(Mistake::ForgetsWhatItCommitted);
        drop(core);
        let told = |position: &Position| if forgets { Position::new(position.partition, Offset(0)) } else { *position };
        Ok(self.positions.iter().map(told).collect())
    }

    fn abort(mut self: Box<Self>) -> Result<(), TransactionError> {
        if !self.lanes.may_call("abort") {
            return Err(MemberLanes::stopped());
        }
        self.end(false)
    }
}
