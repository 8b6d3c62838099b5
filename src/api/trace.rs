//! The trace that a request is part of.

use warp::http::HeaderMap;

use crate::schema::traceparent;

/// The one that it came with, if there is one and it is valid; else a new one.
pub(super) fn parent(headers: &HeaderMap) -> String {
    let mut given = headers.get_all("traceparent").iter();
    match (given.next(), given.next()) {
        (Some(parent), None) => traceparent(parent.to_str().ok()),
        _ => traceparent(None),
    }
}

#[cfg(test)]
mod tests {
    use warp::http::{HeaderMap, HeaderValue};

    use super::parent;

    #[test]
    fn a_valid_parent_is_kept_unless_there_are_two() {
        let good = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        let mut headers = HeaderMap::new();
        assert_ne!(parent(&headers), parent(&headers), "new ones");
        headers.append("traceparent", HeaderValue::from_static(good));
        assert_eq!(parent(&headers), good);
        headers.append("traceparent", HeaderValue::from_static(good));
        assert_ne!(parent(&headers), good);
    }
}
