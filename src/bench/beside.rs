//! A version of the projection that is built while payments come in: how much slower do they become? The same load on the
//! same service, without and with a build beside it, in turn. Open loop.

use anyhow::{Context, ensure};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use super::{Bed, backlog, latency};
use crate::service::{Role, Service};

/// Each time without, and then with.
const TURNS: usize = 3;
const PROJECTIONS: &str = "/v1/operator/projections";

pub(super) async fn measure(bed: &Bed) -> anyhow::Result<()> {
    let payments = bed.args.rebuild / 2;
    tokio::task::block_in_place(|| backlog::fill(bed, payments))?;
    let mut args = latency::service_args(bed)?;
    args.data_dir.clone_from(&bed.directory); // where the log is
    let effort = args.rebuild_effort;
    let service = Service::open(args, Role::All).await?;
    let url = format!("http://{}", service.address()?);
    let stop = CancellationToken::new();
    let running = tokio::spawn(service.run(stop.clone()));
    let measured = turns(bed, &url).await;
    stop.cancel();
    running.await.context("the service panicked")??;
    let pairs = measured?;
    let mut ratios: Vec<f64> = pairs.iter().map(|(without, with)| with / without).collect();
    ratios.sort_by(f64::total_cmp);
    println!(
        "p99 from POST to the last frame beside a build (effort {effort} %), over that without: {} (median of {TURNS})",
        ratios.get(TURNS / 2).map_or_else(|| "-".to_owned(), |ratio| format!("{ratio:.2}"))
    );
    Ok(())
}

/// p99 in milliseconds, without and with.
async fn turns(bed: &Bed, url: &str) -> anyhow::Result<Vec<(f64, f64)>> {
    let client = reqwest::Client::new();
    ready(&client, url).await?;
    let mut pairs = Vec::new();
    for turn in 0..TURNS {
        let (latencies, expected) = latency::load(&bed.args, url, &format!("without-{turn}")).await?;
        println!("without:");
        let without = latencies.print(expected)?;
        let begun = post(&client, url, "rebuild", &json!({})).await?;
        let version = begun["versions"][1]["version"].clone();
        let (latencies, expected) = latency::load(&bed.args, url, &format!("beside-{turn}")).await?;
        let other = versions(&client, url).await?;
        println!(
            "beside a build ({}, {} of {} offsets):",
            other["phase"], other["folded_offsets"], other["end_offsets"]
        );
        ensure!(
            matches!(other["phase"].as_str(), Some("building" | "caught-up")),
            "the build was over before the load: give a larger --rebuild"
        );
        let with = latencies.print(expected)?;
        let body = json!({"version": version, "operator": "bench", "reason": "measured"});
        post(&client, url, "cancel", &body).await?;
        pairs.push((without, with));
    }
    Ok(pairs)
}

async fn ready(client: &reqwest::Client, url: &str) -> anyhow::Result<()> {
    while !client.get(format!("{url}/readyz")).send().await?.status().is_success() {
        tokio::time::sleep(super::LOOK_EVERY).await;
    }
    Ok(())
}

async fn versions(client: &reqwest::Client, url: &str) -> anyhow::Result<Value> {
    let list: Value = client.get(format!("{url}{PROJECTIONS}")).send().await?.error_for_status()?.json().await?;
    Ok(list["data"][0]["versions"][1].clone())
}

async fn post(client: &reqwest::Client, url: &str, wish: &str, body: &Value) -> anyhow::Result<Value> {
    let sent = client.post(format!("{url}{PROJECTIONS}/payments/{wish}")).json(body).send().await?;
    Ok(sent.error_for_status()?.json().await?)
}
