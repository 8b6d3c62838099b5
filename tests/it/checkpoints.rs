//! Copies of the rows, and instances that start from them: soon, and never with less than the log has.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use paylog::control::{Decided, NewRejection};
use paylog::journal::{Offset, Position};
use paylog::payment::event::PaymentSuccessful;
use paylog::payment::{Event, EventData, PaymentId, Signed, Timestamp};
use paylog::projection::{Payments, home_of, versioned_name};
use paylog::recording::event_record;
use paylog::schema::Codec;
use paylog::service::Service;
use serde_json::Value;
use tokio_util::sync::CancellationToken;

use crate::archives::logs;
use crate::client::{Client, body};
use crate::cluster::{Bed, PARTITIONS, PATIENCE, Running, until};
use crate::crashes::Process;
use crate::operations::refusal;
use crate::rejected::front_of;
use crate::verify::{Said, copy, front_dir, load, run, text};

const FOLDED: &str = "paylog_events_folded_total{projection=\"payments\"}";

async fn checkpoint(words: &[&str]) -> Said {
    run(["paylog", "checkpoint"].iter().chain(words).map(|word| (*word).to_owned()).collect()).await
}

/// Of a running instance, which answers with the file.
async fn create(front: &Client, more: &[&str]) -> PathBuf {
    let said = checkpoint(&[&["create", "--url", &front.url][..], more].concat()).await;
    assert_eq!(said.code, Some(0), "{said:?}");
    let (file, rest) = said.out.split_once(": ").unwrap();
    assert!(rest.contains(" rows in ") && rest.contains("digest "), "{said:?}");
    PathBuf::from(file)
}

/// A data directory without rows for another instance on the log of `up`, which must be stopped if that is embedded.
fn fresh(bed: &Bed, name: &str) {
    if !bed.is_kafka() {
        for log in ["journal", "control"] {
            copy(&bed.data_dir("up").join(log), &bed.data_dir(name).join(log));
        }
    }
}

fn rows_of(bed: &Bed, name: &str) -> PathBuf {
    bed.data_dir(name).join("store").join(versioned_name::<Payments>())
}

fn command(bed: &Bed) -> &'static str {
    front_of(bed).1
}

async fn metric(client: &Client, name: &str) -> u64 {
    let text = reqwest::get(format!("{}/metrics", client.url)).await.unwrap().text().await.unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    line.map_or(0, |value| value.parse().unwrap())
}

/// As clients see them.
async fn seen(client: &Client, ids: &[PaymentId]) -> Vec<Value> {
    let mut seen = Vec::new();
    for id in ids {
        seen.push(client.get(&format!("/v1/payments/{id}")).await.body);
        seen.push(client.get(&format!("/v1/payments/{id}/events?all=true")).await.body);
    }
    seen
}

/// The rows in `name` are those that its log folds to.
async fn verified(bed: &Bed, name: &str) {
    let mut words: Vec<String> = ["paylog", "replay", "verify", "--against"].map(str::to_owned).to_vec();
    words.push(text(&bed.data_dir(name)));
    words.extend(logs(bed, name));
    let said = run(words).await;
    assert_eq!(said.code, Some(0), "{said:?}");
    assert!(said.out.contains("rows compared with those of the store"), "{said:?}");
    assert!(said.out.ends_with("violations: 0, warnings: 0\n"), "{said:?}");
}

pub async fn a_new_instance_starts_from_a_checkpoint_and_folds_only_what_came_since(bed: &Bed) {
    let system = bed.start().await;
    let front = &system.front;
    let mut ids = load(front, "early", 100).await;
    let folded_before = front.log().await.len() as u64;
    let (later, file) = tokio::join!(load(front, "meanwhile", 20), create(&front.client, &["--effort", "100"]));
    ids.extend(later);
    assert_eq!(file.parent().unwrap(), front_dir(bed).join("checkpoints"), "{}", file.display());
    ids.extend(load(front, "later", 5).await);
    let said = checkpoint(&["check", &text(&file)]).await;
    assert!(said.code == Some(0) && said.out.starts_with("whole and unchanged: "), "{said:?}");
    let log = front.view.log_id().to_string();
    assert!(said.out.contains(&versioned_name::<Payments>()) && said.out.contains(&log), "{said:?}");
    let totals = create(&front.client, &["totals"]).await;
    let end = front.view.folded().encode(front.view.log_id());
    let sums = front.client.get(&format!("/v1/totals?at_least={end}")).await;
    let (sums, truth, events) = (sums.body, seen(&front.client, &ids).await, front.log().await.len() as u64);
    let system = if bed.is_kafka() {
        Some(system)
    } else {
        system.stop().await;
        None
    };
    fresh(bed, "fresh");
    let both = format!("{},{}", text(&totals), text(&file));
    let mut started = Process::start(bed.words(command(bed), "fresh", &["--from-checkpoint", &both])).await;
    assert_eq!(seen(&started.client, &ids).await, truth);
    let client = &started.client;
    until("the totals have caught up", async || client.get("/v1/totals").await.status == 200).await;
    assert_eq!(client.get("/v1/totals").await.body, sums);
    for projection in ["payments", "totals"] {
        let folded = metric(client, &format!("paylog_events_folded_total{{projection=\"{projection}\"}}")).await;
        assert!(folded <= events - folded_before, "{projection}: {folded} of {events} events were folded");
    }
    let paid = started.client.pay_to_the_end("afterwards", &body("cus_1", "pm_card_visa")).await;
    assert_eq!(paid.text("status"), "successful", "{paid:?}");
    let again = started.client.pay("early-1", &body("cus_1", "pm_card_visa")).await;
    assert_eq!((again.status, again.id()), (200, ids[1]), "a key from before the checkpoint is known");
    started.signal("TERM");
    assert_eq!(started.exit_code().await, Some(0));
    if let Some(system) = system {
        system.stop().await;
    }
    verified(bed, "fresh").await;
    // There are rows now, and no checkpoint is asked for.
    let mut again = Process::start(bed.words(command(bed), "fresh", &["--from-checkpoint", "/nowhere"])).await;
    again.signal("TERM");
    assert_eq!(again.exit_code().await, Some(0));
}

/// Never ready and behind: whatever its rows say, it answers 503 until it has folded what was on the log when it started.
pub async fn an_instance_with_an_old_checkpoint_is_not_ready_before_the_log_has_ended(bed: &Bed) {
    let system = bed.start().await;
    load(&system.front, "early", 10).await;
    let file = create(&system.front.client, &[]).await;
    let made_at = system.front.view.folded();
    let last = load(&system.front, "later", 200).await[199];
    system.stop().await;
    fresh(bed, "fresh");
    let args = bed.args(command(bed), "fresh", &["--from-checkpoint", &text(&file)]);
    let service = Service::open(args, front_of(bed).0).await.unwrap();
    let (view, journal) = (service.view(), service.journal());
    assert!(!view.caught_up() && view.folded().covers(&made_at), "it has the rows, and is not ready");
    assert!(view.payment(last).unwrap().is_none(), "it is behind");
    let ends = move || {
        let ends = (0..PARTITIONS).map(|p| journal.ends(paylog::journal::Partition(p)).unwrap().committed);
        ends.collect::<Vec<Offset>>()
    };
    let ends = tokio::task::spawn_blocking(ends).await.unwrap();
    let (client, stop) = (Client::new(&format!("http://{}", service.address().unwrap())), CancellationToken::new());
    let ended = tokio::spawn(service.run(stop.clone()));
    let deadline = Instant::now() + PATIENCE;
    loop {
        let ready = client.get("/readyz").await;
        let folded = view.folded();
        if ready.status == 200 {
            let reached = folded.as_slice().iter().zip(&ends).all(|(folded, end)| folded >= end);
            assert!(reached, "it was ready at {folded:?}, and the log ended at {ends:?}");
            break;
        }
        assert_eq!((ready.status, ready.text("code")), (503, "not_caught_up"));
        assert!(Instant::now() < deadline, "it is never ready");
    }
    assert_eq!(client.get(&format!("/v1/payments/{last}")).await.status, 200);
    stop.cancel();
    drop(view);
    tokio::time::timeout(PATIENCE, ended).await.unwrap().unwrap().unwrap();
    verified(bed, "fresh").await;
}

pub async fn a_checkpoint_that_cannot_be_used_ends_the_start_and_is_not_served(bed: &Bed) {
    let system = bed.start().await;
    let ids = load(&system.front, "early", 5).await;
    let file = create(&system.front.client, &[]).await;
    let truth = seen(&system.front.client, &ids).await;
    system.stop().await;
    fresh(bed, "fresh");
    let whole = std::fs::read(&file).unwrap();
    let broken = bed.data_dir("broken");
    let start = |file: &Path| refusal(&bed.words(command(bed), "fresh", &["--from-checkpoint", &text(file)]));
    for (damaged, says) in [
        (flipped(&whole, whole.len() / 2), "is damaged in block"),
        (flipped(&whole, 30), "is damaged in block 0"),
        (whole[..whole.len() - 1].to_vec(), "the file ends in the middle"),
        (b"something else".to_vec(), "this is no checkpoint of paylog's"),
    ] {
        std::fs::write(&broken, &damaged).unwrap();
        let said = start(&broken);
        assert!(said.contains(says) && said.contains("--from-checkpoint"), "{said}");
        let checked = checkpoint(&["check", &text(&broken)]).await;
        assert!(checked.code == Some(1) && checked.err.contains(says), "{checked:?}");
        let restored = checkpoint(&["restore", &text(&broken), "--data-dir", &text(&bed.data_dir("none"))]).await;
        assert!(restored.code == Some(1) && restored.err.contains(says), "{restored:?}");
        assert!(!rows_of(bed, "fresh").exists() && !rows_of(bed, "none").exists(), "nothing of it is left");
    }
    let missing = start(Path::new("/nowhere/at/all"));
    assert!(missing.contains("/nowhere/at/all") && missing.contains("--from-checkpoint"), "{missing}");

    let twice =
        refusal(&bed.words(command(bed), "fresh", &["--from-checkpoint", &[text(&file), text(&file)].join(",")]));
    assert!(twice.contains("two checkpoints of payments@"), "{twice}");
    let other = if bed.is_kafka() { Bed::kafka().await } else { Bed::embedded() };
    let theirs = other.start().await;
    load(&theirs.front, "theirs", 3).await;
    let of_another = create(&theirs.front.client, &[]).await;
    theirs.stop().await;
    let said = start(&of_another);
    assert!(said.contains("of another log") && said.contains("leave the checkpoint out"), "{said}");
    assert!(!rows_of(bed, "fresh").exists(), "nothing of it is left");

    // Left out, it is folded from the start.
    let mut started = Process::start(bed.words(command(bed), "fresh", &[])).await;
    assert_eq!(seen(&started.client, &ids).await, truth);
    started.kill();
}

fn flipped(bytes: &[u8], at: usize) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    bytes[at] ^= 0x10;
    bytes
}

pub async fn a_stopped_instance_gives_one_and_another_is_made_of_it(bed: &Bed) {
    let system = bed.start().await;
    let ids = load(&system.front, "early", 20).await;
    let truth = seen(&system.front.client, &ids).await;
    let (file, dir) = (text(&bed.data_dir("file")), text(&front_dir(bed)));
    let offline = ["create", "--offline", "--data-dir", &dir, "--file", &file];
    let running = checkpoint(&offline).await;
    assert!(running.code == Some(1) && running.err.contains("in use by another paylog process"), "{running:?}");
    system.stop().await;
    let made = checkpoint(&offline).await;
    assert!(made.code == Some(0) && made.out.starts_with(&format!("{file}: ")), "{made:?}");
    let again = checkpoint(&offline).await;
    assert!(again.code == Some(1) && again.err.contains("exists already"), "{again:?}");
    let empty = text(&bed.data_dir("empty"));
    std::fs::create_dir_all(&empty).unwrap();
    let none = checkpoint(&["create", "--offline", "--data-dir", &empty, "--file", "/tmp/never"]).await;
    assert!(none.code == Some(1) && none.err.contains("there are no rows of payments@"), "{none:?}");

    fresh(bed, "fresh");
    let into = text(&bed.data_dir("fresh"));
    let restored = checkpoint(&["restore", &file, "--data-dir", &into]).await;
    assert!(restored.code == Some(0) && restored.out.contains(" rows restored, payments@"), "{restored:?}");
    let twice = checkpoint(&["restore", &file, "--data-dir", &into]).await;
    assert!(twice.code == Some(1) && twice.err.contains("there are rows of payments@"), "{twice:?}");
    verified(bed, "fresh").await;
    let started = Process::start(bed.words(command(bed), "fresh", &[])).await;
    assert_eq!(metric(&started.client, FOLDED).await, 0, "there was nothing to fold");
    assert_eq!(seen(&started.client, &ids).await, truth);
}

async fn append(front: &Running, id: PaymentId, data: EventData) -> Position {
    let event = Event::new(id, Timestamp::now(), data);
    let record = event_record(&event, home_of(id, PARTITIONS), &Codec::new().unwrap(), None).unwrap();
    let position = front.journal.append(record).await.unwrap();
    front.view.wait_folded(position).await;
    position
}

pub async fn a_checkpoint_that_holds_a_rejected_record_is_folded_anew(bed: &Bed) {
    let system = bed.start().await;
    let front = system.front;
    let paid = front.client.pay_to_the_end("order-1", &body("cus_1", "pm_card_visa")).await;
    let (gateway, gateway_reference) = ("elsewhere".to_owned(), "x".to_owned());
    let again = EventData::PaymentSuccessful(PaymentSuccessful { gateway, gateway_reference, attempt: 1 });
    let position = append(&front, paid.id(), again).await;
    let file = create(&front.client, &[]).await;
    let path = format!("/v1/payments/{}/events?all=true", paid.text("id"));
    let history = front.client.get(&path).await.body;
    let signed = Signed::new("ada", "forged").unwrap();
    let decided = front.control.reject(NewRejection { position, signed, at: Timestamp::now() }, PATIENCE).await;
    assert!(matches!(decided, Ok(Decided::Effective(_))), "{decided:?}");
    assert!(front.failure().await.contains("has rejected it since"));
    if let Some(processor) = system.processor {
        assert!(processor.failure().await.contains("has rejected it since"));
    }
    let (role, name) = front_of(bed);
    std::fs::remove_dir_all(bed.data_dir(name).join("store")).unwrap();
    for _ in 0..2 {
        let front = bed.run(role, name, &["--from-checkpoint", &text(&file)]).await;
        let anew = front.client.get(&path).await.body;
        assert_eq!(anew["data"].as_array().unwrap()[..], history["data"].as_array().unwrap()[..2], "without it");
        front.stop().await;
    }
    verified(bed, name).await;
}

/// What the log has lost is not invented: neither rows nor a checkpoint are served that know more than it.
pub async fn rows_that_are_ahead_of_the_log_are_refused(bed: &Bed) {
    if bed.is_kafka() {
        return other_topic(bed).await;
    }
    let system = bed.start().await;
    load(&system.front, "early", 5).await;
    system.stop().await;
    fresh(bed, "older");
    fresh(bed, "older-with-rows");
    let system = bed.start().await;
    load(&system.front, "later", 20).await;
    let file = create(&system.front.client, &[]).await;
    system.stop().await;
    let said = refusal(&bed.words("up", "older", &["--from-checkpoint", &text(&file)]));
    assert!(said.contains("and the log ends at") && said.contains("bring the newer one"), "{said}");
    assert!(!rows_of(bed, "older").exists(), "nothing of it is left");
    copy(&rows_of(bed, "up"), &rows_of(bed, "older-with-rows"));
    let said = refusal(&bed.words("up", "older-with-rows", &[]));
    assert!(said.contains("the rows in this data directory were folded to"), "{said}");
    assert!(said.contains("and the log ends at") && said.contains("bring the newer one"), "{said}");
}

/// A topic that is made again under the same name has lost everything, and another id.
async fn other_topic(bed: &Bed) {
    let system = bed.start().await;
    load(&system.front, "early", 5).await;
    let file = create(&system.front.client, &[]).await;
    system.stop().await;
    recreate(bed).await;
    let said = refusal(&bed.words("serve", "fresh", &["--from-checkpoint", &text(&file)]));
    assert!(said.contains("of another log"), "{said}");
    assert!(!rows_of(bed, "fresh").exists(), "nothing of it is left");
}

async fn recreate(bed: &Bed) {
    let bootstrap = std::env::var("PAYLOG_TEST_BOOTSTRAP").unwrap();
    let admin: rdkafka::admin::AdminClient<_> =
        rdkafka::ClientConfig::new().set("bootstrap.servers", bootstrap).create().unwrap();
    let options = rdkafka::admin::AdminOptions::new().operation_timeout(Some(Duration::from_secs(30)));
    let names = [bed.prefix.clone(), format!("{}.control", bed.prefix)];
    let deleted = admin.delete_topics(&names.each_ref().map(String::as_str), &options).await.unwrap();
    assert!(deleted.iter().all(Result::is_ok), "{deleted:?}");
    let config = bed.args("serve", "topics", &[]).kafka.config("topics").unwrap();
    until("the topics are made again", async || {
        let config = config.clone();
        tokio::task::spawn_blocking(move || paylog::journal::kafka::ensure(&config, 1)).await.unwrap().is_ok()
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_so_many_are_kept_and_no_path_is_taken() {
    let bed = Bed::embedded();
    let system = bed.start().await;
    load(&system.front, "early", 3).await;
    let client = &system.front.client;
    let killed = bed.data_dir("up").join("checkpoints").join("payments@1-20260101T000000Z.checkpoint.part");
    std::fs::create_dir_all(killed.parent().unwrap()).unwrap();
    std::fs::write(&killed, b"half").unwrap();
    let mut files = Vec::new();
    for _ in 0..3 {
        files.push(create(client, &["--keep", "2"]).await);
    }
    assert!(!killed.exists(), "what a process was killed over is deleted");
    assert!(!files[0].exists() && files[1].exists() && files[2].exists(), "{files:?}");
    let latest = client.get("/v1/operator/checkpoints").await.body["data"][0]["latest"].clone();
    assert_eq!((latest["state"].as_str(), latest["file"].as_str()), (Some("whole"), files[2].to_str()));
    let path = serde_json::json!({"file": "/tmp/x"});
    assert_eq!(client.post("/v1/operator/checkpoints", &path).await.status, 400);
    system.stop().await;
}

/// Between the first byte and the last name: what is there after the kill is whole, or not there.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_in_the_middle_of_a_start_no_half_store_is_opened() {
    let bed = Bed::embedded();
    let system = bed.start().await;
    let ids = load(&system.front, "early", 60).await;
    let file = create(&system.front.client, &[]).await;
    let truth = seen(&system.front.client, &ids).await;
    system.stop().await;
    let mut in_the_middle = 0;
    for round in ["one", "two", "three"] {
        fresh(&bed, round);
        let words = bed.words("up", round, &["--from-checkpoint", &text(&file)]);
        let part = rows_of(&bed, round).with_file_name(format!("{}.part", versioned_name::<Payments>()));
        let killed = tokio::task::spawn_blocking(move || {
            let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_paylog"));
            let mut child = command.args(&words[1..]).stdout(std::process::Stdio::null()).spawn().unwrap();
            let deadline = Instant::now() + PATIENCE;
            while !part.join("keyspaces").exists() {
                assert!(Instant::now() < deadline, "it does not begin");
                std::thread::yield_now();
            }
            child.kill().unwrap();
            child.wait().unwrap();
            part.exists()
        });
        let half = killed.await.unwrap();
        assert_ne!(half, rows_of(&bed, round).exists(), "half a store under its own name, or none at all");
        in_the_middle += usize::from(half);
        let mut started = Process::start(bed.words("up", round, &["--from-checkpoint", &text(&file)])).await;
        assert_eq!(metric(&started.client, FOLDED).await, 0, "there was nothing to fold");
        assert_eq!(seen(&started.client, &ids).await, truth);
        started.kill();
    }
    assert!(in_the_middle > 0, "each was whole before it could be killed");
}
