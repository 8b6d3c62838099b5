//! Sums over a log, folded at once and in pieces.

use std::sync::Arc;
use std::time::Duration;

use super::{Day, Kind, Sum, Totals, TotalsView};
use crate::journal::embedded::EmbeddedJournal;
use crate::journal::{Journal, Offset};
use crate::payment::samples::{failed, in_progress, retry, successful};
use crate::payment::{Event, EventData, IdempotencyKey, MerchantId, PaymentId, Status, Timestamp};
use crate::projection::{Fold, FoldError, home_of};
use crate::recording::event_record;
use crate::schema::Codec;
use crate::store::{Store, Table};

const PARTITIONS: u32 = 3;

/// 2026-11-25, and the day after.
const TODAY: u32 = 20_782;

fn at(day: u32) -> Timestamp {
    Timestamp::from_micros(i64::from(day) * 86_400_000_000 + 5).unwrap()
}

fn id(n: usize) -> PaymentId {
    PaymentId::derive(&MerchantId::default(), &IdempotencyKey::parse(&format!("order-{n}")).unwrap())
}

/// Of every nine payments three succeed, three fail and three stay open; some are tried twice, some end twice.
fn events(payments: usize) -> Vec<Event> {
    let mut events = Vec::new();
    for n in 0..payments {
        let mut of_this = vec![in_progress(100 + n as i64)];
        if n % 2 == 0 {
            of_this.push(retry(1));
        }
        match n % 3 {
            0 => of_this.extend([successful("ch_1"), failed("too_late")]),
            1 => of_this.extend([failed("card_declined"), successful("ch_2")]),
            _ => {}
        }
        let day = TODAY + u32::from(n % 4 == 3);
        events.extend(of_this.into_iter().map(|data: EventData| Event::new(id(n), at(day), data)));
    }
    events
}

fn log(directory: &std::path::Path, events: &[Event]) -> Arc<EmbeddedJournal> {
    let (journal, codec) = (EmbeddedJournal::open(directory, PARTITIONS).unwrap(), Codec::new().unwrap());
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    for event in events {
        let record = event_record(event, home_of(event.payment_id, PARTITIONS), &codec, None).unwrap();
        runtime.block_on(journal.append(record)).unwrap();
    }
    journal
}

fn fold(store: &Store, journal: &EmbeddedJournal) -> Result<(), FoldError> {
    Fold::<Totals>::new(store.clone(), journal, Arc::new(Codec::new().unwrap()))?.catch_up(journal)
}

fn rows(table: &Table) -> Vec<(Vec<u8>, Vec<u8>)> {
    // Without the seal, which is behind all.
    table.range(&[], &[0xFF; 32]).map(|row| row.unwrap()).map(|(key, value)| (key.to_vec(), value.to_vec())).collect()
}

#[test]
fn payments_are_counted_once_where_they_stand() {
    let directory = tempfile::tempdir().unwrap();
    let journal = log(directory.path(), &events(90));
    let store = Store::in_memory();
    fold(&store, &journal).unwrap();
    let sums = TotalsView::open(&store).unwrap().of_days(&MerchantId::default(), Day(TODAY)..=Day(TODAY + 1)).unwrap();
    for (status, rest) in [(Status::Successful, 0), (Status::Failed, 1), (Status::InProgress, 2)] {
        let mut expected = [Sum::default(); 2];
        for n in (0..90).filter(|n| n % 3 == rest) {
            let sum = &mut expected[usize::from(n % 4 == 3)];
            (sum.payments, sum.amount) = (sum.payments + 1, sum.amount + 100 + n as u128);
        }
        for (day, expected) in (TODAY..).zip(expected) {
            let of = |(kind, _): &&(Kind, Sum)| kind.day == Day(day) && kind.status == status;
            assert_eq!(sums.iter().find(of).unwrap().1, expected, "{status:?} on {day}");
        }
    }
    assert_eq!(sums.len(), 6);
    let (view, other) = (TotalsView::open(&store).unwrap(), MerchantId::parse("defaul").unwrap());
    assert!(view.of_days(&MerchantId::default(), Day(TODAY + 2)..=Day(u32::MAX)).unwrap().is_empty());
    assert!(view.of_days(&other, Day(0)..=Day(u32::MAX)).unwrap().is_empty(), "of the merchant alone");
}

/// Whatever a batch ends with, and however often the fold begins anew: the rows are the same.
#[test]
fn a_fold_in_pieces_comes_to_the_same_rows() {
    let directory = tempfile::tempdir().unwrap();
    let events = events(12);
    let (whole, pieces, growing) = (Store::in_memory(), Store::in_memory(), directory.path().join("log"));
    for (already, event) in events.iter().enumerate() {
        let journal = log(&growing, std::slice::from_ref(event));
        let mut fold = Fold::<Totals>::new(pieces.clone(), journal.as_ref(), Arc::new(Codec::new().unwrap())).unwrap();
        let mut tail = fold.tail(journal.as_ref()).unwrap();
        let next = |fold: &Fold<Totals>| fold.progress().folded().positions().map(|p| p.offset.0).sum::<u64>();
        while next(&fold) <= already as u64 {
            fold.turn(tail.as_mut(), Duration::from_millis(10)).unwrap();
        }
    }
    fold(&whole, &log(&growing, &[])).unwrap();
    for table in ["totals", "payments"] {
        let (whole, pieces) = (rows(&whole.table(table).unwrap()), rows(&pieces.table(table).unwrap()));
        assert!(!whole.is_empty() && whole == pieces, "{table} differs");
    }
}

#[test]
fn an_event_without_a_beginning_halts_its_partition_and_counts_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let journal = log(directory.path(), &[Event::new(id(1), at(TODAY), successful("ch_1"))]);
    let store = Store::in_memory();
    let mut fold = Fold::<Totals>::new(store.clone(), journal.as_ref(), Arc::new(Codec::new().unwrap())).unwrap();
    fold.catch_up(journal.as_ref()).unwrap();
    let home = home_of(id(1), PARTITIONS);
    assert!(fold.progress().is_halted(home));
    assert_eq!(fold.progress().folded_to(home), Offset(0));
    assert!(rows(&store.table("totals").unwrap()).is_empty());
}

#[test]
fn a_day_is_written_as_it_is_read() {
    assert_eq!(Day::parse("2026-11-25"), Some(Day(TODAY)));
    assert_eq!(Day(TODAY + 1).to_string(), "2026-11-26");
    for wrong in ["", "2026-11-31", "2026-11-25T", "26-11-2025", "1999-12-31", "2026-1-1", "today"] {
        assert_eq!(Day::parse(wrong), None, "{wrong}");
    }
}
