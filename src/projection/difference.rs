//! Two stores of one projection against each other, row by row, over the tables that both of them have. At equal offsets
//! there is no difference, by promise 6; where there is one it is named by table, key and field.

use std::collections::{BTreeMap, BTreeSet};
use std::panic::AssertUnwindSafe;

use super::fields::{About, about_engine, digest, engine_fields, is_of_engine, is_unreadable};
use super::fold::Projection;
use super::older::{Older, OlderRows};
use crate::journal::Position;
use crate::payment::PaymentId;
use crate::schema::Codec;
use crate::store::{Row, Snapshot, StoreError};

/// Behind every key of every table; the seals of the tables (progress.rs) stand there.
pub(super) const LAST_KEY: [u8; 32] = [0xFF; 32];

/// One field that two stores do not agree about.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, utoipa::ToSchema)]
pub struct Difference {
    pub table: String,
    pub key: String,
    /// `row` if it is a row that only one of them has.
    pub field: String,
    #[serde(skip)]
    #[schema(ignore)]
    pub payment: Option<PaymentId>,
    #[serde(skip)]
    #[schema(ignore)]
    pub position: Option<Position>,
    /// What the first has there; `None` if nothing.
    #[schema(required)]
    pub left: Option<String>,
    /// What the second has.
    #[schema(required)]
    pub right: Option<String>,
}

/// Which rows count.
pub enum Rows<'a> {
    All,
    /// Those of the payments that this says yes to. Of a row that names no payment nobody can say: it counts if the first has
    /// it, into which nothing but these payments was folded.
    Of(&'a dyn Fn(PaymentId) -> bool),
}

/// What each of two stores has at a key.
type Values<'a> = (Option<&'a [u8]>, Option<&'a [u8]>);

/// Two stores of one projection.
pub struct Pair<'a> {
    pub left: &'a Snapshot,
    pub right: &'a Snapshot,
    pub codec: &'a Codec,
}

/// Is there no row in it at all?
pub fn is_empty(store: &Snapshot) -> Result<bool, StoreError> {
    for table in store.tables() {
        if store.range(&table, &[], &LAST_KEY).next().transpose()?.is_some() {
            return Ok(false);
        }
    }
    Ok(true)
}

/// The tables that only one of them has: of the first, and of the second.
#[must_use]
pub fn tables_of_one(pair: &Pair<'_>) -> (Vec<String>, Vec<String>) {
    let (lefts, rights) = (pair.left.tables(), pair.right.tables());
    let only =
        |tables: &[String], others: &[String]| tables.iter().filter(|table| !others.contains(table)).cloned().collect();
    (only(&lefts, &rights), only(&rights, &lefts))
}

/// Tells every difference, and answers with how many rows were compared: all of them, unless `after`, which hears their number
/// after each, says that there is no need to go on.
pub fn compare<P: Projection>(
    pair: &Pair<'_>,
    rows: &Rows<'_>,
    found: &mut dyn FnMut(Difference),
    after: &mut dyn FnMut(u64) -> bool,
) -> Result<u64, StoreError> {
    let (mut compared, others) = (0, pair.right.tables());
    let mut count = || {
        compared += 1;
        after(compared)
    };
    for table in pair.left.tables().into_iter().filter(|table| others.contains(table)) {
        if is_of_engine(&table) && !matches!(rows, Rows::All) {
            continue;
        }
        if !compare_table::<P>(&table, pair, rows, found, &mut count)? {
            break;
        }
    }
    Ok(compared)
}

fn compare_table<P: Projection>(
    table: &str,
    pair: &Pair<'_>,
    rows: &Rows<'_>,
    found: &mut dyn FnMut(Difference),
    count: &mut dyn FnMut() -> bool,
) -> Result<bool, StoreError> {
    walk(table, pair, &mut |key, values| {
        let value = values.0.or(values.1).unwrap_or_default();
        let about = || about_engine(table, key).unwrap_or_else(|| P::about(pair.codec, table, key, value));
        let counts = match rows {
            Rows::All => true,
            Rows::Of(is_meant) => about().payment.map_or(values.0.is_some(), is_meant),
        };
        if counts && values.0 != values.1 {
            differences::<P>(table, key, values, about(), found);
        }
        !counts || count()
    })
}

/// Shows every key that one of them has in the table, with what each has there, until it is told that there is no need to go
/// on.
fn walk(table: &str, pair: &Pair<'_>, each: &mut dyn FnMut(&[u8], Values<'_>) -> bool) -> Result<bool, StoreError> {
    let mut lefts = as_damage(pair.left.range(table, &[], &LAST_KEY));
    let mut rights = pair.right.range(table, &[], &LAST_KEY);
    let (mut one, mut other) = (lefts.next().transpose()?, rights.next().transpose()?);
    loop {
        let order = match (&one, &other) {
            (None, None) => return Ok(true),
            (Some(_), None) => std::cmp::Ordering::Less,
            (None, Some(_)) => std::cmp::Ordering::Greater,
            (Some((left, _)), Some((right, _))) => left.cmp(right),
        };
        let (a, b) = (one.take_if(|_| order.is_le()), other.take_if(|_| order.is_ge()));
        if let Some((key, _)) = a.as_ref().or(b.as_ref())
            && !each(key, (a.as_ref().map(|row| &*row.1), b.as_ref().map(|row| &*row.1)))
        {
            return Ok(false);
        }
        if a.is_some() {
            one = lefts.next().transpose()?;
        }
        if b.is_some() {
            other = rights.next().transpose()?;
        }
    }
}

/// fjall asserts on damaged bytes; nobody has to end for what others have left.
fn as_damage(mut rows: impl Iterator<Item = Result<Row, StoreError>>) -> impl Iterator<Item = Result<Row, StoreError>> {
    std::iter::from_fn(move || {
        let next = std::panic::catch_unwind(AssertUnwindSafe(|| rows.next()));
        next.unwrap_or_else(|_| Some(Err(StoreError::Damaged("a row cannot be read".to_owned()))))
    })
}

/// The same for rows that an older version of the projection has written, in `left`: over the tables and fields that both
/// versions define. A field that only one of two rows has is a difference, unless the other version has no such field.
pub fn compare_older<P: Projection>(
    pair: &Pair<'_>,
    older: &Older,
    found: &mut dyn FnMut(Difference),
    after: &mut dyn FnMut(u64) -> bool,
) -> Result<u64, StoreError> {
    let mut compared = 0;
    for table in older.tables {
        let whole = walk(table, pair, &mut |key, values| {
            let about = || P::about(pair.codec, table, key, values.1.unwrap_or_default());
            match (values, &older.rows) {
                ((Some(left), Some(right)), OlderRows::Otherwise { fields, of_one }) => {
                    let of_both = |mut of: BTreeMap<String, String>| {
                        of.retain(|field, _| !OlderRows::is_of_one(of_one, field));
                        of
                    };
                    let (left, right) = (of_both(fields(table, key, left)), of_both(P::fields(table, key, right)));
                    let any = tell_fields(table, &about(), &left, &right, found);
                    // Of what cannot be read nobody can say that it is the same.
                    if !any && is_unreadable(&left) {
                        found(of_field(table, &about(), "row", left.get("row").cloned(), right.get("row").cloned()));
                    }
                }
                ((left, right), _) if left != right => differences::<P>(table, key, values, about(), found),
                _ => {}
            }
            compared += 1;
            after(compared)
        })?;
        if !whole {
            break;
        }
    }
    Ok(compared)
}

/// Of two values that are not the same.
fn differences<P: Projection>(
    table: &str,
    key: &[u8],
    values: Values<'_>,
    about: About,
    found: &mut dyn FnMut(Difference),
) {
    let (left, right) = match values {
        (Some(left), Some(right)) => (left, right),
        (left, right) => {
            let there = |value: Option<&[u8]>| value.map(|_| "is there".to_owned());
            return found(of_field(table, &about, "row", there(left), there(right)));
        }
    };
    let fields = |value| engine_fields(table, key, value).unwrap_or_else(|| P::fields(table, key, value));
    if !tell_fields(table, &about, &fields(left), &fields(right), found) {
        found(of_field(table, &about, "bytes", Some(digest(left)), Some(digest(right))));
    }
}

/// Answers whether there was any.
fn tell_fields(
    table: &str,
    about: &About,
    lefts: &BTreeMap<String, String>,
    rights: &BTreeMap<String, String>,
    found: &mut dyn FnMut(Difference),
) -> bool {
    let names: BTreeSet<&String> = lefts.keys().chain(rights.keys()).collect();
    let mut any = false;
    for field in names.into_iter().filter(|field| lefts.get(*field) != rights.get(*field)) {
        any = true;
        found(of_field(table, about, field, lefts.get(field).cloned(), rights.get(field).cloned()));
    }
    any
}

fn of_field(table: &str, about: &About, field: &str, left: Option<String>, right: Option<String>) -> Difference {
    let About { key, payment, position } = about.clone();
    Difference { table: table.to_owned(), key, field: field.to_owned(), payment, position, left, right }
}
