//! Entity tags (RFC 9110, 8.8.3): the version of a payment, in quotes.

use warp::http::header::{ETAG, IF_NONE_MATCH};
use warp::http::{HeaderMap, HeaderValue};
use warp::reply::Response;

use super::header_value;
use crate::contract::VersionId;
use crate::journal::LogId;

/// What the client says it has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Known {
    /// This version, and none that is newer.
    Version(u64),
    /// Whatever there is (`*`).
    Any,
}

/// The newest version of this log in `If-None-Match`. Tags of another log, or not of ours, match nothing.
pub(super) fn known(headers: &HeaderMap, log: LogId) -> Option<Known> {
    let values = headers.get_all(IF_NONE_MATCH).iter().filter_map(|value| value.to_str().ok());
    let tags: Vec<&str> = values.flat_map(|value| value.split(',')).map(str::trim).collect();
    if tags.contains(&"*") {
        return Some(Known::Any);
    }
    let version = |tag: &&str| {
        let opaque = tag.strip_prefix("W/").unwrap_or(tag).strip_prefix('"')?.strip_suffix('"')?;
        VersionId::decode(opaque, log).ok()
    };
    tags.iter().filter_map(version).max().map(Known::Version)
}

/// A tag that must not be served from a cache without asking: the payment may have moved on.
pub(super) fn set(response: &mut Response, id: VersionId) {
    let headers = response.headers_mut();
    headers.insert(ETAG, header_value(&format!("\"{id}\"")));
    headers.insert(warp::http::header::CACHE_CONTROL, HeaderValue::from_static("private, no-cache"));
}

#[cfg(test)]
mod tests {
    use warp::http::{HeaderMap, HeaderValue};

    use super::Known;
    use crate::journal::LogId;

    #[test]
    fn the_newest_tag_of_this_log_counts() {
        let known = |value: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert("if-none-match", HeaderValue::from_static(value));
            super::known(&headers, LogId([7; 16]))
        };
        assert_eq!(known("\"07070707.3\""), Some(Known::Version(3)));
        assert_eq!(known("W/\"07070707.3\", \"07070707.5\" ,\"x\""), Some(Known::Version(5)));
        assert_eq!(known("*"), Some(Known::Any));
        for other in ["\"08080808.3\"", "07070707.3", "\"\"", "", "\"07070707.3"] {
            assert_eq!(known(other), None, "{other}");
        }
    }
}
