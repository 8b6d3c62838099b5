//! The log, read: every payment's life, and what can be said of it from the log alone (I4, I10, I11, P4).

use std::collections::BTreeMap;

use crate::checker::history::{History, LogRecord, Place};
use crate::checker::life::{End, Life};
use crate::checker::report::{Invariant, Report};
use crate::payment::{Effect, Event, Payment, PaymentId, Phase, Status, Timestamp};
use crate::schema::Codec;

/// The committed log, in the order of each partition.
pub(super) struct Book {
    pub lives: BTreeMap<PaymentId, Life>,
    pub entries: Vec<Entry>,
}

pub(super) struct Entry {
    pub place: Place,
    pub appended_at: Timestamp,
    pub event: Event,
}

impl Book {
    pub fn read(codec: &Codec, history: &History, report: &mut Report) -> Self {
        let mut records: Vec<&LogRecord> = history.log.iter().collect();
        records.sort_by_key(|record| record.place);
        twice(&records, report);
        records.dedup_by_key(|record| record.place);
        report.counts.records = records.len() as u64;
        let mut book = Self { lives: BTreeMap::new(), entries: Vec::with_capacity(records.len()) };
        for record in records {
            match codec.decode(&record.value) {
                Ok(event) => book.fold(record, event, history.options.partitions, report),
                Err(error) => report.found(Invariant::Readable, record.place, error),
            }
        }
        for life in book.lives.values() {
            ended_once(life, report);
            count(life, report);
        }
        book
    }

    /// The life of the payment with this id, if the text is one and the log knows it.
    pub fn life(&self, id: &str) -> Option<&Life> {
        self.lives.get(&PaymentId::parse(id)?)
    }

    fn fold(&mut self, record: &LogRecord, event: Event, partitions: u32, report: &mut Report) {
        on_its_partition(record, &event, partitions, report);
        let life = self.lives.get_mut(&event.payment_id);
        if let Some(first) = life.as_ref().and_then(|life| life.steps.first())
            && first.place.partition != record.place.partition
        {
            let evidence = format!("it has records at {} and at {}", first.place, record.place);
            report.found(Invariant::OnItsPartition, event.payment_id, evidence);
        }
        let mut payment = life.as_ref().map(|life| life.payment.clone());
        match (Payment::fold(&mut payment, &event, record.appended_at), payment) {
            (Ok(effect), Some(payment)) => {
                count_effect(effect, report);
                let life = self.lives.entry(event.payment_id).or_insert_with(|| Life::begin(payment.clone()));
                life.payment = payment;
                life.note(&event, record.place, record.appended_at, effect == Effect::Effective);
            }
            _ => {
                let evidence = format!("its first record, at {}, is {}", record.place, event.data.name());
                report.found(Invariant::VersionsWithoutGap, event.payment_id, evidence);
            }
        }
        self.entries.push(Entry { place: record.place, appended_at: record.appended_at, event });
    }
}

fn twice(records: &[&LogRecord], report: &mut Report) {
    for pair in records.windows(2).filter(|pair| pair[0].place == pair[1].place) {
        let same = pair[0].key == pair[1].key && pair[0].value == pair[1].value;
        let invariant = if same { Invariant::WellFormed } else { Invariant::OneRecordAtAPlace };
        report.found(invariant, pair[0].place, "the log was read with two records there");
    }
}

fn on_its_partition(record: &LogRecord, event: &Event, partitions: u32, report: &mut Report) {
    let id = event.payment_id.to_string();
    if record.key != id {
        report.found(
            Invariant::OnItsPartition,
            &id,
            format!("its record at {} has the key {}", record.place, record.key),
        );
    }
    let home = (partitions > 0).then(|| java_partition(id.as_bytes(), partitions));
    if let Some(home) = home.filter(|home| *home != record.place.partition) {
        let evidence = format!("its record stands at {}, and its partition is {home}", record.place);
        report.found(Invariant::OnItsPartition, &id, evidence);
    }
}

/// The ends on the log, counted without the fold, and then held against it.
fn ended_once(life: &Life, report: &mut Report) {
    let Some((place, end)) = life.ends.first() else {
        if life.payment.status() != Status::InProgress {
            report.found(Invariant::EndedOnce, life.id, "the fold has ended it, and no end is on the log");
        }
        return;
    };
    for (other_place, other) in life.ends.iter().filter(|(_, other)| other != end) {
        let evidence = format!("it ended as {end:?} at {place} and as {other:?} at {other_place}");
        report.found(Invariant::EndedOnce, life.id, evidence);
    }
    let folded = End::folded(&life.payment.phase);
    if folded.as_ref() != Some(end) {
        report.found(Invariant::EndedOnce, life.id, format!("its first end is {end:?}, and the fold has {folded:?}"));
    }
}

fn count(life: &Life, report: &mut Report) {
    let counts = &mut report.counts;
    counts.payments += 1;
    match (&life.payment.phase, life.ends.first().map(|(_, end)| end.status())) {
        (_, Some(Status::Successful)) => counts.successful += 1,
        (_, Some(_)) => counts.failed += 1,
        (Phase::Parked { reason, .. }, None) => *counts.parked.entry(reason.clone()).or_default() += 1,
        (_, None) => counts.open += 1,
    }
}

fn count_effect(effect: Effect, report: &mut Report) {
    let counts = &mut report.counts;
    match effect {
        Effect::Effective | Effect::EndedOtherwise => {}
        Effect::Repeat => counts.repeats += 1,
        Effect::Conflict => counts.conflicts += 1,
        Effect::Ignored => counts.ignored += 1,
        Effect::EndedAgain => counts.repeated_ends += 1,
    }
}

/// Kafka's default partitioner once more: murmur2 of the key, without its sign, over the number of partitions.
#[must_use]
pub fn java_partition(key: &[u8], partitions: u32) -> u32 {
    const M: u32 = 0x5bd1_e995;
    let mix = |k: u32| {
        let k = k.wrapping_mul(M);
        (k ^ (k >> 24)).wrapping_mul(M)
    };
    let mut hash = 0x9747_b28c ^ u32::try_from(key.len()).unwrap_or(u32::MAX);
    let (words, rest) = key.as_chunks::<4>();
    for word in words {
        hash = hash.wrapping_mul(M) ^ mix(u32::from_le_bytes(*word));
    }
    if !rest.is_empty() {
        let tail = rest.iter().rev().fold(0, |tail, byte| (tail << 8) | u32::from(*byte));
        hash = (hash ^ tail).wrapping_mul(M);
    }
    hash = (hash ^ (hash >> 13)).wrapping_mul(M);
    ((hash ^ (hash >> 15)) & 0x7fff_ffff) % partitions
}

#[cfg(test)]
mod tests {
    use super::java_partition;

    /// From Apache Kafka's own `UtilsTest.testMurmur2`, without the sign and modulo a number that keeps all of it.
    #[test]
    fn the_partition_is_java_s() {
        for (key, hash) in [("21", -973_932_308_i32), ("foobar", -790_332_482), ("abc", 479_470_107)] {
            assert_eq!(java_partition(key.as_bytes(), 0x7fff_ffff), hash as u32 & 0x7fff_ffff, "{key}");
        }
    }
}
