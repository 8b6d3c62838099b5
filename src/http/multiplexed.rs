//! Many requests on one connection (HTTP/2). What ends one of HTTP/1.1 by the nature of it has to be looked after here: a
//! connection on which nothing is asked any more, an answer that nobody reads although the connection lives, and one that
//! has become old.

use std::cell::Cell;
use std::convert::Infallible;
use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use hyper::body::{Body, Frame, SizeHint};
use hyper::rt::Executor;
use hyper::server::conn::http2;
use hyper_util::rt::TokioTimer;
use hyper_util::server::graceful::GracefulConnection;
use tokio::sync::watch;
use tokio::time::{Instant, Sleep, sleep, sleep_until};
use tokio_util::sync::CancellationToken;
use warp::http::Response;

use super::Limits;

/// What is kept for one answer that is read slowly.
const ANSWER_BUFFER_BYTES: usize = 64 * 1024;
/// How often a silent client is asked whether it is there, and how long it has to answer.
const PING_EVERY: Duration = Duration::from_secs(15);
const PING_WAIT: Duration = Duration::from_secs(15);

tokio::task_local! {
    /// When the answer that this task sends last gave something that has not been taken yet.
    static GIVEN: Cell<Option<Instant>>;
}

/// Sends each answer in a task of its own, for as long as it is taken.
#[derive(Clone)]
pub(super) struct Answering {
    patience: Duration,
}

impl<F> Executor<F> for Answering
where
    F: Future + Send + 'static,
{
    fn execute(&self, answer: F) {
        tokio::spawn(GIVEN.scope(Cell::new(None), while_taken(answer, self.patience)));
    }
}

/// An answer that ends before its end is reset (RST_STREAM), and what is kept of it let go. The others on its connection go
/// on: that it lives at all is for the pings to find out, and for the socket.
async fn while_taken(answer: impl Future, patience: Duration) {
    let (mut answer, mut clock) = (pin!(answer), None::<Pin<Box<Sleep>>>);
    poll_fn(|cx| {
        if answer.as_mut().poll(cx).is_ready() {
            return Poll::Ready(());
        }
        let Some(over) = GIVEN.with(Cell::get).map(|since| since + patience) else {
            clock = None;
            return Poll::Pending;
        };
        let clock = clock.get_or_insert_with(|| Box::pin(sleep_until(over)));
        if clock.deadline() != over {
            clock.as_mut().reset(over);
        }
        clock.as_mut().poll(cx)
    })
    .await;
}

pub(super) fn builder(limits: &Limits) -> http2::Builder<Answering> {
    let mut builder = http2::Builder::new(Answering { patience: limits.write_stall });
    builder
        .timer(TokioTimer::new())
        .max_concurrent_streams(limits.requests_at_once)
        .max_header_list_size(u32::try_from(limits.header_bytes).unwrap_or(u32::MAX))
        .max_send_buf_size(ANSWER_BUFFER_BYTES)
        .keep_alive_interval(PING_EVERY)
        .keep_alive_timeout(PING_WAIT);
    builder
}

/// What is going on on one connection: how many requests are not answered to the end.
#[derive(Clone)]
pub(super) struct Activity(Arc<watch::Sender<u64>>);

impl Default for Activity {
    fn default() -> Self {
        Self(Arc::new(watch::channel(0).0))
    }
}

/// One request, for as long as it is not answered to the end.
struct Open(Activity);

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
        async move { Ok(answer.await?.map(|body| Answer { body, _open: open })) }
    }

    /// Returns when nothing has been asked for so long.
    async fn idle(&self, wait: Duration) {
        let mut open = self.0.subscribe();
        loop {
            // The sender is in `self`, so that these wait for nothing else.
            let _ = open.wait_for(|open| *open == 0).await;
            if tokio::time::timeout(wait, open.wait_for(|open| *open > 0)).await.is_err() {
                return;
            }
        }
    }
}

impl Open {
    fn new(activity: Activity) -> Self {
        activity.0.send_modify(|open| *open += 1);
        Self(activity)
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.0.send_modify(|open| *open -= 1);
    }
}

/// The body of an answer. It is asked for more when what it gave has gone on its way, whole or to the last piece of it, and
/// not while its reader has room for nothing: what it gave is then waiting.
pub(super) struct Answer<B> {
    body: B,
    _open: Open,
}

impl<B: Body + Unpin> Body for Answer<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<B::Data>, B::Error>>> {
        let frame = Pin::new(&mut self.body).poll_frame(cx);
        let given = matches!(frame, Poll::Ready(Some(Ok(_)))).then(Instant::now);
        // It is polled by the task that sends it.
        let _ = GIVEN.try_with(|since| since.set(given));
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
    limits: &Limits,
    shutdown: &CancellationToken,
) {
    let mut connection = pin!(connection);
    let age = limits.connection_age.mul_f64(rand::random_range(0.8..1.0));
    tokio::select! {
        _ = connection.as_mut() => return,
        () = shutdown.cancelled() => {}
        () = sleep(age) => {}
        () = activity.idle(limits.head_wait) => {}
    }
    connection.as_mut().graceful_shutdown();
    tokio::select! {
        _ = connection.as_mut() => {}
        // Of answers that were given whole, and which nobody takes.
        () = activity.idle(limits.write_stall) => {}
    }
}
