//! What a socket can do to a request: servers of a few lines, which answer as they are told and count what they are sent.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use paylog::gateway::{Inquiry, Outcome};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::provider::{charge, client};

/// What a server does with the nth request that it has read to its end, of all connections.
#[derive(Clone)]
enum Do {
    Answer(Vec<u8>),
    /// Says this, and closes.
    Break(Vec<u8>),
    /// Sends this again and again, until nobody takes it.
    Flood(Vec<u8>, Vec<u8>),
    Never,
}

struct Server {
    url: String,
    requests: Arc<AtomicUsize>,
    connections: Arc<AtomicUsize>,
}

impl Server {
    async fn start(script: Vec<Do>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let server = Self { url, requests: Arc::default(), connections: Arc::default() };
        let (requests, connections) = (Arc::clone(&server.requests), Arc::clone(&server.connections));
        tokio::spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                connections.fetch_add(1, Ordering::SeqCst);
                tokio::spawn(converse(socket, script.clone(), Arc::clone(&requests)));
            }
        });
        server
    }

    fn counts(&self) -> (usize, usize) {
        (self.requests.load(Ordering::SeqCst), self.connections.load(Ordering::SeqCst))
    }

    async fn charge(&self) -> Outcome {
        client(&self.url, &[]).charge(charge("k", "pm_card_visa")).await
    }
}

async fn converse(mut socket: TcpStream, script: Vec<Do>, requests: Arc<AtomicUsize>) {
    while read_request(&mut socket).await {
        let nth = requests.fetch_add(1, Ordering::SeqCst);
        match script.get(nth).unwrap_or(&Do::Never) {
            Do::Answer(bytes) => socket.write_all(bytes).await.unwrap(),
            Do::Break(bytes) => return drop(socket.write_all(bytes).await),
            Do::Never => std::future::pending().await,
            Do::Flood(head, piece) => {
                socket.write_all(head).await.unwrap();
                while socket.write_all(piece).await.is_ok() {}
                return;
            }
        }
    }
}

/// A head and as much body as it declares; `false` at the end of the connection.
async fn read_request(socket: &mut TcpStream) -> bool {
    let mut bytes = Vec::new();
    loop {
        let mut byte = [0];
        if socket.read_exact(&mut byte).await.is_err() {
            return false;
        }
        bytes.push(byte[0]);
        if bytes.ends_with(b"\r\n\r\n") {
            break;
        }
    }
    let head = String::from_utf8(bytes).unwrap().to_ascii_lowercase();
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")).map_or(0, |n| n.parse().unwrap());
    socket.read_exact(&mut vec![0; length]).await.is_ok()
}

fn answer(status: &str, headers: &str, body: &[u8]) -> Vec<u8> {
    let head = format!("HTTP/1.1 {status}\r\n{headers}Content-Length: {}\r\n\r\n", body.len());
    [head.as_bytes(), body].concat()
}

fn intent() -> String {
    let payment = charge("k", "pm_card_visa").key;
    format!(
        r#"{{"id":"pi_1","object":"payment_intent","status":"succeeded","amount_received":1999,"currency":"eur","metadata":{{"payment_id":"{payment}"}},"last_payment_error":null,"cancellation_reason":null}}"#
    )
}

fn success() -> Vec<u8> {
    answer("200 OK", "", intent().as_bytes())
}

fn page(intents: &str, has_more: bool) -> Do {
    let body = format!(r#"{{"object":"list","data":[{intents}],"has_more":{has_more}}}"#);
    Do::Answer(answer("200 OK", "", body.as_bytes()))
}

fn refusal(status: &str, code: &str) -> Do {
    let body = format!(r#"{{"error":{{"type":"invalid_request_error","code":"{code}","message":"No."}}}}"#);
    Do::Answer(answer(status, "", body.as_bytes()))
}

fn is_unknown(outcome: &Outcome) {
    assert!(matches!(outcome, Outcome::Unknown { .. }), "{outcome:?}");
}

#[tokio::test]
async fn who_cannot_connect_has_sent_nothing() {
    let nobody = {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        format!("http://{}", listener.local_addr().unwrap())
    };
    // It speaks no TLS: the handshake fails, and that comes before the request.
    let plain = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let no_tls = format!("https://{}", plain.local_addr().unwrap());
    tokio::spawn(async move {
        while let Ok((mut socket, _)) = plain.accept().await {
            drop(socket.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await);
        }
    });
    for url in [nobody, no_tls] {
        let client = client(&url, &[]);
        let outcome = client.charge(charge("k", "pm_card_visa")).await;
        let Outcome::NotSent { reason } = &outcome else { panic!("{url}: {outcome:?}") };
        assert!(reason.contains("cannot connect") && !reason.contains("127.0.0.1"), "{reason}");
        let inquiry = client.inquire(charge("k", "pm_card_visa")).await;
        assert!(matches!(inquiry, Inquiry::Unknown { .. }), "{inquiry:?}");
    }
}

#[tokio::test]
async fn once_a_byte_may_have_left_nobody_knows() {
    for script in [
        Do::Never,
        Do::Break(vec![]),
        Do::Break(b"HTTP/1.1 200 OK\r\nContent-".to_vec()),
        Do::Break(success()[..success().len() - 1].to_vec()),
        Do::Break(b"garbage that is no HTTP\r\n\r\n".to_vec()),
        Do::Answer(answer("204 No Content", "", b"")),
        Do::Flood(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n".to_vec(), b"4\r\n    \r\n".repeat(100)),
        Do::Flood(b"HTTP/1.1 200 OK\r\n".to_vec(), b"X-More: and more\r\n".repeat(100)),
        Do::Flood(b"HTTP/1.1 200 OK\r\nContent-Length: 10737418240\r\n\r\n".to_vec(), vec![b' '; 65_536]),
    ] {
        let server = Server::start(vec![script]).await;
        is_unknown(&server.charge().await);
        assert_eq!(server.counts(), (1, 1));
    }
}

/// 10 MiB of zeros in 10 KiB.
#[tokio::test]
async fn a_gzip_bomb_is_not_unpacked() {
    let bomb =
        answer("200 OK", "Content-Encoding: gzip\r\nContent-Type: application/json\r\n", include_bytes!("bomb.gz"));
    is_unknown(&Server::start(vec![Do::Answer(bomb)]).await.charge().await);
}

#[tokio::test]
async fn a_redirect_is_answered_with_nothing_at_all() {
    for status in
        ["301 Moved Permanently", "302 Found", "303 See Other", "307 Temporary Redirect", "308 Permanent Redirect"]
    {
        let trap = Server::start(vec![Do::Answer(success())]).await;
        let location = format!("Location: {}/v1/payment_intents\r\n", trap.url);
        let server = Server::start(vec![Do::Answer(answer(status, &location, b""))]).await;
        is_unknown(&server.charge().await);
        assert_eq!((server.counts(), trap.counts()), ((1, 1), (0, 0)), "{status}");
    }
}

#[tokio::test]
async fn a_request_that_was_begun_is_never_repeated() {
    let server = Server::start(vec![Do::Answer(success()), Do::Break(vec![]), Do::Answer(success())]).await;
    let client = client(&server.url, &[]);
    let first = client.charge(charge("k", "pm_card_visa")).await;
    assert!(matches!(first, Outcome::Succeeded(_)), "{first:?}");
    // On the same connection, which breaks when the request has been read.
    is_unknown(&client.charge(charge("k", "pm_card_visa")).await);
    assert_eq!(server.counts(), (2, 1), "no second connection, no third request");
    assert!(matches!(client.charge(charge("k", "pm_card_visa")).await, Outcome::Succeeded(_)), "a new one");
    assert_eq!(server.counts(), (3, 2));
}

#[tokio::test]
async fn a_connection_that_closed_while_it_was_idle_costs_nothing() {
    let server = Server::start(vec![Do::Break(success()), Do::Answer(success())]).await;
    let client = client(&server.url, &[]);
    for _ in 0..2 {
        let outcome = client.charge(charge("k", "pm_card_visa")).await;
        // The close may be seen before, or only when the second request is on its way: then nobody knows.
        assert!(matches!(outcome, Outcome::Succeeded(_) | Outcome::Unknown { .. }), "{outcome:?}");
    }
    assert!(server.counts().0 <= 2, "{:?}", server.counts());
}

/// Whether that is a no to the payment depends on what was tried before, which the processor knows.
#[tokio::test]
async fn a_refusal_of_the_request_is_told_from_a_decline() {
    let server = Server::start(vec![refusal("400 Bad Request", "payment_method_consumed")]).await;
    let refused = server.charge().await;
    assert!(matches!(&refused, Outcome::Refused { code, .. } if code == "payment_method_consumed"), "{refused:?}");
    assert_eq!(server.counts(), (1, 1));
}

#[tokio::test]
async fn where_there_is_no_search_the_list_is_read_to_its_end() {
    let no_search = || refusal("400 Bad Request", "search_unavailable");
    let inquire = async |script| {
        let server = Server::start(script).await;
        (client(&server.url, &[]).inquire(charge("k", "pm_card_visa")).await, server.counts().0)
    };
    let other = intent().replace("pi_1", "pi_2").replace("pay_", "pay_other_");
    let (found, requests) = inquire(vec![no_search(), page(&other, true), page(&intent(), false)]).await;
    assert!(matches!(found, Inquiry::Succeeded(_)), "{found:?}");
    assert_eq!(requests, 3);
    assert_eq!(inquire(vec![no_search(), page(&other, false)]).await.0, Inquiry::NotFound);
    for broken in [page("", true), Do::Break(vec![]), refusal("429 Too Many Requests", "rate_limit")] {
        let (answer, _) = inquire(vec![no_search(), page(&other, true), broken]).await;
        assert!(matches!(answer, Inquiry::Unknown { .. }), "{answer:?}");
    }
}

#[tokio::test]
async fn an_account_that_is_too_busy_to_be_looked_through_is_never_not_found() {
    let other = intent().replace("pay_", "pay_other_");
    let mut script = vec![page("", false)];
    script.extend((0..200).map(|_| page(&other, true)));
    let server = Server::start(script).await;
    let answer = client(&server.url, &[]).inquire(charge("k", "pm_card_visa")).await;
    assert!(matches!(answer, Inquiry::Unknown { .. }), "{answer:?}");
    assert_eq!(server.counts().0, 101, "a search, and a bounded number of pages");
}

/// After an outage many ask at once, and each would read the same long list.
#[tokio::test]
async fn those_who_ask_at_once_share_one_reading_of_the_list() {
    const ASKING: usize = 50;
    let server = Server::start((0..200).map(|_| page("", false)).collect()).await;
    let client = client(&server.url, &[]);
    let asking: Vec<_> = (0..ASKING).map(|n| client.inquire(charge(&format!("k{n}"), "pm_card_visa"))).collect();
    let answers = futures_util::future::join_all(asking).await;
    assert!(answers.iter().all(|answer| *answer == Inquiry::NotFound), "{answers:?}");
    let lists = server.counts().0 - ASKING;
    assert!((1..ASKING / 5).contains(&lists), "{lists} readings, after {ASKING} searches");
}
