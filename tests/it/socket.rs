//! A WebSocket as a client would use it, and what it must be. The handshake and the framing are a library's.

use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::handshake::client::Response;
use tokio_tungstenite::tungstenite::{Error, Message};

use crate::client::{Client, Frame, body};
use crate::cluster::{Bed, PATIENCE};
use crate::described::hold_message;
use crate::streams::{mark, snapshot};

pub struct Socket {
    pub(crate) ws: WebSocketStream<TcpStream>,
}

/// How a socket was closed.
pub type Close = Option<(u16, String)>;

impl Socket {
    pub async fn open(client: &Client) -> Self {
        let (ws, response) = Self::try_open(client, &[]).await.unwrap();
        assert_eq!(response.status(), 101);
        Self { ws }
    }

    /// Of a server, or a way to it, that may break.
    pub async fn open_if_it_lives(client: &Client) -> Option<Self> {
        Self::handshake(client, &[]).await.ok().map(|(ws, _)| Self { ws })
    }

    /// By a ticket in the URL, from the page of another origin. The status of a refusal is the error.
    pub async fn open_by_ticket(client: &Client, ticket: &str) -> Result<Self, u16> {
        let address = client.url.strip_prefix("http://").unwrap();
        let tcp = TcpStream::connect(address).await.unwrap();
        let mut request = format!("ws://{address}/v1/ws?ticket={ticket}").into_client_request().unwrap();
        request.headers_mut().insert("origin", "https://shop.example".parse().unwrap());
        match tokio_tungstenite::client_async(request, tcp).await {
            Ok((ws, _)) => Ok(Self { ws }),
            Err(Error::Http(response)) => Err(response.status().as_u16()),
            Err(error) => panic!("{error}"),
        }
    }

    /// As a browser opens it, with what it adds by itself. The status of a refusal is the error.
    pub async fn open_with(client: &Client, headers: &[(&'static str, &str)]) -> Result<Self, u16> {
        Self::try_open(client, headers).await.map(|(ws, _)| Self { ws })
    }

    /// The status of a refusal is the error.
    pub async fn open_by_key(client: &Client, key: &str) -> Result<Self, u16> {
        let authorization = format!("Bearer {key}");
        Self::try_open(client, &[("authorization", &authorization)]).await.map(|(ws, _)| Self { ws })
    }

    /// The status of a refusal is the error.
    async fn try_open(
        client: &Client,
        headers: &[(&'static str, &str)],
    ) -> Result<(WebSocketStream<TcpStream>, Response), u16> {
        match Self::handshake(client, headers).await {
            Err(Error::Http(response)) => Err(response.status().as_u16()),
            other => Ok(other.unwrap()),
        }
    }

    async fn handshake(
        client: &Client,
        headers: &[(&'static str, &str)],
    ) -> Result<(WebSocketStream<TcpStream>, Response), Error> {
        let address = client.url.strip_prefix("http://").unwrap();
        let tcp = TcpStream::connect(address).await.unwrap();
        let mut request = format!("ws://{address}/v1/ws").into_client_request().unwrap();
        for (name, value) in headers {
            request.headers_mut().insert(*name, value.parse().unwrap());
        }
        tokio_tungstenite::client_async(request, tcp).await
    }

    /// `false` if nobody is there any more.
    pub async fn ask_if_it_lives(&mut self, message: &Value) -> bool {
        self.ws.send(Message::text(message.to_string())).await.is_ok()
    }

    pub async fn ask(&mut self, message: &Value) {
        self.ws.send(Message::text(message.to_string())).await.unwrap();
    }

    /// Subscribes with these fields, and is answered that it has.
    pub async fn subscribe(&mut self, id: &str, mut fields: Value) {
        fields["type"] = "subscribe".into();
        fields["id"] = id.into();
        self.ask(&fields).await;
        // Others may have something to say before.
        while self.next().await != json!({"type": "subscribed", "id": id}) {}
    }

    /// The next message, which must be one.
    pub async fn next(&mut self) -> Value {
        self.next_or_close().await.unwrap_or_else(|close| panic!("closed: {close:?}"))
    }

    pub async fn next_or_close(&mut self) -> Result<Value, Close> {
        loop {
            let received = tokio::time::timeout(PATIENCE, self.ws.next()).await.expect("the socket is silent");
            match received {
                Some(Ok(Message::Text(text))) => {
                    let message = serde_json::from_str(&text).unwrap();
                    hold_message(&message);
                    return Ok(message);
                }
                Some(Ok(Message::Close(frame))) => {
                    return Err(frame.map(|frame| (frame.code.into(), frame.reason.to_string())));
                }
                Some(Ok(_)) => {}
                Some(Err(_)) | None => return Err(None),
            }
        }
    }

    /// What there is until it is closed, and how.
    pub async fn rest(&mut self) -> (Vec<Value>, Close) {
        let mut messages = Vec::new();
        loop {
            match self.next_or_close().await {
                Ok(message) => messages.push(message),
                Err(close) => return (messages, close),
            }
        }
    }

    /// The next change of this subscription, as Server-Sent Events would have it.
    pub async fn next_change(&mut self, id: &str) -> Frame {
        loop {
            let message = self.next().await;
            if message["id"] == id && message["data"].get("event").is_some() {
                return frame(&message);
            }
        }
    }

    /// Up to the cursor with which changes begin; answers with that.
    pub async fn cursor(&mut self, id: &str) -> String {
        loop {
            let message = self.next().await;
            if message["type"] == "cursor" && message["id"] == id {
                return message["cursor"].as_str().unwrap().to_owned();
            }
        }
    }

    /// Without a word.
    pub fn break_off(self) {
        drop(self);
    }
}

pub fn frame(message: &Value) -> Frame {
    assert_eq!(message["type"], "frame", "{message}");
    Frame {
        id: message["cursor"].as_str().map(str::to_owned),
        event: message["event"].as_str().map(str::to_owned),
        data: message["data"].clone(),
    }
}

pub async fn a_payment_that_has_ended_ends_its_subscription(bed: &Bed) {
    let system = bed.start().await;
    let client = &system.front.client;
    let before = client.pay_to_the_end("before", &body("cus_1", "pm_card_visa")).await;
    let mut socket = Socket::open(client).await;
    socket.subscribe("one", json!({"payment_id": before.text("id")})).await;
    let told = socket.next().await;
    assert_eq!((&told["id"], &told["event"]), (&json!("one"), &json!("snapshot")));
    assert_eq!(told["data"]["payment"]["status"], "successful");
    assert_eq!(socket.next().await, json!({"type": "end", "id": "one"}), "the payment has ended");
    // At the version that it ended with there is nothing to tell; and the id is free again.
    socket.subscribe("one", json!({"payment_id": before.text("id"), "cursor": told["cursor"]})).await;
    assert_eq!(socket.next().await, json!({"type": "end", "id": "one"}));
    system.stop().await;
}

pub async fn one_socket_carries_several_subscriptions(bed: &Bed) {
    let system = bed.start().await;
    let client = &system.front.client;
    let mut socket = Socket::open(client).await;
    socket.subscribe("all", json!({})).await;
    socket.cursor("all").await;
    socket.subscribe("second", json!({"customer_id": "cus_2"})).await;
    socket.cursor("second").await;
    socket.subscribe("failures", json!({"types": ["PaymentFailed"]})).await;
    socket.cursor("failures").await;
    let (_, mut stream) = client.stream("", None).await;
    snapshot(&mut stream).await;
    client.pay_to_the_end("order-1", &body("cus_1", "pm_card_visa")).await;
    let declined = client.pay_to_the_end("order-2", &body("cus_2", "pm_card_visa_chargeDeclined")).await;
    let (mut all, mut second, mut failures) = (Vec::new(), Vec::new(), Vec::new());
    while all.len() < 4 || second.len() < 2 || failures.is_empty() {
        let message = socket.next().await;
        match message["id"].as_str().unwrap() {
            _ if message["type"] == "cursor" => {}
            "all" => all.push(frame(&message)),
            "second" => second.push(frame(&message)),
            "failures" => failures.push(frame(&message)),
            _ => panic!("{message}"),
        }
    }
    let mut expected = Vec::new();
    while expected.len() < 4 {
        expected.push(stream.next_change().await);
    }
    let sorted = |frames: &[Frame]| {
        let mut frames: Vec<(String, Value)> =
            frames.iter().map(|f| (f.event.clone().unwrap(), f.data.clone())).collect();
        frames.sort_by_key(|(_, data)| data["event"]["id"].to_string());
        frames
    };
    assert_eq!(sorted(&all), sorted(&expected), "the same objects as over Server-Sent Events");
    let of_declined: Vec<_> = all.iter().filter(|f| mark(f).0 == declined.text("id")).map(mark).collect();
    assert_eq!(second.iter().map(mark).collect::<Vec<_>>(), of_declined);
    assert_eq!(failures.iter().map(mark).collect::<Vec<_>>(), [(declined.text("id").to_owned(), 2)]);

    // One is let go, and the others go on.
    socket.ask(&json!({"type": "unsubscribe", "id": "all"})).await;
    while socket.next().await != json!({"type": "unsubscribed", "id": "all"}) {}
    client.pay_to_the_end("order-3", &body("cus_2", "pm_card_visa")).await;
    for version in [1, 2] {
        let message = socket.next().await;
        assert_eq!((&message["id"], &message["data"]["payment"]["version"]), (&json!("second"), &json!(version)));
    }
    system.stop().await;
}

/// One cursor: a client goes from one channel to the other in the middle, and misses nothing.
pub async fn a_cursor_goes_from_one_channel_to_the_other(bed: &Bed) {
    let system = bed.start().await;
    let client = &system.front.client;
    let (_, mut stream) = client.stream("", None).await;
    let (_, mut cursor) = snapshot(&mut stream).await;
    for turn in 0..4 {
        let paid = client.pay_to_the_end(&format!("order-{turn}"), &body("cus_1", "pm_sim_transient")).await;
        let id = paid.text("id").to_owned();
        for version in 1..=3 {
            let frame = if (turn + version) % 2 == 0 {
                let mut socket = Socket::open(client).await;
                socket.subscribe("all", json!({"cursor": cursor})).await;
                socket.next_change("all").await
            } else {
                client.stream("", Some(&cursor)).await.1.next_change().await
            };
            assert_eq!(mark(&frame), (id.clone(), version));
            cursor = frame.id.unwrap();
        }
    }
    system.stop().await;
}

pub async fn what_a_socket_is_asked_wrongly_is_answered_with_a_code(bed: &Bed) {
    let system = bed.start_with(&["--stream-heartbeat-ms", "1000"]).await;
    let client = &system.front.client;
    let mut socket = Socket::open(client).await;
    for (asked, code) in [
        (json!({"type": "subscribe", "id": "a", "types": ["PaymentGone"]}), "invalid_types"),
        (json!({"type": "subscribe", "id": "a", "types": []}), "invalid_types"),
        (json!({"type": "subscribe", "id": "a", "payment_id": "x"}), "invalid_payment_id"),
        (json!({"type": "subscribe", "id": "a", "payment_id": "pay_aaaaaaaaaaaaaaaaaaaaaaaaaa"}), "payment_not_found"),
        (json!({"type": "subscribe", "id": "a", "payment_id": "x", "customer_id": "y"}), "invalid_stream"),
        (json!({"type": "subscribe", "id": "a", "cursor": "nonsense"}), "invalid_last_event_id"),
        (json!({"type": "unsubscribe", "id": "a"}), "no_subscription"),
    ] {
        socket.ask(&asked).await;
        let answer = socket.next().await;
        assert_eq!(
            (&answer["type"], &answer["id"], &answer["error"]["code"]),
            (&"error".into(), &"a".into(), &code.into())
        );
    }
    socket.subscribe("a", json!({"cursor": "00000000.AAAA"})).await;
    let reset = socket.next().await;
    assert_eq!((&reset["event"], &reset["id"], &reset["cursor"]), (&"reset".into(), &"a".into(), &Value::Null));
    socket.ask(&json!({"type": "subscribe", "id": "a"})).await;
    socket.cursor("a").await;
    assert_eq!(socket.next().await["error"]["code"], "subscription_exists");
    for n in 1..100 {
        socket.subscribe(&n.to_string(), json!({})).await;
    }
    socket.ask(&json!({"type": "subscribe", "id": "one too many"})).await;
    let refused = loop {
        let message = socket.next().await;
        if message["type"] == "error" {
            break message;
        }
    };
    assert_eq!(refused["error"]["code"], "too_many_subscriptions");
    system.stop().await;
}

/// Refused before it is a socket.
pub async fn a_page_of_another_origin_opens_no_socket(bed: &Bed) {
    let system = bed.start().await;
    let client = &system.front.client;
    for (headers, status) in [
        (&[("origin", "https://evil.example")][..], 403),
        (&[("origin", "null")][..], 403),
        (&[("sec-websocket-version", "8")][..], 426),
    ] {
        assert_eq!(Socket::try_open(client, headers).await.unwrap_err(), status, "{headers:?}");
    }
    let (ws, _) = Socket::try_open(client, &[("origin", &client.url)]).await.unwrap();
    Socket { ws }.break_off();
    let plain = client.get("/v1/ws").await;
    assert_eq!((plain.status, plain.text("code"), plain.header("upgrade")), (426, "upgrade_required", "websocket"));
    system.stop().await;
}
