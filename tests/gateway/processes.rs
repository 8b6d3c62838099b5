//! The simulator as a process of its own: its first line, its end, and its death.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use paylog::gateway::Outcome;
use serde_json::Value;

use crate::provider::{charge, client};

const PATIENCE: Duration = Duration::from_secs(60);

/// A child that dies with the test.
struct Process {
    child: Child,
    url: String,
}

impl Process {
    fn start(data: &Path) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_paylog"))
            .args(["gateway-simulator", "--listen", "127.0.0.1:0", "--data-dir"])
            .arg(data)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let line = BufReader::new(child.stdout.take().unwrap()).lines().next().unwrap().unwrap();
        let url = line.strip_prefix("listening on ").unwrap().to_owned();
        Self { child, url }
    }

    async fn ledger(&self) -> Vec<Value> {
        reqwest::get(format!("{}/ledger", self.url)).await.unwrap().json().await.unwrap()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_while_it_charges_it_keeps_every_charge_that_it_told() {
    let directory = tempfile::tempdir().unwrap();
    let mut told = Vec::new();
    for round in 0..3 {
        let mut process = Process::start(directory.path());
        let client = client(&process.url, &[]);
        let mut charges = tokio::task::JoinSet::new();
        for n in 0..40 {
            let (client, charge) = (client.clone(), charge(&format!("{round}-{n}"), "pm_card_visa"));
            charges.spawn(async move { (charge.key.to_string(), client.charge(charge).await) });
        }
        while let Some(done) = charges.join_next().await {
            if let (key, Outcome::Succeeded(receipt)) = done.unwrap() {
                told.push((key, receipt.reference));
            }
            if told.len() == 20 * (round + 1) {
                process.child.kill().unwrap();
            }
        }
    }
    assert!(told.len() >= 60, "{}", told.len());
    let ledger = Process::start(directory.path()).ledger().await;
    for (key, reference) in told {
        let line = ledger.iter().find(|line| line["key"] == key).unwrap_or_else(|| panic!("{key} is lost"));
        assert_eq!((&line["charges"], &line["references"][0]), (&1.into(), &reference.into()));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sigterm_ends_it_well_with_an_answer_owing() {
    let directory = tempfile::tempdir().unwrap();
    let mut process = Process::start(directory.path());
    let client = client(&process.url, &[]);
    let owed = charge("k", "pm_sim_stall");
    let asking = tokio::spawn(client.charge(owed.clone()));
    let deadline = Instant::now() + PATIENCE;
    while process.ledger().await.is_empty() {
        assert!(Instant::now() < deadline, "the request does not come");
    }
    assert!(Command::new("kill").arg(process.child.id().to_string()).status().unwrap().success());
    while process.child.try_wait().unwrap().is_none() {
        assert!(Instant::now() < deadline, "it does not end");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(process.child.wait().unwrap().code(), Some(0));
    assert!(matches!(asking.await.unwrap(), Outcome::Unknown { .. }));
}

#[test]
fn its_help_lists_every_token() {
    let help = Command::new(env!("CARGO_BIN_EXE_paylog")).args(["gateway-simulator", "--help"]).output().unwrap();
    let help = String::from_utf8(help.stdout).unwrap();
    for (_, name) in paylog::gateway_simulator::Fault::all() {
        assert!(help.contains(&format!("pm_sim_{name}")), "{name}");
    }
}
