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
const WRITING: &str = "writing";

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
    let measuring = Measuring { bed, url, client: reqwest::Client::new() };
    measuring.settled().await?;
    println!("to warm up, and not counted:");
    measuring.p99("warm-up").await?;
    let mut turns = Vec::new();
    for turn in 0..TURNS {
        // What is slow at first, or later, is so for both.
        let (without, build) = if turn % 2 == 0 {
            let without = measuring.without(turn).await?;
            (without, measuring.build(turn).await?)
        } else {
            let build = measuring.build(turn).await?;
            (measuring.without(turn).await?, build)
        };
        turns.push(Turn { without, build, checkpoint: measuring.checkpoint(turn).await? });
    }
    Ok(turns)
}

struct Measuring<'a> {
    bed: &'a Bed,
    url: &'a str,
    client: reqwest::Client,
}

impl Measuring<'_> {
    async fn without(&self, turn: usize) -> anyhow::Result<f64> {
        println!("without:");
        self.p99(&format!("without-{turn}")).await
    }

    async fn build(&self, turn: usize) -> anyhow::Result<f64> {
        let begun = self.post("rebuild", &json!({})).await?;
        let version = begun["versions"][1]["version"].clone();
        println!("beside a build:");
        let p99 = self.p99(&format!("beside-{turn}")).await?;
        let other = self.versions().await?[1].clone();
        println!("  {}, {} of {} offsets", other["phase"], other["folded_offsets"], other["end_offsets"]);
        ensure!(
            matches!(other["phase"].as_str(), Some("building" | "caught-up")),
            "the build was over before the load: give a larger --rebuild"
        );
        self.post("cancel", &json!({"version": version, "operator": "bench", "reason": "measured"})).await?;
        self.settled().await?;
        Ok(p99)
    }

    async fn checkpoint(&self, turn: usize) -> anyhow::Result<f64> {
        let stop = CancellationToken::new();
        let (asking, to, stopped) = (self.client.clone(), self.url.to_owned(), stop.clone());
        let made = tokio::spawn(async move { checkpoints(&asking, &to, &stopped).await });
        println!("beside checkpoints:");
        let p99 = self.p99(&format!("checkpoint-{turn}")).await?;
        stop.cancel();
        println!("  {} were begun", made.await??);
        self.settled().await?;
        Ok(p99)
    }

    /// From POST to the last frame, in milliseconds.
    async fn p99(&self, run: &str) -> anyhow::Result<f64> {
        let (latencies, expected) = latency::load(&self.bed.args, self.url, run).await?;
        latencies.print(expected)
    }

    /// Waits until it is ready, and nothing is built or written beside.
    async fn settled(&self) -> anyhow::Result<()> {
        loop {
            let ready = self.client.get(format!("{}/readyz", self.url)).send().await?.status().is_success();
            if ready && self.versions().await?[1].is_null() && latest(&self.client, self.url).await?["state"] != WRITING
            {
                return Ok(());
            }
            tokio::time::sleep(super::LOOK_EVERY).await;
        }
    }

    /// The one that is served, and then others.
    async fn versions(&self) -> anyhow::Result<Value> {
        let list = self.client.get(format!("{}{PROJECTIONS}", self.url)).send().await?;
        let list: Value = list.error_for_status()?.json().await?;
        Ok(list["data"][0]["versions"].clone())
    }

    async fn post(&self, wish: &str, body: &Value) -> anyhow::Result<Value> {
        let sent = self.client.post(format!("{}{PROJECTIONS}/payments/{wish}", self.url)).json(body).send().await?;
        Ok(sent.error_for_status()?.json().await?)
    }
}

/// One after the other until told to stop. Answers with how many were begun.
async fn checkpoints(client: &reqwest::Client, url: &str, stop: &CancellationToken) -> anyhow::Result<u32> {
    let (address, mut begun) = (format!("{url}{CHECKPOINTS}"), 0);
    while !stop.is_cancelled() {
        let latest = latest(client, url).await?;
        if latest["state"] != WRITING {
            ensure!(latest["error"].is_null(), "a checkpoint failed: {}", latest["error"]);
            let body = json!({"projection": "payments", "keep": 1});
            client.post(&address).json(&body).send().await?.error_for_status()?;
            begun += 1;
        }
        tokio::time::sleep(super::LOOK_EVERY).await;
    }
    Ok(begun)
}

/// The checkpoint that was begun last.
async fn latest(client: &reqwest::Client, url: &str) -> anyhow::Result<Value> {
    let list = client.get(format!("{url}{CHECKPOINTS}")).send().await?;
    let list: Value = list.error_for_status()?.json().await?;
    Ok(list["data"][0]["latest"].clone())
}
