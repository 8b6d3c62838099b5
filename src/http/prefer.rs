//! `Prefer: wait=N` (RFC 7240, 4.3). What cannot be understood is ignored, as that standard asks.

use std::time::Duration;

use warp::http::{HeaderMap, HeaderName, HeaderValue};
use warp::reply::Response;

/// The longest wait, in seconds.
const WAIT_MAX_S: u64 = 60;

const APPLIED: HeaderName = HeaderName::from_static("preference-applied");

/// How long the client is ready to wait, if it said so. The first `wait` counts.
#[must_use]
pub fn wait(headers: &HeaderMap) -> Option<Duration> {
    let values = headers.get_all("prefer").iter().filter_map(|value| value.to_str().ok());
    let mut waits = values.flat_map(|value| value.split(',')).filter_map(|preference| {
        let (name, value) = preference.split(';').next()?.split_once('=')?;
        name.trim().eq_ignore_ascii_case("wait").then_some(value.trim())
    });
    let seconds = waits.next()?;
    let seconds = seconds.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')).unwrap_or(seconds);
    if seconds.is_empty() || !seconds.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    // More digits than fit are more than enough seconds.
    Some(Duration::from_secs(seconds.parse().unwrap_or(WAIT_MAX_S).min(WAIT_MAX_S)))
}

/// Says that the wait was honoured, and which.
pub fn applied(response: &mut Response, wait: Duration) {
    if let Ok(value) = HeaderValue::from_str(&format!("wait={}", wait.as_secs())) {
        response.headers_mut().insert(APPLIED, value);
    }
}

#[cfg(test)]
mod tests {
    use warp::http::{HeaderMap, HeaderValue};

    fn wait(values: &[&'static str]) -> Option<u64> {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append("prefer", HeaderValue::from_static(value));
        }
        super::wait(&headers).map(|wait| wait.as_secs())
    }

    #[test]
    fn a_wait_is_found_among_other_preferences() {
        assert_eq!(wait(&["wait=10"]), Some(10));
        assert_eq!(wait(&["respond-async, WAIT = 10"]), Some(10));
        assert_eq!(wait(&["return=minimal; foo=\"bar\"", "wait=\"5\"; x"]), Some(5));
        assert_eq!(wait(&["wait=0"]), Some(0));
        assert_eq!(wait(&["wait=61"]), Some(60));
        assert_eq!(wait(&["wait=99999999999999999999999"]), Some(60));
        assert_eq!(wait(&["wait=1, wait=2"]), Some(1), "the first counts");
    }

    #[test]
    fn what_is_no_wait_is_ignored() {
        for bad in ["", "wait", "wait=", "wait=-1", "wait=1.5", "wait=ten", "waits=1", "wait=+1", "x=wait"] {
            assert_eq!(wait(&[bad]), None, "{bad}");
        }
        assert_eq!(wait(&[]), None);
    }
}
