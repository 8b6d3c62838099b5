//! What may be asked of an endpoint: a test, one event again, or all that it has missed.

use std::sync::Arc;
use std::time::Duration;

use warp::http::StatusCode;
use warp::reply::Response;

use super::{WebhookApi, body, log_away, not_recorded};
use crate::api::{json, not_found};
use crate::contract::AskedBody;
use crate::control::{Asks, KnownEndpoint, Range};
use crate::http::Problem;
use crate::journal::{JournalError, Reader};
use crate::payment::{MerchantId, Timestamp};
use crate::projection::Offsets;

/// Before more is asked of an endpoint of which too much was asked.
const ASKS_PAUSE: Duration = Duration::from_secs(60);

#[derive(serde::Serialize, utoipa::ToSchema)]
#[schema(as = Recovery)]
pub(in crate::api) struct RecoveryBody<'a> {
    #[serde(flatten)]
    asked: AskedBody,
    /// What is looked through, of the log of payments.
    ranges: &'a [Range],
}

pub(super) async fn test(webhooks: &WebhookApi, known: &KnownEndpoint, asked: &[u8]) -> Result<Response, Problem> {
    body::nothing(asked)?;
    let asked = ask(webhooks, known, Asks::Test).await?;
    Ok(json(StatusCode::ACCEPTED, &asked))
}

/// One event of a payment, whatever became of it before; with the id that it had.
pub(super) async fn resend(
    webhooks: &WebhookApi,
    merchant: &MerchantId,
    known: &KnownEndpoint,
    asked: &[u8],
) -> Result<Response, Problem> {
    let (payment, version) = body::resend(asked)?;
    let entries = webhooks.api.view.events_after(payment, version - 1, 1)?;
    let mine = entries.into_iter().find(|entry| entry.payment.initiation.merchant_id == *merchant);
    let Some(entry) = mine.filter(|entry| entry.version == Some(version)) else {
        if webhooks.api.view.payment(payment)?.is_none_or(|row| row.payment.initiation.merchant_id != *merchant) {
            return Err(not_found());
        }
        let detail = "the payment has no such version";
        return Err(Problem::new(StatusCode::NOT_FOUND, "version_not_found", detail));
    };
    let (partition, offset) = (entry.position.partition.0, entry.position.offset.0);
    let asks = Asks::Resend { partition, offset, payment_id: payment.to_string(), version };
    let asked = ask(webhooks, known, asks).await?;
    Ok(json(StatusCode::ACCEPTED, &asked))
}

/// Everything since a time that it wants to hear of and that was not delivered, straight from the log.
pub(super) async fn recover(webhooks: &WebhookApi, known: &KnownEndpoint, asked: &[u8]) -> Result<Response, Problem> {
    let (since, until) = body::recover(asked)?;
    let log: Arc<dyn Reader> = Arc::clone(&webhooks.api.journal) as _;
    let found = tokio::task::spawn_blocking(move || ranges(log.as_ref(), since, until)).await;
    let ranges = match found {
        Ok(Ok(ranges)) => ranges,
        Ok(Err(error)) => return Err(log_away(&error.to_string())),
        Err(error) => return Err(log_away(&error.to_string())),
    };
    let asked = ask(webhooks, known, Asks::Recover { ranges: ranges.clone() }).await?;
    Ok(json(StatusCode::ACCEPTED, &RecoveryBody { asked, ranges: &ranges }))
}

fn ranges(log: &dyn Reader, since: Timestamp, until: Option<Timestamp>) -> Result<Vec<Range>, JournalError> {
    let from = log.first_since(since.as_micros())?;
    let to = match until {
        Some(until) => log.first_since(until.as_micros())?,
        None => Offsets::ends_of(log)?.as_slice().to_vec(),
    };
    let ranges =
        from.into_iter().zip(to).zip(0..).map(|((from, to), partition)| Range { partition, from: from.0, to: to.0 });
    Ok(ranges.filter(|range| range.from < range.to).collect())
}

async fn ask(webhooks: &WebhookApi, known: &KnownEndpoint, asks: Asks) -> Result<AskedBody, Problem> {
    if !known.endpoint.is_enabled() {
        let detail = "the endpoint is disabled: enable it first";
        return Err(Problem::new(StatusCode::CONFLICT, "webhook_endpoint_disabled", detail));
    }
    let (endpoint, api) = (known.endpoint.id, &webhooks.api);
    let (at, patience) = (api.view.clocks().machine(), api.config.confirm_wait);
    if webhooks.control.webhooks().known().requests.is_full(endpoint, &asks, at) {
        let detail = "too much was asked of the endpoint within an hour: recover what it has missed in one request";
        let problem = Problem::new(StatusCode::TOO_MANY_REQUESTS, "too_many_webhook_requests", detail);
        return Err(problem.retry_after(ASKS_PAUSE));
    }
    let asked = webhooks.control.ask_of_endpoint(endpoint, asks, at, patience).await;
    let request_id = asked.map_err(|error| not_recorded(&error))?;
    Ok(AskedBody { request_id, endpoint })
}
