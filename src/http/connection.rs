//! One connection: what it speaks, and how it ends.

use std::convert::Infallible;
use std::future::Future;
use std::pin::pin;

use hyper::body::Incoming;
use hyper::header::UPGRADE;
use hyper::server::conn::{http1, http2};
use hyper::service::{Service, service_fn};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::net::TcpStream;
use tokio::sync::OwnedSemaphorePermit;
use tokio_util::sync::CancellationToken;
use warp::http::Request;
use warp::reply::Response;

use super::Limits;
use super::body::TimedBody;
use super::multiplexed::{self, Activity};
use super::stall::{Protocol, StallIo};

/// Of a connection that a request may take over (`Upgrade`): who does must end when it does. Among the extensions of such a
/// request.
#[derive(Clone)]
pub struct Lifetime(CancellationToken);

impl Lifetime {
    /// Returns when the server ends whatever is still open.
    pub async fn ended(&self) {
        self.0.cancelled().await;
    }
}

pub(super) struct Server<S> {
    http1: http1::Builder,
    http2: http2::Builder<TokioExecutor>,
    service: S,
    pub(super) limits: Limits,
    shutdown: CancellationToken,
    /// Ends every connection at once, at the end of the drain.
    pub(super) end: CancellationToken,
}

impl<S> Server<S>
where
    S: Service<Request<TimedBody>, Response = Response, Error = Infallible> + Clone + Send + Sync + 'static,
    S::Future: Send,
{
    pub(super) fn new(service: S, limits: Limits, shutdown: CancellationToken) -> Self {
        let mut http1 = http1::Builder::new();
        http1
            .timer(TokioTimer::new())
            .header_read_timeout(limits.head_wait)
            .max_buf_size(limits.header_bytes.max(8192));
        let http2 = multiplexed::builder(&limits);
        Self { http1, http2, service, limits, shutdown, end: CancellationToken::new() }
    }

    pub(super) fn spawn(&self, socket: TcpStream, place: OwnedSemaphorePermit) {
        // Without it a short frame waits for the acknowledgement of the one before.
        let _ = socket.set_nodelay(true);
        let serve = self.serve(StallIo::new(socket, place, self.limits.write_stall));
        let end = self.end.clone();
        tokio::spawn(async move {
            tokio::select! {
                () = serve => {}
                () = end.cancelled() => {}
            }
        });
    }

    fn serve(&self, mut io: StallIo) -> impl Future<Output = ()> + Send + use<S> {
        let (http1, http2, service) = (self.http1.clone(), self.http2.clone(), self.service.clone());
        let (limits, shutdown, lifetime) = (self.limits.clone(), self.shutdown.clone(), Lifetime(self.end.clone()));
        let (head_wait, body_wait) = (limits.head_wait, limits.body_wait);
        async move {
            let protocol = tokio::select! {
                biased;
                protocol = tokio::time::timeout(head_wait, io.protocol()) => protocol,
                () = shutdown.cancelled() => return,
            };
            // How a client left, before or after, is its own affair.
            let Ok(Ok(protocol)) = protocol else { return };
            match protocol {
                Protocol::Http1 => {
                    let service = service_fn(move |mut request: Request<Incoming>| {
                        if request.headers().contains_key(UPGRADE) {
                            request.extensions_mut().insert(lifetime.clone());
                        }
                        service.call(request.map(|body| TimedBody::new(body, body_wait)))
                    });
                    let mut connection = pin!(http1.serve_connection(TokioIo::new(io), service).with_upgrades());
                    tokio::select! {
                        _ = connection.as_mut() => return,
                        () = shutdown.cancelled() => connection.as_mut().graceful_shutdown(),
                    }
                    let _ = connection.await;
                }
                // Apart, for it is large, and most connections are not of it.
                Protocol::Http2 => {
                    let activity = Activity::default();
                    let watched = activity.clone();
                    let service = service_fn(move |request: Request<Incoming>| {
                        watched.during(service.call(request.map(|body| TimedBody::new(body, body_wait))))
                    });
                    let connection = http2.serve_connection(TokioIo::new(io), service);
                    Box::pin(multiplexed::drive(connection, activity, limits, shutdown)).await;
                }
            }
        }
    }
}
