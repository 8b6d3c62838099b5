//! A server of HTTP/1.1, written for the tests: it keeps what it was sent, and answers as it is told.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::cluster::until;

/// A request, as it came.
pub struct Came {
    pub path: String,
    pub headers: HashMap<String, String>,
    pub body: Vec<u8>,
    pub at: Instant,
}

/// What to answer: a status, headers, and how long to take for it.
#[derive(Clone, Debug)]
pub struct Says {
    pub status: u16,
    pub headers: String,
    pub after: Duration,
}

type Rule<M> = Box<dyn Fn(usize, &M) -> Says + Send + Sync>;

/// What comes is an `M`.
pub struct Answering<M> {
    pub port: u16,
    shared: Arc<Shared<M>>,
    task: tokio::task::JoinHandle<()>,
}

struct Shared<M> {
    connections: AtomicUsize,
    received: Mutex<Vec<M>>,
    rule: Mutex<Rule<M>>,
}

impl Says {
    pub fn status(status: u16) -> Self {
        Self { status, headers: String::new(), after: Duration::ZERO }
    }

    pub fn retry_after(status: u16, seconds: u64) -> Self {
        Self { headers: format!("retry-after: {seconds}\r\n"), ..Self::status(status) }
    }
}

impl<M: From<Came> + Clone + Send + 'static> Answering<M> {
    /// Answers the n-th request, from 0, as `rule` says.
    pub async fn saying(rule: impl Fn(usize, &M) -> Says + Send + Sync + 'static) -> Self {
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

    pub fn now_says(&self, rule: impl Fn(usize, &M) -> Says + Send + Sync + 'static) {
        *self.shared.rule.lock().unwrap() = Box::new(rule);
    }

    pub fn received(&self) -> Vec<M> {
        self.shared.received.lock().unwrap().clone()
    }

    /// How often anybody has come.
    pub fn connections(&self) -> usize {
        self.shared.connections.load(Ordering::Acquire)
    }

    pub async fn has(&self, count: usize) -> Vec<M> {
        until("what is sent comes", async || self.received().len() >= count).await;
        self.received()
    }
}

impl<M> Drop for Answering<M> {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn serve<M: From<Came>>(mut socket: TcpStream, shared: Arc<Shared<M>>) {
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
        let path = text.split(' ').nth(1).unwrap().to_owned();
        let lines = text.lines().skip(1).filter_map(|line| line.split_once(':'));
        let headers: HashMap<String, String> =
            lines.map(|(name, value)| (name.trim().to_ascii_lowercase(), value.trim().to_owned())).collect();
        let length: usize = headers["content-length"].parse().unwrap();
        while buffer.len() < head + length {
            if socket.read_buf(&mut buffer).await.unwrap_or(0) == 0 {
                return;
            }
        }
        let body = buffer[head..head + length].to_vec();
        buffer.drain(..head + length);
        let received = M::from(Came { path, headers, body, at: Instant::now() });
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
