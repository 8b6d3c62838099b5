//! `/v1/event_grid`: events of Azure Event Grid, or of anybody who sends CloudEvents over HTTP, that start payments. The `data` of
//! each is what `POST /v1/payments` takes, and is given to the same code; source and id make the idempotency key, so that an
//! event that comes again is no second payment.
//!
//! What a sender is answered decides what it does ("Event Grid message delivery and retry": a webhook's 400, 401, 403 and 413 are
//! not retried, but dead-lettered, or dropped where nobody has set that up; of a batch all or nothing was delivered):
//!
//! | answer | when | the sender |
//! |---|---|---|
//! | 200 | every event is on the log: acknowledged, durable, whether this instance has folded it by then or not | is done |
//! | 503, 500 | of some event that is not known within [`APPEND_MAX`], or not yet possible | sends all of it again, which harms none |
//! | 400 `events_refused` | every other event is on the log, and these can never be payments | keeps all of it as dead letters |
//! | 401, 403 | no key, or one that is not good | keeps all of it as dead letters |
//! | 413 | more than [`BODY_MAX_BYTES`], or than [`read::EVENTS_MAX`] events | keeps all of it as dead letters |
//! | 400, another code | nothing of it is on the log: the body as a whole cannot be read | keeps all of it as dead letters |
//! | 415, 408 | a media type that Event Grid never sends; a body that does not end | sends it again |
//!
//! So nothing is lost where dead letters are kept, and nothing that can never be a payment is sent for ever.
//!
//! Before it delivers, Event Grid asks. Neither question proves who asks, nothing is done for it, and a key is not asked for:
//! Azure's documents do not say whether the headers that a subscription sets for its deliveries, `Authorization` among them, come
//! with the question too. ("Custom delivery properties" implies it: "Non-conformant values in well-known headers cause the header
//! to be dropped during event delivery to webhook destinations, but not during webhook validation.")

mod args;
mod described;
mod read;

use std::sync::Arc;
use std::time::Duration;

use bytes::Buf;
use futures_util::{Stream, StreamExt, stream};
use tokio::time::Instant;
use warp::Filter;
use warp::filters::BoxedFilter;
use warp::http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use warp::reply::{Reply, Response};

use super::create::{Asked, Settled, settle};
use super::{Api, RETRY_AFTER, json, otherwise, shutting_down, with};
use crate::access::Caller;
use crate::contract::text;
use crate::http::{Problem, read_body};
use crate::payment::PaymentId;
use crate::telemetry::{self, Seldom};
use read::{Given, Handshake};

pub use args::EventGridArgs;
pub use described::{TAG, described};

/// As much as Event Grid delivers at once, and a little for what is around it.
const BODY_MAX_BYTES: usize = 1_152 * 1024;
/// What is asked before is small, and who asks is not known.
const HANDSHAKE_MAX_BYTES: usize = 16 * 1024;
/// Of these so many are on their way to the log at once.
const AT_ONCE: usize = 64;
/// How long it is waited for what the log makes of them: Event Grid waits 30 s for the answer.
const PATIENCE: Duration = Duration::from_secs(20);
/// How long it is waited for the log to say that it has an event. After that its sender is to send it again, before it gives up
/// by itself and tells nobody why.
const APPEND_MAX: Duration = Duration::from_secs(25);
/// Of events that are refused so many are told of.
const TOLD_MAX: usize = 10;

/// CloudEvents, "HTTP 1.1 Web Hooks for Event Delivery" 1.0, 4.
const REQUEST_ORIGIN: &str = "webhook-request-origin";
const ALLOWED_ORIGIN: HeaderName = HeaderName::from_static("webhook-allowed-origin");
const ALLOWED_RATE: HeaderName = HeaderName::from_static("webhook-allowed-rate");
/// Whoever is too fast is answered 503, as everybody else.
const ANY_RATE: HeaderValue = HeaderValue::from_static("*");
const METHODS: &str = "OPTIONS, POST";

static REFUSED: Seldom = Seldom::new();

/// What the events of a request came to, in their order.
#[derive(serde::Serialize, utoipa::ToSchema)]
#[schema(as = AcceptedEvents)]
pub(in crate::api) struct AcceptedBody {
    #[schema(value_type = Vec<text::PaymentId>)]
    payments: Vec<String>,
}

/// The code that a validation came with.
#[derive(serde::Serialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = ValidatedSubscription)]
pub(in crate::api) struct ValidatedBody<'a> {
    validation_response: &'a str,
}

/// An event that is on the log.
enum Paid {
    Known(PaymentId, How),
    /// This instance has not folded it in time.
    Unconfirmed(Box<Asked>),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum How {
    New,
    /// Its payment was there before.
    Repeated,
    /// If its key belongs to another payment, the fold makes nothing of it, as of one that came over Kafka.
    Unconfirmed,
}

/// How many of a request came to what.
#[derive(Debug, Default, PartialEq, Eq)]
struct Counts {
    accepted: u64,
    repeated: u64,
    unconfirmed: u64,
    refused: u64,
}

pub(super) fn routes(api: &Arc<Api>) -> BoxedFilter<(Response,)> {
    let path = || warp::path!("v1" / "event_grid");
    let ask = path().and(warp::options()).and(with(api)).and(warp::header::headers_cloned());
    let ask = ask.map(|api: Arc<Api>, headers: HeaderMap| may_deliver(&api.config.event_grid_origins, &headers));
    let deliver =
        path().and(warp::post()).and(with(api)).and(warp::header::headers_cloned()).and(warp::body::stream()).then(
            async |api: Arc<Api>, headers: HeaderMap, body| api.answer(None, deliver(&api, &headers, body)).await,
        );
    ask.or(deliver).unify().or(otherwise(path(), METHODS)).unify().boxed()
}

/// May it deliver here? Consent is in the headers alone, never in the status.
fn may_deliver(origins: &[String], headers: &HeaderMap) -> Response {
    let asks = headers.get(REQUEST_ORIGIN);
    let named = |name: &&HeaderValue| {
        let name = name.to_str().unwrap_or_default();
        origins.iter().any(|origin| origin.eq_ignore_ascii_case(name))
    };
    let mut response = match asks {
        Some(name) if named(&name) => {
            let mut response = StatusCode::OK.into_response();
            response.headers_mut().insert(ALLOWED_ORIGIN, name.clone());
            response.headers_mut().insert(ALLOWED_RATE, ANY_RATE);
            response
        }
        Some(_) => {
            let detail = "events of this origin are not taken: it would have to be named with --event-grid-origins";
            Problem::new(StatusCode::FORBIDDEN, "event_origin", detail).into_response()
        }
        None => StatusCode::NO_CONTENT.into_response(),
    };
    response.headers_mut().insert(warp::http::header::ALLOW, HeaderValue::from_static(METHODS));
    response
}

async fn deliver<S, B>(api: &Api, headers: &HeaderMap, body: S) -> Result<Response, Problem>
where
    S: Stream<Item = Result<B, warp::Error>>,
    B: Buf,
{
    if api.shutdown.is_cancelled() {
        return Err(shutting_down());
    }
    if let Some(handshake) = read::handshake(headers) {
        let body = read_body(body, HANDSHAKE_MAX_BYTES).await?;
        return Ok(match handshake {
            Handshake::Validation => {
                json(StatusCode::OK, &ValidatedBody { validation_response: &read::validation_code(&body)? })
            }
            Handshake::Deletion => json(StatusCode::OK, &AcceptedBody { payments: Vec::new() }),
        });
    }
    let caller = api.access.caller(headers)?;
    caller.merchant()?;
    let given = read::events(headers, &read_body(body, BODY_MAX_BYTES).await?)?;
    // One patience for all of them.
    let arrived = Instant::now();
    let made = stream::iter(given).map(|given| pay(api, &caller, headers, given, arrived)).buffered(AT_ONCE);
    let made: Vec<_> = made.collect().await;
    // What was not known in time may be known by now.
    let (counts, answer) = answer(made.into_iter().map(|paid| look_again(api, paid?)).collect());
    counts.tell();
    answer
}

/// The payment of one event.
async fn pay(
    api: &Api,
    caller: &Caller,
    headers: &HeaderMap,
    given: Result<Given, Problem>,
    arrived: Instant,
) -> Result<Paid, Problem> {
    let Given { key, body, traceparent } = given?;
    let asked = Asked::new(caller.clone(), &key, &body, Some(PATIENCE))?.arrived_at(arrived);
    let mut headers = headers.clone();
    if let Some(traceparent) = traceparent.and_then(|text| HeaderValue::from_str(&text).ok()) {
        headers.insert("traceparent", traceparent);
    }
    let settled = tokio::time::timeout_at(arrived + APPEND_MAX, settle(api, &asked, &headers)).await;
    Ok(match settled.map_err(|_| not_known())?? {
        Settled::Known(row, appended) => {
            asked.is_met_by(&row)?;
            let is_new = appended.is_some_and(|appended| appended.began(&row));
            Paid::Known(asked.id, if is_new { How::New } else { How::Repeated })
        }
        Settled::Unconfirmed(_) => Paid::Unconfirmed(Box::new(asked)),
    })
}

/// As of an append that came to nothing, or may have: what is on the log by then makes its repetition harmless.
fn not_known() -> Problem {
    let detail = "the log has not said in time that it has the event: send it again";
    Problem::new(StatusCode::SERVICE_UNAVAILABLE, "append_unknown", detail).retry_after(RETRY_AFTER)
}

fn look_again(api: &Api, paid: Paid) -> Result<(PaymentId, How), Problem> {
    match paid {
        Paid::Known(id, how) => Ok((id, how)),
        Paid::Unconfirmed(asked) => {
            api.view.payment(asked.id)?.map_or(Ok(()), |row| asked.is_met_by(&row))?;
            Ok((asked.id, How::Unconfirmed))
        }
    }
}

impl Counts {
    fn tell(&self) {
        let Self { accepted, repeated, unconfirmed, refused } = *self;
        let all = [("accepted", accepted), ("repeated", repeated), ("unconfirmed", unconfirmed), ("refused", refused)];
        all.into_iter().for_each(|(result, count)| telemetry::cloud_events_taken(result, count));
    }
}

/// One answer for all of them, and what is counted of them: what is refused only where it does not come again.
fn answer(made: Vec<Result<(PaymentId, How), Problem>>) -> (Counts, Result<Response, Problem>) {
    let (count, mut counts) = (made.len(), Counts::default());
    let (mut payments, mut refused, mut again) = (Vec::with_capacity(count), Vec::new(), None);
    for (index, made) in made.into_iter().enumerate() {
        match made {
            Ok((payment, how)) => {
                match how {
                    How::New => counts.accepted += 1,
                    How::Repeated => counts.repeated += 1,
                    How::Unconfirmed => counts.unconfirmed += 1,
                }
                payments.push(payment.to_string());
            }
            Err(problem) if problem.status().is_server_error() => again = again.or(Some(problem)),
            Err(problem) => refused.push((index, problem)),
        }
    }
    // Whatever is not refused comes again, and what is refused now will be refused then.
    if let Some(problem) = again {
        return (counts, Err(problem));
    }
    if refused.is_empty() {
        return (counts, Ok(json(StatusCode::OK, &AcceptedBody { payments })));
    }
    counts.refused = refused.len() as u64;
    (counts, Err(events_refused(&refused, count)))
}

fn events_refused(refused: &[(usize, Problem)], count: usize) -> Problem {
    if REFUSED.now() {
        let code = refused.first().map(|(_, problem)| problem.code());
        tracing::warn!(refused = refused.len(), of = count, code, "events that came in can never be payments");
    }
    let told = refused.iter().take(TOLD_MAX);
    let told: Vec<String> =
        told.map(|(index, problem)| format!("event {index}: {}: {}", problem.code(), problem.detail())).collect();
    let detail = format!("{} of {count} events can never be payments: {}", refused.len(), told.join("; "));
    Problem::new(StatusCode::BAD_REQUEST, "events_refused", detail)
}

#[cfg(test)]
#[path = "event_grid/tests.rs"]
mod tests;
