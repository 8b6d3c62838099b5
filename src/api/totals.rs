//! `GET /v1/totals`: how many payments were accepted on each day, and of how much, by currency and by what has become of them.

use std::sync::Arc;

use warp::http::{HeaderMap, StatusCode};
use warp::reply::Response;

use super::{Api, POSITION, RETRY_AFTER, json};
use crate::contract::text;
use crate::http::{Problem, Query};
use crate::projection::Withheld;
use crate::projection::totals::{Day, Kind, Sum};

/// Days that are asked for at once, at most.
const DAYS_MAX: u32 = 366;
/// Days without being asked for, the last of them today.
const DAYS: u32 = 30;

#[derive(serde::Serialize, utoipa::ToSchema)]
#[schema(as = Total)]
pub(in crate::api) struct TotalBody {
    /// UTC.
    #[schema(value_type = text::Day)]
    day: String,
    #[schema(value_type = text::Currency)]
    currency: String,
    #[schema(value_type = text::Status)]
    status: &'static str,
    payments: u64,
    /// In minor units.
    amount: u128,
}

#[derive(serde::Serialize, utoipa::ToSchema)]
#[schema(as = Totals)]
pub(in crate::api) struct TotalsBody {
    data: Vec<TotalBody>,
    /// Why a part of the log is not summed up any further, if one is not: someone must act.
    #[serde(skip_serializing_if = "Option::is_none")]
    halted: Option<String>,
}

pub(super) async fn totals(api: &Api, headers: &HeaderMap, query: &Query) -> Result<Response, Problem> {
    query.only(&["from", "to", "at_least"])?;
    let caller = api.access.caller(headers)?;
    let merchant = caller.merchant()?.clone();
    let live = api.totals.as_ref().ok_or_else(|| {
        let detail = "this instance keeps no totals: start it with --totals true";
        Problem::new(StatusCode::NOT_FOUND, "no_totals", detail)
    })?;
    let today = Day::of(api.view.clocks().machine());
    let to = query.get("to").map_or(Ok(today), |text| day("to", text))?;
    let from = query.get("from").map_or(Ok(Day(to.0.saturating_sub(DAYS - 1))), |text| day("from", text))?;
    if from > to || to.0 - from.0 >= DAYS_MAX {
        let detail = format!("from must not be after to, and no more than {DAYS_MAX} days are answered at once");
        return Err(Problem::new(StatusCode::BAD_REQUEST, "invalid_days", detail));
    }
    let at_least = api.at_least(query)?;
    if let Some(at_least) = &at_least {
        api.in_time(at_least.reached(live)).await?;
    }
    let built = live.built();
    let withheld = live.withheld();
    if !built.progress.is_current() || withheld == Some(Withheld::NotCompared) {
        let detail = "the totals have not been folded to the log's end since the start: ask again";
        return Err(Problem::new(StatusCode::SERVICE_UNAVAILABLE, "behind", detail).retry_after(RETRY_AFTER));
    }
    if let Some(Withheld::Differs(why)) = withheld {
        return Err(Problem::new(StatusCode::SERVICE_UNAVAILABLE, "version_differs", why));
    }
    let of = Arc::clone(&built);
    let read = move || of.rows.of_days(&merchant, from..=to);
    let rows = tokio::task::spawn_blocking(read).await.map_err(|_| Problem::internal())??;
    let halted = built.progress.halts().into_iter().next().map(|halt| halt.reason);
    let data = rows.into_iter().map(TotalBody::new).collect();
    let mut response = json(StatusCode::OK, &TotalsBody { data, halted });
    let position = api.position(built.progress.visible(), at_least.as_ref());
    response.headers_mut().insert(POSITION, position);
    Ok(response)
}

fn day(parameter: &'static str, text: &str) -> Result<Day, Problem> {
    Day::parse(text).ok_or_else(|| {
        let detail = format!("{parameter} must be a day between 2000 and 2100, as 2026-11-25");
        Problem::new(StatusCode::BAD_REQUEST, "invalid_day", detail)
    })
}

impl TotalBody {
    fn new((kind, sum): (Kind, Sum)) -> Self {
        let Kind { day, currency, status, .. } = kind;
        Self {
            day: day.to_string(),
            currency: currency.code().to_owned(),
            status: status.name(),
            payments: sum.payments,
            amount: sum.amount,
        }
    }
}
