//! How a WebSocket ends: for what its client does, with its process, and when it is old.

use futures_util::SinkExt;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::CloseFrame;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;

use crate::client::body;
use crate::cluster::Bed;
use crate::socket::{Socket, frame};
use crate::streams::{mark, snapshot};

pub async fn a_socket_is_closed_with_the_code_that_says_why(bed: &Bed) {
    let system = bed.start_with(&["--stream-heartbeat-ms", "200"]).await;
    let client = &system.front.client;
    let closed = async |message: Message| {
        let mut socket = Socket::open(client).await;
        socket.ws.send(message).await.unwrap();
        socket.rest().await.1.map(|(code, _)| code)
    };
    assert_eq!(closed(Message::binary(vec![1])).await, Some(1003));
    assert_eq!(closed(Message::text("x".repeat(16 * 1024 + 1))).await, Some(1009));
    assert_eq!(closed(Message::text("x".repeat(1024 * 1024))).await, Some(1009), "and the rest of it is taken");

    let mut careless = Socket::open(client).await;
    for _ in 0..=10 {
        careless.ask(&json!("?")).await;
    }
    let (answers, close) = careless.rest().await;
    assert_eq!((answers.len(), close.unwrap().0), (11, 1008));
    assert!(answers.iter().all(|answer| answer["error"]["code"] == "invalid_message" && answer["id"] == Value::Null));

    let mut polite = Socket::open(client).await;
    polite.subscribe("all", json!({})).await;
    polite.ws.close(Some(CloseFrame { code: CloseCode::Normal, reason: "enough".into() })).await.unwrap();
    assert_eq!(polite.rest().await.1.map(|(code, _)| code), Some(1000), "a close is answered, and not by hanging up");

    // A text that is none, and a frame that nobody knows, with much behind them: the reason is read all the same.
    for (frame, code) in [([0x81, 0x81, 0, 0, 0, 0, 0xFF], 1007), ([0x83, 0x81, 0, 0, 0, 0, 0xFF], 1002)] {
        let mut wrong = Socket::open(client).await;
        wrong.ws.get_mut().write_all(&[&frame[..], &vec![0; 1024 * 1024]].concat()).await.unwrap();
        assert_eq!(wrong.rest().await.1.map(|(code, _)| code), Some(code));
    }

    // Whoever reads the bytes alone answers no ping.
    let mut silent = Socket::open(client).await.ws.into_inner();
    let mut opcodes = Vec::new();
    let code = loop {
        let [opcode, length] = silent.read_u16().await.unwrap().to_be_bytes();
        opcodes.push(opcode & 0xF);
        let mut payload = vec![0; usize::from(length)];
        silent.read_exact(&mut payload).await.unwrap();
        if opcode & 0xF == 8 {
            break u16::from_be_bytes([payload[0], payload[1]]);
        }
    };
    assert_eq!((code, opcodes[0]), (1008, 9), "pings, and then the end: {opcodes:?}");
    system.stop().await;
}

/// 20 streams and 20 sockets, and a process that stops: each is told when to come back, and not all at once.
pub async fn a_stop_tells_each_client_when_to_come_back(bed: &Bed) {
    const EACH: usize = 20;
    let system = bed.start().await;
    let client = &system.front.client;
    let (mut streams, mut sockets) = (Vec::new(), Vec::new());
    for _ in 0..EACH {
        let (_, mut stream) = client.stream("", None).await;
        assert_eq!(stream.header("connection"), "close", "or it comes back over the same connection");
        snapshot(&mut stream).await;
        streams.push(stream);
        let mut socket = Socket::open(client).await;
        socket.subscribe("all", json!({})).await;
        socket.cursor("all").await;
        sockets.push(socket);
    }
    let metrics = reqwest::get(format!("{}/metrics", client.url)).await.unwrap().text().await.unwrap();
    for channel in ["sse", "websocket"] {
        assert!(metrics.contains(&format!("paylog_streams_open{{channel=\"{channel}\"}}")), "{metrics}");
    }
    let stopping = tokio::spawn(system.stop());
    let mut told = std::collections::BTreeSet::new();
    for mut stream in streams {
        let rest = stream.rest().await;
        let ms = rest.strip_prefix("retry: ").and_then(|rest| rest.strip_suffix("\n\n"));
        told.insert(ms.unwrap_or_else(|| panic!("{rest:?}")).parse::<u64>().unwrap());
    }
    for mut socket in sockets {
        let (messages, close) = socket.rest().await;
        let ms = messages.last().unwrap()["retry_ms"].as_u64().unwrap();
        assert_eq!(close, Some((1001, format!("come back in {ms} ms"))));
        told.insert(ms);
    }
    assert!(told.iter().all(|ms| (1_000..6_000).contains(ms)), "{told:?}");
    assert!(told.len() > EACH && told.last().unwrap() - told.first().unwrap() > 2_000, "they are spread: {told:?}");
    stopping.await.unwrap();
}

/// An age that is over is no fault of the client's: it is told to come back, and comes back with its cursor.
pub async fn an_old_socket_is_sent_away_and_resumes(bed: &Bed) {
    const TURNS: usize = 3;
    let system = bed.start_with(&["--stream-max-age-seconds", "1"]).await;
    let client = &system.front.client;
    let (mut cursor, mut expected, mut told) = (Value::Null, Vec::new(), Vec::new());
    let mut turns = 0;
    while turns < TURNS || told.len() < 2 * TURNS {
        let mut socket = Socket::open(client).await;
        socket.subscribe("all", json!({"cursor": cursor})).await;
        if cursor.is_null() {
            cursor = socket.cursor("all").await.into();
        }
        if turns < TURNS {
            let paid = client.pay_to_the_end(&format!("order-{turns}"), &body("cus_1", "pm_card_visa")).await;
            expected.extend([1, 2].map(|version| (paid.text("id").to_owned(), version)));
        }
        let (mut messages, close) = socket.rest().await;
        assert_eq!((messages.pop().unwrap()["type"].as_str(), close.unwrap().0), (Some("going_away"), 1001));
        for message in messages.iter().filter(|message| message["cursor"] != Value::Null) {
            cursor = message["cursor"].clone();
        }
        let changes = messages.iter().filter(|message| message["data"].get("event").is_some());
        told.extend(changes.map(|message| mark(&frame(message))));
        turns += 1;
    }
    // What came while it was away may come in the order of partitions.
    told.sort();
    expected.sort();
    assert_eq!(told, expected);
    system.stop().await;
}
