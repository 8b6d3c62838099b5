//! `rejected`: records at which folding has halted, and those that are passed over.

use std::io::Write;

use reqwest::StatusCode;
use serde_json::json;

use super::args::{Despite, RejectedAdd, RejectedCommand, RejectedLs};
use super::{get, line, post, text};
use crate::client::client;

const PATH: &str = "/v1/operator/rejected";

pub async fn rejected(command: RejectedCommand, out: &mut impl Write) -> anyhow::Result<()> {
    match command {
        RejectedCommand::Add(args) => add(&args, out).await,
        RejectedCommand::Ls(args) => ls(&args, out).await,
    }
}

async fn add(args: &RejectedAdd, out: &mut impl Write) -> anyhow::Result<()> {
    let position = &args.position;
    let mut body = json!({"position": position, "operator": args.signed.operator, "reason": args.signed.reason});
    if let Some(Despite::UnknownSchema) = args.despite {
        body["despite"] = json!("unknown_schema");
    }
    let (status, answer) = post(&client()?, &args.client.url, PATH, &body).await?;
    let said = match (status, answer["passed"].as_bool()) {
        (StatusCode::CREATED, Some(true)) => "is rejected, and the partition goes on",
        (StatusCode::CREATED, _) => "is rejected; this instance has not yet passed over it",
        _ => "is rejected on the control log, which this instance has not yet read that far",
    };
    line(out, &format!("{position} {said}"))
}

async fn ls(args: &RejectedLs, out: &mut impl Write) -> anyhow::Result<()> {
    let answer = get(&client()?, &args.client.url, PATH, &[]).await?;
    for halt in answer["halted"].as_array().into_iter().flatten() {
        line(out, &format!("halted   {} {}", text(halt, "position"), text(halt, "reason")))?;
    }
    for rejection in answer["data"].as_array().into_iter().flatten() {
        let (at, operator) = (text(rejection, "at"), text(rejection, "operator"));
        let (position, reason) = (text(rejection, "position"), text(rejection, "reason"));
        line(out, &format!("rejected {position} {at} by {operator}: {reason}"))?;
    }
    Ok(())
}
