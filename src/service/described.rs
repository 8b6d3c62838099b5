//! `/openapi.json` and `/asyncapi.json`: what every area says of itself, put together once.

use std::sync::LazyLock;

use serde_json::Value;
use warp::Filter;
use warp::filters::BoxedFilter;
use warp::http::HeaderValue;
use warp::http::header::{CACHE_CONTROL, CONTENT_TYPE, X_CONTENT_TYPE_OPTIONS};
use warp::reply::{Reply, Response};

use super::Role;
use crate::http::Problem;
use crate::openapi::{Operation, Tag, asyncapi, document};
use crate::{api, control, deliveries, intake, notifier, schema, stream};

static OPENAPI: LazyLock<String> = LazyLock::new(|| openapi().to_string());
static OF_PROCESS: LazyLock<String> = LazyLock::new(|| openapi_of(Role::Process).to_string());
static OF_NOTIFY: LazyLock<String> = LazyLock::new(|| openapi_of(Role::Notify).to_string());
static ASYNCAPI: LazyLock<String> = LazyLock::new(|| channels().to_string());

/// Every route of an instance of this role.
#[must_use]
pub fn openapi_of(role: Role) -> Value {
    let [_, _, service]: [Tag; 3] = api::TAGS;
    let mut operations = Vec::from(api::health_described());
    let tags = match role {
        Role::All | Role::Serve => return openapi(),
        Role::Process => {
            operations.extend(api::requests_described());
            vec![api::OPERATOR_TAG, service]
        }
        Role::Notify => vec![service],
    };
    let [metrics, of_itself, _] = described();
    operations.extend([metrics, of_itself]);
    document(operations, Vec::new(), &tags)
}

/// Every route of an instance that serves.
#[must_use]
pub fn openapi() -> Value {
    let mut operations = api::described();
    operations.extend(api::event_grid_described());
    operations.extend(stream::described());
    operations.extend(api::webhook_described());
    operations.extend(api::push_described());
    operations.extend(api::operator_described());
    operations.extend(described());
    let [payments, tokens, service]: [Tag; 3] = api::TAGS;
    let tags = [
        payments,
        api::EVENT_GRID_TAG,
        stream::TAG,
        tokens,
        api::WEBHOOK_TAG,
        api::PUSH_TAG,
        api::OPERATOR_TAG,
        service,
    ];
    document(operations, notifier::described::webhooks(), &tags)
}

/// Every topic and stream.
#[must_use]
pub fn channels() -> Value {
    let mut channels = Vec::from(schema::described::topics());
    channels.extend([deliveries::described::topic(), intake::described::dead_letters(), control::described::topic()]);
    channels.extend(stream::channels());
    asyncapi(channels)
}

fn described() -> [Operation; 3] {
    let new = |path, id, summary| Operation::new("get", path, id, summary).tag("service");
    [
        new("/metrics", "getMetrics", "Counters and measures").answers_as(
            200,
            "Prometheus's text exposition format.",
            &[],
            "text/plain",
        ),
        new("/openapi.json", "getOpenApi", "This description").answers_an_object(200, "OpenAPI 3.1.", &[]),
        new("/asyncapi.json", "getAsyncApi", "The topics and the streams, described").answers_an_object(
            200,
            "AsyncAPI 3.",
            &[],
        ),
    ]
}

pub(super) fn route() -> BoxedFilter<(Response,)> {
    let get = || warp::get().or(warp::head()).unify();
    let (openapi, asyncapi) = (|| warp::path!("openapi.json"), || warp::path!("asyncapi.json"));
    let others = openapi().or(asyncapi()).unify().map(|| Problem::method_not_allowed("GET, HEAD").into_response());
    let openapi = openapi().and(get()).map(|| answer(&OPENAPI));
    let asyncapi = asyncapi().and(get()).map(|| answer(&ASYNCAPI));
    openapi.or(asyncapi).unify().or(others).unify().boxed()
}

/// Of an instance that serves nobody but those who look after it.
pub(super) fn route_of(role: Role) -> BoxedFilter<(Response,)> {
    let document: &'static LazyLock<String> = if role == Role::Notify { &OF_NOTIFY } else { &OF_PROCESS };
    let path = || warp::path!("openapi.json");
    let others = path().map(|| Problem::method_not_allowed("GET, HEAD").into_response());
    let get = path().and(warp::get().or(warp::head()).unify()).map(|| answer(document));
    get.or(others).unify().boxed()
}

fn answer(document: &'static str) -> Response {
    let mut response = document.into_response();
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}
