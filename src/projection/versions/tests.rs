//! Versions beside each other, on a log in a directory.

use std::path::PathBuf;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tokio_util::sync::CancellationToken;

use super::{Effort, NotDone, Phase, Rebuilds, Sources, Status, Versions, serving_dir};
use crate::clock::Clocks;
use crate::journal::embedded::EmbeddedJournal;
use crate::journal::{Journal, NewRecord};
use crate::payment::samples::{failed, in_progress, payment_id, successful};
use crate::payment::{Event, Signed, Timestamp};
use crate::projection::{Folder, Payments, Rejections, View, home_of};
use crate::recording::event_record;
use crate::schema::Codec;
use crate::store::Store;

const PARTITIONS: u32 = 3;

struct Bed {
    directory: tempfile::TempDir,
    journal: Arc<EmbeddedJournal>,
    codec: Arc<Codec>,
}

/// A process, as far as it folds.
struct Process {
    versions: Arc<Versions<Payments>>,
    view: View,
    stop: CancellationToken,
    folding: Option<JoinHandle<anyhow::Result<()>>>,
}

impl Bed {
    fn new(payments: u32) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let journal = EmbeddedJournal::open(&directory.path().join("journal"), PARTITIONS).unwrap();
        let bed = Self { directory, journal, codec: Arc::new(Codec::new().unwrap()) };
        (0..payments).for_each(|n| bed.pay(n));
        bed
    }

    fn pay(&self, n: u32) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let end = if n.is_multiple_of(3) { failed("card_declined") } else { successful("ch_1") };
        for data in [in_progress(100 + i64::from(n)), end] {
            let event =
                Event::new(payment_id(&n.to_string()), Timestamp::from_micros(1_800_000_000_000_000).unwrap(), data);
            let home = home_of(event.payment_id, PARTITIONS);
            let record: NewRecord = event_record(&event, home, &self.codec, None).unwrap();
            runtime.block_on(self.journal.append(record)).unwrap();
        }
    }

    fn stores(&self) -> PathBuf {
        self.directory.path().join("store")
    }

    fn start(&self) -> Process {
        let store = Store::open(&serving_dir::<Payments>(&self.stores()).unwrap()).unwrap();
        let (codec, clocks) = (Arc::clone(&self.codec), Clocks::system());
        let (folder, view) = Folder::open(store, self.journal.as_ref(), Arc::clone(&codec), clocks.clone()).unwrap();
        let sources = Sources {
            stores: self.stores(),
            log: Arc::clone(&self.journal) as _,
            codec,
            rejections: Rejections::default(),
            clocks,
            effort: Effort::FULL,
        };
        let (versions, folds) = Versions::new(sources, Arc::clone(view.live()), folder).unwrap();
        let (stop, folded) = (CancellationToken::new(), Arc::clone(&versions));
        let stopped = stop.clone();
        let folding = std::thread::spawn(move || folded.run(folds, &stopped));
        Process { versions, view, stop, folding: Some(folding) }
    }

    fn directories(&self) -> Vec<String> {
        let entries = std::fs::read_dir(self.stores()).unwrap().map(|entry| entry.unwrap());
        let directories = entries.filter(|entry| entry.path().is_dir());
        let mut names: Vec<_> = directories.map(|entry| entry.file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }
}

impl Process {
    fn other(&self) -> Option<Status> {
        self.versions.versions().into_iter().nth(1)
    }

    fn serving(&self) -> Status {
        self.versions.versions().swap_remove(0)
    }

    fn reaches(&self, phase: Phase) -> Status {
        until(|| self.other().filter(|other| other.phase == phase))
    }

    fn sees(&self, n: u32) {
        until(|| self.view.payment(payment_id(&n.to_string())).unwrap().filter(|row| row.payment.is_terminal()));
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.stop.cancel();
        let ended = self.folding.take().unwrap().join();
        if !std::thread::panicking() {
            ended.unwrap().unwrap();
        }
    }
}

fn until<T>(mut known: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        if let Some(known) = known() {
            return known;
        }
        assert!(Instant::now() < deadline, "it never came");
        std::thread::sleep(Duration::from_millis(1));
    }
}

fn ada() -> Signed {
    Signed::new("ada", "to see").unwrap()
}

#[test]
fn a_version_is_built_compared_served_gone_back_from_and_let_go() {
    let bed = Bed::new(20);
    let process = bed.start();
    assert_eq!(process.versions.rebuild(None).unwrap(), "payments@4.2");
    let built = process.reaches(Phase::Verified);
    assert!(built.compared.rows > 40 && built.compared.differences == 0, "{built:?}");
    assert!(matches!(process.versions.rebuild(None), Err(NotDone::AlreadyThere(..))), "one at a time");
    assert!(matches!(process.versions.rollback("payments@4.2", &ada()), Err(NotDone::NotNow { .. })));

    until(|| process.versions.promote("payments@4.2", &ada(), false).ok());
    assert_eq!((process.serving().version.as_str(), process.serving().phase), ("payments@4.2", Phase::Serving));
    assert_eq!(process.other().unwrap().phase, Phase::Retired);
    bed.pay(20);
    process.sees(20);

    assert!(matches!(process.versions.promote("payments@4", &ada(), true), Err(NotDone::NotNow { .. })));
    until(|| process.versions.rollback("payments@4", &ada()).ok());
    bed.pay(21);
    process.sees(21);
    assert_eq!(process.serving().version, "payments@4");

    assert!(matches!(process.versions.cancel("payments@4", &ada()), Err(NotDone::NoSuch(_))), "it is served");
    process.versions.cancel("payments@4.2", &ada()).unwrap();
    until(|| (bed.directories() == ["payments@4"]).then_some(()));
    assert_eq!(process.versions.rebuild(None).unwrap(), "payments@4.3", "no name is given twice");
}

#[test]
fn a_restart_goes_on_where_it_was() {
    let bed = Bed::new(20);
    {
        let process = bed.start();
        process.versions.rebuild(None).unwrap();
        process.reaches(Phase::Verified);
    }
    {
        let process = bed.start();
        assert_eq!(process.other().unwrap().phase, Phase::Verified, "what was proven stays so");
        until(|| process.versions.promote("payments@4.2", &ada(), false).ok());
    }
    {
        let process = bed.start();
        assert_eq!(process.serving().version, "payments@4.2");
        bed.pay(20);
        process.sees(20);
        until(|| process.versions.rollback("payments@4", &ada()).ok());
        process.sees(20);
        process.versions.cancel("payments@4.2", &ada()).unwrap();
    }
    let process = bed.start();
    assert_eq!(process.other(), None);
    assert_eq!(bed.directories(), ["payments@4"], "what was let go is deleted at the latest by the next start");
}

/// Cut short in the middle, it is gone on with from there: what was folded is not folded again.
#[test]
fn a_build_that_was_cut_short_is_gone_on_with() {
    let bed = Bed::new(20);
    {
        let process = bed.start();
        process.versions.rebuild(None).unwrap();
        process.reaches(Phase::Verified);
    }
    // As it stood before the comparison; and with a mark in its rows, which would be gone if it were begun anew.
    let list = bed.stores().join("payments@4.json");
    let text = std::fs::read_to_string(&list).unwrap();
    std::fs::write(&list, text.replace("verified", "building")).unwrap();
    {
        let store = Store::open(&bed.stores().join("payments@4.2")).unwrap();
        let (due, mut batch) = (store.table("due").unwrap(), store.batch());
        batch.insert(&due, &[7; 28], b"");
        batch.commit().unwrap();
    }
    (20..40).for_each(|n| bed.pay(n));
    let process = bed.start();
    let built = process.reaches(Phase::Different);
    assert_eq!(built.compared.differences, 1, "{built:?}");
    assert_eq!(built.compared.shown[0].right.as_deref(), Some("is there"));
}

#[test]
fn a_difference_is_named_by_key_and_field_and_is_served_only_if_it_is_accepted() {
    let bed = Bed::new(20);
    drop({
        let process = bed.start();
        process.sees(19);
        process
    });
    {
        let store = Store::open(&bed.stores().join("payments@4")).unwrap();
        let payments = store.table("payments").unwrap();
        let id = payment_id("7");
        let row = payments.get(id.as_bytes()).unwrap().unwrap();
        let other = payments.get(payment_id("8").as_bytes()).unwrap().unwrap();
        assert_ne!(row, other);
        let mut batch = store.batch();
        batch.insert(&payments, id.as_bytes(), &other);
        batch.commit().unwrap();
    }
    let process = bed.start();
    process.versions.rebuild(Some(Effort::FULL)).unwrap();
    let built = process.reaches(Phase::Different);
    let found = &built.compared.shown;
    assert!(
        found.iter().all(|found| found.table == "payments" && found.key == payment_id("7").to_string()),
        "{found:?}"
    );
    assert!(found.iter().any(|found| found.field.contains("amount")), "{found:?}");
    assert_eq!(built.compared.differences, found.len() as u64);

    let refused = process.versions.promote("payments@4.2", &ada(), false);
    assert!(matches!(refused, Err(NotDone::NotTheSame(..))), "{refused:?}");
    assert_eq!(process.serving().version, "payments@4", "nothing has changed");
    until(|| process.versions.promote("payments@4.2", &ada(), true).ok());
    let row = process.view.payment(payment_id("7")).unwrap().unwrap();
    assert_eq!(row.payment.id, payment_id("7"), "what is read now is what the log says");
}

/// What has become of a version that is not served is none of the process's business: the log has everything.
#[test]
fn a_damaged_version_is_built_anew_and_the_process_goes_on() {
    let bed = Bed::new(3);
    {
        let process = bed.start();
        process.versions.rebuild(None).unwrap();
        process.reaches(Phase::Verified);
    }
    let store = bed.stores().join("payments@4.2");
    for entry in std::fs::read_dir(&store).unwrap() {
        let path = entry.unwrap().path();
        if path.is_file() {
            std::fs::write(path, b"").unwrap();
        }
    }
    let process = bed.start();
    assert_ne!(process.other().unwrap().phase, Phase::Verified, "that was proven of other rows");
    bed.pay(3);
    process.sees(3);
    process.reaches(Phase::Verified);
    until(|| process.versions.promote("payments@4.2", &ada(), false).ok());
    process.sees(3);
}

/// Whatever was left half done: no name is given twice, and what no list names is deleted.
#[test]
fn a_list_that_was_lost_gives_no_name_twice() {
    let bed = Bed::new(3);
    {
        let process = bed.start();
        process.versions.rebuild(None).unwrap();
        process.reaches(Phase::Verified);
    }
    std::fs::remove_file(bed.stores().join("payments@4.json")).unwrap();
    // A deletion that was cut short.
    std::fs::create_dir(bed.stores().join("payments@4.1.discarded")).unwrap();
    std::fs::rename(bed.stores().join("payments@4.2"), bed.stores().join("payments@4.2.discarded")).unwrap();
    std::fs::create_dir(bed.stores().join("payments@4.5")).unwrap();
    let process = bed.start();
    assert_eq!(process.versions.versions().len(), 1);
    assert_eq!(process.versions.rebuild(None).unwrap(), "payments@4.6");
    process.reaches(Phase::Verified);
    let left = bed.directories();
    assert_eq!(left, ["payments@4", "payments@4.1.discarded", "payments@4.6"], "but for what is no name of ours");
}
