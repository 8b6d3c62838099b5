//! `/v1/operator/projections`: the versions of this instance's projections; one is served, another can be built beside it,
//! and take its place.

use std::str::FromStr;
use std::sync::Arc;

use bytes::Buf;
use futures_util::Stream;
use warp::http::{HeaderMap, StatusCode};
use warp::reply::Response;

use super::super::json;
use super::{Operator, document};
use crate::contract::ProjectionBody;
use crate::http::{Problem, Query, read_object};
use crate::payment::{Invalid, Signed};
use crate::projection::versions::{Effort, NotDone, Rebuilds};

/// What an operator says who has looked at the differences.
const ACCEPTED: &str = "accepted";

/// What is to be done with a version: the last part of the path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Change {
    Rebuild,
    Promote,
    Rollback,
    Cancel,
}

#[derive(serde::Serialize, utoipa::ToSchema)]
#[schema(as = Projections)]
pub(in crate::api) struct ListBody {
    data: Vec<ProjectionBody>,
}

#[derive(Default, serde::Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = RebuildAsked)]
pub(in crate::api) struct RebuildBody {
    #[schema(minimum = 1, maximum = 100)]
    effort: Option<u32>,
}

impl FromStr for Change {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        match text {
            "rebuild" => Ok(Self::Rebuild),
            "promote" => Ok(Self::Promote),
            "rollback" => Ok(Self::Rollback),
            "cancel" => Ok(Self::Cancel),
            _ => Err(()),
        }
    }
}

pub(super) async fn list(operator: &Operator, query: &Query) -> Result<Response, Problem> {
    query.only(&[])?;
    let projections = operator.projections.clone();
    let list = move || projections.iter().map(|projection| ProjectionBody::new(projection.as_ref())).collect();
    let data = tokio::task::spawn_blocking(list).await.map_err(|_| Problem::internal())?;
    Ok(json(StatusCode::OK, &ListBody { data }))
}

pub(super) async fn change<S, B>(
    operator: &Operator,
    name: &str,
    change: Change,
    headers: &HeaderMap,
    body: S,
) -> Result<Response, Problem>
where
    S: Stream<Item = Result<B, warp::Error>>,
    B: Buf,
{
    let document = document(&operator.api, headers, body).await?;
    let projection = operator.projections.iter().find(|projection| projection.name() == name).ok_or_else(no_such)?;
    let wish = wish(change, &document)?;
    let asked = Arc::clone(projection);
    let done = move || wish.of(asked.as_ref()).map(|()| ProjectionBody::new(asked.as_ref()));
    let done = tokio::task::spawn_blocking(done).await.map_err(|_| Problem::internal())?;
    let body = done.map_err(not_done)?;
    let status = if change == Change::Rebuild { StatusCode::ACCEPTED } else { StatusCode::OK };
    Ok(json(status, &body))
}

/// What is wished, checked.
enum Wish {
    Rebuild(Option<Effort>),
    Promote { version: String, by: Signed, accepted: bool },
    Rollback { version: String, by: Signed },
    Cancel { version: String, by: Signed },
}

impl Wish {
    fn of(self, projection: &dyn Rebuilds) -> Result<(), NotDone> {
        match self {
            Self::Rebuild(effort) => projection.rebuild(effort).map(drop),
            Self::Promote { version, by, accepted } => projection.promote(&version, &by, accepted),
            Self::Rollback { version, by } => projection.rollback(&version, &by),
            Self::Cancel { version, by } => projection.cancel(&version, &by),
        }
    }
}

fn wish(change: Change, document: &[u8]) -> Result<Wish, Invalid> {
    if change == Change::Rebuild {
        return effort(document).map(Wish::Rebuild);
    }
    let (version, despite, by) = Signed::parse_about(document, "version", "differences")?;
    match (change, despite.as_deref()) {
        (Change::Rollback, None) => Ok(Wish::Rollback { version, by }),
        (Change::Cancel, None) => Ok(Wish::Cancel { version, by }),
        (Change::Promote | Change::Rebuild, None) => Ok(Wish::Promote { version, by, accepted: false }),
        (Change::Promote, Some(ACCEPTED)) => Ok(Wish::Promote { version, by, accepted: true }),
        (_, Some(_)) => {
            let text = "can only be \"accepted\", and only where a version is promoted".to_owned();
            Err(Invalid::field("invalid_differences", "differences", text))
        }
    }
}

fn effort(document: &[u8]) -> Result<Option<Effort>, Invalid> {
    let RebuildBody { effort } = read_object(document).map_err(|e| {
        Invalid::malformed("malformed_json", format!("the body must be {{}} or {{\"effort\": N}}: {e}"))
    })?;
    let bad = || Invalid::field("invalid_effort", "effort", "must be a whole number from 1 to 100".to_owned());
    effort.map(|percent| Effort::percent(percent).ok_or_else(bad)).transpose()
}

pub(super) fn no_such() -> Problem {
    let detail = "there is no such projection: GET /v1/operator/projections lists them";
    Problem::new(StatusCode::NOT_FOUND, "projection_not_found", detail)
}

fn not_done(error: NotDone) -> Problem {
    let (status, code) = match &error {
        NotDone::AlreadyThere(..) => (StatusCode::CONFLICT, "version_already_there"),
        NotDone::NoSuch(_) => (StatusCode::NOT_FOUND, "version_not_found"),
        NotDone::NotNow { .. } => (StatusCode::CONFLICT, "version_not_ready"),
        NotDone::NotTheSame(..) => (StatusCode::CONFLICT, "version_differs"),
        NotDone::NotYet(_) | NotDone::Behind(..) => (StatusCode::CONFLICT, "version_behind"),
        NotDone::Fold(_) | NotDone::Io(_) => {
            tracing::error!(error = %format!("{error:#}"), "an operator's wish about a version failed");
            return Problem::internal();
        }
    };
    Problem::new(status, code, format!("nothing was changed: {error}"))
}
