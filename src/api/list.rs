//! Lists: payments of all customers or of one, and a payment's events. One envelope for all: `data` and `next_cursor`.

use warp::http::{HeaderMap, StatusCode};
use warp::reply::Response;

use super::{Api, json, not_found};
use crate::access::Caller;
use crate::contract::{HistoryBody, PaymentBody, bad_parameter, bad_place, last_position, partition, position_text};
use crate::http::{Problem, Query, page_limit};
use crate::payment::{CustomerId, PaymentId, Status};
use crate::projection::{Offsets, Row, Scope, View};

pub(super) const PAGE: usize = 50;
/// Reads for one page, at most: a filter that matches nothing still ends.
const READS_MAX: usize = 40;

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
pub(super) async fn payments(api: &Api, headers: &HeaderMap, query: &Query) -> Result<Response, Problem> {
    query.only(&["customer_id", "status", "cursor", "limit", "at_least"])?;
    let caller = api.access.caller(headers)?;
    let page = Page::parse(api, &caller, query)?;
    if let Some(at_least) = api.at_least(query)? {
        api.in_time(at_least.reached(api.view.live())).await?;
    }
    let (rows, next) = page.read(&api.view).await?;
    let position = |row| position_text(api.view.log_id(), last_position(row, api.view.partitions()));
    let positions: Vec<String> = rows.iter().map(position).collect();
    let data = rows.iter().zip(&positions).map(|(row, at_least)| PaymentBody::new(&row.payment, at_least)).collect();
    let next_cursor = next.map(|next| next.encode(api.view.log_id()));
    Ok(json(StatusCode::OK, &ListBody { data, next_cursor }))
}

impl Page {
    fn parse(api: &Api, caller: &Caller, query: &Query) -> Result<Self, Problem> {
        let view = &api.view;
        let customer = query.get("customer_id").map(CustomerId::parse).transpose().map_err(bad_parameter)?;
        let cursor = |text| Offsets::decode(text, view.log_id(), view.partitions());
        Ok(Self {
            scope: caller.scope(customer)?,
            status: query.get("status").map(status).transpose()?,
            before: query
                .get("cursor")
                .map(cursor)
                .transpose()
                .map_err(|bad| bad_place(bad, "invalid_cursor", "cursor"))?,
            limit: query.get("limit").map_or(Ok(PAGE), page_limit)?,
        })
    }

    async fn read(self, view: &View) -> Result<(Vec<Row>, Option<Offsets>), Problem> {
        let (mut rows, mut before) = (Vec::new(), self.before);
        for _ in 0..READS_MAX {
            let (more, next) = view.payments_of(&self.scope, self.status, before.as_ref(), self.limit - rows.len())?;
            rows.extend(more);
            before = next;
            if before.is_none() || rows.len() >= self.limit {
                break;
            }
            tokio::task::yield_now().await;
        }
        Ok((rows, before))
    }
}

fn status(name: &str) -> Result<Status, Problem> {
    let detail = "status must be in_progress, successful or failed";
    Status::parse(name).ok_or_else(|| Problem::new(StatusCode::BAD_REQUEST, "invalid_status", detail))
}

// === events ===

/// `GET /v1/payments/{id}/events`: the effective ones in order of their versions; with `all=true` the others too, each at
/// its place on the log. A payment has few events, so that there is one page.
pub(super) async fn events(api: &Api, id: &str, headers: &HeaderMap, query: &Query) -> Result<Response, Problem> {
    query.only(&["all", "at_least"])?;
    let caller = api.access.caller(headers)?;
    let id = PaymentId::parse(id).ok_or_else(not_found)?;
    caller.may_ask(id)?;
    let all = match query.get("all") {
        None | Some("false") => false,
        Some("true") => true,
        Some(_) => return Err(Problem::new(StatusCode::BAD_REQUEST, "invalid_all", "all must be true or false")),
    };
    if let Some(position) = api.at_least(query)?.and_then(|at_least| at_least.on(partition(id, api.view.partitions())))
    {
        api.in_time(api.view.wait_folded(position)).await?;
    }
    if api.row(&caller, id)?.is_none() {
        return Err(not_found());
    }
    let entries = match all {
        true => api.view.history(id)?,
        false => api.view.events_after(id, 0, usize::MAX)?,
    };
    let data = entries.iter().map(|entry| HistoryBody::new(entry, api.view.log_id())).collect();
    Ok(json(StatusCode::OK, &ListBody { data, next_cursor: None }))
}

#[cfg(test)]
mod tests {
    use super::status;

    #[test]
    fn a_status_is_taken_as_documented_or_not_at_all() {
        assert!(status("successful").is_ok() && status("Successful").is_err() && status("").is_err());
    }
}
