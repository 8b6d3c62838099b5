//! Reads the log of payments for those who are to be told: every endpoint from where it was enabled on, the ranges that
//! somebody asked for, and once for all browsers. What it finds is noted; it tells nobody.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::outcome::{Cause, What, WorkId};
use super::rows::BROWSERS;
use super::{Deliveries, DeliveriesError};
use crate::control::{Asks, EndpointId, KnownWebhooks, Request, RequestId};
use crate::journal::{JournalError, Offset, Partition, Position, Reader, Record, Tail, TailItem, partition_of};
use crate::payment::{MerchantId, PaymentId};
use crate::projection::View;
use crate::schema::Codec;

/// Records that are taken at once.
const BATCH_MAX: usize = 1_000;
/// How long one look waits: the bound on how late a stop, or a change of an endpoint, is noticed.
const POLL: Duration = Duration::from_millis(50);
/// Records of one partition that wait until the fold of payments has passed them; the rest is read again then.
const WAITING_MAX: usize = 10_000;
/// How often it is looked whether the fold has passed what waits.
const WAITING_TURN: Duration = Duration::from_millis(5);

/// Finds what is to be told, on a thread of its own.
pub struct Scanner {
    pub(super) deliveries: Deliveries,
    pub(super) log: Arc<dyn Reader>,
    pub(super) view: View,
    pub(super) codec: Arc<Codec>,
    pub(super) seen: u64,
    pub(super) known: Arc<KnownWebhooks>,
    pub(super) sources: Vec<Source>,
    pub(super) requests: usize,
    pub(super) reading: Option<Reading>,
    /// Browsers that first came before this place on the control log are told all: one that is renewed is read nothing for.
    pub(super) whole: Offset,
}

/// Somebody for whom the log is read.
pub(super) struct Source {
    pub who: Who,
    cause: Cause,
    kind: Kind,
    /// By partition: the next offset, and where it ends.
    pub next: Vec<Offset>,
    to: Vec<Offset>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Who {
    Endpoint(EndpointId),
    /// Whoever of them is to be told.
    Browsers,
}

/// Which of the events it covers are wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// What the endpoint has asked to hear of.
    Live,
    /// The same, if it was not delivered and is not about to be.
    Recovery,
    /// Whatever it is.
    One,
}

/// The log, as far as it was read.
pub(super) struct Reading {
    tail: Box<dyn Tail>,
    waiting: Vec<VecDeque<Found>>,
    /// Of these something was not kept, and has to be read again.
    full: BTreeSet<usize>,
}

/// A record, as far as it can be told without the fold.
struct Found {
    offset: Offset,
    /// `None` if nobody can say whose it is.
    payment: Option<PaymentId>,
    /// The name of the event and its id; `None` if it cannot be read here: the rows of payments have it then, if it is one.
    event: Option<(String, String)>,
}

impl Source {
    fn key(&self) -> [u8; 16] {
        match (self.cause, self.who) {
            (Cause::Live, Who::Endpoint(EndpointId(id))) | (Cause::Asked(RequestId(id)), _) => id,
            (Cause::Live, Who::Browsers) => BROWSERS,
        }
    }

    fn is_done(&self) -> bool {
        self.next.iter().zip(&self.to).all(|(next, to)| next >= to)
    }

    fn covers(&self, position: Position) -> bool {
        let p = position.partition.0 as usize;
        (self.next[p]..self.to[p]).contains(&position.offset)
    }
}

/// Of what is about no payment, the endpoint itself says who tells it.
fn of_no_event(endpoint: EndpointId, cause: Cause, partitions: u32) -> WorkId {
    let partition = partition_of(endpoint.to_string().as_bytes(), partitions);
    WorkId { target: endpoint.into(), partition, offset: Offset(0), cause }
}

impl Scanner {
    /// Looks until told to stop. Blocks.
    pub fn run(mut self, stop: &CancellationToken) -> Result<(), DeliveriesError> {
        while !stop.is_cancelled() {
            self.turn(POLL)?;
        }
        Ok(())
    }

    /// Notes what there is to be told now, and waits for something for so long at most.
    pub fn turn(&mut self, wait: Duration) -> Result<(), DeliveriesError> {
        let (changes, known) = self.deliveries.fold.webhooks.changes();
        if changes != self.seen {
            self.known = known;
            self.heed()?;
            self.seen = changes;
        }
        self.heed_browsers()?;
        if self.sources.is_empty() {
            self.reading = None;
            self.deliveries.fold.webhooks.wait(self.seen, wait);
            return Ok(());
        }
        match self.reading.take() {
            Some(mut reading) => {
                self.read(&mut reading, wait)?;
                if !self.look(&mut reading)? {
                    self.reading = Some(reading); // else it is read again from the cursors
                }
            }
            None => self.reading = Some(self.open()?),
        }
        Ok(())
    }

    // === for whom ===

    /// Endpoints that were changed, and what was asked of them since the last look.
    fn heed(&mut self) -> Result<(), DeliveriesError> {
        let (known, partitions) = (Arc::clone(&self.known), self.log.partitions());
        let mut anew = false;
        for endpoint in known.endpoints.values() {
            anew |= self.deliveries.fold.stand(endpoint, partitions)?;
            for partition in (0..partitions).map(Partition) {
                self.deliveries.touch(partition, endpoint.endpoint.id.into());
            }
        }
        let requests = known.requests.since(self.requests);
        for request in requests.iter().filter(|request| known.is_open(request)) {
            anew |= self.ask(request)?;
        }
        self.requests = known.requests.count();
        let is_enabled = |id: &EndpointId| known.endpoints.get(id).is_some_and(|e| e.endpoint.is_enabled());
        self.sources.retain(|source| match &source.who {
            Who::Endpoint(id) => is_enabled(id),
            Who::Browsers => true,
        });
        let missing = |endpoint: EndpointId, sources: &[Source]| {
            sources.iter().all(|source| source.who != Who::Endpoint(endpoint) || source.cause != Cause::Live)
        };
        for endpoint in known.endpoints.values().filter(|known| known.endpoint.is_enabled()) {
            let id = endpoint.endpoint.id;
            if anew || missing(id, &self.sources) {
                self.sources.retain(|source| source.who != Who::Endpoint(id) || source.cause != Cause::Live);
                let to = vec![Offset(u64::MAX); partitions as usize];
                let source = self.source((Who::Endpoint(id), Cause::Live, Kind::Live), |_| Offset(0), to)?;
                self.sources.push(source);
                anew = true;
            }
        }
        if anew {
            self.reading = None;
        }
        Ok(())
    }

    /// Takes up one request. `true` if the log has to be read for it.
    fn ask(&mut self, request: &Request) -> Result<bool, DeliveriesError> {
        let (endpoint, cause) = (request.endpoint, Cause::Asked(request.id));
        let partitions = self.log.partitions();
        match &request.asks {
            Asks::Test => self.want(&of_no_event(endpoint, cause, partitions), &What::Test)?,
            Asks::Disabled { disabled, reason } => {
                let what = What::Disabled { endpoint: *disabled, reason: reason.clone() };
                self.want(&of_no_event(endpoint, cause, partitions), &what)?;
            }
            Asks::Resend { partition, offset, payment_id, version } => {
                let (partition, offset) = (Partition(*partition), Offset(*offset));
                let work = WorkId { target: endpoint.into(), partition, offset, cause };
                if let Some(payment) = PaymentId::parse(payment_id) {
                    let entry = self.view.events_after(payment, version.saturating_sub(1), 1)?.into_iter().next();
                    let Some(entry) = entry.filter(|entry| entry.position == work.position()) else {
                        // Asked by an instance that has folded further than this one: in a moment.
                        return self.add(self.source_of_one(endpoint, &work)?);
                    };
                    let (name, event) = (entry.event.data.name().to_owned(), entry.event.event_id.to_string());
                    self.want(&work, &What::Event { payment, version: *version, name, event })?;
                }
            }
            Asks::Recover { ranges } => {
                let mut to = vec![Offset(0); partitions as usize];
                let from = |partition: Partition| {
                    Offset(ranges.iter().find(|range| range.partition == partition.0).map_or(0, |range| range.from))
                };
                for range in ranges.iter().filter(|range| range.partition < partitions) {
                    to[range.partition as usize] = Offset(range.to);
                }
                return self.add(self.source((Who::Endpoint(endpoint), cause, Kind::Recovery), from, to)?);
            }
        }
        Ok(false)
    }

    /// `true` if the log has to be read for it.
    fn add(&mut self, source: Source) -> Result<bool, DeliveriesError> {
        let needed = !source.is_done();
        if needed {
            self.sources.push(source);
        }
        Ok(needed)
    }

    pub(super) fn source(
        &self,
        (who, cause, kind): (Who, Cause, Kind),
        from: impl Fn(Partition) -> Offset,
        to: Vec<Offset>,
    ) -> Result<Source, DeliveriesError> {
        let mut source = Source { who, cause, kind, next: Vec::new(), to };
        for partition in (0..self.log.partitions()).map(Partition) {
            let cursor = self.deliveries.cursor(source.key(), partition)?;
            source.next.push(cursor.unwrap_or_else(|| from(partition)));
        }
        Ok(source)
    }

    fn source_of_one(&self, endpoint: EndpointId, work: &WorkId) -> Result<Source, DeliveriesError> {
        let mut to = vec![Offset(0); self.log.partitions() as usize];
        if let Some(to) = to.get_mut(work.partition.0 as usize) {
            *to = work.offset.next();
        }
        self.source((Who::Endpoint(endpoint), work.cause, Kind::One), |_| work.offset, to)
    }

    pub(super) fn want(&self, work: &WorkId, what: &What) -> Result<(), DeliveriesError> {
        if self.deliveries.fold.want(work, what)? {
            self.deliveries.touch(work.partition, work.target);
        }
        Ok(())
    }

    // === what ===

    /// From the first offset that anybody still needs.
    fn open(&self) -> Result<Reading, DeliveriesError> {
        let mut from = Vec::new();
        for p in 0..self.log.partitions() {
            let needed = self.sources.iter().filter(|source| source.next[p as usize] < source.to[p as usize]);
            let first = needed.map(|source| source.next[p as usize]).min();
            from.push(first.map_or_else(|| self.log.ends(Partition(p)).map(|ends| ends.committed), Ok)?);
        }
        let waiting = from.iter().map(|_| VecDeque::new()).collect();
        Ok(Reading { tail: self.log.tail(&from)?, waiting, full: BTreeSet::new() })
    }

    fn read(&self, reading: &mut Reading, wait: Duration) -> Result<(), JournalError> {
        let waits = reading.waiting.iter().any(|found| !found.is_empty());
        for item in reading.tail.poll(BATCH_MAX, if waits { wait.min(WAITING_TURN) } else { wait })? {
            let TailItem::Record(record) = item else { continue };
            let p = record.position.partition.0 as usize;
            if reading.waiting[p].len() >= WAITING_MAX {
                reading.full.insert(p);
            }
            if !reading.full.contains(&p) {
                reading.waiting[p].push_back(self.found(&record));
            }
        }
        Ok(())
    }

    fn found(&self, record: &Record) -> Found {
        let offset = record.position.offset;
        match self.codec.decode(&record.value) {
            Ok(event) => {
                let named = (event.data.name().to_owned(), event.event_id.to_string());
                Found { offset, payment: Some(event.payment_id), event: Some(named) }
            }
            // The schema registry may not have explained it to this process, which had folded it before it started.
            Err(_) => {
                let payment = std::str::from_utf8(&record.key).ok().and_then(PaymentId::parse);
                Found { offset, payment, event: None }
            }
        }
    }

    /// Notes what the fold of payments has passed. `true` if the log must be read again.
    fn look(&mut self, reading: &mut Reading) -> Result<bool, DeliveriesError> {
        let mut passed: BTreeMap<Partition, Offset> = BTreeMap::new();
        for (waiting, p) in reading.waiting.iter_mut().zip(0..) {
            let (partition, folded) = (Partition(p), self.view.folded_to(Partition(p)));
            while let Some(found) = waiting.pop_front_if(|found| found.offset < folded) {
                self.note(partition, &found)?;
                passed.insert(partition, found.offset.next());
            }
        }
        if !passed.is_empty() {
            self.pass(&passed)?;
        }
        Ok(reading.full.iter().any(|p| reading.waiting[*p].is_empty()))
    }

    fn note(&self, partition: Partition, found: &Found) -> Result<(), DeliveriesError> {
        let position = Position::new(partition, found.offset);
        let Some(payment) = found.payment else { return Ok(()) };
        if !self.sources.iter().any(|source| source.covers(position)) {
            return Ok(());
        }
        let Some(row) = self.view.payment(payment)? else { return Ok(()) };
        // Without a version it had no effect.
        let Ok(index) = row.events.binary_search(&found.offset) else { return Ok(()) };
        let Some((name, event)) = self.named(payment, index as u64, found)? else { return Ok(()) };
        let what = What::Event { payment, version: index as u64 + 1, name: name.clone(), event };
        let merchant: &MerchantId = &row.payment.initiation.merchant_id;
        for source in self.sources.iter().filter(|source| source.covers(position)) {
            let Who::Endpoint(id) = source.who else {
                self.note_for_browsers(position, &what, &row.payment)?;
                continue;
            };
            let Some(known) = self.known.endpoints.get(&id) else { continue };
            let work = WorkId { target: id.into(), partition, offset: found.offset, cause: source.cause };
            let wanted = match source.kind {
                Kind::Live => known.endpoint.wants(merchant, &name),
                Kind::Recovery => {
                    known.endpoint.wants(merchant, &name) && !self.deliveries.fold.is_told_anyway(&work)?
                }
                Kind::One => known.endpoint.merchant_id == merchant.as_str(),
            };
            if wanted {
                self.want(&work, &what)?;
            }
        }
        Ok(())
    }

    fn named(
        &self,
        payment: PaymentId,
        before: u64,
        found: &Found,
    ) -> Result<Option<(String, String)>, DeliveriesError> {
        if found.event.is_some() {
            return Ok(found.event.clone());
        }
        let entry = self.view.events_after(payment, before, 1)?.into_iter().next();
        Ok(entry.map(|entry| (entry.event.data.name().to_owned(), entry.event.event_id.to_string())))
    }

    /// Whatever was found before these offsets is noted.
    fn pass(&mut self, passed: &BTreeMap<Partition, Offset>) -> Result<(), DeliveriesError> {
        let mut batch = self.deliveries.fold.tables.store.batch();
        for source in &mut self.sources {
            let key = source.key();
            for (partition, offset) in passed {
                let next = &mut source.next[partition.0 as usize];
                if *next < *offset {
                    *next = *offset;
                    self.deliveries.fold.move_cursor(key, Position::new(*partition, *offset), &mut batch);
                }
            }
        }
        batch.commit()?;
        self.sources.retain(|source| !source.is_done());
        Ok(())
    }
}
