//! One connection: what it speaks, and how it ends.

use std::convert::Infallible;
use std::pin::pin;
use std::sync::Arc;

use hyper::body::Incoming;
use hyper::header::{HOST, HeaderValue, UPGRADE};
use hyper::server::conn::{http1, http2};
use hyper::service::{Service, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpStream;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use warp::http::Request;
use warp::reply::Response;

use super::Limits;
use super::body::TimedBody;
use super::multiplexed::{self, Activity, Answering};
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
    http2: http2::Builder<Answering>,
    service: S,
    pub(super) limits: Limits,
    shutdown: CancellationToken,
    /// Ends every connection at once, at the end of the drain.
    pub(super) end: CancellationToken,
}

impl<S> Server<S>
where
    S: Service<Request<TimedBody>, Response = Response, Error = Infallible> + Send + Sync + 'static,
    S::Future: Send,
{
    pub(super) fn new(service: S, limits: Limits, shutdown: CancellationToken) -> Arc<Self> {
        let mut http1 = http1::Builder::new();
        http1
            .timer(TokioTimer::new())
            .header_read_timeout(limits.head_wait)
            .max_buf_size(limits.header_bytes.max(8192));
        let http2 = multiplexed::builder(&limits);
        Arc::new(Self { http1, http2, service, limits, shutdown, end: CancellationToken::new() })
    }

    /// What is kept for a connection is kept for each of thousands: one pointer to what they share.
    pub(super) fn spawn(self: &Arc<Self>, socket: TcpStream, place: OwnedSemaphorePermit) {
        // Without it a short frame waits for the acknowledgement of the one before.
        let _ = socket.set_nodelay(true);
        let io = StallIo::new(socket, place, self.limits.write_stall);
        let server = Arc::clone(self);
        tokio::spawn(async move {
            let ended = server.end.clone();
            tokio::select! {
                () = server.serve(io) => {}
                () = ended.cancelled() => {}
            }
        });
    }

    /// How a client left, before or after it said something, is its own affair.
    async fn serve(self: Arc<Self>, mut io: StallIo) {
        let protocol = tokio::select! {
            biased;
            protocol = timeout(self.limits.head_wait, io.protocol()) => protocol,
            () = self.shutdown.cancelled() => return,
        };
        match protocol {
            Ok(Ok(Protocol::Http1)) => self.http1(io).await,
            // Apart, for it is large, and most connections are not of it.
            Ok(Ok(Protocol::Http2)) => Box::pin(self.http2(io)).await,
            Ok(Err(_)) | Err(_) => {}
        }
    }

    async fn http1(self: Arc<Self>, io: StallIo) {
        let server = Arc::clone(&self);
        let service = service_fn(move |mut request: Request<Incoming>| {
            if request.headers().contains_key(UPGRADE) {
                request.extensions_mut().insert(Lifetime(server.end.clone()));
            }
            server.call(request)
        });
        let mut connection = pin!(self.http1.serve_connection(TokioIo::new(io), service).with_upgrades());
        tokio::select! {
            _ = connection.as_mut() => return,
            () = self.shutdown.cancelled() => connection.as_mut().graceful_shutdown(),
        }
        let _ = connection.await;
    }

    async fn http2(self: Arc<Self>, io: StallIo) {
        let activity = Activity::default();
        let (server, watched) = (Arc::clone(&self), activity.clone());
        let service = service_fn(move |mut request: Request<Incoming>| {
            name_host(&mut request);
            watched.during(server.call(request))
        });
        let connection = self.http2.serve_connection(TokioIo::new(io), service);
        multiplexed::drive(connection, activity, &self.limits, &self.shutdown).await;
    }

    fn call(&self, request: Request<Incoming>) -> S::Future {
        self.service.call(request.map(|body| TimedBody::new(body, self.limits.body_wait)))
    }
}

/// HTTP/2 says in the target of a request what HTTP/1.1 says in `Host` (RFC 9113, 8.3.1). Routes look at one place.
fn name_host(request: &mut Request<Incoming>) {
    let authority = request.uri().authority().and_then(|authority| HeaderValue::from_str(authority.as_str()).ok());
    if let Some(host) = authority {
        request.headers_mut().insert(HOST, host);
    }
}
