//! Three real brokers, and a proxy before each: what paylog reaches of a broker it reaches through its proxy, and who looks
//! on (this program) does not.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use rdkafka::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::metadata::Metadata;
use serde_json::{Value, json};

use crate::process::{Process, free_ports, signal};

pub const BROKERS: [u32; 3] = [1, 2, 3];
const TOXIPROXY: &str = "github.com/Shopify/toxiproxy/v2/cmd/server@v2.5.0";
const ASK_MAX: Duration = Duration::from_secs(5);
const GONE_MAX: Duration = Duration::from_secs(20);
/// All brokers are up again within this, or the machine is broken.
const BACK_MAX: Duration = Duration::from_secs(120);

pub struct Brokers {
    dir: PathBuf,
    script: PathBuf,
    /// Around the proxies.
    pub direct: String,
    /// Through the proxies.
    pub proxied: String,
    proxies: Proxies,
    over: AtomicBool,
}

struct Proxies {
    api: String,
    http: reqwest::Client,
    process: Arc<Process>,
}

impl Brokers {
    pub async fn start(dir: &Path, logs: &Path) -> anyhow::Result<Self> {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/kafka");
        let mut brokers = Self {
            dir: dir.to_owned(),
            script,
            direct: String::new(),
            proxied: String::new(),
            proxies: Proxies::start(logs)?,
            over: AtomicBool::new(false),
        };
        let up = brokers.script(&["up", "--brokers", "3", "--proxied"])?;
        let said = String::from_utf8_lossy(&up.stdout).into_owned();
        ensure!(up.status.success(), "the brokers do not start: {}", String::from_utf8_lossy(&up.stderr));
        let direct = said.trim().strip_prefix("PAYLOG_BOOTSTRAP_SERVERS=").context("the brokers name no address")?;
        brokers.direct = direct.to_owned();
        let lines = std::fs::read_to_string(dir.join("proxies")).context("the brokers have no proxies")?;
        let mut proxied = Vec::new();
        for line in lines.lines() {
            let mut words = line.split_whitespace();
            let (Some(broker), Some(listen), Some(upstream)) = (words.next(), words.next(), words.next()) else {
                continue;
            };
            brokers.proxies.create(broker, listen, upstream).await?;
            proxied.push(listen.to_owned());
        }
        brokers.proxied = proxied.join(",");
        Ok(brokers)
    }

    fn script(&self, args: &[&str]) -> anyhow::Result<Output> {
        Command::new(&self.script).args(args).arg("--dir").arg(&self.dir).output().context("cannot run scripts/kafka")
    }

    /// Stops brokers and proxies, for good.
    pub fn end(&self) {
        if !self.over.swap(true, Ordering::SeqCst) {
            drop(self.script(&["down"]));
            self.proxies.process.end();
        }
    }

    // === brokers ===

    pub fn kill(&self, broker: u32) {
        self.signal_and_wait(broker, "-KILL");
    }

    /// SIGTERM: it hands its partitions over.
    pub fn stop(&self, broker: u32) {
        self.signal_and_wait(broker, "-TERM");
    }

    pub fn revive(&self, broker: u32) {
        if self.pid(broker).is_none() && !self.over.load(Ordering::SeqCst) {
            drop(self.script(&["start", "--broker", &broker.to_string()]));
        }
    }

    fn signal_and_wait(&self, broker: u32, name: &str) {
        let Some(pid) = self.pid(broker) else { return };
        signal(pid, name);
        let deadline = Instant::now() + GONE_MAX;
        while self.pid(broker).is_some() && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(50));
        }
        if self.pid(broker).is_some() {
            signal(pid, "-KILL");
        }
    }

    /// The pid of a broker that runs, and is ours.
    fn pid(&self, broker: u32) -> Option<u32> {
        let pid = std::fs::read_to_string(self.dir.join(format!("broker-{broker}.pid"))).ok()?.trim().parse().ok()?;
        let command = std::fs::read_to_string(format!("/proc/{pid}/cmdline")).ok()?;
        command.contains(self.dir.to_str()?).then_some(pid)
    }

    /// Returns when every broker runs and knows the others, and all that is `topic`'s is in sync. Blocks.
    pub fn wait_whole(&self, topic: &str) -> anyhow::Result<()> {
        let deadline = Instant::now() + BACK_MAX;
        loop {
            BROKERS.iter().for_each(|broker| self.revive(*broker));
            let whole = |metadata: &Metadata| {
                let partitions = metadata.topics().iter().flat_map(|topic| topic.partitions());
                metadata.brokers().len() == BROKERS.len()
                    && partitions.into_iter().all(|p| p.isr().len() == BROKERS.len() && p.leader() > 0)
            };
            if self.metadata(Some(topic)).is_ok_and(|metadata| whole(&metadata)) {
                return Ok(());
            }
            ensure!(Instant::now() < deadline, "the brokers are not whole after {} s", BACK_MAX.as_secs());
            std::thread::sleep(Duration::from_millis(200));
        }
    }

    /// Which broker leads this partition, if one does.
    pub fn leader(&self, topic: &str, partition: u32) -> Option<u32> {
        let metadata = self.metadata(Some(topic)).ok()?;
        let partitions = metadata.topics().first()?.partitions();
        let leader = partitions.iter().find(|p| u32::try_from(p.id()) == Ok(partition))?.leader();
        u32::try_from(leader).ok().filter(|leader| BROKERS.contains(leader))
    }

    /// Which broker coordinates `name`: a group on `__consumer_offsets`, a transactional id on `__transaction_state`.
    pub fn coordinator(&self, topic: &str, name: &str) -> Option<u32> {
        let partitions = self.metadata(Some(topic)).ok()?.topics().first()?.partitions().len();
        let hash = name.encode_utf16().fold(0_i32, |hash, unit| hash.wrapping_mul(31).wrapping_add(i32::from(unit)));
        self.leader(topic, (hash & i32::MAX) as u32 % u32::try_from(partitions).ok().filter(|n| *n > 0)?)
    }

    fn metadata(&self, topic: Option<&str>) -> anyhow::Result<Metadata> {
        let mut config = ClientConfig::new();
        let client: BaseConsumer = config
            .set("bootstrap.servers", &self.direct)
            .set_log_level(rdkafka::config::RDKafkaLogLevel::Emerg)
            .create()?;
        Ok(client.fetch_metadata(topic, ASK_MAX)?)
    }

    // === links ===

    /// The link to a broker breaks, and nobody comes through.
    pub async fn cut(&self, broker: u32) {
        self.proxies.post(&format!("proxies/{broker}"), json!({"enabled": false})).await;
    }

    /// Answers come late.
    pub async fn slow(&self, broker: u32, latency_ms: u64) {
        let attributes = json!({"latency": latency_ms, "jitter": latency_ms / 2});
        self.toxic(broker, "latency", "downstream", attributes).await;
    }

    /// Answers trickle.
    pub async fn narrow(&self, broker: u32, kilobytes_a_second: u64) {
        self.toxic(broker, "bandwidth", "downstream", json!({"rate": kilobytes_a_second})).await;
    }

    /// What is sent arrives, and no answer comes back; the connection stays open.
    pub async fn deafen(&self, broker: u32) {
        self.toxic(broker, "timeout", "downstream", json!({"timeout": 0})).await;
    }

    /// What is sent does not arrive; the connection stays open.
    pub async fn mute(&self, broker: u32) {
        self.toxic(broker, "timeout", "upstream", json!({"timeout": 0})).await;
    }

    async fn toxic(&self, broker: u32, kind: &str, stream: &str, attributes: Value) {
        let toxic = json!({"type": kind, "stream": stream, "attributes": attributes});
        self.proxies.post(&format!("proxies/{broker}/toxics"), toxic).await;
    }

    /// Every link is whole again.
    pub async fn mend_links(&self) {
        self.proxies.post("reset", json!({})).await;
    }
}

impl Drop for Brokers {
    fn drop(&mut self) {
        self.end();
    }
}

impl Proxies {
    fn start(logs: &Path) -> anyhow::Result<Self> {
        let [port] = free_ports()?;
        let args = ["-host", "127.0.0.1", "-port", &port.to_string()].map(str::to_owned).to_vec();
        let process = Arc::new(Process::new("toxiproxy", &program()?, args, logs));
        process.start()?;
        let http = reqwest::Client::builder().timeout(ASK_MAX).build()?;
        Ok(Self { api: format!("http://127.0.0.1:{port}"), http, process })
    }

    async fn create(&self, name: &str, listen: &str, upstream: &str) -> anyhow::Result<()> {
        let proxy = json!({"name": name, "listen": listen, "upstream": upstream, "enabled": true});
        let deadline = Instant::now() + GONE_MAX;
        while !self.post("proxies", proxy.clone()).await {
            ensure!(Instant::now() < deadline, "the proxies do not answer: {}", self.process.log());
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        Ok(())
    }

    async fn post(&self, path: &str, body: Value) -> bool {
        let answer = self.http.post(format!("{}/{path}", self.api)).json(&body).send().await;
        answer.is_ok_and(|answer| answer.status().is_success())
    }
}

/// The toxiproxy server, built into a cache once.
fn program() -> anyhow::Result<PathBuf> {
    let cache = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
    let home = || std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".cache"));
    let bin = cache.or_else(home).context("no home for a cache: set XDG_CACHE_HOME")?.join("paylog/toxiproxy-2.5.0");
    let program = bin.join("server");
    if !program.is_file() {
        let built = Command::new("go").args(["install", TOXIPROXY]).env("GOBIN", &bin).status();
        ensure!(built.context("toxiproxy needs go to be built")?.success(), "go could not build toxiproxy");
    }
    Ok(program)
}
