//! The stream of several payments, a customer's or all of a merchant's: a cursor is the next offset of every partition.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use super::feed::{Block, Data, Frame, Read};
use super::recent::Following;
use super::step::Step;
use super::{Start, Types, malformed_id};
use crate::contract::{AtLeast, last_position, position_text};
use crate::http::Problem;
use crate::payment::{EventData, PaymentId};
use crate::projection::{BadOffsets, Entry, Offsets, Scope, View, Watch};
use crate::store::StoreError;

/// Frames read at once, at most: what a reader who has stopped may hold of them.
const READ_MAX: usize = 8;
/// The newest payments that a stream opens with.
const SNAPSHOTS_MAX: usize = 100;

pub(super) struct WideFeed {
    view: View,
    following: Following,
    types: Types,
    watch: Watch,
    /// What must be folded before anything is said.
    gate: Option<AtLeast>,
    reset: bool,
    opening: Option<Opening>,
    /// Up to where the client has everything; `None` before the snapshots.
    cursor: Option<Arc<Offsets>>,
    /// The cursor that the client was told last; `None` if that was none.
    given: Option<Arc<Offsets>>,
    /// All was read that had been folded when the watch was made: what is read now is what that tells of.
    current: bool,
    /// Versions that a snapshot already had although the cursor stands before them: not to be told again. Until it is empty
    /// no id is given, for a client that came back with it would be told them again.
    told: HashMap<PaymentId, u64>,
}

/// The newest payments, told before anything else. Of each only the id is kept until its turn has come.
struct Opening {
    /// From where changes go on. It was taken before anything was read, so that nothing is lost in between.
    cursor: Offsets,
    ids: VecDeque<PaymentId>,
    /// Where the search goes on; `None` from the newest.
    before: Option<Offsets>,
    found: bool,
}

impl WideFeed {
    pub(super) fn open(view: &View, following: Following, start: Start) -> Result<Self, Problem> {
        let decode = |text: String| Offsets::decode(&text, view.log_id(), view.partitions());
        let (cursor, reset) = match start.last_event_id.map(decode) {
            None => (None, start.reset),
            Some(Ok(cursor)) => (Some(Arc::new(cursor)), start.reset),
            Some(Err(BadOffsets::OtherLog)) => (None, true),
            Some(Err(BadOffsets::Malformed)) => return Err(malformed_id()),
        };
        Ok(Self {
            // Made before the first read, so that nothing happens unseen between the two.
            watch: view.watch(following.scope()),
            view: view.clone(),
            following,
            types: start.types,
            gate: start.at_least.filter(|at_least| !at_least.is_reached(view)),
            reset,
            opening: None,
            given: cursor.clone(),
            cursor,
            current: false,
            told: HashMap::new(),
        })
    }

    pub(super) fn read(&mut self) -> Result<Read, StoreError> {
        if self.gate.as_ref().is_some_and(|at_least| !at_least.is_reached(&self.view)) {
            return Ok(Read::Wait);
        }
        self.gate = None;
        match self.cursor.clone() {
            None => Ok(Read::Blocks(self.opening()?)),
            Some(cursor) => match self.recent(&cursor)? {
                Some((step, more)) => Ok(self.tell(step, more)),
                None => self.changes(&cursor),
            },
        }
    }

    /// The payments as they are, then the cursor from which changes go on: a piece of the search, or one payment. What a row
    /// already had beyond the cursor is noted, so that nothing is told twice.
    fn opening(&mut self) -> Result<Vec<Block>, StoreError> {
        let start = || Opening { cursor: self.view.folded(), ids: VecDeque::new(), before: None, found: false };
        let mut opening = self.opening.take().unwrap_or_else(start);
        let mut blocks = Vec::new();
        if std::mem::take(&mut self.reset) {
            blocks.push(Block::reset());
        }
        if !opening.found {
            opening.search(&self.view, self.following.scope())?;
        }
        if opening.found {
            blocks.extend(self.snapshot(&mut opening)?);
            if opening.ids.is_empty() {
                (self.cursor, self.current) = (Some(Arc::new(opening.cursor)), true);
                blocks.extend(self.moved());
                return Ok(blocks);
            }
        }
        self.opening = Some(opening);
        Ok(blocks)
    }

    fn snapshot(&mut self, opening: &mut Opening) -> Result<Option<Block>, StoreError> {
        let log = self.view.log_id();
        while let Some(id) = opening.ids.pop_front() {
            // Another store may be read by now, which has not come to this one yet: it is told as a change.
            let Some(row) = self.view.payment(id)? else { continue };
            let position = last_position(&row, self.view.partitions());
            if position.offset >= opening.cursor.of(position.partition) {
                self.told.insert(id, row.payment.version);
            }
            let next_cursor = || opening.before.as_ref().map(|before| before.encode(log));
            let last = opening.ids.is_empty().then(next_cursor);
            let data = Data::Snapshot { payment: Box::new(row.payment), at_least: position_text(log, position), last };
            return Ok(Some(Block { id: None, data }));
        }
        Ok(None)
    }

    /// What all are told alike: nothing of what a snapshot had is among it.
    fn recent(&self, cursor: &Arc<Offsets>) -> Result<Option<(Arc<Step>, bool)>, StoreError> {
        if !self.told.is_empty() {
            return Ok(None);
        }
        self.following.after(&self.view, cursor, &self.types, READ_MAX)
    }

    fn tell(&mut self, step: Arc<Step>, more: bool) -> Read {
        self.cursor = Some(Arc::clone(&step.to));
        if !step.blocks.is_empty() {
            self.given = Some(Arc::clone(&step.told));
            return Read::Step(step, more);
        }
        // Past what was not asked for the client's own cursor must get too, if that was much.
        if more { Read::Blocks(self.moved().into_iter().collect()) } else { Read::Wait }
    }

    fn changes(&mut self, from: &Offsets) -> Result<Read, StoreError> {
        // What a snapshot had must be met again, asked for or not: only then is it known to be past.
        let wanted = |data: &EventData| !self.told.is_empty() || self.types.has(data);
        let scope = self.following.scope();
        // In company it is known to be past all that was looked at, wherever that was: the others tell of nothing older.
        let changes = match self.current && self.following.is_alone() {
            true => self.view.news(scope, &self.watch, &wanted, from, READ_MAX)?,
            false => self.view.changes(scope, &wanted, from, READ_MAX)?,
        };
        self.current |= !changes.more;
        let any = changes.more || !changes.entries.is_empty();
        let mut cursor = from.clone();
        let log = self.view.log_id();
        let mut blocks = Vec::with_capacity(changes.entries.len());
        for entry in changes.entries {
            cursor.advance(entry.position.next());
            if !self.was_told(&entry) && self.types.has(&entry.event.data) {
                let id = self.told.is_empty().then(|| cursor.encode(log));
                if id.is_some() {
                    self.given = Some(Arc::new(cursor.clone()));
                }
                blocks.push(Block { id, data: Data::Change(Arc::new(Frame::new(&entry, log))) });
            }
        }
        Ok(self.settle(cursor, &changes.next, any, blocks))
    }

    /// Past all that was looked at.
    fn settle(&mut self, mut cursor: Offsets, next: &Offsets, any: bool, mut blocks: Vec<Block>) -> Read {
        next.positions().for_each(|position| cursor.advance(position));
        self.cursor = Some(Arc::new(cursor));
        if any && blocks.last().is_none_or(|block| block.id.is_none()) {
            // What was in the snapshots, or was not asked for, has been passed: the client's own cursor must get past it too.
            blocks.extend(self.moved());
        }
        // All that was read may have been told before, and there may be more behind it.
        if any { Read::Blocks(blocks) } else { Read::Wait }
    }

    /// The cursor, if it has moved since the client was told of it.
    pub(super) fn moved(&mut self) -> Option<Block> {
        let cursor = self.cursor.as_ref().filter(|_| self.told.is_empty())?;
        if self.given.as_ref() == Some(cursor) {
            return None;
        }
        self.given = Some(Arc::clone(cursor));
        Some(Block::cursor(cursor.encode(self.view.log_id())))
    }

    fn was_told(&mut self, entry: &Entry) -> bool {
        let id = entry.event.payment_id;
        let Some(told) = self.told.get(&id).copied() else { return false };
        let version = entry.version.unwrap_or_default();
        if version >= told {
            self.told.remove(&id);
        }
        version <= told
    }

    /// Returns when it is worth reading again, or looking whether there is to be an end. Few wait at a gate, and what that takes
    /// is not kept for the others.
    pub(super) async fn woken(&mut self) {
        match &self.gate {
            Some(at_least) => tokio::select! {
                () = Box::pin(at_least.reached(self.view.live())) => {}
                () = self.watch.changed() => {}
            },
            None => self.watch.changed().await,
        }
    }
}

impl Opening {
    /// One read on.
    fn search(&mut self, view: &View, scope: &Scope) -> Result<(), StoreError> {
        let missing = SNAPSHOTS_MAX - self.ids.len();
        let (rows, next) = view.payments_of(scope, None, self.before.as_ref(), missing)?;
        self.ids.extend(rows.iter().map(|row| row.payment.id));
        self.found = next.is_none() || self.ids.len() >= SNAPSHOTS_MAX;
        self.before = next;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;
    use std::sync::Arc;

    use super::{Block, Read, Scope, Start, Types, WideFeed};
    use crate::journal::{Offset, Partition, Position};
    use crate::payment::samples::{event, in_progress, parked, payment_id, retry};
    use crate::payment::{CustomerId, MerchantId};
    use crate::stream::Recents;
    use crate::stream::feed::Data;
    use crate::stream::tests::{begun_and_tried_again, folded};

    fn ids(read: Read) -> Vec<Option<String>> {
        match read {
            Read::Blocks(blocks) => blocks.into_iter().map(|Block { id, .. }| id).collect(),
            Read::Step(step, _) => step.blocks.iter().map(|block| block.id.clone()).collect(),
            Read::Wait | Read::End | Read::NotFound => Vec::new(),
        }
    }

    /// The rows are written before anybody is told how far the fold is: a stream that opens in between.
    #[tokio::test]
    async fn no_cursor_is_given_that_would_repeat_what_a_snapshot_had() {
        let directory = tempfile::tempdir().unwrap();
        let events = [in_progress(1999), retry(1), parked()].into_iter().zip(1..).map(|(data, n)| event(n, data));
        let view = folded(directory.path(), events.collect()).await;
        let scope = Scope { merchant: MerchantId::default(), customer: Some(CustomerId::parse("cus_42").unwrap()) };
        let start = || Start { last_event_id: None, at_least: None, reset: false, types: Types::default() };
        let recents: Arc<Recents> = Arc::default();
        let open = || WideFeed::open(&view, recents.follow(scope.clone()), start()).unwrap();

        let mut whole = open();
        let opening = ids(whole.read().unwrap());
        assert!(opening.len() == 2 && opening[1].is_some(), "a snapshot and the cursor: {opening:?}");

        let mut early = WideFeed { told: HashMap::from([(payment_id("order-1001"), 2)]), ..open() };
        let mut behind = view.folded();
        behind.set(Position::new(Partition(0), Offset(1)));
        early.cursor = Some(Arc::new(behind));
        let rest = ids(early.read().unwrap());
        assert!(rest.len() == 1 && rest[0].is_some(), "version 2 was told, version 3 is news: {rest:?}");

        let mut ahead = WideFeed { told: HashMap::from([(payment_id("order-1001"), 9)]), ..open() };
        let mut behind = view.folded();
        behind.set(Position::new(Partition(0), Offset(1)));
        ahead.cursor = Some(Arc::new(behind));
        let rest = ids(ahead.read().unwrap());
        assert_eq!(rest, [], "all of it was told, and the cursor stands before what was: no id yet");
    }

    /// A hundred payments are told, and one is held.
    #[tokio::test]
    async fn a_stream_opens_with_one_payment_at_a_time() {
        const PAYMENTS: usize = 300;
        let directory = tempfile::tempdir().unwrap();
        let view = folded(directory.path(), begun_and_tried_again(PAYMENTS)).await;
        let scope = Scope { merchant: MerchantId::default(), customer: None };
        let start = Start { last_event_id: None, at_least: None, reset: true, types: Types::default() };
        let following = Arc::new(Recents::default()).follow(scope);
        let mut feed = WideFeed::open(&view, following, start).unwrap();
        let mut told = Vec::new();
        while told.last().is_none_or(|block: &Block| block.id.is_none()) {
            let Read::Blocks(blocks) = feed.read().unwrap() else { panic!("it has ended before its cursor") };
            let held = blocks.iter().filter(|block| matches!(block.data, Data::Snapshot { .. })).count();
            assert!(held <= 1, "{held} at once");
            told.extend(blocks);
        }
        assert!(matches!(told[0].data, Data::Reset) && told.len() == 102, "{}", told.len());
        for (block, n) in told[1..101].iter().zip(1..) {
            let Data::Snapshot { payment, last, .. } = &block.data else { panic!("no snapshot") };
            assert_eq!((payment.id, payment.version), (payment_id(&format!("order-{}", PAYMENTS - n)), 2));
            assert_eq!((last.is_some(), last.as_ref().is_some_and(Option::is_some)), (n == 100, n == 100));
        }
        assert!(matches!(feed.read().unwrap(), Read::Wait));
    }
}
