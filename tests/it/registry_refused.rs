//! A schema of which the registry says nothing to paylog's user, while it answers for all others.

use serde_json::{Value, json};

use crate::client::{Answer, Client};
use crate::cluster::{Bed, until};
use crate::foreign::{Foreign, Sent, avro, id};
use crate::operations::paylog;
use crate::registry_double::{Mode, Registry, framed, schema, topic};

async fn decide(client: &Client, id: u32, change: &str) -> Answer {
    let body = json!({"operator": "ada", "reason": "its subject is closed to us"});
    client.post(&format!("/v1/operator/requests/schemas/{id}/{change}"), &body).await
}

async fn refusal(client: &Client, id: u32, change: &str) -> (u16, String) {
    let refused = decide(client, id, change).await;
    (refused.status, refused.text("code").to_owned())
}

async fn command(client: &Client, words: &[&str]) -> String {
    let words = [&["paylog", "requests"], words, &["--url", &client.url]].concat();
    let words: Vec<String> = words.into_iter().map(str::to_owned).collect();
    let done = tokio::task::spawn_blocking(move || paylog(&words)).await.unwrap();
    assert!(done.status.success(), "{done:?}");
    String::from_utf8(done.stdout).unwrap()
}

pub async fn only_what_the_registry_alone_says_nothing_of_is_refused(bed: &Bed) {
    let registry = Registry::with_schemas_of(bed).await;
    registry.withhold(700);
    let system = bed.start_with(&["--schema-registry", &registry.url]).await;
    let client = &system.front.client;
    let conflict = |code: &str| (409, code.to_owned());
    let known = registry.id_of(&format!("{}.requests-paylog.PaymentRequested", topic(bed)));
    assert_eq!(refusal(client, known, "refuse").await, conflict("schema_explained"));
    assert_eq!(refusal(client, 799, "refuse").await, conflict("schema_explained"), "that there is none is an answer");
    assert_eq!(refusal(client, 700, "readmit").await, conflict("not_refused"));
    assert_eq!(refusal(client, u32::MAX, "refuse").await, conflict("schema_explained"), "it is no id");
    let body = json!({"operator": "ada", "reason": "x"});
    let none = client.post("/v1/operator/requests/schemas/seventeen/refuse", &body).await;
    assert_eq!((none.status, none.text("code")), (400, "invalid_schema_id"));
    registry.now(Mode::Fails(403));
    assert_eq!(refusal(client, 700, "refuse").await, conflict("registry_away"), "of all ids alike");
    registry.now(Mode::Well);
    let refused = decide(client, 700, "refuse").await;
    assert_eq!((refused.status, &refused.body["refused"]), (201, &json!(true)), "{refused:?}");
    assert_eq!(refusal(client, 700, "refuse").await, conflict("already_refused"));
    let list = client.get("/v1/operator/requests").await;
    assert_eq!(list.body["takes_requests"], false, "neither `serve`, nor `up` without Kafka: {list:?}");
    let shown: Vec<(&Value, &str)> = list.body["refused"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| (&one["schema_id"], one["operator"].as_str().unwrap()))
        .collect();
    assert_eq!(shown, [(&json!(700), "ada")]);
    let said = command(client, &["ls"]).await;
    assert!(said.contains("ask a `paylog process`") && said.contains("refused 700 "), "{said}");
    system.stop().await;

    // It stands on the control log, whoever starts.
    let system = bed.start_with(&["--schema-registry", &registry.url]).await;
    let client = &system.front.client;
    let said = command(client, &["readmit", "700", "--operator", "bob", "--reason", "its rights are mended"]).await;
    assert!(said.contains("700 are waited for again"), "{said}");
    assert_eq!(client.get("/v1/operator/requests").await.body["refused"], json!([]));
    system.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs Kafka: see CONTRIBUTING.md"]
async fn a_schema_that_is_closed_to_paylog_holds_up_its_partition_until_an_operator_refuses_it() {
    let bed = Bed::kafka().await;
    let registry = Registry::with_schemas_of(&bed).await;
    registry.withhold(700);
    let system = bed.start_with(&["--schema-registry", &registry.url]).await;
    let (foreign, process) = (Foreign::new(&bed), &system.processor.as_ref().unwrap().client);
    let ours = |id: u32, key: &str| framed(id, &avro("default", key, 1999));
    let paid = async |key: &str| {
        until("the payment ends", async || {
            let row = system.front.view.payment(id("default", key)).unwrap();
            row.is_some_and(|row| row.payment.is_terminal())
        })
        .await;
    };
    foreign.send(&Sent::json("before").to(0)).await;
    let (_, offset) = foreign.send(&Sent::bytes("k", &ours(700, "closed")).to(0)).await;
    foreign.send(&Sent::json("behind").to(0)).await;
    paid("before").await;
    until("it is told apart from a registry that is away", async || {
        let held = process.get("/v1/operator/requests").await.body["held"][0].clone();
        held["waits_for"] == "schema_withheld"
    })
    .await;
    let list = process.get("/v1/operator/requests").await;
    let (held, takes) = (&list.body["held"], &list.body["takes_requests"]);
    assert_eq!((held.as_array().unwrap().len(), takes), (1, &json!(true)), "{list:?}");
    let stands = (&held[0]["topic"], &held[0]["position"], &held[0]["schema_id"]);
    assert_eq!(stands, (&json!(foreign.requests()), &json!(format!("0:{offset}")), &json!(700)));
    let reason = held[0]["reason"].as_str().unwrap();
    assert!(reason.contains("answers for other ids") && reason.contains("denied"), "{reason}");
    let said = command(process, &["ls"]).await;
    assert!(said.contains(&format!("/0:{offset} since 20")), "{said}");
    let metrics = reqwest::get(format!("{}/metrics", process.url)).await.unwrap().text().await.unwrap();
    let gauge =
        format!("paylog_requests_held_partitions{{topic=\"{}\",for=\"schema_withheld\"}} 1", foreign.requests());
    assert!(metrics.contains(&gauge), "{metrics}");
    assert_eq!(foreign.dead_letters().await, [], "nobody is refused by itself");

    let said = command(process, &["refuse", "700", "--operator", "ada", "--reason", "closed"]).await;
    assert!(said.contains("700 become dead letters"), "{said}");
    paid("behind").await;
    let letters = foreign.dead_letters().await;
    assert_eq!(letters.len(), 1, "{letters:?}");
    assert_eq!(
        (letters[0].says("paylog-reason"), letters[0].value.clone()),
        ("refused_schema", Some(ours(700, "closed")))
    );
    assert_eq!(process.get("/v1/operator/requests").await.body["held"], json!([]));

    // Taken back, they wait again, and are paid once the registry explains the id.
    assert_eq!(decide(&system.front.client, 700, "readmit").await.status, 201);
    until("the process knows", async || process.get("/v1/operator/requests").await.body["refused"] == json!([])).await;
    foreign.send(&Sent::bytes("k", &ours(700, "opened")).to(0)).await;
    registry.explain(700, &schema("PaymentRequested"));
    paid("opened").await;
    assert_eq!(foreign.dead_letters().await.len(), 1);
    system.stop().await;
}
