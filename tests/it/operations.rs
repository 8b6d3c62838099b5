//! How a process starts, refuses to start, and stops.

use std::process::{Command, Output};

use paylog::projection::totals::Totals;
use paylog::projection::{Payments, versioned_name};
use paylog::service::Role;
use serde_json::json;

use crate::client::body;
use crate::cluster::{Bed, PARTITIONS, until};
use crate::crashes::Process;
use crate::rebuild;

pub fn paylog(words: &[String]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_paylog")).args(&words[1..]).output().unwrap()
}

pub fn refusal(words: &[String]) -> String {
    let output = paylog(words);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    String::from_utf8(output.stderr).unwrap()
}

fn command(bed: &Bed) -> &'static str {
    if bed.is_kafka() { "serve" } else { "up" }
}

pub async fn sigterm_drains_with_a_stream_open_and_exits_with_0(bed: &Bed) {
    for signal in ["TERM", "INT"] {
        let mut up = Process::start(bed.words(command(bed), "up", &[])).await;
        let (status, mut stream) = up.client.stream("customer_id=cus_1", None).await;
        assert_eq!(status, 200);
        stream.next().await.expect("the cursor");
        up.signal(signal);
        assert!(stream.next().await.is_none(), "the stream is ended, not broken");
        assert_eq!(up.exit_code().await, Some(0), "SIG{signal}");
    }
}

pub async fn a_data_directory_serves_one_process(bed: &Bed) {
    let first = Process::start(bed.words(command(bed), "up", &[])).await;
    let text = refusal(&bed.words(command(bed), "up", &[]));
    assert!(text.contains("in use by another paylog process") && text.contains("--data-dir"), "{text}");
    drop(first);
}

pub async fn the_commands_pay_show_and_tail(bed: &Bed) {
    let system = bed.start().await;
    let url = system.front.client.url.clone();
    let run = |words: &[&str]| {
        let words: Vec<String> = ["paylog"].iter().chain(words).map(|word| (*word).to_owned()).collect();
        let output = paylog(&words);
        (output.status.code(), String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap())
    };
    let (code, paid, _) = run(&["pay", "--url", &url, "--amount", "1999", "--key", "order-1", "--wait", "60"]);
    let paid: serde_json::Value = serde_json::from_str(&paid).unwrap();
    assert_eq!((code, &paid["status"], &paid["amount"]), (Some(0), &"successful".into(), &1999.into()));
    let id = paid["id"].as_str().unwrap();
    let (code, shown, _) = run(&["show", "--url", &url, id]);
    assert!(code == Some(0) && shown.contains("PaymentInProgress") && shown.contains("PaymentSuccessful"), "{shown}");
    let (code, tailed, _) = run(&["tail", "--url", &url, "--payment", id]);
    assert!(code == Some(0) && tailed.contains(id) && tailed.contains("successful/done"), "{tailed}");
    let (code, _, refused) = run(&["pay", "--url", &url, "--amount", "-5", "--key", "order-2"]);
    assert!(code == Some(1) && refused.contains("amount must be positive"), "{refused}");
    system.stop().await;
}

/// The store says which log its rows are of, and which record of each partition it folded last.
pub async fn rows_of_another_log_are_refused(bed: &Bed) {
    let role = if bed.is_kafka() { Role::Serve } else { Role::All };
    let running = bed.run(role, "up", &[]).await;
    assert_eq!(running.client.pay("order-1", &body("cus_1", "pm_card_visa")).await.status, 202);
    running.stop().await;
    let other = if bed.is_kafka() { Bed::kafka().await } else { Bed::embedded() };
    let running = other.run(role, "up", &[]).await;
    assert_eq!(running.client.pay("order-2", &body("cus_1", "pm_card_visa")).await.status, 202);
    running.stop().await;
    let (mine, theirs) = (bed.data_dir("up").join("store"), other.data_dir("up").join("store"));
    std::fs::remove_dir_all(&theirs).unwrap();
    std::fs::rename(mine, theirs).unwrap();
    let text = refusal(&other.words(command(bed), "up", &[]));
    assert!(text.contains("are of another log"), "{text}");
}

/// What was mixed up is told, and nothing is taken for damaged, written to or deleted.
pub async fn a_directory_of_something_else_is_refused_and_left_alone(bed: &Bed) {
    let role = if bed.is_kafka() { Role::Serve } else { Role::All };
    let running = bed.run(role, "up", &[]).await;
    let paid = running.client.pay("order-1", &body("cus_1", "pm_card_visa")).await;
    running.stop().await;
    let words = bed.words(command(bed), "up", &[]);
    let stores = bed.data_dir("up").join("store");
    let (rows, totals) = (stores.join(versioned_name::<Payments>()), stores.join(versioned_name::<Totals>()));
    let aside = bed.data_dir("aside");
    // The rows of another projection, or a log, under the name of the payments' rows.
    std::fs::rename(&rows, &aside).unwrap();
    std::fs::rename(&totals, &rows).unwrap();
    let text = refusal(&words);
    assert!(text.contains("is not a store of payments@") && text.contains("move it away"), "{text}");
    std::fs::rename(&rows, &totals).unwrap();
    std::fs::rename(&aside, &rows).unwrap();
    if !bed.is_kafka() {
        let log = bed.data_dir("up").join("journal");
        std::fs::rename(&log, &aside).unwrap();
        std::fs::rename(&rows, &log).unwrap();
        let text = refusal(&words);
        assert!(text.contains("is not a log") && text.contains("move it away"), "{text}");
        std::fs::rename(&log, &rows).unwrap();
        std::fs::rename(&aside, &log).unwrap();
    }
    let running = bed.run(role, "up", &[]).await;
    assert_eq!(running.client.get(&format!("/v1/payments/{}", paid.id())).await.status, 200, "all is as it was");
    running.stop().await;

    let foreign = bed.data_dir("foreign");
    std::fs::create_dir(&foreign).unwrap();
    std::fs::write(foreign.join("PG_VERSION"), "17").unwrap();
    let text = refusal(&bed.words(command(bed), "foreign", &[]));
    assert!(text.contains("there is PG_VERSION in it") && text.contains("--data-dir"), "{text}");
    assert_eq!(std::fs::read_dir(&foreign).unwrap().count(), 1, "nothing was written there");
    // What a file system or an operator's tools put there is in nobody's way.
    std::fs::rename(foreign.join("PG_VERSION"), foreign.join(".keep")).unwrap();
    std::fs::create_dir(foreign.join("lost+found")).unwrap();
    bed.run(role, "foreign", &[]).await.stop().await;
}

#[tokio::test]
async fn serve_and_process_need_kafka() {
    let bed = Bed::embedded();
    for command in ["serve", "process"] {
        let text = refusal(&bed.words(command, command, &[]));
        assert!(text.contains("--bootstrap-servers") && text.contains("paylog up"), "{text}");
    }
}

#[tokio::test]
async fn the_number_of_partitions_can_never_change() {
    let bed = Bed::embedded();
    bed.run(Role::All, "up", &[]).await.stop().await;
    let mut words = bed.words("up", "up", &[]);
    let at = words.iter().position(|word| word == "--partitions").unwrap() + 1;
    words[at] = "5".to_owned();
    let text = refusal(&words);
    assert!(text.contains("was created with 4 partitions and 5 are configured"), "{text}");
}

#[tokio::test]
async fn a_second_signal_ends_it_at_once() {
    let bed = Bed::embedded();
    // A charge of a minute is under way, which the drain would wait for.
    let mut up = Process::start(bed.words("up", "up", &["--simulator-latency-ms", "60000"])).await;
    assert_eq!(up.client.pay("order-1", &body("cus_1", "pm_card_visa")).await.status, 202);
    up.signal("TERM");
    up.refuses_connections().await;
    up.signal("TERM");
    assert_eq!(up.exit_code().await, Some(130));
}

#[tokio::test]
async fn a_configuration_is_checked_without_starting_anything() {
    let bed = Bed::embedded();
    let good: Vec<String> = ["paylog", "config", "check"].map(str::to_owned).to_vec();
    assert_eq!(paylog(&good).status.code(), Some(0));
    let kafka = ["--bootstrap-servers", "127.0.0.1:1", "--kafka", "isolation.level=read_uncommitted"];
    let bad: Vec<String> = good.into_iter().chain(kafka.map(str::to_owned)).collect();
    let text = refusal(&bad);
    assert!(text.contains("isolation.level") && text.contains("cannot be overridden"), "{text}");
    assert!(!bed.data_dir("up").exists());
}

#[tokio::test]
async fn the_first_two_lines_of_up_say_where() {
    let bed = Bed::embedded();
    let up = Process::start(bed.words("up", "up", &[])).await;
    assert!(up.client.url.starts_with("http://127.0.0.1:"), "{}", up.client.url);
    let page = up.client.send(reqwest::Method::GET, "/", &[], None).await;
    assert_eq!(page.status, 200);
    assert!(page.header("content-type").starts_with("text/html"));
    assert!(page.header("content-security-policy").contains("default-src 'none'"), "{page:?}");
    let metrics = up.client.send(reqwest::Method::GET, "/metrics", &[], None).await;
    assert_eq!(metrics.status, 200);
}

/// The charts of the page are drawn of these.
#[tokio::test]
async fn what_comes_and_goes_is_open_and_is_behind_is_measured() {
    let bed = Bed::embedded();
    let up = Process::start(bed.words("up", "up", &[])).await;
    let client = &up.client;
    until("it is ready", async || client.get("/readyz").await.status == 200).await;
    assert_eq!(client.pay("order-1", &body("cus_1", "pm_card_visa_chargeDeclined")).await.status, 202);
    assert_eq!(client.pay("order-2", &body("cus_1", "pm_sim_unavailable")).await.status, 202);
    let are_measured = async || {
        let metrics = reqwest::get(format!("{}/metrics", client.url)).await.unwrap().text().await.unwrap();
        let lags = metrics.lines().filter(|line| line.starts_with("paylog_fold_lag_offsets{"));
        let told = [
            "paylog_payments_accepted_total 2",
            "paylog_payments_ended_total{status=\"failed\"} 1",
            "paylog_payment_result_seconds_count 1",
            "paylog_payments_open 1",
        ];
        lags.filter(|line| line.ends_with("} 0")).count() == PARTITIONS as usize
            && told.iter().all(|line| metrics.lines().any(|other| other == *line))
    };
    until("they are measured", are_measured).await;
    rebuild::rebuild(client, &json!({})).await;
    rebuild::reaches(client, "verified").await;
    until("a history that is folded anew is not counted", are_measured).await;
}

#[tokio::test]
#[ignore = "needs Kafka: see CONTRIBUTING.md"]
async fn topics_are_made_once_and_checked() {
    let bed = Bed::kafka().await;
    let words = |command: &str| -> Vec<String> {
        let service = bed.words("serve", "topics", &[]);
        let kafka = service.iter().position(|word| word == "--bootstrap-servers").unwrap();
        let kafka = service[kafka..].iter().cloned().chain(["--partitions".to_owned(), PARTITIONS.to_string()]);
        ["paylog", "topics", command].into_iter().map(str::to_owned).chain(kafka).collect()
    };
    let ensured = paylog(&words("ensure"));
    assert_eq!(ensured.status.code(), Some(0), "{ensured:?}");
    assert_eq!(String::from_utf8(ensured.stdout).unwrap().matches("is there already").count(), 5);
    assert_eq!(paylog(&words("check")).status.code(), Some(0));
    let unsafe_words: Vec<String> =
        words("check").into_iter().filter(|word| word != "--allow-single-replica").collect();
    let text = refusal(&unsafe_words);
    assert!(text.contains("--allow-single-replica"), "{text}");
}
