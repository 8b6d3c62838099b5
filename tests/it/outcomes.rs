//! When a charge may be sent, and for whom: the whole of paylog with a clock that is off, or with a merchant that takes long.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use paylog::clock::{Clock, Clocks};
use paylog::payment::{EventData, IdempotencyKey, MerchantId, NewPayment, PaymentId, RequestId, Timestamp};
use paylog::service::Role;

use crate::client::body;
use crate::cluster::{Bed, Running, System, until};
use crate::foreign_hands::append_event;

const HOUR_S: i64 = 60 * 60;

/// The machine's clock, so many seconds off.
struct Off(AtomicI64);

impl Clock for Off {
    fn now(&self) -> Timestamp {
        let off_us = self.0.load(Ordering::SeqCst) * 1_000_000;
        Timestamp::from_micros(Timestamp::now().as_micros() + off_us).unwrap()
    }
}

impl Off {
    fn clocks(seconds: i64) -> (Arc<Self>, Clocks) {
        let off = Arc::new(Self(AtomicI64::new(seconds)));
        (Arc::clone(&off), Clocks::new(off))
    }
}

/// Everything, with the processor on a machine whose clock is off. The embedded journal's log has its own clock, as a broker has.
async fn start(bed: &Bed, clocks: Clocks) -> System {
    if bed.is_kafka() {
        let front = bed.run(Role::Serve, "serve", &[]).await;
        System { front, processor: Some(bed.run_at(Role::Process, "process", &[], clocks).await) }
    } else {
        System { front: bed.run_at(Role::All, "up", &[], clocks).await, processor: None }
    }
}

fn processor(system: &System) -> &Running {
    system.processor.as_ref().unwrap_or(&system.front)
}

pub async fn a_clock_that_is_hours_behind_charges_nothing_until_it_is_set_right(bed: &Bed) {
    let (off, clocks) = Off::clocks(-3 * HOUR_S);
    let system = start(bed, clocks).await;
    let accepted = system.front.client.pay("order-1", &body("cus_1", "pm_card_visa")).await;
    assert_eq!(accepted.status, 202);
    let behind = processor(&system);
    until("the processor says that its clock is behind", async || {
        let ready = behind.client.get("/readyz").await;
        ready.body["clock_behind_seconds"].as_i64().is_some_and(|seconds| (seconds - 3 * HOUR_S).abs() < 120)
    })
    .await;
    until("the lane has looked at the payment, and held it", async || {
        let metrics = reqwest::get(format!("{}/metrics", behind.client.url)).await.unwrap().text().await.unwrap();
        metrics.lines().any(|line| line.starts_with("paylog_clock_behind_seconds 1"))
    })
    .await;
    let held = system.front.client.get(accepted.link("self")).await;
    assert_eq!((held.text("status"), held.body["version"].as_u64()), ("in_progress", Some(1)), "{held:?}");
    off.0.store(0, Ordering::SeqCst);
    until("it is charged once the clock is right", async || {
        system.front.client.get(accepted.link("self")).await.text("status") == "successful"
    })
    .await;
    system.stop().await;
}

/// By that clock the key window is over, so nothing is charged without asking; the simulator knows the payment.
pub async fn a_clock_that_is_a_day_ahead_asks_before_it_charges(bed: &Bed) {
    let (_, clocks) = Off::clocks(30 * HOUR_S);
    let system = start(bed, clocks).await;
    let client = &system.front.client;
    // The in-process simulator "finds" what it would have charged, and finds nothing of what is unavailable.
    let found = client.pay("order-1", &body("cus_1", "pm_card_visa")).await;
    let unavailable = client.pay("order-2", &body("cus_1", "pm_sim_unavailable")).await;
    until("what the gateway knows ends", async || client.get(found.link("self")).await.text("status") == "successful")
        .await;
    let open = client.get(unavailable.link("self")).await;
    assert_eq!(open.text("status"), "in_progress", "no age turns unknown into failed: {open:?}");
    system.stop().await;
}

/// Two calls at once for a merchant, each of three seconds, and a hundred payments of it; then one of another.
pub async fn a_merchant_without_room_does_not_hold_up_the_others(bed: &Bed) {
    const SLOW: usize = 100;
    let system = bed.start_with(&["--merchant-in-flight", "2"]).await;
    let slow = MerchantId::parse("slow").unwrap();
    let mut ids = Vec::new();
    for n in 0..SLOW {
        let id = PaymentId::derive(&slow, &IdempotencyKey::parse(&format!("order-{n}")).unwrap());
        append_event(&system.front, id, initiation(&slow)).await;
        ids.push(id);
    }
    let mine = system.front.client.pay_to_the_end("order-1", &body("cus_1", "pm_card_visa")).await;
    assert_eq!((mine.status, mine.text("status")), (200, "successful"));
    let open = ids.iter().filter(|id| !system.front.view.payment(**id).unwrap().unwrap().payment.is_terminal()).count();
    assert!(open > SLOW / 2, "the others did not end first: {open} of {SLOW} are still open");
    system.stop().await;
}

fn initiation(merchant: &MerchantId) -> EventData {
    let request = NewPayment::parse(body("cus_1", "pm_sim_delay").to_string().as_bytes()).unwrap();
    EventData::PaymentInProgress(request.accept(merchant.clone(), "simulator", RequestId::random()))
}
