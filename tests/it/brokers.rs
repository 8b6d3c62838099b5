//! Brokers that fail, in clusters of the tests' own: one leader below its min ISR, the group's own partitions below theirs, a
//! disk from a backup. They start three brokers each, so they run alone: `--ignored brokers:: --test-threads 1`.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use paylog::journal::kafka::{self, KafkaConfig, KafkaJournal};
use paylog::journal::{Assignment, Fate, Journal, JournalError, NewRecord, Offset, Partition, Position};
use paylog::payment::PaymentId;
use paylog::service::{Role, Service};
use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions, AlterConfig, NewTopic, ResourceSpecifier, TopicReplication};
use rdkafka::client::DefaultClientContext;

use crate::client::body;
use crate::cluster::{Bed, PARTITIONS, PATIENCE, Running, ends_of, until};
use crate::foreign::{Foreign, Sent, id};
use crate::takeover::keys_on;

/// Brokers of a test's own, stopped with it.
struct Brokers {
    directory: tempfile::TempDir,
    servers: String,
}

fn script(words: &[&str], directory: &Path) -> String {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/kafka");
    let output = Command::new(script).args(words).arg("--dir").arg(directory).output().unwrap();
    assert!(output.status.success(), "{words:?}: {output:?}");
    String::from_utf8(output.stdout).unwrap()
}

impl Brokers {
    fn up(count: &str) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let said = script(&["up", "--brokers", count], directory.path());
        let servers = said.trim().strip_prefix("PAYLOG_BOOTSTRAP_SERVERS=").expect("where they listen").to_owned();
        Self { directory, servers }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// As a power cut would.
    fn kill(&self, broker: u32) {
        let pid = std::fs::read_to_string(self.path(&format!("broker-{broker}.pid"))).unwrap();
        assert!(Command::new("kill").args(["-9", pid.trim()]).status().unwrap().success());
    }

    fn start(&self, broker: u32) {
        script(&["start", "--broker", &broker.to_string()], self.directory.path());
    }

    fn admin(&self) -> AdminClient<DefaultClientContext> {
        ClientConfig::new().set("bootstrap.servers", &self.servers).create().unwrap()
    }

    /// The topics, with a place of our choice for each partition of the event topic. The first broker named leads.
    async fn topics(&self, bed: &Bed, places: &[&[i32]]) {
        let mut topic =
            NewTopic::new(&bed.prefix, i32::try_from(places.len()).unwrap(), TopicReplication::Variable(places));
        for (key, value) in [
            ("retention.ms", "-1"),
            ("retention.bytes", "-1"),
            ("message.timestamp.type", "LogAppendTime"),
            ("min.insync.replicas", "2"),
        ] {
            topic = topic.set(key, value);
        }
        let made = self.admin().create_topics([&topic], &AdminOptions::new()).await.unwrap();
        assert!(made.iter().all(Result::is_ok), "{made:?}");
        let config = bed.args("serve", "topics", &[]).kafka.config("topics").unwrap();
        tokio::task::spawn_blocking(move || kafka::ensure(&config, 3)).await.unwrap().unwrap();
    }
}

impl Brokers {
    /// Of the partition of this topic that has the most replicas in sync.
    fn in_sync_max(&self, topic: &str) -> usize {
        let metadata = self.admin().inner().fetch_metadata(Some(topic), Duration::from_secs(10)).unwrap();
        metadata.topics()[0].partitions().iter().map(|partition| partition.isr().len()).max().unwrap()
    }

    fn in_sync(&self, topic: &str, partition: usize) -> usize {
        let metadata = self.admin().inner().fetch_metadata(Some(topic), Duration::from_secs(10)).unwrap();
        metadata.topics()[0].partitions().iter().find(|p| p.id() as usize == partition).unwrap().isr().len()
    }

    async fn internal_in_sync_min(&self, topic: &str, in_sync: &str) {
        let entries = [("min.insync.replicas", in_sync), ("cleanup.policy", "compact"), ("segment.bytes", "104857600")];
        let alter = AlterConfig { specifier: ResourceSpecifier::Topic(topic), entries: entries.into() };
        let altered = self.admin().alter_configs([&alter], &AdminOptions::new()).await.unwrap();
        assert!(altered.iter().all(Result::is_ok), "{altered:?}");
    }
}

impl Drop for Brokers {
    fn drop(&mut self) {
        script(&["down"], self.directory.path());
    }
}

async fn has_ended(front: &Running, id: PaymentId) -> bool {
    front.view.payment(id).unwrap().is_some_and(|row| row.payment.is_terminal())
}

async fn all_end_once(front: &Running, ids: &[PaymentId]) {
    for id in ids {
        until("every payment ends", async || has_ended(front, *id).await).await;
    }
    let log = front.log().await;
    assert!(ids.iter().all(|id| ends_of(&log, *id) == 1), "each ends exactly once");
}

/// One leader below its min ISR holds up the payments of its partition and no others.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "starts three brokers: see CONTRIBUTING.md"]
async fn one_partition_below_its_min_isr_holds_up_no_other() {
    /// From the POST to the end, for payments of the others, at the worst moment: one transaction has to fail first.
    const HELD_UP_MAX: Duration = Duration::from_secs(45);
    const PAYMENTS: usize = 24;
    let brokers = Brokers::up("3");
    let bed = Bed::on(brokers.servers.clone());
    brokers.topics(&bed, &[&[1, 2], &[1, 3], &[3, 1], &[1, 3]]).await;
    let front = bed.run(Role::Serve, "serve", &[]).await;
    let processor = bed.run(Role::Process, "process", &["--simulator-latency-ms", "1500"]).await;
    for partition in 0..4 {
        front.client.pay_to_the_end(&keys_on(partition).next().unwrap(), &body("cus_1", "pm_card_visa")).await;
    }
    // On their way to the gateway when the second replica of their partition goes.
    let mut waiting = Vec::new();
    for key in keys_on(0).skip(1).take(5) {
        waiting.push(front.client.pay(&key, &body("cus_1", "pm_card_visa")).await.id());
    }
    brokers.kill(2);
    let (mut others, mut longest) = (Vec::new(), Duration::ZERO);
    let mut keys = [1, 2, 3].map(|partition| keys_on(partition).skip(1));
    for n in 0..PAYMENTS {
        let (key, began) = (keys[n % 3].next().unwrap(), Instant::now());
        // Its leader may have been the one that died: what is not accepted is asked for again.
        let answer = loop {
            let answer = front.client.pay_with(&key, &body("cus_1", "pm_card_visa"), &[("prefer", "wait=60")]).await;
            if answer.status != 503 {
                break answer;
            }
            assert!(began.elapsed() < HELD_UP_MAX, "{answer:?}");
        };
        assert_eq!(answer.text("status"), "successful", "{answer:?}");
        longest = longest.max(began.elapsed());
        others.push(answer.id());
    }
    println!("one partition below its min ISR: {PAYMENTS} payments of others ended, the slowest after {longest:?}");
    assert!(longest < HELD_UP_MAX, "{longest:?}");
    for id in &waiting {
        assert!(!has_ended(&front, *id).await, "{id} ends although nothing of it can be acknowledged");
    }
    let refused = front.client.pay(&keys_on(0).nth(50).unwrap(), &body("cus_1", "pm_card_visa")).await;
    assert_eq!(refused.status, 503, "{refused:?}");
    let config = bed.args("process", "other", &["--group", "of-one-who-does-not-ask"]).kafka.config("other").unwrap();
    tokio::task::spawn_blocking(move || a_transaction_over_it_is_stuck_and_the_next_is_not(config)).await.unwrap();
    brokers.start(2);
    let back = Instant::now();
    all_end_once(&front, &waiting).await;
    println!("and those that waited within {:?} of the broker's return", back.elapsed());
    all_end_once(&front, &others).await;
    processor.stop().await;
    front.stop().await;
}

/// Nor does it hold up what others ask for on Kafka, but for what stands behind a request that belongs there.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "starts three brokers: see CONTRIBUTING.md"]
async fn one_partition_below_its_min_isr_holds_up_no_other_request() {
    /// From sent to paid, with the partition known to be below its min ISR: less than one transaction over it would take.
    const HELD_UP_MAX: Duration = Duration::from_secs(6);
    let brokers = Brokers::up("3");
    let bed = Bed::on(brokers.servers.clone());
    brokers.topics(&bed, &[&[1, 2], &[1, 3], &[3, 1], &[1, 3]]).await;
    let front = bed.run(Role::Serve, "serve", &[]).await;
    let processor = bed.run(Role::Process, "process", &[]).await;
    let foreign = Foreign::new(&bed);
    let paid = async |key: &str| until("it is paid", async || has_ended(&front, id("default", key)).await).await;
    let key = |partition: u32, n: usize| keys_on(partition).nth(n).unwrap();
    for partition in 0..4 {
        foreign.send(&Sent::json(&key(partition, 0)).to(i32::try_from(partition).unwrap())).await;
        paid(&key(partition, 0)).await;
    }
    brokers.kill(2);
    until("it is known", async || brokers.in_sync(&bed.prefix, 0) == 1).await;
    // The first may have a leader that has just moved.
    foreign.send(&Sent::json(&key(1, 1)).to(1)).await;
    paid(&key(1, 1)).await;
    let mut longest = Duration::ZERO;
    for n in 2..12 {
        foreign.send(&Sent::json(&key(0, n)).to(0)).await;
        let began = Instant::now();
        foreign.send(&Sent::json(&key(1, n)).to(1)).await;
        paid(&key(1, n)).await;
        longest = longest.max(began.elapsed());
    }
    println!("one partition below its min ISR: requests for others were paid after {longest:?} at most");
    assert!(longest < HELD_UP_MAX, "{longest:?}");
    assert!(front.view.payment(id("default", &key(0, 2))).unwrap().is_none(), "it waits");
    brokers.start(2);
    for n in 2..12 {
        paid(&key(0, n)).await;
    }
    foreign.all_taken().await;
    processor.stop().await;
    front.stop().await;
}

/// Whoever writes to partition 0 without asking first has a transaction that can neither commit nor end. Its producer is
/// recycled all the same, within seconds, and the other partitions are written to.
fn a_transaction_over_it_is_stuck_and_the_next_is_not(config: KafkaConfig) {
    let mut lanes = KafkaJournal::open(config).unwrap().lanes().unwrap();
    let (mut held, deadline) = (0, Instant::now() + PATIENCE);
    while held < PARTITIONS as usize {
        assert!(Instant::now() < deadline, "the member is given its partitions");
        if let Some(Assignment::Assigned(partitions)) = lanes.poll(Duration::from_millis(50)).unwrap() {
            while lanes.assign(&partitions).is_err() {
                assert!(Instant::now() < deadline, "the partitions can be taken");
            }
            held += partitions.len();
        }
    }
    let mut transaction = lanes.begin().unwrap();
    let value = b"{never to be seen}".to_vec();
    transaction.append(NewRecord { partition: Partition(0), key: Vec::new(), headers: Vec::new(), value }).unwrap();
    let error = transaction.commit(&[Position::new(Partition(0), Offset(1))]).unwrap_err();
    assert_eq!((error.fate, error.culprit), (Fate::Recycle, Some(Partition(0))), "{error}");
    let began = Instant::now();
    while let Err(error) = lanes.recycle() {
        assert!(matches!(error, JournalError::Unavailable(_)) && began.elapsed() < PATIENCE, "{error}");
    }
    println!("a new producer after {:?}", began.elapsed());
    lanes.begin().unwrap().commit(&[Position::new(Partition(1), Offset(1))]).unwrap();
    lanes.leave(Duration::from_secs(5));
}

/// The group's offsets are one partition for all its lanes: while that takes no records, no outcome is recorded anywhere, and
/// nothing is lost.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "starts three brokers: see CONTRIBUTING.md"]
async fn without_the_groups_own_partition_all_lanes_wait_and_then_go_on() {
    let brokers = Brokers::up("3");
    let bed = Bed::on(brokers.servers.clone());
    brokers.topics(&bed, &[&[1, 2, 3], &[1, 2, 3], &[2, 3, 1], &[3, 1, 2]]).await;
    let front = bed.run(Role::Serve, "serve", &[]).await;
    let processor = bed.run(Role::Process, "process", &[]).await;
    front.client.pay_to_the_end("before", &body("cus_1", "pm_card_visa")).await;
    for internal in ["__consumer_offsets", "__transaction_state"] {
        brokers.internal_in_sync_min(internal, "3").await;
        brokers.kill(2);
        until("two replicas are in sync", async || brokers.in_sync_max(internal) == 2).await;
        let mut ids = Vec::new();
        for n in 0..20 {
            ids.push(accepted(&front, &format!("{internal}-{n}")).await);
        }
        for id in &ids {
            assert!(!has_ended(&front, *id).await, "{id} ends without {internal}");
        }
        brokers.start(2);
        let back = Instant::now();
        all_end_once(&front, &ids).await;
        println!("{internal}: all had ended {:?} after the broker's return", back.elapsed());
        brokers.internal_in_sync_min(internal, "2").await;
    }
    processor.stop().await;
    front.stop().await;
}

async fn accepted(front: &Running, key: &str) -> PaymentId {
    loop {
        let answer = front.client.pay(key, &body("cus_1", "pm_card_visa")).await;
        match answer.status {
            200 | 202 => return answer.id(),
            503 => {}
            _ => panic!("{answer:?}"),
        }
    }
}

/// (b) 28: a broker that came back with a disk from a backup has lost what was folded since. Nobody goes on from there.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "starts a broker: see CONTRIBUTING.md"]
async fn a_log_from_a_backup_is_refused_by_those_who_have_seen_more() {
    let brokers = Brokers::up("1");
    let bed = Bed::on(brokers.servers.clone());
    let config = bed.args("serve", "topics", &[]).kafka.config("topics").unwrap();
    tokio::task::spawn_blocking(move || kafka::ensure(&config, 1)).await.unwrap().unwrap();
    let quick = ["--guard-seconds", "1"];
    let front = bed.run(Role::Serve, "serve", &quick).await;
    let processor = bed.run(Role::Process, "process", &quick).await;
    front.client.pay_to_the_end("before", &body("cus_1", "pm_card_visa")).await;
    script(&["down"], brokers.directory.path());
    copy(&brokers.path("data-1"), &brokers.path("backup"));
    script(&["up"], brokers.directory.path());
    for n in 0..20 {
        accepted(&front, &format!("order-{n}")).await;
        front.client.pay_to_the_end(&format!("order-{n}"), &body("cus_1", "pm_card_visa")).await;
    }
    script(&["down"], brokers.directory.path());
    std::fs::remove_dir_all(brokers.path("data-1")).unwrap();
    std::fs::rename(brokers.path("backup"), brokers.path("data-1")).unwrap();
    script(&["up"], brokers.directory.path());
    for text in [front.fails().await, processor.fails().await] {
        let told = ["no longer holds", "is not the one that was folded", "replaced or cut"];
        assert!(told.iter().any(|told| text.contains(told)), "{text}");
    }
    for (role, name) in [(Role::Serve, "serve"), (Role::Process, "process")] {
        let refused = Service::open(bed.args(name, name, &quick), role).await.err().expect("it must not start");
        let text = format!("{refused:#}");
        let told = ["is not the one that was folded", "an older copy"];
        assert!(told.iter().any(|told| text.contains(told)) && text.contains("--data-dir"), "{text}");
    }
}

fn copy(from: &Path, to: &Path) {
    assert!(Command::new("cp").arg("-a").arg(from).arg(to).status().unwrap().success());
}
