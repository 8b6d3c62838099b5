//! `/v1/webhook_endpoints`: who is told of payments by webhook, how, and what came of it. Everything is decided on the control
//! log; what is to be sent is sent by a notifier, wherever it runs.

mod asks;
mod attempts;
pub(super) mod body;
mod changes;
mod described;

use std::future::Future;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::Stream;
use warp::Filter;
use warp::filters::BoxedFilter;
use warp::http::{HeaderMap, StatusCode};
use warp::reply::Response;

use super::create::require_json;
use super::{Api, get, json, not_acknowledged, otherwise, shutting_down};
use crate::contract::{EndpointBody, PENDING_MAX};
use crate::control::hubs::HubHosts;
use crate::control::{Control, EndpointId, EndpointState, KnownEndpoint, SecretsKey};
use crate::deliveries::{Deliveries, Standing};
use crate::http::{Problem, Query, query, read_body};
use crate::journal::AppendError;
use crate::payment::MerchantId;
use crate::projection::Offsets;

pub(super) use attempts::of as attempts_of;
pub use described::{TAG, described};

/// The largest body of a request about endpoints or browsers.
const BODY_MAX_BYTES: usize = 16 * 1024;

pub struct WebhookApi {
    pub api: Arc<Api>,
    pub control: Arc<Control>,
    /// What was told, as far as this instance has folded it.
    pub deliveries: Deliveries,
    /// `None` if this instance has none: then no secret can be given out.
    pub key: Option<SecretsKey>,
    pub allow_private: bool,
    /// The hosts that a hub may be told at.
    pub hub_hosts: HubHosts,
}

#[derive(serde::Serialize)]
pub(super) struct ListBody<T> {
    pub data: Vec<T>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next_cursor: Option<String>,
}

/// Every route of this module. What none of them matches is rejected, so that others may follow with `or`.
pub fn routes(webhooks: &Arc<WebhookApi>) -> BoxedFilter<(Response,)> {
    let others = [endpoint(webhooks), attempts(webhooks), act(webhooks), of_payment(webhooks)];
    others.into_iter().fold(endpoints(webhooks), |all, one| all.or(one).unify().boxed())
}

fn endpoints(webhooks: &Arc<WebhookApi>) -> BoxedFilter<(Response,)> {
    let path = || warp::path!("v1" / "webhook_endpoints");
    let create = path()
        .and(warp::post())
        .and(with(webhooks))
        .and(warp::header::headers_cloned())
        .and(warp::body::stream())
        .then(async |webhooks: Arc<WebhookApi>, headers: HeaderMap, body| {
            webhooks.answer(changes::create(&webhooks, &headers, body)).await
        });
    let list = path().and(get()).and(with(webhooks)).and(warp::header::headers_cloned()).and(query()).then(
        async |webhooks: Arc<WebhookApi>, headers: HeaderMap, query: Query| {
            webhooks.answer(list(&webhooks, &headers, &query)).await
        },
    );
    create.or(list).unify().or(otherwise(path(), "GET, HEAD, POST")).unify().boxed()
}

fn endpoint(webhooks: &Arc<WebhookApi>) -> BoxedFilter<(Response,)> {
    let path = || warp::path!("v1" / "webhook_endpoints" / String);
    let asked = |webhooks| with(webhooks).and(warp::header::headers_cloned());
    let show = path().and(get()).and(asked(webhooks)).and(query()).then(
        async |id: String, webhooks: Arc<WebhookApi>, headers: HeaderMap, query: Query| {
            webhooks.answer(show(&webhooks, &headers, &id, &query)).await
        },
    );
    let delete = path().and(warp::delete()).and(asked(webhooks)).then(
        async |id: String, webhooks: Arc<WebhookApi>, headers: HeaderMap| {
            webhooks.answer(changes::delete(&webhooks, &headers, &id)).await
        },
    );
    let other = otherwise(path().map(drop).untuple_one(), "GET, HEAD, DELETE");
    show.or(delete).unify().or(other).unify().boxed()
}

fn attempts(webhooks: &Arc<WebhookApi>) -> BoxedFilter<(Response,)> {
    let path = || warp::path!("v1" / "webhook_endpoints" / String / "attempts");
    path()
        .and(get())
        .and(with(webhooks))
        .and(warp::header::headers_cloned())
        .and(query())
        .then(async |id: String, webhooks: Arc<WebhookApi>, headers: HeaderMap, query: Query| {
            webhooks.answer(attempts::list(&webhooks, &headers, &id, &query)).await
        })
        .or(otherwise(path().map(drop).untuple_one(), "GET, HEAD"))
        .unify()
        .boxed()
}

fn of_payment(webhooks: &Arc<WebhookApi>) -> BoxedFilter<(Response,)> {
    let path = || warp::path!("v1" / "payments" / String / "webhooks");
    path()
        .and(get())
        .and(with(webhooks))
        .and(warp::header::headers_cloned())
        .and(query())
        .then(async |id: String, webhooks: Arc<WebhookApi>, headers: HeaderMap, query: Query| {
            webhooks.answer(attempts::of_payment(&webhooks, &headers, &id, &query)).await
        })
        .or(otherwise(path().map(drop).untuple_one(), "GET, HEAD"))
        .unify()
        .boxed()
}

/// What can be done with an endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Act {
    Rotate,
    Disable,
    Enable,
    Test,
    Resend,
    Recover,
}

impl std::str::FromStr for Act {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        match text {
            "rotate" => Ok(Self::Rotate),
            "disable" => Ok(Self::Disable),
            "enable" => Ok(Self::Enable),
            "test" => Ok(Self::Test),
            "resend" => Ok(Self::Resend),
            "recover" => Ok(Self::Recover),
            _ => Err(()),
        }
    }
}

fn act(webhooks: &Arc<WebhookApi>) -> BoxedFilter<(Response,)> {
    let path = || warp::path!("v1" / "webhook_endpoints" / String / Act);
    path()
        .and(warp::post())
        .and(with(webhooks))
        .and(warp::header::headers_cloned())
        .and(warp::body::stream())
        .then(async |id: String, act: Act, webhooks: Arc<WebhookApi>, headers: HeaderMap, body| {
            webhooks.answer(perform(&webhooks, act, &id, &headers, body)).await
        })
        .or(otherwise(path().map(|_, _| ()).untuple_one(), "POST"))
        .unify()
        .boxed()
}

async fn perform<S, B>(
    webhooks: &WebhookApi,
    act: Act,
    id: &str,
    headers: &HeaderMap,
    body: S,
) -> Result<Response, Problem>
where
    S: Stream<Item = Result<B, warp::Error>>,
    B: bytes::Buf,
{
    let merchant = webhooks.merchant(headers)?;
    let endpoint = webhooks.find(&merchant, id)?;
    let body = webhooks.document(headers, body).await?;
    match act {
        Act::Rotate => changes::rotate(webhooks, &endpoint, &body).await,
        Act::Disable => changes::disable(webhooks, &endpoint, &body).await,
        Act::Enable => changes::enable(webhooks, &endpoint, &body).await,
        Act::Test => asks::test(webhooks, &endpoint, &body).await,
        Act::Resend => asks::resend(webhooks, &merchant, &endpoint, &body).await,
        Act::Recover => asks::recover(webhooks, &endpoint, &body).await,
    }
}

async fn list(webhooks: &WebhookApi, headers: &HeaderMap, query: &Query) -> Result<Response, Problem> {
    let merchant = webhooks.merchant(headers)?;
    query.only(&[])?;
    let mine = webhooks.mine(&merchant);
    let data = mine.iter().map(|known| webhooks.body(known, false)).collect::<Result<Vec<_>, _>>()?;
    Ok(json(StatusCode::OK, &ListBody { data, next_cursor: None }))
}

async fn show(webhooks: &WebhookApi, headers: &HeaderMap, id: &str, query: &Query) -> Result<Response, Problem> {
    let merchant = webhooks.merchant(headers)?;
    query.only(&[])?;
    let known = webhooks.find(&merchant, id)?;
    Ok(json(StatusCode::OK, &webhooks.body(&known, true)?))
}

fn with(
    webhooks: &Arc<WebhookApi>,
) -> impl Filter<Extract = (Arc<WebhookApi>,), Error = std::convert::Infallible> + Clone + use<> {
    let webhooks = Arc::clone(webhooks);
    warp::any().map(move || Arc::clone(&webhooks))
}

impl WebhookApi {
    pub(super) async fn answer(&self, handler: impl Future<Output = Result<Response, Problem>>) -> Response {
        self.api.answer(None, handler).await
    }

    /// Whose endpoints are asked about: a merchant's own key is needed, and no less.
    pub(super) fn merchant(&self, headers: &HeaderMap) -> Result<MerchantId, Problem> {
        Ok(self.api.access.caller(headers)?.merchant()?.clone())
    }

    /// Those of the merchant that are not deleted.
    fn mine(&self, merchant: &MerchantId) -> Vec<Arc<KnownEndpoint>> {
        let known = self.control.webhooks().known();
        let all = known.endpoints.values().filter(|known| known.endpoint.state != EndpointState::Deleted);
        all.filter(|known| known.endpoint.merchant_id == merchant.as_str()).cloned().collect()
    }

    /// Another's is not there.
    fn find(&self, merchant: &MerchantId, id: &str) -> Result<Arc<KnownEndpoint>, Problem> {
        let id = EndpointId::parse(id).ok_or_else(not_found)?;
        self.mine(merchant).into_iter().find(|known| known.endpoint.id == id).ok_or_else(not_found)
    }

    fn body<'a>(&self, known: &'a KnownEndpoint, counted: bool) -> Result<EndpointBody<'a>, Problem> {
        let (id, deliveries) = (known.endpoint.id, &self.deliveries);
        let pending = if counted { deliveries.open_count(id, PENDING_MAX)? } else { None };
        let standing: Standing = deliveries.standing(id)?.since_enabled(&known.endpoint);
        Ok(EndpointBody::new(known, &standing, pending, self.api.view.clocks().machine()))
    }

    /// The JSON of a request that changes something, if anything is still taken. Nothing at all is an empty object.
    pub(super) async fn document<S, B>(&self, headers: &HeaderMap, body: S) -> Result<Bytes, Problem>
    where
        S: Stream<Item = Result<B, warp::Error>>,
        B: bytes::Buf,
    {
        if self.api.shutdown.is_cancelled() {
            return Err(shutting_down());
        }
        let body = read_body(body, BODY_MAX_BYTES).await?;
        if body.is_empty() {
            return Ok(Bytes::from_static(b"{}"));
        }
        require_json(headers)?;
        Ok(body)
    }

    /// Where the log of payments ends now: only what comes later is for an endpoint that is enabled now.
    pub(super) async fn ends(&self) -> Result<Vec<u64>, Problem> {
        let log = Arc::clone(&self.api.journal);
        let ends = tokio::task::spawn_blocking(move || Offsets::ends_of(log.as_ref())).await;
        match ends {
            Ok(Ok(ends)) => Ok(ends.as_slice().iter().map(|offset| offset.0).collect()),
            Ok(Err(error)) => Err(log_away(&error.to_string())),
            Err(error) => Err(log_away(&error.to_string())),
        }
    }
}

fn log_away(reason: &str) -> Problem {
    tracing::warn!(reason, "a request about who is told could not ask the log");
    Problem::new(
        StatusCode::SERVICE_UNAVAILABLE,
        "log_unavailable",
        "the log does not answer: repeat the request later",
    )
    .retry_after(super::RETRY_AFTER)
}

pub(super) fn not_recorded(error: &AppendError) -> Problem {
    tracing::warn!(%error, "a request about who is told was not recorded");
    not_acknowledged(error, "the request may or may not have been recorded: look, then repeat")
}

fn not_found() -> Problem {
    Problem::new(StatusCode::NOT_FOUND, "webhook_endpoint_not_found", "there is no such webhook endpoint")
}
