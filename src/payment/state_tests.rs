//! The fold, cell by cell of the table in DESIGN.md 6, and over any sequence of events at all.

use proptest::prelude::*;

use crate::payment::event::{Decision, PaymentOutcomeUnknown, PaymentRetryScheduled};
use crate::payment::samples::{all, at, event, failed, in_progress, parked, resumed, retry, successful, unknown};
use crate::payment::{Effect, EventData, Payment, Status};

fn fold(events: &[EventData]) -> (Option<Payment>, Vec<Effect>) {
    let mut payment = None;
    let mut effects = Vec::new();
    for (i, data) in events.iter().enumerate() {
        let seconds = i64::try_from(i).unwrap();
        effects.push(Payment::fold(&mut payment, &event(seconds, data.clone()), at(seconds)).unwrap());
    }
    (payment, effects)
}

/// The phase after `events` and what the last of them did.
fn after(events: &[EventData]) -> (&'static str, Effect) {
    let (payment, effects) = fold(events);
    (payment.unwrap().phase.name(), *effects.last().unwrap())
}

#[test]
fn the_table_cell_by_cell() {
    let start = in_progress(1999);
    let open: [Vec<EventData>; 3] =
        [vec![start.clone()], vec![start.clone(), retry(1)], vec![start.clone(), unknown(1)]];
    for before in open {
        let then = |data: EventData| after(&[before.clone(), vec![data]].concat());
        let phase = after(&before).0;
        assert_eq!(then(in_progress(1999)), (phase, Effect::Repeat));
        assert_eq!(then(in_progress(5)), (phase, Effect::Conflict));
        assert_eq!(then(successful("ch_1")), ("done", Effect::Effective));
        assert_eq!(then(failed("no")), ("done", Effect::Effective));
        assert_eq!(then(retry(2)), ("retrying", Effect::Effective));
        assert_eq!(then(unknown(2)), ("unknown", Effect::Effective));
        assert_eq!(then(parked()), ("parked", Effect::Effective));
        assert_eq!(then(resumed(1, Decision::Inquire)), (phase, Effect::Ignored));
    }
}

#[test]
fn a_parked_payment_moves_only_by_an_end_or_a_decision_at_its_version() {
    let parked = [in_progress(1999), parked()];
    let then = |data: EventData| after(&[parked.to_vec(), vec![data]].concat());
    assert_eq!(then(in_progress(1999)), ("parked", Effect::Repeat));
    assert_eq!(then(retry(1)), ("parked", Effect::Ignored));
    assert_eq!(then(unknown(1)), ("parked", Effect::Ignored));
    assert_eq!(then(self::parked()), ("parked", Effect::Ignored));
    assert_eq!(then(resumed(1, Decision::Inquire)), ("parked", Effect::Ignored));
    assert_eq!(then(resumed(2, Decision::Inquire)), ("processing", Effect::Effective));
    assert_eq!(then(successful("ch_1")), ("done", Effect::Effective));
}

#[test]
fn the_first_end_wins() {
    let won = [in_progress(1999), successful("ch_1")];
    let then = |data: EventData| after(&[won.to_vec(), vec![data]].concat()).1;
    assert_eq!(then(successful("ch_1")), Effect::EndedAgain);
    assert_eq!(then(successful("ch_2")), Effect::EndedOtherwise);
    assert_eq!(then(failed("no")), Effect::EndedOtherwise);
    assert_eq!(then(retry(3)), Effect::Ignored);
    assert_eq!(then(parked()), Effect::Ignored);
    let lost = [in_progress(1999), failed("no")];
    let then = |data: EventData| after(&[lost.to_vec(), vec![data]].concat()).1;
    assert_eq!(then(failed("no")), Effect::EndedAgain);
    assert_eq!(then(failed("other")), Effect::EndedOtherwise);
    assert_eq!(then(successful("ch_1")), Effect::EndedOtherwise);
}

#[test]
fn anything_before_the_initiation_halts() {
    for data in all().into_iter().filter(|data| data.name() != "PaymentInProgress") {
        let mut payment = None;
        assert!(Payment::fold(&mut payment, &event(0, data), at(0)).is_err());
        assert_eq!(payment, None);
    }
}

#[test]
fn a_clock_that_runs_ahead_holds_nothing_back() {
    let mut payment = None;
    Payment::fold(&mut payment, &event(86_400, in_progress(1999)), at(5)).unwrap();
    assert_eq!(payment.as_ref().unwrap().due_at(), Some(at(5)));
    Payment::fold(&mut payment, &event(10, parked()), at(10)).unwrap();
    assert_eq!(payment.as_ref().unwrap().due_at(), None);
    Payment::fold(&mut payment, &event(86_400, resumed(2, Decision::Inquire)), at(20)).unwrap();
    assert_eq!(payment.unwrap().due_at(), Some(at(20)));
}

/// Three hours ahead, and it means half a minute.
#[test]
fn a_wait_is_as_long_as_its_writer_said_whatever_its_clock_said() {
    let hours = 3 * 3600;
    for data in [retry(1), unknown(1)] {
        let mut payment = None;
        Payment::fold(&mut payment, &event(0, in_progress(1999)), at(0)).unwrap();
        let written = |data: EventData| match data {
            EventData::PaymentRetryScheduled(retry) => {
                EventData::PaymentRetryScheduled(PaymentRetryScheduled { not_before: at(hours + 30), ..retry })
            }
            EventData::PaymentOutcomeUnknown(unknown) => {
                EventData::PaymentOutcomeUnknown(PaymentOutcomeUnknown { next_inquiry_at: at(hours + 30), ..unknown })
            }
            other => other,
        };
        Payment::fold(&mut payment, &event(hours, written(data)), at(10)).unwrap();
        assert_eq!(payment.unwrap().due_at(), Some(at(40)));
    }
}

#[test]
fn the_key_window_begins_at_the_earlier_clock_and_again_only_by_charge_again() {
    let mut payment = None;
    Payment::fold(&mut payment, &event(100, in_progress(1999)), at(40)).unwrap();
    assert_eq!(payment.as_ref().unwrap().window_from, at(40));
    for data in [parked(), resumed(2, Decision::Inquire), parked()] {
        Payment::fold(&mut payment, &event(200, data), at(200)).unwrap();
        assert_eq!(payment.as_ref().unwrap().window_from, at(40));
    }
    Payment::fold(&mut payment, &event(300, resumed(4, Decision::ChargeAgain)), at(301)).unwrap();
    assert_eq!(payment.unwrap().window_from, at(300));
}

proptest! {
    /// Any permutation and duplication of one payment's events: at most one end, which never changes, versions without a
    /// gap, and no panic.
    #[test]
    fn any_sequence_ends_at_most_once(picks in proptest::collection::vec(0..13_usize, 0..40)) {
        let samples = all();
        let mut payment: Option<Payment> = None;
        let mut ended: Option<Payment> = None;
        for (i, pick) in picks.into_iter().enumerate() {
            let before = payment.clone();
            let seconds = i64::try_from(i).unwrap();
            let folded = Payment::fold(&mut payment, &event(seconds, samples[pick].clone()), at(seconds));
            match folded {
                Err(_) => prop_assert!(before.is_none() && payment.is_none()),
                Ok(Effect::Effective) => {
                    let now = payment.as_ref().unwrap();
                    prop_assert_eq!(now.version, before.map_or(0, |b| b.version) + 1);
                    prop_assert!(ended.is_none(), "nothing is effective after the end");
                }
                Ok(_) => prop_assert_eq!(&payment, &before),
            }
            if ended.is_none() && payment.as_ref().is_some_and(Payment::is_terminal) {
                ended = payment.clone();
            }
        }
        if let Some(ended) = ended {
            prop_assert_eq!(Some(ended), payment);
        }
    }

    /// The same records folded twice are the same payment: no clock, no order of a map.
    #[test]
    fn the_fold_is_deterministic(picks in proptest::collection::vec(0..13_usize, 0..40)) {
        let samples = all();
        let run = || {
            let mut payment = None;
            for (i, pick) in picks.iter().enumerate() {
                let seconds = i64::try_from(i).unwrap();
                let _ = Payment::fold(&mut payment, &event(seconds, samples[*pick].clone()), at(seconds));
            }
            payment
        };
        prop_assert_eq!(run(), run());
    }
}

#[test]
fn status_names_are_the_contract() {
    assert_eq!(Status::parse("in_progress"), Some(Status::InProgress));
    assert_eq!(Status::parse("Successful"), None);
}

#[test]
fn unknown_counts_from_its_first_record_until_it_is_over() {
    let mut payment = None;
    for (data, seconds) in [(in_progress(1999), 0), (unknown(1), 10), (unknown(2), 900)] {
        Payment::fold(&mut payment, &event(seconds, data), at(seconds + 1)).unwrap();
    }
    assert_eq!(payment.as_ref().unwrap().unknown_since(), Some(at(11)), "by the log's clock");
    for (data, seconds) in [(parked(), 1000), (resumed(4, Decision::Inquire), 1010), (unknown(3), 1020)] {
        Payment::fold(&mut payment, &event(seconds, data), at(seconds + 1)).unwrap();
    }
    assert_eq!(payment.unwrap().unknown_since(), Some(at(1021)));
}
