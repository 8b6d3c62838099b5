//! `/v1/operator/...`: for those who run this. There are no keys yet, so that it is answered on this machine alone
//! (DESIGN.md 9): where paylog listens on a loopback address, and to who came by a name of one.

mod checkpoints;
mod import;
mod parked;
mod projections;
mod rejected;
mod resume;

use std::future::Future;
use std::net::IpAddr;
use std::sync::Arc;

use bytes::{Buf, Bytes};
use futures_util::Stream;
use warp::Filter;
use warp::filters::BoxedFilter;
use warp::http::header::HOST;
use warp::http::{HeaderMap, HeaderName, StatusCode};
use warp::reply::Response;

use projections::Change;

use super::create::require_json;
use super::{Api, get, otherwise, shutting_down};
use crate::checkpoint::Maker;
use crate::control::Control;
use crate::http::{Problem, Query, query, read_body};
use crate::projection::versions::Rebuilds;

/// What a proxy says of itself, besides everything that begins with `x-forwarded-`. paylog hears them from nobody else.
const FORWARDING: &[&str] = &["forwarded", "via", "x-real-ip"];
const FORWARDED: &str = "x-forwarded-";
/// The largest body of a decision.
const BODY_MAX_BYTES: usize = 16 * 1024;

pub struct Operator {
    pub api: Arc<Api>,
    pub control: Arc<Control>,
    /// Whose versions can be exchanged.
    pub projections: Vec<Arc<dyn Rebuilds>>,
    /// By projection.
    pub checkpoints: Vec<Maker>,
    /// Does paylog listen on a loopback address?
    pub loopback: bool,
}

/// Every route of this module. What none of them matches is rejected, so that others may follow with `or`.
pub fn routes(operator: &Arc<Operator>) -> BoxedFilter<(Response,)> {
    let others = [
        summary(operator),
        one(operator),
        resume(operator),
        payments(operator),
        rejected(operator),
        import(operator),
        adopt(operator),
        versions(operator),
        change(operator),
        checkpoints(operator),
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
        let permitted = permit(self.operator.loopback, &self.headers);
        let answer = async {
            permitted?;
            handler.await
        };
        self.api().answer(None, answer).await
    }
}

/// A browser on this machine can be made to ask 127.0.0.1 for a page of somebody else's (DNS rebinding). It then names that
/// somebody as the host. And a proxy on this machine asks for all the world, often by the name of 127.0.0.1: one that says so
/// is refused. One that hides it cannot be told from an operator before there are keys.
fn permit(loopback: bool, headers: &HeaderMap) -> Result<(), Problem> {
    let refuse = |detail| Err(Problem::new(StatusCode::FORBIDDEN, "loopback_only", detail));
    if !loopback {
        return refuse(
            "operator routes are answered on a loopback address only, for there are no keys yet: run the command on the \
             machine of an instance that has --listen 127.0.0.1:<port>",
        );
    }
    let forwarded = |name: &HeaderName| FORWARDING.contains(&name.as_str()) || name.as_str().starts_with(FORWARDED);
    if headers.keys().any(forwarded) {
        return refuse(
            "operator routes are not answered through a proxy, for there are no keys yet: run the command on the machine \
             itself, straight to paylog's own port, and let the proxy pass on nothing under /v1/operator/",
        );
    }
    let host = headers.get(HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
    if !names_loopback(host) {
        return refuse("operator routes are answered under localhost, 127.0.0.1 or [::1] only, and Host names another");
    }
    Ok(())
}

fn names_loopback(host: &str) -> bool {
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|b| b.is_ascii_digit()) => name,
        _ => host,
    };
    let address = name.strip_prefix('[').and_then(|name| name.strip_suffix(']')).unwrap_or(name).parse::<IpAddr>();
    name.eq_ignore_ascii_case("localhost") || address.is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use warp::http::{HeaderMap, HeaderName, HeaderValue};

    use super::{names_loopback, permit};

    #[test]
    fn only_a_name_of_this_machine_is_answered() {
        for good in ["localhost", "LOCALHOST:8080", "127.0.0.1", "127.0.0.1:8080", "127.9.9.9:1", "[::1]", "[::1]:8080"]
        {
            assert!(names_loopback(good), "{good}");
        }
        for other in
            ["", "example.org", "example.org:8080", "10.0.0.1:8080", "127.0.0.1.example.org", "localhost.x", ":80"]
        {
            assert!(!names_loopback(other), "{other}");
        }
        let mut headers = HeaderMap::new();
        assert!(permit(true, &headers).is_err(), "no host at all");
        headers.insert("host", HeaderValue::from_static("localhost:8080"));
        assert!(permit(true, &headers).is_ok());
        assert!(permit(false, &headers).is_err(), "whatever the client says, paylog listens elsewhere");
    }

    #[test]
    fn what_comes_through_a_proxy_on_this_machine_is_not_answered() {
        for name in ["Forwarded", "Via", "X-Real-IP", "X-Forwarded-For", "X-Forwarded-Host", "X-Forwarded-Proto"] {
            let mut headers = HeaderMap::new();
            headers.insert("host", HeaderValue::from_static("127.0.0.1:8080"));
            assert!(permit(true, &headers).is_ok());
            headers.insert(HeaderName::try_from(name).unwrap(), HeaderValue::from_static(""));
            let refused = permit(true, &headers).unwrap_err();
            assert!(format!("{refused:?}").contains("/v1/operator/"), "{name}: {refused:?}");
        }
    }
}
