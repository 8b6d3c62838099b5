//! From POST to the last frame, through real sockets: a whole service in this process, streams of a few customers, and
//! payments at a fixed rate. Open loop: what counts is the time since a payment was due to be sent, so that a late answer
//! delays no other request and hides nothing.

use std::collections::HashMap;
use std::time::Duration;

use anyhow::{Context, bail};
use clap::Parser;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::time::{Instant, sleep_until, timeout_at};
use tokio_util::sync::CancellationToken;

use super::Bed;
use crate::client::sse;
use crate::config::{Cli, Command, ServiceArgs};
use crate::payment::{IdempotencyKey, MerchantId, PaymentId};
use crate::service::{Role, Service};

/// Customers that are paid for, each followed by one stream.
const CUSTOMERS: u64 = 4;
/// At the beginning, and not counted: connections, caches, the group.
const WARM_UP: Duration = Duration::from_secs(2);
/// How long after the last payment its end is waited for.
const PATIENCE: Duration = Duration::from_secs(10);

/// What one of the clients has seen, and when.
struct Seen {
    at: Instant,
    what: What,
}

enum What {
    /// Payment `n` was answered with 202.
    Accepted(u64),
    /// A payment was answered otherwise, or not at all.
    Failed(String),
    /// The frame that ends a payment, by the payment's id.
    Ended(String),
}

/// Payments at even distances.
struct Schedule {
    name: String,
    began: Instant,
    rate: u64,
    count: u64,
    /// Those before this one are the warm-up.
    counted_from: u64,
}

#[derive(Default)]
pub(super) struct Latencies {
    accepted: Vec<Duration>,
    ended: Vec<Duration>,
    failures: Vec<String>,
}

pub(super) async fn measure(bed: &Bed) -> anyhow::Result<()> {
    let service = Service::open(service_args(bed)?, Role::All).await?;
    let url = format!("http://{}", service.address()?);
    let stop = CancellationToken::new();
    let running = tokio::spawn(service.run(stop.clone()));
    let measured = load(&bed.args, &url, "bench").await;
    stop.cancel();
    running.await.context("the service panicked")??;
    let (latencies, expected) = measured?;
    latencies.print(expected).map(drop)
}

/// The defaults of `paylog up`, on the bed's log, with a gateway that answers at once.
pub(super) fn service_args(bed: &Bed) -> anyhow::Result<ServiceArgs> {
    tokio::task::block_in_place(|| bed.ensure())?;
    let Command::Up(args) = Cli::try_parse_from(["paylog", "up", "--listen", "127.0.0.1:0"])?.command else {
        bail!("up is not up");
    };
    let data_dir = bed.directory.join("data");
    Ok(ServiceArgs { data_dir, kafka: bed.args.kafka.clone(), simulator_latency_ms: 0, ..args })
}

/// Answers with what was measured, and with how many payments it should have been. Its keys begin with `name`.
pub(super) async fn load(args: &super::BenchArgs, url: &str, name: &str) -> anyhow::Result<(Latencies, u64)> {
    let client = reqwest::Client::new();
    let (sender, seen) = unbounded_channel();
    for customer in 0..CUSTOMERS {
        let address = format!("{url}/v1/stream?customer_id=cus_{customer}");
        let stream = client.get(address).send().await.context("opening a stream")?.error_for_status()?;
        tokio::spawn(follow(stream, sender.clone()));
    }
    let counted_from = WARM_UP.as_secs() * args.rate;
    let count = counted_from + args.seconds * args.rate;
    let schedule = Schedule { name: name.to_owned(), began: Instant::now(), rate: args.rate, count, counted_from };
    let collecting = tokio::spawn(collect(seen, schedule.last() + PATIENCE, count));
    for n in 0..count {
        sleep_until(schedule.at(n)).await;
        tokio::spawn(post(client.clone(), url.to_owned(), n, schedule.key(n), sender.clone()));
    }
    let seen = collecting.await.context("the collector panicked")?;
    Ok((schedule.latencies(seen), count - counted_from))
}

async fn post(client: reqwest::Client, url: String, n: u64, key: String, sender: UnboundedSender<Seen>) {
    let customer = n % CUSTOMERS;
    let body =
        format!(r#"{{"amount":1999,"currency":"EUR","customer_id":"cus_{customer}","payment_method":"pm_card_visa"}}"#);
    let request = client.post(format!("{url}/v1/payments")).header("content-type", "application/json");
    let answer = request.header("idempotency-key", key).body(body).send().await;
    let what = match answer.and_then(reqwest::Response::error_for_status) {
        Ok(answer) if answer.status() == reqwest::StatusCode::ACCEPTED => What::Accepted(n),
        Ok(answer) => What::Failed(answer.status().to_string()),
        Err(error) => What::Failed(error.to_string()),
    };
    let _ = sender.send(Seen { at: Instant::now(), what }); // nobody waits for it any more
}

/// Reports every end that the stream tells, until the service closes it.
async fn follow(mut stream: reqwest::Response, sender: UnboundedSender<Seen>) {
    let mut parser = sse::Parser::default();
    while let Ok(Some(bytes)) = stream.chunk().await {
        let at = Instant::now();
        for message in parser.feed(&bytes).unwrap_or_default() {
            let data: serde_json::Value = serde_json::from_str(&message.data).unwrap_or_default();
            if let ("PaymentSuccessful", Some(id)) = (message.event.as_str(), data["payment"]["id"].as_str()) {
                let _ = sender.send(Seen { at, what: What::Ended(id.to_owned()) });
            }
        }
    }
}

/// Everything that is seen until each of `count` payments was answered and has ended, or the time is over.
async fn collect(mut inbox: UnboundedReceiver<Seen>, deadline: Instant, count: u64) -> Vec<Seen> {
    let mut seen = Vec::new();
    while (seen.len() as u64) < count * 2 {
        let Ok(Some(one)) = timeout_at(deadline, inbox.recv()).await else { break };
        seen.push(one);
    }
    seen
}

impl Schedule {
    fn at(&self, n: u64) -> Instant {
        self.began + Duration::from_secs(1).mul_f64(n as f64 / self.rate as f64)
    }

    fn key(&self, n: u64) -> String {
        format!("{}-{n}", self.name)
    }

    fn last(&self) -> Instant {
        self.at(self.count)
    }

    fn latencies(&self, seen: Vec<Seen>) -> Latencies {
        let id = |n| IdempotencyKey::parse(&self.key(n)).map(|key| PaymentId::derive(&MerchantId::default(), &key));
        let ids = (0..self.count).filter_map(|n| Some((id(n).ok()?.to_string(), n)));
        let numbers: HashMap<String, u64> = ids.collect();
        let mut latencies = Latencies::default();
        for Seen { at, what } in seen {
            let (n, into) = match what {
                What::Accepted(n) => (n, &mut latencies.accepted),
                What::Ended(id) => (numbers.get(&id).copied().unwrap_or(0), &mut latencies.ended),
                What::Failed(reason) => {
                    latencies.failures.push(reason);
                    continue;
                }
            };
            if n >= self.counted_from {
                into.push(at.duration_since(self.at(n)));
            }
        }
        latencies
    }
}

impl Latencies {
    /// Answers with the p99 from POST to the last frame, in milliseconds.
    pub fn print(mut self, expected: u64) -> anyhow::Result<f64> {
        let mut p99 = f64::NAN;
        for (name, latencies) in [("POST to 202", &mut self.accepted), ("POST to the last frame", &mut self.ended)] {
            latencies.sort_unstable();
            let ms = |per_mille: usize| {
                let index = (latencies.len() * per_mille / 1000).min(latencies.len().saturating_sub(1));
                latencies.get(index).map_or(f64::NAN, |latency| latency.as_secs_f64() * 1000.0)
            };
            p99 = ms(990);
            println!(
                "{name}: p50 {:.1} ms, p99 {:.1} ms, max {:.1} ms ({} of {expected})",
                ms(500),
                ms(990),
                ms(1000),
                latencies.len()
            );
        }
        match self.failures.first() {
            None => Ok(p99),
            Some(first) => bail!("{} payments were not accepted, the first: {first}", self.failures.len()),
        }
    }
}
