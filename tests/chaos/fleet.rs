//! paylog as it is run: two instances of the API, three processors and one more for storms, and the provider. Each a process
//! of its own, with its own directory.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::ensure;
use paylog::config::{Cli, Command, ServiceArgs};
use tokio_util::sync::CancellationToken;

use crate::api::Api;
use crate::brokers::Brokers;
use crate::process::{Exit, Process, free_ports};

pub const TOPIC: &str = "payments";
pub const GROUP: &str = "paylog-processor";
pub const PARTITIONS: u32 = 6;
const APIS: usize = 2;
const PROCESSORS: usize = 3;
const LOOK_EVERY: Duration = Duration::from_millis(200);
const READY_MAX: Duration = Duration::from_secs(90);

pub struct Fleet {
    pub apis: Vec<Arc<Process>>,
    pub processors: Vec<Arc<Process>>,
    /// Runs only in a storm.
    pub spare: Arc<Process>,
    pub provider: Arc<Process>,
    pub provider_url: String,
    pub urls: Vec<String>,
    data: PathBuf,
}

impl Fleet {
    /// Everything but the topics is made here, and nothing is started.
    pub fn new(dir: &Path, logs: &Path, brokers: &Brokers, faults: &[&str], seed: u64) -> anyhow::Result<Self> {
        let program = Path::new(env!("CARGO_BIN_EXE_paylog"));
        let ports: [u16; APIS + 1] = free_ports()?;
        let data = dir.join("data");
        let provider_url = format!("http://127.0.0.1:{}", ports[APIS]);
        let service = |command: &str, name: &str, port: u16| {
            let args = words(command, &data.join(name), port, &brokers.proxied, &provider_url);
            Arc::new(Process::new(name, program, args, logs))
        };
        let mut provider = ["gateway-simulator", "--listen", &format!("127.0.0.1:{}", ports[APIS]), "--data-dir"]
            .map(str::to_owned)
            .to_vec();
        provider.push(data.join("provider").display().to_string());
        provider.extend(["--listing-lag-ms", "1000", "--seed", &seed.to_string()].map(str::to_owned));
        provider.extend(faults.iter().flat_map(|fault| ["--fault".to_owned(), (*fault).to_owned()]));
        Ok(Self {
            apis: (0..APIS).map(|n| service("serve", &Api::name(n), ports[n])).collect(),
            processors: (1..=PROCESSORS).map(|n| service("process", &format!("processor-{n}"), 0)).collect(),
            spare: service("process", "processor-spare", 0),
            provider: Arc::new(Process::new("provider", program, provider, logs)),
            provider_url: provider_url.clone(),
            urls: ports[..APIS].iter().map(|port| format!("http://127.0.0.1:{port}")).collect(),
            data,
        })
    }

    /// The service's own words, for the parts of it that this program opens itself when the service has stopped.
    pub fn args(&self, name: &str, bootstrap: &str) -> anyhow::Result<ServiceArgs> {
        use clap::Parser;
        let mut args = vec!["paylog".to_owned()];
        args.extend(words("serve", &self.data.join(name), 0, bootstrap, &self.provider_url));
        match Cli::try_parse_from(args)?.command {
            Command::Serve(args) => Ok(args),
            other => anyhow::bail!("{other:?} is no service"),
        }
    }

    /// The transactional id of a processor, once it has one.
    pub fn transactional_id(&self, processor: &Process) -> Option<String> {
        let id = std::fs::read_to_string(self.data.join(&processor.name).join("instance-id")).ok()?;
        Some(format!("{GROUP}/{}/0", id.trim()))
    }

    pub fn regulars(&self) -> impl Iterator<Item = &Arc<Process>> {
        self.apis.iter().chain(&self.processors)
    }

    pub fn everything(&self) -> impl Iterator<Item = &Arc<Process>> {
        self.regulars().chain([&self.spare, &self.provider])
    }

    pub async fn start(&self, api: &Api) -> anyhow::Result<()> {
        self.provider.start()?;
        for process in self.regulars() {
            process.start()?;
        }
        let ready = async {
            for instance in 0..self.urls.len() {
                while !api.ready(instance).await {
                    tokio::time::sleep(LOOK_EVERY).await;
                }
            }
        };
        ensure!(tokio::time::timeout(READY_MAX, ready).await.is_ok(), "the API is not ready after {READY_MAX:?}");
        Ok(())
    }

    /// Starts again what ends by itself, until `stop`.
    pub async fn supervise(self: Arc<Self>, stop: CancellationToken) {
        while !stop.is_cancelled() {
            for process in self.everything() {
                tokio::task::block_in_place(|| process.supervise());
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    /// kill -9 to all of it, for good.
    pub fn end(&self) {
        self.everything().for_each(|process| process.end());
    }

    /// How often a processor took lanes over.
    pub fn takeovers(&self) -> usize {
        let processors = self.processors.iter().chain([&self.spare]);
        processors.map(|processor| processor.log().matches("lanes taken").count()).sum()
    }

    pub fn exits(&self) -> Vec<Exit> {
        self.everything().flat_map(|process| process.exits()).collect()
    }
}

fn words(command: &str, data: &Path, port: u16, bootstrap: &str, provider: &str) -> Vec<String> {
    let (listen, partitions) = (format!("127.0.0.1:{port}"), PARTITIONS.to_string());
    let data = data.display().to_string();
    [
        [command, "--listen", &listen, "--data-dir", &data, "--bootstrap-servers", bootstrap].as_slice(),
        &["--topic-prefix", TOPIC, "--group", GROUP, "--partitions", &partitions],
        &["--stream-heartbeat-ms", "5000", "--retry-max-ms", "5000"],
        &[
            "--gateway-deadline-ms",
            "5000",
            "--gateway-not-found-final-seconds",
            "3",
            "--gateway",
            "stripe",
            "--gateway-url",
            provider,
        ],
    ]
    .concat()
    .into_iter()
    .map(str::to_owned)
    .collect()
}
