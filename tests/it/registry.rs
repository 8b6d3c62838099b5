//! A schema registry, and every way in which it can fail those who need it.

use std::time::Duration;

use paylog::journal::{NewRecord, Offset, Partition, TailItem};
use paylog::payment::{Event, IdempotencyKey, MerchantId, PaymentId, Timestamp};
use paylog::projection::home_of;
use paylog::schema::Codec;
use paylog::service::Service;
use serde_json::{Value, json};

use crate::client::body;
use crate::cluster::{Bed, PARTITIONS, Running, until};
use crate::foreign_hands::key_on;
use crate::operations::{paylog, refusal};
use crate::receiver::Receiver;
use crate::registry_double::{Mode, Registry, framed, schema, topic};
use crate::rejected::{front_of, reject};
use crate::webhooks::{Parts, act, create};

async fn pay(front: &Running, key: &str) -> String {
    let paid = front.client.pay_to_the_end(key, &body("cus_1", "pm_card_visa")).await;
    assert_eq!((paid.status, paid.text("status")), (200, "successful"), "{paid:?}");
    paid.text("id").to_owned()
}

async fn history(front: &Running, ids: &[String]) -> Vec<Value> {
    let mut seen = Vec::new();
    for id in ids {
        let events = front.client.get(&format!("/v1/payments/{id}/events?all=true")).await;
        assert_eq!((events.status, events.body["data"].as_array().unwrap().len()), (200, 2), "{events:?}");
        seen.push(events.body);
    }
    seen
}

/// The first byte of every value on the log: how it is framed.
async fn frames(front: &Running) -> Vec<u8> {
    let journal = std::sync::Arc::clone(&front.journal);
    tokio::task::spawn_blocking(move || {
        let ends: Vec<Offset> = (0..PARTITIONS).map(|p| journal.ends(Partition(p)).unwrap().committed).collect();
        let mut tail = journal.tail(&[Offset(0); PARTITIONS as usize]).unwrap();
        let (mut reached, mut frames) = (vec![Offset(0); PARTITIONS as usize], Vec::new());
        while reached.iter().zip(&ends).any(|(reached, end)| reached < end) {
            for item in tail.poll(1_000, Duration::from_millis(50)).unwrap() {
                match item {
                    TailItem::Record(record) => frames.push(record.value[0]),
                    TailItem::CaughtUp(next) => reached[next.partition.0 as usize] = next.offset,
                }
            }
        }
        frames.sort_unstable();
        frames
    })
    .await
    .unwrap()
}

pub async fn a_log_of_both_frames_is_read_whole(bed: &Bed) {
    let registry = Registry::with_schemas_of(bed).await;
    let with: &[&str] = &["--schema-registry", &registry.url];
    let plain = bed.start().await;
    let mut ids = vec![pay(&plain.front, "before").await];
    plain.stop().await;
    let system = bed.start_with(with).await;
    ids.push(pay(&system.front, "since").await);
    assert_eq!(frames(&system.front).await, [0x00, 0x00, 0xC3, 0xC3]);
    let seen = history(&system.front, &ids).await;
    system.stop().await;

    // Rows are what they are without the registry, whoever folded them.
    let (role, name) = front_of(bed);
    let front = bed.run(role, name, &[]).await;
    assert_eq!(history(&front, &ids).await, seen, "rows that were folded with it");
    front.stop().await;
    verified(bed, with).await;
    std::fs::remove_dir_all(bed.data_dir(name).join("store")).unwrap();
    let front = bed.run(role, name, with).await;
    assert_eq!(history(&front, &ids).await, seen, "by an instance that starts empty");
    front.stop().await;
    std::fs::remove_dir_all(bed.data_dir(name).join("store")).unwrap();
    let front = bed.run(role, name, &[]).await;
    let halts = front.view.halts();
    assert!(!halts.is_empty() && halts.iter().all(|halt| halt.reason.contains("none is configured here")), "{halts:?}");
    front.stop().await;
}

/// `replay verify` reads with the registry, and without it says what it lacks.
async fn verified(bed: &Bed, with: &[&str]) {
    let (_, name) = front_of(bed);
    let args = bed.args("up", name, &[]);
    let mut words = vec!["paylog".to_owned(), "replay".to_owned(), "verify".to_owned()];
    match &args.kafka.bootstrap_servers {
        Some(servers) => {
            words.extend(["--bootstrap-servers", servers, "--topic-prefix", &bed.prefix].map(str::to_owned))
        }
        None => words.extend(["--data-dir".to_owned(), bed.data_dir(name).display().to_string()]),
    }
    words.extend(["--partitions".to_owned(), PARTITIONS.to_string(), "--allow-single-replica".to_owned()]);
    let without = words.clone();
    words.extend(with.iter().map(|word| (*word).to_owned()));
    let done = tokio::task::spawn_blocking(move || (paylog(&words), paylog(&without))).await.unwrap();
    assert!(done.0.status.success(), "{:?}", done.0);
    let said = String::from_utf8(done.1.stdout.clone()).unwrap();
    assert!(!done.1.status.success() && said.contains("none is configured here"), "{:?}", done.1);
}

/// A payment that another instance has accepted, on this partition, by a schema that the registry calls `id`.
async fn accepted_elsewhere(front: &Running, key: &str, partition: u32, id: u32) -> PaymentId {
    let like = front.an_initiation().await;
    let ids = (0..).map(|n| IdempotencyKey::parse(&format!("{key}-{n}")).unwrap());
    let mut ids = ids.map(|key| PaymentId::derive(&MerchantId::default(), &key));
    let payment = ids.find(|id| home_of(*id, PARTITIONS) == Partition(partition)).unwrap();
    let value = Codec::new().unwrap().encode(&Event::new(payment, Timestamp::now(), like)).unwrap();
    let key = payment.to_string().into_bytes();
    let record = NewRecord { partition: Partition(partition), key, headers: Vec::new(), value: framed(id, &value) };
    front.journal.append(record).await.unwrap();
    payment
}

impl Running {
    /// An initiation as this instance has folded one.
    async fn an_initiation(&self) -> paylog::payment::EventData {
        let paid = pay(self, "a-first-one").await;
        let entries = self.view.events_after(PaymentId::parse(&paid).unwrap(), 0, 1).unwrap();
        entries[0].event.data.clone()
    }

    async fn halts_on(&self, partition: u32, why: &str) {
        until(why, async || {
            let halts = self.view.halts();
            halts.iter().any(|halt| halt.position.partition == Partition(partition) && halt.reason.contains(why))
        })
        .await;
    }
}

pub async fn an_id_that_is_not_known_holds_up_its_partition_until_the_registry_explains_it(bed: &Bed) {
    let registry = Registry::with_schemas_of(bed).await;
    let system = bed.start_with(&["--schema-registry", &registry.url]).await;
    let front = &system.front;
    pay(front, "a-first-one").await;
    for (n, mode) in [Mode::Fails(500), Mode::Fails(401), Mode::Fails(404), Mode::Stalls].into_iter().enumerate() {
        let (id, key) = (900 + n as u32, format!("elsewhere-{n}"));
        registry.now(mode);
        let payment = accepted_elsewhere(front, &key, 1, id).await;
        front.halts_on(1, &format!("has not said yet what its id {id} is")).await;
        pay(front, &format!("{}-{n}", key_on(0))).await; // what is known goes on, while the registry is away
        registry.explain(id, &schema("PaymentInProgress"));
        registry.now(Mode::Well);
        until("the payment ends", async || {
            front.view.payment(payment).unwrap().is_some_and(|row| row.payment.is_terminal())
        })
        .await;
        assert_eq!(front.view.halts(), [], "{mode:?}");
    }
    let asked = registry.asked(900);
    accepted_elsewhere(front, "again", 1, 900).await;
    pay(front, &key_on(1)).await;
    assert_eq!(registry.asked(900), asked, "what is known is not asked again");

    registry.explain(911, r#"{"type": "record", "name": "Order", "fields": []}"#);
    accepted_elsewhere(front, "missing", 1, 910).await;
    accepted_elsewhere(front, "other", 2, 911).await;
    front.halts_on(1, "has no schema with the id 910").await;
    front.halts_on(2, "the id 911 in the schema registry is none of an event that this version of paylog knows").await;
    let position = front.view.halts()[0].position.to_string();
    let refused = reject(front, &position).await;
    assert_eq!(refused.status, 409, "it may be of another registry, or of a later paylog: {refused:?}");
    system.stop().await;
}

/// It would be of no use to anybody, for the sake of one partition, and so would all others that start in that time.
pub async fn who_starts_while_an_id_on_the_log_is_not_explained_is_ready_for_all_others(bed: &Bed) {
    let registry = Registry::with_schemas_of(bed).await;
    registry.withhold(900);
    let with: &[&str] = &["--schema-registry", &registry.url];
    let system = bed.start_with(with).await;
    let payment = accepted_elsewhere(&system.front, "elsewhere", 1, 900).await;
    system.stop().await;

    let system = bed.start_with(with).await;
    let front = &system.front;
    front.halts_on(1, "has not said yet what its id 900 is").await;
    let ready = front.client.get("/readyz").await;
    assert!(ready.status == 200 && ready.text("halted").contains("has not said yet"), "{ready:?}");
    pay(front, &key_on(0)).await;
    let list = front.client.get("/v1/operator/rejected").await;
    assert_eq!(list.body["halted"][0]["waits"], true, "{list:?}");
    let position = list.body["halted"][0]["position"].as_str().unwrap();
    let body = json!({"position": position, "operator": "ada", "reason": "in a hurry", "despite": "unknown_schema"});
    for refused in [reject(front, position).await, front.client.post("/v1/operator/rejected", &body).await] {
        assert_eq!((refused.status, refused.text("code")), (409, "registry_away"), "{refused:?}");
    }
    registry.explain(900, &schema("PaymentInProgress"));
    until("the payment ends", async || {
        front.view.payment(payment).unwrap().is_some_and(|row| row.payment.is_terminal())
    })
    .await;
    assert_eq!(front.view.halts(), []);
    system.stop().await;
}

/// Whoever is to be told hears of it from the rows: a process that starts again knows the ids of its own schemas, and no others.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_folded_is_told_although_the_registry_is_away() {
    let bed = Bed::embedded();
    let registry = Registry::with_schemas_of(&bed).await;
    registry.explain(900, &schema("PaymentInProgress"));
    let with: &[&str] = &["--schema-registry", &registry.url];
    let parts = Parts::start(&bed, with).await;
    let payment = accepted_elsewhere(&parts.front, "elsewhere", 1, 900).await;
    until("the payment ends", async || {
        parts.front.view.payment(payment).unwrap().is_some_and(|row| row.payment.is_terminal())
    })
    .await;
    parts.stop().await;
    let parts = Parts::start(&bed, with).await;
    registry.now(Mode::Fails(500));
    let (client, receiver) = (&parts.front.client, Receiver::start().await);
    let (endpoint, _) = create(client, json!({"url": receiver.url(), "events": ["PaymentInProgress"]})).await;
    let asked = act(client, &endpoint, "recover", json!({"since": "2020-01-01T00:00:00Z"})).await;
    assert_eq!(asked.status, 202, "{asked:?}");
    let told = receiver.has(2).await;
    assert!(told.iter().any(|one| one.payment() == payment.to_string()), "{told:?}");
    parts.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_start_without_its_registry_is_refused_with_what_to_do() {
    let bed = Bed::embedded();
    let registry = Registry::start().await;
    let refused = async |url: &str| {
        let opened = Service::open(bed.args("up", "up", &["--schema-registry", url]), front_of(&bed).0).await;
        format!("{:#}", opened.err().expect("it started"))
    };
    let (missing, gone) = (refused(&registry.url).await, refused("http://127.0.0.1:1").await);
    assert!(missing.contains("paylog schemas register") && missing.contains("payments-paylog.Payment"), "{missing}");
    assert!(gone.contains("does not answer") && gone.contains("refused"), "{gone}");
    registry.now(Mode::Fails(401));
    let barred = refused(&registry.url).await;
    assert!(barred.contains("does not answer") && barred.contains("401"), "{barred}");
    // Another of its URLs answers.
    let registry = Registry::with_schemas_of(&bed).await;
    let both = format!("http://127.0.0.1:1,{}", registry.url);
    let up = bed.run(front_of(&bed).0, "up", &["--schema-registry", &both]).await;
    pay(&up, "by-the-second").await;
    assert_eq!(frames(&up).await, [0, 0]);
    up.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn schemas_check_says_what_is_missing_differs_or_is_not_strict() {
    let bed = Bed::embedded();
    let check = async |registry: &Registry| {
        let words = registry.words("check", &bed);
        let done = tokio::task::spawn_blocking(move || paylog(&words)).await.unwrap();
        (done.status.code(), String::from_utf8(done.stdout).unwrap())
    };
    let (code, said) = check(&Registry::start().await).await;
    assert_eq!((code, said.matches("is not there").count()), (Some(1), 8), "{said}");
    let registry = Registry::with_schemas_of(&bed).await;
    assert_eq!(check(&registry).await, (Some(0), "the schemas are registered as they must be\n".to_owned()));
    let subject = |record: &str| format!("{}-paylog.{record}", topic(&bed));
    registry.set_level(&subject("PaymentFailed"), "BACKWARD");
    registry.forget(&subject("PaymentParked"));
    registry.explain(registry.id_of(&subject("PaymentResumed")), &schema("PaymentParked"));
    let (code, said) = check(&registry).await;
    let expected = [
        format!("{} is BACKWARD, not FULL_TRANSITIVE", subject("PaymentFailed")),
        format!("{} is not there", subject("PaymentParked")),
        format!("{} does not have version 1 as it was released", subject("PaymentResumed")),
    ];
    assert_eq!((code, said.lines().collect::<Vec<_>>()), (Some(1), expected.iter().map(String::as_str).collect()));
    registry.now(Mode::Fails(503));
    let words = registry.words("check", &bed);
    let said = tokio::task::spawn_blocking(move || refusal(&words)).await.unwrap();
    assert!(said.contains("cannot look at") && said.contains("503"), "{said}");
}
