//! What only Kafka has: several processors that share the partitions, and come and go under load.

use paylog::service::Role;

use crate::client::body;
use crate::cluster::{Bed, ends_of, until};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs Kafka: see CONTRIBUTING.md"]
async fn one_then_three_then_one_processor_under_load() {
    const PAYMENTS: usize = 600;
    let bed = Bed::kafka().await.with(&["--simulator-latency-ms", "20"]);
    let front = bed.run(Role::Serve, "serve", &[]).await;
    let first = bed.run(Role::Process, "process-1", &[]).await;
    let client = front.client.clone();
    let load = tokio::spawn(async move {
        let mut ids = Vec::new();
        for n in 0..PAYMENTS {
            let answer = client.pay(&format!("order-{n}"), &body("cus_1", "pm_card_visa")).await;
            assert_eq!(answer.status, 202, "{answer:?}");
            ids.push(answer.id());
        }
        ids
    });
    let second = bed.run(Role::Process, "process-2", &[]).await;
    let third = bed.run(Role::Process, "process-3", &[]).await;
    first.stop().await;
    third.stop().await;
    let ids = load.await.unwrap();
    for id in &ids {
        until("every payment ends", async || {
            front.view.payment(*id).unwrap().is_some_and(|row| row.payment.is_terminal())
        })
        .await;
    }
    let log = front.log().await;
    assert!(ids.iter().all(|id| ends_of(&log, *id) == 1), "each ends exactly once");
    second.stop().await;
    front.stop().await;
}
