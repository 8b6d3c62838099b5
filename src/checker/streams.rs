//! What streams carried, against the log: no gap, no repetition, no step back, over every reconnect, and nothing after the
//! end (I14); and nothing that is not on the log (I9, I10, I21).

use std::collections::{BTreeMap, HashMap};

use crate::checker::book::Book;
use crate::checker::history::{Connection, Frame, History};
use crate::checker::life::{Life, Step};
use crate::checker::report::{Invariant, Report};
use crate::payment::Status;

const SNAPSHOT: &str = "snapshot";
const RESET: &str = "reset";
const NO_CONTENT: u16 = 204;
/// A stream of several payments opens with the newest ones, at most this many (DESIGN.md 9): of the others its reader knows
/// nothing until they change.
const SNAPSHOTS_MAX: usize = 100;

pub(super) fn judge(book: &Book, history: &History, report: &mut Report) {
    if history.streams.is_empty() {
        report.not_judged.insert(Invariant::StreamsAreWhole);
        return;
    }
    let mut streams: BTreeMap<&str, Vec<&Connection>> = BTreeMap::new();
    for connection in &history.streams {
        report.counts.stream_connections += 1;
        report.counts.stream_frames += connection.frames.len() as u64;
        streams.entry(&connection.stream).or_default().push(connection);
    }
    for (name, mut connections) in streams {
        connections.sort_by_key(|connection| connection.number);
        let mut reader = Reader { book, name, told: Told::default(), at: HashMap::new(), knows_all: true };
        for connection in connections {
            reader.connect(connection, report);
        }
    }
}

/// The version of each payment that a reader has been told.
type Told<'h> = HashMap<&'h str, u64>;

struct Reader<'h> {
    book: &'h Book,
    name: &'h str,
    told: Told<'h>,
    /// What had been told when the cursor was at an id.
    at: HashMap<&'h str, Told<'h>>,
    /// No payment was left out of the snapshots.
    knows_all: bool,
}

impl<'h> Reader<'h> {
    fn connect(&mut self, connection: &'h Connection, report: &mut Report) {
        // A client that comes back goes on from its cursor, which is the last id that it was given; what came behind that
        // id does not count. One that comes without a cursor begins anew.
        self.told = match connection.last_event_id.as_deref() {
            None => Told::new(),
            Some(id) => match self.at.get(id) {
                Some(told) => told.clone(),
                None => {
                    let evidence = format!("it came back at {id:?}, which it had never been given");
                    report.found(Invariant::WellFormed, self.name, evidence);
                    return;
                }
            },
        };
        let (mut fresh, mut ended) = (connection.last_event_id.is_none(), false);
        for frame in &connection.frames {
            if ended {
                self.wrong(frame, "a frame after the end of the payment", report);
            }
            self.frame(frame, &mut fresh, report);
            if let Some(life) = self.book.life(&frame.payment_id) {
                self.belongs(life, connection, report);
                let over = life.step(frame.version).is_some_and(|step| step.status != Status::InProgress);
                ended = connection.payment_id.is_some() && over;
            }
            if let Some(id) = &frame.id {
                self.at.insert(id, self.told.clone());
            }
        }
        self.no_content(connection, report);
        if connection.to_the_end {
            self.nothing_is_missing(connection, report);
        }
    }

    /// Who has read to the end has been told of everything that is followed.
    fn nothing_is_missing(&self, connection: &Connection, report: &mut Report) {
        let of_customer = |life: &&Life| {
            let canonical = life.canonical();
            canonical.merchant_id.as_str() == connection.merchant
                && connection.customer_id.as_deref() == Some(canonical.customer_id.as_str())
        };
        let followed: Vec<&Life> = match &connection.payment_id {
            Some(id) => self.book.life(id).into_iter().collect(),
            None => self.book.lives.values().filter(of_customer).collect(),
        };
        for life in followed {
            let told = self.told.get(life.id.to_string().as_str()).copied();
            if told != Some(life.version()) && (told.is_some() || self.knows_all) {
                let (told, all) = (told.unwrap_or_default(), life.version());
                let evidence = format!("{} read to the end, and was told of version {told} of {all}", self.name);
                report.found(Invariant::StreamsAreWhole, life.id, evidence);
            }
        }
    }

    /// 204 says that the client has seen the end.
    fn no_content(&self, connection: &Connection, report: &mut Report) {
        let Some(id) = connection.payment_id.as_deref().filter(|_| connection.status == NO_CONTENT) else { return };
        let (told, life) = (self.told.get(id).copied().unwrap_or_default(), self.book.life(id));
        let over = life.and_then(|life| life.step(told)).is_some_and(|step| step.status != Status::InProgress);
        if !over {
            let evidence = format!("{} was told of version {told} only, and then that there is no more", self.name);
            report.found(Invariant::StreamsAreWhole, id, evidence);
        }
    }

    fn frame(&mut self, frame: &'h Frame, fresh: &mut bool, report: &mut Report) {
        match frame.event.as_str() {
            "" => *fresh = false,
            // A log is never exchanged under a run.
            RESET => self.wrong(frame, "a reset", report),
            SNAPSHOT => {
                if !*fresh {
                    self.wrong(frame, "a snapshot to who had a cursor", report);
                }
                // A stream of one payment has one snapshot, and it bears an id.
                *fresh = frame.id.is_none();
                self.on_the_log(frame, report);
                self.told.insert(&frame.payment_id, frame.version);
                self.knows_all &= self.told.len() < SNAPSHOTS_MAX;
            }
            _ => {
                *fresh = false;
                let told = self.told.get(frame.payment_id.as_str()).copied();
                if frame.version != told.unwrap_or_default() + 1 && (told.is_some() || self.knows_all) {
                    self.wrong(frame, &format!("after version {}", told.unwrap_or_default()), report);
                }
                self.on_the_log(frame, report);
                self.told.insert(&frame.payment_id, frame.version);
            }
        }
    }

    fn on_the_log(&self, frame: &Frame, report: &mut Report) {
        let Some(life) = self.book.life(&frame.payment_id) else {
            report.found(Invariant::OnlyCommittedIsSeen, &frame.payment_id, "streamed, and not on the log");
            return;
        };
        let Some(step) = life.step(frame.version) else {
            let evidence = format!("version {} was streamed, and the log has {}", frame.version, life.version());
            report.found(Invariant::OnlyCommittedIsSeen, life.id, evidence);
            return;
        };
        if frame.payment_status != step.status.name() || (frame.event != SNAPSHOT && frame.event != step.name) {
            let evidence = format!(
                "version {} was streamed as {} ({}), and on the log it is {} ({})",
                frame.version,
                frame.event,
                frame.payment_status,
                step.name,
                step.status.name()
            );
            report.found(Invariant::OnlyCommittedIsSeen, life.id, evidence);
        }
        same_record(life, step, frame, report);
    }

    fn belongs(&self, life: &Life, connection: &Connection, report: &mut Report) {
        let merchant = &life.canonical().merchant_id;
        if merchant.as_str() != connection.merchant {
            let evidence = format!("it is of {merchant}, and a stream of {} carried it", connection.merchant);
            report.found(Invariant::MerchantsApart, life.id, evidence);
        }
    }

    fn wrong(&self, frame: &Frame, what: &str, report: &mut Report) {
        let evidence = format!("{} was given {} {} {what}", self.name, frame.event, frame.version);
        report.found(Invariant::StreamsAreWhole, &frame.payment_id, evidence);
    }
}

fn same_record(life: &Life, step: &Step, frame: &Frame, report: &mut Report) {
    let elsewhere = frame.place.is_some_and(|place| place != step.place);
    let another = frame.event_id.as_ref().is_some_and(|id| *id != step.event_id);
    if elsewhere || another {
        let place = frame.place.map_or_else(String::new, |place| place.to_string());
        let seen = format!("event {} at {place}", frame.event_id.as_deref().unwrap_or_default());
        let evidence = format!(
            "version {} is event {} at {}, and was streamed as {seen}",
            frame.version, step.event_id, step.place
        );
        report.found(Invariant::OneRecordAtAPlace, life.id, evidence);
    }
}
