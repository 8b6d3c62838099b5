//! `/livez`: the process turns. `/readyz`: it may be asked (never ready and empty, DESIGN.md 10).

use warp::http::StatusCode;
use warp::reply::{Reply, Response};

use super::{Api, RETRY_AFTER, json, shutting_down};
use crate::http::Problem;

#[derive(serde::Serialize)]
struct HealthBody {
    status: &'static str,
}

pub(super) fn live() -> Response {
    json(StatusCode::OK, &HealthBody { status: "live" })
}

pub(super) fn ready(api: &Api) -> Response {
    let problem = |code, detail: String| Problem::new(StatusCode::SERVICE_UNAVAILABLE, code, detail);
    if api.shutdown.is_cancelled() {
        return shutting_down().into_response();
    }
    if let Some(reason) = api.view.halted() {
        return problem("halted", format!("folding has stopped at {reason}")).into_response();
    }
    if !api.view.caught_up() {
        let detail = "the log has not been folded to its end since the start".to_owned();
        return problem("not_caught_up", detail).retry_after(RETRY_AFTER).into_response();
    }
    json(StatusCode::OK, &HealthBody { status: "ready" })
}
