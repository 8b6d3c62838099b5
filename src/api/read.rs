//! `GET /v1/payments/{id}`: as it is, as it was, when it has changed (the long-poll), or what became of one request.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use warp::http::{HeaderMap, StatusCode};
use warp::reply::{Reply, Response};

use super::etag::{self, Known};
use super::{Api, behind, create, json, not_found};
use crate::access::Caller;
use crate::contract::{
    AtLeast, PaymentBody, UnconfirmedBody, VersionId, bad_parameter, last_position, partition, position_text,
};
use crate::http::{Problem, Query, prefer};
use crate::journal::{JournalError, Position, Record};
use crate::payment::request::Fingerprint;
use crate::payment::{EventData, PaymentId, RequestId, Timestamp};
use crate::projection::Row;
use crate::schema::DecodeError;

pub(super) async fn payment(api: &Api, id: &str, headers: &HeaderMap, query: &Query) -> Result<Response, Problem> {
    query.only(&["at", "at_least", "request_id"])?;
    let caller = api.access.caller(headers)?;
    let id = PaymentId::parse(id).ok_or_else(not_found)?;
    caller.may_ask(id)?;
    let at_least = api.at_least(query)?;
    if let Some(at) = query.get("at") {
        return as_it_was(api, &caller, id, at, query).await;
    }
    if let Some(request_id) = query.get("request_id") {
        let request_id = RequestId::parse(request_id).map_err(bad_parameter)?;
        return request(api, &caller, id, &request_id, at_least).await;
    }
    if let Some(position) = at_least.and_then(|at_least| at_least.on(partition(id, api.view.partitions()))) {
        api.in_time(api.view.wait_folded(position)).await?;
    }
    let known = etag::known(headers, api.view.log_id());
    let wait = prefer::wait(headers).filter(|_| known.is_some());
    let mut response = unless_known(api, &caller, id, known, wait.unwrap_or_default()).await?;
    if let Some(wait) = wait {
        prefer::applied(&mut response, wait);
    }
    Ok(response)
}

/// The payment, once it is newer than what the client has; 304 if that takes longer than `wait`. An instance that is behind
/// the client has nothing newer either: a reader never goes back in time.
async fn unless_known(
    api: &Api,
    caller: &Caller,
    id: PaymentId,
    known: Option<Known>,
    wait: Duration,
) -> Result<Response, Problem> {
    let row = match known {
        None => api.row(caller, id)?.ok_or_else(not_found)?,
        Some(Known::Any) => {
            api.payment_when(caller, id, Instant::now() + wait, |_| false).await?.ok_or_else(not_found)?
        }
        Some(Known::Version(version)) => {
            let row = api.payment_when(caller, id, Instant::now() + wait, |payment| payment.version > version).await?;
            // Some instance had it, or the client would not know its version.
            row.ok_or_else(behind)?
        }
    };
    let log = api.view.log_id();
    let unchanged = match known {
        None => None,
        Some(Known::Any) => Some(row.payment.version),
        Some(Known::Version(version)) => (row.payment.version <= version).then_some(version),
    };
    if let Some(version) = unchanged {
        let mut response = StatusCode::NOT_MODIFIED.into_response();
        etag::set(&mut response, VersionId { log, version });
        return Ok(response);
    }
    Ok(shown(api, &row))
}

fn shown(api: &Api, row: &Row) -> Response {
    let log = api.view.log_id();
    let last = last_position(row, api.view.partitions());
    let mut response = json(StatusCode::OK, &PaymentBody::new(&row.payment, &position_text(log, last)));
    etag::set(&mut response, VersionId { log, version: row.payment.version });
    response
}

/// The payment as it was at a time, by the log's clock: as the last record that the log had taken by then had made it.
async fn as_it_was(api: &Api, caller: &Caller, id: PaymentId, at: &str, query: &Query) -> Result<Response, Problem> {
    if query.get("request_id").is_some() {
        let detail = "at asks for the past, and request_id for what has become of a request: give one of them";
        return Err(Problem::new(StatusCode::BAD_REQUEST, "invalid_at", detail));
    }
    let bad = || Problem::new(StatusCode::BAD_REQUEST, "invalid_at", "at must be a time like 2026-11-25T10:00:00Z");
    let at = Timestamp::parse(at).ok_or_else(bad)?;
    if let Some(position) = api.at_least(query)?.and_then(|at_least| at_least.on(partition(id, api.view.partitions())))
    {
        api.in_time(api.view.wait_folded(position)).await?;
    }
    let entry = api.view.payment_at(id, at)?.filter(|entry| caller.sees(&entry.payment)).ok_or_else(not_found)?;
    let log = api.view.log_id();
    Ok(json(StatusCode::OK, &PaymentBody::new(&entry.payment, &position_text(log, entry.position))))
}

// === one request ===

/// What became of the request that was appended at a position: for who was told `confirmed: false`.
async fn request(
    api: &Api,
    caller: &Caller,
    id: PaymentId,
    request_id: &RequestId,
    at_least: Option<AtLeast>,
) -> Result<Response, Problem> {
    let partition = partition(id, api.view.partitions());
    let position = match at_least {
        Some(AtLeast::Record(position)) if position.partition == partition => position,
        _ => {
            let detail = "request_id is asked for with at_least, the position that the POST answered with";
            return Err(Problem::new(StatusCode::BAD_REQUEST, "invalid_position", detail));
        }
    };
    if api.in_time(api.view.wait_folded(position)).await.is_err() {
        let text = position_text(api.view.log_id(), position);
        return Ok(json(StatusCode::ACCEPTED, &UnconfirmedBody::new(id, request_id, &text)));
    }
    let row = api.row(caller, id)?.ok_or_else(not_found)?;
    let initiation = &row.payment.initiation;
    if initiation.request_id == *request_id {
        return Ok(shown(api, &row));
    }
    let asked = fingerprint_at(api, position, id, request_id).await?;
    if asked != initiation.fingerprint {
        return Err(create::key_reused());
    }
    let mut response = shown(api, &row);
    create::replayed(&mut response);
    Ok(response)
}

/// The fingerprint of the request that was appended there.
async fn fingerprint_at(
    api: &Api,
    position: Position,
    id: PaymentId,
    request_id: &RequestId,
) -> Result<Fingerprint, Problem> {
    let unknown =
        || Problem::new(StatusCode::NOT_FOUND, "request_not_found", "there is no such request at that position");
    let record = read_record(api, position).await?.ok_or_else(unknown)?;
    let event = api.codec.decode(&record.value).map_err(|e| {
        if let DecodeError::NotRegistered(id) = e {
            // Folded before this process started: the registry has not explained it to this one yet.
            tracing::warn!(%position, id, "a record waits for the schema registry to explain its id");
            api.codec.want(&e);
            return behind();
        }
        tracing::error!(%position, error = %e, "a record that was folded cannot be decoded");
        Problem::internal()
    })?;
    match event.data {
        EventData::PaymentInProgress(e) if event.payment_id == id && e.request_id == *request_id => Ok(e.fingerprint),
        _ => Err(unknown()),
    }
}

/// The journal blocks.
async fn read_record(api: &Api, position: Position) -> Result<Option<Record>, Problem> {
    let journal = Arc::clone(&api.journal);
    let read = tokio::task::spawn_blocking(move || journal.read(position)).await;
    match read {
        Ok(Ok(record)) => Ok(record),
        Ok(Err(JournalError::Unavailable(reason))) => {
            tracing::warn!(%position, reason, "the log cannot be read");
            Err(behind())
        }
        Ok(Err(e)) => {
            tracing::error!(%position, error = %e, "the log cannot be read");
            Err(Problem::internal())
        }
        Err(e) => {
            tracing::error!(%position, error = %e, "reading the log ended early");
            Err(Problem::internal())
        }
    }
}
