//! One projection in versions of its code: the second has one field and one table more, the third counts otherwise, the fourth
//! as the second, and the fifth cannot read all that they can.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio_util::sync::CancellationToken;

use super::{Effort, NotDone, Phase, Rebuilds, Sources, Status, Versions, serving_dir};
use crate::clock::Clocks;
use crate::journal::embedded::EmbeddedJournal;
use crate::journal::{Journal, Reader};
use crate::payment::samples::{failed, in_progress, payment_id, successful};
use crate::payment::{Event, EventData, Signed, Timestamp};
use crate::projection::fields::flat;
use crate::projection::kept::Kept;
use crate::projection::{
    About, ApplyError, Fold, Live, Offsets, Older, OlderRows, Progress, Projection, Recorded, Rejections, Served,
    Withheld, home_of,
};
use crate::recording::event_record;
use crate::schema::Codec;
use crate::store::{Batch, Store, StoreError, Table};

const PARTITIONS: u32 = 2;

/// How payments have ended: by code, or `paid`.
pub(super) struct Ends<const V: u32> {
    table: Table,
    counts: Kept<Vec<u64>>,
    events: Option<Kept<u64>>,
}

/// The first has a count; the second the payments' attempts behind it, and a table of events by their names; the third counts
/// those twice that have succeeded.
impl<const V: u32> Projection for Ends<V> {
    const NAME: &'static str = "ends";
    const VERSION: u32 = V;

    fn older(version: u32) -> Option<Older> {
        match (V, version) {
            (2, 1) => {
                let rows = OlderRows::Otherwise { fields: Ends::<1>::fields, of_one: &["attempts"] };
                Some(Older { tables: &["counts"], rows })
            }
            (3, 2) => {
                let rows = OlderRows::Otherwise { fields: Ends::<2>::fields, of_one: &[] };
                Some(Older { tables: &["counts", "events"], rows })
            }
            (4.., 2..) => Some(Older { tables: &["counts", "events"], rows: OlderRows::Alike }),
            _ => None,
        }
    }

    fn open(store: &Store) -> Result<Self, StoreError> {
        let table = store.table("counts")?;
        let events = if V > 1 { Some(Kept::new(store.table("events")?)) } else { None };
        Ok(Self { counts: Kept::new(table.clone()), table, events })
    }

    fn apply(&mut self, recorded: &Recorded, _: &mut Batch) -> Result<(), ApplyError> {
        let data = &recorded.event.data;
        if let Some(events) = &mut self.events {
            *events.row(data.name().as_bytes())?.get_or_insert_default() += 1;
        }
        let (of, attempt, counts) = match data {
            EventData::PaymentFailed(_) if V == 5 => return Err(ApplyError::Unfoldable("not known".to_owned())),
            EventData::PaymentFailed(failed) => (failed.code.as_str(), failed.attempt, 1),
            EventData::PaymentSuccessful(paid) => ("paid", paid.attempt, if V == 3 { 2 } else { 1 }),
            _ => return Ok(()),
        };
        let row = self.counts.row(of.as_bytes())?.get_or_insert_with(|| vec![0; if V > 1 { 2 } else { 1 }]);
        row[0] += counts;
        if let Some(attempts) = row.get_mut(1) {
            *attempts += u64::from(attempt);
        }
        Ok(())
    }

    fn flush(&mut self, batch: &mut Batch) -> Result<(), StoreError> {
        self.counts.flush(batch)?;
        self.events.as_mut().map_or(Ok(()), |events| events.flush(batch))
    }

    fn about(_: &Codec, _: &str, key: &[u8], _: &[u8]) -> About {
        About { key: String::from_utf8_lossy(key).into_owned(), ..About::default() }
    }

    fn fields(table: &str, _: &[u8], value: &[u8]) -> BTreeMap<String, String> {
        let numbers: Result<Vec<u64>, _> = match table {
            "counts" => postcard::from_bytes(value),
            _ => postcard::from_bytes(value).map(|count| vec![count]),
        };
        let Ok(numbers) = numbers else { return flat(None) };
        let names = ["count", "attempts"].map(str::to_owned);
        names.into_iter().zip(numbers.iter().map(ToString::to_string)).collect()
    }
}

impl<const V: u32> Served for Ends<V> {
    type Rows = Table;
    type Hearers = ();

    fn rows(&self) -> Table {
        self.table.clone()
    }

    fn tell(&mut self, (): (), _: Arc<Progress>) {}

    fn exchanged((): &(), _: &Offsets) {}
}

pub(super) struct Bed {
    directory: tempfile::TempDir,
    pub journal: Arc<EmbeddedJournal>,
    pub codec: Arc<Codec>,
}

impl Bed {
    pub fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let journal = EmbeddedJournal::open(&directory.path().join("journal"), PARTITIONS).unwrap();
        let bed = Self { directory, journal, codec: Arc::new(Codec::new().unwrap()) };
        (0..9).for_each(|n| bed.pay(n));
        bed
    }

    /// Of three, one fails.
    pub fn pay(&self, n: u32) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let end = if n.is_multiple_of(3) { failed("declined") } else { successful("ch_1") };
        for data in [in_progress(100), end] {
            let event = Event::new(payment_id(&n.to_string()), Timestamp::now(), data);
            let home = home_of(event.payment_id, PARTITIONS);
            runtime.block_on(self.journal.append(event_record(&event, home, &self.codec, None).unwrap())).unwrap();
        }
    }

    pub fn stores(&self) -> PathBuf {
        self.directory.path().join("store")
    }

    /// Runs this version of the code until `until` answers.
    pub fn run<const V: u32, T>(&self, until: impl FnMut(&Versions<Ends<V>>, &Live<Ends<V>>) -> Option<T>) -> T {
        let (answer, ended) = self.try_run(Arc::clone(&self.journal) as Arc<dyn Reader>, until);
        ended.unwrap();
        answer.unwrap()
    }

    /// The same on this log, and not longer than it folds; with how that has ended.
    pub fn try_run<const V: u32, T>(
        &self,
        log: Arc<dyn Reader>,
        mut until: impl FnMut(&Versions<Ends<V>>, &Live<Ends<V>>) -> Option<T>,
    ) -> (Option<T>, anyhow::Result<()>) {
        let store = Store::open(&serving_dir::<Ends<V>>(&self.stores()).unwrap()).unwrap();
        let (codec, clocks, rejections) = (Arc::clone(&self.codec), Clocks::system(), Rejections::default());
        let mut fold = Fold::<Ends<V>>::new(store, log.as_ref(), Arc::clone(&codec)).unwrap();
        let live = Arc::new(Live::new(fold.built(()), ()));
        let sources = Sources { stores: self.stores(), log, codec, rejections, clocks, effort: Effort::FULL };
        let (versions, folds) = Versions::new(sources, Arc::clone(&live), fold).unwrap();
        let (stop, deadline) = (CancellationToken::new(), Instant::now() + Duration::from_secs(60));
        std::thread::scope(|scope| {
            let folding = scope.spawn(|| versions.run(folds, &stop));
            let _stops = stop.clone().drop_guard();
            let answer = loop {
                let (answer, ended) = (until(&versions, &live), folding.is_finished());
                if answer.is_some() || ended {
                    break answer;
                }
                assert!(Instant::now() < deadline, "it never came: {:?}", versions.versions());
                std::thread::yield_now();
            };
            stop.cancel();
            (answer, folding.join().unwrap())
        })
    }

    /// As it stands at the log's end.
    pub fn runs_to_the_end<const V: u32>(&self) -> (Status, Option<Withheld>) {
        self.run::<V, _>(|versions, live| {
            let (end, withheld) = (live.built().progress.caught_up(), live.withheld());
            (end && withheld != Some(Withheld::NotCompared))
                .then(|| (versions.versions().swap_remove(0), live.withheld()))
        })
    }
}

pub(super) fn ada() -> Signed {
    Signed::new("ada", "meant so").unwrap()
}

#[test]
fn a_version_with_more_fields_and_tables_is_the_same_in_what_both_define() {
    let bed = Bed::new();
    let (first, withheld) = bed.runs_to_the_end::<1>();
    assert_eq!((first.phase, first.note, withheld), (Phase::Serving, None, None), "there is nothing before it");
    bed.pay(9); // what comes later is not compared
    let (second, withheld) = bed.runs_to_the_end::<2>();
    assert_eq!((second.version.as_str(), second.phase, withheld), ("ends@2", Phase::Serving, None));
    assert_eq!(second.note.as_deref(), Some("the same as ends@1 in 2 rows, in what both define"));
    let (again, _) = bed.runs_to_the_end::<2>();
    assert_eq!((again.note, again.since), (second.note, second.since), "once, and not at every start");
}

#[test]
fn a_version_that_folds_otherwise_is_withheld_until_the_differences_are_accepted() {
    let bed = Bed::new();
    bed.runs_to_the_end::<2>();
    let (third, withheld) = bed.runs_to_the_end::<3>();
    assert_eq!((third.phase, third.compared.differences), (Phase::Different, 1), "{third:?}");
    let found = &third.compared.shown[0];
    let (left, right) = (found.left.as_deref(), found.right.as_deref());
    assert_eq!((found.table.as_str(), found.key.as_str(), found.field.as_str()), ("counts", "paid", "count"));
    assert_eq!((left, right), (Some("6"), Some("12")));
    let Some(Withheld::Differs(why)) = withheld else { panic!("{withheld:?}") };
    assert!(why.contains("ends@3 is withheld (1 differences to ends@2 in 5 rows)"), "{why}");

    // It stays so, over a restart and beside a rebuild, which would only find that it is the same as itself.
    bed.run::<3, _>(|versions, live| {
        assert!(live.withheld().is_some());
        let other = versions.versions().into_iter().nth(1);
        match other {
            None => drop(versions.rebuild(None).unwrap()),
            Some(other) if other.phase == Phase::Verified => {
                let refused = versions.promote("ends@3.2", &ada(), true);
                if matches!(refused, Err(NotDone::NotYet(_))) {
                    return None; // it has not taken up the log yet
                }
                assert!(matches!(refused, Err(NotDone::NotTheSame(..))), "{refused:?}");
                versions.cancel("ends@3.2", &ada()).unwrap();
                return Some(());
            }
            Some(_) => {}
        }
        None
    });
    bed.run::<3, _>(|versions, live| {
        let refused = versions.promote("ends@3", &ada(), false);
        assert!(matches!(refused, Err(NotDone::NotTheSame(..))) && live.withheld().is_some(), "{refused:?}");
        versions.promote("ends@3", &ada(), true).unwrap();
        assert_eq!(live.withheld(), None);
        Some(())
    });
    let (accepted, withheld) = bed.runs_to_the_end::<3>();
    assert_eq!((accepted.phase, withheld), (Phase::Serving, None));
    let note = "1 differences to ends@2 in 5 rows, accepted by ada: meant so";
    assert_eq!(accepted.note.as_deref(), Some(note));
}

#[test]
fn what_cannot_be_compared_is_served_and_says_so() {
    // Nothing is known of version 1 any more.
    let bed = Bed::new();
    bed.runs_to_the_end::<1>();
    let (third, withheld) = bed.runs_to_the_end::<3>();
    let note = third.note.unwrap();
    assert!(note.contains("not compared with ends@1") && note.contains("does not know"), "{note}");
    assert_eq!((third.phase, withheld), (Phase::Serving, None));

    // The older rows come too late.
    let bed = Bed::new();
    bed.runs_to_the_end::<1>();
    let early = bed.stores().join("aside");
    std::fs::rename(bed.stores().join("ends@1"), &early).unwrap();
    bed.pay(9);
    bed.runs_to_the_end::<2>();
    std::fs::rename(early, bed.stores().join("ends@1")).unwrap();
    let note = bed.runs_to_the_end::<2>().0.note.unwrap();
    assert!(note.contains("folded further already"), "{note}");
}

/// Killed on the way there, or after it was there and before it was compared.
#[test]
fn a_comparison_that_was_cut_short_begins_anew() {
    let bed = Bed::new();
    bed.runs_to_the_end::<1>();
    {
        let store = Store::open(&bed.stores().join("ends@2")).unwrap();
        let log = bed.journal.as_ref();
        Fold::<Ends<2>>::new(store, log, Arc::clone(&bed.codec)).unwrap().catch_up(log).unwrap();
    }
    let (second, _) = bed.runs_to_the_end::<2>();
    assert_eq!(second.note.as_deref(), Some("the same as ends@1 in 2 rows, in what both define"));
}
