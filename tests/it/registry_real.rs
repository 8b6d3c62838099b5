//! A schema registry that nobody here wrote (`scripts/registry up`), at `PAYLOG_TEST_REGISTRY`. Its subjects are the tests' own.

use paylog::schema::Codec;
use serde_json::{Value, json};

use crate::client::body;
use crate::cluster::{Bed, until};
use crate::foreign::Foreign;
use crate::operations::paylog;
use crate::registry_double::{schema, topic};

fn url() -> String {
    std::env::var("PAYLOG_TEST_REGISTRY").expect("PAYLOG_TEST_REGISTRY is not set: start one with scripts/registry up")
}

async fn schemas(command: &str, bed: &Bed) -> (Option<i32>, String, String) {
    let words = ["paylog", "schemas", command, "--schema-registry", &url(), "--topic-prefix", &topic(bed)];
    let words: Vec<String> = words.into_iter().map(str::to_owned).collect();
    let done = tokio::task::spawn_blocking(move || paylog(&words)).await.unwrap();
    (done.status.code(), String::from_utf8(done.stdout).unwrap(), String::from_utf8(done.stderr).unwrap())
}

async fn post(path: &str, schema: &str) -> (u16, Value) {
    let sent = json!({"schema": schema, "schemaType": "AVRO"}).to_string();
    let request = reqwest::Client::new().post(format!("{}/{path}", url())).header("content-type", "application/json");
    let answer = request.body(sent).send().await.unwrap();
    (answer.status().as_u16(), serde_json::from_slice(&answer.bytes().await.unwrap()).unwrap())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs Kafka and a schema registry: see CONTRIBUTING.md"]
async fn schemas_are_registered_and_what_is_not_compatible_is_refused_by_the_registry() {
    let bed = Bed::kafka().await;
    let (code, said, _) = schemas("check", &bed).await;
    assert_eq!((code, said.matches("is not there").count()), (Some(1), 8), "{said}");
    let (code, first, error) = schemas("register", &bed).await;
    assert_eq!((code, first.lines().count()), (Some(0), 8), "{first}{error}");
    let (_, again, _) = schemas("register", &bed).await;
    assert_eq!(again, first, "to register again changes nothing");
    let (code, said, _) = schemas("check", &bed).await;
    assert_eq!((code, said.as_str()), (Some(0), "the schemas are registered as they must be\n"));

    let versions = format!("subjects/{}-paylog.PaymentFailed/versions", topic(&bed));
    let ours = schema("PaymentFailed");
    let renamed = ours.replace(r#""attempt""#, r#""try""#);
    let mut fields: Value = serde_json::from_str(&ours).unwrap();
    fields["fields"].as_array_mut().unwrap().push(json!({"name": "network_code", "type": "string"}));
    let without_default = fields.to_string();
    for refused in [&renamed, &without_default] {
        let (status, answer) = post(&versions, refused).await;
        assert_eq!(status, 409, "{answer}");
    }
    let fine = without_default.replace(r#""name":"network_code""#, r#""name":"network_code","default":"""#);
    let (status, answer) = post(&versions, &fine).await;
    assert_eq!(status, 200, "a field with a default may come: {answer}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs Kafka and a schema registry: see CONTRIBUTING.md"]
async fn events_are_written_by_the_ids_of_a_real_registry_and_folded_by_them() {
    let bed = Bed::kafka().await;
    let url = url();
    let (code, said, error) = schemas("register", &bed).await;
    assert_eq!(code, Some(0), "{said}{error}");
    let system = bed.start_with(&["--schema-registry", &url]).await;
    let paid = system.front.client.pay_to_the_end("order-1", &body("cus_1", "pm_card_visa")).await;
    assert_eq!((paid.status, paid.text("status")), (200, "successful"), "{paid:?}");
    let log = Foreign::new(&bed).read(&bed.prefix).await;
    let ids: Vec<&str> = said.lines().map(|line| line.split(' ').nth(1).unwrap()).collect();
    for stood in log.iter().filter(|stood| !stood.says("ce_type").is_empty()) {
        let value = stood.value.as_deref().unwrap();
        let id = u32::from_be_bytes(value[1..5].try_into().unwrap()).to_string();
        assert!(value[0] == 0 && ids.contains(&id.as_str()), "{id} is none of {ids:?}");
        assert_eq!(stood.says("ce_dataschema"), format!("{url}/schemas/ids/{id}"));
        assert!(Codec::new().unwrap().decode(value).is_err(), "nobody else knows the id");
    }
    system.stop().await;
    // Whoever has folded nothing and never wrote: it has every id from the registry.
    let late = bed.run(paylog::service::Role::Serve, "late", &["--schema-registry", &url]).await;
    let link = format!("/v1/payments/{}", paid.text("id"));
    until("another instance has folded it", async || late.client.get(&link).await.body["status"] == "successful").await;
    late.stop().await;
}
