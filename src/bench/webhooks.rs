//! Webhooks, through real sockets: a whole service in this process, and endpoints whose receivers, in this process too, answer
//! at once. How long after it came about an event is received while payments come in at a fixed rate; and how many are
//! delivered a second when each of as many new endpoints is told all that has happened (`recover`).

use std::collections::HashSet;
use std::time::Duration;

use anyhow::Context;
use bytes::Bytes;
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
/// Longer ago than anything on a bench's log.
const EVER: &str = "2020-01-01T00:00:00Z";

/// One webhook: when its event came about, and when it was received.
struct Received {
    /// By which endpoint, and as what: one that came twice is one.
    id: (u64, String),
    happened: Timestamp,
    at: Timestamp,
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
    let (_, received) = endpoints(&client, url, count, stop).await?;
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
    let (ids, received) = endpoints(&client, url, count, stop).await?;
    let began = Instant::now();
    for id in &ids {
        post(&client, &format!("{url}{ENDPOINTS}/{id}/recover"), &json!({"since": EVER})).await?;
    }
    let received = collect(received, all).await?;
    let took = began.elapsed();
    println!(
        "webhooks delivered from a backlog, {count} endpoints: {:.0} a second ({} in {:.2} s)",
        per_second(all, took),
        received.len(),
        took.as_secs_f64()
    );
    Ok(())
}

/// Each at a server of its own, as different merchants' are. Answers with their ids, and what they receive.
async fn endpoints(
    client: &reqwest::Client,
    url: &str,
    count: u64,
    stop: &CancellationToken,
) -> anyhow::Result<(Vec<String>, UnboundedReceiver<Received>)> {
    let (sender, received) = unbounded_channel();
    let mut ids = Vec::new();
    for n in 0..count {
        let listener = bind(([127, 0, 0, 1], 0).into()).context("binding a receiver")?;
        let address = listener.local_addr()?;
        let sender = sender.clone();
        let routes = warp::header("webhook-id").and(warp::body::bytes());
        let routes = routes.map(move |id, body: Bytes| receive(&sender, (n, id), &body).into_response()).boxed();
        tokio::spawn(serve(listener, routes, Limits::default(), stop.clone(), DRAIN));
        let made = post(client, &format!("{url}{ENDPOINTS}"), &json!({"url": format!("http://{address}/")})).await?;
        ids.push(made["id"].as_str().context("an endpoint without an id")?.to_owned());
    }
    Ok((ids, received))
}

fn receive(sender: &UnboundedSender<Received>, id: (u64, String), body: &[u8]) -> StatusCode {
    let at = Timestamp::now();
    let body: Option<Body> = serde_json::from_slice(body).ok();
    let happened = body.and_then(|body| Timestamp::parse(&body.data.event.occurred_at));
    let Some(happened) = happened else { return StatusCode::BAD_REQUEST };
    let _ = sender.send(Received { id, happened, at }); // nobody waits for it any more
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

    use super::{StatusCode, collect, receive};

    #[tokio::test]
    async fn a_webhook_that_came_twice_stands_for_no_other() {
        let (sender, received) = unbounded_channel();
        let body = br#"{"data":{"event":{"occurred_at":"2025-11-24T16:00:00Z"}}}"#;
        for id in [(0, "msg_1"), (0, "msg_1"), (1, "msg_1"), (0, "msg_2")] {
            assert_eq!(receive(&sender, (id.0, id.1.to_owned()), body), StatusCode::NO_CONTENT);
        }
        drop(sender);
        let ids: Vec<_> = collect(received, 3).await.unwrap().into_iter().map(|one| one.id).collect();
        assert_eq!(ids, [(0, "msg_1".to_owned()), (1, "msg_1".to_owned()), (0, "msg_2".to_owned())]);
    }
}
