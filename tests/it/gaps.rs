//! What takes offsets on a log and is no record: aborted records, and the markers at the ends of transactions. A fold from
//! the start comes to the same rows and the same offsets as the one that met them as they were written.

use paylog::projection::Offsets;
use paylog::service::Role;
use serde_json::json;

use crate::client::{Client, body};
use crate::cluster::{Bed, Running, System, until};
use crate::rebuild::{other, reaches, rebuild, wish};
use crate::verify::{aborted, front_dir, load, text, verify};

const PAYMENTS: usize = 40;

/// Everything up to the end of the log, whatever stands there last.
async fn folded_to_the_end(running: &Running) -> Offsets {
    until("all of the log is folded", async || {
        let folded: u64 = running.view.folded().as_slice().iter().map(|next| next.0).sum();
        folded == running.log_end().await
    })
    .await;
    running.view.folded()
}

/// Payments, and transactions that others abort: before, between and behind them. An embedded log has no such thing (see
/// `Engine`), and ends with a record.
async fn fill(bed: &Bed, front: &Running) {
    let strangers = || {
        if bed.is_kafka() {
            tokio::task::block_in_place(|| aborted(bed))
        }
    };
    strangers();
    tokio::join!(load(front, "early", PAYMENTS), async { strangers() });
    load(front, "late", PAYMENTS).await;
    strangers();
}

async fn answers(client: &Client) -> Vec<serde_json::Value> {
    let list = client.get("/v1/payments?customer_id=cus_1&limit=200").await.body;
    let mut answers = Vec::new();
    for payment in list["data"].as_array().unwrap() {
        answers
            .push(client.get(&format!("/v1/payments/{}/events?all=true", payment["id"].as_str().unwrap())).await.body);
    }
    answers.push(list);
    answers
}

/// Another instance that folds everything from the start; where one process has the log to itself, the same without its rows.
async fn afresh(bed: &Bed, system: System) -> System {
    if bed.is_kafka() {
        let fresh = bed.run(Role::Serve, "fresh", &[]).await;
        system.front.stop().await;
        return System { front: fresh, ..system };
    }
    system.stop().await;
    std::fs::remove_dir_all(front_dir(bed).join("store")).unwrap();
    System { front: bed.run(Role::All, "up", &[]).await, processor: None }
}

pub async fn a_fold_from_the_start_comes_to_the_rows_and_offsets_of_the_live_one(bed: &Bed) {
    let system = bed.start().await;
    fill(bed, &system.front).await;
    let (live, records) = (folded_to_the_end(&system.front).await, system.front.log().await.len());
    let end = system.front.log_end().await;
    match bed.is_kafka() {
        true => assert!(end > records as u64, "there are gaps: {end} offsets and {records} records"),
        false => assert_eq!(end, records as u64, "there are none"),
    }
    let client = &system.front.client;
    let version = rebuild(client, &json!({})).await;
    reaches(client, "verified").await;
    let built = other(client).await.unwrap();
    assert_eq!((&built["folded_offsets"], &built["differences"]), (&json!(end), &json!(0)), "{built}");
    assert_eq!(wish(client, "promote", &version).await.status, 200);
    let (said, promoted) = (answers(client).await, system.front.view.folded());
    assert_eq!((said.len(), &promoted), (2 * PAYMENTS + 1, &live));

    let system = afresh(bed, system).await;
    assert_eq!(folded_to_the_end(&system.front).await, live, "marker by marker");
    assert!(answers(&system.front.client).await == said, "another instance answers something else");
    let after = system.front.client.pay_to_the_end("after", &body("cus_2", "pm_card_visa")).await;
    assert_eq!((after.status, after.text("status")), (200, "successful"), "behind the last marker too");
    system.stop().await;
    // Twice from the start, and against the rows that were folded live and then exchanged, or made afresh.
    let dir = text(&front_dir(bed));
    let verified = verify(bed, if bed.is_kafka() { vec!["--data-dir", &dir] } else { vec![] }.as_slice()).await;
    assert!(verified.code == Some(0) && verified.out.ends_with("violations: 0, warnings: 0\n"), "{verified:?}");
    assert!(verified.out.contains("rows compared with those of the store"), "{verified:?}");
}
