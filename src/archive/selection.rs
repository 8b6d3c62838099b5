//! Which records of a log go into an archive.

use std::collections::HashSet;

use anyhow::ensure;

use crate::journal::{Partition, Position, SourceRecord};
use crate::payment::{EventData, PaymentId};
use crate::projection::home_of;
use crate::schema::{Codec, DecodeError};

/// The most payments of one customer that are taken: their ids are kept in memory.
const PAYMENTS_MAX: usize = 1_000_000;

/// What an archive holds of its log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Scope {
    /// All of it.
    Log,
    /// All that there was about some payments, and nothing about others.
    Histories,
    /// What stood in some range: of a payment perhaps its end without its beginning. For reading, and never for restoring.
    Piece,
}

/// What was asked for. Everything that is given must be true of a record.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Selection {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub partitions: Vec<u32>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub payments: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub customer: Option<String>,
    /// By the log's time, in microseconds: `since <= time < until`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub since_us: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub until_us: Option<i64>,
    /// Whether offsets were given; which, the header says.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub offsets: bool,
}

impl Selection {
    #[must_use]
    pub fn scope(&self) -> Scope {
        let by_range = self.since_us.is_some() || self.until_us.is_some() || self.offsets;
        let by_payment = !self.partitions.is_empty() || !self.payments.is_empty() || self.customer.is_some();
        match (by_range, by_payment) {
            (true, _) => Scope::Piece,
            (false, true) => Scope::Histories,
            (false, false) => Scope::Log,
        }
    }
}

/// Chooses, record by record, in the order of each partition.
pub(super) struct Chooser<'a> {
    selection: &'a Selection,
    codec: &'a Codec,
    payments: HashSet<PaymentId>,
    /// Of the partitions that can hold what is asked for.
    partitions: Vec<bool>,
}

impl<'a> Chooser<'a> {
    pub(super) fn new(selection: &'a Selection, codec: &'a Codec, partitions: u32) -> anyhow::Result<Self> {
        let mut payments = HashSet::new();
        for text in &selection.payments {
            let id = PaymentId::parse(text);
            payments.insert(id.ok_or_else(|| anyhow::anyhow!("{text} is not the id of a payment"))?);
        }
        if let Some(p) = selection.partitions.iter().find(|p| **p >= partitions) {
            anyhow::bail!("there is no partition {p}: the log has {partitions}");
        }
        let homes: HashSet<Partition> = payments.iter().map(|id| home_of(*id, partitions)).collect();
        let by_payment = selection.customer.is_none() && !homes.is_empty();
        let possible = |p: u32| {
            (selection.partitions.is_empty() || selection.partitions.contains(&p))
                && (!by_payment || homes.contains(&Partition(p)))
        };
        Ok(Self { selection, codec, partitions: (0..partitions).map(possible).collect(), payments })
    }

    /// Can there be anything in it?
    pub(super) fn looks_into(&self, partition: Partition) -> bool {
        self.partitions.get(partition.0 as usize).copied().unwrap_or(false)
    }

    pub(super) fn takes(&mut self, record: &SourceRecord) -> anyhow::Result<bool> {
        let Selection { since_us, until_us, .. } = self.selection;
        let at = record.timestamp_us;
        if since_us.is_some_and(|since| at < since) || until_us.is_some_and(|until| at >= until) {
            return Ok(false);
        }
        if self.selection.payments.is_empty() && self.selection.customer.is_none() {
            return Ok(true);
        }
        self.is_of_a_payment(record)
    }

    /// A customer is named by the first event of a payment, which comes before all others.
    fn is_of_a_payment(&mut self, record: &SourceRecord) -> anyhow::Result<bool> {
        let event = record.value.as_deref().map(|value| self.codec.decode(value));
        if let Some(Err(error @ DecodeError::NoRegistry(_))) = &event {
            anyhow::bail!("the record at {} may be of a payment that was asked for, or not: {error}", record.position);
        }
        let Some(Ok(event)) = event else { return Ok(false) };
        if self.payments.contains(&event.payment_id) {
            return Ok(true);
        }
        let EventData::PaymentInProgress(initiation) = &event.data else { return Ok(false) };
        let Some(customer) = &self.selection.customer else { return Ok(false) };
        let theirs = initiation.customer_id.as_str() == customer;
        if theirs {
            ensure!(
                self.payments.len() < PAYMENTS_MAX,
                "the customer has more than {PAYMENTS_MAX} payments: choose by partition instead"
            );
            self.payments.insert(event.payment_id);
        }
        Ok(theirs)
    }
}

/// `PARTITION:OFFSET`.
pub fn position(text: &str) -> Option<Position> {
    let (partition, offset) = text.split_once(':')?;
    Some(Position::new(Partition(partition.parse().ok()?), crate::journal::Offset(offset.parse().ok()?)))
}
