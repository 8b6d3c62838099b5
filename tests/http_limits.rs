//! What a client cannot do to the server: be silent, stop in the middle, send too much, not read, or be too many. Real
//! sockets, production `serve`, short limits; each test waits for the server to act, not for a time to pass.

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

// === endless answers, for which HTTP/1.1 gives up the connection ===

#[tokio::test]
async fn an_endless_answer_is_whole_and_ends_with_its_connection() {
    let server = server(limits()).await;
    // On a connection that has answered before, and with another request behind it, which is passed over.
    let mut requests = post("content-length: 2", "ab");
    requests.extend_from_slice(b"GET /events HTTP/1.1\r\nhost: x\r\n\r\n");
    requests.extend(post("content-length: 0", ""));
    let answer = server.exchange(&requests).await;
    let (first, second) = answer.split_once("\r\n\r\n2").unwrap();
    assert!(first.starts_with("HTTP/1.1 200"), "{answer}");
    let (head, body) = second.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
    for header in ["connection: close", "date: ", "content-type: text/event-stream"] {
        assert!(head.contains(&format!("\r\n{header}")), "{header} is missing: {answer}");
    }
    assert!(!head.contains("content-length") && !head.contains("transfer-encoding"), "{answer}");
    assert_eq!(body, "one two three");
}

/// Of a client that asks on before it has read: hyper has not sent it all when the stream begins.
#[tokio::test]
async fn nothing_of_an_answer_before_an_endless_one_is_lost() {
    let server = server(Limits { write_stall: PATIENCE * 2, ..limits() }).await;
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(4096).unwrap();
    let mut client = socket.connect(server.address).await.unwrap();
    let big = "POST /big HTTP/1.1\r\nhost: x\r\ncontent-length: 2\r\n\r\nab";
    let requests = format!("{big}GET /events HTTP/1.1\r\nhost: x\r\n\r\n");
    client.write_all(requests.as_bytes()).await.unwrap();
    let answers = rest(&mut client).await;
    assert_eq!(answers.matches('b').count() - answers.matches("number").count(), BIG_BYTES, "all of the first");
    assert!(answers.ends_with("\r\n\r\none two three"), "{}", &answers[answers.len() - 200..]);
}

#[tokio::test]
async fn a_client_that_leaves_a_quiet_endless_answer_is_noticed_at_once() {
    let server = server(Limits { connections: 1, head_wait: PATIENCE * 2, ..limits() }).await;
    let listen = async || {
        let mut client = server.connect().await;
        client.write_all(b"GET /events/quiet HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
        let mut heard = Vec::new();
        while !heard.ends_with(b"word") {
            if client.read_buf(&mut heard).await.is_ok_and(|read| read > 0) {
                continue;
            }
            return None;
        }
        Some(client)
    };
    let first = listen().await.expect("the one place is free");
    assert!(listen().await.is_none(), "an endless answer keeps its place");
    drop(first);
    let again = async {
        loop {
            if let Some(client) = listen().await {
                return client;
            }
        }
    };
    let mut last = tokio::time::timeout(PATIENCE, again).await.expect("the place should be free again");
    server.shutdown.cancel();
    tokio::time::timeout(PATIENCE, server.served).await.expect("serve should have returned").unwrap();
    assert_eq!(rest(&mut last).await, "", "one that does not end by itself ends with the server");
}

#[tokio::test]
async fn who_only_talks_on_a_stream_is_let_go_and_an_empty_one_ends() {
    let server = server(limits()).await;
    let mut client = server.connect().await;
    client.write_all(b"GET /events/quiet HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
    let talking = async { while client.write_all(&[b'x'; 4096]).await.is_ok() {} };
    tokio::time::timeout(PATIENCE, talking).await.expect("it is listened to for ever");
    let answer = server.exchange(b"GET /events/none HTTP/1.1\r\nhost: x\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 200") && answer.ends_with("\r\n\r\n"), "{answer}");
}

// === HTTP/2, of clients that begin with it ===

type Sender = h2::client::SendRequest<Bytes>;

/// Whoever sends, and the connection, which is served by a task until it ends.
async fn speak_http2(server: &Server) -> (Sender, JoinHandle<Result<(), h2::Error>>) {
    let (sender, connection) = h2::client::handshake(server.connect().await).await.unwrap();
    (sender, tokio::spawn(connection))
}

fn ask(method: &str, path: &str) -> warp::http::Request<()> {
    warp::http::Request::builder().method(method).uri(format!("http://x{path}")).body(()).unwrap()
}

/// Its status and its body.
async fn answered(sender: &mut Sender, request: warp::http::Request<()>, body: &'static str) -> (u16, String) {
    *sender = sender.clone().ready().await.unwrap();
    let (answer, mut sending) = sender.send_request(request, false).unwrap();
    sending.send_data(Bytes::from_static(body.as_bytes()), true).unwrap();
    let (head, mut reading) = answer.await.unwrap().into_parts();
    let mut bytes = Vec::new();
    while let Some(piece) = reading.data().await {
        bytes.extend_from_slice(&piece.unwrap());
    }
    (head.status.as_u16(), String::from_utf8(bytes).unwrap())
}

#[tokio::test]
async fn http2_is_answered_as_http1_is() {
    let server = server(limits()).await;
    let (mut sender, connection) = speak_http2(&server).await;
    assert_eq!(answered(&mut sender, ask("POST", "/echo"), "ab").await, (200, "2".to_owned()));
    let (status, text) = answered(&mut sender, ask("GET", "/nothing"), "").await;
    assert!(status == 404 && text.contains("\"code\":\"not_found\""), "{text}");
    let mut long = ask("POST", "/echo");
    long.headers_mut().insert("x-long", "x".repeat(12_000).parse().unwrap());
    assert_eq!(answered(&mut sender, long, "").await.0, 431);
    let (answer, _half) = sender.send_request(ask("POST", "/echo"), false).unwrap();
    assert_eq!(answer.await.unwrap().status(), 408, "a body that does not come");
    // Nothing more is asked, and so it is closed.
    tokio::time::timeout(PATIENCE, connection).await.expect("an idle connection is closed").unwrap().unwrap();
}

#[tokio::test]
async fn half_a_preface_is_closed() {
    let server = server(limits()).await;
    assert_eq!(server.exchange(b"PRI * HTTP/2.0\r\n\r\n").await, "");
}

/// It reads the connection, so that pings are answered and the socket is never full, and takes nothing of one answer.
#[tokio::test]
async fn a_reader_that_stops_on_http2_loses_that_answer_and_no_other() {
    let patient = Limits { head_wait: PATIENCE * 2, write_stall: Duration::from_secs(2), ..limits() };
    let server = server(patient).await;
    // What is not read of the one leaves room for the other.
    let roomy = h2::client::Builder::new().initial_connection_window_size(1024 * 1024).clone();
    let (sender, connection) = roomy.handshake::<_, Bytes>(server.connect().await).await.unwrap();
    tokio::spawn(connection);
    let flood = async || {
        let mut sender = sender.clone().ready().await.unwrap();
        sender.send_request(ask("GET", "/flood"), true).unwrap().0.await.unwrap().into_body()
    };
    let (mut unread, mut reading) = (flood().await, flood().await);
    let broken = async { while unread.data().await.expect("an end in the middle is no end").is_ok() {} };
    let mut read = async || {
        let piece = reading.data().await.unwrap().expect("the other goes on");
        reading.flow_control().release_capacity(piece.len()).unwrap();
    };
    tokio::select! {
        broken = tokio::time::timeout(PATIENCE, broken) => broken.expect("what is not read breaks off"),
        () = async { loop { read().await } } => {}
    }
    for _ in 0..100 {
        tokio::time::timeout(PATIENCE, read()).await.expect("the other still goes on");
    }
    assert_eq!(answered(&mut sender.clone(), ask("POST", "/echo"), "ab").await, (200, "2".to_owned()));
}

#[tokio::test]
async fn an_old_http2_connection_answers_what_it_has_and_takes_no_more() {
    let old = Limits { head_wait: PATIENCE * 2, connection_age: Duration::from_millis(300), ..limits() };
    let server = server(Limits { write_stall: PATIENCE, ..old }).await;
    let (mut sender, connection) = speak_http2(&server).await;
    let (answer, _) = sender.send_request(ask("GET", "/flood"), true).unwrap();
    let mut reading = answer.await.unwrap().into_body();
    let refused = async {
        while sender.clone().ready().await.is_ok() {
            let piece = reading.data().await.unwrap().unwrap();
            reading.flow_control().release_capacity(piece.len()).unwrap();
        }
    };
    tokio::time::timeout(PATIENCE, refused).await.expect("no new requests are taken");
    assert!(reading.data().await.unwrap().is_ok(), "what is being answered goes on");
    drop((reading, sender));
    tokio::time::timeout(PATIENCE, connection).await.expect("it ends with its last answer").unwrap().unwrap();
}
