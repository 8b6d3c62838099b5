//! Payments at a provider over HTTP, with every fault it has: how each one ends, and what the provider's ledger says.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::path::Path;

use clap::Parser;
use paylog::config::{Cli, Command};
use paylog::gateway_simulator::GatewaySimulator;
use serde_json::Value;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::client::{Client, body};
use crate::cluster::{Bed, PARTITIONS, System, until};
use crate::takeover::keys_on;

/// How a payment must end: its status or phase, why, and how often the provider took money.
type End = (&'static str, &'static str, u64);
const PAID: End = ("successful", "", 1);

const ENDS: &[(&str, End)] = &[
    ("pm_card_visa", PAID),
    ("pm_card_visa_chargeDeclinedInsufficientFunds", ("failed", "insufficient_funds", 0)),
    ("pm_card_authenticationRequired", ("failed", "authentication_required", 0)),
    ("pm_nobody_knows", ("failed", "resource_missing", 0)),
    ("pm_sim_decline", ("failed", "generic_decline", 0)),
    ("pm_sim_delay", PAID),
    ("pm_sim_silent", PAID),
    ("pm_sim_charged_then_silent", PAID),
    ("pm_sim_reset", PAID),
    ("pm_sim_truncated", PAID),
    ("pm_sim_wrong_json", PAID),
    ("pm_sim_not_utf8", PAID),
    ("pm_sim_huge", PAID),
    ("pm_sim_500_after_charge", PAID),
    ("pm_sim_in_progress", PAID),
    ("pm_sim_rate_limited", PAID),
    ("pm_sim_transient", PAID),
    ("pm_sim_redirect", PAID),
    ("pm_sim_late_success", PAID),
    // What nobody can settle is for a person, and is never a failure.
    ("pm_sim_stall", ("parked", "unknown_too_long", 0)),
    ("pm_sim_500_forever", ("parked", "unknown_too_long", 0)),
    ("pm_sim_unavailable", ("parked", "unknown_too_long", 0)),
    ("pm_sim_wrong_amount", ("parked", "mismatch", 1)),
    ("pm_sim_wrong_currency", ("parked", "mismatch", 1)),
    ("pm_sim_wrong_reference", ("parked", "mismatch", 1)),
    // The provider breaks its word, after an answer that was definitive: `reconcile` finds it.
    ("pm_sim_flip", ("failed", "generic_decline", 1)),
    ("pm_sim_double_charge", ("successful", "", 2)),
];

/// Good ones beside the faulty, so that the breaker has no reason to open for long.
const NEIGHBOURS: usize = 60;

pub struct Provider {
    pub url: String,
    stop: CancellationToken,
    ended: JoinHandle<anyhow::Result<()>>,
}

impl Provider {
    pub fn start(listen: &str, data: &Path) -> Self {
        let data = data.to_str().unwrap();
        let words = ["paylog", "gateway-simulator", "--listen", listen, "--data-dir", data];
        let times = ["--delay-ms", "300", "--late-ms", "500"];
        let Command::GatewaySimulator(args) = Cli::try_parse_from(words.iter().chain(&times)).unwrap().command else {
            panic!("another command")
        };
        let stop = CancellationToken::new();
        let simulator = GatewaySimulator::open(&args, stop.clone()).unwrap();
        let url = format!("http://{}", simulator.address().unwrap());
        Self { url, stop, ended: tokio::spawn(simulator.run()) }
    }

    pub async fn ledger(&self) -> HashMap<String, Value> {
        let lines: Vec<Value> = reqwest::get(format!("{}/ledger", self.url)).await.unwrap().json().await.unwrap();
        lines.into_iter().map(|line| (line["key"].as_str().unwrap().to_owned(), line)).collect()
    }

    pub async fn stop(self) {
        self.stop.cancel();
        self.ended.await.unwrap().unwrap();
    }
}

pub async fn start(bed: &Bed, provider: &str) -> System {
    let mut flags = vec!["--gateway", "stripe", "--gateway-url", provider, "--gateway-deadline-ms", "1000"];
    flags.extend(["--retry-min-ms", "100", "--retry-max-ms", "1000", "--unknown-park-after-seconds", "5"]);
    bed.start_with(&flags).await
}

async fn has_ended(client: &Client, id: &str) -> bool {
    let payment = client.get(&format!("/v1/payments/{id}")).await;
    payment.text("status") != "in_progress" || payment.text("phase") == "parked"
}

/// Its status or `parked`, and why.
async fn end(client: &Client, id: &str) -> (String, String) {
    until(&format!("{id} ends"), async || has_ended(client, id).await).await;
    let payment = client.get(&format!("/v1/payments/{id}")).await;
    let events = client.get(&format!("/v1/payments/{id}/events")).await;
    let last = events.body["data"].as_array().unwrap().last().unwrap().clone();
    match last["type"].as_str().unwrap() {
        "PaymentParked" => ("parked".to_owned(), last["data"]["reason"].as_str().unwrap().to_owned()),
        _ => {
            let why = payment.body["failure"]["code"].as_str().unwrap_or_default();
            (payment.text("status").to_owned(), why.to_owned())
        }
    }
}

pub async fn every_fault_of_a_provider_ends_as_it_must(bed: &Bed) {
    let provider = Provider::start("127.0.0.1:0", &bed.data_dir("provider"));
    let system = start(bed, &provider.url).await;
    let client = &system.front.client;
    // What was accepted before its lane was taken may have been tried by an owner before: a refusal would settle it later.
    for partition in 0..PARTITIONS {
        let key = keys_on(partition).next().unwrap();
        let accepted = client.pay(&key, &body("cus_2", "pm_card_visa")).await;
        end(client, accepted.text("id")).await;
    }
    let mut ids = HashMap::new();
    for (token, _) in ENDS {
        let accepted = client.pay(token, &body("cus_1", token)).await;
        ids.insert(*token, accepted.text("id").to_owned());
        for n in 0..NEIGHBOURS / ENDS.len() {
            client.pay(&format!("{token}-{n}"), &body("cus_2", "pm_card_visa")).await;
        }
    }
    for (token, (status, why, _)) in ENDS {
        let (is, because) = end(client, &ids[token]).await;
        assert_eq!((is.as_str(), because.as_str()), (*status, *why), "{token}");
    }
    until("what comes late has come", async || provider.ledger().await[&ids["pm_sim_flip"]]["charges"] == 1).await;
    let ledger = provider.ledger().await;
    for (token, (.., charges)) in ENDS {
        let line = &ledger[&ids[token]];
        assert_eq!(line["charges"], *charges, "{token}: {line}");
    }
    for line in ledger.values() {
        assert_eq!(line["body_digests"].as_array().unwrap().len(), 1, "the same bytes at every try: {line}");
    }
    let alarms = reconcile(client, &provider).await;
    let mut expected = HashMap::from([("pm_sim_flip", "charged_but_failed")]);
    expected.insert("pm_sim_double_charge", "charged_more_than_once");
    expected.extend(["pm_sim_wrong_amount", "pm_sim_wrong_currency"].map(|token| (token, "charged_otherwise")));
    let mut expected: Vec<String> =
        expected.into_iter().map(|(token, kind)| format!("{} {kind}", ids[token])).collect();
    expected.sort_unstable();
    assert_eq!(alarms, expected);
    system.stop().await;
    provider.stop().await;
}

/// The alarms, by payment and kind.
async fn reconcile(client: &Client, provider: &Provider) -> Vec<String> {
    let words = ["paylog", "reconcile", "--url", &client.url, "--ledger", &provider.url];
    let Command::Reconcile(args) = Cli::try_parse_from(words).unwrap().command else { panic!("another command") };
    let mut out = Vec::new();
    let done = paylog::reconcile::run(&args, &mut out).await;
    let out = String::from_utf8(out).unwrap();
    let alarm = |line: &str| Some(line.strip_prefix("ALARM ")?.split_once(':')?.0.to_owned());
    let mut alarms: Vec<String> = out.lines().filter_map(alarm).collect();
    alarms.sort_unstable();
    assert_eq!(done.is_err(), !alarms.is_empty(), "{out}");
    alarms
}

pub async fn a_provider_that_is_away_is_waited_for(bed: &Bed) {
    let address: SocketAddr = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let system = start(bed, &format!("http://{address}")).await;
    let client = &system.front.client;
    // A processor that has recorded something knows the log's time: before that it asks, where it would charge.
    let before = Provider::start(&address.to_string(), &bed.data_dir("provider"));
    let first = client.pay("order-0", &body("cus_1", "pm_card_visa")).await.text("id").to_owned();
    assert_eq!(end(client, &first).await.0, "successful");
    before.stop().await;
    let id = client.pay("order-1", &body("cus_1", "pm_card_visa")).await.text("id").to_owned();
    let path = format!("/v1/payments/{id}");
    until("nothing could be sent", async || client.get(&path).await.text("phase") == "retrying").await;
    let provider = Provider::start(&address.to_string(), &bed.data_dir("provider"));
    assert_eq!(end(client, &id).await.0, "successful");
    let line = &provider.ledger().await[&id];
    assert_eq!((&line["charges"], &line["requests"]), (&1.into(), &1.into()), "nothing was sent before");
    let payment = client.get(&path).await;
    assert_eq!(
        (&payment.body["gateway"]["name"], &payment.body["gateway"]["reference"]),
        (&"stripe".into(), &line["references"][0])
    );
    system.stop().await;
    provider.stop().await;
}
