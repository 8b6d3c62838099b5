//! Bodies of requests: at most so many bytes, in at most so much time.

use std::collections::BTreeMap;
use std::error::Error as StdError;
use std::future::Future;
use std::pin::{Pin, pin};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use futures_util::{Stream, StreamExt};
use hyper::body::{Body, Frame, Incoming, SizeHint};
use serde::de::IgnoredAny;
use tokio::time::{Sleep, sleep};
use warp::http::header::CONNECTION;
use warp::http::{HeaderValue, StatusCode};

use crate::http::Problem;

/// How much of a body that is too long is read and thrown away. A connection closed over unread bytes is reset, and with
/// the reset the client may lose the answer that says why.
const DISCARD_MAX_BYTES: usize = 256 * 1024;

type BoxError = Box<dyn StdError + Send + Sync>;

/// A body whose end must come in time.
pub(super) struct TimedBody {
    body: Incoming,
    wait: Duration,
    /// Set at the first wait: most bodies come with their heads.
    clock: Option<Pin<Box<Sleep>>>,
}

#[derive(Debug, thiserror::Error)]
#[error("the body did not end in time")]
struct Late;

impl TimedBody {
    pub(super) fn new(body: Incoming, wait: Duration) -> Self {
        Self { body, wait, clock: None }
    }
}

impl Body for TimedBody {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        if let Poll::Ready(frame) = Pin::new(&mut self.body).poll_frame(cx) {
            return Poll::Ready(frame.map(|frame| frame.map_err(BoxError::from)));
        }
        let wait = self.wait;
        let clock = self.clock.get_or_insert_with(|| Box::pin(sleep(wait)));
        clock.as_mut().poll(cx).map(|()| Some(Err(Late.into())))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// All of a body, with or without a declared length. 413 over `max_bytes`, 408 if it does not come, 400 if it breaks off.
pub async fn read_body<S, B>(body: S, max_bytes: usize) -> Result<Bytes, Problem>
where
    S: Stream<Item = Result<B, warp::Error>>,
    B: Buf,
{
    let mut body = pin!(body);
    let mut bytes = BytesMut::new();
    let mut seen = 0;
    while let Some(piece) = body.next().await {
        let mut piece = piece.map_err(|e| unreadable(&e))?;
        seen += piece.remaining();
        if seen > max_bytes.max(DISCARD_MAX_BYTES) {
            break;
        }
        if seen <= max_bytes {
            bytes.extend_from_slice(&piece.copy_to_bytes(piece.remaining()));
        }
    }
    if seen > max_bytes {
        let detail = format!("the body must be at most {max_bytes} bytes");
        let too_large = Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "body_too_large", detail);
        return Err(match seen > DISCARD_MAX_BYTES {
            // Of what was not read the connection ends: whoever keeps it for the next request must hear so (RFC 9112, 9.6).
            true => too_large.header(CONNECTION, HeaderValue::from_static("close")),
            false => too_large,
        });
    }
    Ok(bytes.freeze())
}

fn unreadable(error: &warp::Error) -> Problem {
    let mut cause: Option<&(dyn StdError + 'static)> = Some(error);
    while let Some(e) = cause {
        if e.is::<Late>() {
            return Problem::new(StatusCode::REQUEST_TIMEOUT, "body_timeout", "the body did not arrive in time");
        }
        cause = e.source();
    }
    Problem::new(StatusCode::BAD_REQUEST, "body_unreadable", "the body broke off or is not well framed")
}

/// What is asked for by an object of JSON, and by nothing else: the library takes a list of an object's values in their order for
/// the object too, and an empty one for all that has defaults.
pub fn read_object<T: serde::de::DeserializeOwned>(body: &[u8]) -> serde_json::Result<T> {
    match body.iter().find(|byte| !byte.is_ascii_whitespace()) {
        // Its own error says where.
        Some(b'[') => serde_json::from_slice::<BTreeMap<String, IgnoredAny>>(body)
            .and_then(|_| Err(serde::de::Error::custom("a list is no object"))),
        _ => serde_json::from_slice(body),
    }
}

#[cfg(test)]
mod tests {
    use super::read_object;

    #[derive(Debug, serde::Deserialize)]
    struct Asked {
        #[serde(default)]
        id: u8,
    }

    #[test]
    fn a_list_is_no_object_and_it_is_said_where() {
        assert_eq!(read_object::<Asked>(b" {\"id\":7}").unwrap().id, 7);
        for list in [&b"[]"[..], b"\n\n [7]"] {
            let error = read_object::<Asked>(list).unwrap_err();
            let line = list.iter().filter(|byte| **byte == b'\n').count() + 1;
            assert_eq!(error.line(), line, "{error}");
        }
    }
}
