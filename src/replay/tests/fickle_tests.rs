//! A log that does not say the same twice, as none may: what only a second reading shows.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use super::{Bed, first, only};
use crate::journal::over::Over;
use crate::journal::{History, HistoryItem, JournalError, Reader, Span};
use crate::payment::samples::{payment_id, successful};
use crate::replay::{Invariant, Report, Selection, Verification, ends_of};

type Change = fn(u32, &mut Vec<HistoryItem>);

/// Changes what it hands out, by the number of the reading.
struct Fickle {
    log: Arc<dyn Reader>,
    readings: AtomicU32,
    change: Change,
}

struct FickleHistory(Box<dyn History>, u32, Change);

impl History for FickleHistory {
    fn poll(&mut self, max: usize, timeout: Duration) -> Result<Vec<HistoryItem>, JournalError> {
        let mut items = self.0.poll(max, timeout)?;
        (self.2)(self.1, &mut items);
        Ok(items)
    }
}

impl Over for Fickle {
    fn log(&self) -> &dyn Reader {
        self.log.as_ref()
    }

    fn history_of(&self, spans: &[Span]) -> Result<Box<dyn History>, JournalError> {
        let reading = self.readings.fetch_add(1, Ordering::Relaxed);
        Ok(Box::new(FickleHistory(self.log.history(spans)?, reading, self.change)))
    }
}

pub(super) fn verify_changed(bed: &Bed, change: Change) -> Report {
    let log = Fickle { log: bed.journal.clone(), readings: AtomicU32::new(0), change };
    let (codec, ends) = (Arc::clone(&bed.codec), ends_of(&log).unwrap());
    let selection = Selection::default();
    let verification = Verification { log: &log, codec, rejected: &[], against: None, selection, ends };
    bed.run(&verification).unwrap()
}

#[tokio::test]
async fn two_folds_that_do_not_agree_are_told_by_payment_and_field() {
    let bed = Bed::with_payments().await;
    bed.append(payment_id("order-3"), successful("ch_3")).await;
    let report = verify_changed(&bed, |reading, items| {
        for item in items {
            let HistoryItem::Record(record) = item else { continue };
            let value = record.value.as_mut().unwrap();
            if let Some(at) = value.windows(4).position(|bytes| bytes == b"ch_3").filter(|_| reading > 0) {
                value[at + 3] = b'4';
            }
        }
    });
    assert!(report.totals.keys().all(|invariant| *invariant == Invariant::FoldedAlike), "{report}");
    let expected = "payment.phase.Successful.reference: the first fold has ch_3, the second has ch_4";
    assert!(report.to_string().contains(&format!("VIOLATION folded_alike {}", payment_id("order-3"))), "{report}");
    assert!(report.to_string().contains(expected), "{report}");
}

#[tokio::test]
async fn offsets_that_do_not_grow_are_found() {
    let bed = Bed::new();
    let position = bed.append(payment_id("order-1"), crate::payment::samples::in_progress(5)).await;
    let report = verify_changed(&bed, |_, items| {
        let again = items.iter().find_map(|item| match item {
            HistoryItem::Record(record) => Some(HistoryItem::Record(record.clone())),
            HistoryItem::Done(_) => None,
        });
        items.splice(0..0, again);
    });
    only(&report, Invariant::InOrder, 1);
    assert!(
        first(&report).contains(&format!("at {position}: it was read after offset {}", position.offset)),
        "{report}"
    );
}
