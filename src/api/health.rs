//! `/livez`: the process turns. `/readyz`: it may be asked (never ready and empty, DESIGN.md 10).

use warp::http::StatusCode;
use warp::reply::{Reply, Response};

use super::{Api, RETRY_AFTER, json, shutting_down};
use crate::http::Problem;
use crate::projection::Withheld;

#[derive(serde::Serialize, utoipa::ToSchema)]
#[schema(as = Health)]
pub(in crate::api) struct HealthBody {
    status: &'static str,
    /// Why a part of the log is not folded any further, if one is not: someone must act.
    #[serde(skip_serializing_if = "Option::is_none")]
    halted: Option<String>,
    /// How far this machine's clock is behind the log's, if that is too far for anything to be charged.
    #[serde(skip_serializing_if = "Option::is_none")]
    clock_behind_seconds: Option<u64>,
}

pub(super) fn live() -> Response {
    json(StatusCode::OK, &HealthBody { status: "live", halted: None, clock_behind_seconds: None })
}

pub(super) fn ready(api: &Api) -> Response {
    let problem = |code, detail: String| Problem::new(StatusCode::SERVICE_UNAVAILABLE, code, detail);
    if api.shutdown.is_cancelled() {
        return shutting_down().into_response();
    }
    let withheld = api.view.withheld();
    if !api.view.is_current() || withheld == Some(Withheld::NotCompared) {
        let detail = "the log has not been folded to its end since the start".to_owned();
        return problem("not_caught_up", detail).retry_after(RETRY_AFTER).into_response();
    }
    if let Some(Withheld::Differs(why)) = withheld {
        return problem("version_differs", why).into_response();
    }
    // Every instance folds the same log, so all of them meet the same record: were one of them not ready for it, none would
    // be, for the sake of one partition. The same if it only waits for the schema registry.
    let halted = api.view.halted().map(|reason| format!("folding has stopped in {reason}"));
    let clock_behind_seconds = api.view.clocks().too_far_behind().map(|behind| behind.as_secs());
    json(StatusCode::OK, &HealthBody { status: "ready", halted, clock_behind_seconds })
}
