//! Totals that are not what the log, or the payments, come to.

use super::fickle_tests::verify_changed;
use super::{Bed, first, only, put_row, rows};
use crate::journal::HistoryItem;
use crate::payment::samples::{in_progress, payment_id, successful};
use crate::projection::Fold;
use crate::projection::totals::Totals;
use crate::replay::{Against, Invariant, Report, Selection, Verification};
use crate::store::Store;

/// The totals of an instance that has folded all there is now.
fn summed(bed: &Bed) -> Store {
    let store = Store::in_memory();
    let log = bed.journal.as_ref();
    Fold::<Totals>::new(store.clone(), log, bed.codec.clone()).unwrap().catch_up(log).unwrap();
    store
}

fn verify(bed: &Bed, payments: &Store, totals: &Store) -> Report {
    let against = Some(Against { payments: payments.clone(), totals: Some(totals.clone()) });
    bed.run(&Verification { against, ..bed.verification(None, Selection::default()) }).unwrap()
}

#[tokio::test]
async fn totals_are_folded_twice_compared_and_counted_again() {
    let bed = Bed::with_payments().await;
    let (payments, totals) = (bed.folded(), summed(&bed));
    let report = verify(&bed, &payments, &totals);
    assert!(report.totals.is_empty() && report.notes.is_empty(), "{report}");
    assert_eq!(report.counts.sums_counted_again, Some(3), "in progress, successful, failed: {report}");
    assert!(report.counts.sums_folded_twice > Some(6), "{report}");
    assert_eq!(report.counts.sums_of_the_store, report.counts.sums_folded_twice);
    let without = bed.verify_against(&payments);
    assert!(
        without.totals.is_empty() && without.to_string().contains("note: the instance keeps no totals"),
        "{without}"
    );
}

#[tokio::test]
async fn a_total_that_is_not_what_the_log_folds_to_is_named_by_key_and_field() {
    let bed = Bed::with_payments().await;
    let (payments, good) = (bed.folded(), summed(&bed));
    let of = |table: &str| rows(&good, table).swap_remove(0);
    let ((key, sum), (id, _)) = (of("totals"), of("payments"));
    let amount = [&sum[..1], &[sum[1] ^ 1], &sum[2..]].concat();
    for (table, key, row, expected) in [
        ("totals", &key, Some(&amount), " EUR in_progress default, amount: the fold has 7, the store has 6"),
        ("totals", &key, None, " EUR in_progress default, row: the fold has is there, the store has nothing"),
        ("totals", &[1].to_vec(), Some(&sum), "totals/totals, 01, row: the fold has nothing, the store has is there"),
        ("payments", &id, None, "totals/payments, pay_"),
    ] {
        let hurt = good.copy().unwrap();
        put_row(&hurt, table, key, row.map(Vec::as_slice));
        let report = verify(&bed, &payments, &hurt);
        only(&report, Invariant::StoreAsFolded, 1);
        assert!(first(&report).starts_with("VIOLATION store_as_folded"), "{report}");
        assert!(first(&report).contains(expected), "{expected}: {report}");
    }
}

/// The two projections of an instance are folded each for itself.
#[tokio::test]
async fn totals_are_compared_where_they_stand_whichever_projection_is_further() {
    let bed = Bed::with_payments().await;
    let (early_payments, early_totals) = (bed.folded(), summed(&bed));
    bed.append(payment_id("order-3"), successful("ch_3")).await;
    bed.append(payment_id("order-4"), in_progress(9)).await;
    let (late_payments, late_totals) = (bed.folded(), summed(&bed));
    bed.append(payment_id("order-5"), in_progress(10)).await;
    for (payments, totals) in [
        (&early_payments, &late_totals),
        (&late_payments, &early_totals),
        (&early_payments, &early_totals),
        (&Store::in_memory(), &late_totals),
        (&late_payments, &Store::in_memory()),
    ] {
        let report = verify(&bed, payments, totals);
        assert!(report.totals.is_empty(), "{report}");
        assert_eq!((report.counts.records, report.counts.payments), (13, 5), "each record is judged once: {report}");
        let (key, _) = rows(&late_totals, "totals").swap_remove(0);
        let hurt = totals.copy().unwrap();
        if !rows(totals, "totals").is_empty() {
            put_row(&hurt, "totals", &key, None);
            only(&verify(&bed, payments, &hurt), Invariant::StoreAsFolded, 1);
        }
    }
}

#[tokio::test]
async fn two_folds_of_totals_that_do_not_agree_are_told() {
    let bed = Bed::with_payments().await;
    let report = verify_changed(&bed, |reading, items| {
        for item in items {
            let HistoryItem::Record(record) = item else { continue };
            let value = record.value.as_mut().unwrap();
            if let Some(at) = value.windows(3).position(|bytes| bytes == b"EUR").filter(|_| reading > 0) {
                value[at..at + 3].copy_from_slice(b"USD");
            }
        }
    });
    assert!(report.totals.keys().all(|invariant| *invariant == Invariant::FoldedAlike), "{report}");
    let expected = " EUR in_progress default, row: the first fold has is there, the second has nothing";
    assert!(report.to_string().contains(expected), "{report}");
    let open = "payment.initiation.money.currency: the first fold has EUR, the second has USD";
    assert!(
        report.findings.iter().any(|found| found.what.starts_with("totals/payments, ") && found.what.ends_with(open))
    );
}

/// What only a mistake in a fold can come to, which both folds make, and the instance too.
#[tokio::test]
async fn totals_that_are_not_those_of_the_payments_are_told() {
    let bed = Bed::with_payments().await;
    let verification = bed.verification(None, Selection::default());
    let (good, mut report) = (summed(&bed), Report::new(10));
    verification.judge_totals(&good, &good, &mut report).unwrap();
    assert!(report.totals.is_empty() && report.counts.sums_counted_again > Some(2), "{report}");
    let hurt = good.copy().unwrap();
    let (key, sum) = rows(&good, "totals").swap_remove(0);
    put_row(&hurt, "totals", &key, Some(&[&[7], &sum[1..]].concat()));
    verification.judge_totals(&good, &hurt, &mut report).unwrap();
    only(&report, Invariant::TotalsOfPayments, 1);
    let expected = " EUR in_progress default, payments: what is counted again has 1, the fold has 7";
    assert!(first(&report).contains(expected), "{report}");
}
