//! Webhooks, through real sockets: a whole service in this process, and endpoints whose receivers, in this process too, answer
//! at once. How long after it came about an event is received while payments come in at a fixed rate; and how many are
//! delivered a second, and for how much of the processor, when each of as many new endpoints is told all that has happened
//! (`recover`); beside the same requests, by the same client library to such receivers, with nothing before or behind them.

use std::collections::HashSet;
use std::time::Duration;

use anyhow::Context;
use bytes::Bytes;
use futures_util::future::ready;
use futures_util::{StreamExt, TryStreamExt, stream};
use serde_json::json;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;
use warp::Filter;
use warp::http::StatusCode;
use warp::reply::Reply;

use super::{Bed, latency, per_second};
use crate::control::SecretsKey;
use crate::http::{Limits, bind, serve};
use crate::payment::Timestamp;
use crate::service::{Role, Service};

const ENDPOINTS: &str = "/v1/webhook_endpoints";
/// What a payment comes to: it was begun, and it has succeeded.
const EVENTS_OF_PAYMENT: u64 = 2;
/// At the beginning, and not counted.
const WARM_UP: Duration = Duration::from_secs(2);
/// How long the next webhook is waited for.
const PATIENCE: Duration = Duration::from_secs(60);
/// For receivers to end.
const DRAIN: Duration = Duration::from_millis(100);
/// As many at once as a notifier sends by its defaults: over all endpoints, and to each.
const AT_ONCE: usize = 256;
const EACH_AT_ONCE: usize = 16;
/// Longer ago than anything on a bench's log.
const EVER: &str = "2020-01-01T00:00:00Z";

/// One webhook: when its event came about, and when it was received.
struct Received {
    /// By which endpoint, and as what: one that came twice is one.
    id: (u64, String),
    happened: Timestamp,
    at: Timestamp,
    body: Bytes,
}

/// Receivers of one run, and what they receive.
struct Receivers {
    urls: Vec<String>,
    received: UnboundedReceiver<Received>,
}

/// As much of a webhook as is looked at.
#[derive(serde::Deserialize)]
struct Body {
    data: Data,
}

#[derive(serde::Deserialize)]
struct Data {
    event: Event,
}

#[derive(serde::Deserialize)]
struct Event {
    occurred_at: String,
}

pub(super) async fn measure(bed: &Bed) -> anyhow::Result<()> {
    let mut args = latency::service_args(bed)?;
    let key = bed.directory.join("secrets-key");
    std::fs::write(&key, SecretsKey::generate()).context("cannot write the bench's key")?;
    (args.webhooks.secrets_key_file, args.webhooks.allow_private_webhooks) = (Some(key), true);
    let service = Service::open(args, Role::All).await?;
    let url = format!("http://{}", service.address()?);
    let stop = CancellationToken::new();
    let running = tokio::spawn(service.run(stop.clone()));
    let measured = figures(bed, &url, &stop).await;
    stop.cancel();
    running.await.context("the service panicked")??;
    measured
}

async fn figures(bed: &Bed, url: &str, stop: &CancellationToken) -> anyhow::Result<()> {
    let (client, count) = (reqwest::Client::new(), bed.args.webhooks);
    let Receivers { urls, received } = receivers(count, stop)?;
    endpoints(&client, url, &urls).await?;
    let began = Timestamp::now();
    let (latencies, counted) = latency::load(&bed.args, url, "webhooks").await?;
    latencies.print(counted)?;
    let payments = counted + WARM_UP.as_secs() * bed.args.rate;
    let all = payments * EVENTS_OF_PAYMENT * count;
    let received = collect(received, all).await?;
    let counted_from = began.plus(WARM_UP);
    let counted = received.iter().filter(|one| one.happened >= counted_from);
    let mut latencies: Vec<Duration> = counted.map(|one| one.at.since(one.happened)).collect();
    latencies.sort_unstable();
    let ms = |per_mille: usize| {
        let index = (latencies.len() * per_mille / 1000).min(latencies.len().saturating_sub(1));
        latencies.get(index).map_or(f64::NAN, |latency| latency.as_secs_f64() * 1000.0)
    };
    println!(
        "event to webhook received, {count} endpoints: p50 {:.1} ms, p99 {:.1} ms, max {:.1} ms ({} webhooks)",
        ms(500),
        ms(990),
        ms(1000),
        latencies.len()
    );
    let Receivers { urls, received } = receivers(count, stop)?;
    let ids = endpoints(&client, url, &urls).await?;
    let (began, cpu_before) = (Instant::now(), cpu());
    for id in &ids {
        post(&client, &format!("{url}{ENDPOINTS}/{id}/recover"), &json!({"since": EVER})).await?;
    }
    let delivered = collect(received, all).await?;
    let ours = Cost::since(began, cpu_before, all);
    println!("webhooks delivered from a backlog, {count} endpoints: {}", ours.text());
    let bare = bare(delivered, count, stop).await?;
    println!("the same requests by the bare client: {}", bare.text());
    println!("webhooks to the bare client's: {}", ours.to(&bare));
    Ok(())
}

/// What so many of them took, with the receivers, which are in this process too.
struct Cost {
    count: u64,
    took: Duration,
    cpu: Option<Duration>,
}

impl Cost {
    fn since(began: Instant, cpu_before: Option<Duration>, count: u64) -> Self {
        let cpu = cpu().zip(cpu_before).map(|(now, before)| now.saturating_sub(before));
        Self { count, took: began.elapsed(), cpu }
    }

    fn cpu_us(&self) -> Option<f64> {
        Some(self.cpu?.as_secs_f64() * 1e6 / self.count as f64)
    }

    fn text(&self) -> String {
        let (rate, took_s) = (per_second(self.count, self.took), self.took.as_secs_f64());
        let cpu = self.cpu_us().map_or_else(|| "CPU unknown".to_owned(), |us| format!("{us:.0} us of CPU each"));
        format!("{rate:.0} a second, {cpu} ({} in {took_s:.2} s)", self.count)
    }

    fn to(&self, bare: &Self) -> String {
        let rate = bare.took.as_secs_f64() / self.took.as_secs_f64();
        let cpu = self.cpu_us().zip(bare.cpu_us()).map(|(ours, bare)| format!(", {:.1} times the CPU", ours / bare));
        format!("{rate:.2} of its rate{}", cpu.unwrap_or_default())
    }
}

/// Of this process so far, where the system says it.
fn cpu() -> Option<Duration> {
    const TICKS_A_SECOND: f64 = 100.0; // USER_HZ, the same on every Linux
    let stat = std::fs::read_to_string("/proc/self/stat").ok()?;
    // The name, in brackets, may hold anything; user and system are the 14th and the 15th field.
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace().skip(11);
    let (user, system): (u64, u64) = (fields.next()?.parse().ok()?, fields.next()?.parse().ok()?);
    Some(Duration::from_secs_f64((user + system) as f64 / TICKS_A_SECOND))
}

/// What was delivered, sent once more to other receivers, as many at once as a notifier does.
async fn bare(delivered: Vec<Received>, count: u64, stop: &CancellationToken) -> anyhow::Result<Cost> {
    let Receivers { urls, received } = receivers(count, stop)?;
    let client = reqwest::Client::builder().http1_only().build()?;
    let (all, at_once) = (delivered.len() as u64, (count as usize * EACH_AT_ONCE).min(AT_ONCE));
    let (began, cpu_before) = (Instant::now(), cpu());
    let sent = stream::iter(delivered).map(|Received { id: (n, id), body, .. }| {
        let request = client.post(&urls[n as usize]).header("content-type", "application/json");
        request.header("webhook-id", id).body(body).send()
    });
    sent.buffer_unordered(at_once).try_for_each(|answer| ready(answer.error_for_status().map(drop))).await?;
    let cost = Cost::since(began, cpu_before, all);
    collect(received, all).await?;
    Ok(cost)
}

/// Makes an endpoint of each. Answers with their ids.
async fn endpoints(client: &reqwest::Client, url: &str, urls: &[String]) -> anyhow::Result<Vec<String>> {
    let mut ids = Vec::new();
    for to in urls {
        let made = post(client, &format!("{url}{ENDPOINTS}"), &json!({"url": to})).await?;
        ids.push(made["id"].as_str().context("an endpoint without an id")?.to_owned());
    }
    Ok(ids)
}

/// Each at a server of its own, as different merchants' are.
fn receivers(count: u64, stop: &CancellationToken) -> anyhow::Result<Receivers> {
    let (sender, received) = unbounded_channel();
    let mut urls = Vec::new();
    for n in 0..count {
        let listener = bind(([127, 0, 0, 1], 0).into()).context("binding a receiver")?;
        let address = listener.local_addr()?;
        let sender = sender.clone();
        let routes = warp::header("webhook-id").and(warp::body::bytes());
        let routes = routes.map(move |id, body: Bytes| receive(&sender, (n, id), &body).into_response()).boxed();
        tokio::spawn(serve(listener, routes, Limits::default(), stop.clone(), DRAIN));
        urls.push(format!("http://{address}/"));
    }
    Ok(Receivers { urls, received })
}

fn receive(sender: &UnboundedSender<Received>, id: (u64, String), body: &Bytes) -> StatusCode {
    let at = Timestamp::now();
    let read: Option<Body> = serde_json::from_slice(body).ok();
    let happened = read.and_then(|body| Timestamp::parse(&body.data.event.occurred_at));
    let Some(happened) = happened else { return StatusCode::BAD_REQUEST };
    let _ = sender.send(Received { id, happened, at, body: body.clone() }); // nobody waits for it any more
    StatusCode::NO_CONTENT
}

/// As many different ones, each as it came first.
async fn collect(mut received: UnboundedReceiver<Received>, count: u64) -> anyhow::Result<Vec<Received>> {
    let (mut all, mut known) = (Vec::new(), HashSet::new());
    while (all.len() as u64) < count {
        let one = timeout(PATIENCE, received.recv()).await.ok().flatten();
        let one =
            one.with_context(|| format!("{} of {count} webhooks came, and no more in {PATIENCE:?}", all.len()))?;
        if known.insert(one.id.clone()) {
            all.push(one);
        }
    }
    Ok(all)
}

async fn post(client: &reqwest::Client, url: &str, body: &serde_json::Value) -> anyhow::Result<serde_json::Value> {
    Ok(client.post(url).json(body).send().await?.error_for_status()?.json().await?)
}

#[cfg(test)]
mod tests {
    use tokio::sync::mpsc::unbounded_channel;

    use super::{Bytes, StatusCode, collect, receive};

    #[tokio::test]
    async fn a_webhook_that_came_twice_stands_for_no_other() {
        let (sender, received) = unbounded_channel();
        let body = Bytes::from_static(br#"{"data":{"event":{"occurred_at":"2025-11-24T16:00:00Z"}}}"#);
        for id in [(0, "msg_1"), (0, "msg_1"), (1, "msg_1"), (0, "msg_2")] {
            assert_eq!(receive(&sender, (id.0, id.1.to_owned()), &body), StatusCode::NO_CONTENT);
        }
        drop(sender);
        let ids: Vec<_> = collect(received, 3).await.unwrap().into_iter().map(|one| one.id).collect();
        assert_eq!(ids, [(0, "msg_1".to_owned()), (1, "msg_1".to_owned()), (0, "msg_2".to_owned())]);
    }
}
