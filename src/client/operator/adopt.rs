//! `parked adopt`: says that nobody acts any more for what was imported but the log that it was imported into.

use std::io::Write;

use anyhow::bail;
use reqwest::StatusCode;
use serde_json::{Value, json};

use super::args::ParkedAdopt;
use super::{get, line, post, text};
use crate::client::client;

pub(super) async fn adopt(args: &ParkedAdopt, out: &mut impl Write) -> anyhow::Result<()> {
    let (client, url) = (client()?, &args.client.url);
    let import = get(&client, url, "/v1/operator/import", &[]).await?["import"].take();
    if import.is_null() {
        bail!("nothing was ever imported into this log");
    }
    line(out, &shown(&import))?;
    if let Some(at) = import["adopted"]["at"].as_str() {
        return line(
            out,
            &format!(
                "adopted at {at} by {}: {}",
                text(&import["adopted"], "operator"),
                text(&import["adopted"], "reason")
            ),
        );
    }
    if !args.apply {
        return line(
            out,
            "its open payments are only asked about; adopted, they are charged like all others: make sure that nothing works \
             on the log that they came from any more, then add --apply",
        );
    }
    let signed = &args.signed;
    let body = json!({"digest": import["archive"]["digest"], "operator": signed.operator, "reason": signed.reason});
    let said = match post(&client, url, "/v1/operator/import/adopt", &body).await? {
        (StatusCode::CREATED, _) => "adopted: its open payments go on",
        _ => "the adoption is recorded, and this instance has not yet read that far",
    };
    line(out, said)
}

fn shown(import: &Value) -> String {
    let (archive, begun) = (&import["archive"], &import["begun"]);
    format!(
        "{} records of the log {}, imported at {} by {}: {}",
        archive["records"],
        text(archive, "log"),
        text(begun, "at"),
        text(begun, "operator"),
        text(begun, "reason")
    )
}
