//! What projections held, against each other and against the fold of the log (I12, I13).

use std::collections::{BTreeMap, HashMap};

use sha2::{Digest, Sha256};

use crate::checker::book::Book;
use crate::checker::history::{History, ProjectionDigest};
use crate::checker::report::{Invariant, Report};
use crate::payment::{Payment, PaymentId};

/// The kind of digests that are [`digest`].
pub const PAYMENTS: &str = "payments";

/// SHA-256 over all payments in the order of their ids, in hexadecimal.
pub fn digest<'p>(payments: impl IntoIterator<Item = &'p Payment>) -> String {
    let mut payments: Vec<&Payment> = payments.into_iter().collect();
    payments.sort_by_key(|payment| payment.id);
    let mut hash = Sha256::new();
    for payment in payments {
        // A struct of texts and numbers always serialises.
        let bytes = postcard::to_stdvec(payment).unwrap_or_default();
        hash.update(u32::try_from(bytes.len()).unwrap_or(u32::MAX).to_be_bytes());
        hash.update(&bytes);
    }
    data_encoding::HEXLOWER.encode(&hash.finalize())
}

pub(super) fn judge(book: &Book, history: &History, report: &mut Report) {
    if history.projections.is_empty() {
        report.not_judged.insert(Invariant::ReplayEqualsLive);
        return;
    }
    let mut same: BTreeMap<(&str, &[u64]), Vec<&ProjectionDigest>> = BTreeMap::new();
    for one in &history.projections {
        same.entry((&one.kind, &one.offsets)).or_default().push(one);
    }
    for ((kind, offsets), digests) in same {
        let (first, expected) = (digests[0], (kind == PAYMENTS).then(|| fold(book, offsets)));
        let (right, whose) = match &expected {
            Some(expected) => (expected, "the fold of the log"),
            None => (&first.digest, first.instance.as_str()),
        };
        for other in digests.iter().filter(|other| other.digest != *right) {
            let evidence = format!("at {offsets:?} its {kind} are {}, and those of {whose} are {right}", other.digest);
            report.found(Invariant::ReplayEqualsLive, &other.instance, evidence);
        }
    }
}

/// The digest of what the log holds before `offsets`.
fn fold(book: &Book, offsets: &[u64]) -> String {
    let mut payments: HashMap<PaymentId, Option<Payment>> = HashMap::new();
    for entry in &book.entries {
        let end = offsets.get(entry.place.partition as usize).copied().unwrap_or_default();
        if entry.place.offset < end {
            // What cannot be folded has been reported where the log was read.
            let _ = Payment::fold(payments.entry(entry.event.payment_id).or_default(), &entry.event, entry.appended_at);
        }
    }
    digest(payments.values().flatten())
}
