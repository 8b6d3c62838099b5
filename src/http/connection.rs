//! One connection: what it speaks, and how it ends.

use std::convert::Infallible;
use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::task::Poll;
use std::time::Duration;

use futures_util::FutureExt;
use hyper::body::Incoming;
use hyper::header::{HOST, HeaderValue, UPGRADE};
use hyper::server::conn::{http1, http2};
use hyper::service::{Service, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use warp::http::Request;
use warp::reply::Response;

use super::Limits;
use super::body::TimedBody;
use super::endless::{self, Senders, Sending};
use super::multiplexed::{self, Activity, Answering};
use super::places::Place;
use super::stall::{Protocol, StallIo};

use crate::lock::lock;

/// Of a connection that a request may take over (`Upgrade`): where whoever does runs, and until when. Among the extensions of
/// such a request.
#[derive(Clone)]
pub struct Lifetime {
    senders: Arc<Senders>,
    end: CancellationToken,
}

impl Lifetime {
    /// Runs beside the streams, until it is done or the server ends whatever is still open.
    pub fn spawn(self, taken_over: impl Future<Output = ()> + Send + 'static) {
        let Self { senders, end } = self;
        senders.spawn(async move {
            tokio::select! {
                () = taken_over => {}
                () = end.cancelled() => {}
            }
        });
    }
}

pub(super) struct Server<S> {
    http1: http1::Builder,
    http2: http2::Builder<Answering>,
    service: S,
    pub(super) limits: Limits,
    senders: Arc<Senders>,
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
        let (senders, end) = (Arc::default(), CancellationToken::new());
        Arc::new(Self { http1, http2, service, limits, senders, shutdown, end })
    }

    /// What is kept for a connection is kept for each of thousands: one pointer to what they share.
    pub(super) fn spawn(self: &Arc<Self>, socket: TcpStream, place: Place) {
        // Without it a short frame waits for the acknowledgement of the one before.
        let _ = socket.set_nodelay(true);
        notice_silence(&socket, self.limits.write_stall);
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
        let (server, unsent) = (Arc::clone(&self), io.unsent());
        let endless = Arc::new(Mutex::new(None));
        let answered = Arc::clone(&endless);
        let service = service_fn(move |mut request: Request<Incoming>| {
            if request.headers().contains_key(UPGRADE) {
                request.extensions_mut().insert(server.lifetime());
            }
            let (answer, answered) = (server.call(request), Arc::clone(&answered));
            async move {
                let mut response = answer.await?;
                if let Some(sending) = Sending::of(&mut response) {
                    *lock(&answered) = Some(sending);
                    std::future::pending::<()>().await;
                }
                Ok::<_, Infallible>(response)
            }
        });
        let mut connection = self.http1.serve_connection(TokioIo::new(io), service).with_upgrades();
        let mut shutdown = pin!(self.shutdown.cancelled().fuse());
        let sending = poll_fn(|cx| {
            if shutdown.as_mut().poll(cx).is_ready() {
                Pin::new(&mut connection).graceful_shutdown();
            }
            if Pin::new(&mut connection).poll(cx).is_ready() {
                return Poll::Ready(None);
            }
            // Answers before this one may still be on their way: hyper is woken when the socket takes more of them.
            match lock(&endless).take_if(|_| !unsent.load(Ordering::Relaxed)) {
                Some(sending) => Poll::Ready(Some(sending)),
                None => Poll::Pending,
            }
        });
        if let Some(sending) = sending.await
            && let Some(parts) = connection.into_parts()
        {
            self.lifetime().spawn(sending.run(parts.io.into_inner()));
        }
    }

    async fn http2(self: Arc<Self>, io: StallIo) {
        let activity = Activity::default();
        let (server, watched) = (Arc::clone(&self), activity.clone());
        let service = service_fn(move |mut request: Request<Incoming>| {
            name_host(&mut request);
            let answer = server.call(request);
            watched.during(async { answer.await.map(endless::as_body) })
        });
        let connection = self.http2.serve_connection(TokioIo::new(io), service);
        multiplexed::drive(connection, activity, &self.limits, &self.shutdown).await;
    }

    fn lifetime(&self) -> Lifetime {
        Lifetime { senders: Arc::clone(&self.senders), end: self.end.clone() }
    }

    fn call(&self, request: Request<Incoming>) -> S::Future {
        self.service.call(request.map(|body| TimedBody::new(body, self.limits.body_wait)))
    }
}

/// Closes a connection whose client takes nothing of what was sent for so long (RFC 9293, 3.9.1, user timeout), be it that the
/// host has vanished: the kernel by itself would try for a quarter of an hour. Elsewhere it does.
fn notice_silence(socket: &TcpStream, patience: Duration) {
    #[cfg(target_os = "linux")]
    let _ = rustix::net::sockopt::set_tcp_user_timeout(socket, u32::try_from(patience.as_millis()).unwrap_or(u32::MAX));
    #[cfg(not(target_os = "linux"))]
    let _ = (socket, patience);
}

/// HTTP/2 says in the target of a request what HTTP/1.1 says in `Host` (RFC 9113, 8.3.1). Routes look at one place.
fn name_host(request: &mut Request<Incoming>) {
    let authority = request.uri().authority().and_then(|authority| HeaderValue::from_str(authority.as_str()).ok());
    if let Some(host) = authority {
        request.headers_mut().insert(HOST, host);
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use std::time::Duration;

    use tokio::net::{TcpListener, TcpStream};

    /// That it then ends is the kernel's: a host that vanishes cannot be had on one machine without being root.
    #[tokio::test]
    async fn the_kernel_is_told_how_long_a_client_may_be_silent() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (client, accepted) = tokio::join!(TcpStream::connect(listener.local_addr().unwrap()), listener.accept());
        let (_client, (socket, _)) = (client.unwrap(), accepted.unwrap());
        super::notice_silence(&socket, Duration::from_secs(30));
        assert_eq!(rustix::net::sockopt::tcp_user_timeout(&socket).unwrap(), 30_000);
    }
}
