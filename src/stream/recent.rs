//! What has just happened to whom, for all who follow it: read and written once, and not once for each of ten thousand.
//!
//! It is kept for as long as two follow the same, a few frames for each of them. Who is further behind looks it up by itself;
//! so this decides how much it costs to tell, never what is told.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, Weak};

use super::Types;
use super::feed::Frame;
use crate::journal::{LogId, Position};
use crate::lock::lock;
use crate::projection::{Changes, Offsets, Scope, View};
use crate::store::StoreError;

/// What is kept of one scope: so much for each who follows it, and so much at most.
const EACH: Room = Room { frames: 4, bytes: 8 * 1024, of_all: OF_FEW_BYTES_MAX };
const SCOPE: Room = Room { frames: 64, bytes: 256 * 1024, of_all: ALL_BYTES_MAX };
/// What is kept of all scopes. Where there is more, everybody looks for himself; those whom few follow first, so that what is
/// kept of them, and was told long ago, does not keep out what many follow.
const ALL_BYTES_MAX: usize = 32 * 1024 * 1024;
const FEW: usize = 8;
const OF_FEW_BYTES_MAX: usize = ALL_BYTES_MAX / 2;
/// Frames that one reader reads for all, at most: the others wait for it.
const READ_MAX: usize = 16;

/// By what is followed. Nothing is in it that nobody follows.
#[derive(Default)]
pub struct Recents {
    scopes: Mutex<HashMap<Scope, Weak<Recent>>>,
    /// Of all that is kept.
    bytes: Arc<AtomicUsize>,
}

#[derive(Default)]
struct Recent(Mutex<Option<Kept>>);

/// Everything of one scope from `since` to `until`.
struct Kept {
    since: Offsets,
    until: Offsets,
    frames: VecDeque<(Position, Arc<Frame>)>,
    bytes: usize,
    of_all: Arc<AtomicUsize>,
}

#[derive(Clone, Copy)]
struct Room {
    frames: usize,
    bytes: usize,
    /// Of all scopes.
    of_all: usize,
}

/// One who follows a scope.
pub(super) struct Following {
    scope: Scope,
    /// `None` only while it is dropped.
    recent: Option<Arc<Recent>>,
    recents: Arc<Recents>,
}

/// What there is past a cursor.
pub(super) struct Fresh {
    /// Each partition in order.
    pub frames: Vec<(Position, Arc<Frame>)>,
    /// Where to go on: past these, and past what was not asked for.
    pub next: Offsets,
    /// There is more, or may be.
    pub more: bool,
}

impl Recents {
    pub(super) fn follow(self: &Arc<Self>, scope: Scope) -> Following {
        let mut all = lock(&self.scopes);
        let recent = all.get(&scope).and_then(Weak::upgrade).unwrap_or_else(|| {
            let recent = Arc::default();
            all.insert(scope.clone(), Arc::downgrade(&recent));
            recent
        });
        Following { scope, recent: Some(recent), recents: Arc::clone(self) }
    }
}

impl Following {
    pub(super) fn scope(&self) -> &Scope {
        &self.scope
    }

    /// What is past `cursor` and of these types, at most `max` frames. `None` if that is not kept.
    pub(super) fn after(
        &self,
        view: &View,
        cursor: &Offsets,
        types: &Types,
        max: usize,
    ) -> Result<Option<Fresh>, StoreError> {
        let Some(recent) = &self.recent else { return Ok(None) };
        let followers = Arc::strong_count(recent);
        if followers < 2 {
            return Ok(None);
        }
        let mut kept = lock(&recent.0);
        let kept = kept.get_or_insert_with(|| Kept::from(view.folded(), Arc::clone(&self.recents.bytes)));
        if !cursor.covers(&kept.since) {
            return Ok(None);
        }
        let fresh = kept.after(cursor, types, max);
        let all = view.has_folded_to(&kept.until);
        if all || !fresh.frames.is_empty() {
            return Ok(Some(Fresh { more: fresh.more || !all, ..fresh }));
        }
        // Nothing that is kept is left for this one: it reads on for all.
        let room = Room::of(followers);
        let changes = view.changes(&self.scope, &|_| true, &kept.until, READ_MAX.min(room.frames))?;
        let more = changes.more;
        kept.take(changes, view.log_id(), room);
        if !cursor.covers(&kept.since) {
            // There was no room for what it needs.
            return Ok(None);
        }
        let fresh = kept.after(cursor, types, max);
        if more && fresh.frames.is_empty() {
            // Much that was not asked for: that is quicker to look past than to keep.
            return Ok(None);
        }
        Ok(Some(Fresh { more: fresh.more || more, ..fresh }))
    }
}

impl Drop for Following {
    /// Let go under the lock, so that of two that leave at once the second sees that it is the last.
    fn drop(&mut self) {
        let mut all = lock(&self.recents.scopes);
        self.recent = None;
        let Some(left) = all.get(&self.scope).map(Weak::strong_count) else { return };
        if left == 0 {
            all.remove(&self.scope);
        } else if left == 1
            && let Some(recent) = all.get(&self.scope).and_then(Weak::upgrade)
        {
            *lock(&recent.0) = None;
        }
    }
}

impl Room {
    fn of(followers: usize) -> Self {
        let frames = EACH.frames.saturating_mul(followers).min(SCOPE.frames);
        let of_all = if followers < FEW { EACH.of_all } else { SCOPE.of_all };
        Self { frames, bytes: EACH.bytes.saturating_mul(followers).min(SCOPE.bytes), of_all }
    }
}

impl Kept {
    fn from(start: Offsets, of_all: Arc<AtomicUsize>) -> Self {
        Self { since: start.clone(), until: start, frames: VecDeque::new(), bytes: 0, of_all }
    }

    /// What was read past `until`, and of what is kept as much as there is room for.
    fn take(&mut self, changes: Changes, log: LogId, room: Room) {
        let frames: Vec<_> =
            changes.entries.iter().map(|entry| (entry.position, Arc::new(Frame::new(entry, log)))).collect();
        self.until = changes.next;
        for (position, frame) in frames {
            self.count(frame.text().len());
            self.frames.push_back((position, frame));
        }
        let full = |kept: &Self| {
            kept.frames.len() > room.frames
                || kept.bytes > room.bytes
                || kept.of_all.load(Ordering::Relaxed) > room.of_all
        };
        while full(self)
            && let Some((position, frame)) = self.frames.pop_front()
        {
            self.discount(frame.text().len());
            self.since.advance(position.next());
        }
    }

    fn after(&self, cursor: &Offsets, types: &Types, max: usize) -> Fresh {
        let mut fresh = Fresh { frames: Vec::new(), next: cursor.clone(), more: false };
        for (position, frame) in &self.frames {
            if position.offset < cursor.of(position.partition) {
                continue;
            }
            if types.has_name(frame.name) {
                if fresh.frames.len() >= max {
                    return Fresh { more: true, ..fresh };
                }
                fresh.frames.push((*position, Arc::clone(frame)));
            }
            fresh.next.advance(position.next());
        }
        self.until.positions().for_each(|position| fresh.next.advance(position));
        fresh
    }

    fn count(&mut self, bytes: usize) {
        self.bytes += bytes;
        self.of_all.fetch_add(bytes, Ordering::Relaxed);
    }

    fn discount(&mut self, bytes: usize) {
        self.bytes -= bytes;
        self.of_all.fetch_sub(bytes, Ordering::Relaxed);
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        self.of_all.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::{Recents, SCOPE, lock};
    use crate::payment::event::Private;
    use crate::payment::samples::{event, payment_id, retry};
    use crate::payment::{Event, EventData, MerchantId};
    use crate::projection::{Offsets, Scope};
    use crate::stream::feed::{Data, Frame, Read};
    use crate::stream::tests::{Growing, of};
    use crate::stream::wide::WideFeed;
    use crate::stream::{Start, Types};

    /// Reads until there is nothing more: what was told, with the ids.
    fn read(feed: &mut WideFeed) -> Vec<(Option<String>, Option<Arc<Frame>>)> {
        let mut told = Vec::new();
        while let Read::Blocks(blocks) | Read::Last(blocks) = feed.read().unwrap() {
            told.extend(blocks.into_iter().map(|block| match block.data {
                Data::Change(frame) => (block.id, Some(frame)),
                _ => (block.id, None),
            }));
        }
        told
    }

    fn texts(told: &[(Option<String>, Option<Arc<Frame>>)]) -> Vec<String> {
        told.iter().filter_map(|(_, frame)| Some(frame.as_ref()?.text().to_owned())).collect()
    }

    fn open(log: &Growing, recents: &Arc<Recents>, types: &Types) -> WideFeed {
        let scope = Scope { merchant: MerchantId::default(), customer: None };
        let cursor = Offsets::start(log.view.partitions()).encode(log.view.log_id());
        let start = Start { last_event_id: Some(cursor), at_least: None, reset: false, types: types.clone() };
        WideFeed::open(&log.view, recents.follow(scope), start).ok().unwrap()
    }

    fn events(n: usize) -> Vec<Event> {
        let key = format!("order-{n}");
        let again = Event { payment_id: payment_id(&key), ..event(1, retry(1)) };
        vec![of(&MerchantId::default(), &key), again]
    }

    /// Who reads after so many payments, of two events each, does not find all of it kept.
    const SELDOM: usize = SCOPE.frames;

    /// Those that read often, seldom, or only some of it: each is told what one is told who is alone.
    #[tokio::test]
    async fn who_follows_with_others_is_told_what_one_alone_is_told() {
        let directory = tempfile::tempdir().unwrap();
        let mut log = Growing::of_partitions(3, directory.path());
        let some = Types::listed("PaymentRetryScheduled").unwrap();
        let together: Arc<Recents> = Arc::default();
        let wishes = [
            (1, Types::default()),
            (1, some.clone()),
            (7, Types::default()),
            (SELDOM, Types::default()),
            (SELDOM, some),
        ];
        let mut feeds: Vec<_> = wishes.iter().map(|(_, types)| open(&log, &together, types)).collect();
        let mut alone: Vec<_> = wishes.iter().map(|(_, types)| open(&log, &Arc::default(), types)).collect();
        let mut told: Vec<[Vec<_>; 2]> = wishes.iter().map(|_| [Vec::new(), Vec::new()]).collect();
        for round in 1..=2 * SELDOM {
            log.grow(events(round)).await;
            let reads = |every: usize| round % every == 0 || round == 2 * SELDOM;
            for at in (0..wishes.len()).filter(|at| reads(wishes[*at].0)) {
                told[at][0].extend(read(&mut feeds[at]));
                told[at][1].extend(read(&mut alone[at]));
            }
        }
        for (at, wish) in wishes.iter().enumerate() {
            // Between partitions there is no order, and so ids differ; of one payment there is.
            let [mut with, mut without] = [0, 1].map(|which| texts(&told[at][which]));
            let of_last = |told: &[String]| {
                told.iter()
                    .filter(|text| text.contains(&payment_id(&format!("order-{}", 2 * SELDOM)).to_string()))
                    .cloned()
                    .collect::<Vec<_>>()
            };
            assert_eq!(of_last(&with), of_last(&without), "{wish:?}");
            with.sort();
            without.sort();
            assert!(with == without && with.len() >= 2 * SELDOM, "{wish:?}: {} and {}", with.len(), without.len());
            // Whoever comes back with the id of the last is told nothing of it again.
            let last = told[at][0].iter().rev().find_map(|(id, _)| id.clone()).unwrap();
            let start = Start { last_event_id: Some(last), at_least: None, reset: false, types: wish.1.clone() };
            let scope = Scope { merchant: MerchantId::default(), customer: None };
            let mut again = WideFeed::open(&log.view, together.follow(scope), start).ok().unwrap();
            assert!(texts(&read(&mut again)).is_empty(), "{wish:?}");
        }
    }

    /// More at once than is kept, and more than there is room for, read by turns.
    #[tokio::test]
    async fn what_there_is_no_room_for_is_told_all_the_same() {
        let all = Types::default();
        let some = Types::listed("PaymentInProgress").unwrap();
        for (followers, payments, description) in
            [(2, 40, 0), (5, 100, 0), (8, 200, 0), (2, 20, 15_000), (9, 30, 15_000)]
        {
            let directory = tempfile::tempdir().unwrap();
            let mut log = Growing::of_partitions(3, directory.path());
            let recents: Arc<Recents> = Arc::default();
            let types = |n: usize| if n % 3 == 2 { &some } else { &all };
            let mut feeds: Vec<_> = (0..followers).map(|n| open(&log, &recents, types(n))).collect();
            for n in 0..2 {
                log.grow(events(n)).await;
                feeds.iter_mut().for_each(|feed| assert!(!read(feed).is_empty()));
            }
            let described = |mut event: Event| {
                if let EventData::PaymentInProgress(data) = &mut event.data {
                    data.private = Private::plain(Some("x".repeat(description)), None);
                }
                event
            };
            log.grow((10..10 + payments).flat_map(events).map(described).collect()).await;
            let mut told: Vec<Vec<_>> = (0..followers).map(|_| Vec::new()).collect();
            let mut waiting = 0;
            while waiting < followers {
                waiting = 0;
                for (feed, told) in feeds.iter_mut().zip(&mut told) {
                    match feed.read().unwrap() {
                        Read::Blocks(blocks) | Read::Last(blocks) => {
                            told.extend(blocks.into_iter().filter_map(|block| match block.data {
                                Data::Change(frame) => Some(frame.text().to_owned()),
                                _ => None,
                            }))
                        }
                        _ => waiting += 1,
                    }
                }
            }
            for (n, mut told) in told.into_iter().enumerate() {
                let wanted = if types(n) == &all { 2 * payments } else { payments };
                let count = told.len();
                told.sort();
                told.dedup();
                assert_eq!((count, told.len()), (wanted, wanted), "{followers} followers, {payments} payments: {n}");
            }
            drop(feeds);
            assert_eq!(recents.bytes.load(std::sync::atomic::Ordering::Relaxed), 0, "nothing is left");
        }
    }

    #[tokio::test]
    async fn a_frame_is_written_once_and_kept_while_two_follow() {
        let directory = tempfile::tempdir().unwrap();
        let mut log = Growing::open(directory.path());
        let recents: Arc<Recents> = Arc::default();
        let [mut one, mut two] = [(); 2].map(|()| open(&log, &recents, &Types::default()));
        for n in 0..3 {
            log.grow(events(n)).await;
            let [of_one, of_two] = [read(&mut one), read(&mut two)];
            let pairs = of_one.iter().zip(&of_two).filter_map(|(a, b)| Some((a.1.as_ref()?, b.1.as_ref()?)));
            let same = pairs.filter(|(a, b)| Arc::ptr_eq(a, b)).count();
            // The first time each looks for itself: until then nobody had company.
            assert_eq!((of_one.len(), same), (2, if n == 0 { 0 } else { 2 }));
        }
        drop(two);
        let alone = lock(&recents.scopes).values().next().unwrap().upgrade().unwrap();
        assert!(lock(&alone.0).is_none(), "nothing is kept for one alone");
        drop((alone, one));
        assert!(lock(&recents.scopes).is_empty(), "nothing of what nobody follows");
    }
}
