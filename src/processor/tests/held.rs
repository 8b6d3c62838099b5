//! What is held back: payments of another gateway, and those that began on another log.

use super::{Bed, FINAL_AFTER, WINDOW, payment, receipt, text};
use crate::clock::BEHIND_MAX;
use crate::control::Origin;
use crate::gateway::{Inquiry, Outcome, Terms};
use crate::lane::{Memory, Start, Try, Verdict, Worker};
use crate::payment::Payment;
use crate::payment::event::Decision;
use crate::payment::samples::{at, in_progress, parked, resumed, retry, unknown};
use crate::processor::plan::not_adopted;

#[test]
fn a_payment_of_another_gateway_is_held_and_never_swapped() {
    let bed = Bed::new(10, 5, &[], &[]);
    let mut other = payment(vec![in_progress(1999)]);
    other.initiation.gateway = "another".to_owned();
    assert!(matches!(bed.start(&other, Memory::default()), Start::NotBefore(_)));
}

/// Open in every way there is.
fn open() -> Vec<Payment> {
    let mut open = vec![
        payment(vec![in_progress(1999)]),
        payment(vec![in_progress(1999), retry(1)]),
        payment(vec![in_progress(1999), unknown(1)]),
    ];
    for decision in [Decision::Inquire, Decision::ChargeAgain] {
        open.push(payment(vec![in_progress(1999), parked(), resumed(2, decision)]));
    }
    open
}

async fn verdict_of(bed: &Bed, payment: &Payment, origin: Origin, memory: Memory) -> Verdict {
    match bed.processor.start(payment, Try { origin, ..bed.this(memory) }) {
        Start::Running(effect) => effect.await,
        _ => panic!("nothing holds it back"),
    }
}

/// The provider knows nothing of it, in its key window and long after, at the first try and at every other: no word of a
/// provider lets this log charge what another may be about to charge.
#[tokio::test]
async fn what_was_imported_is_asked_about_and_never_charged() {
    for payment in open() {
        for now in [100, 799, 900, 1_000_000] {
            let bed = Bed::new(now, 90, &[], &[Inquiry::NotFound, Inquiry::NotFound, Inquiry::NotFound]);
            let (mut memory, mut tries) = (Memory::default(), 0);
            for _ in 0..3 {
                let verdict = verdict_of(&bed, &payment, Origin::Imported, memory).await;
                let Verdict::TryAgain { at: again, memory: left } = verdict else { panic!("{now}: {verdict:?}") };
                assert!(again > at(now) && left.last_post.is_none(), "{now}: {left:?}");
                (memory, tries) = (left, tries + 1);
            }
            assert_eq!(bed.asked(), vec!["inquire"; tries], "{now}");
        }
    }
    // Not even where there is no room to remember that it is to be tried again.
    let bed = Bed::new(100, 90, &[], &[Inquiry::NotFound]);
    let this = Try { origin: Origin::Imported, may_defer: false, ..bed.this(Memory::default()) };
    let Start::Running(effect) = bed.processor.start(&open()[0], this) else { panic!("held") };
    let Verdict::Record(data) = effect.await else { panic!("not recorded") };
    assert_eq!((data.name(), bed.asked()), ("PaymentRetryScheduled", vec!["inquire"]));
}

#[tokio::test]
async fn what_the_gateway_knows_of_what_was_imported_is_recorded() {
    let answers = [
        (Inquiry::Succeeded(receipt()), "PaymentSuccessful"),
        (Inquiry::Declined { code: text(), message: text() }, "PaymentFailed"),
    ];
    for (answer, name) in answers {
        let bed = Bed::new(100, 90, &[], &[answer]);
        let verdict = verdict_of(&bed, &open()[0], Origin::Imported, Memory::default()).await;
        let Verdict::Record(data) = verdict else { panic!("{verdict:?}") };
        assert_eq!((data.name(), bed.asked()), (name, vec!["inquire"]));
    }
    // What a person has settled needs no gateway.
    let settled = Decision::SettleSuccessful { reference: "ch_9".to_owned() };
    let bed = Bed::new(100, 90, &[], &[]);
    let settled = payment(vec![in_progress(1999), parked(), resumed(2, settled)]);
    let Verdict::Record(data) = verdict_of(&bed, &settled, Origin::Imported, Memory::default()).await else {
        panic!("not recorded")
    };
    assert_eq!(data.name(), "PaymentSuccessful");
}

#[test]
fn a_gateway_that_cannot_be_asked_is_not_used_for_what_was_imported() {
    let silent = Terms { key_window: WINDOW, not_found_final_after: None, calls_per_second_max: None };
    assert_eq!(not_adopted(&silent), None);
}

/// What the other log did last, it may have done right before somebody said that it does nothing any more.
#[tokio::test]
async fn what_was_adopted_is_charged_as_after_a_takeover_at_that_time() {
    let adopted = Origin::Adopted { heard_at: at(95) };
    let in_window = Bed::new(100, 90, &[Outcome::Succeeded(receipt())], &[]);
    let verdict = verdict_of(&in_window, &open()[0], adopted, Memory::default()).await;
    let Verdict::Record(data) = verdict else { panic!("{verdict:?}") };
    assert_eq!((data.name(), in_window.asked()), ("PaymentSuccessful", vec!["charge"]));

    let heard_at = 2_000;
    let sure = heard_at + i64::try_from((BEHIND_MAX + FINAL_AFTER).as_secs()).unwrap();
    for (now, asked) in [(sure - 1, vec!["inquire"]), (sure, vec!["inquire", "charge"])] {
        let bed = Bed::new(now, 90, &[Outcome::Succeeded(receipt())], &[Inquiry::NotFound]);
        let adopted = Origin::Adopted { heard_at: at(heard_at) };
        drop(verdict_of(&bed, &open()[0], adopted, Memory::default()).await);
        assert_eq!(bed.asked(), asked, "at {now}");
    }
}
