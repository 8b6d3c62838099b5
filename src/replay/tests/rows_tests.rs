//! Rows that are not what the log folds to.

use super::{Bed, PARTITIONS, first, only, put_row, rows};
use crate::journal::{Offset, Position};
use crate::payment::samples::{in_progress, parked, payment_id, successful};
use crate::projection::home_of;
use crate::replay::{Invariant, Selection};
use crate::store::Store;

#[tokio::test]
async fn a_row_that_is_not_what_the_log_folds_to_is_named_by_table_key_and_field() {
    let bed = Bed::with_payments().await;
    for data in [in_progress(4), parked()] {
        bed.append(payment_id("order-4"), data).await;
    }
    let good = bed.folded();
    for table in ["payments", "feed", "merchants", "others", "due", "parked", "rejected", "meta"] {
        let taken = good.copy().unwrap();
        match rows(&good, table).last() {
            Some((key, _)) => put_row(&taken, table, key, None),
            None => put_row(&taken, table, &[0; 12], Some(&[])), // none there: one too many
        }
        let report = bed.verify_against(&taken);
        assert!(report.totals.contains_key(&Invariant::StoreAsFolded) || table == "rejected", "{table}: {report}");
        assert!(report.to_string().contains(&format!(": {table}, ")), "{table}: {report}");
        assert!(!report.totals.contains_key(&Invariant::FoldedAlike), "{table}: {report}");
    }
    let nameless = good.copy().unwrap();
    put_row(&nameless, "meta", b"log", None);
    let report = bed.verify_against(&nameless);
    only(&report, Invariant::StoreAsFolded, 1);
    assert!(first(&report).contains("does not say of which log"), "{report}");
    let empty = bed.verify_against(&Store::in_memory());
    assert!(empty.totals.is_empty() && empty.to_string().contains("note: the store of payments is empty"), "{empty}");
}

/// A table that is gone has no rows to compare.
#[tokio::test]
async fn a_table_that_is_missing_or_does_not_belong_to_the_others_is_named() {
    let bed = Bed::with_payments().await;
    let (whole, without) = (bed.folded(), Store::in_memory());
    for (name, _) in whole.tables().into_iter().filter(|(name, _)| name != "merchants") {
        without.table(&name).unwrap();
        let all = whole.table(&name).unwrap().range(&[], &[0xFF; 33]);
        all.map(Result::unwrap).for_each(|(key, value)| put_row(&without, &name, &key, Some(&value)));
    }
    let report = bed.verify_against(&without);
    only(&report, Invariant::StoreAsFolded, 1);
    assert!(first(&report).contains("the store of payments has no table merchants"), "{report}");
    put_row(&whole, "due", &[0xFF; 32], Some(&[0; 8]));
    whole.table("more").unwrap();
    let report = bed.verify_against(&whole);
    only(&report, Invariant::StoreAsFolded, 2);
    assert!(report.to_string().contains("the table due does not belong to the others"), "{report}");
    assert!(report.to_string().contains("has a table that is not its own: more"), "{report}");
}

#[tokio::test]
async fn a_flipped_field_is_named_with_both_sides() {
    let bed = Bed::with_payments().await;
    let (store, id) = (bed.folded(), payment_id("order-1"));
    let row = rows(&store, "payments").into_iter().find(|(key, _)| key == id.as_bytes()).unwrap().1;
    let reference = row.windows(4).rposition(|bytes| bytes == b"ch_1").unwrap();
    let mut flipped = row.clone();
    flipped[reference + 3] = b'7';
    put_row(&store, "payments", id.as_bytes(), Some(&flipped));
    let report = bed.verify_against(&store);
    only(&report, Invariant::StoreAsFolded, 1);
    let expected = format!(
        "VIOLATION store_as_folded {id}: payments, {id}, payment.phase.Successful.reference: the fold has ch_1, the store \
         has ch_7"
    );
    assert_eq!(first(&report), expected);

    // What may be about a person is not shown.
    let mut private = row;
    let word = private.windows(4).position(|bytes| bytes == b"1001").unwrap();
    private[word] = b'2';
    put_row(&store, "payments", id.as_bytes(), Some(&private));
    let report = bed.verify_against(&store);
    only(&report, Invariant::StoreAsFolded, 1);
    assert!(first(&report).contains("initiation.private: the fold has digest "), "{report}");
    assert!(!report.to_string().contains("1001"), "{report}");
}

#[tokio::test]
async fn a_store_that_is_behind_is_compared_where_it_stands() {
    let bed = Bed::with_payments().await;
    let store = bed.folded();
    bed.append(payment_id("order-3"), successful("ch_3")).await;
    bed.append(payment_id("order-4"), in_progress(9)).await;
    let report = bed.verify_against(&store);
    assert!(report.totals.is_empty(), "{report}");
    assert_eq!((report.counts.records, report.counts.payments), (12, 4), "and the log is judged to its end");
    assert!(report.counts.rows_of_the_store < Some(report.counts.rows_folded_twice), "{report}");
}

#[tokio::test]
async fn a_store_that_is_ahead_of_the_log_or_of_another_one_is_told() {
    let bed = Bed::with_payments().await;
    let (store, longer) = (bed.folded(), Bed::with_payments().await);
    let error = longer.run(&longer.verification(Some(store), Selection::default())).unwrap_err();
    assert!(error.to_string().contains("of another log"), "{error}");

    let store = bed.folded();
    let mut verification = bed.verification(Some(store), Selection::default());
    let home = home_of(payment_id("order-1"), PARTITIONS);
    let end = verification.ends.of(home);
    verification.ends.set(Position::new(home, Offset(end.0 - 1)));
    let report = bed.run(&verification).unwrap();
    only(&report, Invariant::InOrder, 1);
    assert!(first(&report).contains(&format!("folded to offset {end}, and the log ends at")), "{report}");
}

#[tokio::test]
async fn a_gap_in_the_versions_is_found() {
    let bed = Bed::with_payments().await;
    let id = payment_id("order-1");
    let (good, home) = (bed.folded(), home_of(id, PARTITIONS));
    let gaps_of = |store: &Store| {
        let mut found = Vec::new();
        let payments =
            crate::projection::gaps(store, &bed.codec, PARTITIONS, &mut |_| Ok(()), &mut |gap| found.push(gap));
        assert_eq!(payments.unwrap(), 3);
        found
    };
    assert_eq!(gaps_of(&good), []);
    let of_it: Vec<(Vec<u8>, Vec<u8>)> = rows(&good, "feed")
        .into_iter()
        .filter(|(key, _)| key[key.len() - 12..key.len() - 8] == home.0.to_be_bytes())
        .collect();
    let (key, value) = of_it[1].clone();
    let at = Position::new(home, Offset(u64::from_be_bytes(key[key.len() - 8..].try_into().unwrap())));
    for (changed, expected) in [
        (None, "is missing in the feed"),
        (Some([&[9], &value[1..]].concat()), "is version 9 in the feed"),
        (Some(value[..4].to_vec()), "cannot be read in the feed"),
    ] {
        let store = good.copy().unwrap();
        put_row(&store, "feed", &key, changed.as_deref());
        let found = gaps_of(&store);
        let named = found.iter().any(|gap| gap.what.contains(expected) && gap.position == Some(at));
        assert!(named, "{expected}: {found:?}");
    }
    // One too many, which no row names.
    let store = good.copy().unwrap();
    let stranger = [&key[..key.len() - 8], &u64::MAX.to_be_bytes()].concat();
    put_row(&store, "feed", &stranger, Some(&value));
    let found = gaps_of(&store);
    assert!(found.len() == 1 && found[0].what.contains("its row does not name"), "{found:?}");
}
