//! An AMQP 1.0 broker that is not ours (ActiveMQ Artemis, by `scripts/artemis`), and clients of it that are not (npm's rhea, by
//! `tests/amqp/*.mjs`).

use std::io::{BufRead, BufReader, Write};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::foreign::GOOD;

/// As `scripts/artemis` sets it up.
pub const USER: &str = "paylog";
pub const PASSWORD: &str = "paylog-key";
pub const KEYS: [(&str, &str); 2] = [("PAYLOG_SERVICE_BUS_KEY_NAME", USER), ("PAYLOG_SERVICE_BUS_KEY", PASSWORD)];

/// What an endpoint of kind `service_bus` is given.
pub fn credential(password: &str) -> String {
    format!("SharedAccessKeyName={USER};SharedAccessKey={password}")
}

fn shared_broker() -> String {
    std::env::var("PAYLOG_TEST_ARTEMIS")
        .expect("PAYLOG_TEST_ARTEMIS is not set: start a broker with scripts/artemis up")
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn node(script: &str) -> Command {
    let modules = std::env::var("PAYLOG_TEST_AMQP_MODULES")
        .expect("PAYLOG_TEST_AMQP_MODULES is not set: npm install rhea somewhere, and name its node_modules");
    let mut node = Command::new("node");
    // Its own recursion goes as deep as what it is asked to nest.
    node.arg("--stack-size=16000").arg(root().join("tests/amqp").join(script)).env("AMQP_MODULES", modules);
    node
}

/// A queue of the test's own.
#[derive(Clone)]
pub struct Queue {
    pub broker: String,
    name: String,
}

/// A message that asks for a payment.
pub fn good(id: &str) -> Value {
    json!({"id": id, "body": GOOD})
}

impl Queue {
    pub fn new() -> Self {
        Self::on(&shared_broker())
    }

    pub fn on(broker: &str) -> Self {
        Self { broker: broker.to_owned(), name: format!("q-{}", uuid::Uuid::new_v4().simple()) }
    }

    pub fn url(&self) -> String {
        format!("{}/{}", self.broker, self.name)
    }

    /// The same queue, by way of another address.
    pub fn by(&self, broker: &str) -> String {
        format!("{broker}/{}", self.name)
    }

    /// Where its refused messages are.
    pub fn dead_letters(&self) -> Self {
        Self { broker: self.broker.clone(), name: format!("DLQ::DLQ.{}", self.name) }
    }

    pub async fn send(&self, messages: &[Value]) {
        let lines: String = messages.iter().map(|message| format!("{message}\n")).collect();
        self.run(&["send", &self.name], lines).await;
    }

    /// Waits for so many, and takes them.
    pub async fn read(&self, count: usize) -> Vec<Value> {
        let printed = self.run(&["read", &self.name, &count.to_string()], String::new()).await;
        printed.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    /// Takes what there is.
    pub async fn rest(&self) -> Vec<Value> {
        let printed = self.run(&["read", &self.name, "all"], String::new()).await;
        printed.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    async fn run(&self, words: &[&str], input: String) -> String {
        let mut command = node("queue.mjs");
        command.arg(&self.broker).args(words).stdin(Stdio::piped()).stdout(Stdio::piped());
        let output = tokio::task::spawn_blocking(move || {
            let mut child = command.spawn().unwrap();
            child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
            child.wait_with_output().unwrap()
        });
        let output = output.await.unwrap();
        assert!(output.status.success(), "{words:?}");
        String::from_utf8(output.stdout).unwrap()
    }
}

/// A broker of the test's own, which it may stop.
pub struct Broker {
    directory: tempfile::TempDir,
    pub url: String,
}

impl Broker {
    pub async fn start() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let url = script(directory.path().to_owned(), "up").await;
        Self { directory, url }
    }

    pub async fn stop(&self) {
        script(self.directory.path().to_owned(), "down").await;
    }

    pub async fn start_again(&self) {
        assert_eq!(script(self.directory.path().to_owned(), "up").await, self.url, "the same port");
    }

    /// Where it speaks TLS, and the file with who vouches for it.
    pub fn secure(&self) -> (String, String) {
        let port = std::fs::read_to_string(self.directory.path().join("tls-port")).unwrap();
        let vouches = self.directory.path().join("ca.pem");
        (format!("amqps://localhost:{}", port.trim()), vouches.to_str().unwrap().to_owned())
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        drop(Command::new(root().join("scripts/artemis")).args(["kill", "--dir"]).arg(self.directory.path()).status());
    }
}

async fn script(directory: PathBuf, verb: &'static str) -> String {
    let run =
        move || Command::new(root().join("scripts/artemis")).args([verb, "--dir"]).arg(directory).output().unwrap();
    let output = tokio::task::spawn_blocking(run).await.unwrap();
    assert!(output.status.success(), "scripts/artemis {verb}: {}", String::from_utf8_lossy(&output.stderr));
    let printed = String::from_utf8(output.stdout).unwrap();
    printed.trim().trim_start_matches("PAYLOG_TEST_ARTEMIS=").to_owned()
}

/// A relay to a broker, which can be told to keep what is said to the broker from it.
pub struct Relay {
    pub url: String,
    swallows: Arc<AtomicBool>,
}

impl Relay {
    pub async fn to(broker: &str) -> Self {
        let upstream: SocketAddr = broker.strip_prefix("amqp://").unwrap().parse().unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("amqp://{}", listener.local_addr().unwrap());
        let swallows = Arc::new(AtomicBool::new(false));
        let swallowed = Arc::clone(&swallows);
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let broker = TcpStream::connect(upstream).await.unwrap();
                let (from_client, to_client) = client.into_split();
                let (from_broker, to_broker) = broker.into_split();
                tokio::spawn(pass(from_client, to_broker, Arc::clone(&swallowed)));
                tokio::spawn(pass(from_broker, to_client, Arc::default()));
            }
        });
        Self { url, swallows }
    }

    pub fn swallow(&self) {
        self.swallows.store(true, Ordering::Release);
    }
}

async fn pass(
    mut from: tokio::net::tcp::OwnedReadHalf,
    mut to: tokio::net::tcp::OwnedWriteHalf,
    swallow: Arc<AtomicBool>,
) {
    let mut bytes = vec![0; 16 * 1024];
    while let Ok(read @ 1..) = from.read(&mut bytes).await {
        if !swallow.load(Ordering::Acquire) && to.write_all(&bytes[..read]).await.is_err() {
            return;
        }
    }
}

/// Something that answers as Azure Service Bus does, as far as its documents say: it gives out messages, and prints how each
/// was settled.
pub struct Imitation {
    child: Child,
    lines: Option<BufReader<ChildStdout>>,
    pub url: String,
}

impl Imitation {
    pub async fn giving_out(messages: &[Value]) -> Self {
        Self::start(messages, 0).await
    }

    /// It greets with so many lists in each other.
    pub async fn greeting_with(nested: usize) -> Self {
        Self::start(&[], nested).await
    }

    async fn start(messages: &[Value], nested: usize) -> Self {
        let mut command = node("imitation.mjs");
        command.args([USER, PASSWORD, &nested.to_string()]).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let lines: String = messages.iter().map(|message| format!("{message}\n")).collect();
        child.stdin.take().unwrap().write_all(lines.as_bytes()).unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap());
        let mut imitation = Self { child, lines: Some(lines), url: String::new() };
        imitation.url = format!("amqp://127.0.0.1:{}", imitation.line().await["port"]);
        imitation
    }

    /// What it prints next.
    pub async fn line(&mut self) -> Value {
        let mut lines = self.lines.take().unwrap();
        let (lines, line) = tokio::task::spawn_blocking(move || {
            let mut line = String::new();
            lines.read_line(&mut line).unwrap();
            (lines, line)
        })
        .await
        .unwrap();
        self.lines = Some(lines);
        serde_json::from_str(&line).unwrap_or_else(|_| panic!("the imitation has ended: {line:?}"))
    }
}

impl Drop for Imitation {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}
