//! Serving HTTP: the sockets, their limits, and how they end. It knows nothing of payments; routes come from outside, and
//! what a route may not do by itself (hold a connection for ever) is prevented here.
//!
//! warp's own server sets no timeout and cannot be told to (measured: `research/sse-serving.md`), so `warp::service` runs
//! under an accept loop of ours. Every wait for a client ends: for its head, for its body, and for it to read what it
//! asked for. A stream of events may last, but only while its reader reads. HTTP/1.1 and, of clients that begin with it,
//! HTTP/2, under the same limits.

mod body;
mod connection;
mod endless;
mod multiplexed;
mod origins;
mod places;
pub mod prefer;
mod problem;
mod query;
mod stall;

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio_util::sync::CancellationToken;
use warp::Filter;
use warp::filters::BoxedFilter;
use warp::reply::Response;

pub use body::{read_body, read_object};
pub use connection::Lifetime;
pub use endless::endless;
pub use origins::{BadOrigin, Origin, Origins, is_own_origin};
pub use problem::{Problem, ProblemBody, recover};
pub use query::{Query, page_limit, query};

use crate::telemetry::{self, Seldom};
use connection::Server;
use places::Places;

/// How much the kernel keeps for one slow reader. Left to itself it takes 4 MiB each, and a reader that has stopped is
/// noticed only when that is full.
const SEND_BUFFER_BYTES: u32 = 64 * 1024;
/// Connections that the kernel holds for us until we accept them.
const BACKLOG: u32 = 1024;
/// After an accept that failed for want of something (file handles, memory), so that the loop does not spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// What one client, and all of them together, may take.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Open connections, streams among them: this is what bounds the number of streams. One more is closed at once.
    pub connections: usize,
    /// Open connections of one address (of IPv6: of one /64), other than this machine itself. One more is closed at once.
    pub connections_each: usize,
    /// The request line and all headers; more is answered with 431. hyper needs 8192 at least.
    pub header_bytes: usize,
    /// From a connection's last answer, or its beginning, to the end of the next head. It also is how long an idle
    /// connection is kept, so it is longer than the 60 s of most load balancers: the side that has requests to send must be
    /// the one that closes, or it sends one into a closing connection.
    pub head_wait: Duration,
    /// For all of a body, from the first wait for it.
    pub body_wait: Duration,
    /// How long a client may read nothing while there is something for it.
    pub write_stall: Duration,
    /// Requests at once on one connection of HTTP/2, and so streams on it.
    pub requests_at_once: u32,
    /// After this long, or up to a fifth less, a connection of HTTP/2 takes no new requests: clients open another, and so
    /// spread over the instances again.
    pub connection_age: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 10_000,
            connections_each: 5_000,
            header_bytes: 16 * 1024,
            head_wait: Duration::from_secs(65),
            body_wait: Duration::from_secs(10),
            write_stall: Duration::from_secs(30),
            requests_at_once: 100,
            connection_age: Duration::from_secs(3600),
        }
    }
}

/// Binds with the send buffer that [`serve`] counts on: accepted sockets inherit it.
pub fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    // As tokio and std do: a restart must not wait for TIME_WAIT to pass.
    socket.set_reuseaddr(true)?;
    socket.set_send_buffer_size(SEND_BUFFER_BYTES)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

/// Serves `routes` until `shutdown`; then accepts nothing more and gives what is in flight `drain` to end. Handlers that
/// wait, and streams, must watch the same token.
pub async fn serve(
    listener: TcpListener,
    routes: BoxedFilter<(Response,)>,
    limits: Limits,
    shutdown: CancellationToken,
    drain: Duration,
) {
    let service = TowerToHyperService::new(warp::service(routes.recover(recover)));
    let places = Places::new(limits.connections, limits.connections_each);
    let server = Server::new(service, limits, shutdown.clone());
    // Whatever becomes of this future, no connection outlives it.
    let _end = server.end.clone().drop_guard();
    let said = Seldom::new();
    while let Some((socket, peer)) = accept(&listener, &shutdown).await {
        match places.take(peer.ip()) {
            Ok(place) => server.spawn(socket, place),
            Err(full) => {
                telemetry::connection_refused(full.name());
                if said.now() {
                    tracing::warn!(full = full.name(), "connections are refused: too many are open");
                }
            }
        }
    }
    drop(listener);
    if tokio::time::timeout(drain, places.all_free()).await.is_err() {
        tracing::warn!(?drain, "connections that did not end in the time to drain are closed");
    }
}

/// The next connection; `None` at shutdown.
async fn accept(listener: &TcpListener, shutdown: &CancellationToken) -> Option<(TcpStream, SocketAddr)> {
    loop {
        let accepted = tokio::select! {
            biased;
            () = shutdown.cancelled() => return None,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok(accepted) => return Some(accepted),
            // Its client was gone before we came to it.
            Err(e) if matches!(e.kind(), io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset) => {}
            Err(e) => {
                tracing::warn!(error = %e, "cannot accept a connection");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}
