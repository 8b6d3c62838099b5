//! What is asked of a gateway, and what its answers may become.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::gateway::{Answer, Charge, Gateway, Inquiry, Outcome, Receipt, Terms};
use crate::lane::{Start, Try, Verdict, Worker};
use crate::payment::event::Decision;
use crate::payment::samples::{at, event, in_progress, parked, resumed, retry, unknown};
use crate::payment::{EventData, Payment};
use crate::processor::{Backoff, Bulkheads, Processor};

/// Answers as it is told, and keeps what it was asked.
struct Scripted {
    outcome: Outcome,
    inquiry: Inquiry,
    asked: Mutex<Vec<(&'static str, Charge)>>,
}

impl Gateway for Scripted {
    fn name(&self) -> &'static str {
        "simulator"
    }

    fn terms(&self) -> Terms {
        let final_after = Some(Duration::ZERO);
        Terms { key_window: Duration::from_secs(60), not_found_final_after: final_after, calls_per_second_max: None }
    }

    fn charge(&self, charge: Charge) -> Answer<Outcome> {
        self.asked.lock().unwrap().push(("charge", charge));
        Box::pin(std::future::ready(self.outcome.clone()))
    }

    fn inquire(&self, charge: Charge) -> Answer<Inquiry> {
        self.asked.lock().unwrap().push(("inquire", charge));
        Box::pin(std::future::ready(self.inquiry.clone()))
    }
}

fn gateway(outcome: Outcome, inquiry: Inquiry) -> Arc<Scripted> {
    Arc::new(Scripted { outcome, inquiry, asked: Mutex::default() })
}

fn payment(events: Vec<EventData>) -> Payment {
    let mut payment = None;
    for (data, seconds) in events.into_iter().zip(0..) {
        Payment::fold(&mut payment, &event(seconds, data), at(seconds)).unwrap();
    }
    payment.unwrap()
}

async fn verdict(gateway: &Arc<Scripted>, payment: &Payment, attempt: u32) -> Verdict {
    let processor = Processor::new(Arc::clone(gateway) as Arc<dyn Gateway>, Bulkheads::default(), Backoff::default());
    match processor.start(payment, Try { attempt, may_defer: false }) {
        Start::Running(effect) => effect.await,
        Start::Held | Start::NotBefore(_) => panic!("nothing holds it back"),
    }
}

async fn recorded(gateway: &Arc<Scripted>, payment: &Payment) -> &'static str {
    match verdict(gateway, payment, 1).await {
        Verdict::Record(data) => data.name(),
        Verdict::TryAgain { .. } => "nothing",
    }
}

#[tokio::test]
async fn only_a_definitive_answer_ends_a_payment() {
    let text = || "whatever it says".to_owned();
    let receipt = || {
        let payment = crate::payment::samples::payment_id("order-1001").to_string();
        Receipt { reference: text(), amount: 1999, currency: "EUR".to_owned(), payment }
    };
    let outcomes = [
        (Outcome::Succeeded(receipt()), "PaymentSuccessful"),
        (Outcome::Declined { code: text(), message: text() }, "PaymentFailed"),
        (Outcome::NotSent { reason: text() }, "PaymentRetryScheduled"),
        (Outcome::NotExecuted { reason: text(), retry_after: None }, "PaymentRetryScheduled"),
        (Outcome::Unknown { reason: text() }, "PaymentOutcomeUnknown"),
    ];
    for (outcome, name) in outcomes {
        let gateway = gateway(outcome, Inquiry::NotFound);
        assert_eq!(recorded(&gateway, &payment(vec![in_progress(1999)])).await, name);
        assert_eq!(gateway.asked.lock().unwrap()[0].0, "charge");
    }
    let inquiries = [
        (Inquiry::Succeeded(receipt()), "PaymentSuccessful"),
        (Inquiry::Declined { code: text(), message: text() }, "PaymentFailed"),
        (Inquiry::NotFound, "PaymentOutcomeUnknown"),
        (Inquiry::StillRunning, "PaymentOutcomeUnknown"),
        (Inquiry::Unknown { reason: text() }, "PaymentOutcomeUnknown"),
    ];
    for (inquiry, name) in inquiries {
        let gateway = gateway(Outcome::Declined { code: text(), message: text() }, inquiry);
        assert_eq!(recorded(&gateway, &payment(vec![in_progress(1999), unknown(1)])).await, name);
        let asked = gateway.asked.lock().unwrap();
        assert!(asked.iter().all(|(what, _)| *what == "inquire"), "unknown is asked about, never charged again");
    }
}

#[tokio::test]
async fn every_try_asks_for_the_same_with_the_same_key() {
    let gateway = gateway(Outcome::NotSent { reason: "refused".to_owned() }, Inquiry::NotFound);
    for (attempt, events) in [
        (1, vec![in_progress(1999)]),
        (2, vec![in_progress(1999), retry(1)]),
        (9, vec![in_progress(1999), parked(), resumed(2, Decision::ChargeAgain)]),
        (10, vec![in_progress(1999), unknown(1)]),
    ] {
        verdict(&gateway, &payment(events), attempt).await;
    }
    let asked = gateway.asked.lock().unwrap();
    let same = |(_, c): &(_, Charge)| (c.key, c.money, c.payment_method.clone(), c.request_version);
    assert_eq!(asked.len(), 4);
    assert!(asked.iter().all(|one| same(one) == same(&asked[0])));
}

#[tokio::test]
async fn what_an_operator_has_settled_asks_nobody() {
    let gateway = gateway(Outcome::Unknown { reason: "never asked".to_owned() }, Inquiry::NotFound);
    let decisions = [
        (Decision::SettleSuccessful { reference: "ch_9".to_owned() }, "PaymentSuccessful"),
        (Decision::SettleFailed { code: "refused_by_operator".to_owned() }, "PaymentFailed"),
    ];
    for (decision, name) in decisions {
        let resumed = payment(vec![in_progress(1999), parked(), resumed(2, decision)]);
        assert_eq!(recorded(&gateway, &resumed).await, name);
    }
    assert!(gateway.asked.lock().unwrap().is_empty());
}

#[test]
fn a_merchant_and_a_gateway_have_only_so_many_calls() {
    let gateway = gateway(Outcome::Unknown { reason: "unasked".to_owned() }, Inquiry::NotFound);
    let bulkheads = Bulkheads { gateway_max: 3, merchant_max: 2 };
    let processor = Processor::new(gateway, bulkheads, Backoff::default());
    let mut other = payment(vec![in_progress(1999)]);
    other.initiation.merchant_id = crate::payment::MerchantId::parse("acme").unwrap();
    let start = |payment: &Payment| processor.start(payment, Try { attempt: 1, may_defer: true });
    let mine = payment(vec![in_progress(1999)]);
    let mut running = vec![start(&mine), start(&mine)];
    assert!(matches!(start(&mine), Start::Held), "two calls for one merchant");
    running.push(start(&other));
    assert!(matches!(start(&other), Start::Held), "three calls at the gateway");
    running.remove(0);
    assert!(matches!(start(&other), Start::Running(_)), "room again");
}
