//! Checkpoints that are asked for one after the other, and what `/metrics` says of them.

use serde_json::Value;

use crate::client::body;
use crate::cluster::{Bed, PATIENCE, until};
use crate::crashes::Process;
use crate::rejected::front_of;

/// A payment of which a row takes much room: some dozens of them are several blocks, after each of which a
/// writer rests, a hundred times as long as it has worked.
fn large() -> Value {
    let metadata = (0..24).map(|n| (format!("note-{n}"), Value::from(format!("{n} ").repeat(160)))).collect();
    let mut large = body("cus_1", "pm_card_visa");
    large["metadata"] = Value::Object(metadata);
    large
}

/// One of a projection at a time, and what has become of each is measured.
pub async fn a_second_checkpoint_waits_for_the_first_and_each_is_measured(bed: &Bed) {
    let command = front_of(bed).1;
    // A process of its own: what is counted is counted for a whole process.
    let mut started = Process::start(bed.words(command, command, &[])).await;
    let (client, address) = (started.client.clone(), "/v1/operator/checkpoints");
    let metrics = async || reqwest::get(format!("{}/metrics", client.url)).await.unwrap().text().await.unwrap();
    assert!(metrics().await.contains("paylog_checkpoint_age_seconds{projection=\"payments\"} NaN"));
    for n in 0..80 {
        assert_eq!(client.pay(&format!("order-{n}"), &large()).await.status, 202);
    }
    let slowly = serde_json::json!({"projection": "payments", "effort": 1});
    // One behind the other, whichever it is.
    let (one, two) = tokio::join!(client.post(address, &slowly), client.post(address, &slowly));
    let (begun, second) = if one.status == 202 { (one, two) } else { (two, one) };
    assert_eq!((begun.status, &begun.body["latest"]["state"]), (202, &Value::from("writing")), "{begun:?}");
    assert_eq!((second.status, second.text("code")), (409, "checkpoint_being_written"), "{second:?}");
    assert!(second.text("detail").contains(begun.body["latest"]["file"].as_str().unwrap()), "{second:?}");
    let other = client.post(address, &serde_json::json!({"projection": "totals"})).await;
    assert_eq!(other.status, 202, "another projection is another file: {other:?}");
    let written = async || {
        let data = client.get(address).await.body["data"].clone();
        data.as_array().unwrap().iter().all(|made| made["latest"]["state"] == "whole")
    };
    until("both are whole", written).await;
    let bytes = std::fs::metadata(begun.body["latest"]["file"].as_str().unwrap()).unwrap().len();
    let text = metrics().await;
    for line in [
        "paylog_checkpoints_total{projection=\"payments\",result=\"made\"} 1\n".to_owned(),
        "paylog_checkpoint_seconds_count{projection=\"payments\"} 1\n".to_owned(),
        format!("paylog_checkpoint_bytes{{projection=\"payments\"}} {bytes}\n"),
    ] {
        assert!(text.contains(&line), "{line}: {text}");
    }
    let age = "paylog_checkpoint_age_seconds{projection=\"payments\"} ";
    let age: f64 = text.lines().find_map(|line| line.strip_prefix(age)).unwrap().parse().unwrap();
    assert!((0.0..PATIENCE.as_secs_f64()).contains(&age), "{age}");
    assert_eq!(client.post(address, &slowly).await.status, 202, "the first is whole");
    started.kill();
}
