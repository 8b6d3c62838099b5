//! `push`: which browsers are told by Web Push, and what came of it, as a client of a running paylog.

use std::io::Write;

use anyhow::ensure;
use clap::{Args, Subcommand};
use reqwest::Method;
use serde_json::Value;

use super::{ask, is_plain, line, shown_attempt, text};
use crate::config::ClientArgs;

const PATH: &str = "/v1/push_subscriptions";

#[derive(Debug, Subcommand)]
pub enum PushCommand {
    /// Show the key that a page subscribes browsers with.
    Key(Place),
    /// List the browsers that are told.
    Ls(Place),
    /// Tell a browser nothing more.
    Rm(One),
    /// List the attempts to tell a browser, the newest first.
    Attempts(One),
}

#[derive(Debug, Args)]
pub struct Place {
    #[command(flatten)]
    pub client: ClientArgs,
}

#[derive(Debug, Args)]
pub struct One {
    #[command(flatten)]
    pub place: Place,
    /// The subscription's id.
    pub subscription: String,
}

pub async fn push(command: PushCommand, out: &mut impl Write) -> anyhow::Result<()> {
    match command {
        PushCommand::Key(place) => {
            let answer = place.ask(Method::GET, "/v1/push").await?;
            line(out, text(&answer, "application_server_key"))
        }
        PushCommand::Ls(place) => {
            place
                .every(PATH, out, |one| {
                    let of = one["payment_id"].as_str().unwrap_or_else(|| text(one, "customer_id"));
                    format!("{} {of} {} {}", text(one, "id"), text(one, "service"), text(one, "created_at"))
                })
                .await
        }
        PushCommand::Rm(one) => {
            one.place.ask(Method::DELETE, &one.path()?).await?;
            line(out, &format!("{} is deleted", one.subscription))
        }
        PushCommand::Attempts(one) => one.place.every(&format!("{}/attempts", one.path()?), out, shown_attempt).await,
    }
}

impl One {
    fn path(&self) -> anyhow::Result<String> {
        ensure!(is_plain(&self.subscription), "that is not the id of a push subscription (ps_...)");
        Ok(format!("{PATH}/{}", self.subscription))
    }
}

impl Place {
    /// Every page of a list, a line each.
    async fn every(&self, path: &str, out: &mut impl Write, shown: impl Fn(&Value) -> String) -> anyhow::Result<()> {
        let mut cursor = String::new();
        loop {
            let page = self.ask(Method::GET, &format!("{path}{cursor}")).await?;
            for one in page["data"].as_array().into_iter().flatten() {
                line(out, &shown(one))?;
            }
            match page["next_cursor"].as_str() {
                Some(next) => cursor = format!("?cursor={next}"),
                None => return Ok(()),
            }
        }
    }

    async fn ask(&self, method: Method, path: &str) -> anyhow::Result<Value> {
        ask(&self.client, method, path, None).await
    }
}
