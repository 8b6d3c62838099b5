//! `replay verify` and `show`, by the real binary: beside a live system, and on the directories of a stopped one.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use paylog::journal::{HistoryItem, NewRecord, Offset, Partition, Span};
use paylog::payment::event::PaymentFailed;
use paylog::payment::{Event, EventData, PaymentId, Timestamp};
use paylog::projection::totals::Totals;
use paylog::projection::{Payments, home_of, versioned_name};
use paylog::recording::event_record;
use paylog::schema::Codec;
use paylog::store::Store;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use serde_json::{Value, json};

use crate::client::body;
use crate::cluster::{Bed, PARTITIONS, PATIENCE, Running, System, until};
use crate::operations::paylog;

/// What a command said.
#[derive(Debug)]
pub struct Said {
    pub code: Option<i32>,
    pub out: String,
    pub err: String,
}

/// Runs it away from the runtime, which the services beside it need.
pub async fn run(words: Vec<String>) -> Said {
    tokio::task::spawn_blocking(move || {
        let output = paylog(&words);
        let text = |bytes| String::from_utf8(bytes).unwrap();
        Said { code: output.status.code(), out: text(output.stdout), err: text(output.stderr) }
    })
    .await
    .unwrap()
}

/// `replay verify` of the log of this bed, where an embedded one is that of `up`.
pub async fn verify(bed: &Bed, more: &[&str]) -> Said {
    let work = bed.directory.path().join("work");
    std::fs::create_dir_all(&work).unwrap();
    let mut words: Vec<String> = ["paylog", "replay", "verify", "--work-dir"].map(str::to_owned).to_vec();
    words.push(text(&work));
    if bed.is_kafka() {
        let service = bed.words("serve", "verify", &[]);
        let kafka = service.iter().position(|word| word == "--bootstrap-servers").unwrap();
        words.extend(service[kafka..].iter().cloned().chain(["--partitions".to_owned(), PARTITIONS.to_string()]));
    } else {
        words.extend(["--data-dir".to_owned(), text(&bed.data_dir("up"))]);
    }
    words.extend(more.iter().map(|word| (*word).to_owned()));
    let said = run(words).await;
    assert_eq!(std::fs::read_dir(&work).unwrap().count(), 0, "the work directory is left empty: {said:?}");
    said
}

pub fn text(path: &Path) -> String {
    path.to_str().unwrap().to_owned()
}

/// The directory whose rows the front has written.
pub fn front_dir(bed: &Bed) -> PathBuf {
    bed.data_dir(if bed.is_kafka() { "serve" } else { "up" })
}

/// Payments that succeed, fail and are retried, all at once.
pub async fn load(front: &Running, name: &str, count: usize) -> Vec<PaymentId> {
    let mut under_way = Vec::new();
    for n in 0..count {
        let (client, key) = (front.client.clone(), format!("{name}-{n}"));
        let method = ["pm_card_visa", "pm_card_visa_chargeDeclined"][usize::from(n % 5 == 0)];
        under_way.push(tokio::spawn(async move { client.pay_to_the_end(&key, &body("cus_1", method)).await.id() }));
    }
    let mut ids = Vec::new();
    for paid in under_way {
        ids.push(paid.await.unwrap());
    }
    ids
}

/// A foreign hand with the right to write begins a transaction, writes what would halt every fold, and aborts.
pub fn aborted(bed: &Bed) {
    let mut config = rdkafka::ClientConfig::new();
    config.set("bootstrap.servers", std::env::var("PAYLOG_TEST_BOOTSTRAP").unwrap());
    config.set("transactional.id", format!("{}-stranger", bed.prefix));
    let producer: BaseProducer = config.create().unwrap();
    producer.init_transactions(PATIENCE).unwrap();
    for _ in 0..3 {
        producer.begin_transaction().unwrap();
        for partition in 0..i32::try_from(PARTITIONS).unwrap() {
            let record = BaseRecord::to(&bed.prefix).partition(partition).key("stranger").payload("{never}");
            producer.send(record).map_err(|(error, _)| error).unwrap();
        }
        producer.flush(PATIENCE).unwrap();
        producer.abort_transaction(PATIENCE).unwrap();
    }
}

/// Appends an event as paylog does.
async fn append(front: &Running, id: PaymentId, data: EventData) -> String {
    let event = Event::new(id, Timestamp::now(), data);
    let record = event_record(&event, home_of(id, PARTITIONS), &Codec::new().unwrap(), None).unwrap();
    let position = front.journal.append(record).await.unwrap();
    front.view.wait_folded(position).await;
    position.to_string()
}

pub fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        match entry.file_type().unwrap().is_dir() {
            true => copy(&entry.path(), &to.join(entry.file_name())),
            false => drop(std::fs::copy(entry.path(), to.join(entry.file_name())).unwrap()),
        }
    }
}

pub async fn a_live_log_and_the_rows_of_a_stopped_instance_are_verified(bed: &Bed) {
    let system = bed.start().await;
    let loading = load(&system.front, "early", 60);
    if bed.is_kafka() {
        let (_, ()) = tokio::join!(loading, async { tokio::task::block_in_place(|| aborted(bed)) });
        let later = load(&system.front, "later", 60);
        let (_, said) = tokio::join!(later, verify(bed, &[]));
        assert_eq!(said.code, Some(0), "beside a live system: {said:?}");
        assert!(said.out.ends_with("violations: 0, warnings: 0\n"), "{said:?}");
        let running = verify(bed, &["--against", &text(&front_dir(bed))]).await;
        assert!(
            running.code == Some(1) && running.err.contains("cannot be read while an instance has them"),
            "{running:?}"
        );
    } else {
        loading.await;
        let running = verify(bed, &[]).await;
        assert!(running.code == Some(1) && running.err.contains("in use by another paylog process"), "{running:?}");
    }
    let events = system.front.log().await.len();
    let end = system.front.log_end().await;
    system.stop().await;
    let dir = text(&front_dir(bed));
    let said = verify(bed, if bed.is_kafka() { vec!["--data-dir", &dir] } else { vec![] }.as_slice()).await;
    assert_eq!(said.code, Some(0), "{said:?}");
    assert!(said.out.contains(&format!("{events} records of ")), "{events} records: {said:?}");
    assert!(said.out.contains("rows compared with those of the store"), "{said:?}");
    if bed.is_kafka() {
        assert!(end > events as u64 + 12, "markers and aborted records take offsets: {end} and {events}");
    }
    let both = verify(bed, &["--against", &dir, "--json"]).await;
    let report: Value = serde_json::from_str(&both.out).unwrap();
    assert_eq!((both.code, &report["violations"]), (Some(0), &json!(0)), "{both:?}");
    assert_eq!(report["report"]["counts"]["records"], json!(events));
    assert!(report["report"]["counts"]["rows_of_the_store"].as_u64().unwrap() > events as u64);
}

pub async fn a_flipped_row_of_a_copied_store_is_named_by_table_key_and_field(bed: &Bed) {
    let system = bed.start().await;
    let id = system.front.client.pay_to_the_end("order-1", &body("cus_1", "pm_card_visa")).await.id();
    let other = system.front.client.pay_to_the_end("order-2", &body("cus_1", "pm_card_visa")).await.id();
    system.stop().await;
    let copied = bed.data_dir("copied");
    copy(&front_dir(bed), &copied);
    {
        let store = Store::open(&copied.join("store").join(versioned_name::<Payments>())).unwrap();
        let (table, mut batch) = (store.table("payments").unwrap(), store.batch());
        let mut row = table.get(id.as_bytes()).unwrap().unwrap().to_vec();
        let at = row.windows(5).position(|bytes| bytes == b"cus_1").unwrap();
        row[at + 4] = b'7';
        batch.insert(&table, id.as_bytes(), &row);
        batch.commit_synced().unwrap();
    }
    let against = text(&copied);
    let said = verify(bed, &["--against", &against]).await;
    let expected = format!(
        "VIOLATION store_as_folded {id}: payments, {id}, payment.initiation.customer_id: the fold has cus_1, the store has \
         cus_7\n"
    );
    assert_eq!(said.code, Some(1), "{said:?}");
    assert!(said.out.contains(&expected) && said.out.contains("violations: 1, warnings: 0"), "{said:?}");
    let one = verify(bed, &["--against", &against, "--payment", &id.to_string()]).await;
    assert!(one.code == Some(1) && one.out.contains(&expected), "{one:?}");
    let sound = verify(bed, &["--against", &against, "--payment", &other.to_string()]).await;
    assert_eq!(sound.code, Some(0), "{sound:?}");
    assert!(
        sound.out.contains("records of 1 payments judged") && sound.out.contains("\n5 rows compared with those of"),
        "{sound:?}"
    );
}

pub async fn a_damaged_total_is_named_by_day_merchant_currency_status_and_field(bed: &Bed) {
    let system = bed.start().await;
    load(&system.front, "order", 10).await;
    let day = system.front.client.get("/v1/totals").await.body["data"][0]["day"].as_str().unwrap().to_owned();
    system.stop().await;
    let copied = bed.data_dir("copied");
    copy(&front_dir(bed), &copied);
    let against = text(&copied);
    let sound = verify(bed, &["--against", &against]).await;
    assert_eq!(sound.code, Some(0), "{sound:?}");
    assert!(sound.out.contains("2 sums counted again from the payments\n"), "successful and failed: {sound:?}");
    assert!(sound.out.contains(" rows of totals compared with those of the store\n"), "{sound:?}");
    {
        let store = Store::open(&copied.join("store").join(versioned_name::<Totals>())).unwrap();
        let (table, mut batch) = (store.table("totals").unwrap(), store.batch());
        // Of the eight that succeeded: the key ends with the status.
        let (key, mut row) = table.range(&[], &[0xFF; 32]).map(Result::unwrap).max_by_key(|row| row.1[0]).unwrap();
        assert_eq!(row[0], 8);
        row = [&[9], &row[1..]].concat().into();
        batch.insert(&table, &key, &row);
        batch.commit_synced().unwrap();
    }
    let said = verify(bed, &["--against", &against]).await;
    let expected = format!(
        "VIOLATION store_as_folded: totals/totals, {day} EUR successful default, payments: the fold has 8, the store has 9\n"
    );
    assert_eq!(said.code, Some(1), "{said:?}");
    assert!(said.out.contains(&expected) && said.out.contains("violations: 1, warnings: 0"), "{said:?}");
    let part = verify(bed, &["--against", &against, "--customer", "cus_1"]).await;
    assert_eq!(part.code, Some(0), "{part:?}");
    assert!(part.out.contains("note: totals are sums over all payments: with a choice of payments"), "{part:?}");
}

pub async fn what_is_wrong_with_the_log_is_told_by_payment_and_what_was_rejected_is_honoured(bed: &Bed) {
    let system = bed.start().await;
    let front = &system.front;
    let id = front.client.pay_to_the_end("order-1", &body("cus_1", "pm_card_visa")).await.id();
    let other = front.client.pay_to_the_end("order-2", &body("cus_2", "pm_card_visa")).await.id();
    let garbage = NewRecord { partition: Partition(1), key: Vec::new(), headers: Vec::new(), value: b"{x}".to_vec() };
    let rejected = front.journal.append(garbage).await.unwrap();
    until("it has halted", async || front.view.is_halted(Partition(1))).await;
    let body = json!({"position": rejected.to_string(), "operator": "ada", "reason": "garbage of a test tool"});
    assert_eq!(front.client.post("/v1/operator/rejected", &body).await.status, 201);
    let (code, message) = ("card_declined".to_owned(), "no".to_owned());
    let failed = EventData::PaymentFailed(PaymentFailed { code, message, attempt: 9 });
    let position = append(front, id, failed).await;
    system.stop().await;

    let said = verify(bed, &[]).await;
    assert_eq!(said.code, Some(1), "{said:?}");
    assert!(said.out.starts_with(&format!("VIOLATION ended_once {id} at {position}: it ended as")), "{said:?}");
    assert!(said.out.contains("violations: 1, warnings: 0") && said.out.contains("1 rejected ones passed"), "{said:?}");
    for (flags, code) in [
        (vec!["--customer", "cus_1"], 1),
        (vec!["--customer", "cus_2"], 0),
        (vec!["--type", "PaymentFailed"], 1),
        (vec!["--type", "PaymentParked"], 0),
        (vec!["--until", "2026-01-01T00:00:00Z"], 0),
    ] {
        let said = verify(bed, &flags).await;
        assert_eq!(said.code, Some(code), "{flags:?}: {said:?}");
    }
    let dry = verify(bed, &["--payment", &other.to_string(), "--dry-run"]).await;
    let home = home_of(other, PARTITIONS);
    assert_eq!(dry.code, Some(0), "{dry:?}");
    assert!(dry.out.starts_with(&format!("judging and folding: partition {home}, offsets 0 to ")), "{dry:?}");
    assert!(dry.out.contains("of 1 partitions") && !dry.out.contains("violations"), "{dry:?}");
}

pub async fn a_payment_is_shown_with_its_history_and_as_it_was(bed: &Bed) {
    let system = bed.start().await;
    let client = &system.front.client;
    let paid = client.pay_to_the_end("order-1", &body("cus_1", "pm_card_visa")).await;
    let (id, url) = (paid.text("id").to_owned(), client.url.clone());
    let show = async |more: &[&str]| {
        let words = ["paylog", "show", "--url", &url, &id];
        run(words.iter().chain(more).map(|word| (*word).to_owned()).collect()).await
    };
    let events = client.get(&format!("/v1/payments/{id}/events?all=true")).await.body["data"].clone();
    let begun = events[0]["appended_at"].as_str().unwrap().to_owned();
    assert_eq!(events[0]["written_by"]["part"], "api");
    assert_eq!(events[0]["state"]["phase"], "processing");
    let said = show(&[]).await;
    let (partition, offset) = (&events[1]["partition"], &events[1]["offset"]);
    let lines: Vec<&str> = said.out.lines().filter(|line| line.starts_with('v')).collect();
    assert!(said.code == Some(0) && lines.len() == 2, "{said:?}");
    assert!(lines[0].contains(": PaymentInProgress by api for req_") && lines[0].contains(", due "), "{said:?}");
    assert!(lines[1].starts_with(&format!("v2 at {partition}:{offset}, appended ")), "{said:?}");
    assert!(lines[1].ends_with(": PaymentSuccessful by processor -> successful/done, attempt 1"), "{said:?}");

    // As it was when the log had taken its first event. Kafka keeps milliseconds: the second may be in the same.
    let was = client.get(&format!("/v1/payments/{id}?at={begun}")).await;
    let expected = if events[1]["appended_at"] == events[0]["appended_at"] { 2 } else { 1 };
    assert_eq!((was.status, &was.body["version"]), (200, &json!(expected)), "{was:?}");
    let said = show(&["--at", &begun]).await;
    assert!(said.code == Some(0) && said.out.contains(&format!("\"version\": {expected}")), "{said:?}");
    assert_eq!(said.out.lines().filter(|line| line.starts_with('v')).count(), expected, "{said:?}");
    let before = show(&["--at", "2026-01-01T00:00:00Z"]).await;
    assert!(before.code == Some(1) && before.err.contains("payment_not_found"), "{before:?}");
    for (path, code) in [("?at=yesterday", "invalid_at"), ("?at=2026-01-01T00:00:00Z&request_id=r", "invalid_at")] {
        let refused = client.get(&format!("/v1/payments/{id}{path}")).await;
        assert_eq!((refused.status, refused.text("code")), (400, code), "{path}");
    }
    system.stop().await;
}

/// What takes offsets and is no record: a reader that waited for one there would wait for ever.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs Kafka: see CONTRIBUTING.md"]
async fn a_log_of_aborted_records_and_markers_is_read_to_its_end() {
    let bed = Bed::kafka().await;
    tokio::task::block_in_place(|| aborted(&bed));
    let said = verify(&bed, &[]).await;
    assert_eq!(said.code, Some(0), "{said:?}");
    assert!(
        said.err.contains("read to 0:6 1:6 2:6 3:6") && said.out.starts_with("0 records of 0 payments"),
        "{said:?}"
    );
    let config = bed.args("serve", "reader", &[]).kafka.config("reader").unwrap();
    let read = move || {
        let log = paylog::journal::kafka::reader(config).unwrap();
        // A marker alone, an aborted record alone, both, and nothing.
        for (from, to) in [(1, 2), (2, 3), (2, 4), (5, 6), (6, 6)] {
            let span = Span { partition: Partition(2), from: Offset(from), to: Offset(to) };
            let (mut history, deadline) = (log.history(&[span]).unwrap(), Instant::now() + PATIENCE);
            let mut items = Vec::new();
            while items.is_empty() {
                assert!(Instant::now() < deadline, "{from} to {to} is never done");
                items = history.poll(9, Duration::from_millis(100)).unwrap();
            }
            assert!(matches!(items[..], [HistoryItem::Done(Partition(2))]), "{from} to {to}: {items:?}");
        }
    };
    tokio::task::spawn_blocking(read).await.unwrap();
}

#[tokio::test]
async fn wrong_flags_are_2_and_what_is_not_there_is_1() {
    let directory = tempfile::tempdir().unwrap();
    let nowhere = text(&directory.path().join("nowhere"));
    let id = "pay_py4e5muxaklg75g4chpkn2gms4";
    let verify = |more: &[&str]| {
        let output = Command::new(env!("CARGO_BIN_EXE_paylog"))
            .args(["replay", "verify"])
            .args(more)
            .env_remove("PAYLOG_BOOTSTRAP_SERVERS")
            .output();
        let output = output.unwrap();
        (output.status.code(), String::from_utf8(output.stderr).unwrap())
    };
    for wrong in [
        &[][..],
        &["--bogus"],
        &["--data-dir", &nowhere, "--payment", "order-1"],
        &["--data-dir", &nowhere, "--payment", id, "--customer", "cus_1"],
        &["--data-dir", &nowhere, "--from", "3"],
        &["--data-dir", &nowhere, "--since", "yesterday"],
        &["--data-dir", &nowhere, "--type", "PaymentPaid"],
    ] {
        let (code, said) = verify(wrong);
        assert_eq!(code, Some(2), "{wrong:?}: {said}");
    }
    assert!(verify(&[]).1.contains("--bootstrap-servers"), "what to do is said");
    let (code, said) = verify(&["--data-dir", &nowhere]);
    assert!(code == Some(1) && said.contains("there is no data directory"), "{said}");
    assert!(!Path::new(&nowhere).exists(), "and none is made");
    let empty = text(directory.path());
    let (code, said) = verify(&["--data-dir", &empty]);
    assert!(code == Some(1) && said.contains("there is no embedded journal"), "{said}");
}

#[tokio::test]
async fn a_range_that_the_log_does_not_have_is_wrong() {
    let bed = Bed::embedded();
    let system: System = bed.start().await;
    system.front.client.pay_to_the_end("order-1", &body("cus_1", "pm_card_visa")).await;
    system.stop().await;
    for wrong in [
        &["--partition", "9"][..],
        &["--partition", "1", "--from", "5", "--to", "5"],
        &["--since", "2026-01-02T00:00:00Z", "--until", "2026-01-01T00:00:00Z"],
    ] {
        let said = verify(&bed, wrong).await;
        assert_eq!(said.code, Some(2), "{wrong:?}: {said:?}");
    }
}
