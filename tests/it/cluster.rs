//! Services on a log of the scenario's own. On the embedded journal one `up` is front and processor; on Kafka a `serve`
//! and a `process` are, each with a data directory of its own.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use clap::Parser;
use paylog::clock::Clocks;
use paylog::config::{Cli, Command, ServiceArgs};
use paylog::control::Control;
use paylog::journal::{Journal, Offset, Partition, TailItem, kafka};
use paylog::payment::{Event, EventData, PaymentId};
use paylog::projection::View;
use paylog::schema::Codec;
use paylog::service::{Role, Service};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::client::Client;

/// The bound on every wait for a fact: long enough for a busy machine, and never waited out by a passing test.
pub const PATIENCE: Duration = Duration::from_secs(60);
pub const PARTITIONS: u32 = 4;

/// A log of its own, and directories for those who work on it.
pub struct Bed {
    pub directory: tempfile::TempDir,
    bootstrap: Option<String>,
    pub prefix: String,
    /// More flags for every service.
    pub flags: Vec<String>,
}

/// A running service.
pub struct Running {
    pub client: Client,
    pub journal: Arc<dyn Journal>,
    pub view: View,
    pub control: Arc<Control>,
    stop: CancellationToken,
    ended: JoinHandle<anyhow::Result<()>>,
}

/// Everything that one scenario needs.
pub struct System {
    pub front: Running,
    /// On the embedded journal the front is the processor too.
    pub processor: Option<Running>,
}

impl Bed {
    pub fn embedded() -> Self {
        Self::new(None)
    }

    pub async fn kafka() -> Self {
        let bootstrap = std::env::var("PAYLOG_TEST_BOOTSTRAP")
            .expect("PAYLOG_TEST_BOOTSTRAP is not set: start a Kafka with scripts/kafka up");
        let bed = Self::new(Some(bootstrap));
        let config = bed.args("serve", "topics", &[]).kafka.config("topics").unwrap();
        tokio::task::spawn_blocking(move || kafka::ensure(&config, 1)).await.unwrap().unwrap();
        bed
    }

    /// On a cluster of the test's own, without any topics yet.
    pub fn on(bootstrap: String) -> Self {
        Self::new(Some(bootstrap))
    }

    fn new(bootstrap: Option<String>) -> Self {
        let prefix = format!("it-{}", uuid::Uuid::new_v4().simple());
        Self { directory: tempfile::tempdir().unwrap(), bootstrap, prefix, flags: Vec::new() }
    }

    pub fn with(mut self, flags: &[&str]) -> Self {
        self.flags.extend(flags.iter().map(|flag| (*flag).to_owned()));
        self
    }

    pub fn is_kafka(&self) -> bool {
        self.bootstrap.is_some()
    }

    pub fn data_dir(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// The words of a command line for a service with its data in `name`.
    pub fn words(&self, command: &str, name: &str, more: &[&str]) -> Vec<String> {
        let data = self.data_dir(name).to_str().unwrap().to_owned();
        let mut words: Vec<String> = ["paylog", command, "--listen", "127.0.0.1:0", "--data-dir", &data]
            .into_iter()
            .map(str::to_owned)
            .collect();
        words.extend(["--partitions".to_owned(), PARTITIONS.to_string()]);
        words.extend(
            ["--simulator-latency-ms", "5", "--retry-min-ms", "20", "--drain-seconds", "20"].map(str::to_owned),
        );
        if let Some(bootstrap) = &self.bootstrap {
            let group = format!("{}-group", self.prefix);
            words.extend(["--bootstrap-servers", bootstrap, "--topic-prefix", &self.prefix].map(str::to_owned));
            words.extend(["--group", &group, "--allow-single-replica"].map(str::to_owned));
        }
        words.extend(self.flags.iter().cloned().chain(more.iter().map(|flag| (*flag).to_owned())));
        dedup(words)
    }

    pub fn args(&self, command: &str, name: &str, more: &[&str]) -> ServiceArgs {
        match Cli::try_parse_from(self.words(command, name, more)).unwrap().command {
            Command::Up(args) | Command::Serve(args) | Command::Process(args) | Command::Notify(args) => args,
            other => panic!("{other:?} is no service"),
        }
    }

    pub async fn run(&self, role: Role, name: &str, more: &[&str]) -> Running {
        self.run_at(role, name, more, Clocks::system()).await
    }

    /// On a machine whose clock says what `clocks` say.
    pub async fn run_at(&self, role: Role, name: &str, more: &[&str], clocks: Clocks) -> Running {
        let command = match role {
            Role::All => "up",
            Role::Serve => "serve",
            Role::Process => "process",
            Role::Notify => "notify",
        };
        let service = Service::open_at(self.args(command, name, more), role, clocks).await.unwrap();
        let client = Client::new(&format!("http://{}", service.address().unwrap()));
        let (journal, view, control) = (service.journal(), service.view(), service.control());
        let stop = CancellationToken::new();
        let ended = tokio::spawn(service.run(stop.clone()));
        let running = Running { client, journal, view, control, stop, ended };
        running.ready().await;
        running
    }

    pub async fn start(&self) -> System {
        self.start_with(&[]).await
    }

    pub async fn start_with(&self, more: &[&str]) -> System {
        if self.is_kafka() {
            let front = self.run(Role::Serve, "serve", more).await;
            System { front, processor: Some(self.run(Role::Process, "process", more).await) }
        } else {
            System { front: self.run(Role::All, "up", more).await, processor: None }
        }
    }
}

/// clap takes a flag once: the last word on it wins.
fn dedup(words: Vec<String>) -> Vec<String> {
    let mut kept: Vec<String> = words[..2].to_vec();
    let mut rest: Vec<(String, Option<String>)> = Vec::new();
    let mut words = words[2..].iter().peekable();
    while let Some(flag) = words.next() {
        let value = words.next_if(|next| !next.starts_with("--")).cloned();
        rest.retain(|(seen, _)| seen != flag);
        rest.push((flag.clone(), value));
    }
    for (flag, value) in rest {
        kept.push(flag);
        kept.extend(value);
    }
    kept
}

impl Running {
    async fn ready(&self) {
        until("the service is ready", async || self.client.get("/readyz").await.status == 200).await;
    }

    /// Stops as SIGTERM does, and must end well.
    pub async fn stop(self) {
        self.stop.cancel();
        self.ended().await.unwrap();
    }

    /// Waits until it ends by itself, as it must not end: with an error.
    pub async fn failure(self) -> String {
        format!("{:#}", self.ended().await.expect_err("it ended well"))
    }

    async fn ended(self) -> anyhow::Result<()> {
        let Self { journal, view, control, ended, .. } = self;
        drop((journal, view, control));
        tokio::time::timeout(PATIENCE, ended).await.expect("the service did not stop").unwrap()
    }

    /// Waits until it ends by itself, which must be a failure, and answers with what it says.
    pub async fn fails(self) -> String {
        let Self { journal, view, ended, .. } = self;
        drop((journal, view));
        let ended = tokio::time::timeout(PATIENCE, ended).await.expect("the service goes on").unwrap();
        format!("{:#}", ended.expect_err("the service ended well"))
    }

    /// Every record on the log, read committed, in the order of each partition.
    pub async fn log(&self) -> Vec<Event> {
        let journal = Arc::clone(&self.journal);
        tokio::task::spawn_blocking(move || read_log(journal.as_ref())).await.unwrap()
    }

    /// The sum of the partitions' ends: it stays the same while nothing is appended.
    pub async fn log_end(&self) -> u64 {
        let journal = Arc::clone(&self.journal);
        let ends = move || (0..PARTITIONS).map(|p| journal.ends(Partition(p)).unwrap().uncommitted.0).sum();
        tokio::task::spawn_blocking(ends).await.unwrap()
    }
}

impl System {
    pub async fn stop(self) {
        if let Some(processor) = self.processor {
            processor.stop().await;
        }
        self.front.stop().await;
    }
}

fn read_log(journal: &dyn Journal) -> Vec<Event> {
    let codec = Codec::new().unwrap();
    let ends: Vec<Offset> = (0..PARTITIONS).map(|p| journal.ends(Partition(p)).unwrap().uncommitted).collect();
    let mut tail = journal.tail(&vec![Offset(0); PARTITIONS as usize]).unwrap();
    let mut reached = vec![Offset(0); PARTITIONS as usize];
    let (mut events, deadline) = (Vec::new(), Instant::now() + PATIENCE);
    while reached.iter().zip(&ends).any(|(reached, end)| reached < end) {
        assert!(Instant::now() < deadline, "the log cannot be read to its end: {reached:?} of {ends:?}");
        for item in tail.poll(1_000, Duration::from_millis(50)).unwrap() {
            match item {
                TailItem::Record(record) => {
                    reached[record.position.partition.0 as usize] = record.position.offset.next();
                    events.push(codec.decode(&record.value).unwrap());
                }
                TailItem::CaughtUp(next) => reached[next.partition.0 as usize] = next.offset,
            }
        }
    }
    events
}

/// How many ends of this payment stand on the log, effective or not.
pub fn ends_of(log: &[Event], id: PaymentId) -> usize {
    log.iter()
        .filter(|event| event.payment_id == id)
        .filter(|event| matches!(event.data, EventData::PaymentSuccessful(_) | EventData::PaymentFailed(_)))
        .count()
}

/// Waits until `fact` holds, and panics with `what` if it never does.
pub async fn until(what: &str, fact: impl AsyncFn() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !fact().await {
        assert!(Instant::now() < deadline, "waited in vain: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}
