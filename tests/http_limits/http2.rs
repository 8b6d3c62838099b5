//! HTTP/2, of clients that begin with it.

use super::*;

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
