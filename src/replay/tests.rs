//! A small log with something wrong on it, for each thing that can be: it is found, named, and nothing else is.

mod choice_tests;
mod fickle_tests;
mod rows_tests;
mod sums_tests;

use std::sync::Arc;

use super::{Against, Invariant, Report, Selection, Verification, ends_of};
use crate::clock::Clocks;
use crate::journal::embedded::EmbeddedJournal;
use crate::journal::{Journal, NewRecord, Partition, Position, Tail};
use crate::payment::event::Decision;
use crate::payment::samples::{at, failed, in_progress, parked, payment_id, resumed, retry, successful, unknown};
use crate::payment::{Event, EventData, EventId, PaymentId, Timestamp};
use crate::projection::{Folder, Rejections, home_of};
use crate::recording::event_record;
use crate::schema::Codec;
use crate::store::Store;

const PARTITIONS: u32 = 3;

struct Bed {
    directory: tempfile::TempDir,
    journal: Arc<EmbeddedJournal>,
    codec: Arc<Codec>,
    /// What operators have rejected.
    rejected: Vec<Position>,
}

impl Bed {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let journal = EmbeddedJournal::open(&directory.path().join("journal"), PARTITIONS).unwrap();
        Self { directory, journal, codec: Arc::new(Codec::new().unwrap()), rejected: Vec::new() }
    }

    /// Three payments: one that was retried and ended, one that was parked, settled and failed, one that is open.
    async fn with_payments() -> Self {
        let bed = Self::new();
        for data in [in_progress(1999), retry(1), unknown(2), successful("ch_1")] {
            bed.append(payment_id("order-1"), data).await;
        }
        let settled = resumed(2, Decision::SettleFailed { code: "refused".to_owned() });
        for data in [in_progress(5), parked(), settled, failed("refused"), retry(9)] {
            bed.append(payment_id("order-2"), data).await;
        }
        bed.append(payment_id("order-3"), in_progress(7)).await;
        bed
    }

    fn record(&self, id: PaymentId, data: EventData) -> NewRecord {
        self.record_at(id, Timestamp::now(), data)
    }

    fn record_at(&self, payment_id: PaymentId, occurred_at: Timestamp, data: EventData) -> NewRecord {
        let event = Event { event_id: EventId::mint(), payment_id, occurred_at, data };
        event_record(&event, home_of(payment_id, PARTITIONS), &self.codec, None).unwrap()
    }

    async fn append(&self, id: PaymentId, data: EventData) -> Position {
        self.put(self.record(id, data)).await
    }

    async fn put(&self, record: NewRecord) -> Position {
        self.journal.append(record).await.unwrap()
    }

    async fn garbage(&self, partition: u32) -> Position {
        let (key, headers, value) = (Vec::new(), Vec::new(), b"{garbage}".to_vec());
        self.put(NewRecord { partition: Partition(partition), key, headers, value }).await
    }

    fn verification(&self, payments: Option<Store>, selection: Selection) -> Verification<'_> {
        let (codec, ends) = (Arc::clone(&self.codec), ends_of(self.journal.as_ref()).unwrap());
        let against = payments.map(|payments| Against { payments, totals: None });
        Verification { log: self.journal.as_ref(), codec, rejected: &self.rejected, against, selection, ends }
    }

    fn run(&self, verification: &Verification<'_>) -> anyhow::Result<Report> {
        let work = tempfile::tempdir_in(self.directory.path()).unwrap();
        verification.run(work.path(), 10)
    }

    fn verify(&self) -> Report {
        self.run(&self.verification(None, Selection::default())).unwrap()
    }

    fn verify_against(&self, store: &Store) -> Report {
        self.run(&self.verification(Some(store.clone()), Selection::default())).unwrap()
    }

    fn verify_chosen(&self, selection: Selection) -> Report {
        self.run(&self.verification(None, selection)).unwrap()
    }

    /// The rows of an instance that has folded all there is now.
    fn folded(&self) -> Store {
        let (store, rejections) = (Store::in_memory(), Rejections::default());
        self.rejected.iter().for_each(|position| rejections.tell(*position));
        let (codec, log) = (Arc::clone(&self.codec), self.journal.as_ref());
        let (folder, view) = Folder::open(store.clone(), log, codec, Clocks::system()).unwrap();
        let mut folder = folder.heeding(&rejections).unwrap();
        let mut tail: Box<dyn Tail> = folder.tail(log).unwrap();
        while !view.caught_up() {
            folder.turn(tail.as_mut(), std::time::Duration::ZERO).unwrap();
        }
        store
    }
}

fn put_row(store: &Store, table: &str, key: &[u8], value: Option<&[u8]>) {
    let (table, mut batch) = (store.table(table).unwrap(), store.batch());
    match value {
        Some(value) => batch.insert(&table, key, value),
        None => batch.remove(&table, key),
    }
    batch.commit().unwrap();
}

fn rows(store: &Store, table: &str) -> Vec<(Vec<u8>, Vec<u8>)> {
    let all = store.table(table).unwrap().range(&[], &[0xFF; 32]);
    all.map(|row| row.map(|(key, value)| (key.to_vec(), value.to_vec())).unwrap()).collect()
}

/// That this was found, this often, and nothing else.
#[track_caller]
fn only(report: &Report, invariant: Invariant, total: u64) {
    let totals: Vec<_> = report.totals.iter().map(|(invariant, total)| (*invariant, *total)).collect();
    assert_eq!(totals, [(invariant, total)], "{report}");
    assert_eq!(report.violations(), if invariant.is_warning() { 0 } else { total });
}

/// The first finding, as it is shown.
fn first(report: &Report) -> String {
    report.findings.first().map(ToString::to_string).unwrap_or_default()
}

// === the log ===

#[tokio::test]
async fn a_sound_log_is_clean() {
    let bed = Bed::with_payments().await;
    let report = bed.verify_against(&bed.folded());
    assert!(report.totals.is_empty(), "{report}");
    assert_eq!((report.counts.records, report.counts.payments), (10, 3));
    assert!(report.counts.rows_folded_twice > 10, "{report}");
    assert_eq!(report.counts.rows_of_the_store, Some(report.counts.rows_folded_twice));
    let empty = Bed::new().verify();
    assert!(empty.totals.is_empty() && empty.counts.records == 0, "{empty}");
}

#[tokio::test]
async fn what_is_no_event_is_found_and_halts_its_partition() {
    let bed = Bed::with_payments().await;
    let position = bed.garbage(1).await;
    let again = bed.garbage(1).await;
    let report = bed.verify();
    only(&report, Invariant::Readable, 2);
    let text = report.to_string();
    assert!(text.contains(&format!("VIOLATION readable at {position}: it is no event")), "{text}");
    assert_eq!(text.matches("every fold of this partition halts there").count(), 1, "at the first alone: {text}");
    assert!(text.contains(&again.to_string()) && !text.contains("garbage"), "{text}");
}

#[tokio::test]
async fn what_an_operator_has_rejected_is_passed_over_and_counted() {
    let mut bed = Bed::with_payments().await;
    let position = bed.garbage(home_of(payment_id("order-3"), PARTITIONS).0).await;
    bed.append(payment_id("order-3"), successful("ch_3")).await;
    bed.rejected.push(position);
    let store = bed.folded();
    let report = bed.verify_against(&store);
    assert!(report.totals.is_empty() && report.counts.rejected == 1, "{report}");

    // The same rows, and a control log that does not know of it.
    bed.rejected.clear();
    let report = bed.verify_against(&store);
    assert_eq!(report.totals.get(&Invariant::RejectedHonoured), Some(&1), "{report}");
    assert!(
        report
            .to_string()
            .contains(&format!("rejected_honoured at {position}: the store of payments has passed over it"))
    );
}

#[tokio::test]
async fn a_foreign_key_and_a_foreign_partition_are_found() {
    let bed = Bed::with_payments().await;
    let id = payment_id("order-3");
    let position = bed.put(NewRecord { key: b"other".to_vec(), ..bed.record(id, retry(1)) }).await;
    let report = bed.verify();
    only(&report, Invariant::OnItsPartition, 1);
    assert!(first(&report).starts_with(&format!("VIOLATION on_its_partition {id} at {position}: its key")), "{report}");

    let bed = Bed::with_payments().await;
    let astray = Partition((home_of(id, PARTITIONS).0 + 1) % PARTITIONS);
    let position = bed.put(NewRecord { partition: astray, ..bed.record(id, retry(1)) }).await;
    let report = bed.verify();
    only(&report, Invariant::OnItsPartition, 1);
    let home = home_of(id, PARTITIONS);
    assert!(first(&report).contains(&format!("{id} at {position}: its partition is {home}")), "{report}");
}

#[tokio::test]
async fn a_payment_that_lost_its_beginning_is_found_once() {
    let bed = Bed::with_payments().await;
    let id = payment_id("order-lost");
    let position = bed.append(id, retry(1)).await;
    bed.append(id, unknown(2)).await;
    bed.append(id, in_progress(3)).await;
    let report = bed.verify();
    only(&report, Invariant::InitiatedFirst, 1);
    let expected = format!("{id} at {position}: its first record on the log is PaymentRetryScheduled");
    assert!(first(&report).contains(&expected), "{report}");
}

#[tokio::test]
async fn the_same_end_again_is_a_warning_and_another_is_an_alarm() {
    let bed = Bed::with_payments().await;
    let position = bed.append(payment_id("order-1"), successful("ch_1")).await;
    let report = bed.verify();
    only(&report, Invariant::EndedAgain, 1);
    let expected = format!("warning ended_again {} at {position}: it had ended", payment_id("order-1"));
    assert!(first(&report).starts_with(&expected), "{report}");
    for other in [successful("ch_2"), failed("card_declined")] {
        let bed = Bed::with_payments().await;
        let position = bed.append(payment_id("order-1"), other).await;
        let report = bed.verify();
        only(&report, Invariant::EndedOnce, 1);
        let expected = format!("VIOLATION ended_once {} at {position}: it ended as", payment_id("order-1"));
        assert!(first(&report).starts_with(&expected), "{report}");
    }
}

#[tokio::test]
async fn headers_that_do_not_say_what_the_value_says_are_found() {
    let change = |name: &str, value: Option<&str>| {
        let bed_name = name.to_owned();
        let value = value.map(|value| value.as_bytes().to_vec());
        move |headers: &mut Vec<(String, Vec<u8>)>| {
            headers.retain(|(other, _)| *other != bed_name);
            headers.extend(value.clone().map(|value| (bed_name.clone(), value)));
        }
    };
    let other = EventId::mint().to_string();
    let planted: [(&str, Option<&str>); 6] = [
        ("ce_id", Some(&other)),
        ("ce_type", Some("paylog.PaymentFailed")),
        ("ce_subject", Some("pay_aaaaaaaaaaaaaaaaaaaaaaaaaa")),
        ("content-type", Some("text/plain")),
        ("ce_id", None),
        ("content-type", None),
    ];
    for (name, value) in planted {
        let bed = Bed::with_payments().await;
        let mut record = bed.record(payment_id("order-3"), retry(1));
        change(name, value)(&mut record.headers);
        let position = bed.put(record).await;
        let report = bed.verify();
        only(&report, Invariant::HeadersAgree, 1);
        let what = if value.is_some() { format!("its header {name} is not") } else { format!("no header {name}") };
        assert!(first(&report).contains(&format!("at {position}: ")) && first(&report).contains(&what), "{report}");
    }
    let bed = Bed::with_payments().await;
    let mut record = bed.record(payment_id("order-3"), retry(1));
    record.headers.push(("ce_type".to_owned(), b"paylog.PaymentFailed".to_vec()));
    bed.put(record).await;
    let report = bed.verify();
    only(&report, Invariant::HeadersAgree, 1);
    assert!(first(&report).contains("ce_type more than once"), "{report}");
}

#[tokio::test]
async fn a_clock_far_off_the_log_s_is_a_warning() {
    let day_and_more = std::time::Duration::from_secs(100_000);
    for (occurred_at, which) in [(Timestamp::now().plus(day_and_more), "ahead of"), (at(0), "behind")] {
        let bed = Bed::with_payments().await;
        let position = bed.put(bed.record_at(payment_id("order-3"), occurred_at, retry(1))).await;
        let report = bed.verify();
        only(&report, Invariant::ClockOff, 1);
        let (shown, place) = (first(&report), format!(" at {position}: its writer's clock was "));
        assert!(shown.starts_with("warning clock_off") && shown.contains(&place) && shown.contains(which), "{report}");
    }
}
