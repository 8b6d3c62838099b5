//! A server that is told of payments, written for the tests: it keeps what it was sent, verifies it with a library that is not
//! ours, and answers as it is told.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::Value;
use standardwebhooks::Webhook;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::cluster::until;

/// One webhook, as it came.
#[derive(Clone, Debug)]
pub struct Received {
    pub headers: HashMap<String, String>,
    pub raw: String,
    pub body: Value,
    pub at: std::time::Instant,
}

/// What to answer: a status, headers, and how long to take for it.
#[derive(Clone, Debug)]
pub struct Says {
    pub status: u16,
    pub headers: String,
    pub after: Duration,
}

type Rule = Box<dyn Fn(usize, &Received) -> Says + Send + Sync>;

pub struct Receiver {
    pub port: u16,
    shared: Arc<Shared>,
    task: tokio::task::JoinHandle<()>,
}

struct Shared {
    connections: AtomicUsize,
    received: Mutex<Vec<Received>>,
    rule: Mutex<Rule>,
}

impl Says {
    pub fn status(status: u16) -> Self {
        Self { status, headers: String::new(), after: Duration::ZERO }
    }
}

impl Received {
    pub fn id(&self) -> &str {
        self.headers.get("webhook-id").map_or("", String::as_str)
    }

    pub fn kind(&self) -> &str {
        self.body["type"].as_str().unwrap_or_default()
    }

    pub fn payment(&self) -> &str {
        self.body["data"]["payment"]["id"].as_str().unwrap_or_default()
    }

    pub fn sequence(&self) -> u64 {
        self.body["data"]["sequence"].as_u64().unwrap_or_default()
    }

    /// By the library of the standard.
    pub fn is_signed_with(&self, secret: &str) -> bool {
        let mut headers = http::HeaderMap::new();
        for name in ["webhook-id", "webhook-timestamp", "webhook-signature"] {
            let value = self.headers.get(name).unwrap_or_else(|| panic!("no {name} in {:?}", self.headers));
            headers.insert(name, value.parse().unwrap());
        }
        Webhook::new(secret).unwrap().verify(self.raw.as_bytes(), &headers).is_ok()
    }
}

impl Receiver {
    /// Takes everything.
    pub async fn start() -> Self {
        Self::saying(|_, _| Says::status(204)).await
    }

    /// Answers the n-th webhook, from 0, as `rule` says.
    pub async fn saying(rule: impl Fn(usize, &Received) -> Says + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let connections = AtomicUsize::new(0);
        let shared = Arc::new(Shared { connections, received: Mutex::default(), rule: Mutex::new(Box::new(rule)) });
        let serving = Arc::clone(&shared);
        let task = tokio::spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                serving.connections.fetch_add(1, Ordering::AcqRel);
                tokio::spawn(serve(socket, Arc::clone(&serving)));
            }
        });
        Self { port, shared, task }
    }

    pub fn now_says(&self, rule: impl Fn(usize, &Received) -> Says + Send + Sync + 'static) {
        *self.shared.rule.lock().unwrap() = Box::new(rule);
    }

    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}/hook", self.port)
    }

    pub fn received(&self) -> Vec<Received> {
        self.shared.received.lock().unwrap().clone()
    }

    /// How many different ones have come.
    pub fn messages(&self) -> usize {
        let received = self.shared.received.lock().unwrap();
        received.iter().map(Received::id).collect::<std::collections::HashSet<_>>().len()
    }

    /// How often anybody has come.
    pub fn connections(&self) -> usize {
        self.shared.connections.load(Ordering::Acquire)
    }

    pub async fn has(&self, count: usize) -> Vec<Received> {
        until("the webhooks come", async || self.received().len() >= count).await;
        self.received()
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn serve(mut socket: TcpStream, shared: Arc<Shared>) {
    let mut buffer = Vec::new();
    loop {
        let head = loop {
            if let Some(end) = buffer.windows(4).position(|four| four == b"\r\n\r\n") {
                break end + 4;
            }
            if socket.read_buf(&mut buffer).await.unwrap_or(0) == 0 {
                return;
            }
        };
        let text = String::from_utf8(buffer[..head].to_vec()).unwrap();
        let lines = text.lines().skip(1).filter_map(|line| line.split_once(':'));
        let headers: HashMap<String, String> =
            lines.map(|(name, value)| (name.trim().to_ascii_lowercase(), value.trim().to_owned())).collect();
        let length: usize = headers["content-length"].parse().unwrap();
        while buffer.len() < head + length {
            if socket.read_buf(&mut buffer).await.unwrap_or(0) == 0 {
                return;
            }
        }
        let raw = String::from_utf8(buffer[head..head + length].to_vec()).unwrap();
        buffer.drain(..head + length);
        let body = serde_json::from_str(&raw).unwrap();
        let received = Received { headers, raw, body, at: std::time::Instant::now() };
        let says = {
            let mut all = shared.received.lock().unwrap();
            let says = shared.rule.lock().unwrap()(all.len(), &received);
            all.push(received);
            says
        };
        tokio::time::sleep(says.after).await;
        let answer = format!("HTTP/1.1 {} x\r\ncontent-length: 0\r\n{}\r\n", says.status, says.headers);
        if socket.write_all(answer.as_bytes()).await.is_err() {
            return;
        }
    }
}
