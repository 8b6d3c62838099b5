//! What an operator looks at: the payments that wait for a person, and all payments. The index of the parked is written in
//! the same batch as their rows, so a count of it is a count of the state.

use std::collections::BTreeMap;

use super::view::View;
use super::{Row, rows};
use crate::journal::LogId;
use crate::payment::{Payment, PaymentId, Phase, Timestamp};
use crate::projection::BadOffsets;
use crate::store::{Batch, StoreError, Table};

/// As much of a reason as the index holds, in bytes. Ours are short names; a foreign one may be long.
const REASON_MAX: usize = 128;
/// Behind the reason: a zero, the time and the id.
const TAIL_BYTES: usize = 1 + 8 + 16;

/// The place of a parked payment in the index: by reason, and in there who has waited longest comes first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ParkedKey {
    reason: String,
    since: Timestamp,
    payment_id: PaymentId,
}

impl ParkedKey {
    /// `None` if it is not parked.
    pub(super) fn of(payment: &Payment) -> Option<Self> {
        let Phase::Parked { reason, .. } = &payment.phase else { return None };
        // Nothing but its end or an operator's decision changes a parked payment, so its last change was that it was parked.
        Some(Self { reason: indexed(reason).to_owned(), since: payment.updated_at, payment_id: payment.id })
    }

    fn bytes(&self) -> Vec<u8> {
        let since = self.since.as_micros().to_be_bytes();
        [self.reason.as_bytes(), &[0], &since, self.payment_id.as_bytes()].concat()
    }

    pub(super) fn payment_id(&self) -> PaymentId {
        self.payment_id
    }

    pub(super) fn parse(key: &[u8]) -> Option<Self> {
        let (reason, tail) = key.split_at_checked(key.len().checked_sub(TAIL_BYTES)?)?;
        let since = Timestamp::from_micros(i64::from_be_bytes(tail.get(1..9)?.try_into().ok()?))?;
        let payment_id = PaymentId::from_bytes(tail.get(9..)?.try_into().ok()?);
        let reason = std::str::from_utf8(reason).ok()?.to_owned();
        (tail.first() == Some(&0)).then_some(Self { reason, since, payment_id })
    }

    /// An opaque text, for a cursor.
    #[must_use]
    pub fn encode(&self, log: LogId) -> String {
        format!("{}.{}", log.log8(), data_encoding::BASE64URL_NOPAD.encode(&self.bytes()))
    }

    /// The reverse of [`ParkedKey::encode`].
    pub fn decode(text: &str, log: LogId) -> Result<Self, BadOffsets> {
        let (log8, key) = text.split_once('.').ok_or(BadOffsets::Malformed)?;
        let key = data_encoding::BASE64URL_NOPAD.decode(key.as_bytes()).map_err(|_| BadOffsets::Malformed)?;
        let key = Self::parse(&key).filter(|key| key.reason.len() <= REASON_MAX).ok_or(BadOffsets::Malformed)?;
        match log8 {
            _ if log8 == log.log8() => Ok(key),
            _ if log8.len() == 8 && log8.bytes().all(|b| b.is_ascii_hexdigit()) => Err(BadOffsets::OtherLog),
            _ => Err(BadOffsets::Malformed),
        }
    }
}

/// The part of a reason that the index holds.
fn indexed(reason: &str) -> &str {
    &reason[..reason.floor_char_boundary(REASON_MAX)]
}

/// Moves a payment from where it stood in the index to where it stands now.
pub(super) fn stage(batch: &mut Batch, table: &Table, before: Option<&ParkedKey>, now: &Payment) {
    let now = ParkedKey::of(now);
    if before == now.as_ref() {
        return;
    }
    if let Some(before) = before {
        batch.remove(table, &before.bytes());
    }
    if let Some(now) = now {
        batch.insert(table, &now.bytes(), &[]);
    }
}

impl View {
    /// The parked payments behind `after`, all or those with one reason, at most `max`; and where to go on, if there are
    /// more.
    pub fn parked(
        &self,
        reason: Option<&str>,
        after: Option<&ParkedKey>,
        max: usize,
    ) -> Result<(Vec<Row>, Option<ParkedKey>), StoreError> {
        let bounds = |reason: &str, end: u8| [indexed(reason).as_bytes(), &[end]].concat();
        let (mut from, to) = match reason {
            Some(reason) => (bounds(reason, 0), bounds(reason, 1)),
            None => (Vec::new(), vec![0xFF]), // no UTF-8 begins with it
        };
        if let Some(after) = after {
            from = from.max([after.bytes().as_slice(), &[0]].concat());
        }
        let (mut page, mut last) = (Vec::new(), None);
        if from >= to {
            return Ok((page, None)); // a cursor of another reason
        }
        for key in self.built().rows.parked.range(&from, &to) {
            let key = read(&key?.0)?;
            if page.len() >= max {
                return Ok((page, last));
            }
            // It may have moved on since: the index is read before the row.
            let row = self.payment(key.payment_id)?.filter(|row| ParkedKey::of(&row.payment).as_ref() == Some(&key));
            let row = row.filter(|row| reason.is_none_or(|reason| is_parked_for(&row.payment, reason)));
            if let Some(row) = row {
                page.push(row);
                last = Some(key);
            }
        }
        Ok((page, None))
    }

    /// How many payments are parked now, by reason. Reads the whole index of them: for people and for gauges.
    pub fn parked_counts(&self) -> Result<BTreeMap<String, u64>, StoreError> {
        let mut counts = BTreeMap::new();
        for key in self.built().rows.parked.range(&[], &[0xFF]) {
            *counts.entry(read(&key?.0)?.reason).or_default() += 1;
        }
        Ok(counts)
    }

    /// How many payments have not ended, counted up to `max`: whatever is due at some time, and whatever is parked.
    pub fn open_count(&self, max: usize) -> Result<usize, StoreError> {
        let built = self.built();
        let (due, parked) = (built.rows.due.range(&[], &[0xFE; 32]), built.rows.parked.range(&[], &[0xFF]));
        due.chain(parked).take(max).try_fold(0, |count, row| row.map(|_| count + 1))
    }

    /// All payments behind `after`, by id, at most `max`; and where to go on, if there are more.
    pub fn payments(&self, after: Option<PaymentId>, max: usize) -> Result<(Vec<Row>, Option<PaymentId>), StoreError> {
        let from = after.map_or_else(Vec::new, |after| [after.as_bytes().as_slice(), &[0]].concat());
        let mut page: Vec<Row> = Vec::new();
        for row in self.built().rows.payments.range(&from, &[0xFF; 17]) {
            if page.len() >= max {
                let last = page.last().map(|row| row.payment.id);
                return Ok((page, last));
            }
            page.push(rows::decode(&row?.1)?);
        }
        Ok((page, None))
    }
}

fn read(key: &[u8]) -> Result<ParkedKey, StoreError> {
    ParkedKey::parse(key).ok_or_else(|| StoreError::Damaged("a key of the parked cannot be read".to_owned()))
}

fn is_parked_for(payment: &Payment, wanted: &str) -> bool {
    matches!(&payment.phase, Phase::Parked { reason, .. } if reason == wanted)
}

#[cfg(test)]
mod tests {
    use super::{ParkedKey, REASON_MAX};
    use crate::journal::LogId;
    use crate::payment::Payment;
    use crate::payment::samples::{at, event, in_progress, parked, resumed};
    use crate::projection::BadOffsets;

    #[test]
    fn only_the_parked_have_a_place_and_a_cursor_of_it_survives_a_round_trip() {
        let mut payment = None;
        for (seconds, data) in [(1, in_progress(5)), (2, parked())] {
            assert_eq!(payment.as_ref().and_then(ParkedKey::of), None);
            Payment::fold(&mut payment, &event(seconds, data), at(seconds)).unwrap();
        }
        let key = payment.as_ref().and_then(ParkedKey::of).unwrap();
        assert_eq!((key.reason.as_str(), key.since), ("unknown_too_long", at(2)));
        let (log, text) = (LogId([7; 16]), key.encode(LogId([7; 16])));
        assert_eq!(ParkedKey::decode(&text, log), Ok(key));
        assert_eq!(ParkedKey::decode(&text, LogId([8; 16])), Err(BadOffsets::OtherLog));
        for wrong in ["", ".", "07070707.", "07070707.AAAA", &text[..text.len() - 1], &text[1..]] {
            assert_eq!(ParkedKey::decode(wrong, log), Err(BadOffsets::Malformed), "{wrong}");
        }
        let decision = crate::payment::event::Decision::Inquire;
        Payment::fold(&mut payment, &event(3, resumed(2, decision)), at(3)).unwrap();
        assert_eq!(payment.as_ref().and_then(ParkedKey::of), None);
    }

    #[test]
    fn a_long_reason_is_cut_between_two_characters() {
        let long = "ä".repeat(REASON_MAX);
        assert_eq!(super::indexed(&long).len(), REASON_MAX);
        assert_eq!(super::indexed(&format!("x{long}")).len(), REASON_MAX - 1);
    }
}
