//! Two stores of one projection against each other, row by row over all tables. At equal offsets there is no difference,
//! by promise 6; where there is one it is named by table, key and field.

use super::Row;
use super::fields::{About, TableName, digest};
use crate::journal::Position;
use crate::payment::PaymentId;
use crate::schema::Codec;
use crate::store::{Store, StoreError, Table};

/// Behind every key of every table; the seals of the tables (progress.rs) stand there.
const LAST_KEY: [u8; 32] = [0xFF; 32];

/// One field that two stores do not agree about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    pub table: &'static str,
    pub key: String,
    /// `row` if it is a row that only one of them has.
    pub field: String,
    pub payment: Option<PaymentId>,
    pub position: Option<Position>,
    /// What the first has there; `None` if nothing.
    pub left: Option<String>,
    /// What the second has.
    pub right: Option<String>,
}

/// Which rows count.
pub enum Rows<'a> {
    All,
    /// Those of the payments that this says yes to, and none that belong to no payment.
    Of(&'a dyn Fn(PaymentId) -> bool),
}

impl Rows<'_> {
    fn has(&self, payment: Option<PaymentId>) -> bool {
        match self {
            Self::All => true,
            Self::Of(is_meant) => payment.is_some_and(is_meant),
        }
    }
}

/// Is there no row in it at all?
pub fn is_empty(store: &Store) -> Result<bool, StoreError> {
    for name in TableName::ALL {
        if store.table(name.name())?.range(&[], &LAST_KEY).next().transpose()?.is_some() {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Tells every difference, and answers with how many rows were compared.
pub fn compare(
    left: &Store,
    right: &Store,
    codec: &Codec,
    rows: &Rows<'_>,
    found: &mut dyn FnMut(Difference),
) -> Result<u64, StoreError> {
    let mut compared = 0;
    for name in TableName::ALL {
        if matches!(rows, Rows::Of(_)) && !name.is_by_payment() {
            continue;
        }
        let tables = (left.table(name.name())?, right.table(name.name())?);
        compared += compare_table(name, &tables, codec, rows, found)?;
    }
    Ok(compared)
}

fn compare_table(
    name: TableName,
    (left, right): &(Table, Table),
    codec: &Codec,
    rows: &Rows<'_>,
    found: &mut dyn FnMut(Difference),
) -> Result<u64, StoreError> {
    let (mut lefts, mut rights) = (left.range(&[], &LAST_KEY), right.range(&[], &LAST_KEY));
    let (mut one, mut other) = (lefts.next().transpose()?, rights.next().transpose()?);
    let mut compared = 0;
    loop {
        let order = match (&one, &other) {
            (None, None) => return Ok(compared),
            (Some(_), None) => std::cmp::Ordering::Less,
            (None, Some(_)) => std::cmp::Ordering::Greater,
            (Some((left, _)), Some((right, _))) => left.cmp(right),
        };
        let (a, b) = (one.take_if(|_| order.is_le()), other.take_if(|_| order.is_ge()));
        if let Some((key, value)) = a.as_ref().or(b.as_ref()) {
            let about = name.about(codec, key, value);
            if rows.has(about.payment) {
                compared += 1;
                let values = (a.as_ref().map(|row| &*row.1), b.as_ref().map(|row| &*row.1));
                differences(name, key, values, about, found);
            }
        }
        if a.is_some() {
            one = lefts.next().transpose()?;
        }
        if b.is_some() {
            other = rights.next().transpose()?;
        }
    }
}

fn differences(
    name: TableName,
    key: &[u8],
    values: (Option<&[u8]>, Option<&[u8]>),
    about: About,
    found: &mut dyn FnMut(Difference),
) {
    let mut tell = |field: &str, left: Option<String>, right: Option<String>| {
        let About { key, payment, position } = about.clone();
        found(Difference { table: name.name(), key, field: field.to_owned(), payment, position, left, right });
    };
    let (left, right) = match values {
        (Some(left), Some(right)) if left == right => return,
        (Some(left), Some(right)) => (left, right),
        (left, right) => {
            let there = |value: Option<&[u8]>| value.map(|_| "is there".to_owned());
            return tell("row", there(left), there(right));
        }
    };
    let (lefts, rights) = (name.fields(key, left), name.fields(key, right));
    let names: std::collections::BTreeSet<&String> = lefts.keys().chain(rights.keys()).collect();
    let mut any = false;
    for field in names.into_iter().filter(|field| lefts.get(*field) != rights.get(*field)) {
        any = true;
        tell(field, lefts.get(field).cloned(), rights.get(field).cloned());
    }
    if !any {
        tell("bytes", Some(digest(left)), Some(digest(right)));
    }
}

/// Reads every payment's row, by id.
pub fn each_row(store: &Store, each: &mut dyn FnMut(Row) -> Result<(), StoreError>) -> Result<(), StoreError> {
    for row in store.table(TableName::Payments.name())?.range(&[], &LAST_KEY) {
        each(super::rows::decode(&row?.1)?)?;
    }
    Ok(())
}
