//! `token`: a stream token, asked for with a merchant's key, as a backend asks for it: to try out what a browser is given.

use std::io::Write;

use anyhow::Context;
use clap::Args;
use serde_json::json;

use super::{PATIENCE, address, client, success};
use crate::config::ClientArgs;

#[derive(Debug, Args)]
pub struct TokenArgs {
    #[command(flatten)]
    pub client: ClientArgs,
    #[command(flatten)]
    pub named: NamedArgs,
    /// For how long it is good, in seconds: an hour at most, and 15 minutes if nothing is said.
    #[arg(long, value_name = "SECONDS")]
    pub expires_in: Option<u64>,
}

/// What the token opens: one of both.
#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
pub struct NamedArgs {
    /// The id of a payment.
    #[arg(long)]
    pub payment: Option<String>,
    /// A customer, with all payments.
    #[arg(long)]
    pub customer: Option<String>,
}

/// The token alone on standard output, until when it is good on the other.
pub async fn token(args: &TokenArgs, out: &mut impl Write) -> anyhow::Result<()> {
    let mut body = json!({});
    let NamedArgs { payment, customer } = &args.named;
    for (field, value) in [("payment_id", payment), ("customer_id", customer)] {
        if let Some(value) = value {
            body[field] = json!(value);
        }
    }
    if let Some(seconds) = args.expires_in {
        body["expires_in"] = json!(seconds);
    }
    let request = client()?.post(address(&args.client.url, "/v1/stream_tokens")).json(&body);
    let issued = success(request.timeout(PATIENCE).send().await.context("asking the server")?).await?;
    let token = issued["token"].as_str().context("the server's answer has no token")?;
    eprintln!("good until {}", issued["expires_at"].as_str().unwrap_or("-"));
    writeln!(out, "{token}").context("writing the token")
}
