//! What a client cannot do to the server: be silent, stop in the middle, send too much, not read, or be too many. Real
//! sockets, production `serve`, short limits; each test waits for the server to act, not for a time to pass.

#[path = "http_limits/endless.rs"]
mod endless;
#[path = "http_limits/http2.rs"]
mod http2;

use std::convert::Infallible;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use bytes::Bytes;
use futures_util::{StreamExt, stream};
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use paylog::http::{Lifetime, Limits, Problem, bind, endless, read_body, serve};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use warp::Filter;
use warp::filters::BoxedFilter;
use warp::reply::{Reply, Response};

/// Far more than anything here takes: a test that waits this long has failed.
const PATIENCE: Duration = Duration::from_secs(20);
const BODY_MAX_BYTES: usize = 1024;

struct Server {
    address: SocketAddr,
    shutdown: CancellationToken,
    served: JoinHandle<()>,
}

fn limits() -> Limits {
    Limits {
        connections: 8,
        connections_each: 8,
        header_bytes: 8192,
        head_wait: Duration::from_millis(300),
        body_wait: Duration::from_millis(300),
        write_stall: Duration::from_millis(300),
        requests_at_once: 2,
        connection_age: PATIENCE * 2,
    }
}

const BIG_BYTES: usize = 4 * 1024 * 1024;

/// `/echo` says how long the body was, `/flood` never ends, `/slow` waits for longer than any drain, `/big` is more than any
/// socket takes at once. The others are endless: `/events` has three chunks, `/events/flood` never ends, `/events/quiet` says
/// one word and nothing more, `/events/none` nothing at all.
fn routes() -> BoxedFilter<(Response,)> {
    let echo = warp::path!("echo").and(warp::post()).and(warp::body::stream()).then(async |body| {
        let read = read_body(body, BODY_MAX_BYTES).await;
        read.map_or_else(Problem::into_response, |bytes: Bytes| bytes.len().to_string().into_response())
    });
    let flood = warp::path!("flood").map(|| {
        let chunks = stream::repeat(Bytes::from(vec![b'x'; 16 * 1024]));
        warp::reply::stream(chunks.map(Ok::<_, Infallible>)).into_response()
    });
    let slow = warp::path!("slow").then(async || {
        tokio::time::sleep(PATIENCE * 2).await;
        warp::reply().into_response()
    });
    let big = warp::path!("big").map(|| vec![b'b'; BIG_BYTES].into_response());
    let plain = echo.or(flood).unify().or(slow).unify().or(big).unify();
    plain.or(events()).unify().or(take()).unify().boxed()
}

fn events() -> BoxedFilter<(Response,)> {
    let three = warp::path!("events").map(|| {
        let mut response = endless(stream::iter(["one ", "two ", "three"]).map(Bytes::from));
        response.headers_mut().insert("content-type", "text/event-stream".parse().unwrap());
        response
    });
    let flood = warp::path!("events" / "flood").map(|| endless(stream::repeat(Bytes::from(vec![b'x'; 16 * 1024]))));
    let quiet = warp::path!("events" / "quiet")
        .map(|| endless(stream::iter([Bytes::from_static(b"word")]).chain(stream::pending())));
    // Over before it has begun; asked again, it panics.
    let none = warp::path!("events" / "none").map(|| endless(stream::unfold((), async |()| None::<(Bytes, ())>)));
    three.or(flood).unify().or(quiet).unify().or(none).unify().boxed()
}

/// `/take` takes the connection over, and reads it until it or the server ends.
fn take() -> BoxedFilter<(Response,)> {
    let answer = |upgrade: Option<OnUpgrade>, lifetime: Option<Lifetime>| {
        lifetime.unwrap().spawn(async move {
            let mut taken = TokioIo::new(upgrade.unwrap().await.unwrap());
            let mut buffer = [0; 16];
            while taken.read(&mut buffer).await.is_ok_and(|read| read > 0) {}
        });
        let mut response = warp::http::StatusCode::SWITCHING_PROTOCOLS.into_response();
        response.headers_mut().insert("upgrade", "taken".parse().unwrap());
        response.headers_mut().insert("connection", "upgrade".parse().unwrap());
        response
    };
    warp::path!("take").and(warp::ext::optional()).and(warp::ext::optional()).map(answer).boxed()
}

async fn server(limits: Limits) -> Server {
    let listener = bind(SocketAddr::from((Ipv4Addr::LOCALHOST, 0))).unwrap();
    let address = listener.local_addr().unwrap();
    let shutdown = CancellationToken::new();
    let served = tokio::spawn(serve(listener, routes(), limits, shutdown.clone(), Duration::from_millis(300)));
    Server { address, shutdown, served }
}

impl Server {
    async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.address).await.unwrap()
    }

    /// Sends this and answers with everything that comes until the server closes.
    async fn exchange(&self, request: &[u8]) -> String {
        let mut socket = self.connect().await;
        socket.write_all(request).await.unwrap();
        rest(&mut socket).await
    }
}

/// What comes until the server closes, or resets.
async fn rest(socket: &mut TcpStream) -> String {
    let mut bytes = Vec::new();
    let read = tokio::time::timeout(PATIENCE, socket.read_to_end(&mut bytes)).await;
    let _ = read.expect("the server should have closed the connection");
    String::from_utf8_lossy(&bytes).into_owned()
}

fn post(headers: &str, body: &str) -> Vec<u8> {
    format!("POST /echo HTTP/1.1\r\nhost: x\r\n{headers}\r\n\r\n{body}").into_bytes()
}

#[tokio::test]
async fn a_silent_client_is_closed() {
    let server = server(limits()).await;
    assert_eq!(server.exchange(b"").await, "");
}

#[tokio::test]
async fn half_a_head_is_closed() {
    let server = server(limits()).await;
    let answer = server.exchange(b"GET /flood HTTP/1.1\r\nhost: x\r\nx-half: ").await;
    assert!(!answer.contains("200"), "{answer}");
}

#[tokio::test]
async fn an_idle_connection_is_closed_after_its_answer() {
    let server = server(limits()).await;
    let answer = server.exchange(&post("content-length: 2", "ab")).await;
    assert!(answer.starts_with("HTTP/1.1 200") && answer.ends_with("\r\n\r\n2"), "{answer}");
}

#[tokio::test]
async fn half_a_body_is_answered_408_and_closed() {
    let server = server(limits()).await;
    for headers in ["content-length: 10", "transfer-encoding: chunked"] {
        let answer = server.exchange(&post(headers, "5\r\nab")).await;
        assert!(answer.starts_with("HTTP/1.1 408"), "{answer}");
        assert!(
            answer.contains("application/problem+json") && answer.contains("\"code\":\"body_timeout\""),
            "{answer}"
        );
    }
}

#[tokio::test]
async fn a_body_that_nobody_reads_does_not_hold_the_connection() {
    let server = server(limits()).await;
    let answer = server.exchange(b"POST /nothing HTTP/1.1\r\nhost: x\r\ncontent-length: 10\r\n\r\nab").await;
    assert!(answer.starts_with("HTTP/1.1 404") && answer.contains("\"code\":\"not_found\""), "{answer}");
}

#[tokio::test]
async fn a_body_too_large_is_answered_413_with_a_length_and_without() {
    let server = server(limits()).await;
    let body = "x".repeat(64 * 1024);
    let declared = post(&format!("content-length: {}", body.len()), &body);
    let chunked = post("transfer-encoding: chunked", &format!("{:x}\r\n{body}\r\n0\r\n\r\n", body.len()));
    for request in [declared, chunked] {
        let answer = server.exchange(&request).await;
        assert!(answer.starts_with("HTTP/1.1 413") && answer.contains("\"code\":\"body_too_large\""), "{answer}");
    }
    // More than is thrown away: the rest is not read, so that the connection is good for nothing more, and says so.
    let huge = "x".repeat(1024 * 1024);
    let answer = server.exchange(&post(&format!("content-length: {}", huge.len()), &huge)).await;
    assert!(
        answer.starts_with("HTTP/1.1 413") && answer.to_lowercase().contains("\r\nconnection: close\r\n"),
        "{answer}"
    );
    let exactly = "x".repeat(BODY_MAX_BYTES);
    let request = post("transfer-encoding: chunked", &format!("{:x}\r\n{exactly}\r\n0\r\n\r\n", exactly.len()));
    assert!(server.exchange(&request).await.ends_with("\r\n\r\n1024"));
}

#[tokio::test]
async fn a_bad_chunk_is_answered_400() {
    let server = server(limits()).await;
    let answer = server.exchange(&post("transfer-encoding: chunked", "zz\r\n")).await;
    assert!(answer.starts_with("HTTP/1.1 400"), "{answer}");
}

#[tokio::test]
async fn a_head_too_large_is_answered_431() {
    let server = server(limits()).await;
    let answer = server.exchange(&post(&format!("x-long: {}", "x".repeat(12_000)), "")).await;
    assert!(answer.starts_with("HTTP/1.1 431"), "{}", &answer[..answer.len().min(100)]);
}

#[tokio::test]
async fn a_wrong_method_is_a_problem() {
    let server = server(limits()).await;
    let answer = server.exchange(b"GET /echo HTTP/1.1\r\nhost: x\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 405") && answer.contains("\"code\":\"method_not_allowed\""), "{answer}");
}

/// The stalled one reads nothing, until the server has given it up; meanwhile another is served.
#[tokio::test]
async fn a_reader_that_stops_is_closed_and_others_are_not() {
    for path in ["/flood", "/events/flood"] {
        stopped_reader_is_closed(&format!("GET {path} HTTP/1.1\r\nhost: x\r\n\r\n")).await;
    }
}

async fn stopped_reader_is_closed(request: &str) {
    let server = server(Limits { connections: 2, ..limits() }).await;
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(4096).unwrap();
    let mut stalled = socket.connect(server.address).await.unwrap();
    stalled.write_all(request.as_bytes()).await.unwrap();
    let mut reader = server.connect().await;
    reader.write_all(request.as_bytes()).await.unwrap();
    // Its place is free only once the stalled one is closed. The other reads all the while, and so is never given up.
    let mut buffer = vec![0; 64 * 1024];
    let freed = async {
        loop {
            let mut third = server.connect().await;
            let sent = third.write_all(&post("content-length: 0\r\nconnection: close", "")).await;
            if sent.is_ok() && rest(&mut third).await.starts_with("HTTP/1.1 200") {
                return;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let reading = async {
        loop {
            assert!(reader.read(&mut buffer).await.unwrap() > 0, "a reader that reads was closed");
        }
    };
    tokio::select! {
        freed = tokio::time::timeout(PATIENCE, freed) => freed.expect("the stalled reader should have been closed"),
        () = reading => {}
    }
    // The kernel has dropped what was kept for it: a reset, not an end.
    let mut left = Vec::new();
    let ended = tokio::time::timeout(PATIENCE, stalled.read_to_end(&mut left)).await.unwrap();
    assert_eq!(ended.unwrap_err().kind(), std::io::ErrorKind::ConnectionReset);
}

#[tokio::test]
async fn one_connection_too_many_is_closed_at_once_and_a_place_that_frees_is_taken() {
    let server = server(Limits { connections: 1, head_wait: PATIENCE * 2, ..limits() }).await;
    let mut first = server.connect().await;
    first.write_all(&post("content-length: 0", "")).await.unwrap();
    let mut byte = [0];
    assert_eq!(first.read(&mut byte).await.unwrap(), 1, "the first is being served");
    let mut second = server.connect().await;
    assert_eq!(rest(&mut second).await, "");
    drop(first);
    let served = async {
        while !server.exchange(&post("content-length: 0\r\nconnection: close", "")).await.starts_with("HTTP/1.1 200") {}
    };
    tokio::time::timeout(PATIENCE, served).await.expect("the place should be free again");
}

#[tokio::test]
async fn shutdown_lets_idle_connections_go_and_drains_the_others_for_so_long() {
    let server = server(Limits { head_wait: PATIENCE * 2, ..limits() }).await;
    let mut idle = server.connect().await;
    idle.write_all(&post("content-length: 0", "")).await.unwrap();
    let mut byte = [0];
    idle.read_exact(&mut byte).await.unwrap();
    let mut slow = server.connect().await;
    slow.write_all(b"GET /slow HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
    // Another answer after it says that the request above has been read.
    server.exchange(&post("content-length: 0\r\nconnection: close", "")).await;
    server.shutdown.cancel();
    assert!(rest(&mut idle).await.ends_with("\r\n\r\n0"));
    assert_eq!(rest(&mut slow).await, "");
    tokio::time::timeout(PATIENCE, server.served).await.expect("serve should have returned").unwrap();
    assert!(TcpStream::connect(server.address).await.is_err(), "nothing listens any more");
}

#[tokio::test]
async fn a_connection_that_was_taken_over_keeps_its_place_and_ends_with_the_server() {
    let server = server(Limits { connections: 1, head_wait: PATIENCE * 2, ..limits() }).await;
    let take = async || {
        let mut taken = server.connect().await;
        taken
            .write_all(b"GET /take HTTP/1.1\r\nhost: x\r\nupgrade: taken\r\nconnection: upgrade\r\n\r\n")
            .await
            .unwrap();
        let mut head = [0; 12];
        let read = taken.read_exact(&mut head).await;
        read.is_ok().then_some((taken, head))
    };
    let (taken, head) = take().await.unwrap();
    assert_eq!(&head, b"HTTP/1.1 101");
    assert_eq!(rest(&mut server.connect().await).await, "", "there is no place for another");
    drop(taken);
    let again = async {
        loop {
            if let Some((taken, _)) = take().await {
                return taken;
            }
        }
    };
    let mut taken = tokio::time::timeout(PATIENCE, again).await.expect("the place should be free again");
    server.shutdown.cancel();
    tokio::time::timeout(PATIENCE, server.served).await.expect("serve should have returned").unwrap();
    assert!(rest(&mut taken).await.ends_with("\r\n\r\n"), "nothing but the end comes");
}
