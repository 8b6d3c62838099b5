//! Lists: payments of all customers or of one, and a payment's events. One envelope for all: `data` and `next_cursor`.

use warp::http::StatusCode;
use warp::reply::Response;

use super::{Api, json, not_found};
use crate::contract::{HistoryBody, PaymentBody, bad_parameter, bad_place, last_position, partition, position_text};
use crate::http::{Problem, Query};
use crate::payment::{CustomerId, PaymentId, Status};
use crate::projection::{Offsets, Scope};

pub(super) const PAGE: usize = 50;
const PAGE_MAX: usize = 200;

#[derive(serde::Serialize)]
pub(super) struct ListBody<T> {
    pub data: Vec<T>,
    /// `null` on the last page.
    pub next_cursor: Option<String>,
}

// === payments ===

/// What a page of payments was asked for by.
struct Page {
    scope: Scope,
    status: Option<Status>,
    before: Option<Offsets>,
    limit: usize,
}

/// `GET /v1/payments`, of all customers or of the one named by `customer_id`: newest first.
pub(super) async fn payments(api: &Api, query: &Query) -> Result<Response, Problem> {
    query.only(&["customer_id", "status", "cursor", "limit", "at_least"])?;
    let page = Page::parse(api, query)?;
    if let Some(at_least) = api.at_least(query)? {
        api.in_time(at_least.reached(api.view.live())).await?;
    }
    let Page { scope, status, before, limit } = page;
    let (rows, next) = api.view.payments_of(&scope, status, before.as_ref(), limit)?;
    let position = |row| position_text(api.view.log_id(), last_position(row, api.view.partitions()));
    let positions: Vec<String> = rows.iter().map(position).collect();
    let data = rows.iter().zip(&positions).map(|(row, at_least)| PaymentBody::new(&row.payment, at_least)).collect();
    let next_cursor = next.map(|next| next.encode(api.view.log_id()));
    Ok(json(StatusCode::OK, &ListBody { data, next_cursor }))
}

impl Page {
    fn parse(api: &Api, query: &Query) -> Result<Self, Problem> {
        let view = &api.view;
        let customer = query.get("customer_id").map(CustomerId::parse).transpose().map_err(bad_parameter)?;
        let cursor = |text| Offsets::decode(text, view.log_id(), view.partitions());
        Ok(Self {
            scope: Scope { merchant: api.merchant(), customer },
            status: query.get("status").map(status).transpose()?,
            before: query
                .get("cursor")
                .map(cursor)
                .transpose()
                .map_err(|bad| bad_place(bad, "invalid_cursor", "cursor"))?,
            limit: query.get("limit").map_or(Ok(PAGE), limit)?,
        })
    }
}

fn status(name: &str) -> Result<Status, Problem> {
    let detail = "status must be in_progress, successful or failed";
    Status::parse(name).ok_or_else(|| Problem::new(StatusCode::BAD_REQUEST, "invalid_status", detail))
}

pub(super) fn limit(digits: &str) -> Result<usize, Problem> {
    let plain = digits.bytes().all(|b| b.is_ascii_digit());
    match digits.parse() {
        Ok(limit @ 1..=PAGE_MAX) if plain => Ok(limit),
        _ => {
            let detail = format!("limit must be a whole number from 1 to {PAGE_MAX}");
            Err(Problem::new(StatusCode::BAD_REQUEST, "invalid_limit", detail))
        }
    }
}

// === events ===

/// `GET /v1/payments/{id}/events`: the effective ones in order of their versions; with `all=true` the others too, each at
/// its place on the log. A payment has few events, so that there is one page.
pub(super) async fn events(api: &Api, id: &str, query: &Query) -> Result<Response, Problem> {
    query.only(&["all", "at_least"])?;
    let id = PaymentId::parse(id).ok_or_else(not_found)?;
    let all = match query.get("all") {
        None | Some("false") => false,
        Some("true") => true,
        Some(_) => return Err(Problem::new(StatusCode::BAD_REQUEST, "invalid_all", "all must be true or false")),
    };
    if let Some(position) = api.at_least(query)?.and_then(|at_least| at_least.on(partition(id, api.view.partitions())))
    {
        api.in_time(api.view.wait_folded(position)).await?;
    }
    let entries = match all {
        true => api.view.history(id)?,
        false => api.view.events_after(id, 0, usize::MAX)?,
    };
    if entries.is_empty() {
        return Err(not_found());
    }
    let data = entries.iter().map(|entry| HistoryBody::new(entry, api.view.log_id())).collect();
    Ok(json(StatusCode::OK, &ListBody { data, next_cursor: None }))
}

#[cfg(test)]
mod tests {
    use super::{limit, status};

    #[test]
    fn parameters_are_taken_as_documented_or_not_at_all() {
        assert_eq!((limit("1").ok(), limit("200").ok()), (Some(1), Some(200)));
        for wrong in ["", "0", "201", "-1", "+1", "1.0", "ten", "99999999999999999999999"] {
            assert!(limit(wrong).is_err(), "{wrong}");
        }
        assert!(status("successful").is_ok() && status("Successful").is_err() && status("").is_err());
    }
}
