//! `requests`: which partitions of requests wait, and for what; and whether what is written by an id of the schema registry is
//! to be waited for.

use std::io::Write;

use clap::{Args, Subcommand};
use reqwest::StatusCode;
use serde_json::json;

use super::args::Signed;
use super::{get, line, post, text};
use crate::client::client;
use crate::config::ClientArgs;

const PATH: &str = "/v1/operator/requests";

#[derive(Debug, Subcommand)]
pub enum RequestsCommand {
    /// List which partitions of requests wait here, since when and for what, and what was refused. Ask each `paylog process`:
    /// it knows of its own.
    Ls {
        #[command(flatten)]
        client: ClientArgs,
    },
    /// Have requests whose schema has this id become dead letters, in every instance: the schema registry answers for others,
    /// and says nothing of this one. Events on the log are never refused.
    Refuse(About),
    /// Take that back: they wait for the registry again, if it still says nothing.
    Readmit(About),
}

#[derive(Debug, Args)]
pub struct About {
    #[command(flatten)]
    pub client: ClientArgs,
    /// The id, as `requests ls` shows it.
    #[arg(value_name = "SCHEMA_ID", value_parser = clap::value_parser!(u32))]
    pub schema_id: u32,
    #[command(flatten)]
    pub signed: Signed,
}

pub async fn requests(command: RequestsCommand, out: &mut impl Write) -> anyhow::Result<()> {
    match command {
        RequestsCommand::Ls { client } => ls(&client, out).await,
        RequestsCommand::Refuse(about) => decide(&about, "refuse", "become dead letters", out).await,
        RequestsCommand::Readmit(about) => decide(&about, "readmit", "are waited for again", out).await,
    }
}

async fn ls(args: &ClientArgs, out: &mut impl Write) -> anyhow::Result<()> {
    let answer = get(&client()?, &args.url, PATH, &[]).await?;
    if answer["takes_requests"] == false {
        line(out, "this instance takes no requests in: ask a `paylog process` what waits there")?;
    }
    for held in answer["held"].as_array().into_iter().flatten() {
        let place = format!("{}/{}", text(held, "topic"), text(held, "position"));
        line(out, &format!("held    {place} since {} {}", text(held, "since"), text(held, "reason")))?;
    }
    for refused in answer["refused"].as_array().into_iter().flatten() {
        let (id, at) = (&refused["schema_id"], text(refused, "at"));
        line(out, &format!("refused {id} {at} by {}: {}", text(refused, "operator"), text(refused, "reason")))?;
    }
    Ok(())
}

async fn decide(about: &About, change: &str, done: &str, out: &mut impl Write) -> anyhow::Result<()> {
    let About { client: at, schema_id, signed } = about;
    let body = json!({"operator": signed.operator, "reason": signed.reason});
    let path = format!("{PATH}/schemas/{schema_id}/{change}");
    let said = match post(&client()?, &at.url, &path, &body).await? {
        (StatusCode::CREATED, _) => format!("requests by the schema id {schema_id} {done}"),
        _ => format!(
            "requests by the schema id {schema_id} {done}: that is on the control log, which this instance has not yet read that far"
        ),
    };
    line(out, &said)
}
