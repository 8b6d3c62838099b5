//! A simulator of the test's own, with a clock that the test moves, and a client for it.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use clap::Parser;
use paylog::clock::Clock;
use paylog::config::{Cli, Command};
use paylog::gateway::{Charge, Gateway, GatewayArgs};
use paylog::gateway_simulator::GatewaySimulator;
use paylog::payment::request::PaymentMethod;
use paylog::payment::{Currency, IdempotencyKey, MerchantId, Money, PaymentId, Timestamp};
use serde_json::Value;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

pub struct Hand(AtomicI64);

pub struct Provider {
    pub url: String,
    pub client: Arc<dyn Gateway>,
    pub clock: Arc<Hand>,
    http: reqwest::Client,
    directory: Arc<tempfile::TempDir>,
    stop: CancellationToken,
    ended: JoinHandle<anyhow::Result<()>>,
}

impl Clock for Hand {
    fn now(&self) -> Timestamp {
        Timestamp::from_micros(self.0.load(Ordering::SeqCst)).unwrap()
    }
}

impl Hand {
    pub fn forward(&self, by: Duration) {
        self.0.fetch_add(i64::try_from(by.as_micros()).unwrap(), Ordering::SeqCst);
    }
}

impl Provider {
    pub async fn start(flags: &[&str]) -> Self {
        let clock = Arc::new(Hand(AtomicI64::new(Timestamp::now().as_micros())));
        Self::open(flags, clock, Arc::new(tempfile::tempdir().unwrap())).await
    }

    async fn open(flags: &[&str], clock: Arc<Hand>, directory: Arc<tempfile::TempDir>) -> Self {
        let data = directory.path().to_str().unwrap();
        let words = ["paylog", "gateway-simulator", "--listen", "127.0.0.1:0", "--data-dir", data];
        let Command::GatewaySimulator(args) = Cli::try_parse_from(words.iter().chain(flags)).unwrap().command else {
            panic!("another command")
        };
        let stop = CancellationToken::new();
        let hand = Arc::clone(&clock) as Arc<dyn Clock>;
        let simulator = GatewaySimulator::open_at(&args, stop.clone(), hand).unwrap();
        let url = format!("http://{}", simulator.address().unwrap());
        let ended = tokio::spawn(simulator.run());
        Self { client: client(&url, &[]), http: reqwest::Client::new(), url, clock, directory, stop, ended }
    }

    /// Stopped and started again on its ledger.
    pub async fn restart(self, flags: &[&str]) -> Self {
        let (clock, directory) = (Arc::clone(&self.clock), Arc::clone(&self.directory));
        self.stop.cancel();
        self.ended.await.unwrap().unwrap();
        Self::open(flags, clock, directory).await
    }

    pub async fn ledger(&self) -> Vec<Value> {
        self.http.get(format!("{}/ledger", self.url)).send().await.unwrap().json().await.unwrap()
    }

    /// What the ledger says of one key.
    pub async fn line(&self, charge: &Charge) -> Value {
        let key = charge.key.to_string();
        self.ledger().await.into_iter().find(|line| line["key"] == key).unwrap_or(Value::Null)
    }

    pub async fn charges(&self, charge: &Charge) -> u64 {
        self.line(charge).await["charges"].as_u64().unwrap_or(0)
    }

    /// As it is told on the wire.
    pub async fn post(&self, key: &str, form: &str) -> (u16, Value, bool) {
        let request = self.http.post(format!("{}/v1/payment_intents", self.url)).bearer_auth("sk_test_1");
        let answer = request.header("idempotency-key", key).body(form.to_owned()).send().await.unwrap();
        let replayed = answer.headers().contains_key("idempotent-replayed");
        (answer.status().as_u16(), answer.json().await.unwrap(), replayed)
    }
}

/// A client as a service would make it from its flags.
pub fn client(url: &str, more: &[&str]) -> Arc<dyn Gateway> {
    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        gateway: GatewayArgs,
    }
    let words = ["paylog", "--gateway", "stripe", "--gateway-url", url];
    let deadline: &[&str] = if more.is_empty() { &["--gateway-deadline-ms", "2000"] } else { more };
    let line = Line::try_parse_from(words.iter().chain(deadline)).unwrap();
    line.gateway.open(Duration::ZERO).unwrap()
}

pub fn charge(key: &str, payment_method: &str) -> Charge {
    Charge {
        key: PaymentId::derive(&MerchantId::default(), &IdempotencyKey::parse(key).unwrap()),
        merchant: MerchantId::default(),
        money: Money::new(1999, Currency::parse("EUR").unwrap()).unwrap(),
        payment_method: PaymentMethod::parse(payment_method).unwrap(),
        request_version: 1,
        again_from: None,
        since: Timestamp::now(),
        attempt: 1,
    }
}
