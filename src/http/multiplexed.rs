//! Many requests on one connection (HTTP/2). What ends one of HTTP/1.1 by the nature of it has to be looked after here: a
//! connection on which nothing is asked any more, an answer that nobody reads although the connection lives, and one that
//! has become old.

use std::collections::HashMap;
use std::convert::Infallible;
use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use hyper::body::{Body, Frame, SizeHint};
use hyper::server::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use hyper_util::server::graceful::GracefulConnection;
use tokio::sync::watch;
use tokio::time::{Instant, interval, sleep};
use tokio_util::sync::CancellationToken;
use warp::http::Response;

use super::Limits;

/// What is kept for one answer that is read slowly.
const ANSWER_BUFFER_BYTES: usize = 64 * 1024;
/// How often a silent client is asked whether it is there, and how long it has to answer.
const PING_EVERY: Duration = Duration::from_secs(15);
const PING_WAIT: Duration = Duration::from_secs(15);
/// A connection is looked at so many times before its patience is over.
const LOOKS: u32 = 10;

pub(super) fn builder(limits: &Limits) -> http2::Builder<TokioExecutor> {
    let mut builder = http2::Builder::new(TokioExecutor::new());
    builder
        .timer(TokioTimer::new())
        .max_concurrent_streams(limits.requests_at_once)
        .max_header_list_size(u32::try_from(limits.header_bytes).unwrap_or(u32::MAX))
        .max_send_buf_size(ANSWER_BUFFER_BYTES)
        .keep_alive_interval(PING_EVERY)
        .keep_alive_timeout(PING_WAIT);
    builder
}

/// What is going on on one connection.
#[derive(Clone, Default)]
pub(super) struct Activity(Arc<State>);

struct State {
    /// Requests that are not answered to the end.
    open: watch::Sender<u64>,
    /// When an answer last gave something that has not been taken yet.
    given: Mutex<Given>,
}

#[derive(Default)]
struct Given {
    next: u64,
    since: HashMap<u64, Instant>,
}

impl Default for State {
    fn default() -> Self {
        Self { open: watch::channel(0).0, given: Mutex::default() }
    }
}

/// One request, for as long as it is not answered to the end.
struct Open {
    activity: Activity,
    number: u64,
}

impl Activity {
    /// Counts a request from now until the end of its answer.
    pub(super) fn during<F, B>(
        &self,
        answer: F,
    ) -> impl Future<Output = Result<Response<Answer<B>>, Infallible>> + use<F, B>
    where
        F: Future<Output = Result<Response<B>, Infallible>>,
    {
        let open = Open::new(self.clone());
        async move { Ok(answer.await?.map(|body| Answer { body, open })) }
    }

    /// Returns when nothing has been asked for so long.
    async fn idle(&self, wait: Duration) {
        let mut open = self.0.open.subscribe();
        loop {
            // The sender is in `self`, so that these wait for nothing else.
            let _ = open.wait_for(|open| *open == 0).await;
            if tokio::time::timeout(wait, open.wait_for(|open| *open > 0)).await.is_err() {
                return;
            }
        }
    }

    /// Returns when something has not been taken for so long.
    async fn stalled(&self, patience: Duration) {
        let every = (patience / LOOKS).max(Duration::from_millis(1));
        let mut looks = interval(every);
        loop {
            looks.tick().await;
            if self.given().since.values().any(|since| since.elapsed() + every >= patience) {
                return;
            }
        }
    }

    fn given(&self) -> MutexGuard<'_, Given> {
        self.0.given.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Open {
    fn new(activity: Activity) -> Self {
        activity.0.open.send_modify(|open| *open += 1);
        let mut given = activity.given();
        given.next += 1;
        let number = given.next;
        drop(given);
        Self { activity, number }
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.activity.given().since.remove(&self.number);
        self.activity.0.open.send_modify(|open| *open -= 1);
    }
}

/// The body of an answer. It is asked for more only when its reader has room for more.
pub(super) struct Answer<B> {
    body: B,
    open: Open,
}

impl<B: Body + Unpin> Body for Answer<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<B::Data>, B::Error>>> {
        let number = self.open.number;
        let frame = Pin::new(&mut self.body).poll_frame(cx);
        let mut given = self.open.activity.given();
        match frame {
            Poll::Ready(Some(Ok(_))) => drop(given.since.insert(number, Instant::now())),
            _ => drop(given.since.remove(&number)),
        }
        drop(given);
        frame
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// Serves it until it ends, or is to be ended.
pub(super) async fn drive(
    connection: impl GracefulConnection,
    activity: Activity,
    limits: Limits,
    shutdown: CancellationToken,
) {
    let mut connection = pin!(connection);
    let age = limits.connection_age.mul_f64(rand::random_range(0.8..1.0));
    tokio::select! {
        _ = connection.as_mut() => return,
        () = activity.stalled(limits.write_stall) => return,
        () = shutdown.cancelled() => {}
        () = sleep(age) => {}
        () = activity.idle(limits.head_wait) => {}
    }
    connection.as_mut().graceful_shutdown();
    let nothing_left = async {
        activity.idle(limits.write_stall).await;
    };
    tokio::select! {
        _ = connection.as_mut() => {}
        () = activity.stalled(limits.write_stall) => {}
        // Of answers that were given whole, and which nobody takes.
        () = nothing_left => {}
    }
}
