//! From a request of Event Grid, in each form that it, or a sender of CloudEvents, may have, to what is asked of us. Pure. Each
//! event is read by itself: one that cannot be read says nothing of its neighbours.

use std::borrow::Cow;

use serde_json::value::RawValue;
use sha2::{Digest, Sha256};
use warp::http::header::CONTENT_TYPE;
use warp::http::{HeaderMap, StatusCode};

use crate::api::create::BODY_MAX_BYTES as DATA_MAX_BYTES;
use crate::http::Problem;
use crate::payment::IdempotencyKey;

/// What a delivery in Event Grid's own schema is: `Notification`, or this, or that the subscription is gone.
const EVENT_TYPE: &str = "aeg-event-type";
const VALIDATION: &str = "SubscriptionValidation";
const DELETION: &str = "SubscriptionDeletion";
/// Azure's are 36 characters long.
const CODE_MAX: usize = 256;

/// As many events as Event Grid delivers at once.
pub(super) const EVENTS_MAX: usize = 5_000;

/// What Event Grid says of a subscription.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Handshake {
    /// Are its events expected here? Whoever sends back the code proves that somebody listens.
    Validation,
    /// It is gone.
    Deletion,
}

/// What one event asks for.
#[derive(Debug)]
pub(super) struct Given {
    pub key: IdempotencyKey,
    /// As in a POST.
    pub body: Vec<u8>,
    pub traceparent: Option<String>,
}

/// An event as its envelope says it.
#[derive(serde::Deserialize)]
struct Envelope<'a> {
    #[serde(borrow, default)]
    specversion: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    id: Option<Cow<'a, str>>,
    /// Of a CloudEvent.
    #[serde(borrow, default)]
    source: Option<Cow<'a, str>>,
    /// Of an event in Event Grid's own schema.
    #[serde(borrow, default)]
    topic: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    datacontenttype: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    traceparent: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    data: Option<&'a RawValue>,
    #[serde(borrow, default)]
    data_base64: Option<Cow<'a, str>>,
}

#[derive(serde::Deserialize)]
struct Validation {
    data: ValidationData,
}

#[derive(serde::Deserialize)]
#[serde(rename_all = "camelCase")]
struct ValidationData {
    validation_code: String,
}

/// `None` of what is a delivery.
pub(super) fn handshake(headers: &HeaderMap) -> Option<Handshake> {
    match text(headers, EVENT_TYPE)? {
        VALIDATION => Some(Handshake::Validation),
        DELETION => Some(Handshake::Deletion),
        _ => None,
    }
}

pub(super) fn validation_code(body: &[u8]) -> Result<String, Problem> {
    let events: Vec<Validation> = json(body)?;
    let code = events.into_iter().next().map(|event| event.data.validation_code);
    let is_good =
        |code: &String| (1..=CODE_MAX).contains(&code.len()) && code.bytes().all(|byte| byte.is_ascii_graphic());
    code.filter(is_good).ok_or_else(|| refused("invalid_validation", "there is no code to be sent back"))
}

pub(super) fn events(headers: &HeaderMap, body: &[u8]) -> Result<Vec<Result<Given, Problem>>, Problem> {
    let media_type = media_type(headers);
    match media_type.as_str() {
        "application/cloudevents-batch+json" => each(body, cloud_event),
        "application/cloudevents+json" => Ok(vec![json(body).and_then(cloud_event)]),
        // The type of the data, in binary mode.
        _ if headers.contains_key("ce-specversion") => Ok(vec![binary(headers, &media_type, body)]),
        "application/json" => each(body, grid_event),
        _ => {
            let detail = "the body must be application/json in Event Grid's schema, application/cloudevents+json or \
                          application/cloudevents-batch+json, and Content-Type must say so";
            Err(Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "unsupported_media_type", detail))
        }
    }
}

fn each(
    body: &[u8],
    read: impl Fn(Envelope<'_>) -> Result<Given, Problem>,
) -> Result<Vec<Result<Given, Problem>>, Problem> {
    let all: Vec<&RawValue> = json(body)?;
    if all.len() > EVENTS_MAX {
        let detail = format!("there are more than {EVENTS_MAX} events at once");
        return Err(Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "too_many_events", detail));
    }
    Ok(all.into_iter().map(|one| json(one.get().as_bytes()).and_then(&read)).collect())
}

fn cloud_event(envelope: Envelope<'_>) -> Result<Given, Problem> {
    if envelope.specversion.as_deref() != Some("1.0") {
        return Err(refused("invalid_event", "specversion must be 1.0"));
    }
    if !envelope.datacontenttype.as_deref().is_none_or(is_json) {
        return Err(refused("invalid_event", "datacontenttype must be application/json, or be left out"));
    }
    let body = match (envelope.data, envelope.data_base64) {
        (Some(data), None) => data.get().as_bytes().to_vec(),
        (None, Some(data)) => data_encoding::BASE64
            .decode(data.as_bytes())
            .map_err(|_| refused("invalid_event", "data_base64 is not base64"))?,
        _ => return Err(refused("invalid_event", "there must be data, the body of POST /v1/payments")),
    };
    given(envelope.source.as_deref(), envelope.id.as_deref(), body, envelope.traceparent.as_deref())
}

fn grid_event(envelope: Envelope<'_>) -> Result<Given, Problem> {
    let body =
        envelope.data.ok_or_else(|| refused("invalid_event", "there must be data, the body of POST /v1/payments"))?;
    given(envelope.topic.as_deref(), envelope.id.as_deref(), body.get().as_bytes().to_vec(), None)
}

/// CloudEvents, HTTP protocol binding 1.0, 3.1: attributes are headers, and the body is the data.
fn binary(headers: &HeaderMap, media_type: &str, body: &[u8]) -> Result<Given, Problem> {
    if text(headers, "ce-specversion") != Some("1.0") {
        return Err(refused("invalid_event", "specversion must be 1.0"));
    }
    if !is_json(media_type) {
        return Err(refused("invalid_event", "the data must be application/json"));
    }
    let attribute = |name| text(headers, name).map(decoded).transpose();
    let (source, id) = (attribute("ce-source")?, attribute("ce-id")?);
    given(source.as_deref(), id.as_deref(), body.to_vec(), text(headers, "ce-traceparent"))
}

fn given(source: Option<&str>, id: Option<&str>, body: Vec<u8>, traceparent: Option<&str>) -> Result<Given, Problem> {
    let (Some(source), Some(id)) = (source.filter(|text| !text.is_empty()), id.filter(|text| !text.is_empty())) else {
        return Err(refused(
            "invalid_event",
            "an event must have an id, and a source (in Event Grid's schema: a topic)",
        ));
    };
    if body.len() > DATA_MAX_BYTES {
        return Err(refused("invalid_event", &format!("data must have {DATA_MAX_BYTES} bytes at most")));
    }
    Ok(Given { key: key(source, id)?, body, traceparent: traceparent.map(str::to_owned) })
}

/// `<source>/<id>`; where the id has a `/`, so that other parts would come to the same text, or where that is no key as it stands,
/// the SHA-256 in hex of both parts, each behind its length: in hex there is no `/`, so that no two events have one key. It can
/// never change: what comes again would be another payment.
fn key(source: &str, id: &str) -> Result<IdempotencyKey, Problem> {
    let text = format!("{source}/{id}");
    let is_plain = |key: &IdempotencyKey| key.as_str() == text && !id.contains('/');
    let as_it_is = IdempotencyKey::parse(&text).ok().filter(is_plain);
    as_it_is.map_or_else(|| IdempotencyKey::parse(&hashed([source, id])), Ok).map_err(Problem::from)
}

fn hashed(parts: [&str; 2]) -> String {
    let mut hash = Sha256::new();
    for part in parts {
        hash.update(u32::try_from(part.len()).unwrap_or(u32::MAX).to_be_bytes());
        hash.update(part);
    }
    data_encoding::HEXLOWER.encode(&hash.finalize())
}

/// Quotes around it, with backslashes in them alone, and then percent-encoding, are of its way here (HTTP protocol binding 1.0,
/// 3.1.3.2). One after the other: what a backslash has kept is still percent-decoded.
fn decoded(text: &str) -> Result<String, Problem> {
    let bad = || refused("invalid_event", "an attribute of the event cannot be read: it must be percent-encoded UTF-8");
    let quoted = text.strip_prefix('"').and_then(|text| text.strip_suffix('"'));
    let plain = quoted.map_or_else(|| Ok(text.to_owned()), |inner| unescaped(inner).ok_or_else(bad))?;
    let (mut bytes, mut rest) = (Vec::with_capacity(plain.len()), plain.bytes());
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'%' => {
                let digits = [rest.next().ok_or_else(bad)?, rest.next().ok_or_else(bad)?];
                *data_encoding::HEXUPPER_PERMISSIVE.decode(&digits).map_err(|_| bad())?.first().ok_or_else(bad)?
            }
            byte => byte,
        });
    }
    String::from_utf8(bytes).map_err(|_| bad())
}

/// What stands in quotes; `None` if it ends in the middle.
fn unescaped(inner: &str) -> Option<String> {
    let (mut text, mut rest) = (String::with_capacity(inner.len()), inner.chars());
    while let Some(one) = rest.next() {
        text.push(if one == '\\' { rest.next()? } else { one });
    }
    Some(text)
}

fn media_type(headers: &HeaderMap) -> String {
    let value = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    value.split(';').next().unwrap_or_default().trim().to_ascii_lowercase()
}

fn is_json(media_type: &str) -> bool {
    let essence = media_type.split(';').next().unwrap_or_default().trim();
    essence.eq_ignore_ascii_case("application/json") || essence.eq_ignore_ascii_case("text/json")
}

fn text<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}

/// Repeats nothing of it.
fn json<'a, T: serde::Deserialize<'a>>(body: &'a [u8]) -> Result<T, Problem> {
    serde_json::from_slice(body).map_err(|error| {
        let detail = format!(
            "it is no event, or no array of events, as JSON: see line {} column {}",
            error.line(),
            error.column()
        );
        refused("malformed_event", &detail)
    })
}

fn refused(code: &'static str, detail: &str) -> Problem {
    Problem::new(StatusCode::BAD_REQUEST, code, detail)
}

#[cfg(test)]
#[path = "read_tests.rs"]
mod tests;
