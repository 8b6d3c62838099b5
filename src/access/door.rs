//! Who is let in without a key: whoever is on this machine, where that is how paylog is run.

use std::net::IpAddr;

use warp::http::header::HOST;
use warp::http::{HeaderMap, HeaderName};

use crate::http::is_own_origin;

/// What a proxy says of itself, besides everything that begins with `x-forwarded-`. paylog hears them from nobody else.
const FORWARDING: &[&str] = &["forwarded", "via", "x-real-ip"];
const FORWARDED: &str = "x-forwarded-";

/// How a process was started.
#[derive(Clone, Copy, Debug)]
pub struct Door {
    /// Does it listen on a loopback address?
    pub loopback: bool,
    pub without_key: WithoutKey,
}

/// Whether a merchant's routes are answered to who has no key, on a loopback address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WithoutKey {
    /// To nobody, and the operator's are not either.
    Never,
    /// As long as there has never been a key.
    UntilThereIsOne,
    Always,
}

/// Why somebody is not taken for one who is on this machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NotHere {
    /// paylog does not listen there, or was told to let in nobody.
    Closed,
    Proxied,
    OtherName,
    OtherPage,
}

impl Door {
    /// A browser on this machine can be made to ask 127.0.0.1 for a page of somebody else's (DNS rebinding). It then names that
    /// somebody as the host. And a proxy on this machine asks for all the world, often by the name of 127.0.0.1: one that says
    /// so is refused. One that hides it cannot be told from a person: `--require-keys` is for behind such a one. Nor is a page of
    /// another origin somebody who is here, whoever allows it to be shown answers.
    pub(super) fn is_here(self, headers: &HeaderMap) -> Result<(), NotHere> {
        if !self.loopback || self.without_key == WithoutKey::Never {
            return Err(NotHere::Closed);
        }
        let forwarded = |name: &HeaderName| FORWARDING.contains(&name.as_str()) || name.as_str().starts_with(FORWARDED);
        if headers.keys().any(forwarded) {
            return Err(NotHere::Proxied);
        }
        let host = headers.get(HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
        if !names_loopback(host) {
            return Err(NotHere::OtherName);
        }
        if is_own_origin(headers) { Ok(()) } else { Err(NotHere::OtherPage) }
    }
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

    use super::{Door, NotHere, WithoutKey, names_loopback};

    const HERE: Door = Door { loopback: true, without_key: WithoutKey::Always };

    #[test]
    fn only_a_name_of_this_machine_is_let_in() {
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
        assert_eq!(HERE.is_here(&headers), Err(NotHere::OtherName), "no host at all");
        headers.insert("host", HeaderValue::from_static("localhost:8080"));
        assert_eq!(HERE.is_here(&headers), Ok(()));
        let elsewhere = Door { loopback: false, ..HERE };
        assert_eq!(
            elsewhere.is_here(&headers),
            Err(NotHere::Closed),
            "whatever the client says, paylog listens elsewhere"
        );
        let closed = Door { without_key: WithoutKey::Never, ..HERE };
        assert_eq!(closed.is_here(&headers), Err(NotHere::Closed));
    }

    #[test]
    fn a_page_of_another_origin_is_nobody_who_is_here() {
        let mut headers = HeaderMap::new();
        headers.insert("host", HeaderValue::from_static("localhost:8080"));
        for (origin, here) in [
            ("http://localhost:8080", Ok(())),
            ("http://localhost:3000", Err(NotHere::OtherPage)),
            ("http://127.0.0.1:8080", Err(NotHere::OtherPage)),
            ("https://shop.example", Err(NotHere::OtherPage)),
            ("null", Err(NotHere::OtherPage)),
        ] {
            headers.insert("origin", HeaderValue::from_static(origin));
            assert_eq!(HERE.is_here(&headers), here, "{origin}");
        }
    }

    #[test]
    fn what_comes_through_a_proxy_on_this_machine_is_not_let_in() {
        for name in ["Forwarded", "Via", "X-Real-IP", "X-Forwarded-For", "X-Forwarded-Host", "X-Forwarded-Proto"] {
            let mut headers = HeaderMap::new();
            headers.insert("host", HeaderValue::from_static("127.0.0.1:8080"));
            assert_eq!(HERE.is_here(&headers), Ok(()));
            headers.insert(HeaderName::try_from(name).unwrap(), HeaderValue::from_static(""));
            assert_eq!(HERE.is_here(&headers), Err(NotHere::Proxied), "{name}");
        }
    }
}
