//! `GET /v1/ws`: how a connection becomes a WebSocket (RFC 6455, 4.2), and whose page may ask for it.

use std::sync::Arc;

use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use warp::Filter;
use warp::filters::BoxedFilter;
use warp::http::header::{
    CONNECTION, HeaderName, ORIGIN, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_VERSION, UPGRADE,
};
use warp::http::{HeaderMap, HeaderValue, StatusCode};
use warp::reply::{Reply, Response};

use super::{Streams, socket};
use crate::http::{Lifetime, Origins, Problem, Query, is_own_origin, query};

/// The one version there is.
const VERSION: &str = "13";
/// Sixteen bytes in base64.
const KEY_CHARS: usize = 24;

/// What a request brings that a connection can be taken over by.
struct Upgrade {
    connection: Option<OnUpgrade>,
    lifetime: Option<Lifetime>,
}

pub(super) fn route(streams: &Arc<Streams>) -> BoxedFilter<(Response,)> {
    let streams = Arc::clone(streams);
    let path = || warp::path!("v1" / "ws");
    let upgrade = warp::ext::optional().and(warp::ext::optional());
    let open = path().and(warp::get()).and(warp::header::headers_cloned()).and(query()).and(upgrade).map(
        move |headers: HeaderMap, query: Query, connection, lifetime| {
            let upgrade = Upgrade { connection, lifetime };
            open(&streams, &headers, &query, upgrade).unwrap_or_else(Problem::into_response)
        },
    );
    let otherwise = path().map(|| Problem::method_not_allowed("GET").into_response());
    open.or(otherwise).unify().boxed()
}

fn open(streams: &Arc<Streams>, headers: &HeaderMap, query: &Query, upgrade: Upgrade) -> Result<Response, Problem> {
    query.only(&["ticket"])?;
    let key = key(headers)?;
    // A ticket was given to the page that shows it; what a browser adds by itself, and where no key is needed, is not.
    if query.get("ticket").is_none() {
        allowed_origin(headers, &streams.config.origins)?;
    }
    let (Some(connection), Some(lifetime)) = (upgrade.connection, upgrade.lifetime) else {
        return Err(upgrade_required());
    };
    // The last of all, so that a ticket is not taken by a request that comes to nothing.
    let (caller, place) = streams.access.follower(headers, query.get("ticket"), |caller| streams.place(caller))?;
    let place = place?;
    let streams = Arc::clone(streams);
    lifetime.spawn(async move {
        // Of a client that is gone before it begins there is nothing to say.
        if let Ok(connection) = connection.await {
            socket::serve(TokioIo::new(connection), streams, caller).await;
        }
        drop(place);
    });
    let mut response = StatusCode::SWITCHING_PROTOCOLS.into_response();
    let accept = derive_accept_key(key.as_bytes());
    let headers = response.headers_mut();
    headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
    headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
    // Base64 is always a header's value.
    headers.insert(SEC_WEBSOCKET_ACCEPT, HeaderValue::from_str(&accept).unwrap_or(HeaderValue::from_static("")));
    Ok(response)
}

/// What the client wants to see answered: of a request that is a handshake.
fn key(headers: &HeaderMap) -> Result<HeaderValue, Problem> {
    if !names(headers, &UPGRADE, "websocket") || !names(headers, &CONNECTION, "upgrade") {
        return Err(upgrade_required());
    }
    if headers.get(SEC_WEBSOCKET_VERSION).is_none_or(|version| version != VERSION) {
        return Err(upgrade_required());
    }
    let key = headers.get(SEC_WEBSOCKET_KEY).filter(|key| key.len() == KEY_CHARS);
    key.cloned().ok_or_else(|| {
        let detail = "Sec-WebSocket-Key must be sixteen bytes in base64";
        Problem::new(StatusCode::BAD_REQUEST, "invalid_websocket_key", detail)
    })
}

fn upgrade_required() -> Problem {
    let detail = "this is a WebSocket of version 13, over HTTP/1.1: ask for it with a WebSocket client";
    Problem::new(StatusCode::UPGRADE_REQUIRED, "upgrade_required", detail)
        .header(UPGRADE, HeaderValue::from_static("websocket"))
        .header(SEC_WEBSOCKET_VERSION, HeaderValue::from_static(VERSION))
}

fn names(headers: &HeaderMap, header: &HeaderName, token: &str) -> bool {
    let values = headers.get_all(header).iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).any(|value| value.trim().eq_ignore_ascii_case(token))
}

/// Of everything else a browser keeps the answer from a page of another origin, if paylog does not allow that one. A WebSocket it
/// opens for any page, and leaves the judgement to the server.
fn allowed_origin(headers: &HeaderMap, origins: &Origins) -> Result<(), Problem> {
    if headers.get(ORIGIN).is_none_or(|origin| origins.allow(origin)) || is_own_origin(headers) {
        return Ok(());
    }
    let detail = "a page of another origin may not open this socket: serve the page from the host that it connects to, and \
                  have a proxy pass on the Host header as it came; or name its origin with --allow-origin; or use a ticket";
    Err(Problem::new(StatusCode::FORBIDDEN, "cross_origin", detail))
}

#[cfg(test)]
mod tests {
    use warp::http::{HeaderMap, HeaderValue};

    use crate::http::Origins;

    fn is_same(origin: &'static str, host: &'static str) -> bool {
        let mut headers = HeaderMap::new();
        headers.insert("origin", HeaderValue::from_static(origin));
        headers.insert("host", HeaderValue::from_static(host));
        super::allowed_origin(&headers, &Origins::default()).is_ok()
    }

    #[test]
    fn a_page_of_another_origin_is_refused_and_whoever_has_none_is_not() {
        for (origin, host) in [
            ("http://127.0.0.1:8080", "127.0.0.1:8080"),
            ("https://Pay.example", "pay.example"),
            ("https://pay.example", "pay.example:443"),
            ("http://[::1]:8080", "[::1]:8080"),
        ] {
            assert!(is_same(origin, host), "{origin} {host}");
        }
        for (origin, host) in [
            ("https://evil.example", "pay.example"),
            ("https://pay.example:444", "pay.example"),
            ("http://pay.example", "pay.example:443"),
            ("http://pay.example.evil.example", "pay.example"),
            ("null", "pay.example"),
            ("file://", "pay.example"),
            ("", ""),
        ] {
            assert!(!is_same(origin, host), "{origin} {host}");
        }
        assert!(super::allowed_origin(&HeaderMap::new(), &Origins::default()).is_ok());
        let mut other = HeaderMap::new();
        other.insert("origin", HeaderValue::from_static("https://shop.example"));
        let allowed = |origin: &str| super::allowed_origin(&other, &Origins::new(&[origin.parse().unwrap()])).is_ok();
        assert!(allowed("https://shop.example") && !allowed("https://other.example"), "one that is named is let in");
    }

    #[test]
    fn a_handshake_is_told_from_a_plain_request() {
        let ask = |headers: &[(&'static str, &'static str)]| {
            let mut map = HeaderMap::new();
            for (name, value) in headers {
                map.insert(*name, HeaderValue::from_static(value));
            }
            super::key(&map).is_ok()
        };
        let (up, on) = (("upgrade", "WebSocket"), ("connection", "keep-alive, Upgrade"));
        let (version, key) = (("sec-websocket-version", "13"), ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="));
        assert!(ask(&[up, on, version, key]));
        assert!(!ask(&[]) && !ask(&[up, on, version]) && !ask(&[up, version, key]) && !ask(&[on, version, key]));
        assert!(!ask(&[up, on, key, ("sec-websocket-version", "8")]));
        assert!(!ask(&[up, on, version, ("sec-websocket-key", "short")]));
    }
}
