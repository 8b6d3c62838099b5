//! A version of the projection that is built while payments come in, or checkpoints that are made one after the other: how much
//! slower do they become? The same load on the same service, without either, beside a build and beside checkpoints, in turn.
//! Open loop.

use anyhow::{Context, ensure};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use super::{Bed, backlog, latency};
use crate::service::{Role, Service};

/// Each time without either, and then beside each.
const TURNS: usize = 3;
const PROJECTIONS: &str = "/v1/operator/projections";
const CHECKPOINTS: &str = "/v1/operator/checkpoints";

/// p99 of one turn, in milliseconds.
struct Turn {
    without: f64,
    build: f64,
    checkpoint: f64,
}

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
    let turns = measured?;
    let build = median(turns.iter().map(|turn| turn.build / turn.without));
    println!(
        "p99 from POST to the last frame beside a build (effort {effort} %), over that without: {build} (median of {TURNS})"
    );
    let checkpoint = median(turns.iter().map(|turn| turn.checkpoint / turn.without));
    println!("beside checkpoints (effort {effort} %), over that without: {checkpoint} (median of {TURNS})");
    Ok(())
}

fn median(ratios: impl Iterator<Item = f64>) -> String {
    let mut ratios: Vec<f64> = ratios.collect();
    ratios.sort_by(f64::total_cmp);
    ratios.get(TURNS / 2).map_or_else(|| "-".to_owned(), |ratio| format!("{ratio:.2}"))
}

async fn turns(bed: &Bed, url: &str) -> anyhow::Result<Vec<Turn>> {
    let client = reqwest::Client::new();
    ready(&client, url).await?;
    let mut turns = Vec::new();
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
        let build = latencies.print(expected)?;
        let body = json!({"version": version, "operator": "bench", "reason": "measured"});
        post(&client, url, "cancel", &body).await?;
        let stop = CancellationToken::new();
        let (asking, to, stopped) = (client.clone(), url.to_owned(), stop.clone());
        let made = tokio::spawn(async move { checkpoints(&asking, &to, &stopped).await });
        let (latencies, expected) = latency::load(&bed.args, url, &format!("checkpoint-{turn}")).await?;
        stop.cancel();
        println!("beside checkpoints ({} were begun):", made.await??);
        let checkpoint = latencies.print(expected)?;
        turns.push(Turn { without, build, checkpoint });
    }
    Ok(turns)
}

/// One after the other until told to stop. Answers with how many were begun.
async fn checkpoints(client: &reqwest::Client, url: &str, stop: &CancellationToken) -> anyhow::Result<u32> {
    let (address, mut begun) = (format!("{url}{CHECKPOINTS}"), 0);
    while !stop.is_cancelled() {
        let latest: Value = client.get(&address).send().await?.error_for_status()?.json().await?;
        let latest = &latest["data"][0]["latest"];
        if latest["state"] != "writing" {
            ensure!(latest["error"].is_null(), "a checkpoint failed: {}", latest["error"]);
            client
                .post(&address)
                .json(&json!({"projection": "payments", "keep": 1}))
                .send()
                .await?
                .error_for_status()?;
            begun += 1;
        }
        tokio::time::sleep(super::LOOK_EVERY).await;
    }
    Ok(begun)
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
