//! What waits for a person, and everything there is: lists from the state as it is.

use std::collections::BTreeMap;

use warp::http::StatusCode;
use warp::reply::Response;

use super::super::list::{ListBody, PAGE};
use super::super::{Api, json, not_found};
use crate::contract::{EventBody, ParkedBody, PaymentBody, bad_place, last_position, position_text};
use crate::http::{Problem, Query, page_limit};
use crate::payment::PaymentId;
use crate::projection::{BadOffsets, ParkedKey, Row};

#[derive(serde::Serialize, utoipa::ToSchema)]
#[schema(as = ParkedSummary)]
pub(in crate::api) struct SummaryBody {
    parked: u64,
    reasons: BTreeMap<String, u64>,
}

/// One payment, whether it is still parked or not: who has decided wants to see what became of it.
#[derive(serde::Serialize, utoipa::ToSchema)]
#[schema(as = ParkedPayment)]
pub(in crate::api) struct OneBody<'a> {
    #[schema(required)]
    parked: Option<ParkedBody<'a>>,
    payment: PaymentBody<'a>,
    /// All events, those without effect too.
    events: Vec<EventBody<'a>>,
}

/// `GET /v1/operator/parked`: by reason, and of one reason who has waited longest first.
pub(super) async fn list(api: &Api, query: &Query) -> Result<Response, Problem> {
    query.only(&["reason", "cursor", "limit"])?;
    let cursor = |text| ParkedKey::decode(text, api.view.log_id());
    let after = query.get("cursor").map(cursor).transpose().map_err(bad_cursor)?;
    let max = query.get("limit").map_or(Ok(PAGE), page_limit)?;
    let (rows, next) = api.view.parked(query.get("reason"), after.as_ref(), max)?;
    let data = rows.iter().filter_map(|row| ParkedBody::of(&row.payment)).collect();
    let next_cursor = next.map(|next| next.encode(api.view.log_id()));
    Ok(json(StatusCode::OK, &ListBody { data, next_cursor }))
}

/// `GET /v1/operator/parked/summary`: how many, by reason.
pub(super) async fn summary(api: &Api, query: &Query) -> Result<Response, Problem> {
    query.only(&[])?;
    let view = api.view.clone();
    let counted = tokio::task::spawn_blocking(move || view.parked_counts()).await.map_err(|error| {
        tracing::error!(%error, "counting the parked payments ended early");
        Problem::internal()
    })?;
    let reasons = counted?;
    Ok(json(StatusCode::OK, &SummaryBody { parked: reasons.values().sum(), reasons }))
}

/// `GET /v1/operator/parked/{id}`: one, with its history.
pub(super) async fn one(api: &Api, id: &str, query: &Query) -> Result<Response, Problem> {
    query.only(&[])?;
    let id = PaymentId::parse(id).ok_or_else(not_found)?;
    let row = api.view.payment(id)?.ok_or_else(not_found)?;
    let entries = api.view.history(id)?;
    let at_least = at_least(api, &row);
    let events = entries.iter().map(|entry| EventBody::new(entry, api.view.log_id())).collect();
    let (parked, payment) = (ParkedBody::of(&row.payment), PaymentBody::new(&row.payment, &at_least));
    Ok(json(StatusCode::OK, &OneBody { parked, payment, events }))
}

/// `GET /v1/operator/payments`: every payment that this instance has, by id.
pub(super) async fn payments(api: &Api, query: &Query) -> Result<Response, Problem> {
    query.only(&["cursor", "limit"])?;
    let log8 = api.view.log_id().log8();
    let after = query.get("cursor").map(|text| id_in(text, &log8)).transpose().map_err(bad_cursor)?;
    let max = query.get("limit").map_or(Ok(PAGE), page_limit)?;
    let (rows, next) = api.view.payments(after, max)?;
    let positions: Vec<String> = rows.iter().map(|row| at_least(api, row)).collect();
    let data = rows.iter().zip(&positions).map(|(row, at_least)| PaymentBody::new(&row.payment, at_least)).collect();
    Ok(json(StatusCode::OK, &ListBody { data, next_cursor: next.map(|id| format!("{log8}.{id}")) }))
}

/// The cursor of [`payments`]: behind which id the next page begins.
fn id_in(cursor: &str, log8: &str) -> Result<PaymentId, BadOffsets> {
    let (of, id) = cursor.split_once('.').ok_or(BadOffsets::Malformed)?;
    let id = PaymentId::parse(id).ok_or(BadOffsets::Malformed)?;
    match of.len() {
        8 if of == log8 => Ok(id),
        8 => Err(BadOffsets::OtherLog),
        _ => Err(BadOffsets::Malformed),
    }
}

fn bad_cursor(bad: BadOffsets) -> Problem {
    bad_place(bad, "invalid_cursor", "cursor")
}

fn at_least(api: &Api, row: &Row) -> String {
    position_text(api.view.log_id(), last_position(row, api.view.partitions()))
}
