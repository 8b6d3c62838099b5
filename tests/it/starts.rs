//! A process that is started while its Kafka is away.

use std::io::{BufRead, BufReader, Read};
use std::net::{Ipv4Addr, SocketAddr};
use std::process::{Child, Command, Stdio};

use tokio::net::{TcpListener, TcpStream};

use crate::cluster::{Bed, PATIENCE};

/// Dies with the test.
struct Starting(Child);

impl Starting {
    fn new(words: &[String]) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_paylog"));
        command.args(&words[1..]).env("RUST_LOG", "paylog=warn").stdout(Stdio::piped()).stderr(Stdio::piped());
        Self(command.spawn().unwrap())
    }

    /// Until it has said on stderr that it waits.
    async fn waits(&mut self) {
        says(self.0.stderr.take().unwrap(), "the log does not answer").await;
        assert!(self.0.try_wait().unwrap().is_none(), "it goes on");
    }

    async fn ends_well_when_told(mut self) {
        let told = Command::new("kill").args(["-TERM", &self.0.id().to_string()]).status().unwrap();
        assert!(told.success());
        let ended = tokio::task::spawn_blocking(move || self.0.wait().unwrap());
        let status = tokio::time::timeout(PATIENCE, ended).await.expect("it does not end").unwrap();
        assert_eq!(status.code(), Some(0));
    }
}

impl Drop for Starting {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

async fn says(output: impl Read + Send + 'static, words: &'static str) {
    let mut lines = BufReader::new(output).lines();
    let read = tokio::task::spawn_blocking(move || lines.any(|line| line.unwrap().contains(words)));
    let said = tokio::time::timeout(PATIENCE, read).await.unwrap_or_else(|_| panic!("it does not say: {words}"));
    assert!(said.unwrap(), "it ended before it said: {words}");
}

fn free_port() -> SocketAddr {
    std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap()
}

#[tokio::test]
async fn a_start_without_its_kafka_waits_and_can_be_stopped() {
    let bed = Bed::on(free_port().to_string());
    let mut starting = Starting::new(&bed.words("serve", "serve", &[]));
    starting.waits().await;
    starting.ends_well_when_told().await;
}

#[tokio::test]
#[ignore = "needs Kafka: see CONTRIBUTING.md"]
async fn a_process_that_was_started_before_its_kafka_starts_with_it() {
    let (bed, front) = (Bed::kafka().await, free_port());
    let words = bed.words("serve", "serve", &["--bootstrap-servers", &front.to_string()]);
    let mut starting = Starting::new(&words);
    starting.waits().await;
    // Kafka is there: whoever asks the first address is told all others.
    let upstream = std::env::var("PAYLOG_TEST_BOOTSTRAP").unwrap();
    let listener = TcpListener::bind(front).await.unwrap();
    let forwarding = tokio::spawn(async move {
        loop {
            let (mut client, _) = listener.accept().await.unwrap();
            let mut broker = TcpStream::connect(&upstream).await.unwrap();
            tokio::spawn(async move { tokio::io::copy_bidirectional(&mut client, &mut broker).await });
        }
    });
    says(starting.0.stdout.take().unwrap(), "listening on").await;
    starting.ends_well_when_told().await;
    forwarding.abort();
}
