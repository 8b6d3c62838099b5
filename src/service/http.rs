//! What a process answers over HTTP: the API and the streams where it serves, health and metrics everywhere.

use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use warp::Filter;

use super::webhooks::TakenIn;
use super::{Part, Role, described, measures};
use crate::access::{Access, open_to_origins};
use crate::api::{Api, ApiConfig, Operator, PushApi, WebhookApi};
use crate::config::ServiceArgs;
use crate::http::{Limits, serve};
use crate::journal::Journal;
use crate::projection::totals::Totals;
use crate::projection::{Live, View};
use crate::schema::Codec;
use crate::stream::{StreamConfig, Streams};
use crate::{api, stream};

/// How long a POST waits until its own fold has passed the append.
const CONFIRM_WAIT: Duration = Duration::from_secs(2);
/// How long a GET waits for the position it was asked to have.
const READ_WAIT: Duration = Duration::from_secs(2);

pub(super) fn api(
    args: &ServiceArgs,
    access: Arc<Access>,
    journal: Arc<dyn Journal>,
    codec: Arc<Codec>,
    view: View,
    totals: Option<Arc<Live<Totals>>>,
    stop: &CancellationToken,
) -> Arc<Api> {
    let (gateway, event_grid_origins) = (args.gateway.name().to_owned(), args.event_grid.event_grid_origins.clone());
    let config = ApiConfig { gateway, confirm_wait: CONFIRM_WAIT, read_wait: READ_WAIT, event_grid_origins };
    Arc::new(Api { journal, view, totals, codec, access, config, shutdown: stop.clone() })
}

pub(super) fn part(
    args: &ServiceArgs,
    role: Role,
    listener: TcpListener,
    operator: Arc<Operator>,
    told: Option<TakenIn>,
    stop: &CancellationToken,
) -> Part {
    let api = Arc::clone(&operator.api);
    let (view, access) = (api.view.clone(), Arc::clone(&api.access));
    let streams = Arc::new(Streams {
        view,
        access,
        config: stream_config(args),
        shutdown: stop.clone(),
        open: Arc::default(),
        recents: Arc::default(),
    });
    let metrics = measures::route(Arc::clone(&operator));
    let routes = match role {
        Role::Process | Role::Notify => {
            let routes = api::health(&api).or(metrics).unify().or(described::route_of(role)).unify().boxed();
            match role {
                Role::Process => routes.or(api::requests_routes(&operator)).unify().boxed(),
                _ => routes,
            }
        }
        Role::All | Role::Serve => {
            let public = api::routes(&api).or(stream::routes(&streams)).unify().or(described::route()).unify().boxed();
            let routes = public.or(api::operator_routes(&operator)).unify().or(metrics).unify().boxed();
            match told {
                Some(TakenIn { deliveries, key, vapid }) => {
                    let (api, control) = (Arc::clone(&api), Arc::clone(&operator.control));
                    let allow_private = args.webhooks.allow_private_webhooks;
                    let told = Arc::new(WebhookApi {
                        api,
                        control,
                        deliveries,
                        key,
                        allow_private,
                        hub_hosts: args.webhooks.hub_hosts(),
                    });
                    let webhooks = api::webhook_routes(&told);
                    let push = api::push_routes(&Arc::new(PushApi::new(told, vapid)));
                    webhooks.or(push).unify().or(routes).unify().boxed()
                }
                None => routes,
            }
        }
    };
    let routes = args.access.origins().show(routes, open_to_origins);
    let connection_age = stream_config(args).max_age;
    let (connections, connections_each) = (args.bounds.connections_max, args.bounds.connections_each);
    let limits = Limits { connections, connections_each, connection_age, ..Limits::default() };
    let (stop, drain) = (stop.clone(), args.drain() / 2);
    Box::pin(async move {
        serve(listener, routes, limits, stop, drain).await;
        Ok(())
    })
}

fn stream_config(args: &ServiceArgs) -> StreamConfig {
    StreamConfig {
        heartbeat: Duration::from_millis(args.stream_heartbeat_ms),
        max_age: Duration::from_secs(args.stream_max_age_seconds),
        origins: args.access.origins(),
        each_merchant: args.bounds.streams_each_merchant,
        each_token: args.bounds.streams_each_token,
    }
}
