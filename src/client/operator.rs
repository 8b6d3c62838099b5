//! The commands `parked`, `rejected`, `requests`, `projection`, `checkpoint` and `keys`: what an operator decides, by way of the HTTP face of an
//! instance on this machine, or elsewhere with an operator's key.

mod adopt;
mod args;
mod checkpoint;
mod keys;
mod parked;
mod projection;
mod rejected;
mod requests;

use anyhow::Context;
use reqwest::StatusCode;
use serde_json::Value;

use super::{PATIENCE, address, line, success, text};

pub use args::{ParkedCommand, ProjectionCommand, RebuildArgs, RejectedCommand};
pub use checkpoint::{CheckpointCommand, checkpoint};
pub use keys::{KeysCommand, keys};
pub use parked::parked;
pub use projection::{projection, rebuild};
pub use rejected::rejected;
pub use requests::{RequestsCommand, requests};

/// Payments asked for at once.
const PAGE: &str = "200";

async fn get(client: &reqwest::Client, url: &str, path: &str, query: &[(&str, &str)]) -> anyhow::Result<Value> {
    let target = reqwest::Url::parse_with_params(&address(url, path), query).context("reading --url")?;
    let answer = client.get(target).timeout(PATIENCE).send().await.context("asking the server")?;
    success(answer).await
}

/// What a decision came to: an `Err` says what was refused, or that it may or may not be on the log.
async fn post(client: &reqwest::Client, url: &str, path: &str, body: &Value) -> anyhow::Result<(StatusCode, Value)> {
    let sent = client.post(address(url, path)).json(body).timeout(PATIENCE).send().await;
    let answer = sent.context("the decision may or may not have been recorded: look, then repeat")?;
    let status = answer.status();
    Ok((status, success(answer).await?))
}
