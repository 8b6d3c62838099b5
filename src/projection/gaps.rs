//! Do the versions of every payment run 1, 2, 3 without a gap in the feed that streams and histories are read from?

use super::Row;
use super::difference::LAST_KEY;
use super::fields::{TableName, event_in};
use super::rows::{FeedRow, Tables, customer_key, decode, feed_key, home_of, merchant_key, offset_of};
use crate::journal::{Offset, Partition, Position};
use crate::payment::{EventData, PaymentId};
use crate::schema::Codec;
use crate::store::{Store, StoreError};

/// Something that is wrong with the versions of one payment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Gap {
    pub payment: Option<PaymentId>,
    pub position: Option<Position>,
    pub what: String,
}

/// Tells every gap in the feed of a store over a log of `partitions`, and shows every row to `each` on the way. Answers with
/// how many payments there are.
pub fn gaps(
    store: &Store,
    codec: &Codec,
    partitions: u32,
    each: &mut dyn FnMut(&Row) -> Result<(), StoreError>,
    found: &mut dyn FnMut(Gap),
) -> Result<u64, StoreError> {
    let tables = Tables::open(store)?;
    let (mut payments, mut versions) = (0_u64, 0_u64);
    each_row(&tables, &mut |row| {
        payments += 1;
        versions += row.events.len() as u64;
        of_payment(&tables, codec, home_of(row.payment.id, partitions), &row, found)?;
        each(&row)
    })?;
    if feed_rows(&tables)? != versions {
        strangers(&tables, codec, found)?;
    }
    Ok(payments)
}

fn of_payment(
    tables: &Tables,
    codec: &Codec,
    home: Partition,
    row: &Row,
    found: &mut dyn FnMut(Gap),
) -> Result<(), StoreError> {
    let (id, initiation) = (row.payment.id, &row.payment.initiation);
    let mut tell = |offset: Option<Offset>, what: String| {
        found(Gap { payment: Some(id), position: offset.map(|offset| Position::new(home, offset)), what });
    };
    if row.payment.version != row.events.len() as u64 {
        let (version, events) = (row.payment.version, row.events.len());
        tell(None, format!("its row says version {version} and names {events} events"));
    }
    if let Some(pair) = row.events.windows(2).find(|pair| pair[0] >= pair[1]) {
        tell(Some(pair[1]), format!("its versions do not follow the log: {} comes after {}", pair[1], pair[0]));
    }
    let customer = customer_key(&initiation.merchant_id, &initiation.customer_id);
    let merchant = merchant_key(&initiation.merchant_id);
    for (offset, version) in row.events.iter().zip(1_u64..) {
        let Some(value) = tables.feed.get(&feed_key(&customer, home, *offset))? else {
            tell(Some(*offset), format!("version {version} is missing in the feed"));
            continue;
        };
        let Ok(feed) = decode::<FeedRow<'_>>(&value) else {
            tell(Some(*offset), format!("version {version} cannot be read in the feed"));
            continue;
        };
        let led = tables.merchants.get(&feed_key(&merchant, home, *offset))?;
        if led.as_deref() != Some(initiation.customer_id.as_str().as_bytes()) {
            tell(Some(*offset), format!("version {version} is not where its merchant's events are found"));
        }
        if feed.version != version {
            tell(Some(*offset), format!("version {version} is version {} in the feed", feed.version));
        }
        match codec.decode(feed.value) {
            Ok(event) if event.payment_id != id => {
                tell(Some(*offset), format!("version {version} is an event of {} in the feed", event.payment_id));
            }
            Ok(event) if version == 1 && !matches!(event.data, EventData::PaymentInProgress(_)) => {
                tell(Some(*offset), format!("version 1 is {}", event.data.name()));
            }
            Ok(_) => {}
            Err(e) => tell(Some(*offset), format!("version {version} is no event in the feed: {e}")),
        }
    }
    Ok(())
}

/// Reads every payment's row, by id.
fn each_row(tables: &Tables, each: &mut dyn FnMut(Row) -> Result<(), StoreError>) -> Result<(), StoreError> {
    for row in tables.payments.range(&[], &LAST_KEY) {
        each(decode(&row?.1)?)?;
    }
    Ok(())
}

fn feed_rows(tables: &Tables) -> Result<u64, StoreError> {
    let mut rows = 0;
    for row in tables.feed.range(&[], &LAST_KEY) {
        row?;
        rows += 1;
    }
    Ok(rows)
}

/// Rows of the feed that no payment's row names.
fn strangers(tables: &Tables, codec: &Codec, found: &mut dyn FnMut(Gap)) -> Result<(), StoreError> {
    for row in tables.feed.range(&[], &LAST_KEY) {
        let (key, value) = row?;
        let about = TableName::Feed.about(codec, &key, &value);
        let (Some(event), offset) = (event_in(codec, &value), offset_of(&key)?) else { continue }; // told as unreadable
        let named = tables.row(event.payment_id)?.is_some_and(|row| row.events.contains(&offset));
        if !named {
            let what = format!("the feed has a {} that its row does not name", event.data.name());
            found(Gap { payment: about.payment, position: about.position, what });
        }
    }
    Ok(())
}
