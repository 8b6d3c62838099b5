//! One connection with one session on it, opened to an address that the caller has chosen, and closed with a goodbye.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use fe2o3_amqp::connection::ConnectionHandle;
use fe2o3_amqp::sasl_profile::SaslProfile;
use fe2o3_amqp::session::SessionHandle;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::runtime::Handle;
use tokio::time::timeout;
use tokio_native_tls::{TlsStream, native_tls};
use tokio_util::sync::CancellationToken;

use super::guard::{Emptied, Guard};
use super::socket::Socket;
use super::{Address, AmqpError, CLOSE_MAX, Credential, FRAME_MAX, IDLE_MAX, OPEN_MAX};

/// What was written and is not acknowledged by the other machine for so long ends the connection: it would otherwise be
/// repeated for a quarter of an hour, by Linux's own rules.
const UNACKNOWLEDGED_MAX: Duration = IDLE_MAX;

static CUT: AtomicU64 = AtomicU64::new(0);

/// Connections whose other side did not answer the goodbye in time, since the process began.
#[must_use]
pub fn connections_cut() -> u64 {
    CUT.load(Ordering::Relaxed)
}

/// Dropped, it is closed too, without anybody waiting for it.
#[derive(Debug)]
pub struct Connection {
    /// `None` once it is being closed.
    live: Option<Live>,
    emptied: Emptied,
}

#[derive(Debug)]
struct Live {
    // First: dropped in this order, a session is not ended on a connection that is gone.
    session: SessionHandle<()>,
    handle: ConnectionHandle<()>,
    /// Ends the socket.
    cut: CancellationToken,
}

impl Connection {
    /// Connects to one of `to`, the addresses of `address`'s host, as they were found and judged by the caller; their ports
    /// do not count.
    pub async fn open(address: &Address, to: &[SocketAddr], credential: &Credential) -> Result<Self, AmqpError> {
        timeout(OPEN_MAX, Self::try_open(address, to, credential)).await.map_err(|_| AmqpError::TimedOut)?
    }

    async fn try_open(address: &Address, to: &[SocketAddr], credential: &Credential) -> Result<Self, AmqpError> {
        let cut = CancellationToken::new();
        let socket = Socket::new(connect(address, to).await?, &cut);
        // Whoever stops waiting leaves no socket behind.
        let unless_open = cut.clone().drop_guard();
        let (handle, session, emptied) = if address.is_tls() {
            Self::greet(secure(address, socket).await?, address, credential).await?
        } else {
            Self::greet(socket, address, credential).await?
        };
        unless_open.disarm();
        Ok(Self { live: Some(Live { session, handle, cut }), emptied })
    }

    /// On a stream that says what the broker says.
    async fn greet<S>(
        stream: S,
        address: &Address,
        credential: &Credential,
    ) -> Result<(ConnectionHandle<()>, SessionHandle<()>, Emptied), AmqpError>
    where
        S: AsyncRead + AsyncWrite + std::fmt::Debug + Send + Unpin + 'static,
    {
        let (stream, emptied) = Guard::new(stream, address.to_string());
        let login =
            SaslProfile::Plain { username: credential.name().to_owned(), password: credential.key().to_owned() };
        let builder = fe2o3_amqp::Connection::builder()
            .container_id(format!("paylog-{}", uuid::Uuid::new_v4().simple()))
            .hostname(address.host())
            .sasl_hostname(address.host())
            .scheme("amqp") // of what is within TLS, where there is TLS
            .sasl_profile(login)
            .max_frame_size(FRAME_MAX)
            .idle_time_out(u32::try_from(IDLE_MAX.as_millis()).unwrap_or(u32::MAX));
        let mut handle = builder.open_with_stream(stream).await?;
        let session = fe2o3_amqp::Session::begin(&mut handle).await?;
        Ok((handle, session, emptied))
    }

    /// Messages of which the library has seen nothing but that they are there.
    pub(super) fn emptied(&self) -> Emptied {
        Arc::clone(&self.emptied)
    }

    pub(super) fn session(&mut self) -> Result<&mut SessionHandle<()>, AmqpError> {
        let live = self.live.as_mut().ok_or_else(|| AmqpError::Ended("it was closed".to_owned()))?;
        Ok(&mut live.session)
    }

    /// Has it ended, by whomever?
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.live.as_ref().is_none_or(|live| live.handle.is_closed() || live.session.is_ended())
    }

    /// What was sent before is on its way first. What the other side says to it changes nothing any more.
    pub async fn close(mut self) {
        if let Some(live) = self.live.take() {
            live.close().await;
        }
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        if let (Some(live), Ok(runtime)) = (self.live.take(), Handle::try_current()) {
            runtime.spawn(live.close());
        }
    }
}

impl Live {
    async fn close(mut self) {
        // Whoever stops waiting for the goodbye ends the socket.
        let _end = self.cut.clone().drop_guard();
        if timeout(CLOSE_MAX, self.handle.close()).await.is_err() {
            CUT.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// TLS from the first byte, as brokers have it on port 5671; not after a header of AMQP's own.
async fn secure(address: &Address, socket: Socket) -> Result<TlsStream<Socket>, AmqpError> {
    let refused = |error: native_tls::Error| AmqpError::Tls(verdict(&format!("{error:?}")).to_owned());
    let connector = native_tls::TlsConnector::new().map_err(refused)?;
    tokio_native_tls::TlsConnector::from(connector).connect(address.host(), socket).await.map_err(refused)
}

/// What OpenSSL says of a certificate, out of all that it says.
fn verdict(text: &str) -> &str {
    text.rsplit_once("error: \"").and_then(|(_, rest)| rest.split('"').next()).unwrap_or(text)
}

async fn connect(address: &Address, to: &[SocketAddr]) -> Result<TcpStream, AmqpError> {
    let mut failed = "its name leads to no address".to_owned();
    for found in to {
        match TcpStream::connect(SocketAddr::new(found.ip(), address.port())).await {
            Ok(stream) => {
                let wait = u32::try_from(UNACKNOWLEDGED_MAX.as_millis()).unwrap_or(u32::MAX);
                let set = stream.set_nodelay(true).and_then(|()| {
                    rustix::net::sockopt::set_tcp_user_timeout(&stream, wait).map_err(std::io::Error::from)
                });
                return set.map(|()| stream).map_err(|error| AmqpError::Unreachable(error.to_string()));
            }
            Err(error) => failed = error.to_string(),
        }
    }
    Err(AmqpError::Unreachable(failed))
}

#[cfg(test)]
#[path = "connection_tests.rs"]
mod tests;
