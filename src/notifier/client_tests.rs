//! One POST to servers that are slow, endless, or not to be reached.

use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use super::{Answer, Client, Post, judge_webhook, patience};
use crate::deliveries::outcome::Failure;
use crate::payment::samples::at;

/// A server that says `head` to whoever comes, then sends `more` again and again for as long as it is taken.
async fn server(head: &'static str, more: &'static [u8]) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((mut socket, _)) = listener.accept().await {
            let mut asked = [0; 4_096];
            let _ = socket.read(&mut asked).await;
            let _ = socket.write_all(head.as_bytes()).await;
            while !more.is_empty() && socket.write_all(more).await.is_ok() {}
            std::future::pending::<()>().await;
        }
    });
    port
}

async fn send(url: &str, allow_private: bool) -> Answer {
    let client = Client::new(Duration::from_secs(2), allow_private, 1).unwrap();
    let headers = [("webhook-id", "msg_1"), ("webhook-signature", "v1,x")];
    client.send(Post { url, headers: &headers, body: b"{}".to_vec(), judge: judge_webhook }).await
}

#[tokio::test]
async fn an_answer_counts_though_its_body_never_ends() {
    for (head, more) in [
        ("HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n", b"".as_slice()),
        ("HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n", [b'x'; 8_192].as_slice()),
    ] {
        let (port, began) = (server(head, more).await, Instant::now());
        let answer = send(&format!("http://127.0.0.1:{port}/"), true).await;
        assert_eq!((answer.status, answer.failure), (Some(200), None), "{answer:?}");
        assert!(began.elapsed() < Duration::from_secs(30), "it is not read for ever");
    }
}

#[tokio::test]
async fn what_is_no_answer_is_a_failure_with_its_name() {
    let failure = async |url: String, allow_private| send(&url, allow_private).await.failure;
    let silent = server("", b"").await;
    assert_eq!(failure(format!("http://127.0.0.1:{silent}/"), true).await, Some(Failure::Timeout));
    let garbage = server("SSH-2.0-OpenSSH\r\n\r\n", b"").await;
    assert_eq!(failure(format!("http://127.0.0.1:{garbage}/"), true).await, Some(Failure::Broken));
    let plain = server("HTTP/1.1 200 OK\r\n\r\n", b"").await;
    assert_eq!(failure(format!("https://127.0.0.1:{plain}/"), true).await, Some(Failure::Tls));
    assert_eq!(failure(format!("https://127.0.0.1:{plain}/"), false).await, Some(Failure::AddressNotAllowed));
    assert_eq!(failure(format!("https://localhost:{plain}/"), false).await, Some(Failure::AddressNotAllowed));
    assert_eq!(failure(format!("http://localhost:{plain}/"), false).await, Some(Failure::NotSendable));
    assert_eq!(failure("https://no-such-host.invalid/".to_owned(), false).await, Some(Failure::Dns));
}

#[tokio::test]
async fn patience_is_asked_for_by_who_has_too_much_to_do_and_by_nobody_else() {
    for (head, asked) in [
        ("HTTP/1.1 429 x\r\nretry-after: 60\r\ncontent-length: 0\r\n\r\n", Some(Duration::from_secs(60))),
        ("HTTP/1.1 503 x\r\nretry-after: 60\r\ncontent-length: 0\r\n\r\n", Some(Duration::from_secs(60))),
        ("HTTP/1.1 404 x\r\nretry-after: 60\r\ncontent-length: 0\r\n\r\n", None),
        ("HTTP/1.1 302 x\r\nretry-after: 60\r\ncontent-length: 0\r\n\r\n", None),
        ("HTTP/1.1 500 x\r\nretry-after: 60\r\ncontent-length: 0\r\n\r\n", None),
    ] {
        let port = server(head, b"").await;
        assert_eq!(send(&format!("http://127.0.0.1:{port}/"), true).await.retry_after, asked, "{head}");
    }
}

#[test]
fn patience_is_asked_for_in_seconds_or_until_a_time() {
    assert_eq!(patience(" 120 ", at(0)), Some(Duration::from_secs(120)));
    // What `at` counts from.
    assert_eq!(patience("Mon, 24 Nov 2025 16:01:00 GMT", at(0)), Some(Duration::from_secs(60)));
    assert_eq!(patience("Mon, 24 Nov 2025 15:00:00 GMT", at(0)), Some(Duration::ZERO));
    for wrong in ["", "soon", "-1", "1.5"] {
        assert_eq!(patience(wrong, at(0)), None, "{wrong}");
    }
}
