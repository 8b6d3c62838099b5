//! Pages of other origins: to which of them answers may be shown, by the CORS protocol of the Fetch standard. Each is named
//! exactly, for what is shown with credentials may not be shown to all; which routes are open to them is said from outside.

use std::str::FromStr;
use std::sync::Arc;

use warp::Filter;
use warp::filters::BoxedFilter;
use warp::http::header::{
    ACCESS_CONTROL_ALLOW_CREDENTIALS, ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS,
    ACCESS_CONTROL_ALLOW_ORIGIN, ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE, ACCESS_CONTROL_REQUEST_METHOD,
    HOST, ORIGIN, VARY,
};
use warp::http::uri::Authority;
use warp::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Uri};
use warp::path::FullPath;
use warp::reply::{Reply, Response};

use super::{Problem, recover};

/// How long a browser may keep what it was told before the first request.
const PREFLIGHT_SECONDS: &str = "600";
/// What a page may send, besides what every page may.
const SENT: &str = "Authorization, Cache-Control, Content-Type, If-None-Match, Last-Event-ID, Prefer";
/// What it may read of an answer, besides what every page may.
const READ: &str = "ETag, Paylog-Position, Preference-Applied, Retry-After";

const BEFORE_VARIES: &str = "origin, access-control-request-method, access-control-request-headers";

/// As a browser writes it: `https://shop.example`, with a port where it is not the scheme's own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origin(HeaderValue);

#[derive(Debug, thiserror::Error)]
#[error("an origin is a scheme, a host and, if it is not the usual one, a port, as in https://shop.example{0}")]
pub struct BadOrigin(&'static str);

/// All that are allowed. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Origins(Arc<[Origin]>);

/// What a request says of where its page is from.
struct Asked {
    origin: Option<HeaderValue>,
    allowed: bool,
    method: Method,
    /// The methods of the route that are open.
    open: Option<&'static str>,
    /// What is to be asked, if this is the question before.
    before: Option<HeaderValue>,
}

impl FromStr for Origin {
    type Err = BadOrigin;

    fn from_str(text: &str) -> Result<Self, BadOrigin> {
        if text == "*" || text == "null" {
            return Err(BadOrigin(": answers are not shown to all, name each"));
        }
        let uri: Uri = text.parse().map_err(|_| BadOrigin(""))?;
        let (scheme, authority) = uri.scheme_str().zip(uri.authority()).ok_or(BadOrigin(""))?;
        let usual = match scheme {
            "https" => 443,
            "http" => 80,
            _ => return Err(BadOrigin(", and the scheme is https or http")),
        };
        let port =
            authority.port_u16().filter(|port| *port != usual).map(|port| format!(":{port}")).unwrap_or_default();
        // What is more than that, or is written in another way, would never be equal to what a browser sends.
        let written = format!("{scheme}://{}{port}", authority.host().to_ascii_lowercase());
        if written != text {
            return Err(BadOrigin(", in small letters and with nothing behind it"));
        }
        HeaderValue::from_str(text).map(Self).map_err(|_| BadOrigin(""))
    }
}

impl Origins {
    #[must_use]
    pub fn new(origins: &[Origin]) -> Self {
        Self(origins.into())
    }

    #[must_use]
    pub fn allow(&self, origin: &HeaderValue) -> bool {
        self.0.iter().any(|allowed| allowed.0 == *origin)
    }

    /// `routes`, and the answers of those that `open` names methods of are shown to pages of these origins. Without any of them
    /// nothing is said of origins at all.
    #[must_use]
    pub fn show(
        &self,
        routes: BoxedFilter<(Response,)>,
        open: fn(&str) -> Option<&'static str>,
    ) -> BoxedFilter<(Response,)> {
        if self.0.is_empty() {
            return routes;
        }
        let origins = self.clone();
        let asked = warp::method().and(warp::path::full()).and(warp::header::headers_cloned()).map(
            move |method: Method, path: FullPath, headers: HeaderMap| {
                let origin = headers.get(ORIGIN).cloned();
                let before = headers.get(ACCESS_CONTROL_REQUEST_METHOD).filter(|_| method == Method::OPTIONS).cloned();
                let allowed = origin.as_ref().is_some_and(|origin| origins.allow(origin));
                Asked { origin, allowed, method, open: open(path.as_str()), before }
            },
        );
        let before = asked.clone().and_then(async |asked: Asked| asked.before().ok_or_else(warp::reject::not_found));
        let answered = asked.and(routes.recover(recover).unify()).map(|asked: Asked, answer| asked.show(answer));
        before.or(answered).unify().boxed()
    }
}

impl Asked {
    /// The answer to the question that a browser asks before: with what it allows, or a no.
    fn before(&self) -> Option<Response> {
        let (open, _, origin) = (self.open?, self.before.as_ref()?, self.origin.as_ref()?);
        let mut answer = if self.allowed {
            let mut answer = StatusCode::NO_CONTENT.into_response();
            allow(answer.headers_mut(), origin);
            let said = [
                (ACCESS_CONTROL_ALLOW_METHODS, open),
                (ACCESS_CONTROL_ALLOW_HEADERS, SENT),
                (ACCESS_CONTROL_MAX_AGE, PREFLIGHT_SECONDS),
            ];
            said.into_iter().for_each(|(name, value)| set(answer.headers_mut(), name, value));
            answer
        } else {
            let detail = "pages of this origin are shown nothing: it would have to be named with --allow-origin";
            Problem::new(StatusCode::FORBIDDEN, "cross_origin", detail).into_response()
        };
        set(answer.headers_mut(), VARY, BEFORE_VARIES);
        Some(answer)
    }

    fn show(&self, mut answer: Response) -> Response {
        let Some(open) = self.open else { return answer };
        let headers = answer.headers_mut();
        // Said to all, or a cache would give one page's answer to another.
        headers.append(VARY, ORIGIN.into());
        let is_open = open.split(", ").any(|method| method == self.method.as_str());
        if let Some(origin) = self.origin.as_ref().filter(|_| self.allowed && is_open) {
            allow(headers, origin);
            set(headers, ACCESS_CONTROL_EXPOSE_HEADERS, READ);
        }
        answer
    }
}

/// Whether a page that asks is of the host that it asks, or no page at all.
#[must_use]
pub fn is_own_origin(headers: &HeaderMap) -> bool {
    let Some(origin) = headers.get(ORIGIN) else { return true };
    let host = headers.get(HOST).and_then(|host| host.to_str().ok()?.parse::<Authority>().ok());
    let origin = origin.to_str().ok().and_then(|origin| origin.parse::<Uri>().ok());
    host.zip(origin).is_some_and(|(host, origin)| is_at(&origin, &host))
}

/// Whether the host of a request is that of an origin, which leaves away the port of its scheme.
fn is_at(origin: &Uri, host: &Authority) -> bool {
    let usual = match origin.scheme_str() {
        Some("http") => 80,
        Some("https") => 443,
        _ => return false,
    };
    let Some(from) = origin.authority() else { return false };
    let port = |authority: &Authority| authority.port_u16().unwrap_or(usual);
    from.host().eq_ignore_ascii_case(host.host()) && port(from) == port(host)
}

fn allow(headers: &mut HeaderMap, origin: &HeaderValue) {
    headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin.clone());
    set(headers, ACCESS_CONTROL_ALLOW_CREDENTIALS, "true");
}

fn set(headers: &mut HeaderMap, name: HeaderName, value: &'static str) {
    headers.insert(name, HeaderValue::from_static(value));
}

#[cfg(test)]
mod tests {
    use super::Origin;

    #[test]
    fn an_origin_is_named_as_a_browser_writes_it() {
        for good in ["https://shop.example", "http://localhost:3000", "https://shop.example:8443", "http://[::1]:3000"]
        {
            assert!(good.parse::<Origin>().is_ok(), "{good}");
        }
        for bad in [
            "*",
            "null",
            "",
            "shop.example",
            "https://",
            "https://shop.example/",
            "https://shop.example/shop",
            "https://*.shop.example/",
            "https://Shop.example",
            "https://shop.example:443",
            "http://shop.example:80",
            "https://ada@shop.example",
            "ftp://shop.example",
            "https://shop.example https://other.example",
        ] {
            assert!(bad.parse::<Origin>().is_err(), "{bad}");
        }
    }
}
