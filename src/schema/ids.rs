//! What the ids of a registry mean, as far as it has said, and which of them somebody waits for. Asks nobody: whoever reads
//! looks here, at no other's pace, and says what it wants; an asker of the registry (`schema/registry/asker.rs`) learns it.
//!
//! What an id means never changes, once the registry has said it. That there is no such id may change: it is a verdict only on
//! what was read before the registry was asked.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError, RwLock};
use std::time::{Duration, Instant};

use tokio::sync::Notify;

use crate::lock::lock;

/// The largest id that a registry gives: it is an `int` of Java's. Of a larger one some registry says 404, as of an address that
/// it does not have, and that would never be a verdict.
const ID_MAX: u32 = i32::MAX as u32;
/// Ids that are remembered beside those that a process knew at its start, and bytes of schemas that requests are read by, as
/// text. Past either, what is of no use is forgotten first: whoever makes up ids, or schemas, makes us ask again and no more.
const KEPT_MAX: usize = 10_000;
const KEPT_BYTES_MAX: usize = 8 * 1024 * 1024;
/// So much room is made at once, of a whole, so that not every id that comes has all of them looked at.
const ROOM: usize = 10;
/// That there is no such id is believed when the registry has said so twice, this far apart: its nodes copy from each other.
const LOOK_AGAIN: Duration = Duration::from_secs(1);
/// The same while a node of it does not answer: those that do may not have been able to copy from it.
const LOOK_AGAIN_UNSURE: Duration = Duration::from_secs(60);
/// How often a halted partition has the registry asked again for an id that it did not have.
const ASK_AGAIN: Duration = Duration::from_secs(60);
/// After a question that had no answer.
const AWAY_PAUSE: Duration = Duration::from_millis(250);
const AWAY_PAUSE_MAX: Duration = Duration::from_secs(15);
/// How often whoever waits for an answer looks for itself.
const TURN: Duration = Duration::from_millis(500);

/// What an id means.
#[derive(Clone, Debug)]
pub(super) enum Meaning {
    /// The released schema of an event, by its place among them.
    Event(usize),
    /// Whoever writes by this schema asks for a payment.
    Request(Arc<serde_avro_fast::Schema>),
    /// A schema that is neither, and why.
    Other(Arc<str>),
    /// The registry has no such id; when it was asked first, of the times that this was said.
    Missing(Instant),
}

/// Who hears of an id that is not known yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Asking {
    /// Nobody: there is no registry.
    Nobody,
    /// The registry, while others go on: whoever wants to know looks again.
    Meanwhile,
    /// The registry, and whoever wants to know waits, for as long as it takes.
    First,
}

/// A question to the registry.
#[derive(Clone, Copy, Debug)]
struct Want {
    not_before: Instant,
    /// How often it had no answer.
    away: u32,
    /// When it was asked, as it was said first that there is no such id.
    missed: Option<Instant>,
    /// A partition has halted there: it is asked until it has a meaning.
    lasting: bool,
}

/// What is known.
#[derive(Default)]
struct Meanings {
    /// From the start on, and never forgotten: as many as were released.
    pinned: HashMap<u32, Meaning>,
    /// With the bytes that each stands for.
    heard: HashMap<u32, (Meaning, usize)>,
    bytes: usize,
}

impl Meanings {
    fn get(&self, id: u32) -> Option<&Meaning> {
        self.pinned.get(&id).or_else(|| self.heard.get(&id).map(|(meaning, _)| meaning))
    }

    fn insert(&mut self, id: u32, meaning: Meaning, bytes: usize) {
        if self.pinned.contains_key(&id) {
            return; // it means what it meant
        }
        let bytes = if matches!(meaning, Meaning::Request(_)) { bytes } else { 0 };
        self.forget(id);
        self.make_room(bytes);
        self.bytes += bytes;
        self.heard.insert(id, (meaning, bytes));
    }

    fn forget(&mut self, id: u32) {
        self.bytes -= self.heard.remove(&id).map_or(0, |(_, bytes)| bytes);
    }

    fn make_room(&mut self, bytes: usize) {
        if self.heard.len() < KEPT_MAX && self.bytes + bytes <= KEPT_BYTES_MAX {
            return;
        }
        let useless = |meaning: &Meaning| matches!(meaning, Meaning::Missing(_) | Meaning::Other(_));
        let stranger = |meaning: &Meaning| !matches!(meaning, Meaning::Event(_));
        for forgotten in [useless, stranger, |_: &Meaning| true] {
            self.heard.retain(|_, (meaning, _)| !forgotten(meaning));
            self.bytes = self.heard.values().map(|(_, bytes)| bytes).sum();
            let room = self.heard.len() <= KEPT_MAX - KEPT_MAX / ROOM;
            if room && self.bytes + bytes <= KEPT_BYTES_MAX - KEPT_BYTES_MAX / ROOM {
                return;
            }
        }
    }
}

pub(super) struct Ids {
    asking: Asking,
    meanings: RwLock<Meanings>,
    /// Counts what was learnt.
    learnt: AtomicU64,
    wanted: Mutex<BTreeMap<u32, Want>>,
    /// There is something new to ask.
    bell: Notify,
    /// There is something new to know.
    heard: Condvar,
}

impl Ids {
    pub fn new(asking: Asking) -> Self {
        Self {
            asking,
            meanings: RwLock::default(),
            learnt: AtomicU64::new(0),
            wanted: Mutex::default(),
            bell: Notify::new(),
            heard: Condvar::new(),
        }
    }

    pub fn asking(&self) -> Asking {
        self.asking
    }

    /// What is known of this id. Where others wait for the registry, `None` only means that there is none.
    pub fn meaning(&self, id: u32) -> Option<Meaning> {
        match self.known(id) {
            None if self.asking != Asking::Nobody && id > ID_MAX => Some(Meaning::Missing(Instant::now())),
            None if self.asking == Asking::First => Some(self.wait(id)),
            known => known,
        }
    }

    /// How much was learnt so far: as long as this stays the same, nothing means anything else.
    pub fn learnt(&self) -> u64 {
        self.learnt.load(Ordering::Acquire)
    }

    /// Has the registry asked. `lasting`: until it has a meaning, and not only until there is an answer.
    pub fn want(&self, id: u32, lasting: bool) {
        if self.asking == Asking::Nobody || id > ID_MAX {
            return;
        }
        let fresh = Want { not_before: Instant::now(), away: 0, missed: None, lasting };
        let mut wanted = lock(&self.wanted);
        let want = wanted.entry(id).or_insert(fresh);
        want.lasting |= lasting;
        drop(wanted);
        self.bell.notify_one();
    }

    fn known(&self, id: u32) -> Option<Meaning> {
        self.meanings.read().unwrap_or_else(PoisonError::into_inner).get(id).cloned()
    }

    fn wait(&self, id: u32) -> Meaning {
        let mut wanted = lock(&self.wanted);
        loop {
            if let Some(meaning) = self.known(id) {
                return meaning;
            }
            if !wanted.contains_key(&id) {
                drop(wanted);
                self.want(id, false);
                wanted = lock(&self.wanted);
                continue;
            }
            wanted = self.heard.wait_timeout(wanted, TURN).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    // === for whoever asks the registry ===

    /// The question that is due first, and when.
    pub fn next(&self) -> Option<(u32, Instant)> {
        let wanted = lock(&self.wanted);
        wanted.iter().map(|(id, want)| (*id, want.not_before)).min_by_key(|(_, not_before)| *not_before)
    }

    /// Returns when there is something new to ask.
    pub async fn bell(&self) {
        self.bell.notified().await;
    }

    /// It was known at the start.
    pub fn is(&self, id: u32, meaning: Meaning) {
        self.tell(|known| drop(known.pinned.insert(id, meaning)));
    }

    /// The registry has said what it means, by a schema of so many bytes.
    pub fn learn(&self, id: u32, meaning: Meaning, bytes: usize) {
        let mut wanted = lock(&self.wanted);
        wanted.remove(&id);
        self.tell(|known| known.insert(id, meaning, bytes));
    }

    /// The registry has said that there is no such id: all of its nodes, or those that answer.
    pub fn missed(&self, id: u32, asked: Instant, all: bool) {
        let mut wanted = lock(&self.wanted);
        let Some(want) = wanted.get_mut(&id) else { return };
        let (apart, pause) = if all { (LOOK_AGAIN, LOOK_AGAIN) } else { (LOOK_AGAIN_UNSURE, AWAY_PAUSE_MAX) };
        let first = want.missed.unwrap_or(asked);
        if want.missed.is_none() || asked.saturating_duration_since(first) < apart {
            *want = Want { not_before: asked + pause, away: 0, missed: Some(first), ..*want };
            return;
        }
        if want.lasting {
            *want = Want { not_before: asked + ASK_AGAIN, away: 0, missed: Some(asked), ..*want };
        } else {
            wanted.remove(&id);
        }
        self.tell(|known| known.insert(id, Meaning::Missing(first), 0));
    }

    /// There was no answer. How long until it is asked again.
    pub fn away(&self, id: u32) -> Duration {
        let mut wanted = lock(&self.wanted);
        let Some(want) = wanted.get_mut(&id) else { return Duration::ZERO };
        let pause = AWAY_PAUSE.saturating_mul(1 << want.away.min(10)).min(AWAY_PAUSE_MAX);
        *want = Want { not_before: Instant::now() + pause, away: want.away + 1, ..*want };
        pause
    }

    /// While the wants are held: whoever waits looks while it holds them.
    fn tell(&self, what: impl FnOnce(&mut Meanings)) {
        what(&mut self.meanings.write().unwrap_or_else(PoisonError::into_inner));
        self.learnt.fetch_add(1, Ordering::AcqRel);
        self.heard.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn due(ids: &Ids) -> Option<u32> {
        ids.next().filter(|(_, at)| *at <= Instant::now()).map(|(id, _)| id)
    }

    #[test]
    fn an_id_is_asked_for_once_and_known_from_then_on() {
        let ids = Ids::new(Asking::Meanwhile);
        assert!(ids.meaning(7).is_none() && ids.next().is_none(), "to look is not to ask");
        ids.want(7, false);
        ids.want(7, false);
        assert_eq!(due(&ids), Some(7));
        ids.learn(7, Meaning::Event(2), 9);
        assert!(matches!(ids.meaning(7), Some(Meaning::Event(2))));
        assert_eq!((ids.next(), ids.learnt()), (None, 1));
    }

    #[test]
    fn that_there_is_none_is_believed_when_it_was_said_twice() {
        let (ids, first) = (Ids::new(Asking::Meanwhile), Instant::now());
        ids.want(7, false);
        ids.missed(7, first, true);
        assert!(ids.meaning(7).is_none());
        assert_eq!(ids.next(), Some((7, first + LOOK_AGAIN)));
        ids.missed(7, first + LOOK_AGAIN, true);
        let said = ids.meaning(7);
        assert!(
            matches!(said, Some(Meaning::Missing(at)) if at == first),
            "of what was read before the first: {said:?}"
        );
        assert_eq!(ids.next(), None, "and is asked no more");
    }

    #[test]
    fn one_node_alone_is_not_believed_so_soon() {
        let (ids, first) = (Ids::new(Asking::Meanwhile), Instant::now());
        ids.want(7, false);
        for n in 0..4 {
            assert!(ids.meaning(7).is_none(), "{n}");
            ids.missed(7, first + AWAY_PAUSE_MAX * n, false);
            assert_eq!(ids.next(), Some((7, first + AWAY_PAUSE_MAX * (n + 1))));
        }
        ids.missed(7, first + LOOK_AGAIN_UNSURE, false);
        assert!(matches!(ids.meaning(7), Some(Meaning::Missing(at)) if at == first));
        // The others are back, and do not have it either.
        ids.want(8, false);
        ids.missed(8, first, false);
        ids.missed(8, first + AWAY_PAUSE_MAX, true);
        assert!(matches!(ids.meaning(8), Some(Meaning::Missing(at)) if at == first));
    }

    #[test]
    fn a_halted_partition_has_it_asked_again_and_again() {
        let (ids, at) = (Ids::new(Asking::Meanwhile), Instant::now());
        ids.want(7, false);
        ids.want(7, true);
        ids.missed(7, at, true);
        let again = at + LOOK_AGAIN;
        ids.missed(7, again, true);
        assert_eq!(ids.next(), Some((7, again + ASK_AGAIN)));
        ids.missed(7, again + ASK_AGAIN, true);
        assert_eq!(ids.next(), Some((7, again + ASK_AGAIN * 2)));
        assert!(matches!(ids.meaning(7), Some(Meaning::Missing(at)) if at == again));
        ids.learn(7, Meaning::Event(0), 9);
        assert_eq!(ids.next(), None);
    }

    #[test]
    fn a_question_without_an_answer_is_asked_less_and_less_often_and_says_nothing() {
        let ids = Ids::new(Asking::Meanwhile);
        ids.want(7, false);
        let pauses: Vec<Duration> = (0..10).map(|_| ids.away(7)).collect();
        assert_eq!((pauses[0], pauses[1], pauses[9]), (AWAY_PAUSE, AWAY_PAUSE * 2, AWAY_PAUSE_MAX));
        assert!(ids.meaning(7).is_none() && due(&ids).is_none());
        ids.want(8, false);
        assert_eq!(due(&ids), Some(8), "another one is asked at once");
    }

    fn request() -> Meaning {
        static SCHEMA: std::sync::LazyLock<Arc<serde_avro_fast::Schema>> =
            std::sync::LazyLock::new(|| Arc::new(r#""int""#.parse().unwrap()));
        Meaning::Request(Arc::clone(&SCHEMA))
    }

    #[test]
    fn what_others_made_up_drives_out_nothing_that_is_of_use() {
        let (ids, others) = (Ids::new(Asking::Meanwhile), 10..10 + 3 * KEPT_MAX as u32);
        ids.is(1, request());
        ids.learn(2, request(), 5_000);
        ids.learn(3, Meaning::Event(0), 5_000);
        for id in others {
            let meaning = if id % 2 == 0 { Meaning::Missing(Instant::now()) } else { Meaning::Other("none".into()) };
            ids.learn(id, meaning, 5_000);
        }
        assert!([1, 2, 3].into_iter().all(|id| ids.known(id).is_some()));
        assert!(ids.known(10).is_none());
        assert!(ids.meanings.read().unwrap().heard.len() <= KEPT_MAX);
    }

    #[test]
    fn schemas_of_others_have_a_bound_in_bytes_and_what_was_known_at_the_start_stays() {
        let (ids, large) = (Ids::new(Asking::Meanwhile), 64 * 1024);
        ids.is(1, request());
        ids.learn(2, Meaning::Event(0), large);
        for id in 10..10 + 3 * (KEPT_BYTES_MAX / large) as u32 {
            ids.learn(id, request(), large);
            assert!(ids.meanings.read().unwrap().bytes <= KEPT_BYTES_MAX && ids.known(id).is_some());
        }
        assert!(ids.known(1).is_some() && ids.known(2).is_some() && ids.known(10).is_none());
        // Texts that differ in nothing that counts are all of one event: they have a bound as well.
        for id in 10_000..10_000 + 2 * KEPT_MAX as u32 {
            ids.learn(id, Meaning::Event(0), 0);
        }
        let known = ids.meanings.read().unwrap();
        assert!(known.heard.len() <= KEPT_MAX && known.get(1).is_some());
    }

    #[test]
    fn what_is_larger_than_any_id_is_missing_and_nobody_is_asked() {
        for asking in [Asking::Meanwhile, Asking::First] {
            let (ids, before) = (Ids::new(asking), Instant::now());
            for id in [ID_MAX + 1, u32::MAX] {
                ids.want(id, true);
                assert!(matches!(ids.meaning(id), Some(Meaning::Missing(at)) if at >= before), "{id}");
            }
            assert_eq!(ids.next(), None);
        }
        let ids = Ids::new(Asking::Meanwhile);
        ids.want(ID_MAX, false);
        assert_eq!(due(&ids), Some(ID_MAX));
    }

    #[test]
    fn without_a_registry_nothing_is_asked() {
        let ids = Ids::new(Asking::Nobody);
        ids.want(7, true);
        assert!(ids.next().is_none() && ids.meaning(7).is_none());
    }

    #[test]
    fn who_reads_alone_waits_for_the_answer() {
        let ids = Arc::new(Ids::new(Asking::First));
        let (reading, theirs) = (Arc::clone(&ids), Arc::clone(&ids));
        let reader = std::thread::spawn(move || reading.meaning(7));
        while theirs.next().is_none() {
            std::thread::yield_now();
        }
        ids.learn(7, Meaning::Event(3), 9);
        assert!(matches!(reader.join().unwrap(), Some(Meaning::Event(3))));
    }
}
