//! `projection ...` and `replay rebuild`: the versions of a projection, by way of the HTTP face of an instance on this
//! machine, or in the data directory of one that does not run.

use std::io::Write;
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use serde_json::{Value, json};

use super::args::{Place, ProjectionCommand, RebuildArgs, Signed, Wish};
use super::{get, line, post, text};
use crate::client::client;
use crate::payment;
use crate::progress::{Line, Standing};
use crate::projection::versions::{Effort, NotDone};
use crate::service::offline::Projections;

const PATH: &str = "/v1/operator/projections";
/// Between two looks at a version that is being built.
const LOOK_EVERY: Duration = Duration::from_millis(250);
/// How long the folds of an instance that did not run may take to come as far as each other.
const MEET_MAX: Duration = Duration::from_secs(60);

/// Who is asked.
enum Door {
    Http(reqwest::Client, String),
    Offline(Projections),
}

pub async fn projection(command: ProjectionCommand, out: &mut impl Write) -> anyhow::Result<()> {
    match command {
        ProjectionCommand::Ls { place } => {
            let door = Door::open(&place).await?;
            for projection in door.all().await? {
                for version in projection["versions"].as_array().into_iter().flatten() {
                    show(version, out)?;
                }
            }
            Ok(())
        }
        ProjectionCommand::Promote { wish, accept_differences } => {
            let said = "is served now; the one before is kept, and can be gone back to";
            change(&wish, "promote", accept_differences, said, out).await
        }
        ProjectionCommand::Rollback { wish } => change(&wish, "rollback", false, "is served again", out).await,
        ProjectionCommand::Cancel { wish } => change(&wish, "cancel", false, "is let go", out).await,
    }
}

async fn change(wish: &Wish, change: &str, accepted: bool, said: &str, out: &mut impl Write) -> anyhow::Result<()> {
    let version = &wish.version;
    let Some((projection, _)) = version.split_once('@') else {
        bail!("{version} is no version of a projection: `paylog projection ls` shows them (payments@4.2)")
    };
    Door::open(&wish.place).await?.change(projection, change, version, &wish.signed, accepted).await?;
    line(out, &format!("{version} {said}"))
}

/// Has a version built and compared, and waits for what comes of it. An error unless it is the same as what is served.
pub async fn rebuild(args: &RebuildArgs, out: &mut impl Write) -> anyhow::Result<()> {
    let (door, name) = (Door::open(&args.place).await?, &args.projection);
    let version = match door.other(name).await? {
        Some(version) if text(&version, "phase") == "building" => {
            eprintln!("{} is being built already", text(&version, "version"));
            text(&version, "version").to_owned()
        }
        _ => door.rebuild(name, args.effort).await?,
    };
    if args.detach {
        return line(out, &format!("{version} is being built: see `paylog projection ls`"));
    }
    let mut progress = Line::on_stderr();
    let built = loop {
        let other = door.other(name).await?.filter(|other| text(other, "version") == version);
        let Some(other) = other else { bail!("{version} was let go, or took its place, meanwhile") };
        match text(&other, "phase") {
            "building" => progress.tell_of(&standing(&other)),
            "caught-up" if other["note"].is_null() => progress.tell_of(&standing(&other)),
            _ => break other,
        }
        tokio::time::sleep(LOOK_EVERY).await;
    };
    progress.end();
    show(&built, out)?;
    let phase = text(&built, "phase");
    ensure!(phase == "verified", "{version} was not found to be the same as what is served: it is {phase}");
    line(out, &format!("have it served with: paylog projection promote {version} --reason ..."))
}

impl Door {
    async fn open(place: &Place) -> anyhow::Result<Self> {
        if !place.offline {
            return Ok(Self::Http(client()?, place.client.url.clone()));
        }
        let (kafka, data_dir) = (place.kafka.clone(), place.data_dir.clone());
        Ok(Self::Offline(tokio::task::spawn_blocking(move || Projections::open(&kafka, &data_dir)).await??))
    }

    async fn all(&self) -> anyhow::Result<Vec<Value>> {
        let list = match self {
            Self::Http(client, url) => get(client, url, PATH, &[]).await?["data"].take(),
            Self::Offline(projections) => projections.list()?,
        };
        Ok(list.as_array().cloned().unwrap_or_default())
    }

    /// The version beside the one that is served.
    async fn other(&self, projection: &str) -> anyhow::Result<Option<Value>> {
        let found = self.all().await?.into_iter().find(|found| text(found, "projection") == projection);
        let found =
            found.with_context(|| format!("there is no projection {projection} (see `paylog projection ls`)"))?;
        Ok(found["versions"].get(1).cloned())
    }

    async fn rebuild(&self, projection: &str, effort: Option<u32>) -> anyhow::Result<String> {
        match self {
            Self::Http(client, url) => {
                let body = effort.map_or_else(|| json!({}), |effort| json!({"effort": effort}));
                let (_, answer) = post(client, url, &format!("{PATH}/{projection}/rebuild"), &body).await?;
                Ok(text(&answer["versions"][1], "version").to_owned())
            }
            Self::Offline(projections) => {
                let asked = projections.of(projection)?;
                Ok(tokio::task::spawn_blocking(move || asked.rebuild(effort.and_then(Effort::percent))).await??)
            }
        }
    }

    async fn change(
        &self,
        projection: &str,
        change: &str,
        version: &str,
        signed: &Signed,
        accepted: bool,
    ) -> anyhow::Result<()> {
        match self {
            Self::Http(client, url) => {
                let mut body = json!({"version": version, "operator": signed.operator, "reason": signed.reason});
                if accepted {
                    body["differences"] = json!("accepted");
                }
                post(client, url, &format!("{PATH}/{projection}/{change}"), &body).await.map(drop)
            }
            Self::Offline(projections) => {
                let (asked, change, version) = (projections.of(projection)?, change.to_owned(), version.to_owned());
                let by = payment::Signed::new(&signed.operator, &signed.reason).map_err(|invalid| {
                    anyhow::anyhow!("--{}: {}", invalid.field.unwrap_or("reason"), invalid.detail)
                })?;
                let wished = move || {
                    met(|| match change.as_str() {
                        "promote" => asked.promote(&version, &by, accepted),
                        "rollback" => asked.rollback(&version, &by),
                        _ => asked.cancel(&version, &by),
                    })
                };
                Ok(tokio::task::spawn_blocking(wished).await??)
            }
        }
    }
}

/// Both have just been opened, and one may still be on its way to the end of the log.
fn met(mut wished: impl FnMut() -> Result<(), NotDone>) -> Result<(), NotDone> {
    let began = Instant::now();
    loop {
        match wished() {
            Err(NotDone::Behind(..) | NotDone::NotYet(_)) if began.elapsed() < MEET_MAX => {
                std::thread::sleep(LOOK_EVERY);
            }
            done => return done,
        }
    }
}

fn show(version: &Value, out: &mut impl Write) -> anyhow::Result<()> {
    let (name, phase, since) = (text(version, "version"), text(version, "phase"), text(version, "since"));
    let (note, folded) = (text(version, "note"), &version["folded_offsets"]);
    line(out, &format!("{name:<16} {phase:<10} {since:<28} {folded} offsets  {note}"))?;
    for found in version["first_differences"].as_array().into_iter().flatten() {
        let said = |side: &str| found[side].as_str().unwrap_or("nothing").to_owned();
        let (table, key, field) = (text(found, "table"), text(found, "key"), text(found, "field"));
        line(out, &format!("  {table}, {key}, {field}: served {}, built {}", said("left"), said("right")))?;
    }
    Ok(())
}

fn standing(version: &Value) -> Standing {
    let name = text(version, "version");
    if text(version, "phase") != "building" {
        let what = format!("{name} is compared, {} differences", version["differences"]);
        return Standing { what, unit: "rows", done: number(&version["rows_compared"]), ..Standing::default() };
    }
    Standing {
        what: name.to_owned(),
        unit: "offsets",
        done: number(&version["folded_offsets"]),
        total: version["end_offsets"].as_u64(),
        per_second: version["offsets_per_second"].as_f64(),
        seconds_left: version["seconds_left"].as_f64(),
    }
}

fn number(value: &Value) -> u64 {
    value.as_u64().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::standing;

    #[test]
    fn it_says_how_far_how_fast_and_how_long() {
        let mut version = json!({"version": "payments@4.2", "phase": "building", "folded_offsets": 500,
            "end_offsets": 1000, "offsets_per_second": 100.0, "seconds_left": 5.0, "rows_compared": 7, "differences": 2});
        let line = standing(&version).to_string();
        assert_eq!(line, "payments@4.2: 50 %, 500 of 1000 offsets, 100 a second, 5 s left");
        version["end_offsets"] = json!(null);
        version["phase"] = json!("caught-up");
        assert_eq!(standing(&version).to_string(), "payments@4.2 is compared, 2 differences: 7 rows");
    }
}
