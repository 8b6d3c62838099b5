//! What a provider would not take, and what was not sent at all.

use super::{Bed, FINAL_AFTER, payment, text};
use crate::gateway::{Inquiry, Outcome};
use crate::lane::{Memory, Start, Try, Verdict, Worker};
use crate::payment::EventData;
use crate::payment::samples::{at, in_progress, unknown};

fn refused() -> Outcome {
    Outcome::Refused { code: text(), message: text() }
}

/// A payment method that can be used once is refused for the very reason that an earlier try has charged it.
#[tokio::test]
async fn a_refusal_is_a_no_only_where_nothing_can_have_been_charged_before() {
    let payment = payment(vec![in_progress(1999)]);
    // Recorded since the lane was taken, and tried for the first time.
    let bed = Bed::new(10, 5, &[refused()], &[Inquiry::NotFound]);
    let Start::Running(effect) = bed.processor.start(&payment, Try { attempt: 1, ..bed.this(Memory::default()) })
    else {
        panic!("held")
    };
    let Verdict::Record(data) = effect.await else { panic!("not recorded") };
    assert_eq!((data.name(), bed.asked()), ("PaymentFailed", vec!["charge", "inquire"]));
    // An earlier try, of this lane or of an owner before it, may have charged.
    let taken_later = Bed::new(10, 5, &[refused()], &[]);
    let this = Try { attempt: 1, recorded_since: false, ..taken_later.this(Memory::default()) };
    let Start::Running(effect) = taken_later.processor.start(&payment, this) else { panic!("held") };
    let Verdict::Record(data) = effect.await else { panic!("not recorded") };
    let EventData::PaymentOutcomeUnknown(unknown) = *data else { panic!("{data:?}") };
    assert!(unknown.next_inquiry_at >= at(10).plus(FINAL_AFTER), "asked when \"not found\" is final");
    let tried = Bed::new(10, 5, &[refused()], &[]);
    assert_eq!(tried.recorded(&payment).await, "PaymentOutcomeUnknown", "try number 7");
}

#[tokio::test]
async fn a_refusal_after_a_final_not_found_is_a_no() {
    let unknown = payment(vec![in_progress(1999), unknown(1)]);
    // Recorded at second 1, by a clock that may be a minute off: nothing was sent after 61, and after 121 that shows.
    for (now, found) in [(120, "nothing"), (121, "PaymentFailed")] {
        let bed = Bed::new(now, 5, &[refused()], &[Inquiry::NotFound]);
        assert_eq!(bed.recorded(&unknown).await, found, "at second {now}");
        assert_eq!(bed.asked(), ["inquire", "charge"]);
    }
    let bed = Bed::new(5_060, 5_000, &[refused()], &[Inquiry::NotFound]);
    assert_eq!(bed.recorded(&payment(vec![in_progress(1999)])).await, "PaymentFailed", "licensed past the window");
}

#[tokio::test]
async fn what_was_not_sent_and_cannot_wait_in_memory_is_a_retry() {
    let bed = Bed::new(5_001, 5_000, &[], &[Inquiry::NotFound]);
    let this = Try { may_defer: false, ..bed.this(Memory::default()) };
    let Start::Running(effect) = bed.processor.start(&payment(vec![in_progress(1999)]), this) else { panic!("held") };
    let Verdict::Record(data) = effect.await else { panic!("not recorded") };
    assert_eq!(data.name(), "PaymentRetryScheduled");
}
