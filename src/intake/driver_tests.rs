//! The loop over a model of the log that aborts, leaves in doubt, takes partitions away and gives them back, in any order
//! that a seed says: whatever happens, each request is moved on exactly once, in the order of its partition.

use std::collections::BTreeSet;
use std::sync::{Arc, LazyLock, Mutex, MutexGuard};

use proptest::prelude::*;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::*;
use crate::clock::Clocks;
use crate::holding::Holding;
use crate::intake::Bounds;
use crate::journal::embedded::EmbeddedJournal;
use crate::journal::{Crossing, Journal, Offset, Passage, SourceRecord, Target, partition_of};
use crate::payment::{IdempotencyKey, MerchantId, PaymentId};
use crate::projection::{Folder, View, home_of};
use crate::schema::Codec;
use crate::store::Store;

const PARTITIONS: u32 = 3;
const EACH: u64 = 40;
const GOOD: &[u8] = br#"{"amount":1999,"currency":"EUR","customer_id":"cus_42","payment_method":"pm_card_visa"}"#;

static CODEC: LazyLock<Arc<Codec>> = LazyLock::new(|| Arc::new(Codec::new().unwrap()));

/// What stands on the log, and what a member of the group sees of it.
struct Model {
    dice: StdRng,
    /// How likely each misfortune is, in percent.
    trouble: u32,
    held: BTreeSet<Partition>,
    offered: BTreeSet<Partition>,
    /// The next offset to hand out, since the assignment.
    read: BTreeMap<Partition, u64>,
    /// Where the group stands.
    stands: BTreeMap<Partition, u64>,
    paused: BTreeSet<Partition>,
    in_doubt: bool,
    /// A partition, of the log and of the dead letters, that takes no records.
    sick: Option<Partition>,
    /// What is said of it to those who ask first.
    told: bool,
    /// What becomes of a transaction over it.
    sick_fate: Fate,
    /// How many there were.
    tried: usize,
    /// What comes next of all, to be handed out once.
    news: Vec<Incoming>,
    /// The sources of all that was moved on, in the order of the transactions.
    events: Vec<Position>,
    letters: Vec<Position>,
}

#[derive(Clone)]
struct Fake(Arc<Mutex<Model>>, Crossing);

fn is_bad(offset: u64) -> bool {
    offset.is_multiple_of(7)
}

fn record(partition: Partition, offset: u64) -> SourceRecord {
    let value = if is_bad(offset) { b"garbage" } else { GOOD };
    SourceRecord {
        position: Position::new(partition, Offset(offset)),
        timestamp_us: 0,
        key: Some(format!("order-{partition}-{offset}").into_bytes()),
        headers: Some(Vec::new()),
        value: Some(value.to_vec()),
    }
}

impl Model {
    fn strikes(&mut self) -> bool {
        self.dice.random_range(0..100) < self.trouble
    }

    /// All of it, as the log would: what was appended, and where the group stands.
    fn apply(&mut self, passage: &Passage, crossing: &Crossing) {
        let source = |text: &str| {
            let place = text.strip_prefix(&format!("{}/", crossing.requests)).unwrap();
            let (partition, offset) = place.split_once('/').unwrap();
            Position::new(Partition(partition.parse().unwrap()), Offset(offset.parse().unwrap()))
        };
        for event in &passage.events {
            let crate::payment::EventData::PaymentInProgress(begun) = CODEC.decode(&event.value).unwrap().data else {
                panic!("not an initiation")
            };
            self.events.push(source(begun.request_id.as_str()));
        }
        for letter in &passage.dead_letters {
            let said = letter.headers.iter().find(|(name, _)| name == "paylog-source").unwrap().1.as_deref().unwrap();
            self.letters.push(source(std::str::from_utf8(said).unwrap()));
        }
        for next in &passage.next {
            assert!(self.held.contains(&next.partition), "moved on what is not ours: {next}");
            self.stands.insert(next.partition, next.offset.0);
        }
    }
}

impl Fake {
    fn model(&self) -> MutexGuard<'_, Model> {
        self.0.lock().unwrap()
    }
}

fn failed<T>(fate: Fate) -> Result<T, TransactionError> {
    Err(TransactionError { fate, culprit: None, reason: "the dice".to_owned() })
}

impl Requests for Fake {
    fn crossing(&self) -> &Crossing {
        &self.1
    }

    fn poll(&mut self, max: usize, _timeout: Duration) -> Result<Vec<Incoming>, JournalError> {
        let mut model = self.model();
        if !model.offered.is_empty() {
            let offered = std::mem::take(&mut model.offered).into_iter().collect();
            return Ok(vec![Incoming::Group(Assignment::Assigned(offered))]);
        }
        let mut incoming = std::mem::take(&mut model.news);
        for partition in model.held.clone().difference(&model.paused.clone()).copied() {
            let from = model.read[&partition];
            let to = (from + model.dice.random_range(0..10)).min(EACH).min(from + max as u64);
            incoming.extend((from..to).map(|offset| Incoming::Record(record(partition, offset))));
            model.read.insert(partition, to);
        }
        if !model.held.is_empty() && model.strikes() {
            let taken: Vec<Partition> = model.held.clone().into_iter().filter(|_| model.dice.random()).collect();
            incoming.push(Incoming::Group(Assignment::Revoked { partitions: taken, lost: model.dice.random() }));
        }
        Ok(incoming)
    }

    fn assign(&mut self, partitions: &[Partition]) -> Result<(), JournalError> {
        let mut model = self.model();
        for partition in partitions {
            let stands = model.stands.get(partition).copied().unwrap_or(0);
            model.read.insert(*partition, stands);
            model.held.insert(*partition);
        }
        Ok(())
    }

    fn unassign(&mut self, partitions: &[Partition]) -> Result<(), JournalError> {
        let mut model = self.model();
        for partition in partitions {
            model.held.remove(partition);
            model.paused.remove(partition);
            model.offered.insert(*partition); // and back at once, from where the group stands
        }
        Ok(())
    }

    fn pause(&mut self, partitions: &[Partition]) -> Result<(), JournalError> {
        self.model().paused.extend(partitions);
        Ok(())
    }

    fn resume(&mut self, partitions: &[Partition]) -> Result<(), JournalError> {
        self.model().paused.retain(|partition| !partitions.contains(partition));
        Ok(())
    }

    fn unwritable(&mut self) -> Result<BTreeMap<Target, String>, JournalError> {
        let model = self.model();
        let sick = model.sick.filter(|_| model.told).into_iter();
        Ok(sick.flat_map(|p| [Target::Log(p), Target::DeadLetters(p)]).map(|t| (t, "sick".to_owned())).collect())
    }

    fn commit(&mut self, passage: &Passage) -> Result<(), TransactionError> {
        let crossing = self.1.clone();
        let mut model = self.model();
        assert!(!model.in_doubt, "nothing may be moved on before the group was asked");
        let events = passage.events.iter().map(|event| event.partition);
        let mut targets = events.chain(passage.dead_letters.iter().map(|letter| letter.partition));
        if let Some(sick) = model.sick.filter(|sick| targets.any(|target| target == *sick)) {
            model.tried += 1;
            let fate = model.sick_fate;
            model.in_doubt = fate == Fate::Recycle;
            return Err(TransactionError { fate, culprit: Some(sick), reason: "sick".to_owned() });
        }
        if !model.strikes() {
            model.apply(passage, &crossing);
            return Ok(());
        }
        match model.dice.random_range(0..3) {
            0 => failed(Fate::Retry),
            happened => {
                if happened == 1 {
                    model.apply(passage, &crossing);
                }
                model.in_doubt = true;
                failed(Fate::Recycle)
            }
        }
    }

    fn recycle(&mut self) -> Result<Vec<Position>, JournalError> {
        let mut model = self.model();
        model.in_doubt = false;
        let stands = model.stands.iter().filter(|(partition, _)| model.held.contains(partition));
        Ok(stands.map(|(partition, offset)| Position::new(*partition, Offset(*offset))).collect())
    }

    fn leave(self: Box<Self>, _deadline: Duration) {}
}

fn view(directory: &std::path::Path) -> (Arc<dyn Journal>, View) {
    let journal: Arc<dyn Journal> = EmbeddedJournal::open(&directory.join("journal"), PARTITIONS).unwrap();
    let codec = Arc::clone(&CODEC);
    let store = Store::open(&directory.join("store")).unwrap();
    let (_, view) = Folder::open(store, journal.as_ref(), codec, Clocks::system()).unwrap();
    (journal, view)
}

/// An intake over a model with so much trouble.
fn running(seed: u64, trouble: u32, journal: &Arc<dyn Journal>, view: &View) -> (Running, Fake) {
    let crossing = Crossing {
        requests: "p.requests".to_owned(),
        dead_letter_partitions: PARTITIONS,
        dead_letter_bytes_max: 1_000_000,
    };
    let model = Model {
        dice: StdRng::seed_from_u64(seed),
        trouble,
        held: BTreeSet::new(),
        offered: (0..PARTITIONS).map(Partition).collect(),
        read: BTreeMap::new(),
        stands: BTreeMap::new(),
        paused: BTreeSet::new(),
        in_doubt: false,
        sick: None,
        told: false,
        sick_fate: Fate::Retry,
        tried: 0,
        news: Vec::new(),
        events: Vec::new(),
        letters: Vec::new(),
    };
    let fake = Fake(Arc::new(Mutex::new(model)), crossing);
    let intake = Intake {
        door: Box::new(|| Err(JournalError::Unavailable("a model is joined already".to_owned()))),
        journal: Arc::clone(journal),
        view: view.clone(),
        codec: Arc::clone(&CODEC),
        requests: CODEC.requests(),
        gateway: "simulator".to_owned(),
        bounds: Bounds { batch_max: 8, dead_letters_per_minute: 1_000_000 },
        holding: Holding::default(),
    };
    (Running::new(intake, Box::new(fake.clone())), fake)
}

/// Turns until each partition stands where `expected` says.
fn turn_until(running: &mut Running, fake: &Fake, expected: &[u64]) {
    let deadline = Instant::now() + Duration::from_secs(30);
    let stand = |p| fake.model().stands.get(&Partition(p)).copied().unwrap_or(0);
    let stands = || (0..PARTITIONS).map(stand).collect::<Vec<_>>();
    while stands() != expected {
        running.turn().unwrap();
        running.move_not_before = Instant::now(); // no pause makes a difference to a model
        assert!(Instant::now() < deadline, "{:?} is not {expected:?}", stands());
    }
}

/// What stands before the first record of each partition that goes to `sick`.
fn before(sick: Partition) -> Vec<u64> {
    let target = |partition: Partition, offset: u64| {
        let key = format!("order-{partition}-{offset}");
        if is_bad(offset) {
            return partition_of(key.as_bytes(), PARTITIONS);
        }
        home_of(PaymentId::derive(&MerchantId::default(), &IdempotencyKey::parse(&key).unwrap()), PARTITIONS)
    };
    let first_sick = |partition| (0..EACH).find(|offset| target(partition, *offset) == sick).unwrap();
    let before: Vec<u64> = (0..PARTITIONS).map(|p| first_sick(Partition(p))).collect();
    assert!(before.iter().any(|moved| *moved > 0), "something stands before it: {before:?}");
    before
}

#[test]
fn a_partition_that_takes_no_records_holds_up_only_what_stands_behind_them() {
    let directory = tempfile::tempdir().unwrap();
    let (journal, view) = view(directory.path());
    let (mut running, fake) = running(1, 0, &journal, &view);
    let sick = Partition(1);
    fake.model().sick = Some(sick);
    turn_until(&mut running, &fake, &before(sick));

    fake.model().sick = None;
    running.targets = Targets::default(); // its time is over
    turn_until(&mut running, &fake, &[EACH; PARTITIONS as usize]);
}

#[test]
fn a_partition_that_is_known_to_take_no_records_is_not_tried() {
    let directory = tempfile::tempdir().unwrap();
    let (journal, view) = view(directory.path());
    let (mut running, fake) = running(1, 0, &journal, &view);
    let sick = Partition(1);
    (fake.model().sick, fake.model().told) = (Some(sick), true);
    turn_until(&mut running, &fake, &before(sick));
    assert_eq!(fake.model().tried, 0);

    fake.model().sick = None;
    turn_until(&mut running, &fake, &[EACH; PARTITIONS as usize]);
}

/// However long the recycling took: the new producer does not begin with what the old one failed at.
#[test]
fn a_culprit_is_left_out_by_the_next_producer() {
    let directory = tempfile::tempdir().unwrap();
    let (journal, view) = view(directory.path());
    let (mut running, fake) = running(1, 0, &journal, &view);
    let sick = Partition(1);
    (fake.model().sick, fake.model().sick_fate) = (Some(sick), Fate::Recycle);
    while running.in_doubt.is_none() {
        running.turn().unwrap();
    }
    // As if a stuck id had been waited for.
    running.targets.left_out.values_mut().for_each(|until| *until = Instant::now());
    turn_until(&mut running, &fake, &before(sick));
    assert_eq!(fake.model().tried, 1);
}

/// A topic that was made again hands out records at smaller offsets than those that still wait.
#[test]
fn a_topic_that_begins_anew_is_moved_on_from_its_beginning() {
    let directory = tempfile::tempdir().unwrap();
    let (journal, view) = view(directory.path());
    for (seed, in_doubt) in (0..12).map(|seed| (seed, seed > 0)) {
        let (mut running, fake) = running(seed, 0, &journal, &view);
        let anew = Partition(1);
        fake.model().offered = BTreeSet::from([anew]);
        fake.model().stands.insert(anew, 100);
        running.turn().unwrap();
        running.listen().unwrap();
        fake.model().news = (100..106).map(|offset| Incoming::Record(record(anew, offset))).collect();
        running.listen().unwrap();
        if in_doubt {
            // Moved on or not, nobody knows when the topic begins anew.
            fake.model().trouble = 100;
            while running.in_doubt.is_none() {
                running.move_on().unwrap();
                running.move_not_before = Instant::now();
            }
            fake.model().trouble = 0;
        }
        fake.model().read.insert(anew, 0);
        fake.model().news = vec![Incoming::Gone { partition: anew, missing: None }];
        running.listen().unwrap();
        turn_until(&mut running, &fake, &[0, EACH, 0]);
        let Model { events, letters, .. } = &*fake.model();
        let moved = |of: &[Position]| of.iter().map(|p| p.offset.0).filter(|offset| *offset < EACH).collect::<Vec<_>>();
        let all = |bad: bool| (0..EACH).filter(|offset| is_bad(*offset) == bad).collect::<Vec<_>>();
        assert_eq!((moved(events), moved(letters)), (all(false), all(true)), "seed {seed}");
        assert!(
            in_doubt || events.iter().chain(letters).all(|p| p.offset.0 < EACH),
            "the old ones are not there any more"
        );
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]
    #[test]
    fn each_request_is_moved_on_once_whatever_happens(seed: u64) {
        static BED: std::sync::OnceLock<(tempfile::TempDir, Arc<dyn Journal>, View)> = std::sync::OnceLock::new();
        let (_, journal, view) = BED.get_or_init(|| {
            let directory = tempfile::tempdir().unwrap();
            let (journal, view) = view(directory.path());
            (directory, journal, view)
        });
        let (mut running, fake) = running(seed, 20, journal, view);
        turn_until(&mut running, &fake, &[EACH; PARTITIONS as usize]);
        let Model { events, letters, .. } = &*fake.model();
        for partition in (0..PARTITIONS).map(Partition) {
            let of = |moved: &[Position]| -> Vec<u64> {
                moved.iter().filter(|p| p.partition == partition).map(|p| p.offset.0).collect()
            };
            let all = |bad: bool| -> Vec<u64> { (0..EACH).filter(|offset| is_bad(*offset) == bad).collect() };
            prop_assert_eq!((of(events), of(letters)), (all(false), all(true)), "seed {}", seed);
        }
    }
}

#[path = "driver_held_tests.rs"]
mod held;
