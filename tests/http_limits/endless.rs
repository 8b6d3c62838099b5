//! Endless answers, for which HTTP/1.1 gives up the connection.

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::*;

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
