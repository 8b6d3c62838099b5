//! Owners of partitions that come and go (research/reliability.md, (b) 19 to 24): what is on its way when a partition is taken
//! from under it, who may act then, and who must wait.

use std::collections::BTreeMap;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use paylog::journal::kafka::KafkaJournal;
use paylog::journal::{Assignment, Journal, Partition, partition_of};
use paylog::payment::{IdempotencyKey, MerchantId, PaymentId};
use paylog::service::Role;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use rdkafka::topic_partition_list::TopicPartitionList;
use rdkafka::{ClientConfig, Offset};

use crate::client::body;
use crate::cluster::{Bed, PARTITIONS, PATIENCE, Running, ends_of, until};
use crate::crashes::Process;

fn servers(bed: &Bed) -> String {
    bed.args("serve", "servers", &[]).kafka.servers().unwrap().to_owned()
}

/// Keys of payments on this partition.
pub fn keys_on(partition: u32) -> impl Iterator<Item = String> {
    let id = |key: &str| PaymentId::derive(&MerchantId::default(), &IdempotencyKey::parse(key).unwrap()).to_string();
    let there = move |key: &String| partition_of(id(key).as_bytes(), PARTITIONS) == Partition(partition);
    (0..).map(|n| format!("order-{n}")).filter(there)
}

async fn all_end(front: &Running, ids: &[PaymentId]) {
    for id in ids {
        until("every payment ends", async || {
            front.view.payment(*id).unwrap().is_some_and(|row| row.payment.is_terminal())
        })
        .await;
    }
    let log = front.log().await;
    assert!(ids.iter().all(|id| ends_of(&log, *id) == 1), "each ends exactly once");
}

/// (b) 19.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs Kafka: see CONTRIBUTING.md"]
async fn a_strangers_open_transaction_holds_up_its_partition_and_no_other() {
    let bed = Bed::kafka().await;
    let front = bed.run(Role::Serve, "serve", &[]).await;
    let stranger: BaseProducer = ClientConfig::new()
        .set("bootstrap.servers", servers(&bed))
        .set("transactional.id", format!("stranger-{}", bed.prefix))
        .create()
        .unwrap();
    stranger.init_transactions(PATIENCE).unwrap();
    stranger.begin_transaction().unwrap();
    stranger.send(BaseRecord::<(), [u8]>::to(&bed.prefix).partition(1).payload(b"{garbage}")).unwrap();
    stranger.flush(PATIENCE).unwrap();
    // Its lane has to catch up with an end that no reader of committed records can see.
    let processor = bed.run(Role::Process, "process", &[]).await;
    let held = front.client.pay(&keys_on(1).next().unwrap(), &body("cus_1", "pm_card_visa")).await.id();
    for partition in [0, 2, 3] {
        for key in keys_on(partition).take(3) {
            let paid = front.client.pay_to_the_end(&key, &body("cus_1", "pm_card_visa")).await;
            assert_eq!(paid.text("status"), "successful");
        }
    }
    assert!(front.view.payment(held).unwrap().is_none(), "nobody sees what stands behind the open transaction");
    stranger.abort_transaction(PATIENCE).unwrap();
    all_end(&front, &[held]).await;
    processor.stop().await;
    front.stop().await;
}

/// The offsets that a group has committed, looked at again and again: none ever goes back.
struct Positions {
    stop: Arc<AtomicBool>,
    looking: std::thread::JoinHandle<BTreeMap<i32, i64>>,
}

impl Positions {
    fn watch(bed: &Bed) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let (stopped, topic) = (Arc::clone(&stop), bed.prefix.clone());
        let consumer: BaseConsumer = ClientConfig::new()
            .set("bootstrap.servers", servers(bed))
            .set("group.id", bed.args("process", "process", &[]).kafka.group)
            .create()
            .unwrap();
        let looking = std::thread::spawn(move || {
            let mut highest = BTreeMap::new();
            while !stopped.load(Ordering::Acquire) {
                let mut list = TopicPartitionList::new();
                list.add_partition_range(&topic, 0, PARTITIONS as i32 - 1);
                // It waits while a transaction over them is open.
                let Ok(found) = consumer.committed_offsets(list, Duration::from_secs(5)) else { continue };
                for element in found.elements() {
                    if let Offset::Offset(now) = element.offset() {
                        let before = highest.insert(element.partition(), now).unwrap_or(0);
                        assert!(now >= before, "the offset of {} went from {before} to {now}", element.partition());
                    }
                }
                std::thread::sleep(Duration::from_millis(20));
            }
            highest
        });
        Self { stop, looking }
    }

    fn highest(self) -> BTreeMap<i32, i64> {
        self.stop.store(true, Ordering::Release);
        self.looking.join().expect("no offset goes back")
    }
}

/// (b) 20.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs Kafka: see CONTRIBUTING.md"]
async fn in_a_storm_of_joins_and_leaves_each_payment_ends_once_and_no_offset_goes_back() {
    const ROUNDS: usize = 6;
    let bed = Bed::kafka().await.with(&["--simulator-latency-ms", "30"]);
    let front = bed.run(Role::Serve, "serve", &[]).await;
    let positions = Positions::watch(&bed);
    let (client, over) = (front.client.clone(), Arc::new(AtomicBool::new(false)));
    let stop = Arc::clone(&over);
    let load = tokio::spawn(async move {
        let mut ids = Vec::new();
        for n in 0.. {
            if stop.load(Ordering::Acquire) {
                break;
            }
            let answer = client.pay(&format!("order-{n}"), &body("cus_1", "pm_card_visa")).await;
            assert_eq!(answer.status, 202, "{answer:?}");
            ids.push(answer.id());
        }
        ids
    });
    // Two join and one leaves, then one joins and two leave: the group is hardly ever at rest.
    let mut oldest = bed.run(Role::Process, "process-0", &[]).await;
    for round in 0..ROUNDS {
        let (left, right) = (format!("left-{}", round % 2), format!("right-{round}"));
        let (next, other) = tokio::join!(bed.run(Role::Process, &left, &[]), bed.run(Role::Process, &right, &[]));
        tokio::join!(oldest.stop(), other.stop());
        oldest = next;
    }
    over.store(true, Ordering::Release);
    let ids = load.await.unwrap();
    assert!(ids.len() > ROUNDS * 10, "there was load: {}", ids.len());
    all_end(&front, &ids).await;
    oldest.stop().await;
    let (highest, ends) = (positions.highest(), front.view.folded());
    assert!(!highest.is_empty(), "positions were committed");
    for (partition, offset) in highest {
        let end = ends.of(Partition(partition as u32)).0;
        assert!(offset as u64 <= end, "partition {partition}: {offset} of {end}");
    }
    front.stop().await;
}

/// (b) 22: whoever asks for a partition is answered while its calls are on their way, and their outcomes are not lost.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs Kafka: see CONTRIBUTING.md"]
async fn a_partition_is_given_up_at_once_with_two_hundred_calls_on_their_way() {
    const CALLS: usize = 200;
    const ANSWERED_MAX: Duration = Duration::from_secs(2);
    // A member hears of a rebalance with its next heartbeat: 2 s by default, which would be measured too.
    let bed = Bed::kafka().await.with(&["--kafka", "heartbeat.interval.ms=100"]);
    // Long enough for all of them to be sent, and for one to take over, before the first is answered.
    let slow = ["--simulator-latency-ms", "15000", "--merchant-in-flight", "300"];
    let front = bed.run(Role::Serve, "serve", &[]).await;
    let processor = bed.run(Role::Process, "process", &slow).await;
    // A processor that has recorded something knows the log's time: before that it asks, where it would charge.
    let first = front.client.pay("order-first", &body("cus_1", "pm_card_visa")).await.id();
    all_end(&front, &[first]).await;
    let request = body("cus_1", "pm_card_visa");
    let ids = join_all((0..CALLS).map(async |n| front.client.pay(&format!("order-{n}"), &request).await.id())).await;
    let config = bed.args("process", "other", &[]).kafka.config("other").unwrap();
    let taken = tokio::task::spawn_blocking(move || {
        let mut other = KafkaJournal::open(config).unwrap().lanes().unwrap();
        let (mut asked, deadline) = (None, Instant::now() + PATIENCE);
        loop {
            assert!(Instant::now() < deadline, "nothing is given up");
            let Some(Assignment::Assigned(partitions)) = other.poll(Duration::from_millis(10)).unwrap() else {
                continue;
            };
            // With nothing at first: the group has only now begun to ask for some.
            if partitions.is_empty() {
                asked = Some(Instant::now());
                other.assign(&[]).unwrap();
                continue;
            }
            let took = asked.expect("asked for first").elapsed();
            other.assign(&partitions).unwrap();
            other.leave(Duration::from_secs(5));
            return took;
        }
    });
    let took = taken.await.unwrap();
    println!("given up after {took:?}, with {CALLS} calls on their way");
    assert!(took < ANSWERED_MAX, "{took:?}");
    let has_ended = |id: &PaymentId| front.view.payment(*id).unwrap().is_some_and(|row| row.payment.is_terminal());
    assert!(!ids.iter().any(has_ended), "the calls were still on their way");
    all_end(&front, &ids).await;
    processor.stop().await;
    front.stop().await;
}

/// (b) 24: a data directory that was copied, instance id and all.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs Kafka: see CONTRIBUTING.md"]
async fn of_two_processors_with_one_instance_id_one_survives_and_the_other_says_why_not() {
    let bed = Bed::kafka().await;
    let front = bed.run(Role::Serve, "serve", &[]).await;
    let stderr = bed.directory.path().join("first-stderr");
    let words = bed.words("process", "first", &[]);
    let mut first = Command::new(env!("CARGO_BIN_EXE_paylog"))
        .args(&words[1..])
        .stdout(Stdio::null())
        .stderr(std::fs::File::create(&stderr).unwrap())
        .spawn()
        .unwrap();
    front.client.pay_to_the_end("before", &body("cus_1", "pm_card_visa")).await;
    std::fs::create_dir(bed.data_dir("copy")).unwrap();
    std::fs::copy(bed.data_dir("first").join("instance-id"), bed.data_dir("copy").join("instance-id")).unwrap();
    let mut second = Process::start(bed.words("process", "copy", &[])).await;
    let mut ids = Vec::new();
    let mut code = None;
    for n in 0.. {
        ids.push(front.client.pay_to_the_end(&format!("order-{n}"), &body("cus_1", "pm_card_visa")).await.id());
        code = first.try_wait().unwrap().and_then(|status| status.code());
        if code.is_some() {
            break;
        }
    }
    let said = std::fs::read_to_string(&stderr).unwrap();
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("same instance id") && said.contains("give each its own"), "{said}");
    ids.push(front.client.pay_to_the_end("after", &body("cus_1", "pm_card_visa")).await.id());
    all_end(&front, &ids).await;
    second.signal("TERM");
    assert_eq!(second.exit_code().await, Some(0), "the other goes on, and stops well");
    front.stop().await;
}
