//! What is read of several payments at once: all of a merchant's, or those of one of its customers, newest first or from a
//! cursor on. Between partitions there is no order, within one there is that of the log; the cursor, one offset a partition,
//! says what has been read.

use super::live::Built;
use super::rows::{FeedRow, customer_key, customer_key_of, feed_key, merchant_key, offset_of};
use super::{Entry, Offsets, Payments, Row, View, Watch};
use crate::journal::{Offset, Partition, Position};
use crate::payment::{CustomerId, EventData, MerchantId, PaymentId, Status, Timestamp};
use crate::schema::Codec;
use crate::store::StoreError;

/// Rows looked at in one read, at most. Async code reads as it is, and so a read has to be short whatever it finds; where it
/// stopped is in its cursor, and whoever goes on lets others go first.
const LOOKED_AT_MAX: usize = 250;

/// Whose events.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Scope {
    pub merchant: MerchantId,
    /// `None` is all of the merchant's.
    pub customer: Option<CustomerId>,
}

/// What has happened past a cursor.
#[derive(Clone, Debug, PartialEq)]
pub struct Changes {
    /// Each partition in order.
    pub entries: Vec<Entry>,
    /// Where to go on: past these, and past what was not asked for.
    pub next: Offsets,
    /// Is there more to be read by now? What it is may not be what is asked for.
    pub more: bool,
}

type StoreRow = Result<crate::store::Row, StoreError>;
/// Rows of the feed, by partition and offset; their keys end with the offset.
type FeedRows<'a> = Box<dyn DoubleEndedIterator<Item = StoreRow> + 'a>;

/// Where a payment begins in the feed.
#[derive(Clone, Copy)]
struct Initiation {
    created_at: Timestamp,
    payment_id: PaymentId,
    offset: Offset,
}

/// The payments of one partition, newest first.
struct Column<'a> {
    partition: Partition,
    rows: std::iter::Rev<FeedRows<'a>>,
    /// The newest that has not been taken; `None` if it is not known yet, or if there is none.
    head: Option<Initiation>,
    ended: bool,
}

impl View {
    /// Its payments, newest first, at most `max`, and fewer, or none, if they are far apart. `before` is where the read before
    /// ended; so is the answer's second part, which is `None` at the end.
    pub fn payments_of(
        &self,
        scope: &Scope,
        status: Option<Status>,
        before: Option<&Offsets>,
        max: usize,
    ) -> Result<(Vec<Row>, Option<Offsets>), StoreError> {
        let built = self.built();
        let mut cursor = before.cloned().unwrap_or_else(|| built.progress.folded());
        let column = |end: Position| {
            let rows = scope.feed(&built, end.partition, Offset(0), end.offset).rev();
            Column { partition: end.partition, rows, head: None, ended: false }
        };
        let mut columns: Vec<Column<'_>> = cursor.positions().map(column).collect();
        // To find again what the read before had found at the end of each, and then to come on.
        let mut looks = columns.len() + LOOKED_AT_MAX;
        let mut page = Vec::new();
        loop {
            for column in &mut columns {
                if !column.find(self.codec(), &mut looks, &mut cursor)? {
                    return Ok((page, Some(cursor)));
                }
            }
            // The newest head; between equals the higher partition, so that the order is always the same.
            let newest = columns.iter_mut().filter(|column| column.head.is_some());
            let newest = newest.max_by_key(|column| (column.head.map(|head| head.created_at), column.partition));
            let Some((column, initiation)) = newest.and_then(|column| column.head.map(|head| (column, head))) else {
                return Ok((page, None));
            };
            if page.len() >= max || looks == 0 {
                return Ok((page, Some(cursor)));
            }
            column.head = None;
            cursor.set(Position::new(column.partition, initiation.offset));
            looks -= 1;
            let row = built.rows.row(initiation.payment_id)?;
            page.extend(row.filter(|row| status.is_none_or(|wanted| row.payment.status() == wanted)));
        }
    }

    /// The effective events of its payments at or past `after` that are `wanted`, at most `max`.
    pub fn changes(
        &self,
        scope: &Scope,
        wanted: &dyn Fn(&EventData) -> bool,
        after: &Offsets,
        max: usize,
    ) -> Result<Changes, StoreError> {
        let built = self.built();
        let folded = built.progress.folded();
        self.read(&built, folded.positions(), scope, wanted, after, max)
    }

    /// As [`View::changes`], by one who has read all that there was when `watch` was made, and knows by it where there is more.
    /// The others of its partitions are not looked at, and the cursor stays where it is in them.
    pub fn news(
        &self,
        scope: &Scope,
        watch: &Watch,
        wanted: &dyn Fn(&EventData) -> bool,
        after: &Offsets,
        max: usize,
    ) -> Result<Changes, StoreError> {
        let built = self.built();
        // Asked before how far the fold is, which says so before it wakes anybody.
        let partitions = watch.past(after);
        let ends =
            partitions.into_iter().map(|partition| Position::new(partition, built.progress.folded_to(partition)));
        self.read(&built, ends, scope, wanted, after, max)
    }

    fn read(
        &self,
        built: &Built<Payments>,
        ends: impl Iterator<Item = Position>,
        scope: &Scope,
        wanted: &dyn Fn(&EventData) -> bool,
        after: &Offsets,
        max: usize,
    ) -> Result<Changes, StoreError> {
        let mut changes = Changes { entries: Vec::new(), next: after.clone(), more: false };
        let mut looked_at = 0;
        for end in ends {
            let from = after.of(end.partition);
            if from >= end.offset {
                continue; // nothing new, or this instance is behind the cursor
            }
            for row in scope.feed(built, end.partition, from, end.offset) {
                let (key, value) = row?;
                let position = Position::new(end.partition, offset_of(&key)?);
                let read = FeedRow::read(self.codec(), &value)?;
                let wanted = wanted(&read.0.data);
                if looked_at >= LOOKED_AT_MAX || (wanted && changes.entries.len() >= max) {
                    changes.more = true;
                    return Ok(changes);
                }
                looked_at += 1;
                changes.next.set(position.next());
                if wanted {
                    changes.entries.push(self.entry(built, position, read)?);
                }
            }
            changes.next.advance(end);
        }
        Ok(changes)
    }
}

impl Scope {
    fn feed<'b>(&self, built: &'b Built<Payments>, partition: Partition, from: Offset, to: Offset) -> FeedRows<'b> {
        let feed = &built.rows.feed;
        if let Some(customer) = &self.customer {
            let owner = customer_key(&self.merchant, customer);
            return Box::new(feed.range(&feed_key(&owner, partition, from), &feed_key(&owner, partition, to)));
        }
        let (owner, merchant) = (merchant_key(&self.merchant), self.merchant.clone());
        let rows = built.rows.merchants.range(&feed_key(&owner, partition, from), &feed_key(&owner, partition, to));
        Box::new(rows.map(move |row| {
            let (key, customer) = row?;
            let offset = offset_of(&key)?;
            let missing =
                || StoreError::Damaged(format!("the event at {} is missing", Position::new(partition, offset)));
            let event = feed.get(&feed_key(&customer_key_of(&merchant, &customer), partition, offset))?;
            Ok((key, event.ok_or_else(missing)?))
        }))
    }
}

impl Column<'_> {
    /// Looks for its head, and moves the cursor past what is none. `false` if there were not looks enough.
    fn find(&mut self, codec: &Codec, looks: &mut usize, cursor: &mut Offsets) -> Result<bool, StoreError> {
        while self.head.is_none() && !self.ended {
            let Some(rest) = looks.checked_sub(1) else { return Ok(false) };
            let Some(row) = self.rows.next() else {
                self.ended = true;
                break;
            };
            *looks = rest;
            let (key, value) = row?;
            let offset = offset_of(&key)?;
            let (event, _, _) = FeedRow::read(codec, &value)?;
            if matches!(event.data, EventData::PaymentInProgress(_)) {
                self.head = Some(Initiation { created_at: event.occurred_at, payment_id: event.payment_id, offset });
            } else {
                cursor.set(Position::new(self.partition, offset));
            }
        }
        Ok(true)
    }
}
