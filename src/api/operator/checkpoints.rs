//! `/v1/operator/checkpoints`: copies of what this instance serves, written to its own disk.

use bytes::Buf;
use futures_util::Stream;
use warp::http::{HeaderMap, StatusCode};
use warp::reply::Response;

use super::super::json;
use super::{Operator, document};
use crate::checkpoint::{Busy, Wanted};
use crate::contract::CheckpointBody;
use crate::http::{Problem, Query};
use crate::payment::Invalid;
use crate::projection::versions::Effort;

#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct WantedBody {
    effort: Option<u32>,
    keep: Option<usize>,
}

#[derive(serde::Serialize)]
struct LatestBody {
    /// `null` if none was asked for since the start.
    latest: Option<CheckpointBody>,
}

pub(super) async fn show(operator: &Operator, query: &Query) -> Result<Response, Problem> {
    query.only(&[])?;
    Ok(json(StatusCode::OK, &LatestBody { latest: operator.checkpoints.latest().map(CheckpointBody::new) }))
}

pub(super) async fn create<S, B>(operator: &Operator, headers: &HeaderMap, body: S) -> Result<Response, Problem>
where
    S: Stream<Item = Result<B, warp::Error>>,
    B: Buf,
{
    let wanted = wanted(&document(&operator.api, headers, body).await?)?;
    let begun = operator.checkpoints.create(wanted).map_err(|busy: Busy| {
        Problem::new(StatusCode::CONFLICT, "checkpoint_being_written", format!("nothing was begun: {busy}"))
    })?;
    Ok(json(StatusCode::ACCEPTED, &LatestBody { latest: Some(CheckpointBody::new(begun)) }))
}

fn wanted(document: &[u8]) -> Result<Wanted, Invalid> {
    let WantedBody { effort, keep } = serde_json::from_slice(document).map_err(|e| {
        let text = format!("the body must be {{}}, with \"effort\": N and \"keep\": N if they are wanted: {e}");
        Invalid::malformed("malformed_json", text)
    })?;
    let bad_effort = || Invalid::field("invalid_effort", "effort", "must be a whole number from 1 to 100".to_owned());
    let bad_keep = || Invalid::field("invalid_keep", "keep", "must be a whole number from 1".to_owned());
    let effort = effort.map(|percent| Effort::percent(percent).ok_or_else(bad_effort)).transpose()?;
    let keep = keep.map(|keep| if keep > 0 { Ok(keep) } else { Err(bad_keep()) }).transpose()?;
    Ok(Wanted { effort, keep })
}

#[cfg(test)]
mod tests {
    use super::wanted;
    use crate::checkpoint::Wanted;
    use crate::projection::versions::Effort;

    #[test]
    fn what_is_not_said_is_not_wanted_and_what_is_wrong_is_refused() {
        assert_eq!(wanted(b"{}").unwrap(), Wanted::default());
        let both = Wanted { effort: Effort::percent(50), keep: Some(2) };
        assert_eq!(wanted(br#"{"effort": 50, "keep": 2}"#).unwrap(), both);
        for wrong in
            [r#"{"effort": 0}"#, r#"{"effort": 101}"#, r#"{"keep": 0}"#, r#"{"path": "/etc/passwd"}"#, "", "[1]"]
        {
            assert!(wanted(wrong.as_bytes()).is_err(), "{wrong}");
        }
    }
}
