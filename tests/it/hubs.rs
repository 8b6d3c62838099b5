//! What comes from a hub as of Azure Event Hubs is paid as what comes from our own topic is, and nothing of it is lost or
//! paid twice, whatever ends in between.

use std::process::Stdio;

use paylog::journal::kafka;
use paylog::service::Role;

use crate::client::{Client, body};
use crate::cluster::{Bed, ends_of, until};
use crate::crashes::Process;
use crate::foreign::{Foreign, GOOD, avro, id};
use crate::hub_cluster::HubCluster;
use crate::intake::initiations;

/// Of a process: each holds up the next one for half a minute.
const KILLS_MAX: usize = 4;
const SECRET: &str = "PAYLOG_REQUESTS_CONNECTION_STRING";

/// A real process that takes requests from the hub, and where its log goes.
async fn taking(bed: &Bed, hub: &HubCluster, command: &str, connection_string: &str) -> Process {
    let flags = hub.flags();
    let words = bed.words(command, command, &flags.iter().map(String::as_str).collect::<Vec<_>>());
    let log = std::fs::OpenOptions::new().create(true).append(true).open(bed.data_dir("stderr")).unwrap();
    Process::start_in(words, &[("RUST_LOG", "info"), (SECRET, connection_string)], log.into()).await
}

fn stderr(bed: &Bed) -> String {
    std::fs::read_to_string(bed.data_dir("stderr")).unwrap()
}

async fn succeeds(client: &Client, key: &str) {
    let path = format!("/v1/payments/{}", id("default", key));
    until(&format!("{key} is paid"), async || {
        let answer = client.get(&path).await;
        answer.status == 200 && answer.text("status") == "successful"
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs a Kafka with SASL and TLS: see CONTRIBUTING.md"]
async fn requests_on_a_hub_are_paid_and_what_is_refused_is_a_dead_letter_of_ours() {
    let hub = HubCluster::new().await;
    let bed = Bed::on(hub.plaintext());
    let config = bed.args("serve", "topics", &[]).kafka.config("topics").unwrap();
    tokio::task::spawn_blocking(move || kafka::ensure(&config, 1)).await.unwrap().unwrap();
    let foreign = Foreign::new(&bed);
    let producer = hub.producer();
    // Before anybody is there to take it in: the group begins at the beginning.
    let (partition, offset) = hub.send(&producer, "early", GOOD.as_bytes()).await;
    let front = bed.run(Role::Serve, "serve", &[]).await;
    let mut processor = taking(&bed, &hub, "process", &hub.connection_string()).await;
    hub.send(&producer, "anything", &avro("acme", "in-avro", 500)).await;
    let refused = hub.send(&producer, "refused", GOOD.replace("1999", "-1").as_bytes()).await;
    // What is asked for on our own topic is taken in beside it.
    foreign.send(&crate::foreign::Sent::json("ours")).await;
    for key in ["early", "ours"] {
        succeeds(&front.client, key).await;
    }
    let avro = id("acme", "in-avro");
    until("the one in Avro is paid", async || {
        front.view.payment(avro).unwrap().is_some_and(|row| row.payment.is_terminal())
    })
    .await;
    let early = front.client.get(&format!("/v1/payments/{}", id("default", "early"))).await;
    assert_eq!(early.text("request_id"), format!("127.0.0.1/{}/{partition}/{offset}", hub.hub));
    until("all of it is moved past", async || hub.lag() == 0).await;
    let letters = foreign.dead_letters().await;
    assert_eq!(letters.len(), 1, "{letters:?}");
    assert_eq!(letters[0].key.as_deref(), Some(&b"refused"[..]));
    assert_eq!(letters[0].says("paylog-source"), format!("127.0.0.1/{}/{}/{}", hub.hub, refused.0, refused.1));
    processor.signal("TERM");
    assert_eq!(processor.exit_code().await, Some(0));
    front.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs a Kafka with SASL and TLS: see CONTRIBUTING.md"]
async fn requests_on_a_hub_are_paid_on_the_embedded_journal_and_what_is_refused_is_said() {
    let (hub, bed) = (HubCluster::new().await, Bed::embedded());
    let producer = hub.producer();
    let mut up = taking(&bed, &hub, "up", &hub.connection_string()).await;
    hub.send(&producer, "refused", GOOD.replace("pm_card_visa", "4242424242424242").as_bytes()).await;
    let keys: Vec<String> = (0..50).map(|n| format!("order-{n}")).collect();
    for key in &keys {
        hub.send(&producer, key, GOOD.as_bytes()).await;
    }
    for key in &keys {
        succeeds(&up.client, key).await;
    }
    until("all of it is moved past", async || hub.lag() == 0).await;
    up.signal("TERM");
    assert_eq!(up.exit_code().await, Some(0));
    let said = stderr(&bed);
    assert!(said.contains("card_number") && said.contains(&hub.hub), "{said}");
    assert!(!said.contains("4242424242424242") && !said.contains("cus_1"), "what was asked for is not repeated");
    assert!(!said.contains(&hub.connection_string()), "nor what opens the hub");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs a Kafka with SASL and TLS: see CONTRIBUTING.md"]
async fn killed_between_the_append_and_the_commit_a_request_is_one_payment() {
    let (hub, bed) = (HubCluster::new().await, Bed::embedded());
    let producer = hub.producer();
    let (mut keys, mut between) = (Vec::new(), 0);
    // A process that was killed holds its partitions for the session's 30 s: so not very often. That each is paid once is looked
    // at whether one was killed between the two or not.
    while between == 0 && keys.len() < KILLS_MAX {
        let mut up = taking(&bed, &hub, "up", &hub.connection_string()).await;
        until("what came before is moved past", async || hub.lag() == 0).await;
        let key = format!("order-{}", keys.len());
        hub.send(&producer, &key, GOOD.as_bytes()).await;
        let path = format!("/v1/payments/{}", id("default", &key));
        until("it is on the log", async || up.client.get(&path).await.status == 200).await;
        up.kill();
        // Its place is committed a second later: on a machine that is busy this test may come too late, and that is no round.
        between += hub.lag();
        keys.push(key);
    }
    if between == 0 {
        eprintln!("its place was committed before it could be killed, each of {KILLS_MAX} times: the machine is slow");
    }
    let mut up = taking(&bed, &hub, "up", &hub.connection_string()).await;
    until("all of it is moved past", async || hub.lag() == 0).await;
    for key in &keys {
        succeeds(&up.client, key).await;
    }
    up.signal("TERM");
    assert_eq!(up.exit_code().await, Some(0));
    let up = bed.run(Role::All, "up", &[]).await;
    let log = up.log().await;
    for id in keys.iter().map(|key| id("default", key)) {
        assert_eq!((initiations(&log, id), ends_of(&log, id)), (1, 1), "what the fold knows is not appended again");
    }
    up.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs a Kafka with SASL and TLS: see CONTRIBUTING.md"]
async fn a_hub_that_is_away_holds_up_nothing_else_and_is_read_on_when_it_is_back() {
    let (hub, bed) = (HubCluster::new().await, Bed::embedded());
    let producer = hub.producer();
    let mut up = taking(&bed, &hub, "up", &hub.connection_string()).await;
    hub.send(&producer, "before", GOOD.as_bytes()).await;
    succeeds(&up.client, "before").await;
    hub.kill();
    let paid = up.client.pay_to_the_end("meanwhile", &body("cus_1", "pm_card_visa")).await;
    assert_eq!(paid.text("status"), "successful");
    hub.start().await;
    hub.send(&producer, "after", GOOD.as_bytes()).await;
    succeeds(&up.client, "after").await;
    until("all of it is moved past", async || hub.lag() == 0).await;
    up.signal("TERM");
    assert_eq!(up.exit_code().await, Some(0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs a Kafka with SASL and TLS: see CONTRIBUTING.md"]
async fn a_connection_string_that_is_wrong_is_said_and_ends_nothing() {
    let (hub, bed) = (HubCluster::new().await, Bed::embedded());
    let wrong = "Endpoint=sb://127.0.0.1/;SharedAccessKeyName=paylog;SharedAccessKey=d3JvbmdLZXk=";
    let mut up = taking(&bed, &hub, "up", wrong).await;
    until("it is said", async || stderr(&bed).contains("a hub does not let us in")).await;
    let paid = up.client.pay_to_the_end("meanwhile", &body("cus_1", "pm_card_visa")).await;
    assert_eq!(paid.text("status"), "successful");
    up.signal("TERM");
    assert_eq!(up.exit_code().await, Some(0));
    assert!(!stderr(&bed).contains("d3JvbmdLZXk"), "{}", stderr(&bed));

    // One that can be seen to be wrong is refused at the start.
    let flags = hub.flags();
    let words = bed.words("up", "up", &flags.iter().map(String::as_str).collect::<Vec<_>>());
    for (secret, says) in [
        ("d3JvbmdLZXk=", "and no other part"),
        ("Endpoint=sb://elsewhere/;SharedAccessKeyName=a;SharedAccessKey=d3JvbmdLZXk=", "another namespace or hub"),
    ] {
        let output = std::process::Command::new(env!("CARGO_BIN_EXE_paylog"))
            .args(&words[1..])
            .env(SECRET, secret)
            .stdin(Stdio::null())
            .output()
            .unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(!output.status.success() && said.contains(says) && !said.contains("d3JvbmdLZXk"), "{said}");
    }
}

/// What tells the hub of payments.
fn telling(hub: &HubCluster) -> Vec<String> {
    let ca = hub.ca().split_once('=').unwrap().1.to_owned();
    [
        "--event-hubs-hosts",
        "127.0.0.1",
        "--event-hubs-ca",
        &ca,
        "--webhook-retry-ms",
        "200,500,1000,2000,4000,8000,16000",
    ]
    .map(str::to_owned)
    .to_vec()
}

async fn endpoint(client: &Client, hub: &HubCluster, credential: &str) -> String {
    let asked = serde_json::json!({
        "kind": "event_hubs", "url": format!("kafka://{}", hub.place()), "credential": credential,
    });
    let made = client.post("/v1/webhook_endpoints", &asked).await;
    assert_eq!(made.status, 201, "{made:?}");
    made.text("id").to_owned()
}

async fn running(bed: &Bed, hub: &HubCluster) -> crate::cluster::Running {
    let flags = telling(hub);
    bed.run(Role::All, "up", &flags.iter().map(String::as_str).collect::<Vec<_>>()).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs a Kafka with SASL and TLS: see CONTRIBUTING.md"]
async fn a_hub_is_told_of_every_event_as_a_cloud_event_by_payment() {
    let (hub, bed) = (HubCluster::new().await, Bed::embedded());
    let up = running(&bed, &hub).await;
    let endpoint = endpoint(&up.client, &hub, &hub.connection_string()).await;
    let mut ids = Vec::new();
    for n in 0..20 {
        ids.push(up.client.pay_to_the_end(&format!("order-{n}"), &body("cus_1", "pm_card_visa")).await.id());
    }
    until("all of it is told", async || hub.all().len() >= ids.len() * 2).await;
    let told = hub.all();
    for id in &ids {
        let of: Vec<_> = told.iter().filter(|told| told.key == id.to_string()).collect();
        let mut kinds: Vec<&str> = of.iter().map(|told| told.says("ce_type")).collect();
        kinds.sort_unstable();
        assert_eq!(kinds, ["paylog.PaymentInProgress", "paylog.PaymentSuccessful"]);
        assert!(of.iter().all(|told| told.partition == of[0].partition), "one payment is on one partition");
        for told in of {
            assert_eq!((told.says("ce_specversion"), told.says("content-type")), ("1.0", "application/json"));
            assert_eq!((told.says("ce_subject"), told.says("ce_partitionkey")), (told.key.as_str(), told.key.as_str()));
            assert!(!told.says("ce_id").is_empty() && !told.says("ce_source").is_empty());
            let data: serde_json::Value = serde_json::from_slice(&told.value).unwrap();
            assert_eq!(format!("paylog.{}", data["event"]["type"].as_str().unwrap()), told.says("ce_type"));
            assert_eq!(data["payment"]["id"], told.key);
        }
    }
    let shown = up.client.get(&format!("/v1/webhook_endpoints/{endpoint}")).await;
    let shown = format!("{shown:?}");
    assert!(shown.contains("event_hubs") && !shown.contains("SharedAccessKey"), "{shown}");
    up.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs a Kafka with SASL and TLS: see CONTRIBUTING.md"]
async fn a_hub_that_is_away_is_told_when_it_is_back_and_a_wrong_key_until_it_is_set_right() {
    let (hub, bed) = (HubCluster::new().await, Bed::embedded());
    let up = running(&bed, &hub).await;
    let wrong = "Endpoint=sb://127.0.0.1/;SharedAccessKeyName=paylog;SharedAccessKey=d3JvbmdLZXk=";
    let endpoint = endpoint(&up.client, &hub, wrong).await;
    up.client.pay_to_the_end("order-1", &body("cus_1", "pm_card_visa")).await;
    let attempts = format!("/v1/webhook_endpoints/{endpoint}/attempts");
    until("it is not let in", async || format!("{:?}", up.client.get(&attempts).await).contains("unauthorized")).await;
    assert_eq!(hub.all().len(), 0);
    let right = serde_json::json!({ "credential": hub.connection_string() });
    let rotated = up.client.post(&format!("/v1/webhook_endpoints/{endpoint}/rotate"), &right).await;
    assert!([200, 204].contains(&rotated.status), "{rotated:?}");
    until("it is told by the new key", async || hub.all().len() >= 2).await;
    hub.kill();
    up.client.pay_to_the_end("order-2", &body("cus_1", "pm_card_visa")).await;
    hub.start().await;
    until("it is told what it missed", async || hub.all().len() >= 4).await;
    up.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hub_is_told_at_hosts_that_were_named_and_nowhere_else() {
    let bed = Bed::embedded();
    let up = bed.run(Role::All, "up", &[]).await;
    let secret = |host: &str| format!("Endpoint=sb://{host}/;SharedAccessKeyName=a;SharedAccessKey=d3JvbmdLZXk=");
    for (url, credential, code) in [
        ("kafka://127.0.0.1:9093/told", secret("127.0.0.1"), "invalid_url"),
        ("https://shop.servicebus.windows.net/told", secret("shop.servicebus.windows.net"), "invalid_url"),
        ("kafka://shop.servicebus.windows.net:9093/told", secret("other.servicebus.windows.net"), "invalid_credential"),
    ] {
        let asked = serde_json::json!({ "kind": "event_hubs", "url": url, "credential": credential });
        let refused = up.client.post("/v1/webhook_endpoints", &asked).await;
        assert_eq!((refused.status, refused.text("code")), (422, code), "{refused:?}");
        assert!(!format!("{refused:?}").contains("d3JvbmdLZXk"), "{refused:?}");
    }
    up.stop().await;
}
