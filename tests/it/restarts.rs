//! Services that stop and start while payments are on their way.

use std::path::Path;

use paylog::projection::{Payments, versioned_name};
use paylog::service::{Role, Service};

use crate::client::body;
use crate::cluster::{Bed, ends_of, until};

pub async fn a_restart_keeps_the_history_and_goes_on(bed: &Bed) {
    const PAYMENTS: usize = 30;
    let slow = ["--simulator-latency-ms", "400"];
    let mut system = bed.start_with(&slow).await;
    let mut ids = Vec::new();
    for n in 0..PAYMENTS {
        ids.push(system.front.client.pay(&format!("order-{n}"), &body("cus_1", "pm_card_visa")).await.id());
    }
    // In the middle: the charges are on their way.
    if let Some(processor) = system.processor.take() {
        processor.stop().await;
        system.processor = Some(bed.run(Role::Process, "process", &slow).await);
        system.front.stop().await;
        system.front = bed.run(Role::Serve, "serve", &slow).await;
    } else {
        system.front.stop().await;
        system.front = bed.run(Role::All, "up", &slow).await;
    }
    for id in &ids {
        until("the payment ends after the restart", async || {
            let answer = system.front.client.get(&format!("/v1/payments/{id}")).await;
            answer.status == 200 && answer.text("status") == "successful"
        })
        .await;
    }
    let again = system.front.client.pay("order-0", &body("cus_1", "pm_card_visa")).await;
    assert_eq!((again.status, again.id()), (200, ids[0]), "a key is remembered through a restart");
    let log = system.front.log().await;
    assert!(ids.iter().all(|id| ends_of(&log, *id) == 1), "each ends exactly once");
    system.stop().await;
}

/// Never ready and empty: what was not folded since the start is not shown as if there were nothing.
pub async fn nothing_is_ready_before_it_has_folded_the_log(bed: &Bed) {
    let system = bed.start().await;
    let paid = system.front.client.pay_to_the_end("order-1", &body("cus_1", "pm_card_visa")).await;
    system.stop().await;
    let (role, command) = if bed.is_kafka() { (Role::Serve, "serve") } else { (Role::All, "up") };
    std::fs::remove_dir_all(bed.data_dir(command).join("store")).unwrap();
    let service = Service::open(bed.args(command, command, &[]), role).await.unwrap();
    assert!(!service.view().caught_up(), "nothing was folded yet");
    assert!(service.view().payment(paid.id()).unwrap().is_none());
    drop(service);
    let front = bed.run(role, command, &[]).await;
    assert_eq!(front.client.get(&format!("/v1/payments/{}", paid.text("id"))).await.status, 200);
    front.stop().await;
}

/// Replay equals live, as far as it can be seen from outside: the same payments, histories and pages.
pub async fn an_instance_that_starts_empty_answers_the_same(bed: &Bed) {
    answers_the_same_after(bed, |store| std::fs::remove_dir_all(store).unwrap()).await;
}

/// What was written last is gone, and what was written before it is not.
pub async fn an_instance_whose_rows_are_damaged_answers_the_same(bed: &Bed) {
    answers_the_same_after(bed, |store| {
        let tables = store.join(versioned_name::<Payments>()).join("keyspaces");
        let numbers =
            std::fs::read_dir(&tables).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
        // 0 is the engine's own, with the names of the others.
        let first = numbers.map(|number| number.parse::<u64>().unwrap()).filter(|number| *number > 0).min().unwrap();
        std::fs::remove_dir_all(tables.join(first.to_string())).unwrap();
    })
    .await;
}

async fn answers_the_same_after(bed: &Bed, damage: impl Fn(&Path)) {
    let mut system = bed.start().await;
    let mut paths = vec!["/v1/payments?customer_id=cus_1".to_owned()];
    for (n, method) in ["pm_card_visa", "pm_card_visa_chargeDeclined", "pm_sim_transient"].iter().enumerate() {
        let payment = system.front.client.pay_to_the_end(&format!("order-{n}"), &body("cus_1", method)).await;
        paths.push(format!("/v1/payments/{}", payment.text("id")));
        paths.push(format!("/v1/payments/{}/events?all=true", payment.text("id")));
    }
    let mut live = Vec::new();
    for path in &paths {
        live.push(system.front.client.get(path).await.body);
    }
    let (role, name) = if bed.is_kafka() { (Role::Serve, "serve") } else { (Role::All, "up") };
    system.front.stop().await;
    damage(&bed.data_dir(name).join("store"));
    system.front = bed.run(role, name, &[]).await;
    for (path, live) in paths.iter().zip(live) {
        assert_eq!(system.front.client.get(path).await.body, live, "{path}");
    }
    system.stop().await;
}
