//! `POST /v1/payments`: append, then ask the log whose payment it is. Nothing is decided before that, but for one thing: the
//! canonical initiation of a payment never changes, so where the fold already has one, nothing needs to be appended.

use std::time::Duration;

use bytes::Buf;
use futures_util::Stream;
use tokio::time::Instant;
use warp::http::header::{CONTENT_TYPE, LOCATION};
use warp::http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use warp::reply::Response;

use super::{Api, POSITION, RETRY_AFTER, header_value, json, shutting_down};
use crate::access::Caller;
use crate::contract::{PaymentBody, UnconfirmedBody, bad_parameter, last_position, partition, position_text};
use crate::http::{Problem, prefer, read_body};
use crate::journal::Position;
use crate::payment::request::Fingerprint;
use crate::payment::{Event, EventData, IdempotencyKey, NewPayment, Payment, PaymentId, RequestId};
use crate::projection::Row;

/// The largest body of a request for a payment.
pub(super) const BODY_MAX_BYTES: usize = 16 * 1024;

const IDEMPOTENCY_KEY: &str = "idempotency-key";
const REPLAYED: HeaderName = HeaderName::from_static("idempotent-replayed");

/// What was asked for, checked.
pub(super) struct Asked {
    caller: Caller,
    pub id: PaymentId,
    payment: NewPayment,
    fingerprint: Fingerprint,
    /// How long the client wants to wait for the end.
    wait: Option<Duration>,
    arrived: Instant,
}

/// What was appended for it.
pub(super) struct Appended {
    request_id: RequestId,
    position: Position,
}

/// What is known once it is on the log.
pub(super) enum Settled {
    /// The payment of its key, whoever asked for it first; and what was appended, unless it was there before.
    Known(Box<Row>, Option<Appended>),
    /// Appended, and this instance has not folded it in time.
    Unconfirmed(Appended),
}

impl Asked {
    /// From untrusted JSON; `wait` is how long the client wants to wait for the end.
    pub fn new(caller: Caller, key: &IdempotencyKey, body: &[u8], wait: Option<Duration>) -> Result<Self, Problem> {
        let (merchant, payment) = (caller.merchant()?, NewPayment::parse(body)?);
        let (id, fingerprint) = (PaymentId::derive(merchant, key), payment.fingerprint(merchant));
        Ok(Self { id, fingerprint, wait, arrived: Instant::now(), caller, payment })
    }

    /// With a request that came before: how long it is waited for counts from there.
    pub fn arrived_at(self, arrived: Instant) -> Self {
        Self { arrived, ..self }
    }

    /// Is the payment of its key what it asks for?
    pub fn is_met_by(&self, row: &Row) -> Result<(), Problem> {
        if row.payment.initiation.fingerprint == self.fingerprint { Ok(()) } else { Err(key_reused()) }
    }
}

impl Appended {
    /// Is it what the payment began with?
    pub fn began(&self, row: &Row) -> bool {
        self.request_id == row.payment.initiation.request_id
    }
}

pub(super) async fn create<S, B>(api: &Api, headers: &HeaderMap, body: S) -> Result<Response, Problem>
where
    S: Stream<Item = Result<B, warp::Error>>,
    B: Buf,
{
    if api.shutdown.is_cancelled() {
        return Err(shutting_down());
    }
    let asked = read(api, headers, body).await?;
    match settle(api, &asked, headers).await? {
        Settled::Known(row, appended) => answer(api, &asked, *row, appended.as_ref()).await,
        Settled::Unconfirmed(appended) => Ok(unconfirmed(api, &asked, &appended)),
    }
}

/// Sees to it that it is on the log, where the log has no payment of its key yet, and says what the log has made of it.
pub(super) async fn settle(api: &Api, asked: &Asked, headers: &HeaderMap) -> Result<Settled, Problem> {
    if let Some(row) = api.view.payment(asked.id)? {
        return Ok(Settled::Known(Box::new(row), None));
    }
    if api.view.is_halted(partition(asked.id, api.view.partitions())) {
        return Err(halted());
    }
    let appended = append(api, asked, headers).await?;
    let patience = api.config.confirm_wait.max(asked.wait.unwrap_or_default());
    let folded = api.until_shutdown(api.view.wait_folded(appended.position));
    if tokio::time::timeout_at(asked.arrived + patience, folded).await != Ok(true) {
        return Ok(Settled::Unconfirmed(appended));
    }
    match api.view.payment(asked.id)? {
        Some(row) => Ok(Settled::Known(Box::new(row), Some(appended))),
        None => {
            tracing::error!(payment = %asked.id, position = %appended.position, "folded, and yet the payment is not there");
            Err(Problem::internal())
        }
    }
}

/// What is appended behind a record that cannot be folded would wait with it: better refused than accepted.
pub(super) fn halted() -> Problem {
    let detail = "nothing was recorded: this part of the log has halted, and an operator has to look at it";
    Problem::new(StatusCode::SERVICE_UNAVAILABLE, "halted", detail).retry_after(RETRY_AFTER)
}

async fn read<S, B>(api: &Api, headers: &HeaderMap, body: S) -> Result<Asked, Problem>
where
    S: Stream<Item = Result<B, warp::Error>>,
    B: Buf,
{
    let caller = api.access.caller(headers)?;
    caller.merchant()?;
    require_json(headers)?;
    let key = idempotency_key(headers)?;
    Asked::new(caller, &key, &read_body(body, BODY_MAX_BYTES).await?, prefer::wait(headers))
}

pub(super) fn require_json(headers: &HeaderMap) -> Result<(), Problem> {
    let value = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let media_type = value.split(';').next().unwrap_or_default().trim();
    if media_type.eq_ignore_ascii_case("application/json") {
        return Ok(());
    }
    let detail = "the body must be application/json, and Content-Type must say so";
    Err(Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "unsupported_media_type", detail))
}

fn idempotency_key(headers: &HeaderMap) -> Result<IdempotencyKey, Problem> {
    let refuse = |code, detail: &str| Err(Problem::new(StatusCode::BAD_REQUEST, code, detail));
    let mut keys = headers.get_all(IDEMPOTENCY_KEY).iter();
    match (keys.next(), keys.next()) {
        (None, _) => refuse("idempotency_key_missing", "the header Idempotency-Key is required"),
        (Some(_), Some(_)) => refuse("idempotency_key_repeated", "there must be one header Idempotency-Key"),
        // What is not visible ASCII is refused by the parser, with its reason.
        (Some(key), None) => IdempotencyKey::parse(key.to_str().unwrap_or_default()).map_err(bad_parameter),
    }
}

// === the append ===

async fn append(api: &Api, asked: &Asked, headers: &HeaderMap) -> Result<Appended, Problem> {
    let request_id = RequestId::random();
    let accepted =
        asked.payment.clone().accept(asked.caller.merchant()?.clone(), &api.config.gateway, request_id.clone());
    let event = Event::new(asked.id, api.view.clocks().machine(), EventData::PaymentInProgress(accepted));
    let position = api.append(&event, headers).await?;
    Ok(Appended { request_id, position })
}

// === the answer ===

/// The fold has spoken: `row` is the payment of this key.
async fn answer(api: &Api, asked: &Asked, row: Row, appended: Option<&Appended>) -> Result<Response, Problem> {
    asked.is_met_by(&row).map_err(|problem| match appended {
        Some(appended) => problem.header(POSITION, position_header(api, appended)),
        None => problem,
    })?;
    let mine = appended.is_some_and(|appended| appended.began(&row));
    let row = match asked.wait {
        Some(wait) => {
            let ended = api.payment_when(&asked.caller, asked.id, asked.arrived + wait, Payment::is_terminal).await?;
            ended.unwrap_or(row)
        }
        None => row,
    };
    // A first POST that does not wait is always "accepted", however quick the charge was.
    let ended = row.payment.is_terminal() && (asked.wait.is_some() || !mine);
    let last = last_position(&row, api.view.partitions());
    let at_least = position_text(api.view.log_id(), last);
    let body = PaymentBody::new(&row.payment, &at_least);
    let mut response = json(if ended { StatusCode::OK } else { StatusCode::ACCEPTED }, &body);
    locate(&mut response, &format!("/v1/payments/{}?at_least={at_least}", asked.id));
    if let Some(appended) = appended {
        response.headers_mut().insert(POSITION, position_header(api, appended));
    }
    if !mine {
        replayed(&mut response);
    }
    if let Some(wait) = asked.wait {
        prefer::applied(&mut response, wait);
    }
    Ok(response)
}

/// On the log, and that is all that this instance knows.
fn unconfirmed(api: &Api, asked: &Asked, appended: &Appended) -> Response {
    let position = position_text(api.view.log_id(), appended.position);
    let body = UnconfirmedBody::new(asked.id, &appended.request_id, &position);
    let mut response = json(StatusCode::ACCEPTED, &body);
    locate(&mut response, &body.links.itself);
    response.headers_mut().insert(POSITION, header_value(&position));
    if let Some(wait) = asked.wait {
        prefer::applied(&mut response, wait);
    }
    response
}

/// Also the answer to a later question about the same request.
pub(super) fn key_reused() -> Problem {
    let detail =
        "this idempotency key belongs to a payment that asks for something else: use a new key for a new payment";
    Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "idempotency_key_reused", detail)
}

/// Says that the payment is of an earlier request.
pub(super) fn replayed(response: &mut Response) {
    response.headers_mut().insert(REPLAYED, HeaderValue::from_static("true"));
}

fn position_header(api: &Api, appended: &Appended) -> HeaderValue {
    header_value(&position_text(api.view.log_id(), appended.position))
}

fn locate(response: &mut Response, location: &str) {
    response.headers_mut().insert(LOCATION, header_value(location));
}

#[cfg(test)]
mod tests {
    use warp::http::header::CONTENT_TYPE;
    use warp::http::{HeaderMap, HeaderValue};

    use super::{idempotency_key, require_json};

    #[test]
    fn only_json_is_json() {
        let accepts = |value: Option<&'static str>| {
            let mut headers = HeaderMap::new();
            value.map(|value| headers.insert(CONTENT_TYPE, HeaderValue::from_static(value)));
            require_json(&headers).is_ok()
        };
        for good in ["application/json", "Application/JSON", "application/json; charset=utf-8"] {
            assert!(accepts(Some(good)), "{good}");
        }
        for bad in ["text/plain", "application/jsonp", "application/problem+json", "", ";application/json"] {
            assert!(!accepts(Some(bad)), "{bad}");
        }
        assert!(!accepts(None));
    }

    #[test]
    fn there_must_be_one_key_and_a_good_one() {
        let mut headers = HeaderMap::new();
        assert!(idempotency_key(&headers).is_err());
        headers.append("idempotency-key", HeaderValue::from_static("\"order-1\""));
        assert_eq!(idempotency_key(&headers).unwrap().as_str(), "order-1");
        headers.append("idempotency-key", HeaderValue::from_static("\"order-1\""));
        assert!(idempotency_key(&headers).is_err());
        let mut latin = HeaderMap::new();
        latin.append("idempotency-key", HeaderValue::from_bytes(b"caf\xe9").unwrap());
        assert!(idempotency_key(&latin).is_err());
    }
}
