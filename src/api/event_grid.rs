//! `/v1/event_grid`: events of Azure Event Grid, or of anybody who sends CloudEvents over HTTP, that start payments. The `data` of
//! each is what `POST /v1/payments` takes, and is given to the same code; source and id make the idempotency key, so that an
//! event that comes again is no second payment.
//!
//! What a sender is answered decides what it does ("Event Grid message delivery and retry": a webhook's 400, 401, 403 and 413 are
//! not retried, but dead-lettered, or dropped where nobody has set that up; of a batch all or nothing was delivered):
//!
//! | answer | when | the sender |
//! |---|---|---|
//! | 200 | every event is on the log | is done |
//! | 503, 500 | of some event it is not known, or not yet possible | sends all of it again, which harms none |
//! | 400 | every other event is on the log, and these can never be payments | keeps all of it as dead letters |
//! | 401, 403 | no key, or one that is not good | keeps all of it as dead letters |
//! | 413 | more than [`BODY_MAX_BYTES`], or than [`read::EVENTS_MAX`] events | keeps all of it as dead letters |
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

use bytes::Buf;
use futures_util::{Stream, StreamExt, stream};
use tokio::time::Instant;
use warp::Filter;
use warp::filters::BoxedFilter;
use warp::http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use warp::reply::{Reply, Response};

use super::create::{Asked, Settled, settle};
use super::{Api, json, otherwise, shutting_down, with};
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
    // One patience for all of them: Event Grid waits 30 s for the answer.
    let arrived = Instant::now();
    let made = stream::iter(given).map(|given| pay(api, &caller, headers, given, arrived)).buffered(AT_ONCE);
    answer(made.collect().await)
}

/// The payment of one event.
async fn pay(
    api: &Api,
    caller: &Caller,
    headers: &HeaderMap,
    given: Result<Given, Problem>,
    arrived: Instant,
) -> Result<PaymentId, Problem> {
    let Given { key, body, traceparent } = given?;
    let asked = Asked::new(caller.clone(), &key, &body, None)?.arrived_at(arrived);
    let mut headers = headers.clone();
    if let Some(traceparent) = traceparent.and_then(|text| HeaderValue::from_str(&text).ok()) {
        headers.insert("traceparent", traceparent);
    }
    // Where this instance has not folded it in time, it is on the log all the same; of a key that belongs to another payment the
    // fold makes nothing, as of one that came over Kafka.
    if let Settled::Known(row, _) = settle(api, &asked, &headers).await? {
        asked.is_met_by(&row)?;
    }
    Ok(asked.id)
}

/// One answer for all of them.
fn answer(made: Vec<Result<PaymentId, Problem>>) -> Result<Response, Problem> {
    let count = made.len();
    let (mut payments, mut refused, mut again) = (Vec::with_capacity(count), Vec::new(), None);
    for (index, made) in made.into_iter().enumerate() {
        match made {
            Ok(payment) => payments.push(payment.to_string()),
            Err(problem) if problem.status().is_server_error() => again = again.or(Some(problem)),
            Err(problem) => refused.push((index, problem)),
        }
    }
    telemetry::cloud_events_taken(payments.len(), refused.len());
    // Whatever is not refused comes again, and what is refused now will be refused then.
    if let Some(problem) = again {
        return Err(problem);
    }
    if refused.is_empty() {
        return Ok(json(StatusCode::OK, &AcceptedBody { payments }));
    }
    if REFUSED.now() {
        let code = refused.first().map(|(_, problem)| problem.code());
        tracing::warn!(refused = refused.len(), of = count, code, "events that came in can never be payments");
    }
    let told = refused.iter().take(TOLD_MAX);
    let told: Vec<String> =
        told.map(|(index, problem)| format!("event {index}: {}: {}", problem.code(), problem.detail())).collect();
    let detail = format!("{} of {count} events can never be payments: {}", refused.len(), told.join("; "));
    Err(Problem::new(StatusCode::BAD_REQUEST, "events_refused", detail))
}

#[cfg(test)]
mod tests {
    use warp::http::{HeaderMap, HeaderValue, StatusCode};

    use super::{answer, may_deliver};
    use crate::http::Problem;
    use crate::payment::samples::payment_id;

    #[test]
    fn only_who_is_named_is_allowed_to_deliver() {
        let origins = ["eventgrid.azure.net".to_owned()];
        let ask = |name: Option<&'static str>| {
            let mut headers = HeaderMap::new();
            name.map(|name| headers.insert("webhook-request-origin", HeaderValue::from_static(name)));
            may_deliver(&origins, &headers)
        };
        for (name, status, allowed) in [
            (Some("eventgrid.azure.net"), 200, true),
            (Some("EventGrid.azure.net"), 200, true),
            (Some("evil.example"), 403, false),
            (Some("*"), 403, false),
            (None, 204, false),
        ] {
            let answer = ask(name);
            let headers = answer.headers();
            assert_eq!(answer.status().as_u16(), status, "{name:?}");
            assert_eq!(headers.contains_key("webhook-allowed-origin"), allowed, "{name:?}");
            assert_eq!(headers.contains_key("webhook-allowed-rate"), allowed, "{name:?}");
            assert_eq!(headers["allow"], "OPTIONS, POST");
        }
        assert_eq!(ask(Some("EventGrid.azure.net")).headers()["webhook-allowed-origin"], "EventGrid.azure.net");
    }

    #[test]
    fn what_may_yet_be_a_payment_comes_again_before_what_can_never_be_one_is_given_up() {
        let problem = |status| Problem::new(status, "code", "why");
        let (never, later) = (StatusCode::UNPROCESSABLE_ENTITY, StatusCode::SERVICE_UNAVAILABLE);
        let made = |problems: &[Option<StatusCode>]| {
            let one = |status: &Option<StatusCode>| status.map_or(Ok(payment_id("a")), |status| Err(problem(status)));
            answer(problems.iter().map(one).collect())
        };
        assert_eq!(made(&[None, None]).unwrap().status(), StatusCode::OK);
        assert_eq!(made(&[]).unwrap().status(), StatusCode::OK);
        let refused = made(&[None, Some(never)]).unwrap_err();
        assert_eq!((refused.status(), refused.code()), (StatusCode::BAD_REQUEST, "events_refused"));
        assert!(refused.detail().starts_with("1 of 2 events") && refused.detail().contains("event 1: code: why"));
        assert_eq!(made(&[Some(never), Some(later), None]).unwrap_err().status(), later);
    }
}
