//! What is asked of a gateway, and what its answers may become.

mod held;
mod refusals;

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::clock::{Clock, Clocks};
use crate::control::Origin;
use crate::gateway::{Answer, Charge, Gateway, Inquiry, Outcome, Receipt, Terms};
use crate::lane::{Memory, Start, Tenure, Try, Verdict, Worker};
use crate::payment::event::Decision;
use crate::payment::samples::{at, event, in_progress, parked, payment_id, resumed, retry, unknown};
use crate::payment::{EventData, MerchantId, Payment, Timestamp};
use crate::processor::{Bulkheads, Policy, Processor};

const WINDOW: Duration = Duration::from_secs(1_000);
const FINAL_AFTER: Duration = Duration::from_secs(60);

/// A clock that is set by hand.
struct Hand(Mutex<Timestamp>);

impl Clock for Hand {
    fn now(&self) -> Timestamp {
        *self.0.lock().unwrap()
    }
}

type Hook = Box<dyn Fn() + Send + Sync>;

/// Answers as it is told, and keeps what it was asked. `after_inquiry` runs before an inquiry is answered.
struct Scripted {
    outcomes: Mutex<VecDeque<Outcome>>,
    inquiries: Mutex<VecDeque<Inquiry>>,
    asked: Mutex<Vec<(&'static str, Charge)>>,
    after_inquiry: Mutex<Option<Hook>>,
}

impl Gateway for Scripted {
    fn name(&self) -> &'static str {
        "simulator"
    }

    fn terms(&self) -> Terms {
        Terms { key_window: WINDOW, not_found_final_after: Some(FINAL_AFTER), calls_per_second_max: None }
    }

    fn charge(&self, charge: Charge) -> Answer<Outcome> {
        self.asked.lock().unwrap().push(("charge", charge));
        let answer = self.outcomes.lock().unwrap().pop_front().expect("nobody said that a charge would come");
        Box::pin(std::future::ready(answer))
    }

    fn inquire(&self, charge: Charge) -> Answer<Inquiry> {
        self.asked.lock().unwrap().push(("inquire", charge));
        let answer = self.inquiries.lock().unwrap().pop_front().expect("nobody said that an inquiry would come");
        if let Some(hook) = self.after_inquiry.lock().unwrap().as_ref() {
            hook();
        }
        Box::pin(std::future::ready(answer))
    }
}

/// A processor with its clock and its gateway in hand.
struct Bed {
    gateway: Arc<Scripted>,
    hand: Arc<Hand>,
    clocks: Clocks,
    processor: Processor,
    tenure: Tenure,
}

impl Bed {
    /// At second `now`, in a lane taken at second `taken`.
    fn new(now: i64, taken: i64, outcomes: &[Outcome], inquiries: &[Inquiry]) -> Self {
        let gateway = Arc::new(Scripted {
            outcomes: Mutex::new(outcomes.iter().cloned().collect()),
            inquiries: Mutex::new(inquiries.iter().cloned().collect()),
            asked: Mutex::default(),
            after_inquiry: Mutex::default(),
        });
        let hand = Arc::new(Hand(Mutex::new(at(now))));
        let clocks = Clocks::new(Arc::clone(&hand) as Arc<dyn Clock>);
        clocks.compare();
        let processor = Processor::new(Arc::clone(&gateway) as Arc<dyn Gateway>, clocks.clone(), Policy::default());
        Self { gateway, hand, clocks, processor, tenure: Tenure::new(at(taken)) }
    }

    fn this(&self, memory: Memory) -> Try {
        let (origin, lane) = (Origin::Ours, self.tenure.clone());
        Try { attempt: 7, may_defer: true, recorded_since: true, origin, memory, lane }
    }

    fn start(&self, payment: &Payment, memory: Memory) -> Start {
        self.processor.start(payment, self.this(memory))
    }

    async fn verdict(&self, payment: &Payment, memory: Memory) -> Verdict {
        match self.start(payment, memory) {
            Start::Running(effect) => effect.await,
            _ => panic!("nothing holds it back"),
        }
    }

    /// The name of what is recorded, with the reason if it is parked.
    async fn recorded(&self, payment: &Payment) -> String {
        match self.verdict(payment, Memory::default()).await {
            Verdict::Record(data) => match *data {
                EventData::PaymentParked(parked) => format!("PaymentParked {}", parked.reason),
                data => data.name().to_owned(),
            },
            Verdict::TryAgain { .. } => "nothing".to_owned(),
        }
    }

    fn asked(&self) -> Vec<&'static str> {
        self.gateway.asked.lock().unwrap().iter().map(|(what, _)| *what).collect()
    }

    fn set(&self, now: i64) {
        *self.hand.0.lock().unwrap() = at(now);
    }
}

fn payment(events: Vec<EventData>) -> Payment {
    let mut payment = None;
    for (data, seconds) in events.into_iter().zip(0..) {
        Payment::fold(&mut payment, &event(seconds, data), at(seconds)).unwrap();
    }
    payment.unwrap()
}

fn text() -> String {
    "whatever it says".to_owned()
}

fn receipt() -> Receipt {
    let payment = payment_id("order-1001").to_string();
    Receipt { reference: "ch_1".to_owned(), amount: 1999, currency: "EUR".to_owned(), payment }
}

fn declined() -> Outcome {
    Outcome::Declined { code: text(), message: text() }
}

#[tokio::test]
async fn only_a_definitive_answer_ends_a_payment() {
    let outcomes = [
        (Outcome::Succeeded(receipt()), "PaymentSuccessful"),
        (declined(), "PaymentFailed"),
        (Outcome::NotSent { reason: text() }, "PaymentRetryScheduled"),
        (Outcome::NotExecuted { reason: text(), retry_after: None }, "PaymentRetryScheduled"),
        (Outcome::Unknown { reason: text(), answered: false }, "PaymentOutcomeUnknown"),
    ];
    for (outcome, name) in outcomes {
        let bed = Bed::new(10, 5, &[outcome], &[]);
        assert_eq!(bed.recorded(&payment(vec![in_progress(1999)])).await, name);
        assert_eq!(bed.asked(), ["charge"]);
    }
    let inquiries = [
        (Inquiry::Succeeded(receipt()), "PaymentSuccessful"),
        (Inquiry::Declined { code: text(), message: text() }, "PaymentFailed"),
        (Inquiry::StillRunning, "nothing"),
        (Inquiry::Unknown { reason: text(), answered: false }, "nothing"),
    ];
    for (inquiry, name) in inquiries {
        let bed = Bed::new(10, 5, &[], &[inquiry]);
        assert_eq!(bed.recorded(&payment(vec![in_progress(1999), unknown(1)])).await, name);
        assert_eq!(bed.asked(), ["inquire"], "unknown is asked about before anything is charged");
    }
}

#[tokio::test]
async fn what_is_unknown_and_not_found_is_charged_with_the_same_key_while_the_window_is_open() {
    let bed = Bed::new(10, 5, &[Outcome::Succeeded(receipt())], &[Inquiry::NotFound]);
    assert_eq!(bed.recorded(&payment(vec![in_progress(1999), unknown(1)])).await, "PaymentSuccessful");
    assert_eq!(bed.asked(), ["inquire", "charge"]);
}

#[tokio::test]
async fn a_try_that_did_nothing_takes_no_doubt_away() {
    for outcome in [Outcome::NotSent { reason: text() }, Outcome::NotExecuted { reason: text(), retry_after: None }] {
        let bed = Bed::new(2_000, 5, &[], &[Inquiry::NotFound]);
        bed.gateway.outcomes.lock().unwrap().push_back(outcome);
        bed.set(10);
        let unknown = payment(vec![in_progress(1999), unknown(1)]);
        assert_eq!(bed.recorded(&unknown).await, "nothing", "it stays unknown");
    }
}

#[tokio::test]
async fn a_charge_of_something_else_is_parked() {
    for wrong in [
        Receipt { amount: 1, ..receipt() },
        Receipt { currency: "USD".to_owned(), ..receipt() },
        Receipt { payment: payment_id("another").to_string(), ..receipt() },
    ] {
        let bed = Bed::new(10, 5, &[Outcome::Succeeded(wrong.clone())], &[]);
        assert_eq!(bed.recorded(&payment(vec![in_progress(1999)])).await, "PaymentParked mismatch");
        let bed = Bed::new(10, 5, &[], &[Inquiry::Succeeded(wrong)]);
        assert_eq!(bed.recorded(&payment(vec![in_progress(1999), unknown(1)])).await, "PaymentParked mismatch");
    }
}

#[tokio::test]
async fn what_stays_unknown_is_shown_to_a_person_and_never_fails() {
    let long = payment(vec![in_progress(1999), unknown(1)]);
    for (now, found) in
        [(900, "nothing"), (901, "PaymentParked unknown_too_long"), (9_999, "PaymentParked unknown_too_long")]
    {
        let bed = Bed::new(now, 5, &[], &[Inquiry::Unknown { reason: text(), answered: false }]);
        assert_eq!(bed.recorded(&long).await, found, "at second {now}");
    }
}

#[tokio::test]
async fn past_the_window_only_a_final_not_found_licenses_a_charge() {
    // An outage longer than the key window: the lane was taken at 5,000, the payment is of 0.
    let old = || payment(vec![in_progress(1999)]);
    let bed = Bed::new(5_001, 5_000, &[], &[Inquiry::NotFound]);
    let Verdict::TryAgain { at: again_at, .. } = bed.verdict(&old(), Memory::default()).await else {
        panic!("recorded")
    };
    assert_eq!(
        (bed.asked(), again_at),
        (vec!["inquire"], at(5_060)),
        "an earlier owner's call may still be on its way"
    );
    let bed = Bed::new(5_060, 5_000, &[Outcome::Succeeded(receipt())], &[Inquiry::NotFound]);
    assert_eq!(bed.recorded(&old()).await, "PaymentSuccessful");
    assert_eq!(bed.asked(), ["inquire", "charge"]);
    // And after each charge that was sent, the same wait again.
    let posted = Memory { last_post: Some(at(5_100)), pause: None };
    let bed = Bed::new(5_150, 5_000, &[], &[Inquiry::NotFound]);
    let Verdict::TryAgain { at: again_at, memory } = bed.verdict(&old(), posted).await else { panic!("recorded") };
    assert_eq!((again_at, memory.last_post), (at(5_160), posted.last_post));
}

#[tokio::test]
async fn a_licence_is_used_at_once_or_not_at_all() {
    let old = payment(vec![in_progress(1999)]);
    let bed = Bed::new(6_000, 5_000, &[], &[Inquiry::NotFound]);
    // The process sleeps between the answer and the charge.
    let hand = Arc::clone(&bed.hand);
    *bed.gateway.after_inquiry.lock().unwrap() = Some(Box::new(move || *hand.0.lock().unwrap() = at(6_101)));
    assert_eq!(bed.recorded(&old).await, "nothing");
    assert_eq!(bed.asked(), ["inquire"], "a tenth of the window has passed");
}

#[tokio::test]
async fn a_window_that_ends_while_the_process_sleeps_sends_nothing() {
    let bed = Bed::new(799, 5, &[], &[Inquiry::NotFound]);
    let hand = Arc::clone(&bed.hand);
    *bed.gateway.after_inquiry.lock().unwrap() = Some(Box::new(move || *hand.0.lock().unwrap() = at(800)));
    assert_eq!(bed.recorded(&payment(vec![in_progress(1999), unknown(1)])).await, "nothing");
    assert_eq!(bed.asked(), ["inquire"]);
}

#[tokio::test]
async fn a_lane_that_has_gone_sends_nothing() {
    let bed = Bed::new(10, 5, &[], &[Inquiry::NotFound]);
    let tenure = bed.tenure.clone();
    *bed.gateway.after_inquiry.lock().unwrap() = Some(Box::new(move || tenure.end()));
    assert_eq!(bed.recorded(&payment(vec![in_progress(1999), unknown(1)])).await, "nothing");
    assert_eq!(bed.asked(), ["inquire"]);
}

#[tokio::test]
async fn a_clock_that_is_hours_off_charges_nothing_too_late() {
    let fresh = payment(vec![in_progress(1999)]);
    // Behind: the log says 14,400, this machine says 10.
    let bed = Bed::new(10, 5, &[], &[]);
    bed.clocks.saw(at(14_400));
    assert!(matches!(bed.start(&fresh, Memory::default()), Start::Held { until: Some(_) }), "nothing is dispatched");
    // Just believable: the later clock counts, and by that one the window is over.
    let bed = Bed::new(760, 755, &[], &[Inquiry::NotFound]);
    bed.clocks.saw(at(800));
    assert_eq!(bed.recorded(&fresh).await, "nothing");
    assert_eq!(bed.asked(), ["inquire"]);
    // Ahead: the window looks older than it is, and the payment is asked about where it could have been charged.
    let bed = Bed::new(14_400, 14_390, &[], &[Inquiry::NotFound]);
    bed.clocks.saw(at(1));
    assert_eq!(bed.recorded(&fresh).await, "nothing");
    assert_eq!(bed.asked(), ["inquire"]);
}

#[tokio::test]
async fn every_try_asks_for_the_same_with_the_same_key() {
    let not_sent = || Outcome::NotSent { reason: "refused".to_owned() };
    let bed = Bed::new(20, 5, &[not_sent(), not_sent(), not_sent(), not_sent()], &[Inquiry::NotFound]);
    for events in [
        vec![in_progress(1999)],
        vec![in_progress(1999), retry(1)],
        vec![in_progress(1999), parked(), resumed(2, Decision::ChargeAgain)],
        vec![in_progress(1999), unknown(1)],
    ] {
        bed.verdict(&payment(events), Memory::default()).await;
    }
    let asked = bed.gateway.asked.lock().unwrap();
    let same = |(_, c): &(_, Charge)| (c.key, c.money, c.payment_method.clone(), c.request_version, c.merchant.clone());
    assert_eq!(asked.len(), 5);
    assert!(asked.iter().all(|one| same(one) == same(&asked[0])));
}

#[tokio::test]
async fn the_gateway_s_own_patience_is_honoured() {
    let retry_after = Some(Duration::from_secs(120));
    let bed = Bed::new(10, 5, &[Outcome::NotExecuted { reason: text(), retry_after }], &[]);
    let Verdict::Record(data) = bed.verdict(&payment(vec![in_progress(1999)]), Memory::default()).await else {
        panic!("not recorded")
    };
    let EventData::PaymentRetryScheduled(retry) = *data else { panic!("{data:?}") };
    assert_eq!(retry.not_before, at(130));
}

#[tokio::test]
async fn what_an_operator_has_settled_asks_nobody() {
    let decisions = [
        (Decision::SettleSuccessful { reference: "ch_9".to_owned() }, "PaymentSuccessful"),
        (Decision::SettleFailed { code: "refused_by_operator".to_owned() }, "PaymentFailed"),
    ];
    for (decision, name) in decisions {
        // Even when the window is over, and for a gateway that is not configured here.
        let bed = Bed::new(10_000, 5, &[], &[]);
        let mut resumed = payment(vec![in_progress(1999), parked(), resumed(2, decision)]);
        resumed.initiation.gateway = "another".to_owned();
        assert_eq!(bed.recorded(&resumed).await, name);
    }
}

#[tokio::test]
async fn a_merchant_and_a_gateway_have_only_so_many_calls() {
    let mut bed = Bed::new(10, 5, &[declined(), declined(), declined(), declined()], &[]);
    let bulkheads = Bulkheads { gateway_max: 3, merchant_max: 2 };
    let policy = Policy { bulkheads, ..Policy::default() };
    bed.processor = Processor::new(Arc::clone(&bed.gateway) as Arc<dyn Gateway>, bed.clocks.clone(), policy);
    let mine = payment(vec![in_progress(1999)]);
    let mut other = mine.clone();
    other.initiation.merchant_id = MerchantId::parse("acme").unwrap();
    let start = |payment: &Payment| bed.start(payment, Memory::default());
    let mut running = vec![start(&mine), start(&mine)];
    assert!(matches!(start(&mine), Start::HeldMerchant { until: None }), "two calls for one merchant");
    running.push(start(&other));
    assert!(matches!(start(&other), Start::Held { until: None }), "three calls at the gateway");
    running.remove(0);
    assert!(matches!(start(&other), Start::Running(_)), "room again");
}

#[tokio::test(start_paused = true)]
async fn a_gateway_that_does_not_answer_is_held_and_tried_out_with_a_question() {
    let lost = vec![Outcome::Unknown { reason: text(), answered: false }; 10];
    let bed = Bed::new(10, 5, &lost, &[Inquiry::NotFound]);
    let fresh = payment(vec![in_progress(1999)]);
    for _ in 0..10 {
        assert_eq!(bed.recorded(&fresh).await, "PaymentOutcomeUnknown");
    }
    let Start::HeldMerchant { until: Some(until) } = bed.start(&fresh, Memory::default()) else { panic!("not held") };
    assert_eq!(bed.asked().len(), 10, "held, not failed, and nobody is asked");
    tokio::time::advance(until.since(at(10))).await;
    bed.gateway.outcomes.lock().unwrap().push_back(Outcome::Succeeded(receipt()));
    assert_eq!(bed.recorded(&fresh).await, "PaymentSuccessful");
    assert_eq!(bed.asked()[10..], ["inquire", "charge"], "never a fresh charge");
    bed.gateway.outcomes.lock().unwrap().push_back(Outcome::Succeeded(receipt()));
    assert_eq!(bed.recorded(&fresh).await, "PaymentSuccessful", "open again for all");
}

/// A provider that answers, and cannot say: nothing is wrong with the way there.
#[tokio::test]
async fn answers_that_settle_nothing_open_no_breaker() {
    let unclear = vec![Outcome::Unknown { reason: text(), answered: true }; 30];
    let bed = Bed::new(10, 5, &unclear, &[]);
    for _ in 0..30 {
        assert_eq!(bed.recorded(&payment(vec![in_progress(1999)])).await, "PaymentOutcomeUnknown");
    }
}

/// A machine that is hours behind, on a log that was quiet for hours: nothing says so before something new is on the log.
#[tokio::test]
async fn a_clock_that_was_not_compared_opens_no_window() {
    let found = [Inquiry::Succeeded(receipt()), Inquiry::NotFound];
    let charged = [Outcome::Succeeded(receipt()), Outcome::Succeeded(receipt())];
    let mut bed = Bed::new(10, 5, &charged, &found);
    bed.clocks = Clocks::new(Arc::clone(&bed.hand) as Arc<dyn Clock>);
    bed.processor = Processor::new(Arc::clone(&bed.gateway) as _, bed.clocks.clone(), Policy::default());
    let payment = payment(vec![in_progress(1999)]);
    for asked in [&["inquire"][..], &["inquire", "inquire", "charge"]] {
        assert_eq!(bed.recorded(&payment).await, "PaymentSuccessful");
        assert_eq!(bed.asked(), asked);
    }
    bed.clocks.compare();
    bed.verdict(&payment, Memory::default()).await;
    assert_eq!(bed.asked(), ["inquire", "inquire", "charge", "charge"]);
}
