//! What the ids of a registry mean, as far as it has said, and which of them somebody waits for. Asks nobody: whoever reads
//! looks here, at no other's pace, and says what it wants; an asker of the registry (`schema/registry/asker.rs`) learns it.
//!
//! What an id means never changes, once the registry has said it. That there is no such id may change: it is a verdict only on
//! what was read before the registry was asked.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, OnceLock, PoisonError, RwLock};
use std::time::{Duration, Instant};

use tokio::sync::Notify;

use crate::holding::RefusedIds;
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
/// So long an id is asked for after whoever inquired has gone: who repeats the inquiry finds what came meanwhile.
const INQUIRY_KEPT: Duration = Duration::from_secs(60);
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
    /// The registry has no such id.
    Missing {
        /// When it was asked first, of the times that this was said.
        first: Instant,
        /// It was asked on behalf of an event. What was said because of a request is no verdict on one that comes later: ids are
        /// given one after the other, and whoever makes up the next ones would have them believed to be missing.
        of_event: bool,
    },
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

/// What is known of an id by whoever has to decide about it.
#[derive(Clone, Debug)]
pub(super) enum Standing {
    Known,
    /// There was no answer, and this came instead.
    NoWord(NoWord),
    /// Nobody has asked, or the first answer is not there yet.
    Unasked,
}

/// What came in place of an answer.
#[derive(Clone, Debug)]
pub struct NoWord {
    pub reason: Arc<str>,
    /// The registry answers for other ids: it is this one alone of which it says nothing.
    pub alone: bool,
}

/// A question to the registry.
#[derive(Clone, Debug)]
struct Want {
    not_before: Instant,
    /// How often it had no answer.
    away: u32,
    /// What came instead, the last time.
    no_word: Option<NoWord>,
    /// When it was asked, as it was said first that there is no such id.
    missed: Option<Instant>,
    /// When that was, or that there is none was said once more.
    heard: Option<Instant>,
    /// A partition has halted there: it is asked until it has a meaning.
    lasting: bool,
    /// It was wanted for an inquiry alone, and since then nobody waits for it.
    left: Option<Instant>,
}

impl Want {
    fn new(now: Instant, lasting: bool) -> Self {
        Self { not_before: now, away: 0, no_word: None, missed: None, heard: None, lasting, left: None }
    }
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
        let useless = |meaning: &Meaning| matches!(meaning, Meaning::Missing { .. } | Meaning::Other(_));
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
    refused: OnceLock<RefusedIds>,
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
            refused: OnceLock::new(),
        }
    }

    /// What operators have refused is said there. Heard once, as a process has one control log.
    pub fn heed(&self, refused: RefusedIds) {
        drop(self.refused.set(refused));
    }

    /// No request waits for this id: so an operator has said.
    pub fn is_refused(&self, id: u32) -> bool {
        self.refused.get().is_some_and(|refused| refused.contains(id))
    }

    pub fn asking(&self) -> Asking {
        self.asking
    }

    /// What is known of this id. Where others wait for the registry, `None` only means that there is none.
    pub fn meaning(&self, id: u32) -> Option<Meaning> {
        match self.known(id) {
            None if self.asking != Asking::Nobody && id > ID_MAX => {
                Some(Meaning::Missing { first: Instant::now(), of_event: true })
            }
            None if self.asking == Asking::First => Some(self.wait(id)),
            known => known,
        }
    }

    /// How much was learnt so far: as long as this stays the same, nothing means anything else.
    pub fn learnt(&self) -> u64 {
        self.learnt.load(Ordering::Acquire)
    }

    /// Has the registry asked. `lasting`: until it has a meaning, and not only until there is an answer.
    /// `false` if it is asked already, or nobody is there to be asked.
    pub fn want(&self, id: u32, lasting: bool) -> bool {
        if self.asking == Asking::Nobody || id > ID_MAX {
            return false;
        }
        let mut wanted = lock(&self.wanted);
        let is_new = !wanted.contains_key(&id);
        let want = wanted.entry(id).or_insert_with(|| Want::new(Instant::now(), lasting));
        want.left = None;
        if lasting && !want.lasting {
            (want.lasting, want.missed) = (true, None);
        }
        drop(wanted);
        self.bell.notify_one();
        is_new
    }

    /// What is known of it, or has come instead of an answer. Requests do not take it that there is no such id for long: as
    /// long as the registry is asked again, that was no verdict.
    pub fn standing(&self, id: u32) -> Standing {
        let wanted = lock(&self.wanted);
        match (self.known(id), wanted.get(&id)) {
            _ if id > ID_MAX => Standing::Known,
            (Some(Meaning::Missing { .. }) | None, Some(Want { no_word: Some(no_word), .. })) => {
                Standing::NoWord(no_word.clone())
            }
            (Some(Meaning::Missing { .. }), Some(want)) if !want.lasting => Standing::Unasked,
            (Some(_), _) => Standing::Known,
            (None, _) => Standing::Unasked,
        }
    }

    /// Has the registry asked now, whatever it has said before. From when on an answer is one to this; and whether nobody else
    /// wants to know.
    pub fn inquire(&self, id: u32) -> (Instant, bool) {
        let now = Instant::now();
        if id > ID_MAX {
            return (now, false);
        }
        let mut wanted = lock(&self.wanted);
        let is_new = !wanted.contains_key(&id);
        let want = wanted.entry(id).or_insert_with(|| Want::new(now, false));
        let left = want.left.take();
        // That the registry was away meanwhile is no answer for whoever has seen to it.
        let is_late = left.is_some_and(|left| want.heard.is_some_and(|at| at >= left));
        let is_answer = want.no_word.as_ref().is_some_and(|no_word| no_word.alone);
        let since = left.filter(|_| is_late && is_answer).unwrap_or(now);
        if since == now {
            want.not_before = want.not_before.min(now);
        }
        drop(wanted);
        self.bell.notify_one();
        (since, is_new || left.is_some())
    }

    /// What has come of an inquiry; `None` as long as nothing has. Unlike with [`Self::standing`], what was known before is
    /// nothing.
    pub fn heard_since(&self, id: u32, since: Instant) -> Option<Standing> {
        let wanted = lock(&self.wanted);
        match wanted.get(&id) {
            _ if id > ID_MAX => Some(Standing::Known),
            Some(want) if want.heard.is_none_or(|at| at < since) => None,
            Some(want) => Some(want.no_word.clone().map_or(Standing::Known, Standing::NoWord)),
            None => Some(self.known(id).map_or(Standing::Unasked, |_| Standing::Known)),
        }
    }

    /// Whoever inquired has gone: soon nobody wants to know any more, but for a partition that has halted there.
    pub fn leave(&self, id: u32) {
        if let Some(want) = lock(&self.wanted).get_mut(&id).filter(|want| !want.lasting) {
            want.left = Some(Instant::now());
        }
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
        let mut wanted = lock(&self.wanted);
        wanted.retain(|_, want| want.left.is_none_or(|left| left.elapsed() < INQUIRY_KEPT));
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
            (want.not_before, want.away, want.no_word, want.missed) = (asked + pause, 0, None, Some(first));
            want.heard = None;
            return;
        }
        let of_event = want.lasting || self.asking == Asking::First;
        if want.lasting {
            (want.not_before, want.away, want.no_word, want.missed) = (asked + ASK_AGAIN, 0, None, Some(asked));
            want.heard = Some(Instant::now());
        } else {
            wanted.remove(&id);
        }
        self.tell(|known| known.insert(id, Meaning::Missing { first, of_event }, 0));
    }

    /// There was no answer, but this. How long until it is asked again.
    pub fn away(&self, id: u32, no_word: NoWord) -> Duration {
        let mut wanted = lock(&self.wanted);
        let Some(want) = wanted.get_mut(&id) else { return Duration::ZERO };
        if !want.lasting && self.is_refused(id) {
            wanted.remove(&id); // it was to be known for the sake of requests that wait no longer
            return Duration::ZERO;
        }
        let pause = AWAY_PAUSE.saturating_mul(1 << want.away.min(10)).min(AWAY_PAUSE_MAX);
        let now = Instant::now();
        (want.not_before, want.heard) = (now + pause, Some(now));
        (want.away, want.no_word) = (want.away + 1, Some(no_word));
        pause
    }

    /// An id that the registry has explained already: does it answer for that?
    pub fn explained(&self) -> Option<u32> {
        let known = self.meanings.read().unwrap_or_else(PoisonError::into_inner);
        let heard = known.heard.iter().filter(|(_, (meaning, _))| !matches!(meaning, Meaning::Missing { .. }));
        known.pinned.keys().min().or_else(|| heard.map(|(id, _)| id).min()).copied()
    }

    /// While the wants are held: whoever waits looks while it holds them.
    fn tell(&self, what: impl FnOnce(&mut Meanings)) {
        what(&mut self.meanings.write().unwrap_or_else(PoisonError::into_inner));
        self.learnt.fetch_add(1, Ordering::AcqRel);
        self.heard.notify_all();
    }
}

#[cfg(test)]
#[path = "ids_tests.rs"]
mod tests;
