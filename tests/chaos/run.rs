//! One run from start to report.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use paylog::checker::{Checker, Liveness, Report, files};
use paylog::journal::kafka;
use paylog::payment::Timestamp;
use tokio::sync::{Mutex, mpsc};
use tokio::task::{JoinHandle, JoinSet, block_in_place, spawn_blocking};
use tokio_util::sync::CancellationToken;

use crate::Args;
use crate::api::Api;
use crate::brokers::Brokers;
use crate::fleet::{Fleet, TOPIC};
use crate::foreign::{self, REQUESTS};
use crate::gather::{self, COMMITTED};
use crate::nemesis::Nemesis;
use crate::payers::{Methods, Payers};
use crate::readers::Readers;
use crate::recorder::Recorder;

/// Every payment has ended this long after the faults ended, or the run has failed.
const BAR: Duration = Duration::from_secs(60);
/// How much longer than the bar is waited, so that the report can say how long it took.
const PATIENCE: Duration = Duration::from_secs(30);
/// Long enough for streams to be told, and for the idle lanes to commit where they are.
const REST: Duration = Duration::from_secs(12);
const SETTLE_PAUSE: Duration = Duration::from_millis(500);
const OFFSETS_EVERY: Duration = Duration::from_secs(3);
const REPLICAS: u16 = 3;
const PAYERS: u64 = 32;
const READERS: u64 = 100;
const CUSTOMERS_FOLLOWED: u32 = 10;
const FOLLOWED_MAX: usize = 4;

/// Declines, and what a provider does wrong, each in thousandths of the payments.
const METHODS: Methods = &[
    ("pm_card_visa_chargeDeclined", 50),
    ("pm_card_visa_chargeDeclinedInsufficientFunds", 20),
    ("pm_sim_delay", 10),
    ("pm_sim_silent", 5),
    ("pm_sim_charged_then_silent", 10),
    ("pm_sim_reset", 10),
    ("pm_sim_truncated", 10),
    ("pm_sim_wrong_json", 10),
    ("pm_sim_not_utf8", 5),
    ("pm_sim_huge", 2),
    ("pm_sim_500_after_charge", 10),
    ("pm_sim_in_progress", 10),
    ("pm_sim_rate_limited", 10),
    ("pm_sim_transient", 20),
    ("pm_sim_redirect", 5),
    ("pm_sim_late_success", 10),
    ("pm_sim_wrong_amount", 5),
    ("pm_sim_wrong_currency", 5),
    ("pm_sim_wrong_reference", 5),
];
/// What strikes payments that would go well, by itself.
const FAULTS: &[&str] = &["reset=0.01", "charged_then_silent=0.005", "transient=0.02", "rate_limited=0.01"];

/// What the run works with.
pub struct Bed {
    pub out: PathBuf,
    pub brokers: Arc<Brokers>,
    pub fleet: Arc<Fleet>,
    pub api: Arc<Api>,
    pub recorder: Arc<Recorder>,
    pub supervised: CancellationToken,
}

/// Answers whether all went well: no promise was broken, and nobody that had started well ended by itself.
pub async fn run(args: &Args) -> anyhow::Result<bool> {
    let scratch = args.out.is_none();
    let out =
        args.out.clone().unwrap_or_else(|| std::env::temp_dir().join(format!("paylog-chaos-{}", std::process::id())));
    println!("chaos: seed {}, {} s, in {}", args.seed, args.seconds, out.display());
    let interrupted = async {
        let mut terminate = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())?;
        tokio::select! {
            done = tokio::signal::ctrl_c() => done,
            _ = terminate.recv() => Ok(()),
        }
    };
    let bed = Bed::make(args, &out).await?;
    let report = tokio::select! {
        report = bed.whole(args) => report?,
        _ = interrupted => anyhow::bail!("interrupted"),
    };
    let well = report.is_clean() && bed.fleet.exits().iter().all(|exit| exit.starting);
    drop(bed);
    if scratch && well {
        drop(std::fs::remove_dir_all(&out));
    }
    Ok(well)
}

/// Whatever happens, nothing is left behind.
impl Drop for Bed {
    fn drop(&mut self) {
        self.supervised.cancel();
        self.fleet.end();
        self.brokers.end();
    }
}

impl Bed {
    async fn make(args: &Args, out: &Path) -> anyhow::Result<Self> {
        let logs = out.join("logs");
        std::fs::create_dir_all(&logs).with_context(|| format!("cannot make {}", logs.display()))?;
        let brokers = Arc::new(Brokers::start(&out.join("kafka"), &logs).await?);
        let fleet = Arc::new(Fleet::new(out, &logs, &brokers, FAULTS, args.seed)?);
        let api = Arc::new(Api::new(fleet.urls.clone())?);
        let (recorder, supervised) = (Arc::new(Recorder::new()), CancellationToken::new());
        Ok(Self { out: out.to_owned(), brokers, fleet, api, recorder, supervised })
    }

    async fn whole(&self, args: &Args) -> anyhow::Result<Report> {
        self.start().await?;
        let [calm, rest, offsets_stop] = std::array::from_fn(|_| CancellationToken::new());
        let (followed, ids) = mpsc::channel(FOLLOWED_MAX);
        let readers = self.readers(args, (&calm, &rest), ids);
        let offsets = self.watch_offsets(&offsets_stop);
        let earlier = self.chaos(args, followed).await?;
        let faults_ended_at = self.heal().await?;
        calm.cancel();
        let settled = self.settle(faults_ended_at).await?;
        let rest_from = Timestamp::now();
        self.read_everything(&settled).await;
        tokio::time::sleep(REST).await;
        rest.cancel();
        readers.join_all().await;
        offsets_stop.cancel();
        offsets.await?;
        let (bar_ms, observed_at) = (u64::try_from(BAR.as_millis())?, rest_from);
        let liveness = Liveness { faults_ended_at, bar_ms, observed_at, rest_from: Some(rest_from) };
        let history = self.history(liveness, earlier).await?;
        files::save(&history, &self.out.join("history"))?;
        let report = Checker::new()?.check(&history);
        self.tell(args, &report)?;
        Ok(report)
    }

    async fn start(&self) -> anyhow::Result<()> {
        let args = self.fleet.args("topics", &self.brokers.direct)?;
        let config = args.kafka.config("topics").context("no bootstrap servers")?;
        spawn_blocking(move || kafka::ensure(&config, REPLICAS)).await??;
        tokio::spawn(Arc::clone(&self.fleet).supervise(self.supervised.clone()));
        self.fleet.start(&self.api).await
    }

    fn readers(
        &self,
        args: &Args,
        (calm, rest): (&CancellationToken, &CancellationToken),
        ids: mpsc::Receiver<String>,
    ) -> JoinSet<()> {
        let (api, recorder, calm, rest) =
            (Arc::clone(&self.api), Arc::clone(&self.recorder), calm.clone(), rest.clone());
        let (readers, ids) = (Arc::new(Readers { api, recorder, calm, rest }), Arc::new(Mutex::new(ids)));
        let mut tasks = JoinSet::new();
        for number in 0..READERS {
            tasks.spawn(Arc::clone(&readers).payments(number, args.seed, Arc::clone(&ids)));
        }
        for number in 0..CUSTOMERS_FOLLOWED {
            tasks.spawn(Arc::clone(&readers).customer(number, args.seed));
        }
        tasks
    }

    fn watch_offsets(&self, stop: &CancellationToken) -> JoinHandle<()> {
        let (bootstrap, recorder, stop) = (self.brokers.direct.clone(), Arc::clone(&self.recorder), stop.clone());
        spawn_blocking(move || {
            while !stop.is_cancelled() {
                for offset in gather::group_offsets(&bootstrap).unwrap_or_default() {
                    recorder.offsets.push(offset);
                }
                std::thread::sleep(OFFSETS_EVERY);
            }
        })
    }

    /// Clients pay while everything goes wrong. Answers with the log as it stood on the way.
    async fn chaos(
        &self,
        args: &Args,
        followed: mpsc::Sender<String>,
    ) -> anyhow::Result<Vec<paylog::checker::LogRecord>> {
        let stop = CancellationToken::new();
        let payers = Payers::new(Arc::clone(&self.api), Arc::clone(&self.recorder), METHODS, followed);
        let mut clients = JoinSet::new();
        for number in 0..PAYERS {
            let rate = args.rate / PAYERS as f64;
            clients.spawn(Arc::clone(&payers).run(number, args.seed, rate, stop.clone()));
        }
        let foreign = foreign::produce(self.brokers.proxied.clone(), payers, args.seed, stop.clone());
        let foreign = tokio::spawn(foreign);
        let nemesis = Arc::new(Nemesis {
            fleet: Arc::clone(&self.fleet),
            brokers: Arc::clone(&self.brokers),
            recorder: Arc::clone(&self.recorder),
            stop: stop.clone(),
        });
        let nemesis = tokio::spawn(nemesis.run(args.seed));
        let half = Duration::from_secs(args.seconds) / 2;
        tokio::time::sleep(half).await;
        let bootstrap = self.brokers.direct.clone();
        let earlier = spawn_blocking(move || gather::log(&bootstrap, COMMITTED));
        tokio::time::sleep(half).await;
        stop.cancel();
        nemesis.await?;
        clients.join_all().await;
        foreign.await??;
        Ok(earlier.await?.unwrap_or_default())
    }

    /// Everything runs and reaches everything. Answers when that was so.
    async fn heal(&self) -> anyhow::Result<Timestamp> {
        self.brokers.mend_links().await;
        self.fleet.spare.kill();
        for process in self.fleet.regulars().chain([&self.fleet.provider]) {
            process.thaw();
            process.start()?;
        }
        block_in_place(|| self.brokers.wait_whole(TOPIC))?;
        let at = Timestamp::now();
        println!("{:>10}healed", "");
        Ok(at)
    }

    /// Waits until every payment that was accepted, and every one that was asked for over Kafka, has ended or is parked, as
    /// the API says, or the patience is over. Looks at the log again until nothing new comes up: what stands behind an open
    /// transaction is seen only when that has ended.
    async fn settle(&self, from: Timestamp) -> anyhow::Result<Vec<String>> {
        let (mut ended, mut open) = (BTreeSet::new(), BTreeSet::new());
        loop {
            for id in self.accepted(from).await?.into_iter().filter(|id| !ended.contains(id)) {
                open.insert(id);
            }
            let mut still = BTreeSet::new();
            for id in std::mem::take(&mut open) {
                if self.has_ended(&id).await {
                    ended.insert(id)
                } else {
                    still.insert(id)
                };
            }
            open = still;
            let nothing_hangs = self.nothing_hangs().await;
            if open.is_empty() && nothing_hangs && self.accepted(from).await?.is_subset(&ended) {
                break;
            }
            if Timestamp::now().since(from) >= BAR + PATIENCE {
                break;
            }
            tokio::time::sleep(SETTLE_PAUSE).await;
        }
        let took = Timestamp::now().since(from).as_secs_f64();
        println!("{:>10}settled, {} still open, after {took:.1} s", "", open.len());
        ended.append(&mut open);
        Ok(ended.into_iter().collect())
    }

    /// The payments on the log as far as it is committed, and those that were asked for over Kafka.
    async fn accepted(&self, from: Timestamp) -> anyhow::Result<BTreeSet<String>> {
        let bootstrap = self.brokers.direct.clone();
        let (log, requests) = spawn_blocking(move || {
            anyhow::Ok((gather::log(&bootstrap, COMMITTED)?, gather::topic(&bootstrap, REQUESTS, COMMITTED)?))
        })
        .await??;
        let (requested, _) = foreign::asked(requests, from);
        let requested = requested.iter().filter_map(|one| one.answer().map(|answer| answer.payment_id.clone()));
        Ok(log.into_iter().map(|record| record.key).chain(requested).collect())
    }

    async fn nothing_hangs(&self) -> bool {
        let bootstrap = self.brokers.direct.clone();
        let ends = spawn_blocking(move || gather::ends(&bootstrap)).await;
        matches!(ends, Ok(Ok(ends)) if ends.iter().all(|ends| ends.committed == ends.uncommitted))
    }

    async fn has_ended(&self, id: &str) -> bool {
        let history = self.api.history("settle", 0, id).await;
        let last = history.answer().and_then(|answer| answer.events.last()).map(|(_, name)| name.clone());
        last.is_some_and(|name| ["PaymentSuccessful", "PaymentFailed", "PaymentParked"].contains(&name.as_str()))
    }

    /// Every instance is asked for every payment.
    async fn read_everything(&self, ids: &[String]) {
        for instance in 0..self.api.urls.len() {
            for id in ids {
                let mut operation = self.api.get("at-rest", instance, id, None).await;
                for _ in 0..3 {
                    if operation.answer().is_none() {
                        operation = self.api.get("at-rest", instance, id, None).await;
                    }
                }
                self.recorder.operations.push(operation);
            }
        }
    }

    fn tell(&self, args: &Args, report: &Report) -> anyhow::Result<()> {
        std::fs::write(self.out.join("faults.json"), serde_json::to_vec_pretty(&self.recorder.faults.all())?)?;
        println!("\nseed {}, {} s of faults", args.seed, args.seconds);
        for (kind, count) in self.recorder.faults_by_kind() {
            println!("fault, {kind}: {count}");
        }
        println!("takeovers: {}", self.fleet.takeovers());
        let (starting, running): (Vec<_>, Vec<_>) = self.fleet.exits().into_iter().partition(|exit| exit.starting);
        println!("gave up while starting, without Kafka, and was started again: {}", starting.len());
        for exit in running {
            println!("ENDED BY ITSELF {}", exit.text);
        }
        println!("{report}");
        Ok(())
    }
}
