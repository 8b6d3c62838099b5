//! A history in which all is well, for tests to spoil: five payments on four partitions, with a lost answer, a conflict, a
//! repeat, a parked payment, an aborted transaction, a dead letter, and streams that broke and came back.

use std::collections::HashMap;

use crate::checker::history::{
    Answer, Body, Connection, DeadLetter, Frame, GroupOffset, History, Kind, LedgerEntry, Liveness, LogRecord,
    Operation, Options, Outcome, Parking, PartitionEnds, Place, Producer, ProjectionDigest,
};
use crate::checker::{PAYMENTS, digest};
use crate::payment::event::PaymentInProgress;
use crate::payment::samples::{at, failed, in_progress, parked, retry, successful, unknown};
use crate::payment::{
    Event, EventData, EventId, IdempotencyKey, MerchantId, Payment, PaymentId, RequestId, Status, Timestamp,
};
use crate::schema::Codec;

pub(super) const PARTITIONS: u32 = 4;
/// Every payment of the good history, by its key.
pub(super) const CHARGED: &str = "charged";
pub(super) const DECLINED: &str = "declined";
pub(super) const LOST_ANSWER: &str = "lost-answer";
pub(super) const PARKED: &str = "parked";
pub(super) const CONTESTED: &str = "contested";

pub(super) fn id_of(key: &str) -> PaymentId {
    PaymentId::derive(&MerchantId::default(), &IdempotencyKey::parse(key).unwrap())
}

pub(super) fn body(amount: i64) -> Body {
    let metadata = [("order".to_owned(), "1001".to_owned())].into();
    Body {
        amount,
        currency: "EUR".to_owned(),
        customer_id: "cus_42".to_owned(),
        payment_method: "pm_card_visa".to_owned(),
        description: Some("Zwei Bücher".to_owned()),
        metadata: Some(metadata),
    }
}

/// Writes a history as a run would.
pub(super) struct Story {
    codec: Codec,
    pub history: History,
    ends: HashMap<u32, u64>,
    seconds: i64,
    payments: HashMap<PaymentId, Option<Payment>>,
    /// For each payment what a stream would say of each version.
    frames: HashMap<PaymentId, Vec<Frame>>,
}

impl Story {
    pub fn new() -> Self {
        let options = Options { partitions: PARTITIONS, ..Options::default() };
        Self {
            codec: Codec::new().unwrap(),
            history: History { options, ledger: Some(Vec::new()), ..History::default() },
            ends: HashMap::new(),
            seconds: 0,
            payments: HashMap::new(),
            frames: HashMap::new(),
        }
    }

    pub fn now(&mut self) -> Timestamp {
        self.seconds += 1;
        at(self.seconds)
    }

    pub fn record(&mut self, key: &str, data: EventData, partition: u32) -> (LogRecord, Event) {
        let (payment_id, now) = (id_of(key), self.now());
        let event_id = EventId::parse(&format!("019ab5a8-0000-7000-8000-{:012}", self.seconds)).unwrap();
        let event = Event { event_id, payment_id, occurred_at: now, data };
        let offset = self.ends.entry(partition).or_default();
        let place = Place { partition, offset: *offset };
        let transactional = !matches!(event.data, EventData::PaymentInProgress(_));
        *offset += if transactional { 2 } else { 1 }; // a transaction's marker takes an offset
        let producer = Some(Producer { id: i64::from(transactional), epoch: 3, transactional });
        let value = self.codec.encode(&event).unwrap();
        (LogRecord { place, appended_at: now, key: payment_id.to_string(), value, producer }, event)
    }

    pub fn append(&mut self, key: &str, data: EventData) -> Place {
        let home = crate::checker::book::java_partition(id_of(key).to_string().as_bytes(), PARTITIONS);
        let (record, event) = self.record(key, data, home);
        let (place, payment) = (record.place, self.payments.entry(id_of(key)).or_default());
        let before = payment.as_ref().map_or(0, |payment| payment.version);
        Payment::fold(payment, &event, record.appended_at).unwrap();
        let payment = payment.as_ref().unwrap();
        if payment.version > before {
            self.frames.entry(payment.id).or_default().push(Frame {
                id: Some(format!("0a0a0a0a.{}", payment.version)),
                event: event.data.name().to_owned(),
                payment_id: payment.id.to_string(),
                version: payment.version,
                payment_status: payment.status().name().to_owned(),
                event_id: Some(event.event_id.to_string()),
                place: Some(place),
            });
        }
        self.history.uncommitted.push(record.clone());
        self.history.log.push(record);
        place
    }

    /// As [`Story::append`], by a transaction that was never committed.
    pub fn abort(&mut self, key: &str, data: EventData) {
        let home = crate::checker::book::java_partition(id_of(key).to_string().as_bytes(), PARTITIONS);
        let (record, _) = self.record(key, data, home);
        self.history.uncommitted.push(record);
    }

    pub fn initiate(&mut self, key: &str, request_id: &str, amount: i64) -> Place {
        let EventData::PaymentInProgress(initiation) = in_progress(amount) else { unreachable!() };
        let request_id = RequestId::parse(request_id).unwrap();
        self.append(key, EventData::PaymentInProgress(PaymentInProgress { request_id, ..initiation }))
    }

    pub fn operation(&mut self, kind: Kind, key: &str, outcome: Outcome) -> &mut Operation {
        let (invoked_at, completed_at) = (self.now(), self.now());
        self.history.operations.push(Operation {
            client: "client-1".to_owned(),
            instance: "api-1".to_owned(),
            kind,
            merchant: "default".to_owned(),
            key: (kind == Kind::Pay).then(|| key.to_owned()),
            body: (kind == Kind::Pay).then(|| body(1999)),
            payment_id: (kind != Kind::Pay).then(|| id_of(key).to_string()),
            at_least: None,
            invoked_at,
            completed_at,
            outcome,
        });
        self.history.operations.last_mut().unwrap()
    }

    /// An initiation and the answer to it.
    pub fn pay(&mut self, key: &str, request_id: &str) -> Place {
        let place = self.initiate(key, request_id, 1999);
        let answer = Answer { request_id: Some(request_id.to_owned()), appended_at: Some(place), ..self.shown(key) };
        self.operation(Kind::Pay, key, Outcome::Ok(Box::new(answer)));
        place
    }

    /// The payment as it is, in an answer.
    pub fn shown(&self, key: &str) -> Answer {
        let payment = self.payments[&id_of(key)].as_ref().unwrap();
        Answer {
            status: 200,
            payment_id: payment.id.to_string(),
            confirmed: true,
            version: Some(payment.version),
            payment_status: Some(payment.status().name().to_owned()),
            ..Answer::default()
        }
    }

    /// What the provider has of it; `reference` is the one of its charge, if it made one.
    pub fn charge(&mut self, key: &str, reference: Option<&str>, requests: u64) {
        self.history.ledger.as_mut().unwrap().push(LedgerEntry {
            key: id_of(key).to_string(),
            charges: u64::from(reference.is_some()),
            amount: 1999,
            currency: "eur".to_owned(),
            requests,
            body_digests: vec!["d1".to_owned(); requests as usize],
            references: reference.into_iter().map(str::to_owned).collect(),
        });
    }

    pub fn frames(&self, key: &str) -> Vec<Frame> {
        self.frames[&id_of(key)].clone()
    }

    fn digest(&self, instance: &str) -> ProjectionDigest {
        let offsets = (0..PARTITIONS).map(|p| self.ends.get(&p).copied().unwrap_or_default()).collect();
        let digest = digest(self.payments.values().flatten());
        ProjectionDigest { instance: instance.to_owned(), kind: PAYMENTS.to_owned(), offsets, digest }
    }

    fn connection(&self, stream: &str, number: u32, last_event_id: Option<&str>, frames: Vec<Frame>) -> Connection {
        Connection {
            stream: stream.to_owned(),
            number,
            merchant: "default".to_owned(),
            payment_id: None,
            customer_id: None,
            last_event_id: last_event_id.map(str::to_owned),
            status: 200,
            frames,
            to_the_end: false,
        }
    }
}

fn snapshot(frame: &Frame) -> Frame {
    Frame { event: "snapshot".to_owned(), event_id: None, place: None, ..frame.clone() }
}

/// A history without a violation.
pub(super) fn good() -> History {
    let mut story = Story::new();
    payments(&mut story);
    let digests = [story.digest("api-1"), story.digest("rebuilt")];
    story.history.projections.extend(digests);
    streams(&mut story);
    topics(&mut story);
    at_rest(&mut story);
    story.history
}

fn payments(story: &mut Story) {
    story.pay(CHARGED, "req_1");
    story.append(CHARGED, successful("ch_1"));
    story.append(CHARGED, successful("ch_1")); // a torn transaction
    story.charge(CHARGED, Some("ch_1"), 1);

    story.pay(DECLINED, "req_2");
    story.append(DECLINED, failed("card_declined"));
    story.charge(DECLINED, None, 1);

    story.initiate(LOST_ANSWER, "req_3", 1999);
    story.operation(Kind::Pay, LOST_ANSWER, Outcome::Indeterminate { reason: "timeout".to_owned() });
    story.history.earlier = story.history.log.clone();
    story.append(LOST_ANSWER, retry(1));
    story.append(LOST_ANSWER, unknown(2));
    story.abort(LOST_ANSWER, successful("ch_3"));
    story.append(LOST_ANSWER, successful("ch_3"));
    story.charge(LOST_ANSWER, Some("ch_3"), 3);

    story.pay(PARKED, "req_4");
    story.append(PARKED, parked());
    story.charge(PARKED, Some("ch_4"), 2);

    contested(story);
    let place = story.initiate(CHARGED, "req_8", 1999);
    let answer = Answer { replayed: true, appended_at: Some(place), ..story.shown(CHARGED) };
    story.operation(Kind::Pay, CHARGED, Outcome::Ok(Box::new(answer)));
}

fn contested(story: &mut Story) {
    story.pay(CONTESTED, "req_5");
    story.initiate(CONTESTED, "req_6", 2000);
    let refused = Outcome::Fail { status: 422, code: "idempotency_key_reused".to_owned() };
    story.operation(Kind::Pay, CONTESTED, refused).body = Some(body(2000));
    let place = story.initiate(CONTESTED, "req_7", 2001);
    let (request_id, payment_id) = (Some("req_7".to_owned()), id_of(CONTESTED).to_string());
    let recorded = Answer { status: 202, payment_id, request_id, appended_at: Some(place), ..Answer::default() };
    story.operation(Kind::Pay, CONTESTED, Outcome::Ok(Box::new(recorded))).body = Some(body(2001));
    let refused = Outcome::Fail { status: 400, code: "amount_negative".to_owned() };
    story.operation(Kind::Pay, "refused", refused).body = Some(body(-1));
    story.append(CONTESTED, successful("ch_5"));
    story.charge(CONTESTED, Some("ch_5"), 1);
}

fn streams(story: &mut Story) {
    let frames = story.frames(LOST_ANSWER);
    let first = vec![snapshot(&frames[0]), frames[1].clone(), frames[2].clone()];
    let of_one = [(None, first), (frames[1].id.clone(), frames[2..].to_vec()), (frames[3].id.clone(), Vec::new())];
    for ((last_event_id, frames), number) in of_one.into_iter().zip(0..) {
        let status = if frames.is_empty() { 204 } else { 200 };
        let connection = story.connection("of-one", number, last_event_id.as_deref(), frames);
        let payment_id = Some(id_of(LOST_ANSWER).to_string());
        story.history.streams.push(Connection { payment_id, status, to_the_end: number == 1, ..connection });
    }
    stream_of_customer(story);
}

fn stream_of_customer(story: &mut Story) {
    let (charged, declined) = (story.frames(CHARGED), story.frames(DECLINED));
    let cursor = |n: u32, frame: &Frame| Frame { id: Some(format!("0a0a0a0a.c{n}")), ..frame.clone() };
    let opening = Frame { id: None, ..snapshot(&charged[0]) };
    let alone = Frame { id: Some("0a0a0a0a.c0".to_owned()), ..Frame::default() };
    let first = vec![opening, alone, cursor(1, &declined[0]), cursor(2, &charged[1])];
    let mut rest = vec![cursor(2, &charged[1]), cursor(3, &declined[1])];
    let others = [LOST_ANSWER, PARKED, CONTESTED].map(|key| story.frames(key)).concat();
    rest.extend(others.iter().zip(4..).map(|(frame, n)| cursor(n, frame)));
    let connection = story.connection("of-customer", 0, None, first);
    let again = story.connection("of-customer", 1, Some("0a0a0a0a.c1"), rest);
    let customer_id = Some("cus_42".to_owned());
    story.history.streams.push(Connection { customer_id: customer_id.clone(), ..connection });
    story.history.streams.push(Connection { customer_id, to_the_end: true, ..again });
}

fn topics(story: &mut Story) {
    let letter = DeadLetter { source: "payments.requests/0/7".to_owned(), value: b"{".to_vec() };
    story.history.injected.push(letter.clone());
    story.history.dead_letters.push(letter);
    for partition in 0..PARTITIONS {
        let end = story.ends.get(&partition).copied().unwrap_or_default();
        story.history.partitions.push(PartitionEnds { partition, start: 0, committed: end, uncommitted: end });
        for offset in [0, end / 2, end] {
            let (at, group) = (story.now(), "processors".to_owned());
            story.history.offsets.push(GroupOffset { at, group, partition, offset, reset: false });
        }
    }
}

fn at_rest(story: &mut Story) {
    let first = story.history.log[0].place;
    let rest_from = story.now();
    for key in [CHARGED, DECLINED, LOST_ANSWER, PARKED, CONTESTED] {
        for instance in ["api-1", "api-2"] {
            let shown = Outcome::Ok(Box::new(story.shown(key)));
            let get = story.operation(Kind::Get, key, shown);
            get.instance = instance.to_owned();
            get.at_least = (key == CHARGED).then_some(first);
        }
    }
    let names = story.frames(LOST_ANSWER).into_iter().map(|frame| (frame.version, frame.event));
    let answer = Answer { version: None, events: names.collect(), ..story.shown(LOST_ANSWER) };
    story.operation(Kind::History, LOST_ANSWER, Outcome::Ok(Box::new(answer)));
    let liveness =
        Liveness { faults_ended_at: at(0), bar_ms: 60_000, observed_at: story.now(), rest_from: Some(rest_from) };
    let parking = Parking { reasons: vec!["unknown_too_long".to_owned()], payments: Vec::new() };
    story.history.options.liveness = Some(liveness);
    story.history.options.parking = parking;
    assert!(story.payments.values().flatten().any(|payment| payment.status() == Status::InProgress), "one is parked");
}
