//! Copies of the log, and logs made of copies: what they hold, what they are good for, and what they never do.

use std::path::Path;
use std::process::Output;

use paylog::payment::{Payment, PaymentId};
use serde_json::{Value, json};

use crate::client::{Client, body};
use crate::cluster::{Bed, PARTITIONS, Running, System, until};
use crate::gateways::{Provider, start};
use crate::operations::{paylog, refusal};
use crate::rejected::{garbage, reject};
use crate::takeover::keys_on;

/// The flags that name the logs of `bed`, whose embedded ones are in `name`.
pub fn logs(bed: &Bed, name: &str) -> Vec<String> {
    let mut words = vec!["--partitions".to_owned(), PARTITIONS.to_string()];
    if bed.is_kafka() {
        let bootstrap = std::env::var("PAYLOG_TEST_BOOTSTRAP").unwrap();
        words.extend(["--bootstrap-servers", &bootstrap, "--topic-prefix", &bed.prefix].map(str::to_owned));
        words.push("--allow-single-replica".to_owned());
    } else {
        words.extend(["--data-dir".to_owned(), bed.data_dir(name).to_str().unwrap().to_owned()]);
    }
    words
}

fn words(command: &[&str], bed: &Bed, name: &str) -> Vec<String> {
    let command = ["paylog", "replay"].iter().chain(command).map(|word| (*word).to_owned());
    command.chain(logs(bed, name)).collect()
}

pub fn export(bed: &Bed, file: &Path, more: &[&str]) -> String {
    let name = if bed.is_kafka() { "-" } else { "up" };
    done(&paylog(&words(&[&["export", file.to_str().unwrap()][..], more].concat(), bed, name)))
}

pub fn import_words(bed: &Bed, file: &Path, more: &[&str]) -> Vec<String> {
    let signed = ["--reason", "the disks burnt", "--operator", "ada"];
    let mut words = words(&[&["import", file.to_str().unwrap()][..], &signed, more].concat(), bed, "up");
    if bed.is_kafka() {
        words.extend(["--replication", "1"].map(str::to_owned));
    }
    words
}

pub fn done(output: &Output) -> String {
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn check(file: &Path) -> Output {
    paylog(&["paylog", "replay", "check-archive", file.to_str().unwrap()].map(str::to_owned))
}

/// Where nothing is yet, with the same engine.
pub fn elsewhere(bed: &Bed) -> Bed {
    if bed.is_kafka() { Bed::on(std::env::var("PAYLOG_TEST_BOOTSTRAP").unwrap()) } else { Bed::embedded() }
}

/// What a client sees of payments, without the places at which it stands on one log.
pub async fn seen(client: &Client, ids: &[String]) -> Vec<Value> {
    let mut seen = Vec::new();
    for id in ids {
        let mut payment = client.get(&format!("/v1/payments/{id}")).await.body;
        payment.as_object_mut().unwrap().remove("links");
        let mut events = client.get(&format!("/v1/payments/{id}/events?all=true")).await.body;
        for event in events["data"].as_array_mut().unwrap() {
            event.as_object_mut().unwrap().remove("position");
            event.as_object_mut().unwrap().remove("offset");
            // To the millisecond: Kafka keeps no more.
            for time in ["/appended_at", "/state/due_at"] {
                let Some(at) = event.pointer_mut(time).filter(|at| at.is_string()) else { continue };
                *at = at.as_str().unwrap()[.."2026-11-25T16:29:44.777".len()].into();
            }
        }
        seen.extend([payment, events["data"].take()]);
    }
    let list = client.get("/v1/payments?customer_id=cus_1").await.body;
    seen.push(list["data"].as_array().unwrap().iter().map(|payment| payment["id"].clone()).collect());
    seen
}

fn rows(front: &Running, ids: &[String]) -> Vec<Payment> {
    let id = |text: &String| PaymentId::parse(text).unwrap();
    ids.iter().map(|text| front.view.payment(id(text)).unwrap().unwrap().payment).collect()
}

/// Payments that have ended, one that waits for a person, and some that the provider never heard of.
struct Old {
    ended: Vec<String>,
    parked: String,
    open: Vec<String>,
}

async fn live(system: &System, provider: Provider) -> Old {
    let client = &system.front.client;
    let mut ended = Vec::new();
    for n in 0..6 {
        let token = if n % 3 == 2 { "pm_sim_decline" } else { "pm_card_visa" };
        ended.push(client.pay_to_the_end(&format!("ended-{n}"), &body("cus_1", token)).await.text("id").to_owned());
    }
    let parked = client.pay("parked", &body("cus_2", "pm_sim_wrong_amount")).await.text("id").to_owned();
    phase(client, &parked, "parked").await;
    provider.stop().await;
    let mut open = Vec::new();
    for partition in 0..PARTITIONS {
        let key = keys_on(partition).next().unwrap();
        open.push(client.pay(&key, &body("cus_2", "pm_card_visa")).await.text("id").to_owned());
    }
    for id in &open {
        phase(client, id, "retrying").await;
    }
    Old { ended, parked, open }
}

async fn phase(client: &Client, id: &str, phase: &str) {
    let path = format!("/v1/payments/{id}");
    until(&format!("{id} is {phase}"), async || client.get(&path).await.text("phase") == phase).await;
}

/// New payments on every partition come to their end, again and again: whatever was due before them has had its turn.
async fn work_goes_on(client: &Client, round: usize) {
    for partition in 0..PARTITIONS {
        let key = keys_on(partition).nth(round).unwrap();
        let paid = client.pay_to_the_end(&key, &body("cus_3", "pm_card_visa")).await;
        assert_eq!(paid.text("status"), "successful", "{paid:?}");
    }
}

pub async fn a_restored_log_charges_nothing_and_answers_the_same(bed: &Bed) {
    let provider = Provider::start("127.0.0.1:0", &bed.data_dir("provider"));
    let system = start(bed, &provider.url).await;
    let old = live(&system, provider).await;
    let (was, was_rows) = (seen(&system.front.client, &old.ended).await, rows(&system.front, &old.ended));
    system.stop().await;
    let files = ["a.jsonl.gz", "a.avro"].map(|name| bed.directory.path().join(name));
    for file in &files {
        let said = export(bed, file, &[]);
        assert!(said.contains("records of the log"), "{said}");
        assert!(done(&check(file)).contains("whole and unchanged"), "{said}");
    }

    for file in &files {
        let new = elsewhere(bed);
        let said = done(&paylog(&import_words(&new, file, &[])));
        assert!(said.contains("until `paylog parked adopt`"), "{said}");
        let provider = Provider::start("127.0.0.1:0", &new.data_dir("provider"));
        let system = start(&new, &provider.url).await;
        let client = &system.front.client;
        assert_eq!(seen(client, &old.ended).await, was, "{file:?}");
        assert_eq!(rows(&system.front, &old.ended), was_rows, "{file:?}");
        stays_uncharged(&system, &provider, &old).await;
        adopted(&system, &provider, &old).await;
        system.stop().await;
        provider.stop().await;
    }
}

/// The provider, which knows nothing, is never told to charge; not even when a person says so of one payment.
async fn stays_uncharged(system: &System, provider: &Provider, old: &Old) {
    let client = &system.front.client;
    let again = json!({"decision": "charge_again", "at_version": client.get(&format!("/v1/payments/{}", old.parked)).await.body["version"],
        "operator": "ada", "reason": "impatient"});
    let resumed = client.post(&format!("/v1/operator/parked/{}/resume", old.parked), &again).await;
    assert_eq!(resumed.status, 200, "{resumed:?}");
    let repeated = client.pay(&keys_on(0).next().unwrap(), &body("cus_2", "pm_card_visa")).await;
    assert_eq!(repeated.text("id"), old.open[0], "the same key is the same payment: {repeated:?}");
    for round in 1..6 {
        work_goes_on(client, round).await;
        let ledger = provider.ledger().await;
        for id in old.ended.iter().chain(&old.open).chain([&old.parked]) {
            assert!(!ledger.contains_key(id), "{id} was charged: {ledger:?}");
        }
    }
    for id in old.open.iter().chain([&old.parked]) {
        let payment = client.get(&format!("/v1/payments/{id}")).await;
        assert_eq!(payment.text("status"), "in_progress", "{payment:?}");
    }
}

/// An operator says that the old log is no more: what was open goes on.
async fn adopted(system: &System, provider: &Provider, old: &Old) {
    let url = system.front.client.url.as_str();
    let run = |more: &[&str]| {
        let signed = ["paylog", "parked", "adopt", "--url", url, "--operator", "ada", "--reason", "it burnt"];
        paylog(&signed.iter().chain(more).map(|word| (*word).to_owned()).collect::<Vec<_>>())
    };
    let shown = done(&run(&[]));
    assert!(shown.contains("imported at") && shown.contains("the disks burnt") && shown.contains("--apply"), "{shown}");
    let import = system.front.client.get("/v1/operator/import").await;
    assert!(import.body["import"]["adopted"].is_null(), "{import:?}");
    let other = json!({"digest": "00", "operator": "ada", "reason": "x"});
    let refused = system.front.client.post("/v1/operator/import/adopt", &other).await;
    assert_eq!((refused.status, refused.text("code")), (409, "other_archive"));
    assert!(done(&run(&["--apply"])).contains("adopted: its open payments go on"));
    assert!(done(&run(&["--apply"])).contains("adopted at"), "a second time it is only told");
    for id in &old.open {
        let path = format!("/v1/payments/{id}");
        until("it ends", async || system.front.client.get(&path).await.text("status") == "successful").await;
        assert_eq!(provider.ledger().await[id]["charges"], 1);
    }
}

/// What a provider knows of an open payment is learnt by asking, and charged by nobody.
pub async fn what_the_provider_charged_before_is_found_after_a_restore(bed: &Bed) {
    let provider = Provider::start("127.0.0.1:0", &bed.data_dir("provider"));
    let system = start(bed, &provider.url).await;
    let client = &system.front.client;
    let paid = client.pay_to_the_end("paid", &body("cus_1", "pm_card_visa")).await.text("id").to_owned();
    let file = bed.directory.path().join("a.jsonl");
    system.stop().await;
    export(bed, &file, &[]);
    // As if the log had been copied before the answer came: its last record is the successful end.
    let text = std::fs::read_to_string(&file).unwrap();
    assert!(text.contains("PaymentSuccessful"));
    let end = text.lines().find(|line| line.contains("PaymentSuccessful")).unwrap();
    let end: Value = serde_json::from_str(end).unwrap();
    let new = elsewhere(bed);
    let early = bed.directory.path().join("early.jsonl");
    let to = format!("{}:{}", end["partition"], end["offset"]);
    export(bed, &early, &["--to", &to]);
    let refused = refusal(&import_words(&new, &early, &[]));
    assert!(refused.contains("a piece of the log"), "{refused}");
    whole_but(&early);
    done(&paylog(&import_words(&new, &early, &[])));
    let system = start(&new, &provider.url).await;
    let path = format!("/v1/payments/{paid}");
    until("it is found", async || system.front.client.get(&path).await.text("status") == "successful").await;
    let line = &provider.ledger().await[&paid];
    assert_eq!((&line["charges"], &line["requests"]), (&1.into(), &1.into()), "{line}");
    system.stop().await;
    provider.stop().await;
}

/// Writes the archive anew as one of a log that was that short.
fn whole_but(file: &Path) {
    let mut old = paylog::archive::Archive::open(file).unwrap();
    let header = paylog::archive::Header {
        scope: paylog::archive::Scope::Log,
        selection: paylog::archive::Selection::default(),
        ..old.header().clone()
    };
    let (target, codec) = (file.with_extension("new"), paylog::schema::Codec::new().unwrap());
    let (to, format) = (paylog::archive::Target::File(target.clone()), paylog::archive::Format::Jsonl);
    let mut new = paylog::archive::Writer::begin(&to, format, paylog::archive::Compression::None, &header).unwrap();
    while let Some(record) = old.next_record().unwrap() {
        new.add(&record, &codec).unwrap();
    }
    new.finish().unwrap();
    std::fs::rename(target, file).unwrap();
}

pub async fn an_archive_goes_into_an_empty_log_alone(bed: &Bed) {
    let system = bed.start().await;
    for n in 0..8 {
        system.front.client.pay_to_the_end(&format!("order-{n}"), &body("cus_1", "pm_card_visa")).await;
    }
    let one = system.front.client.pay_to_the_end("one", &body("cus_9", "pm_card_visa")).await.text("id").to_owned();
    system.stop().await;
    let file = |name: &str| bed.directory.path().join(name);
    let selected: [(&str, &[&str]); 6] = [
        ("all.jsonl", &[]),
        ("payment.jsonl", &["--payment", &one]),
        ("customer.avro", &["--customer", "cus_9"]),
        ("partition.jsonl.gz", &["--partition", "1"]),
        ("since.jsonl", &["--since", "2020-01-01T00:00:00Z"]),
        ("from.jsonl", &["--from", "1:1"]),
    ];
    for (name, more) in selected {
        export(bed, &file(name), more);
        assert!(done(&check(&file(name))).contains("whole and unchanged"), "{name}");
    }
    let mine = std::fs::read_to_string(file("payment.jsonl")).unwrap();
    assert_eq!(mine.lines().count(), 4, "a header, two events, a trailer: {mine}");
    assert!(done(&check(&file("customer.avro"))).contains(": 2 records, the histories"));

    let new = elsewhere(bed);
    let refused = |name: &str, more: &[&str]| refusal(&import_words(&new, &file(name), more));
    for name in ["payment.jsonl", "customer.avro", "partition.jsonl.gz"] {
        assert!(refused(name, &[]).contains("--partial"), "{name}");
    }
    for name in ["since.jsonl", "from.jsonl"] {
        assert!(refused(name, &["--partial"]).contains("a piece of the log"), "{name}");
    }
    let mut others = import_words(&new, &file("all.jsonl"), &[]);
    let partitions = others.iter().position(|word| word == "--partitions").unwrap();
    others[partitions + 1] = "5".to_owned();
    assert!(refusal(&others).contains("give --partitions 4"));
    let text = std::fs::read_to_string(file("all.jsonl")).unwrap();
    std::fs::write(file("cut.jsonl"), &text[..text.len() - 100]).unwrap();
    assert!(refused("cut.jsonl", &[]).contains("cut off"));
    std::fs::write(file("bent.jsonl"), text.replacen("\"offset\":1,", "\"offset\":2,", 1)).unwrap();
    assert!(refused("bent.jsonl", &[]).contains("damaged at record"));
    let bent = check(&file("bent.jsonl"));
    assert_eq!(bent.status.code(), Some(1), "{bent:?}");

    // None of that has left anything behind: the log is still empty, and takes an archive, once.
    done(&paylog(&import_words(&new, &file("customer.avro"), &["--partial"])));
    let full = refused("all.jsonl", &[]);
    assert!(full.contains("into an empty log alone") || full.contains("set up to take payments"), "{full}");
    let system = new.start().await;
    assert_eq!(system.front.client.get(&format!("/v1/payments/{one}")).await.text("status"), "successful");
    assert_eq!(system.front.log().await.len(), 2);
    system.stop().await;
    let full = refused("all.jsonl", &[]);
    assert!(full.contains("into an empty log alone") || full.contains("set up to take payments"), "{full}");
}

/// What an operator said of the old log holds for the one that is made of it.
pub async fn a_rejected_record_is_passed_over_in_a_restored_log_too(bed: &Bed) {
    let system = bed.start().await;
    let (client, mut ids) = (&system.front.client, Vec::new());
    let before = client.pay_to_the_end(&keys_on(1).next().unwrap(), &body("cus_1", "pm_card_visa")).await;
    ids.push(before.text("id").to_owned());
    let position = garbage(&system.front).await;
    assert_eq!(reject(&system.front, &position.to_string()).await.status, 201);
    let behind = client.pay_to_the_end(&keys_on(1).nth(1).unwrap(), &body("cus_1", "pm_card_visa")).await;
    ids.push(behind.text("id").to_owned());
    let was = seen(client, &ids).await;
    system.stop().await;
    let file = bed.directory.path().join("a.avro");
    export(bed, &file, &[]);
    let new = elsewhere(bed);
    done(&paylog(&import_words(&new, &file, &[])));
    let system = new.start().await;
    assert_eq!(seen(&system.front.client, &ids).await, was);
    let list = system.front.client.get("/v1/operator/rejected").await;
    assert_eq!((&list.body["halted"], &list.body["data"][0]["operator"]), (&json!([]), &"ada".into()), "{list:?}");
    system.stop().await;
}
