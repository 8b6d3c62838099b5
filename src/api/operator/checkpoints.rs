//! `/v1/operator/checkpoints`: copies of what this instance serves, written to its own disk.

use bytes::Buf;
use futures_util::Stream;
use warp::http::{HeaderMap, StatusCode};
use warp::reply::Response;

use super::super::json;
use super::projections::no_such;
use super::{Operator, document};
use crate::checkpoint::{Busy, Maker, Status, Wanted};
use crate::contract::CheckpointBody;
use crate::http::{Problem, Query, read_object};
use crate::payment::Invalid;
use crate::projection::versions::Effort;

#[derive(serde::Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = CheckpointAsked)]
pub(in crate::api) struct WantedBody {
    projection: String,
    #[schema(minimum = 1, maximum = 100)]
    effort: Option<u32>,
    #[schema(minimum = 1)]
    keep: Option<usize>,
}

#[derive(serde::Serialize, utoipa::ToSchema)]
#[schema(as = Checkpoints)]
pub(in crate::api) struct ListBody {
    data: Vec<LatestBody>,
}

#[derive(serde::Serialize, utoipa::ToSchema)]
#[schema(as = LatestCheckpoint)]
pub(in crate::api) struct LatestBody {
    projection: &'static str,
    /// `null` if none was asked for since the start.
    #[schema(required)]
    latest: Option<CheckpointBody>,
}

pub(super) async fn show(operator: &Operator, query: &Query) -> Result<Response, Problem> {
    query.only(&[])?;
    let data = operator.checkpoints.iter().map(|maker| LatestBody::new(maker, maker.latest())).collect();
    Ok(json(StatusCode::OK, &ListBody { data }))
}

pub(super) async fn create<S, B>(operator: &Operator, headers: &HeaderMap, body: S) -> Result<Response, Problem>
where
    S: Stream<Item = Result<B, warp::Error>>,
    B: Buf,
{
    let (projection, wanted) = wanted(&document(&operator.api, headers, body).await?)?;
    let maker = operator.checkpoints.iter().find(|maker| maker.projection() == projection).ok_or_else(no_such)?;
    let begun = maker.create(wanted).map_err(|busy: Busy| {
        Problem::new(StatusCode::CONFLICT, "checkpoint_being_written", format!("nothing was begun: {busy}"))
    })?;
    Ok(json(StatusCode::ACCEPTED, &LatestBody::new(maker, Some(begun))))
}

impl LatestBody {
    fn new(maker: &Maker, latest: Option<Status>) -> Self {
        Self { projection: maker.projection(), latest: latest.map(CheckpointBody::new) }
    }
}

fn wanted(document: &[u8]) -> Result<(String, Wanted), Invalid> {
    let WantedBody { projection, effort, keep } = read_object(document).map_err(|e| {
        let text =
            format!("the body must have \"projection\", and \"effort\": N and \"keep\": N if they are wanted: {e}");
        Invalid::malformed("malformed_json", text)
    })?;
    let bad_effort = || Invalid::field("invalid_effort", "effort", "must be a whole number from 1 to 100".to_owned());
    let bad_keep = || Invalid::field("invalid_keep", "keep", "must be a whole number from 1".to_owned());
    let effort = effort.map(|percent| Effort::percent(percent).ok_or_else(bad_effort)).transpose()?;
    let keep = keep.map(|keep| if keep > 0 { Ok(keep) } else { Err(bad_keep()) }).transpose()?;
    Ok((projection, Wanted { effort, keep }))
}

#[cfg(test)]
mod tests {
    use super::wanted;
    use crate::checkpoint::Wanted;
    use crate::projection::versions::Effort;

    #[test]
    fn what_is_not_said_is_not_wanted_and_what_is_wrong_is_refused() {
        let of = |text: &str| wanted(text.as_bytes());
        assert_eq!(of(r#"{"projection": "totals"}"#).unwrap(), ("totals".to_owned(), Wanted::default()));
        let both = Wanted { effort: Effort::percent(50), keep: Some(2) };
        assert_eq!(
            of(r#"{"projection": "payments", "effort": 50, "keep": 2}"#).unwrap(),
            ("payments".to_owned(), both)
        );
        for wrong in ["\"effort\": 0", "\"effort\": 101", "\"keep\": 0", "\"path\": \"/etc/passwd\"", "\"keep\""] {
            assert!(of(&format!("{{\"projection\": \"payments\", {wrong}}}")).is_err(), "{wrong}");
        }
        for wrong in ["{}", "", "[1]"] {
            assert!(of(wrong).is_err(), "{wrong}");
        }
    }
}
