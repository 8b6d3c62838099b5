//! What a simulation leaves behind, in the words of the history checker.

use std::collections::BTreeMap;

use paylog::checker::{
    History, LedgerEntry, Liveness, LogRecord, Options, PAYMENTS, Parking, PartitionEnds, Place, Producer,
    ProjectionDigest, digest,
};
use paylog::journal::{Partition, Position};
use paylog::projection::Row;
use paylog::store::Store;

use crate::client::at;
use crate::core::Core;
use crate::log::{Slot, State, record};
use crate::provider::{Asks, What};
use crate::world::World;

/// When the faults ended, and how long a payment may stay open after that.
#[derive(Clone, Copy)]
pub struct Bar {
    pub faults_ended_us: u64,
    pub bar_us: u64,
}

pub fn history(world: &World, bar: Option<Bar>, projections: Vec<ProjectionDigest>) -> History {
    let operations = world.clients().done.clone();
    let core = world.core();
    let liveness = bar.map(|bar| Liveness {
        faults_ended_at: at(bar.faults_ended_us),
        bar_ms: bar.bar_us / 1_000,
        observed_at: at(core.now_us),
        rest_from: None,
    });
    History {
        options: Options { partitions: core.plan.partitions, liveness, parking: parking(&core), ..Options::default() },
        operations,
        log: records(&core, true),
        uncommitted: records(&core, false),
        partitions: core.topic.partitions().map(|partition| ends(&core, partition)).collect(),
        ledger: Some(ledger(&core)),
        projections,
        ..History::default()
    }
}

/// A payment may be parked where the provider gave a reason to; and any may where time ran away.
fn parking(core: &Core) -> Parking {
    let ran_away = ["a clock is hours off", "an outage"].iter().any(|fault| core.trace.faults.contains_key(fault));
    let reasons = ["unknown_too_long", "key_window_over"].map(str::to_owned);
    Parking {
        reasons: if ran_away { reasons.to_vec() } else { Vec::new() },
        payments: core.provider.troubled.iter().map(ToString::to_string).collect(),
    }
}

fn ends(core: &Core, partition: Partition) -> PartitionEnds {
    let (committed, uncommitted) = (core.topic.stable_end(partition).0, core.topic.end(partition).0);
    PartitionEnds { partition: partition.0, start: 0, committed, uncommitted }
}

fn records(core: &Core, committed: bool) -> Vec<LogRecord> {
    let mut records = Vec::new();
    for partition in core.topic.partitions() {
        let end = if committed { core.topic.stable_end(partition) } else { core.topic.end(partition) };
        let slots = core.topic.slots(partition).iter().zip(0..end.0);
        records.extend(slots.filter_map(|(slot, offset)| log_record(slot, partition, offset, committed)));
    }
    records
}

fn log_record(slot: &Slot, partition: Partition, offset: u64, committed: bool) -> Option<LogRecord> {
    let entry = slot.entry.as_ref().filter(|entry| !committed || entry.state == State::Committed)?;
    let position = Position::new(partition, paylog::journal::Offset(offset));
    let record = record(position, slot.appended_at_us, entry);
    let (id, epoch) = entry.producer;
    Some(LogRecord {
        place: Place { partition: partition.0, offset },
        appended_at: paylog::payment::Timestamp::from_micros(record.appended_at_us)?,
        key: String::from_utf8_lossy(&record.key).into_owned(),
        value: record.value,
        producer: Some(Producer { id, epoch, transactional: entry.txn.is_some() }),
    })
}

fn ledger(core: &Core) -> Vec<LedgerEntry> {
    let mut entries: BTreeMap<&str, LedgerEntry> = BTreeMap::new();
    for request in core.provider.requests.iter().filter(|request| request.arrived) {
        if matches!(request.asks, Asks::Inquiry { .. }) {
            continue;
        }
        let entry = entries.entry(&request.key).or_insert_with(|| LedgerEntry {
            key: request.key.clone(),
            amount: request.body.split(' ').next().and_then(|amount| amount.parse().ok()).unwrap_or_default(),
            currency: request.charge.money.currency().code().to_owned(),
            ..LedgerEntry::default()
        });
        entry.requests += 1;
        if !entry.body_digests.contains(&request.body) {
            entry.body_digests.push(request.body.clone());
        }
    }
    for made in core.provider.made.values().flatten().filter(|made| matches!(made.what, What::Charged(_))) {
        if let Some(entry) = entries.get_mut(core.provider.requests[made.request].key.as_str()) {
            entry.charges += 1;
        }
    }
    entries.into_values().collect()
}

// === what projections hold ===

const TABLES: [&str; 4] = ["payments", "feed", "others", "due"];

/// Everything that a store holds but for how far it was folded, byte for byte; and the payments alone, as the checker
/// counts them.
pub fn digests(instance: &str, store: &Store, offsets: &[u64]) -> Vec<ProjectionDigest> {
    let mut all = Vec::new();
    let mut payments = Vec::new();
    for name in TABLES {
        let table = store.table(name).expect("a store in memory opens any table");
        for row in table.range(&[0], &[0xff; 64]) {
            let (key, value) = row.expect("a store in memory reads");
            if name == "payments" {
                payments.extend(postcard::from_bytes::<Row>(&value).map(|row| row.payment));
            }
            all.extend_from_slice(&key);
            all.extend_from_slice(&value);
        }
        all.extend_from_slice(name.as_bytes());
    }
    let hash = data_encoding::HEXLOWER.encode(&<sha2::Sha256 as sha2::Digest>::digest(&all));
    let one = |kind: &str, digest| ProjectionDigest {
        instance: instance.to_owned(),
        kind: kind.to_owned(),
        offsets: offsets.to_vec(),
        digest,
    };
    vec![one("rows", hash), one(PAYMENTS, digest(&payments))]
}
