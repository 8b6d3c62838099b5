//! What came of the attempts to tell an endpoint, the newest first; and who was told of a payment.

use warp::http::{HeaderMap, StatusCode};
use warp::reply::Response;

use super::{ListBody, WebhookApi};
use crate::api::{json, not_found};
use crate::contract::{AttemptBody, ToldBody};
use crate::control::TargetId;
use crate::deliveries::Deliveries;
use crate::http::{Problem, Query};
use crate::payment::PaymentId;

/// Attempts on one page.
const PAGE: usize = 50;
/// A cursor is the end of a key: a time, a place, a cause and a number.
const CURSOR_BYTES: usize = 40;

pub(super) async fn list(
    webhooks: &WebhookApi,
    headers: &HeaderMap,
    id: &str,
    query: &Query,
) -> Result<Response, Problem> {
    let merchant = webhooks.merchant(headers)?;
    query.only(&["cursor"])?;
    let known = webhooks.find(&merchant, id)?;
    of(&webhooks.deliveries, known.endpoint.id.into(), query)
}

pub fn of(deliveries: &Deliveries, target: TargetId, query: &Query) -> Result<Response, Problem> {
    let before = query.get("cursor").map(cursor).transpose()?;
    let (attempts, last) = deliveries.attempts(target, before.as_deref(), PAGE)?;
    let data: Vec<AttemptBody<'_>> = attempts.iter().map(AttemptBody::new).collect();
    let next_cursor = last.map(|last| data_encoding::BASE64URL_NOPAD.encode(&last));
    Ok(json(StatusCode::OK, &ListBody { data, next_cursor }))
}

/// Of every event of the payment: which of the merchant's endpoints is, or was, to be told, and how that stands.
pub(super) async fn of_payment(
    webhooks: &WebhookApi,
    headers: &HeaderMap,
    id: &str,
    query: &Query,
) -> Result<Response, Problem> {
    let merchant = webhooks.merchant(headers)?;
    query.only(&[])?;
    let id = PaymentId::parse(id).ok_or_else(not_found)?;
    let entries = webhooks.api.view.events_after(id, 0, usize::MAX)?;
    let mine = webhooks.mine(&merchant);
    if entries.first().is_none_or(|entry| entry.payment.initiation.merchant_id != merchant) {
        return Err(not_found());
    }
    let mut data = Vec::new();
    for entry in &entries {
        for known in &mine {
            let told = webhooks.deliveries.of_event(known.endpoint.id, entry.position)?;
            let (event, version) = (entry.event.data.name(), entry.version.unwrap_or_default());
            data.extend(told.iter().map(|told| ToldBody::new(event, version, told)));
        }
    }
    Ok(json(StatusCode::OK, &ListBody { data, next_cursor: None }))
}

fn cursor(text: &str) -> Result<Vec<u8>, Problem> {
    let bytes = data_encoding::BASE64URL_NOPAD.decode(text.as_bytes()).ok();
    bytes.filter(|bytes| bytes.len() == CURSOR_BYTES).ok_or_else(|| {
        Problem::new(StatusCode::BAD_REQUEST, "invalid_cursor", "cursor is not one that paylog gave out")
    })
}
