//! `/v1/operator/...`: for those who run this, by an operator's key; and on this machine without one, where paylog listens on a
//! loopback address, to who came by a name of one ([`crate::access::Door`]).

mod checkpoints;
mod described;
mod import;
mod keys;
mod parked;
mod projections;
mod rejected;
mod requests;
mod resume;

use std::future::Future;
use std::sync::Arc;

use bytes::{Buf, Bytes};
use futures_util::Stream;
use warp::Filter;
use warp::filters::BoxedFilter;
use warp::http::HeaderMap;
use warp::reply::Response;

pub use described::{TAG, described, of_requests};
use projections::Change;
pub use requests::routes as requests_routes;

use super::create::require_json;
use super::{Api, get, otherwise, shutting_down};
use crate::checkpoint::Maker;
use crate::control::Control;
use crate::holding::Holding;
use crate::http::{Problem, Query, query, read_body};
use crate::projection::versions::Rebuilds;

/// The largest body of a decision.
const BODY_MAX_BYTES: usize = 16 * 1024;

pub struct Operator {
    pub api: Arc<Api>,
    pub control: Arc<Control>,
    /// Whose versions can be exchanged.
    pub projections: Vec<Arc<dyn Rebuilds>>,
    /// By projection.
    pub checkpoints: Vec<Maker>,
    /// What waits to be taken in.
    pub holding: Holding,
}

/// Every route of this module. What none of them matches is rejected, so that others may follow with `or`.
pub fn routes(operator: &Arc<Operator>) -> BoxedFilter<(Response,)> {
    let others = [
        summary(operator),
        one(operator),
        resume(operator),
        payments(operator),
        rejected(operator),
        requests_routes(operator),
        import(operator),
        adopt(operator),
        versions(operator),
        change(operator),
        checkpoints(operator),
        keys::route(operator),
        keys::change_route(operator),
    ];
    others.into_iter().fold(parked(operator), |all, one| all.or(one).unify().boxed())
}

fn parked(operator: &Arc<Operator>) -> BoxedFilter<(Response,)> {
    let path = || warp::path!("v1" / "operator" / "parked");
    path()
        .and(get())
        .and(with(operator))
        .and(query())
        .then(async |asked: Asked, query: Query| asked.answer(parked::list(asked.api(), &query)).await)
        .or(otherwise(path(), "GET, HEAD"))
        .unify()
        .boxed()
}

fn summary(operator: &Arc<Operator>) -> BoxedFilter<(Response,)> {
    let path = || warp::path!("v1" / "operator" / "parked" / "summary");
    path()
        .and(get())
        .and(with(operator))
        .and(query())
        .then(async |asked: Asked, query: Query| asked.answer(parked::summary(asked.api(), &query)).await)
        .or(otherwise(path(), "GET, HEAD"))
        .unify()
        .boxed()
}

fn one(operator: &Arc<Operator>) -> BoxedFilter<(Response,)> {
    let path = || warp::path!("v1" / "operator" / "parked" / String);
    path()
        .and(get())
        .and(with(operator))
        .and(query())
        .then(async |id: String, asked: Asked, query: Query| asked.answer(parked::one(asked.api(), &id, &query)).await)
        .or(otherwise(path().map(drop).untuple_one(), "GET, HEAD"))
        .unify()
        .boxed()
}

fn resume(operator: &Arc<Operator>) -> BoxedFilter<(Response,)> {
    let path = || warp::path!("v1" / "operator" / "parked" / String / "resume");
    path()
        .and(warp::post())
        .and(with(operator))
        .and(warp::body::stream())
        .then(async |id: String, asked: Asked, body| {
            asked.answer(resume::resume(asked.api(), &id, &asked.headers, body)).await
        })
        .or(otherwise(path().map(drop).untuple_one(), "POST"))
        .unify()
        .boxed()
}

fn payments(operator: &Arc<Operator>) -> BoxedFilter<(Response,)> {
    let path = || warp::path!("v1" / "operator" / "payments");
    path()
        .and(get())
        .and(with(operator))
        .and(query())
        .then(async |asked: Asked, query: Query| asked.answer(parked::payments(asked.api(), &query)).await)
        .or(otherwise(path(), "GET, HEAD"))
        .unify()
        .boxed()
}

fn rejected(operator: &Arc<Operator>) -> BoxedFilter<(Response,)> {
    let path = || warp::path!("v1" / "operator" / "rejected");
    let add = path()
        .and(warp::post())
        .and(with(operator))
        .and(warp::body::stream())
        .then(async |asked: Asked, body| asked.answer(rejected::add(&asked.operator, &asked.headers, body)).await);
    let list = path()
        .and(get())
        .and(with(operator))
        .and(query())
        .then(async |asked: Asked, query: Query| asked.answer(rejected::list(&asked.operator, &query)).await);
    add.or(list).unify().or(otherwise(path(), "GET, HEAD, POST")).unify().boxed()
}

fn import(operator: &Arc<Operator>) -> BoxedFilter<(Response,)> {
    let path = || warp::path!("v1" / "operator" / "import");
    path()
        .and(get())
        .and(with(operator))
        .and(query())
        .then(async |asked: Asked, query: Query| asked.answer(import::show(&asked.operator, &query)).await)
        .or(otherwise(path(), "GET, HEAD"))
        .unify()
        .boxed()
}

fn adopt(operator: &Arc<Operator>) -> BoxedFilter<(Response,)> {
    let path = || warp::path!("v1" / "operator" / "import" / "adopt");
    path()
        .and(warp::post())
        .and(with(operator))
        .and(warp::body::stream())
        .then(async |asked: Asked, body| asked.answer(import::adopt(&asked.operator, &asked.headers, body)).await)
        .or(otherwise(path(), "POST"))
        .unify()
        .boxed()
}

fn versions(operator: &Arc<Operator>) -> BoxedFilter<(Response,)> {
    let path = || warp::path!("v1" / "operator" / "projections");
    path()
        .and(get())
        .and(with(operator))
        .and(query())
        .then(async |asked: Asked, query: Query| asked.answer(projections::list(&asked.operator, &query)).await)
        .or(otherwise(path(), "GET, HEAD"))
        .unify()
        .boxed()
}

fn change(operator: &Arc<Operator>) -> BoxedFilter<(Response,)> {
    let path = || warp::path!("v1" / "operator" / "projections" / String / Change);
    path()
        .and(warp::post())
        .and(with(operator))
        .and(warp::body::stream())
        .then(async |name: String, change: Change, asked: Asked, body| {
            asked.answer(projections::change(&asked.operator, &name, change, &asked.headers, body)).await
        })
        .or(otherwise(path().map(|_, _| ()).untuple_one(), "POST"))
        .unify()
        .boxed()
}

fn checkpoints(operator: &Arc<Operator>) -> BoxedFilter<(Response,)> {
    let path = || warp::path!("v1" / "operator" / "checkpoints");
    let create =
        path().and(warp::post()).and(with(operator)).and(warp::body::stream()).then(async |asked: Asked, body| {
            asked.answer(checkpoints::create(&asked.operator, &asked.headers, body)).await
        });
    let show = path()
        .and(get())
        .and(with(operator))
        .and(query())
        .then(async |asked: Asked, query: Query| asked.answer(checkpoints::show(&asked.operator, &query)).await);
    create.or(show).unify().or(otherwise(path(), "GET, HEAD, POST")).unify().boxed()
}

/// The JSON in which an operator decides something, if decisions are still taken.
async fn document<S, B>(api: &Api, headers: &HeaderMap, body: S) -> Result<Bytes, Problem>
where
    S: Stream<Item = Result<B, warp::Error>>,
    B: Buf,
{
    if api.shutdown.is_cancelled() {
        return Err(shutting_down());
    }
    require_json(headers)?;
    read_body(body, BODY_MAX_BYTES).await
}

/// One request, and who is to answer it.
struct Asked {
    operator: Arc<Operator>,
    headers: HeaderMap,
}

fn with(operator: &Arc<Operator>) -> impl Filter<Extract = (Asked,), Error = std::convert::Infallible> + Clone + use<> {
    let operator = Arc::clone(operator);
    warp::header::headers_cloned().map(move |headers| Asked { operator: Arc::clone(&operator), headers })
}

impl Asked {
    fn api(&self) -> &Api {
        &self.operator.api
    }

    /// Asks the handler only if the request may be answered.
    async fn answer(&self, handler: impl Future<Output = Result<Response, Problem>>) -> Response {
        let permitted = self.api().access.operator(&self.headers);
        let answer = async {
            permitted?;
            handler.await
        };
        self.api().answer(None, answer).await
    }
}
