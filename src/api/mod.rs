//! Requests in, answers out. A handler validates, appends or reads, waits for its own fold, and answers; it keeps nothing.
//! What became of a request is decided by the log alone (DESIGN.md 9), so any number of instances agree.

mod create;
mod described;
mod etag;
mod event_grid;
mod health;
mod list;
mod operator;
mod page;
mod push;
mod read;
mod tokens;
mod totals;
mod trace;
mod webhooks;

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use warp::Filter;
use warp::filters::BoxedFilter;
use warp::http::header::{self, CACHE_CONTROL};
use warp::http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use warp::reply::{Reply, Response};

use crate::access::{Access, Caller};
use crate::contract::{AtLeast, bad_place, partition};
use crate::http::{Problem, Query, query};
use crate::journal::{AppendError, Journal, Position};
use crate::payment::{Event, Payment, PaymentId};
use crate::projection::totals::Totals;
use crate::projection::{Live, Offsets, Row, View};
use crate::recording::event_record;
use crate::schema::Codec;

pub use described::{TAGS, described, health as health_described};
pub use event_grid::{EventGridArgs, TAG as EVENT_GRID_TAG, described as event_grid_described};
pub use operator::{
    Operator, TAG as OPERATOR_TAG, described as operator_described, of_requests as requests_described, requests_routes,
    routes as operator_routes,
};
pub use push::{PushApi, TAG as PUSH_TAG, described as push_described, routes as push_routes};
pub use webhooks::{TAG as WEBHOOK_TAG, WebhookApi, described as webhook_described, routes as webhook_routes};

/// When to come back to a payment that is in progress, or to an instance that is behind or going away.
const RETRY_AFTER: Duration = Duration::from_secs(1);

pub struct Api {
    pub journal: Arc<dyn Journal>,
    pub view: View,
    /// `None` if this instance keeps none.
    pub totals: Option<Arc<Live<Totals>>>,
    pub codec: Arc<Codec>,
    pub access: Arc<Access>,
    pub config: ApiConfig,
    pub shutdown: CancellationToken,
}

#[derive(Clone, Debug)]
pub struct ApiConfig {
    /// The gateway of new payments, by the name it is configured under.
    pub gateway: String,
    /// How long a POST waits until its own fold has passed the append.
    pub confirm_wait: Duration,
    /// How long a GET waits for the position it was asked to have.
    pub read_wait: Duration,
    /// Who may deliver events to `/v1/event_grid`, as it calls itself.
    pub event_grid_origins: Vec<String>,
}

impl ApiConfig {
    #[must_use]
    pub fn new(gateway: String) -> Self {
        Self {
            gateway,
            confirm_wait: Duration::from_secs(2),
            read_wait: Duration::from_secs(2),
            event_grid_origins: Vec::new(),
        }
    }
}

/// Every route of this module. What none of them matches is rejected, so that others may follow with `or`.
pub fn routes(api: &Arc<Api>) -> BoxedFilter<(Response,)> {
    let every = [
        payment(api),
        events(api),
        payments(api),
        totals(api),
        tokens::routes(api),
        event_grid::routes(api),
        health(api),
        page::route(),
    ];
    every.into_iter().reduce(|all, one| all.or(one).unify().boxed()).unwrap_or_else(page::route)
}

fn payments(api: &Arc<Api>) -> BoxedFilter<(Response,)> {
    let path = || warp::path!("v1" / "payments");
    let create =
        path().and(warp::post()).and(with(api)).and(warp::header::headers_cloned()).and(warp::body::stream()).then(
            async |api: Arc<Api>, headers: HeaderMap, body| {
                api.answer(None, create::create(&api, &headers, body)).await
            },
        );
    let list = path().and(get()).and(with(api)).and(warp::header::headers_cloned()).and(query()).then(
        async |api: Arc<Api>, headers: HeaderMap, query: Query| {
            api.answer(Some(&query), list::payments(&api, &headers, &query)).await
        },
    );
    create.or(list).unify().or(otherwise(path(), "GET, HEAD, POST")).unify().boxed()
}

fn payment(api: &Arc<Api>) -> BoxedFilter<(Response,)> {
    let path = || warp::path!("v1" / "payments" / String);
    path()
        .and(get())
        .and(with(api))
        .and(warp::header::headers_cloned())
        .and(query())
        .then(async |id: String, api: Arc<Api>, headers: HeaderMap, query: Query| {
            api.answer(Some(&query), read::payment(&api, &id, &headers, &query)).await
        })
        .or(otherwise(path().map(drop).untuple_one(), "GET, HEAD"))
        .unify()
        .boxed()
}

fn events(api: &Arc<Api>) -> BoxedFilter<(Response,)> {
    let path = || warp::path!("v1" / "payments" / String / "events");
    path()
        .and(get())
        .and(with(api))
        .and(warp::header::headers_cloned())
        .and(query())
        .then(async |id: String, api: Arc<Api>, headers: HeaderMap, query: Query| {
            api.answer(Some(&query), list::events(&api, &id, &headers, &query)).await
        })
        .or(otherwise(path().map(drop).untuple_one(), "GET, HEAD"))
        .unify()
        .boxed()
}

fn totals(api: &Arc<Api>) -> BoxedFilter<(Response,)> {
    let path = || warp::path!("v1" / "totals");
    path()
        .and(get())
        .and(with(api))
        .and(warp::header::headers_cloned())
        .and(query())
        .then(async |api: Arc<Api>, headers: HeaderMap, query: Query| {
            api.answer(Some(&query), totals::totals(&api, &headers, &query)).await
        })
        .or(otherwise(path(), "GET, HEAD"))
        .unify()
        .boxed()
}

pub fn health(api: &Arc<Api>) -> BoxedFilter<(Response,)> {
    let (live, ready) = (|| warp::path!("livez"), || warp::path!("readyz"));
    let others = otherwise(live().or(ready()).unify(), "GET, HEAD");
    let live = live().and(get()).map(health::live);
    let ready = ready().and(get()).and(with(api)).map(|api: Arc<Api>| health::ready(&api));
    live.or(ready).unify().or(others).unify().boxed()
}

/// HEAD is GET without the body, which hyper leaves away.
fn get() -> impl Filter<Extract = (), Error = warp::Rejection> + Copy {
    warp::get().or(warp::head()).unify()
}

/// A path that is there, asked with a method that it does not know.
fn otherwise(
    path: impl Filter<Extract = (), Error = warp::Rejection> + Clone + Send + Sync + 'static,
    allow: &'static str,
) -> BoxedFilter<(Response,)> {
    path.map(move || Problem::method_not_allowed(allow).into_response()).boxed()
}

fn with(api: &Arc<Api>) -> impl Filter<Extract = (Arc<Api>,), Error = std::convert::Infallible> + Clone + use<> {
    let api = Arc::clone(api);
    warp::any().map(move || Arc::clone(&api))
}

// === what all handlers need ===

const POSITION: HeaderName = HeaderName::from_static("paylog-position");

impl Api {
    /// Every answer says how far it had seen, unless its handler has said more precisely.
    async fn answer(
        &self,
        asked: Option<&Query>,
        handler: impl Future<Output = Result<Response, Problem>>,
    ) -> Response {
        let mut response = handler.await.unwrap_or_else(Problem::into_response);
        let headers = response.headers_mut();
        if !headers.contains_key(POSITION) {
            let at_least = asked.and_then(|query| self.at_least(query).ok().flatten());
            headers.insert(POSITION, self.position(self.view.visible(), at_least.as_ref()));
        }
        headers.entry(CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
        response
    }

    /// Never less far than it was asked for, of which it may have waited for a part alone. So whoever asks with what the last
    /// answer said, of whatever and of whichever instance, sees nothing go back.
    fn position(&self, mut seen: Offsets, at_least: Option<&AtLeast>) -> HeaderValue {
        if let Some(at_least) = at_least {
            at_least.advance(&mut seen);
        }
        header_value(&seen.encode(self.view.log_id()))
    }

    /// The position that the client wants to be seen, if it named one.
    fn at_least(&self, query: &Query) -> Result<Option<AtLeast>, Problem> {
        let decode = |text| AtLeast::decode(text, self.view.log_id(), self.view.partitions());
        query.get("at_least").map(decode).transpose().map_err(|bad| bad_place(bad, "invalid_position", "at_least"))
    }

    /// Appends an event about a payment, with the trace that the request came with. A refusal says whether it may be on the
    /// log all the same.
    async fn append(&self, event: &Event, headers: &HeaderMap) -> Result<Position, Problem> {
        let (payment, traceparent) = (event.payment_id, trace::parent(headers));
        let home = partition(payment, self.journal.partitions());
        let record = event_record(event, home, &self.codec, Some(&traceparent)).map_err(|e| {
            tracing::error!(%payment, error = %e, "a valid event cannot be encoded");
            Problem::internal()
        })?;
        self.journal.append(record).await.map_err(|e| {
            tracing::warn!(%payment, error = %e, "a payment was not accepted");
            not_acknowledged(&e, "the request may or may not have been recorded: repeat with the same key")
        })
    }

    /// Waits for `reached`, but not for longer than `read_wait`: then this instance is behind.
    async fn in_time(&self, reached: impl Future<Output = ()>) -> Result<(), Problem> {
        let waited = tokio::time::timeout(self.config.read_wait, self.until_shutdown(reached)).await;
        if waited == Ok(true) { Ok(()) } else { Err(behind()) }
    }

    /// A payment that the caller may not see is as one that is not there.
    fn row(&self, caller: &Caller, id: PaymentId) -> Result<Option<Row>, Problem> {
        Ok(self.view.payment(id)?.filter(|row| caller.sees(&row.payment)))
    }

    /// The payment as soon as it is `done`; as it is, or is not, when the deadline, the shutdown or the end of what lets the caller
    /// in comes first.
    async fn payment_when(
        &self,
        caller: &Caller,
        id: PaymentId,
        deadline: Instant,
        done: impl Fn(&Payment) -> bool,
    ) -> Result<Option<Row>, Problem> {
        // Made before the first read, so that nothing happens unseen between the two.
        let mut watch = self.view.watch_payment(id);
        let mut permit = pin!(caller.permit().clone().ended());
        loop {
            let row = self.row(caller, id)?;
            if row.as_ref().is_some_and(|row| done(&row.payment)) {
                return Ok(row);
            }
            let changed = tokio::select! {
                biased;
                changed = tokio::time::timeout_at(deadline, self.until_shutdown(watch.changed())) => changed == Ok(true),
                () = permit.as_mut() => false,
            };
            if !changed {
                return Ok(row);
            }
        }
    }

    /// `false` if the shutdown came first.
    async fn until_shutdown(&self, done: impl Future<Output = ()>) -> bool {
        tokio::select! {
            biased;
            () = done => true,
            () = self.shutdown.cancelled() => false,
        }
    }
}

fn json(status: StatusCode, body: &impl serde::Serialize) -> Response {
    let mut response = warp::reply::json(body).into_response();
    if response.status() == StatusCode::OK {
        *response.status_mut() = status;
    }
    if status == StatusCode::ACCEPTED {
        // For whoever asks again instead of following it.
        response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(RETRY_AFTER.as_secs()));
    }
    response
}

/// For texts that we made of letters, digits and punctuation.
fn header_value(text: &str) -> HeaderValue {
    HeaderValue::from_str(text).unwrap_or(HeaderValue::from_static(""))
}

/// `unknown` says what to do where nobody knows whether it was recorded.
fn not_acknowledged(error: &AppendError, unknown: &'static str) -> Problem {
    let (code, detail) = match error {
        AppendError::NotAppended(_) => ("not_appended", "nothing was recorded: repeat the request later"),
        AppendError::Unknown(_) => ("append_unknown", unknown),
    };
    Problem::new(StatusCode::SERVICE_UNAVAILABLE, code, detail).retry_after(RETRY_AFTER)
}

fn behind() -> Problem {
    let detail = "this instance has not yet folded the log that far: ask again";
    Problem::new(StatusCode::SERVICE_UNAVAILABLE, "behind", detail).retry_after(RETRY_AFTER)
}

fn shutting_down() -> Problem {
    let detail = "this instance is shutting down: repeat the request, with the same key";
    Problem::new(StatusCode::SERVICE_UNAVAILABLE, "shutting_down", detail).retry_after(RETRY_AFTER)
}

fn not_found() -> Problem {
    Problem::new(StatusCode::NOT_FOUND, "payment_not_found", "there is no such payment")
}
