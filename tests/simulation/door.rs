//! A process's door to the model of the log: what `journal::Reader` and `journal::Journal` promise, and the faults that a
//! real one has.

use std::sync::Arc;
use std::time::Duration;

use paylog::journal::{
    AppendError, Appending, Ends, Engine, Journal, JournalError, Lanes, LogId, NewRecord, Offset, Partition, Position,
    Reader, Record, Tail, TailItem,
};

use crate::core::{Core, Due};
use crate::log::{Life, Log, State, record};
use crate::plan::{ORIGIN_US, SECOND_US};
use crate::planted::Mistake;
use crate::world::Site;
use crate::writer::MemberLanes;

/// The records that one look at the log brings, at most.
const READ_MAX: usize = 6;

pub struct Door {
    pub world: Arc<dyn Site>,
    pub life: Life,
    pub log: Log,
    /// It is for those who look for what is to be told.
    pub is_scan: bool,
}

pub fn gone() -> JournalError {
    JournalError::Broken("the process is dead".to_owned())
}

fn unavailable(what: &str) -> JournalError {
    JournalError::Unavailable(format!("the broker does not answer: {what}"))
}

impl Reader for Door {
    fn engine(&self) -> Engine {
        Engine::Kafka
    }

    fn log_id(&self) -> LogId {
        match self.log {
            Log::Own => LogId([7; 16]),
            Log::Beside(n) => LogId([8 + n as u8; 16]),
        }
    }

    fn partitions(&self) -> u32 {
        self.world.core().topic_of(self.log).partitions().count() as u32
    }

    fn tail(&self, from: &[Offset]) -> Result<Box<dyn Tail>, JournalError> {
        let mut core = self.world.core();
        if !core.may_call(self.life, "open the tail") {
            return Err(gone());
        }
        let topic = core.topic_of(self.log);
        for (from, partition) in from.iter().zip(topic.partitions()) {
            if *from > topic.stable_end(partition) {
                return Err(JournalError::Broken(format!("{partition} was folded to {from}, behind its end")));
            }
        }
        let reported = vec![None; from.len()];
        drop(core);
        let (world, life, log, is_scan) = (Arc::clone(&self.world), self.life, self.log, self.is_scan);
        Ok(Box::new(ModelTail { world, life, log, is_scan, next: from.to_vec(), reported }))
    }

    fn ends(&self, partition: Partition) -> Result<Ends, JournalError> {
        let mut core = self.world.core();
        if !core.may_call(self.life, "ends") {
            return Err(gone());
        }
        let no_answer = core.plan.rates.no_answer;
        if core.happens(no_answer) {
            core.trace.fault("a question for the end has no answer");
            return Err(unavailable("the end of a partition"));
        }
        let topic = core.topic_of(self.log);
        let (committed, mut uncommitted) = (topic.stable_end(partition), topic.end(partition));
        if core.is_planted(Mistake::CatchUpToStableOnly) {
            uncommitted = committed;
        }
        let now = core.now_us;
        core.trace.line(now, format_args!("{} asks for the end of {partition}: {uncommitted}", self.life.process));
        Ok(Ends { committed, uncommitted })
    }

    fn read(&self, position: Position) -> Result<Option<Record>, JournalError> {
        let mut core = self.world.core();
        if core.may_call(self.life, "read") { Ok(core.topic_of(self.log).read(position)) } else { Err(gone()) }
    }

    fn first_since(&self, taken_us: i64) -> Result<Vec<Offset>, JournalError> {
        let mut core = self.world.core();
        if !core.may_call(self.life, "first_since") {
            return Err(gone());
        }
        let topic = core.topic_of(self.log);
        let first = |partition| {
            let mut offsets = (0..topic.stable_end(partition).0).map(Offset);
            let taken = |at| topic.read(Position::new(partition, at)).map(|record| record.appended_at_us);
            offsets.find(|at| taken(*at) >= Some(taken_us)).unwrap_or_else(|| topic.stable_end(partition))
        };
        Ok(topic.partitions().map(first).collect())
    }

    fn check(&self) -> Result<(), JournalError> {
        Ok(())
    }
}

impl Journal for Door {
    fn append(&self, record: NewRecord) -> Appending {
        let (world, life, log) = (Arc::clone(&self.world), self.life, self.log);
        Box::pin(async move {
            let answer = {
                let mut core = world.core();
                if core.may_call(life, "append") { core.take_append(life, log, record) } else { None }
            };
            match answer {
                // Its process is dead, or dies while it waits.
                Some(answer) if !world.core().is_over(life) => answer,
                _ => std::future::pending().await,
            }
        })
    }

    fn lanes(&self) -> Result<Box<dyn Lanes>, JournalError> {
        if !self.world.core().may_call(self.life, "join the group") {
            return Err(gone());
        }
        Ok(Box::new(MemberLanes::join(Arc::clone(&self.world), self.life)))
    }
}

impl Core {
    fn take_append(&mut self, life: Life, log: Log, record: NewRecord) -> Option<Result<Position, AppendError>> {
        let now = self.now_us;
        if self.is_planted(Mistake::AcknowledgedTooEarly) {
            let position = Position::new(record.partition, self.topic_of(log).end(record.partition));
            self.after(SECOND_US, Due::Append(life, log, Box::new(record)));
            return Some(Ok(position));
        }
        if self.is_planted(Mistake::OutcomeLost) && log == Log::Own && self.random.chance(100) {
            return Some(Ok(Position::new(
                record.partition,
                Offset(self.topic.end(record.partition).0.saturating_sub(1)),
            )));
        }
        // Whoever asks for it is told that it stands, and nobody else ever hears of it.
        let says = |what: &str| std::str::from_utf8(&record.value).is_ok_and(|text| text.contains(what));
        if self.is_planted(Mistake::DisabledOnlySaid) && says("WebhookEndpointDisabled") {
            let end = self.topic_of(log).end(record.partition);
            return Some(Ok(Position::new(record.partition, Offset(end.0.saturating_sub(1)))));
        }
        let unknown = || Some(Err(AppendError::Unknown("the acknowledgement did not come".to_owned())));
        if self.happens(self.plan.rates.refused_append) {
            self.trace.fault("an append is refused");
            return Some(Err(AppendError::NotAppended("not enough replicas".to_owned())));
        }
        if self.happens(self.plan.rates.lost_append) {
            self.trace.fault("an append is lost without an answer");
            return unknown();
        }
        if self.happens(self.plan.rates.late_append) {
            self.trace.fault("an append arrives after its sender gave up");
            let wait = self.random.skewed(30 * SECOND_US);
            self.after(wait, Due::Append(life, log, Box::new(record)));
            return unknown();
        }
        let position = self.append(life, log, record);
        self.trace.line(now, format_args!("{} has appended at {position}", life.process));
        // It may die before it hears of it.
        if !self.may_call(life, "the answer to an append") {
            return None;
        }
        if log == Log::Own {
            let tick = self.tick();
            self.acknowledged.insert((position.partition, position.offset), tick);
            if self.is_planted(Mistake::LetGoAtTheAnswer) {
                return Some(Ok(Position::new(position.partition, Offset(0))));
            }
        }
        Some(Ok(position))
    }
}

struct ModelTail {
    world: Arc<dyn Site>,
    life: Life,
    log: Log,
    is_scan: bool,
    next: Vec<Offset>,
    reported: Vec<Option<Offset>>,
}

impl Tail for ModelTail {
    fn poll(&mut self, max: usize, _timeout: Duration) -> Result<Vec<TailItem>, JournalError> {
        let world = Arc::clone(&self.world);
        let mut core = world.core();
        if !core.may_call(self.life, "read the log") {
            return Err(gone());
        }
        let slow_tail = core.plan.rates.slow_tail;
        if core.happens(slow_tail) {
            core.trace.fault("the tail brings nothing for a while");
            return Ok(Vec::new());
        }
        let (mut items, mut left) = (Vec::new(), core.random.between(1, READ_MAX as u64) as usize);
        left = left.min(max);
        let first = core.random.below(self.next.len());
        for i in 0..self.next.len() {
            let partition = (first + i) % self.next.len();
            self.read(&core, Partition(partition as u32), &mut left, &mut items);
        }
        let read =
            items.iter().filter_map(|item| if let TailItem::Record(record) = item { Some(record) } else { None });
        let newest = read.map(|record| record.appended_at_us - ORIGIN_US).max();
        let machine = &mut core.machines[self.life.process];
        machine.newest_append_us = machine.newest_append_us.max(newest);
        if !items.is_empty() {
            let (now, process) = (core.now_us, self.life.process);
            let upto: Vec<u64> = self.next.iter().map(|next| next.0).collect();
            core.trace.line(now, format_args!("{process} reads {} items, up to {upto:?}", items.len()));
        }
        Ok(items)
    }
}

impl ModelTail {
    fn read(&mut self, core: &Core, partition: Partition, left: &mut usize, items: &mut Vec<TailItem>) {
        let p = partition.0 as usize;
        let (dirty, topic) = (core.is_planted(Mistake::ReadsUncommitted), core.topic_of(self.log));
        let end = if dirty { topic.end(partition) } else { topic.stable_end(partition) };
        while self.next[p] < end && *left > 0 {
            let position = Position::new(partition, self.next[p]);
            let slot = &topic.slots(partition)[position.offset.0 as usize];
            let readable = |state: State| state == State::Committed || dirty;
            let skipped =
                self.life.process == 0 && position.offset.0 % 5 == 4 && core.is_planted(Mistake::SkipsARecord)
                    || self.is_scan && position.offset.0 % 5 == 2 && core.is_planted(Mistake::SkipsWhatIsToTell);
            if let Some(entry) = slot.entry.as_ref().filter(|entry| readable(entry.state) && !skipped) {
                items.push(TailItem::Record(record(position, slot.appended_at_us, entry)));
                *left -= 1;
            }
            self.next[p] = position.offset.next();
        }
        if self.next[p] == end && self.reported[p] != Some(end) {
            items.push(TailItem::CaughtUp(Position::new(partition, end)));
            self.reported[p] = Some(end);
        }
    }
}
