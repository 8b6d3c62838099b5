//! What came of the attempts to tell an endpoint, the newest first.

use warp::http::StatusCode;
use warp::reply::Response;

use super::{ListBody, WebhookApi};
use crate::api::json;
use crate::contract::AttemptBody;
use crate::http::{Problem, Query};

/// Attempts on one page.
const PAGE: usize = 50;
/// A cursor is the end of a key: a time, a place, a cause and a number.
const CURSOR_BYTES: usize = 40;

pub(super) async fn list(webhooks: &WebhookApi, id: &str, query: &Query) -> Result<Response, Problem> {
    query.only(&["cursor"])?;
    let known = webhooks.find(id)?;
    let before = query.get("cursor").map(cursor).transpose()?;
    let (attempts, last) = webhooks.deliveries.attempts(known.endpoint.id, before.as_deref(), PAGE)?;
    let data: Vec<AttemptBody<'_>> = attempts.iter().map(AttemptBody::new).collect();
    let next_cursor = last.map(|last| data_encoding::BASE64URL_NOPAD.encode(&last));
    Ok(json(StatusCode::OK, &ListBody { data, next_cursor }))
}

fn cursor(text: &str) -> Result<Vec<u8>, Problem> {
    let bytes = data_encoding::BASE64URL_NOPAD.decode(text.as_bytes()).ok();
    bytes.filter(|bytes| bytes.len() == CURSOR_BYTES).ok_or_else(|| {
        Problem::new(StatusCode::BAD_REQUEST, "invalid_cursor", "cursor is not one that paylog gave out")
    })
}
