//! What a process answers over HTTP: the API and the streams where it serves, health and metrics everywhere.

use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use warp::filters::BoxedFilter;
use warp::reply::Response;
use warp::{Filter, Reply};

use super::{Part, Role};
use crate::api::{Api, ApiConfig, Operator, WebhookApi};
use crate::config::ServiceArgs;
use crate::control::SecretsKey;
use crate::deliveries::Deliveries;
use crate::http::{Limits, serve};
use crate::journal::Journal;
use crate::projection::totals::Totals;
use crate::projection::versions::{Phase, Rebuilds};
use crate::projection::{Live, View};
use crate::schema::Codec;
use crate::stream::Streams;
use crate::{api, stream, telemetry};

/// How long a POST waits until its own fold has passed the append.
const CONFIRM_WAIT: Duration = Duration::from_secs(2);
/// How long a GET waits for the position it was asked to have.
const READ_WAIT: Duration = Duration::from_secs(2);

pub(super) fn api(
    args: &ServiceArgs,
    journal: Arc<dyn Journal>,
    codec: Arc<Codec>,
    view: View,
    totals: Option<Arc<Live<Totals>>>,
    stop: &CancellationToken,
) -> Arc<Api> {
    let config =
        ApiConfig { gateway: args.gateway.name().to_owned(), confirm_wait: CONFIRM_WAIT, read_wait: READ_WAIT };
    Arc::new(Api { journal, view, totals, codec, config, shutdown: stop.clone() })
}

pub(super) fn part(
    args: &ServiceArgs,
    role: Role,
    listener: TcpListener,
    operator: Arc<Operator>,
    webhooks: Option<(Deliveries, Option<SecretsKey>)>,
    stop: &CancellationToken,
) -> Part {
    let api = Arc::clone(&operator.api);
    let streams = Arc::new(Streams { view: api.view.clone(), config: args.streams(), shutdown: stop.clone() });
    let metrics = metrics(Arc::clone(&operator));
    let routes = match role {
        Role::Process | Role::Notify => api::health(&api).or(metrics).unify().boxed(),
        Role::All | Role::Serve => {
            let public = api::routes(&api).or(stream::routes(&streams)).unify().boxed();
            let routes = public.or(api::operator_routes(&operator)).unify().or(metrics).unify().boxed();
            match webhooks {
                Some((deliveries, key)) => {
                    let (api, control) = (Arc::clone(&api), Arc::clone(&operator.control));
                    let allow_private = args.webhooks.allow_private_webhooks;
                    let webhooks = WebhookApi { api, control, deliveries, key, allow_private };
                    api::webhook_routes(&Arc::new(webhooks)).or(routes).unify().boxed()
                }
                None => routes,
            }
        }
    };
    let limits = Limits { connections: args.bounds.connections_max, ..Limits::default() };
    let (stop, drain) = (stop.clone(), args.drain() / 2);
    Box::pin(async move {
        serve(listener, routes, limits, stop, drain).await;
        Ok(())
    })
}

/// Prometheus's text exposition format, version 0.0.4.
fn metrics(operator: Arc<Operator>) -> BoxedFilter<(Response,)> {
    let answer = move || {
        let operator = Arc::clone(&operator);
        async move {
            count_parked(operator.api.view.clone()).await;
            measure(operator.projections.clone()).await;
            let content_type = "text/plain; version=0.0.4";
            warp::reply::with_header(telemetry::metrics(), "content-type", content_type).into_response()
        }
    };
    warp::path!("metrics").and(warp::get()).then(answer).boxed()
}

/// Versions that are built beside those that are served.
async fn measure(projections: Vec<Arc<dyn Rebuilds>>) {
    let measure = move || {
        for projection in projections {
            let versions = projection.versions();
            let building = versions.iter().find(|version| version.phase == Phase::Building);
            telemetry::rebuild(projection.name(), building.map(|version| (version.folded, version.pace)));
        }
    };
    if let Err(error) = tokio::task::spawn_blocking(measure).await {
        tracing::error!(%error, "measuring what is built ended early");
    }
}

pub(super) fn is_loopback(listener: &TcpListener) -> bool {
    listener.local_addr().is_ok_and(|address| address.ip().is_loopback())
}

/// From the state, at every scrape: a counter would forget, or count twice.
async fn count_parked(view: View) {
    match tokio::task::spawn_blocking(move || view.parked_counts()).await {
        Ok(Ok(counts)) => telemetry::parked(counts.values().sum()),
        Ok(Err(error)) => tracing::error!(%error, "the parked payments cannot be counted"),
        Err(error) => tracing::error!(%error, "counting the parked payments ended early"),
    }
}
