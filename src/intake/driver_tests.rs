//! The loop over a model of the log that aborts, leaves in doubt, takes partitions away and gives them back, in any order
//! that a seed says: whatever happens, each request is moved on exactly once, in the order of its partition.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard};

use proptest::prelude::*;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::*;
use crate::clock::Clocks;
use crate::intake::Bounds;
use crate::journal::embedded::EmbeddedJournal;
use crate::journal::{Crossing, Journal, Offset, Passage, SourceRecord};
use crate::projection::{Folder, View};
use crate::schema::{Codec, RequestCodec};
use crate::store::Store;

const PARTITIONS: u32 = 3;
const EACH: u64 = 40;
const GOOD: &[u8] = br#"{"amount":1999,"currency":"EUR","customer_id":"cus_42","payment_method":"pm_card_visa"}"#;

/// What stands on the log, and what a member of the group sees of it.
struct Model {
    dice: StdRng,
    /// How likely each misfortune is, in percent. At last there are none, so that everything ends.
    trouble: u32,
    held: BTreeSet<Partition>,
    offered: BTreeSet<Partition>,
    /// The next offset to hand out, since the assignment.
    read: BTreeMap<Partition, u64>,
    /// Where the group stands.
    stands: BTreeMap<Partition, u64>,
    paused: BTreeSet<Partition>,
    in_doubt: bool,
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
        headers: Vec::new(),
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
        let codec = Codec::new().unwrap();
        for event in &passage.events {
            let crate::payment::EventData::PaymentInProgress(begun) = codec.decode(&event.value).unwrap().data else {
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
        let mut incoming = Vec::new();
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

    fn commit(&mut self, passage: &Passage) -> Result<(), TransactionError> {
        let crossing = self.1.clone();
        let mut model = self.model();
        assert!(!model.in_doubt, "nothing may be moved on before the group was asked");
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
    let codec = Arc::new(Codec::new().unwrap());
    let store = Store::open(&directory.join("store")).unwrap();
    let (_, view) = Folder::open(store, journal.as_ref(), codec, Clocks::system()).unwrap();
    (journal, view)
}

fn run(seed: u64, journal: &Arc<dyn Journal>, view: &View) -> (Vec<Position>, Vec<Position>) {
    let crossing = Crossing {
        requests: "p.requests".to_owned(),
        dead_letter_partitions: PARTITIONS,
        dead_letter_bytes_max: 1_000_000,
    };
    let model = Model {
        dice: StdRng::seed_from_u64(seed),
        trouble: 20,
        held: BTreeSet::new(),
        offered: (0..PARTITIONS).map(Partition).collect(),
        read: BTreeMap::new(),
        stands: BTreeMap::new(),
        paused: BTreeSet::new(),
        in_doubt: false,
        events: Vec::new(),
        letters: Vec::new(),
    };
    let fake = Fake(Arc::new(Mutex::new(model)), crossing);
    let intake = Intake {
        journal: Arc::clone(journal),
        view: view.clone(),
        codec: Arc::new(Codec::new().unwrap()),
        requests: RequestCodec::new().unwrap(),
        gateway: "simulator".to_owned(),
        bounds: Bounds { batch_max: 8, dead_letters_per_minute: 1_000_000 },
    };
    let mut running = Running::new(intake, Box::new(fake.clone()));
    let deadline = Instant::now() + Duration::from_secs(30);
    while fake.model().stands.values().sum::<u64>() < u64::from(PARTITIONS) * EACH {
        running.turn().unwrap();
        running.move_not_before = Instant::now(); // no pause makes a difference to a model
        assert!(Instant::now() < deadline, "seed {seed}: it does not end");
    }
    let model = fake.model();
    (model.events.clone(), model.letters.clone())
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
        let (events, letters) = run(seed, journal, view);
        for partition in (0..PARTITIONS).map(Partition) {
            let of = |moved: &[Position]| -> Vec<u64> {
                moved.iter().filter(|p| p.partition == partition).map(|p| p.offset.0).collect()
            };
            let all = |bad: bool| -> Vec<u64> { (0..EACH).filter(|offset| is_bad(*offset) == bad).collect() };
            prop_assert_eq!((of(&events), of(&letters)), (all(false), all(true)), "seed {}", seed);
        }
    }
}
