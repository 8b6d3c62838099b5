//! What may become of an import, and where none may be made.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use paylog::control::{
    Change, Control, Decided, Endpoint, EndpointId, EndpointKind, EndpointState, ImportedArchive, ImportedRange,
    NewSubscription, PayloadKind, PushFrom, PushRemoval, PushScope, SecretsKey, Step, SubscriptionId,
};
use paylog::journal::embedded::EmbeddedJournal;
use paylog::journal::kafka::restore;
use paylog::journal::{Journal, Reader};
use paylog::payment::{CustomerId, MerchantId, Signed, Timestamp};
use paylog::projection::Rejections;
use paylog::service::Role;
use serde_json::Value;

use crate::archives::{done, elsewhere, export, import_words, seen};
use crate::client::body;
use crate::cluster::{Bed, PARTITIONS, PATIENCE};
use crate::operations::{paylog, refusal};

/// As it is after a kill right behind the first word of an import, and after one in the middle.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_import_that_was_cut_off_is_served_by_nobody() {
    let bed = Bed::embedded();
    let system = bed.start().await;
    system.front.client.pay_to_the_end("order-1", &body("cus_1", "pm_card_visa")).await;
    system.stop().await;
    let file = bed.directory.path().join("a.jsonl");
    export(&bed, &file, &[]);
    let new = Bed::embedded();
    let log = begin(&new.data_dir("up")).await;
    let refused = refusal(&new.words("up", "up", &[]));
    assert!(refused.contains("is not finished") && refused.contains("by ada"), "{refused}");
    let refused = refusal(&import_words(&new, &file, &[]));
    assert!(refused.contains("is not to be repeated"), "{refused}");
    assert_eq!(log, EmbeddedJournal::open(&new.data_dir("up").join("journal"), PARTITIONS).unwrap().log_id());
}

/// An endpoint that was made while the log was empty is to hear of everything from its beginning on.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_is_told_of_an_archive_as_if_it_happened_now() {
    let bed = Bed::embedded();
    let system = bed.start().await;
    system.front.client.pay_to_the_end("order-1", &body("cus_1", "pm_card_visa")).await;
    system.stop().await;
    let file = bed.directory.path().join("a.jsonl");
    export(&bed, &file, &[]);
    let new = Bed::embedded();
    let data = new.data_dir("up");
    let endpoint = Endpoint {
        id: EndpointId::mint(),
        merchant_id: "default".to_owned(),
        url: "https://example.org/hook".to_owned(),
        events: None,
        ordered: false,
        payload: PayloadKind::Full,
        state: EndpointState::Enabled,
        reason: None,
        from: vec![0; PARTITIONS as usize],
        secrets: Vec::new(),
        created_at: String::new(),
        enabled_at: String::new(),
        kind: EndpointKind::Webhook,
        credential: None,
    };
    let deleted = Endpoint { state: EndpointState::Deleted, ..endpoint.clone() };
    change(&data, Change::Created, endpoint, 1).await;
    let refused = refusal(&import_words(&new, &file, &[]));
    assert!(refused.contains("there are webhook endpoints") && refused.contains("delete them"), "{refused}");
    change(&data, Change::Deleted, deleted, 2).await;
    browser(&data, true).await;
    let refused = refusal(&import_words(&new, &file, &[]));
    assert!(refused.contains("there are push subscriptions") && refused.contains("paylog push rm"), "{refused}");
    browser(&data, false).await;
    done(&paylog(&import_words(&new, &file, &[])));
}

/// Has a browser come, or go.
async fn browser(data: &Path, comes: bool) {
    let log = EmbeddedJournal::open(&data.join("journal"), PARTITIONS).unwrap().log_id();
    let journal: Arc<dyn Journal> = EmbeddedJournal::open(&data.join("control"), 1).unwrap();
    let (control, _) = Control::open(journal, log, Rejections::default()).unwrap();
    let (nobody_follows, key) = (std::time::Duration::ZERO, SecretsKey::parse(&SecretsKey::generate()).unwrap());
    let new = NewSubscription {
        id: SubscriptionId::of("default", "customer:cus_1", "https://push.example/1"),
        merchant: MerchantId::default(),
        scope: PushScope::Customer(CustomerId::parse("cus_1").unwrap()),
        from: PushFrom::Each(Vec::new()),
        service: "https://push.example".to_owned(),
        sealed: key.seal("ps", b"{}").unwrap(),
        lease: None,
    };
    if comes {
        control.subscribe(&new, Timestamp::now(), nobody_follows).await.unwrap();
    } else {
        let known = control.subscriptions().find(new.id).unwrap();
        control.unsubscribe(&known, PushRemoval::Asked, Timestamp::now(), nobody_follows).await.unwrap();
    }
}

async fn change(data: &Path, change: Change, endpoint: Endpoint, version: u64) {
    let log = EmbeddedJournal::open(&data.join("journal"), PARTITIONS).unwrap().log_id();
    let journal: Arc<dyn Journal> = EmbeddedJournal::open(&data.join("control"), 1).unwrap();
    let (control, _) = Control::open(journal, log, Rejections::default()).unwrap();
    let nobody_follows = std::time::Duration::ZERO;
    control.change_endpoint(change, endpoint, version, Timestamp::now(), nobody_follows).await.unwrap();
}

/// Says that an import begins.
async fn begin(data: &Path) -> paylog::journal::LogId {
    let log = EmbeddedJournal::open(&data.join("journal"), PARTITIONS).unwrap().log_id();
    let journal: Arc<dyn Journal> = EmbeddedJournal::open(&data.join("control"), 1).unwrap();
    let (control, follower) = Control::open(journal, log, Rejections::default()).unwrap();
    let stop = tokio_util::sync::CancellationToken::new();
    let (stops, following) = (stop.clone(), follower.expecting_an_import());
    let follows = std::thread::spawn(move || following.run(&stops));
    begins(&control).await;
    stop.cancel();
    follows.join().unwrap().unwrap();
    log
}

async fn begins(control: &Control) {
    let archive = ImportedArchive { log: "07".repeat(16), digest: "08".repeat(32), records: 9 };
    let step = Step::Begin { archive, ranges: vec![ImportedRange { partition: 0, from: 0, to: 9 }] };
    let signed = Signed::new("ada", "the disks burnt").unwrap();
    let decided = control.step_import(&step, &signed, Timestamp::now(), PATIENCE).await;
    assert!(matches!(decided, Ok(Decided::Effective(_)) | Ok(Decided::Unconfirmed)), "{decided:?}");
}

/// It cannot know in time for what it must not charge.
pub async fn a_process_under_which_an_import_begins_ends(bed: &Bed) {
    let system = bed.start().await;
    begins(&system.front.control).await;
    let why = system.front.failure().await;
    assert!(why.contains("an import into the log of this running process has begun"), "{why}");
    if let Some(processor) = system.processor {
        assert!(processor.failure().await.contains("an import into the log"));
    }
    let (role, name) = if bed.is_kafka() { (Role::Serve, "serve") } else { (Role::All, "up") };
    let refused = paylog::service::Service::open(bed.args(name, name, &[]), role).await.err().expect("it starts");
    assert!(format!("{refused:#}").contains("is not finished"), "{refused:#}");
}

/// A topic that keeps the times it is given is in the middle of an import, and no service starts on it; one that takes payments
/// is no place for an import.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs Kafka: see CONTRIBUTING.md"]
async fn a_topic_is_restored_or_in_use_and_never_both() {
    let (old, new) = (Bed::kafka().await, elsewhere(&Bed::kafka().await));
    let system = old.start().await;
    system.front.client.pay_to_the_end("order-1", &body("cus_1", "pm_card_visa")).await;
    system.stop().await;
    let file = old.directory.path().join("a.avro");
    export(&old, &file, &[]);
    let in_use = Bed::kafka().await; // its topics are there, and empty
    let refused = refusal(&import_words(&in_use, &file, &[]));
    assert!(refused.contains("a service may be at work on it") && refused.contains("--topic-prefix"), "{refused}");
    let config = new.args("serve", "topics", &[]).kafka.config("topics").unwrap();
    tokio::task::spawn_blocking(move || restore::prepare(&config, 1)).await.unwrap().unwrap();
    for command in ["serve", "process"] {
        let refused = refusal(&new.words(command, command, &[]));
        assert!(refused.contains("message.timestamp.type=CreateTime"), "{refused}");
    }
    done(&paylog(&import_words(&new, &file, &[]))); // as after a start that was cut off before anything was appended
    let system = new.start().await;
    assert_eq!(system.front.log().await.len(), 2);
    system.stop().await;
}

/// From one engine to the other and back, with every time to the millisecond that Kafka keeps.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs Kafka: see CONTRIBUTING.md"]
async fn an_archive_goes_from_one_engine_to_the_other() {
    let (first, second, third) = (Bed::embedded(), elsewhere(&Bed::kafka().await), Bed::embedded());
    let system = first.start().await;
    let mut ids = Vec::new();
    for n in 0..20 {
        let token = if n % 4 == 3 { "pm_sim_decline" } else { "pm_card_visa" };
        let paid = system.front.client.pay_to_the_end(&format!("order-{n}"), &body("cus_1", token)).await;
        ids.push(paid.text("id").to_owned());
    }
    let was = seen(&system.front.client, &ids).await;
    system.stop().await;
    let mut from = &first;
    let file = |name: &str| -> PathBuf { first.directory.path().join(name) };
    for (to, name) in [(&second, "to-kafka.avro"), (&third, "from-kafka.jsonl")] {
        export(from, &file(name), &[]);
        done(&paylog(&import_words(to, &file(name), &[])));
        let system = to.start().await;
        assert_eq!(seen(&system.front.client, &ids).await, was, "{name}");
        system.stop().await;
        from = to;
    }
    let again = file("again.jsonl");
    export(&third, &again, &[]);
    let records = |file: &Path| -> Vec<String> {
        let text = std::fs::read_to_string(file).unwrap();
        let fields = |line: &str| {
            let mut line: Value = serde_json::from_str(line).unwrap();
            line.as_object_mut().unwrap().remove("digest");
            line.to_string()
        };
        text.lines().skip(1).filter(|line| line.contains("\"timestamp_us\"")).map(fields).collect()
    };
    assert_eq!(records(&file("from-kafka.jsonl")), records(&again), "key, headers, value, time and order are the same");
}
