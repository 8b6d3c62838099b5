//! A part of the payments: whole ones, and no others.

use super::{Bed, PARTITIONS, only, put_row, rows};
use crate::journal::{Offset, Partition};
use crate::payment::samples::{payment_id, successful};
use crate::payment::{CustomerId, MerchantId, Timestamp};
use crate::projection::home_of;
use crate::replay::{Against, Invariant, Selection, Verification, ends_of};
use crate::store::Store;

#[tokio::test]
async fn a_choice_judges_whole_payments_and_no_other() {
    let bed = Bed::with_payments().await;
    let wrong = bed.append(payment_id("order-2"), successful("ch_2")).await;
    let (one, two, three) = (payment_id("order-1"), payment_id("order-2"), payment_id("order-3"));
    let everything = Selection::default();
    let customer = |name: &str| Some((MerchantId::default(), CustomerId::parse(name).unwrap()));
    let home = |id| Some(home_of(id, PARTITIONS));
    let cases = [
        (Selection { payment: Some(one), ..everything.clone() }, 1, false),
        (Selection { payment: Some(two), ..everything.clone() }, 1, true),
        (Selection { customer: customer("cus_42"), ..everything.clone() }, 3, true),
        (Selection { customer: customer("cus_43"), ..everything.clone() }, 0, false),
        (Selection { event: Some("PaymentFailed"), ..everything.clone() }, 1, true),
        (Selection { event: Some("PaymentOutcomeUnknown"), ..everything.clone() }, 1, false),
        (Selection { since: Some(Timestamp::now()), ..everything.clone() }, 0, false),
        (
            Selection { until: Some(Timestamp::now().plus(std::time::Duration::from_secs(9))), ..everything.clone() },
            3,
            true,
        ),
        (
            Selection {
                partition: Some(wrong.partition),
                from: Some(wrong.offset),
                to: Some(wrong.offset.next()),
                ..everything.clone()
            },
            1,
            true,
        ),
        (
            Selection { customer: customer("cus_42"), partition: home(three), ..everything.clone() },
            [one, two, three].into_iter().filter(|id| home(*id) == home(three)).count() as u64,
            home(two) == home(three),
        ),
    ];
    let store = bed.folded();
    for (selection, payments, is_wrong) in cases {
        let report = bed.run(&bed.verification(Some(store.clone()), selection.clone())).unwrap();
        assert_eq!(report.counts.payments, payments, "{selection:?}: {report}");
        assert_eq!(report.violations(), u64::from(is_wrong), "{selection:?}: {report}");
    }
}

#[tokio::test]
async fn a_choice_is_compared_with_its_rows_alone() {
    let bed = Bed::with_payments().await;
    let (store, one, three) = (bed.folded(), payment_id("order-1"), payment_id("order-3"));
    put_row(&store, "payments", one.as_bytes(), None);
    let of =
        |payment| bed.verification(Some(store.clone()), Selection { payment: Some(payment), ..Selection::default() });
    let report = bed.run(&of(one)).unwrap();
    only(&report, Invariant::StoreAsFolded, 1);
    let sound = bed.run(&of(three)).unwrap();
    assert!(
        sound.totals.is_empty() && sound.counts.rows_of_the_store == Some(4),
        "row, feed and its index, due: {sound}"
    );
    let led = rows(&store, "merchants");
    assert_eq!(led.len(), 9, "one for each effective event");
    led.iter().for_each(|(key, _)| put_row(&store, "merchants", key, Some(b"cus_other")));
    let report = bed.run(&of(three)).unwrap();
    only(&report, Invariant::StoreAsFolded, 1);
    assert!(report.to_string().contains("merchants, merchant's event at "), "{report}");
}

#[tokio::test]
async fn totals_are_not_judged_by_a_choice_and_that_is_said() {
    let bed = Bed::with_payments().await;
    let selection = Selection { payment: Some(payment_id("order-1")), ..Selection::default() };
    let against = Some(Against { payments: bed.folded(), totals: Some(Store::in_memory()) });
    let report = bed.run(&Verification { against, ..bed.verification(None, selection) }).unwrap();
    assert!(report.totals.is_empty(), "{report}");
    assert!(report.counts.sums_folded_twice.is_none() && report.counts.sums_counted_again.is_none(), "{report}");
    let note = "totals are sums over all payments: with a choice of payments they are not looked at";
    assert_eq!(report.notes, [note]);
}

#[tokio::test]
async fn what_would_be_read_is_known_before_anything_is() {
    let bed = Bed::with_payments().await;
    let ends = ends_of(bed.journal.as_ref()).unwrap();
    let sum = |selection: Selection| -> Vec<(&'static str, u64)> {
        let readings = bed.verification(None, selection).readings();
        readings.iter().map(|r| (r.what, r.spans.iter().map(crate::journal::Span::len_max).sum())).collect()
    };
    assert_eq!(sum(Selection::default()), [("judging and folding", 10), ("folding again", 10)]);
    let id = payment_id("order-1");
    let of_home = ends.of(home_of(id, PARTITIONS)).0;
    let payment = Selection { payment: Some(id), ..Selection::default() };
    assert_eq!(sum(payment), [("judging and folding", of_home), ("folding again", of_home)]);
    let (partition, from) = (Some(home_of(id, PARTITIONS)), Some(Offset(1)));
    let range = Selection { partition, from, to: Some(Offset(3)), ..Selection::default() };
    let expected = [("choosing the payments", 2), ("judging and folding", of_home), ("folding again", of_home)];
    assert_eq!(sum(range), expected);
}

#[tokio::test]
async fn an_unreadable_record_is_told_to_whoever_chose_its_place() {
    let bed = Bed::with_payments().await;
    let position = bed.garbage(2).await;
    let at = |partition| Selection { partition: Some(Partition(partition)), ..Selection::default() };
    only(&bed.verify_chosen(at(position.partition.0)), Invariant::Readable, 1);
    assert!(bed.verify_chosen(at(1)).totals.is_empty());
    let by_type = Selection { event: Some("PaymentFailed"), ..Selection::default() };
    assert!(bed.verify_chosen(by_type).totals.is_empty());
}
