//! A push service, and the browsers behind it, written for the tests: it takes what RFC 8030 lets a server send, verifies the
//! VAPID token with a library that is not the one that signed it, decrypts with the browser's own key by Mozilla's library, and
//! answers as it is told.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use data_encoding::BASE64URL_NOPAD as BASE64;
use ece::EcKeyComponents;
use p256::ecdsa::signature::Verifier;
use p256::ecdsa::{Signature, VerifyingKey};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::cluster::until;

/// A browser that has subscribed: what it gives to a page, and what it keeps for itself.
#[derive(Clone)]
pub struct Browser {
    pub endpoint: String,
    keys: EcKeyComponents,
    auth: Vec<u8>,
}

/// One message, as it came.
#[derive(Clone, Debug)]
pub struct Pushed {
    pub path: String,
    pub headers: HashMap<String, String>,
    pub body: Vec<u8>,
    pub at: std::time::Instant,
}

/// What to answer: a status, headers, and how long to take for it.
#[derive(Clone, Debug)]
pub struct Says {
    pub status: u16,
    pub headers: String,
    pub after: Duration,
}

type Rule = Box<dyn Fn(usize, &Pushed) -> Says + Send + Sync>;

pub struct PushService {
    pub port: u16,
    shared: Arc<Shared>,
    task: tokio::task::JoinHandle<()>,
}

struct Shared {
    pushed: Mutex<Vec<Pushed>>,
    rule: Mutex<Rule>,
}

impl Says {
    pub fn status(status: u16) -> Self {
        Self { status, headers: String::new(), after: Duration::ZERO }
    }

    pub fn retry_after(status: u16, seconds: u64) -> Self {
        Self { headers: format!("retry-after: {seconds}\r\n"), ..Self::status(status) }
    }
}

impl Browser {
    pub fn subscribed_at(endpoint: String) -> Self {
        let (key, auth) = ece::generate_keypair_and_auth_secret().unwrap();
        Self { endpoint, keys: key.raw_components().unwrap(), auth: auth.to_vec() }
    }

    /// `PushSubscription.toJSON()`, and what it is for.
    pub fn asks(&self, more: Value) -> Value {
        let mut asked = json!({
            "endpoint": self.endpoint,
            "expirationTime": null,
            "keys": {"p256dh": BASE64.encode(self.keys.public_key()), "auth": BASE64.encode(&self.auth)},
        });
        asked.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        asked
    }

    /// What the service worker is given.
    pub fn reads(&self, pushed: &Pushed) -> Value {
        let plain = ece::decrypt(&self.keys, &self.auth, &pushed.body).unwrap();
        serde_json::from_slice(&plain).unwrap()
    }

    pub fn cannot_read(&self, pushed: &Pushed) -> bool {
        ece::decrypt(&self.keys, &self.auth, &pushed.body).is_err()
    }

    /// Its messages among these.
    pub fn mine(&self, pushed: &[Pushed]) -> Vec<Pushed> {
        pushed.iter().filter(|one| self.endpoint.ends_with(&one.path)).cloned().collect()
    }
}

impl Pushed {
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", String::as_str)
    }

    /// The claims of its VAPID token, whose signature is by the key that it names, which must be `public`.
    pub fn claims(&self, public: &str) -> Value {
        let (token, key) = self.header("authorization").strip_prefix("vapid t=").unwrap().split_once(",k=").unwrap();
        assert_eq!(key, public);
        let (signed, signature) = token.rsplit_once('.').unwrap();
        let signature = Signature::from_slice(&BASE64.decode(signature.as_bytes()).unwrap()).unwrap();
        let verifying = VerifyingKey::from_sec1_bytes(&BASE64.decode(key.as_bytes()).unwrap()).unwrap();
        verifying.verify(signed.as_bytes(), &signature).unwrap();
        let part = |text: &str| -> Value { serde_json::from_slice(&BASE64.decode(text.as_bytes()).unwrap()).unwrap() };
        let (header, claims) = signed.split_once('.').unwrap();
        assert_eq!(part(header)["alg"], "ES256");
        part(claims)
    }
}

impl PushService {
    /// Takes everything.
    pub async fn start() -> Self {
        Self::saying(|_, _| Says::status(201)).await
    }

    /// Takes everything, and never says so.
    pub async fn stalling() -> Self {
        Self::saying(|_, _| Says { after: Duration::from_secs(600), ..Says::status(201) }).await
    }

    /// Answers the n-th message, from 0, as `rule` says.
    pub async fn saying(rule: impl Fn(usize, &Pushed) -> Says + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let shared = Arc::new(Shared { pushed: Mutex::default(), rule: Mutex::new(Box::new(rule)) });
        let serving = Arc::clone(&shared);
        let task = tokio::spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                tokio::spawn(serve(socket, Arc::clone(&serving)));
            }
        });
        Self { port, shared, task }
    }

    pub fn now_says(&self, rule: impl Fn(usize, &Pushed) -> Says + Send + Sync + 'static) {
        *self.shared.rule.lock().unwrap() = Box::new(rule);
    }

    pub fn origin(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// A browser of this service.
    pub fn browser(&self) -> Browser {
        Browser::subscribed_at(format!("{}/send/{}", self.origin(), uuid::Uuid::new_v4().simple()))
    }

    pub fn pushed(&self) -> Vec<Pushed> {
        self.shared.pushed.lock().unwrap().clone()
    }

    pub async fn has(&self, count: usize) -> Vec<Pushed> {
        until("the messages come", async || self.pushed().len() >= count).await;
        self.pushed()
    }
}

impl Drop for PushService {
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
        let pushed = Pushed { path, headers, body, at: std::time::Instant::now() };
        let says = {
            let mut all = shared.pushed.lock().unwrap();
            let says = shared.rule.lock().unwrap()(all.len(), &pushed);
            all.push(pushed);
            says
        };
        tokio::time::sleep(says.after).await;
        let answer = format!("HTTP/1.1 {} x\r\ncontent-length: 0\r\n{}\r\n", says.status, says.headers);
        if socket.write_all(answer.as_bytes()).await.is_err() {
            return;
        }
    }
}

/// For a wait in whole seconds.
pub fn at_least(pushed: &[Pushed], n: usize, wait: Duration) -> bool {
    pushed[n].at - pushed[n - 1].at >= wait
}
