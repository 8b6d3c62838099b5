//! What has just happened to whom, for all who follow it: read and written once, and not once for each of ten thousand.
//!
//! It is kept for as long as two follow the same, a few frames for each of them, and where many do, what comes next for all who
//! have been told the same. Who is further behind looks it up by itself; so this decides how much it costs to tell, never what
//! is told.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, Weak};

use super::Types;
use super::feed::Frame;
use super::step::Step;
use crate::journal::{LogId, Position};
use crate::lock::lock;
use crate::projection::{Built, Changes, Offsets, Payments, Scope, View, Watch};
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
/// Steps that are kept for many: one for each set of types that is asked for, most of the time.
const STEPS_MAX: usize = 4;

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
    /// Sees what is folded past `until`, unless `more` is there already.
    watch: Watch,
    more: bool,
    read_from: Weak<Built<Payments>>,
    since: Offsets,
    until: Offsets,
    frames: VecDeque<(Position, Arc<Frame>)>,
    /// Made of these, for those who come next.
    steps: VecDeque<Arc<Step>>,
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
struct Fresh {
    /// Each partition in order.
    frames: Vec<(Position, Arc<Frame>)>,
    /// Where to go on: past these, and past what was not asked for.
    next: Offsets,
    /// There is more of what is kept.
    more: bool,
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

    pub(super) fn is_alone(&self) -> bool {
        self.company() < 2
    }

    /// How many follow it, this one among them.
    fn company(&self) -> usize {
        self.recent.as_ref().map_or(0, Arc::strong_count)
    }

    /// What is past `cursor` and of these types, at most `max` frames, and whether there is more, or may be. `None` if that is
    /// not kept.
    pub(super) fn after(
        &self,
        view: &View,
        cursor: &Arc<Offsets>,
        types: &Types,
        max: usize,
    ) -> Result<Option<(Arc<Step>, bool)>, StoreError> {
        let Some(recent) = self.recent.as_ref().filter(|_| !self.is_alone()) else { return Ok(None) };
        let mut kept = lock(&recent.0);
        let now = || Kept::from_now(view, &self.scope, Arc::clone(&self.recents.bytes));
        let kept = kept.get_or_insert_with(now);
        if kept.watch.has_changed() && !kept.is_of(view) {
            *kept = now(); // another store is read, and the rows of this one may have been damaged
        }
        // Most of the time nothing of this has been folded since somebody else was told: then this is all of the work.
        if let Some(step) = kept.steps.iter().find(|step| step.follows(cursor, types)) {
            return Ok(Some((Arc::clone(step), !kept.is_all())));
        }
        if !cursor.covers(&kept.since) {
            return Ok(None);
        }
        let fresh = kept.after(cursor, types, max);
        let all = kept.is_all();
        if !all && fresh.frames.is_empty() {
            return self.read_on(view, kept, cursor, types, max);
        }
        let more = fresh.more || !all;
        Ok(Some((kept.step(cursor, types, fresh, view.log_id(), self.company()), more)))
    }

    /// Nothing that is kept is left for this one: it reads on for all.
    fn read_on(
        &self,
        view: &View,
        kept: &mut Kept,
        cursor: &Arc<Offsets>,
        types: &Types,
        max: usize,
    ) -> Result<Option<(Arc<Step>, bool)>, StoreError> {
        let room = Room::of(self.company());
        // Before the read, so that nothing is folded unseen in between.
        kept.watch.see();
        kept.more = true;
        let max_read = READ_MAX.min(room.frames);
        let changes = view.news(&self.scope, &kept.watch, &|_| true, &kept.until, max_read)?;
        kept.more = changes.more;
        kept.take(changes, view.log_id(), room);
        if !cursor.covers(&kept.since) {
            // There was no room for what it needs.
            return Ok(None);
        }
        let fresh = kept.after(cursor, types, max);
        let more = fresh.more || !kept.is_all();
        if more && fresh.frames.is_empty() {
            // Much that was not asked for: that is quicker to look past than to keep.
            return Ok(None);
        }
        Ok(Some((kept.step(cursor, types, fresh, view.log_id(), self.company()), more)))
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
    fn from_now(view: &View, scope: &Scope, of_all: Arc<AtomicUsize>) -> Self {
        let watch = view.watch(scope); // before anything is read
        let built = view.live().built();
        let (read_from, start) = (Arc::downgrade(&built), built.progress.folded());
        let (frames, steps) = (VecDeque::new(), VecDeque::new());
        Self { watch, more: false, read_from, since: start.clone(), until: start, frames, steps, bytes: 0, of_all }
    }

    /// Is it what the store says that is read now?
    fn is_of(&self, view: &View) -> bool {
        self.read_from.as_ptr() == Arc::as_ptr(&view.live().built())
    }

    /// Has nothing of this been folded past what is kept?
    fn is_all(&self) -> bool {
        !self.more && !self.watch.has_changed()
    }

    /// What was read past `until`, and of what is kept as much as there is room for.
    fn take(&mut self, changes: Changes, log: LogId, room: Room) {
        let frames: Vec<_> =
            changes.entries.iter().map(|entry| (entry.position, Arc::new(Frame::new(entry, log)))).collect();
        self.until = changes.next;
        if !frames.is_empty() {
            self.forget_steps();
        }
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

    /// From `cursor` on. Kept, if many will come for it.
    fn step(&mut self, cursor: &Arc<Offsets>, types: &Types, fresh: Fresh, log: LogId, followers: usize) -> Arc<Step> {
        let is_whole = !fresh.more;
        let step = Arc::new(Step::new(cursor, types, fresh.frames, fresh.next, log));
        if followers < FEW || !is_whole || step.blocks.is_empty() {
            return step;
        }
        if self.steps.len() >= STEPS_MAX
            && let Some(oldest) = self.steps.pop_front()
        {
            self.discount(oldest.bytes());
        }
        let (room, bytes) = (Room::of(followers), step.bytes());
        if self.bytes + bytes <= room.bytes && self.of_all.load(Ordering::Relaxed) + bytes <= room.of_all {
            self.count(bytes);
            self.steps.push_back(Arc::clone(&step));
        }
        step
    }

    fn forget_steps(&mut self) {
        while let Some(step) = self.steps.pop_front() {
            self.discount(step.bytes());
        }
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
#[path = "recent_tests.rs"]
mod tests;
