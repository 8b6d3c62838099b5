//! What is due, whichever of the two logs is read first and however often.

use proptest::prelude::*;

use super::Fold;
use crate::control::{Control, EndpointId, RequestId, Webhooks};
use crate::deliveries::outcome::{Cause, Failure, Outcome, Result as Ended, What, WorkId, encode};
use crate::deliveries::rows::{End, Tables, behind, due_prefix, parse_due};
use crate::journal::embedded::EmbeddedJournal;
use crate::journal::{LogId, Offset, Partition};
use crate::payment::Timestamp;
use crate::payment::samples::{at, payment_id};
use crate::store::Store;

const LOG: LogId = LogId([7; 16]);
const ENDPOINT: EndpointId = EndpointId([1; 16]);

fn fold(webhooks: Webhooks) -> Fold {
    Fold::new(Tables::open(Store::in_memory()).unwrap(), webhooks, LOG)
}

/// A test, or a word of another endpoint, has no place on the log of payments, and an offset all the same.
#[test]
fn what_tells_of_no_event_is_not_taken_for_the_event_that_stands_first() {
    let (fold, asked) = (fold(Webhooks::default()), Cause::Asked(RequestId([2; 16])));
    assert!(fold.want(&work(0), &what("a", 1)).unwrap());
    let test = WorkId { cause: asked, ..work(0) };
    assert!(fold.want(&test, &What::Test).unwrap());
    assert!(!fold.is_told_anyway(&work(0)).unwrap(), "a test is due, and the event is not due for it");
    heed(&fold, &Outcome { work: test, ..outcome(0, What::Test, 1, Ended::Delivered) });
    assert!(!fold.was_delivered(&work(0)).unwrap() && !fold.is_told_anyway(&work(0)).unwrap());
    heed(&fold, &outcome(0, what("a", 1), 1, Ended::Delivered));
    assert!(fold.was_delivered(&work(0)).unwrap());
}

/// One that has an endpoint that wants order.
fn ordered() -> Fold {
    let directory = tempfile::tempdir().unwrap();
    let journal = EmbeddedJournal::open(&directory.path().join("control"), 1).unwrap();
    let known = format!(
        r#"{{"type":"WebhookEndpointCreated","entity":"webhook-endpoint/{ENDPOINT}","version":1,"log":"{LOG}","at":"","id":"{ENDPOINT}","merchant_id":"default","url":"","events":null,"ordered":true,"payload":"full","state":"enabled","reason":null,"from":[0],"secrets":[],"created_at":"","enabled_at":""}}"#
    );
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let record = crate::journal::NewRecord {
        partition: Partition(0),
        key: Vec::new(),
        headers: Vec::new(),
        value: known.into_bytes(),
    };
    runtime.block_on(crate::journal::Journal::append(journal.as_ref(), record)).unwrap();
    let (control, _) = Control::open(journal, LOG, crate::projection::Rejections::default()).unwrap();
    assert_eq!(control.webhooks().known().endpoints.len(), 1);
    fold(control.webhooks())
}

fn work(offset: u64) -> WorkId {
    WorkId { target: ENDPOINT.into(), partition: Partition(0), offset: Offset(offset), cause: Cause::Live }
}

fn what(payment: &str, version: u64) -> What {
    let event = "0197a4c0-0000-7000-8000-000000000000".to_owned();
    What::Event { payment: payment_id(payment), version, name: "PaymentFailed".to_owned(), event }
}

fn outcome(offset: u64, what: What, attempt: u32, result: Ended) -> Outcome {
    let at = at(i64::from(attempt));
    Outcome { work: work(offset), what, attempt, at, took_ms: 1, status: None, result, pause_until: None }
}

fn heed(fold: &Fold, outcome: &Outcome) {
    fold.heed(outcome, &encode(LOG, outcome).unwrap()).unwrap();
}

fn failed(next_at: Option<Timestamp>) -> Ended {
    Ended::Failed { failure: Failure::Status, next_at }
}

/// All of it, which is what is met by whoever looks for it from where it began when somebody looked last.
fn due(fold: &Fold) -> Vec<(Timestamp, u64)> {
    let prefix = due_prefix(Partition(0), ENDPOINT.into());
    let rows = fold.tables.due.range(&prefix, &behind(&prefix));
    let due: Vec<_> = rows.map(|row| parse_due(&row.unwrap().0).unwrap()).collect();
    let mut met = Vec::new();
    fold.each_due(Partition(0), ENDPOINT.into(), |at, work| {
        met.push((at, work));
        Ok(true)
    })
    .unwrap();
    assert_eq!(met, due);
    due.into_iter().map(|(at, work)| (at, work.offset.0)).collect()
}

#[test]
fn what_was_delivered_is_not_due_whichever_log_is_read_first() {
    let (early, late) = (fold(Webhooks::default()), fold(Webhooks::default()));
    let delivered = outcome(5, what("a", 1), 1, Ended::Delivered);
    assert!(early.want(&work(5), &what("a", 1)).unwrap());
    assert_eq!(due(&early), [(Timestamp::MIN, 5)]);
    heed(&early, &delivered);
    heed(&late, &delivered);
    assert!(!late.want(&work(5), &what("a", 1)).unwrap(), "it was told already");
    for fold in [early, late] {
        assert_eq!(due(&fold), []);
        assert_eq!(fold.tables.row(&work(5)).unwrap().unwrap().end, Some(End::Delivered));
        assert!(!fold.want(&work(5), &what("a", 1)).unwrap());
        assert_eq!(due(&fold), [], "however often it is read");
    }
}

#[test]
fn a_failure_puts_it_off_until_it_is_given_up_and_a_delivery_always_counts() {
    let fold = fold(Webhooks::default());
    fold.want(&work(5), &what("a", 1)).unwrap();
    heed(&fold, &outcome(5, what("a", 1), 1, failed(Some(at(10)))));
    assert_eq!(due(&fold), [(at(10), 5)]);
    heed(&fold, &outcome(5, what("a", 1), 1, failed(Some(at(99)))));
    assert_eq!(due(&fold), [(at(10), 5)], "of two alike the first counts");
    // Whoever had the lane before has sent it, and says so late.
    heed(&fold, &outcome(5, what("a", 1), 1, Ended::Delivered));
    assert_eq!(due(&fold), []);
    fold.want(&work(6), &what("b", 1)).unwrap();
    heed(&fold, &outcome(6, what("b", 1), 1, failed(None)));
    assert_eq!((due(&fold), fold.tables.row(&work(6)).unwrap().unwrap().end), (Vec::new(), Some(End::GivenUp)));
    heed(&fold, &outcome(6, what("b", 1), 2, failed(Some(at(50)))));
    assert_eq!((due(&fold), fold.tables.row(&work(6)).unwrap().unwrap().end), (Vec::new(), Some(End::GivenUp)));
    heed(&fold, &outcome(6, what("b", 1), 1, Ended::Delivered));
    assert_eq!(fold.tables.row(&work(6)).unwrap().unwrap().end, Some(End::Delivered), "said late by another");
}

/// Whether it is us who were away, or a message that is too long: who was to be told is not to blame for it.
#[test]
fn what_was_not_sent_says_nothing_of_who_was_to_be_told() {
    let fold = fold(Webhooks::default());
    let failing_since = || fold.tables.standing(ENDPOINT.into()).unwrap().failing_since;
    for (offset, failure) in [(1, Failure::Expired), (2, Failure::OtherKey), (3, Failure::TooLarge)] {
        heed(&fold, &outcome(offset, what("a", offset), 1, Ended::Failed { failure, next_at: None }));
        assert_eq!(failing_since(), None, "{failure:?}");
    }
    heed(&fold, &outcome(4, what("a", 4), 1, Ended::Failed { failure: Failure::Refused, next_at: None }));
    assert_eq!(failing_since(), Some(at(1)));
}

#[test]
fn of_one_payment_the_next_is_due_when_the_one_before_is_over() {
    let fold = ordered();
    for (offset, payment, version) in [(1, "a", 1), (2, "b", 1), (3, "a", 2), (4, "a", 3)] {
        fold.want(&work(offset), &what(payment, version)).unwrap();
    }
    assert_eq!(due(&fold), [(Timestamp::MIN, 1), (Timestamp::MIN, 2)], "the first of each payment");
    heed(&fold, &outcome(1, what("a", 1), 1, failed(Some(at(10)))));
    assert_eq!(due(&fold), [(Timestamp::MIN, 2), (at(10), 1)]);
    heed(&fold, &outcome(1, what("a", 1), 2, Ended::Delivered));
    assert_eq!(due(&fold), [(Timestamp::MIN, 2), (Timestamp::MIN, 3)]);
    heed(&fold, &outcome(3, what("a", 2), 1, failed(None)));
    assert_eq!(due(&fold), [(Timestamp::MIN, 2), (Timestamp::MIN, 4)], "given up, and the next is due");
}

#[test]
fn what_is_asked_for_again_comes_before_what_is_later() {
    let fold = ordered();
    fold.want(&work(3), &what("a", 2)).unwrap();
    let again = WorkId { cause: Cause::Asked(RequestId([9; 16])), ..work(1) };
    fold.want(&again, &what("a", 1)).unwrap();
    assert_eq!(due(&fold), [(Timestamp::MIN, 1)]);
    // It was on its way already.
    heed(&fold, &outcome(3, what("a", 2), 1, failed(Some(at(10)))));
    assert_eq!(due(&fold), [(Timestamp::MIN, 1)]);
    heed(&fold, &Outcome { work: again, ..outcome(1, what("a", 1), 1, Ended::Delivered) });
    assert_eq!(due(&fold), [(at(10), 3)]);
}

/// The endpoint was disabled, and enabled again from an earlier place than the event's.
#[test]
fn what_was_dropped_is_due_when_it_is_read_for_the_endpoint_as_it_is_now() {
    let fold = fold(Webhooks::default());
    assert!(fold.want(&work(5), &what("a", 1)).unwrap());
    fold.end_as_dropped(&work(5)).unwrap();
    assert_eq!(due(&fold), []);
    assert!(fold.want(&work(5), &what("a", 1)).unwrap());
    assert_eq!(due(&fold), [(Timestamp::MIN, 5)]);
    heed(&fold, &outcome(5, what("a", 1), 1, Ended::Delivered));
    assert!(!fold.want(&work(5), &what("a", 1)).unwrap(), "it was told");
}

#[test]
fn what_is_due_and_not_yet_tried_is_not_recovered_as_well() {
    let fold = fold(Webhooks::default());
    let recovered = WorkId { cause: Cause::Asked(RequestId([9; 16])), ..work(5) };
    assert!(!fold.is_told_anyway(&recovered).unwrap());
    fold.want(&work(5), &what("a", 1)).unwrap();
    assert!(fold.is_told_anyway(&recovered).unwrap() && !fold.is_told_anyway(&work(5)).unwrap());
    heed(&fold, &outcome(5, what("a", 1), 1, failed(Some(at(10)))));
    assert!(!fold.is_told_anyway(&recovered).unwrap(), "it may wait for hours");
    heed(&fold, &outcome(5, what("a", 1), 2, Ended::Delivered));
    assert!(fold.is_told_anyway(&recovered).unwrap());
}

/// The log of payments was cut and written anew: what was told of the one event is not said of the other.
#[test]
fn what_stood_at_the_place_before_says_nothing_of_what_stands_there_now() {
    let What::Event { payment, version, name, .. } = what("a", 1) else { panic!("no event") };
    let now = What::Event { payment, version, name, event: "0197a4c0-0000-7000-8000-000000000001".to_owned() };
    let (early, late) = (fold(Webhooks::default()), fold(Webhooks::default()));
    heed(&early, &outcome(5, what("a", 1), 1, Ended::Delivered));
    early.want(&work(5), &now).unwrap();
    late.want(&work(5), &now).unwrap();
    heed(&late, &outcome(5, what("a", 1), 1, Ended::Delivered));
    for fold in [early, late] {
        assert_eq!(due(&fold), [(Timestamp::MIN, 5)]);
        heed(&fold, &outcome(5, now.clone(), 1, Ended::Delivered));
        assert_eq!(due(&fold), []);
    }
}

#[test]
fn how_an_endpoint_is_doing_is_known() {
    let fold = fold(Webhooks::default());
    let standing = || fold.tables.standing(ENDPOINT.into()).unwrap();
    heed(&fold, &outcome(1, what("a", 1), 3, failed(Some(at(10)))));
    heed(&fold, &outcome(2, what("b", 1), 5, failed(Some(at(10)))));
    assert_eq!(standing().failing_since, Some(at(3)));
    heed(&fold, &outcome(3, what("c", 1), 7, Ended::Delivered));
    assert_eq!((standing().failing_since, standing().last_success), (None, Some(at(7))));
    heed(&fold, &outcome(2, what("b", 1), 9, failed(Some(at(20)))));
    assert_eq!(standing().failing_since, Some(at(9)));
}

/// A step of one of the two folds, about one of a few events.
#[derive(Clone, Copy, Debug)]
enum Step {
    Want(u64),
    Fail(u64, u32),
    Deliver(u64, u32),
}

impl Step {
    fn take(&self, fold: &Fold) {
        match *self {
            Self::Want(offset) => drop(fold.want(&work(offset), &what("a", offset + 1)).unwrap()),
            Self::Fail(offset, n) => {
                let next_at = (n < 3).then(|| at(i64::from(n) * 10));
                heed(fold, &outcome(offset, what("a", offset + 1), n, failed(next_at)));
            }
            Self::Deliver(offset, n) => heed(fold, &outcome(offset, what("a", offset + 1), n, Ended::Delivered)),
        }
    }
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        (0..4_u64).prop_map(Step::Want),
        ((0..4_u64), (1..4_u32)).prop_map(|(offset, attempt)| Step::Fail(offset, attempt)),
        ((0..4_u64), (1..4_u32)).prop_map(|(offset, attempt)| Step::Deliver(offset, attempt)),
    ];
    proptest::collection::vec(step, 0..24)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// The log of payments may be read before, between and after what the log of deliveries says.
    #[test]
    fn what_is_due_does_not_depend_on_which_log_was_read_first(steps in steps()) {
        let take = |fold: &Fold, wants: bool| {
            steps.iter().filter(|step| matches!(step, Step::Want(_)) == wants).for_each(|step| step.take(fold));
        };
        let folds = [fold(Webhooks::default()), fold(Webhooks::default())];
        take(&folds[0], true);
        take(&folds[0], false);
        take(&folds[1], false);
        take(&folds[1], true);
        prop_assert_eq!(due(&folds[0]), due(&folds[1]));
        let open = |fold: &Fold| fold.tables.open.range(&[], &[0xFF; 65]).count();
        prop_assert_eq!(open(&folds[0]), open(&folds[1]));
        for offset in 0..4 {
            let ends = [0, 1].map(|n: usize| folds[n].tables.row(&work(offset)).unwrap().map(|row| row.end));
            prop_assert_eq!(ends[0], ends[1]);
            let delivered = steps.iter().any(|step| matches!(step, Step::Deliver(at, _) if *at == offset));
            prop_assert_eq!(delivered, ends[0].flatten() == Some(End::Delivered));
        }
    }

    /// At any moment, however long ago the last look was ([`due`] compares).
    #[test]
    fn who_looks_for_what_is_due_meets_all_of_it(
        steps in steps(),
        looks in prop::collection::vec(any::<bool>(), 32),
        is_ordered: bool,
    ) {
        let fold = if is_ordered { ordered() } else { fold(Webhooks::default()) };
        for (step, looks) in steps.iter().zip(looks) {
            step.take(&fold);
            if looks {
                due(&fold);
            }
        }
        due(&fold);
    }
}

/// Whichever of the two comes first.
#[test]
fn what_an_endpoint_has_said_last_of_being_left_alone_counts() {
    let asked = |seconds, until| Outcome {
        at: at(seconds),
        pause_until: Some(at(until)),
        ..outcome(seconds as u64, what("a", 1), 1, failed(Some(at(99))))
    };
    let folds = [[asked(1, 60), asked(2, 30)], [asked(2, 30), asked(1, 60)]].map(|outcomes| {
        let fold = fold(Webhooks::default());
        outcomes.iter().for_each(|outcome| heed(&fold, outcome));
        heed(&fold, &outcome(3, what("a", 2), 2, Ended::Delivered));
        fold
    });
    for fold in folds {
        let standing = || fold.tables.standing(ENDPOINT.into()).unwrap();
        assert_eq!(standing().paused_until(), Some(at(30)), "what was on its way when it asked ends nothing");
        assert_eq!(standing().since(at(2)).paused_until(), Some(at(30)));
        assert_eq!(standing().since(at(3)).paused_until(), None, "it was enabled anew");
        let delivered =
            |offset, seconds| Outcome { at: at(seconds), ..outcome(offset, what("a", offset), 1, Ended::Delivered) };
        heed(&fold, &delivered(4, 11));
        assert_eq!(standing().paused_until(), Some(at(30)), "it was sent before everybody knew");
        heed(&fold, &delivered(5, 20));
        assert_eq!(standing().paused_until(), None, "it takes what is sent to it again");
    }
}

/// Who had the lane before has recorded the same attempt first, and it began later than another that was answered before.
#[test]
fn what_an_endpoint_asks_for_is_heeded_by_the_time_of_its_answer_and_of_an_attempt_that_counts_no_more_too() {
    let asked = |offset, took_ms, until| Outcome {
        at: at(1),
        took_ms,
        pause_until: Some(at(until)),
        ..outcome(offset, what("a", offset), 1, failed(Some(at(99))))
    };
    let fold = fold(Webhooks::default());
    let paused_until = || fold.tables.standing(ENDPOINT.into()).unwrap().paused_until();
    heed(&fold, &outcome(1, what("a", 1), 1, failed(Some(at(5)))));
    assert_eq!(paused_until(), None);
    heed(&fold, &asked(1, 10, 3_600));
    assert_eq!(paused_until(), Some(at(3_600)), "of two alike the first counts, but both were answered");
    heed(&fold, &Outcome { at: at(0), ..asked(2, 9_000, 7_200) });
    assert_eq!(paused_until(), Some(at(7_200)), "it began earlier, and was answered last");
}
