//! Roads on which rows that differ from those of the older code might be served all the same, or those that do not might not
//! be. Each of them is closed.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::manifest::{Manifest, Version};
use super::upgrade_tests::{Bed, Ends, ada};
use super::{NotDone, Phase, Rebuilds, Status};
use crate::journal::embedded::EmbeddedJournal;
use crate::journal::over::Over;
use crate::journal::{JournalError, Offset, Position, Reader, Record};
use crate::payment::event::Decision;
use crate::payment::samples::{at, event, failed, in_progress, successful};
use crate::payment::{Payment, Phase as PaymentPhase};
use crate::projection::rows::encode;
use crate::projection::{Fold, Older, Pair, Payments, Projection, Row, Withheld, compare_older};
use crate::schema::Codec;
use crate::store::Store;

/// A log that does not answer the fold of what is served when it asks for a record.
struct Away {
    journal: Arc<EmbeddedJournal>,
    is_away: AtomicBool,
    was_asked: AtomicBool,
}

impl Over for Away {
    fn log(&self) -> &dyn Reader {
        self.journal.as_ref()
    }

    fn record_at(&self, position: Position) -> Result<Option<Record>, JournalError> {
        if self.is_away.load(Ordering::Acquire) && std::thread::current().name() == Some("fold-1") {
            self.was_asked.store(true, Ordering::Release);
            return Err(JournalError::Unavailable("brokers restart".to_owned()));
        }
        self.journal.read(position)
    }
}

impl Bed {
    fn says<const V: u32>(&self, serving: Phase, other: Option<Phase>) {
        let version = |number, phase| Version::new(number, phase, String::new());
        let other = other.map(|phase| version(2, phase));
        let last = if other.is_some() { 2 } else { 1 };
        Manifest { serving: version(1, serving), other, last }.write::<Ends<V>>(&self.stores()).unwrap();
    }

    fn fold<const V: u32>(&self, store: &str) {
        let (store, log) = (Store::open(&self.stores().join(store)).unwrap(), self.journal.as_ref());
        Fold::<Ends<V>>::new(store, log, Arc::clone(&self.codec)).unwrap().catch_up(log).unwrap();
    }
}

/// Which fields differ of one row that was written so by older and newer code.
fn differ<P: Projection>(older: &Older, table: &str, left: &[u8], right: &[u8]) -> Vec<String> {
    let store = |value| {
        let store = Store::in_memory();
        let (table, mut batch) = (store.table(table).unwrap(), store.batch());
        batch.insert(&table, b"0123456789abcdef", value);
        batch.commit().unwrap();
        store.snapshot().unwrap()
    };
    let (left, right, codec, mut fields) = (store(left), store(right), Codec::new().unwrap(), Vec::new());
    let pair = Pair { left: &left, right: &right, codec: &codec };
    let rows = compare_older::<P>(&pair, older, &mut |found| fields.push(found.field), &mut |_| true).unwrap();
    assert_eq!(rows, 1);
    fields
}

#[test]
fn what_has_become_of_a_payment_is_compared_although_each_outcome_has_other_fields() {
    let begun = |end| {
        let mut payment = None;
        for (seconds, data) in [Some(in_progress(1999)), end].into_iter().flatten().enumerate() {
            Payment::fold(&mut payment, &event(seconds as i64, data), at(seconds as i64)).unwrap();
        }
        payment.unwrap()
    };
    let row = |payment: Payment| encode(&Row { payment, events: vec![Offset(1), Offset(2)] }).unwrap();
    let differ = |left: &[u8], right: &[u8]| differ::<Payments>(&Payments::older(3).unwrap(), "payments", left, right);
    let (paid, declined) = (row(begun(Some(successful("ch_1")))), row(begun(Some(failed("declined")))));
    assert_eq!(differ(&paid, &paid), Vec::<String>::new());
    let found = differ(&paid, &declined);
    assert!(found.iter().any(|field| field == "payment.phase.Successful.reference"), "{found:?}");
    let (open, mut decided) = (begun(None), begun(None));
    let PaymentPhase::Processing { decision, .. } = &mut decided.phase else { panic!("{decided:?}") };
    *decision = Some(Decision::ChargeAgain);
    assert_eq!(differ(&row(open), &row(decided)), ["payment.phase.Processing.decision"]);
    let cut = differ(&paid[..paid.len() / 2], &paid);
    assert!(cut.iter().any(|field| field == "row"), "{cut:?}");
}

#[test]
fn a_field_that_only_one_of_two_rows_has_is_a_difference_unless_only_one_version_has_it() {
    let row = |numbers: &[u64]| postcard::to_allocvec(numbers).unwrap();
    let (older, of_one) = (Ends::<3>::older(2).unwrap(), Ends::<2>::older(1).unwrap());
    let differ = |older: &Older, left: &[u8], right: &[u8]| differ::<Ends<3>>(older, "counts", left, right);
    assert_eq!(differ(&older, &row(&[6]), &row(&[6, 1])), ["attempts"]);
    assert_eq!(differ(&older, &row(&[6, 1]), &row(&[6])), ["attempts"]);
    assert_eq!(differ(&of_one, &row(&[6]), &row(&[6, 1])), Vec::<String>::new());
    assert_eq!(differ(&of_one, &row(&[6]), &row(&[7, 1])), ["count"]);
    // Two that cannot be read are not the same for it.
    for (left, right) in [(&[0xFF][..], &row(&[6])[..]), (&[0xFF], &[0xFE])] {
        for older in [&older, &of_one] {
            let found = differ(older, left, right);
            assert!(found.iter().any(|field| field == "row"), "{left:?} {right:?}: {found:?}");
        }
    }
}

#[test]
fn a_version_that_cannot_fold_what_the_older_one_has_folded_is_withheld() {
    let bed = Bed::new();
    bed.runs_to_the_end::<2>();
    let (fifth, withheld) = bed.runs_to_the_end::<5>();
    let note = fifth.note.unwrap();
    assert!(note.contains("cannot fold the record at") && note.contains("which ends@2 has folded"), "{note}");
    assert_eq!(fifth.phase, Phase::Different);
    assert!(matches!(withheld, Some(Withheld::Differs(_))), "{withheld:?}");
}

/// Nor is anything else served instead meanwhile, be it the same as what nobody has judged.
#[test]
fn a_log_that_does_not_answer_is_no_verdict() {
    let bed = Bed::new();
    bed.runs_to_the_end::<2>();
    bed.fold::<3>("ends@3.2");
    bed.says::<3>(Phase::Serving, Some(Phase::Verified));
    let [is_away, was_asked] = [true, false].map(AtomicBool::new);
    let log = Arc::new(Away { journal: Arc::clone(&bed.journal), is_away, was_asked });
    let (third, ended) = bed.try_run::<3, _>(Arc::clone(&log) as Arc<dyn Reader>, |versions, live| {
        if !log.is_away.load(Ordering::Acquire) {
            let withheld = live.withheld().filter(|withheld| *withheld != Withheld::NotCompared)?;
            return Some((versions.versions().swap_remove(0), withheld));
        }
        if log.was_asked.load(Ordering::Acquire) {
            assert_eq!(live.withheld(), Some(Withheld::NotCompared));
            match versions.promote("ends@3.2", &ada(), true) {
                Err(NotDone::NotYet(version)) if version == "ends@3" => log.is_away.store(false, Ordering::Release),
                Err(NotDone::NotYet(_)) => {} // it has not taken up the log yet
                done => panic!("{done:?}"),
            }
        }
        None
    });
    ended.unwrap();
    let (third, withheld) = third.unwrap();
    assert!(matches!(withheld, Withheld::Differs(_)), "{withheld:?}");
    assert_eq!((third.version.as_str(), third.phase), ("ends@3", Phase::Different), "{third:?}");
}

#[test]
fn a_verdict_that_cannot_be_written_is_found_again() {
    let bed = Bed::new();
    bed.runs_to_the_end::<2>();
    bed.pay(9);
    bed.says::<3>(Phase::Uncompared, None);
    let in_the_way = bed.stores().join("ends@3.json.part");
    std::fs::create_dir(&in_the_way).unwrap();
    let log = Arc::clone(&bed.journal) as Arc<dyn Reader>;
    let (_, ended) = bed.try_run::<3, ()>(log, |_, live| {
        assert_eq!(live.withheld(), Some(Withheld::NotCompared));
        None
    });
    let error = ended.unwrap_err().to_string();
    assert!(error.contains("the list of versions cannot be"), "{error}");
    std::fs::remove_dir(in_the_way).unwrap();
    let (third, withheld) = bed.runs_to_the_end::<3>();
    assert!(matches!(withheld, Some(Withheld::Differs(_))), "{withheld:?} {third:?}");
}

#[test]
fn a_version_is_held_against_the_one_that_was_in_use_last() {
    let left_over = |of: &dyn Fn(&Bed)| {
        let bed = Bed::new();
        bed.runs_to_the_end::<2>();
        of(&bed);
        let (fourth, withheld) = bed.runs_to_the_end::<4>();
        assert_eq!(fourth.note.as_deref(), Some("the same as ends@2 in 5 rows, in what both define"));
        assert_eq!((fourth.phase, withheld), (Phase::Serving, None));
        bed
    };
    // It was withheld, and gone back from; or it was never held against anything.
    left_over(&|bed| assert_eq!(bed.runs_to_the_end::<3>().0.phase, Phase::Different));
    left_over(&|bed| {
        bed.fold::<3>("ends@3");
        bed.says::<3>(Phase::Uncompared, None);
    });
    // What is no store of a version.
    for name in ["ends@3.2.discarded", "ends@3.part", "ends@03", "ends@3.1"] {
        let bed = left_over(&|bed| std::fs::create_dir(bed.stores().join(name)).unwrap());
        assert!(!bed.stores().join("ends@3").exists(), "{name}: nothing is made to be looked at");
    }
}

/// Where it is the one after the first that was in use.
#[test]
fn the_store_that_was_served_is_compared() {
    let bed = Bed::new();
    bed.fold::<2>("ends@2.2");
    let serving = Version::new(2, Phase::Serving, String::new());
    Manifest { serving, other: None, last: 2 }.write::<Ends<2>>(&bed.stores()).unwrap();
    let fourth = bed.runs_to_the_end::<4>().0;
    assert_eq!(fourth.note.as_deref(), Some("the same as ends@2.2 in 5 rows, in what both define"));
}

fn files(directory: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
    entries.flat_map(|path| if path.is_dir() { files(&path) } else { vec![path] }).collect()
}

/// Nothing ends for it, and whoever looks finds out.
#[test]
fn damage_in_older_rows_leaves_them_uncompared() {
    let bed = Bed::new();
    bed.runs_to_the_end::<2>();
    let older = bed.stores().join("ends@2");
    {
        let store = Store::open(&older).unwrap();
        let (mut batch, counts) = (store.batch(), store.table("counts").unwrap());
        // More than is read to learn where it stands: blocks that are met only when rows are compared.
        (0..4_000_u32).for_each(|n| batch.insert(&counts, &n.to_be_bytes(), &[n as u8; 64]));
        batch.commit().unwrap();
        for table in store.snapshot().unwrap().tables() {
            store.table(&table).unwrap();
        }
        store.write_out();
    }
    let whole: Vec<(PathBuf, Vec<u8>)> =
        files(&older).into_iter().map(|path| (path.clone(), std::fs::read(path).unwrap())).collect();
    let mut met = 0;
    let of_rows = |file: &Path| file.components().any(|part| part.as_os_str() == "tables");
    for (file, bytes) in whole.iter().filter(|(file, _)| of_rows(file)) {
        for at in [0, bytes.len() / 3] {
            Store::discard(&older).unwrap();
            for (path, bytes) in &whole {
                std::fs::create_dir_all(path.parent().unwrap()).unwrap();
                std::fs::write(path, bytes).unwrap();
            }
            let mut hurt = bytes.clone();
            hurt.iter_mut().skip(at).take(1).for_each(|byte| *byte ^= 0x10);
            std::fs::write(file, hurt).unwrap();
            let (Status { phase, note, .. }, _) = bed.runs_to_the_end::<4>();
            let note = note.unwrap();
            let uncompared = note.contains("not all of them can be read");
            match phase {
                Phase::Serving => assert!(uncompared || note.contains("they cannot be read"), "{note}"),
                Phase::Different => assert!(note.contains("differences to ends@2"), "{note}"),
                _ => panic!("{phase}: {note}"),
            }
            met += usize::from(uncompared);
            Store::discard(&bed.stores().join("ends@4")).unwrap();
            std::fs::remove_file(bed.stores().join("ends@4.json")).unwrap();
        }
    }
    assert!(met > 0, "it was met while rows were compared");
}
