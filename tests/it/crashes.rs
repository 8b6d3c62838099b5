//! Child processes of the real binary, killed with SIGKILL again and again while payments come in.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use paylog::payment::PaymentId;
use paylog::service::Role;

use crate::client::{Client, body};
use crate::cluster::{Bed, Running, ends_of, until};

const KILLS: usize = 4;
const PAYMENTS_BETWEEN: usize = 60;

/// A child that dies with the test.
pub struct Process {
    child: Child,
    pub client: Client,
}

impl Process {
    pub async fn start(words: Vec<String>) -> Self {
        Self::start_logging(words, "warn", Stdio::inherit()).await
    }

    /// With a log of this filter that goes there.
    pub async fn start_logging(words: Vec<String>, filter: &str, to: Stdio) -> Self {
        Self::start_in(words, &[("RUST_LOG", filter)], to).await
    }

    /// With these in its environment, too.
    pub async fn start_in(words: Vec<String>, environment: &[(&str, &str)], to: Stdio) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_paylog"))
            .args(&words[1..])
            .env("RUST_LOG", "warn")
            .envs(environment.iter().copied())
            .stderr(to)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let line = tokio::task::spawn_blocking(move || lines.next().expect("it said nothing").unwrap()).await.unwrap();
        let client = Client::new(line.strip_prefix("listening on ").unwrap_or_else(|| panic!("{line}")));
        let process = Self { child, client };
        until("the child is ready", async || {
            process.client.try_send(reqwest::Method::GET, "/readyz", &[], None).await.is_ok_and(|a| a.status == 200)
        })
        .await;
        process
    }

    pub fn signal(&self, name: &str) {
        let sent = Command::new("kill").args([&format!("-{name}"), &self.child.id().to_string()]).status().unwrap();
        assert!(sent.success());
    }

    /// Waits for the end.
    pub async fn exit_code(&mut self) -> Option<i32> {
        let deadline = std::time::Instant::now() + crate::cluster::PATIENCE;
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status.code();
            }
            assert!(std::time::Instant::now() < deadline, "the process does not end");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// Waits until nothing listens any more: the drain has begun.
    pub async fn refuses_connections(&self) {
        let address = self.client.url.strip_prefix("http://").unwrap().to_owned();
        until("nothing listens any more", async || tokio::net::TcpStream::connect(&address).await.is_err()).await;
    }

    pub fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Embedded: `up` is killed under its clients. Kafka: `process` is killed in the middle of its batches.
pub async fn killed_at_any_moment_nothing_acknowledged_is_lost(bed: &Bed) {
    let mut acknowledged = Vec::new();
    if bed.is_kafka() {
        let front = bed.run(Role::Serve, "serve", &[]).await;
        for round in 0..KILLS {
            let process = Process::start(bed.words("process", "process", &[])).await;
            pay_and_kill(front.client.clone(), process, round, &mut acknowledged).await;
        }
        assert_eq!(acknowledged.len(), KILLS * PAYMENTS_BETWEEN, "the front was never killed");
        let last = bed.run(Role::Process, "process", &[]).await;
        all_end_once(&front, &acknowledged).await;
        last.stop().await;
        front.stop().await;
    } else {
        for round in 0..KILLS {
            let up = Process::start(bed.words("up", "up", &[])).await;
            pay_and_kill(up.client.clone(), up, round, &mut acknowledged).await;
        }
        assert!(acknowledged.len() >= KILLS * PAYMENTS_BETWEEN / 4, "{} were acknowledged", acknowledged.len());
        let up = bed.run(Role::All, "up", &[]).await;
        all_end_once(&up, &acknowledged).await;
        up.stop().await;
    }
}

/// Pays, and kills when so many are acknowledged: later in each round, and always with others on their way.
async fn pay_and_kill(client: Client, mut victim: Process, round: usize, acknowledged: &mut Vec<PaymentId>) {
    let mut paying = tokio::task::JoinSet::new();
    for n in 0..PAYMENTS_BETWEEN {
        let client = client.clone();
        paying
            .spawn(async move { client.try_pay(&format!("order-{round}-{n}"), &body("cus_1", "pm_card_visa")).await });
    }
    let (kill_at, mut answered) = (PAYMENTS_BETWEEN * (round + 1) / (KILLS + 1), 0);
    while let Some(answer) = paying.join_next().await {
        // A request that died with the process is neither accepted nor refused: nobody was told anything.
        let Ok(answer) = answer.unwrap() else { continue };
        assert_eq!(answer.status, 202, "{answer:?}");
        acknowledged.push(answer.id());
        answered += 1;
        if answered == kill_at {
            victim.kill();
        }
    }
}

async fn all_end_once(front: &Running, acknowledged: &[PaymentId]) {
    for id in acknowledged {
        until("every acknowledged payment ends", async || {
            front.view.payment(*id).unwrap().is_some_and(|row| row.payment.is_terminal())
        })
        .await;
    }
    let log = front.log().await;
    for id in acknowledged {
        assert_eq!(ends_of(&log, *id), 1, "{id} ends exactly once");
    }
}
