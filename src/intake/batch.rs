//! What the next transaction moves: from each partition of requests as many of the waiting records, from the first on, as
//! may go now. Nothing is taken out of a queue before the transaction has committed, so a batch that came to nothing is
//! simply chosen again.

use std::collections::BTreeMap;
use std::time::Instant;

use super::dead_letter::dead_letter;
use super::request::{Asked, Refused, Unread, read, trace};
use super::source::{Blocked, Source};
use super::targets::Targets;
use super::{Intake, IntakeError};
use crate::journal::{Crossing, DeadLetter, NewRecord, Offset, Partition, Passage, Position, SourceRecord, Target};
use crate::payment::{Event, EventData, RequestId, Timestamp};
use crate::projection::home_of;
use crate::recording::event_record;
use crate::schema::{DecodeError, traceparent};

/// A transaction must be over long before its timeout.
const BATCH_WEIGHT_MAX: usize = 4 * 1024 * 1024;

#[derive(Default)]
pub(super) struct Batch {
    pub passage: Passage,
    /// What became of each record, to be counted when it has.
    pub counted: Vec<Counted>,
    /// What was taken of each partition of requests.
    pub taken: BTreeMap<Partition, Taken>,
    records: usize,
    weight: usize,
    /// More could have been chosen.
    pub full: bool,
}

/// The first so many records that wait: counted, for their offsets say nothing of their order once a topic was made again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Taken {
    pub records: usize,
    /// How many of them became dead letters.
    pub letters: usize,
    /// Where the group stands when they have been moved on.
    pub next: Offset,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Counted {
    Accepted,
    /// The payment is known already, and asks for the same.
    Repeat,
    /// The payment is known already, and asks for something else.
    Conflict,
    DeadLetter(&'static str),
}

/// What a record becomes.
enum Judged {
    Event(NewRecord),
    Known { repeat: bool },
    Letter(DeadLetter, &'static str),
    Wait(Blocked),
}

/// What is chosen by.
pub(super) struct Chooser<'a> {
    pub intake: &'a Intake,
    pub crossing: &'a Crossing,
    pub targets: &'a Targets,
    pub batch_max: usize,
    pub instant: Instant,
}

impl Chooser<'_> {
    /// Adds what may go of `source`, and says what holds up the rest.
    pub fn choose(&self, batch: &mut Batch, source: &mut Source) -> Result<(), IntakeError> {
        let (mut next, mut records, mut letters, mut blocked, mut blocked_at) = (None, 0, 0, None, None);
        for (record, read_at) in source.waiting() {
            if batch.records >= self.batch_max || batch.weight >= BATCH_WEIGHT_MAX {
                batch.full = true;
                if records == 0 {
                    return Ok(()); // it was not its turn: what held it up holds it up still
                }
                break;
            }
            match self.judge(record, *read_at)? {
                Judged::Wait(why) => {
                    (blocked, blocked_at) = (Some(why), Some(record.position));
                    break;
                }
                Judged::Letter(..) if letters >= source.limiter.allowed(self.instant) => {
                    blocked = Some(Blocked::Slowed { until: source.limiter.next_at() });
                    break;
                }
                Judged::Letter(letter, code) => {
                    letters += 1;
                    batch.passage.dead_letters.push(letter);
                    batch.counted.push(Counted::DeadLetter(code));
                }
                Judged::Event(event) => {
                    batch.passage.events.push(event);
                    batch.counted.push(Counted::Accepted);
                }
                Judged::Known { repeat } => {
                    batch.counted.push(if repeat { Counted::Repeat } else { Counted::Conflict });
                }
            }
            records += 1;
            batch.records += 1;
            batch.weight += record.weight();
            next = Some(record.position.next());
        }
        if let Some(next) = next {
            batch.taken.insert(next.partition, Taken { records, letters, next: next.offset });
            batch.passage.next.push(next);
        }
        (source.blocked, source.blocked_at) = (blocked, blocked_at);
        Ok(())
    }

    fn judge(&self, record: &SourceRecord, read_at: Instant) -> Result<Judged, IntakeError> {
        let asked = match read(record, read_at, &self.intake.requests) {
            Ok(asked) => asked,
            Err(Unread::Refused(refused)) => return Ok(self.refuse(record, &refused)),
            Err(Unread::NotRegistered(id)) => {
                self.intake.requests.want(id);
                return Ok(Judged::Wait(Blocked::Registry { id }));
            }
        };
        if let Some(row) = self.intake.view.payment(asked.id)? {
            return Ok(Judged::Known { repeat: row.payment.initiation.fingerprint == asked.fingerprint });
        }
        let home = home_of(asked.id, self.intake.journal.partitions());
        if self.intake.view.is_behind(home) {
            return Ok(Judged::Wait(Blocked::Halted(home)));
        }
        if !self.targets.take(Target::Log(home)) {
            return Ok(Judged::Wait(Blocked::LeftOut));
        }
        Ok(match self.event(record, asked, home) {
            Ok(event) => Judged::Event(event),
            Err(refused) => self.refuse(record, &refused),
        })
    }

    fn event(&self, record: &SourceRecord, asked: Asked, home: Partition) -> Result<NewRecord, Refused> {
        let Position { partition, offset } = record.position;
        let request_id = RequestId::of_record(&self.crossing.requests, partition.0, offset.0)?;
        let accepted = asked.payment.accept(asked.merchant, &self.intake.gateway, request_id);
        let event = Event::new(asked.id, self.now(), EventData::PaymentInProgress(accepted));
        let trace = traceparent(trace(record));
        event_record(&event, home, &self.intake.codec, Some(&trace)).map_err(|error| match error {
            // JSON that was short for its content: an escape in a text can be longer than what it stands for.
            DecodeError::TooLarge(_) => {
                Refused { code: "record_too_large", detail: "its event is too large".to_owned() }
            }
            other => Refused { code: "not_encodable", detail: other.to_string() },
        })
    }

    /// By this machine's clock, never by the sender's.
    pub fn now(&self) -> Timestamp {
        self.intake.view.clocks().machine()
    }

    fn refuse(&self, record: &SourceRecord, refused: &Refused) -> Judged {
        let letter = dead_letter(record, refused, self.crossing, self.now());
        if !self.targets.take(Target::DeadLetters(letter.partition)) {
            return Judged::Wait(Blocked::LeftOut);
        }
        Judged::Letter(letter, refused.code)
    }
}
