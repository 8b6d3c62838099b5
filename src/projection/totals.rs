//! How many payments there are, and of how much: for each day on which they were accepted, by merchant, currency and status.
//!
//! | table | key | value |
//! |---|---|---|
//! | `totals` | merchant, day, currency, status | [`Sum`] |
//! | `payments` | payment id | [`Counted`] |

mod recount;

use std::collections::BTreeMap;
use std::fmt;
use std::ops::RangeInclusive;
use std::sync::Arc;

use serde_json::json;

use super::error::{ApplyError, FoldError};
use super::fields::{About, flat};
use super::fold::{Fold, Projection};
use super::kept::{Kept, read};
use super::live::{Live, Served};
use super::reader::Recorded;
use super::rows::decode;
use super::{Offsets, Progress, Rejections};
use crate::journal::Reader;
use crate::payment::{Currency, MerchantId, Payment, PaymentId, Status, Timestamp};
use crate::schema::Codec;
use crate::store::{Batch, Store, StoreError, Table};

pub use recount::Recount;

const DAY_US: i64 = 24 * 60 * 60 * 1_000_000;

pub struct Totals {
    payments: Kept<Counted>,
    totals: Kept<Sum>,
    view: TotalsView,
}

/// A payment as far as its place among the sums depends on it.
#[derive(serde::Serialize, serde::Deserialize)]
enum Counted {
    Open(Box<Payment>),
    /// Nothing can change it any more.
    Ended,
}

/// Payments of one kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Sum {
    pub payments: u64,
    /// In minor units of the currency.
    pub amount: u128,
}

/// A day in UTC, in days since 1970-01-01.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Day(pub u32);

/// What is summed up together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kind {
    pub day: Day,
    pub merchant: MerchantId,
    pub currency: Currency,
    pub status: Status,
}

/// Reads the sums. Cheap to clone.
#[derive(Clone)]
pub struct TotalsView(Table);

impl Projection for Totals {
    const NAME: &'static str = "totals";
    const VERSION: u32 = 1;

    fn open(store: &Store) -> Result<Self, StoreError> {
        let totals = store.table("totals")?;
        Ok(Self {
            payments: Kept::new(store.table("payments")?),
            totals: Kept::new(totals.clone()),
            view: TotalsView(totals),
        })
    }

    fn apply(&mut self, recorded: &Recorded, _: &mut Batch) -> Result<(), ApplyError> {
        let row = self.payments.row(recorded.event.payment_id.as_bytes())?;
        let mut payment = match row.take() {
            Some(Counted::Ended) => {
                *row = Some(Counted::Ended);
                return Ok(());
            }
            Some(Counted::Open(payment)) => Some(*payment),
            None => None,
        };
        let before = payment.as_ref().map(Payment::status);
        Payment::fold(&mut payment, &recorded.event, recorded.appended_at)
            .map_err(|lost| ApplyError::Unfoldable(lost.to_string()))?;
        let Some(payment) = payment else { return Ok(()) };
        if before != Some(payment.status()) {
            if let Some(before) = before {
                self.totals.row(&key(&payment, before))?.take_out(&payment);
            }
            self.totals.row(&key(&payment, payment.status()))?.put_in(&payment);
        }
        *row = Some(if payment.is_terminal() { Counted::Ended } else { Counted::Open(Box::new(payment)) });
        Ok(())
    }

    fn flush(&mut self, batch: &mut Batch) -> Result<(), StoreError> {
        self.payments.flush(batch)?;
        self.totals.flush(batch)
    }

    fn about(_: &Codec, table: &str, key: &[u8], _: &[u8]) -> About {
        let payment = key.first_chunk::<16>().filter(|_| table == "payments").map(|id| PaymentId::from_bytes(*id));
        if let Some(id) = payment {
            return About { key: id.to_string(), payment, position: None };
        }
        Kind::parse(key).map_or_else(|| About::of_key(key), |kind| About { key: kind.to_string(), ..About::default() })
    }

    fn fields(table: &str, _: &[u8], value: &[u8]) -> BTreeMap<String, String> {
        let fields = match table {
            "totals" => decode::<Sum>(value).ok().map(|Sum { payments, amount }| {
                json!({"payments": payments, "amount": amount.to_string()}) // no number of JSON is as large
            }),
            _ => decode::<Counted>(value).ok().map(|counted| match counted {
                Counted::Ended => json!({"counted": "ended"}),
                Counted::Open(payment) => json!({"counted": "open", "payment": payment}),
            }),
        };
        flat(fields.as_ref())
    }
}

/// For people: `2026-11-25 EUR successful default`.
impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { day, merchant, currency, status } = self;
        write!(f, "{day} {} {} {}", currency.code(), status.name(), merchant.as_str())
    }
}

impl Served for Totals {
    type Rows = TotalsView;
    /// Nobody is told: whoever wants to know asks.
    type Hearers = ();

    fn rows(&self) -> TotalsView {
        self.view.clone()
    }

    fn tell(&mut self, (): (), _: Arc<Progress>) {}

    fn exchanged((): &(), _: &Offsets) {}
}

impl Fold<Totals> {
    /// Opens the sums in `store`, as [`Fold::new`] does, and what reads them.
    pub fn open(
        store: Store,
        journal: &dyn Reader,
        codec: Arc<Codec>,
        rejections: &Rejections,
    ) -> Result<(Self, Arc<Live<Totals>>), FoldError> {
        let mut fold = Self::new(store, journal, codec)?.heeding(rejections)?;
        let live = Live::new(fold.built(()), ());
        Ok((fold, Arc::new(live)))
    }
}

impl Day {
    /// Of the instant.
    #[must_use]
    pub fn of(at: Timestamp) -> Self {
        // Never before 1970: a timestamp is not before 2000.
        Self(u32::try_from(at.as_micros() / DAY_US).unwrap_or_default())
    }

    /// From `2026-11-25`; `None` outside 2000 to 2100.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let is_day = text.len() == 10 && text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'-');
        Timestamp::parse(&format!("{text}T00:00:00Z")).filter(|_| is_day).map(Self::of)
    }
}

/// As it is parsed.
impl fmt::Display for Day {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match Timestamp::from_micros(i64::from(self.0) * DAY_US) {
            Some(at) => f.write_str(at.to_string().get(..10).unwrap_or_default()),
            None => write!(f, "day {}", self.0),
        }
    }
}

trait Summed {
    fn put_in(&mut self, payment: &Payment);
    fn take_out(&mut self, payment: &Payment);
}

impl Summed for Option<Sum> {
    fn put_in(&mut self, payment: &Payment) {
        let sum = self.get_or_insert_default();
        sum.payments += 1;
        sum.amount += amount_of(payment);
    }

    fn take_out(&mut self, payment: &Payment) {
        let Some(sum) = self else { return };
        sum.payments = sum.payments.saturating_sub(1);
        sum.amount = sum.amount.saturating_sub(amount_of(payment));
        if sum.payments == 0 {
            *self = None; // as if there had never been one
        }
    }
}

/// Never negative: it was checked when it came in.
fn amount_of(payment: &Payment) -> u128 {
    u128::try_from(payment.initiation.money.amount()).unwrap_or_default()
}

/// Before all rows of one merchant.
fn prefix(merchant: &MerchantId) -> Vec<u8> {
    let mut prefix = merchant.as_str().as_bytes().to_vec();
    prefix.push(0); // no merchant's name goes on with it
    prefix
}

fn key(payment: &Payment, status: Status) -> Vec<u8> {
    let initiation = &payment.initiation;
    let mut key = prefix(&initiation.merchant_id);
    key.extend_from_slice(&Day::of(payment.created_at).0.to_be_bytes());
    key.extend_from_slice(initiation.money.currency().code().as_bytes());
    key.push(status as u8);
    key
}

impl Kind {
    fn parse(key: &[u8]) -> Option<Self> {
        let (status, rest) = key.split_last()?;
        let (rest, currency) = rest.split_last_chunk::<3>()?;
        let (rest, day) = rest.split_last_chunk::<4>()?;
        let merchant = rest.strip_suffix(&[0])?;
        let status =
            [Status::InProgress, Status::Successful, Status::Failed].into_iter().find(|s| *s as u8 == *status)?;
        Some(Self {
            day: Day(u32::from_be_bytes(*day)),
            merchant: MerchantId::parse(std::str::from_utf8(merchant).ok()?).ok()?,
            currency: Currency::parse(std::str::from_utf8(currency).ok()?).ok()?,
            status,
        })
    }
}

impl TotalsView {
    pub fn open(store: &Store) -> Result<Self, StoreError> {
        Ok(Self(store.table("totals")?))
    }

    /// The sums of a merchant on those days, in the order of the days, and then of currency and status: a few for each day.
    pub fn of_days(&self, merchant: &MerchantId, days: RangeInclusive<Day>) -> Result<Vec<(Kind, Sum)>, StoreError> {
        let (from, to) = ([prefix(merchant), days.start().0.to_be_bytes().to_vec()], prefix(merchant));
        // Behind every key of the last day.
        let to = [to, days.end().0.to_be_bytes().to_vec(), vec![0xFF]];
        let parse = |row: Result<(Vec<u8>, Sum), StoreError>| {
            let (key, sum) = row?;
            let kind =
                Kind::parse(&key).ok_or_else(|| StoreError::Damaged("a key of totals cannot be read".to_owned()))?;
            Ok((kind, sum))
        };
        read(&self.0, &from.concat(), &to.concat()).map(parse).collect()
    }
}

#[cfg(test)]
#[path = "totals_tests.rs"]
mod tests;
