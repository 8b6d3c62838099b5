//! The history of the run, read from where it stands: the topic, the disks of the brokers, the group's offsets, the
//! provider's ledger, the stores of the services.

use std::collections::{HashMap, HashSet};
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use paylog::checker::{
    GroupOffset, LedgerEntry, LogRecord, PAYMENTS, PartitionEnds, Place, Producer, ProjectionDigest, digest,
};
use paylog::clock::Clocks;
use paylog::config::ServiceArgs;
use paylog::journal::kafka::KafkaJournal;
use paylog::journal::{Journal, Offset, Partition};
use paylog::payment::{PaymentId, Timestamp};
use paylog::projection::{Folder, Payments, View, versioned_name};
use paylog::schema::Codec;
use paylog::store::Store;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::message::Headers;
use rdkafka::{ClientConfig, Message, Offset as KafkaOffset, TopicPartitionList};

use crate::fleet::{GROUP, PARTITIONS, TOPIC};

const READ_MAX: Duration = Duration::from_secs(120);
const ASK_MAX: Duration = Duration::from_secs(5);
/// The header of a dead letter that says where it came from.
const SOURCE: &str = "paylog-source";
pub const COMMITTED: &str = "read_committed";
pub const UNCOMMITTED: &str = "read_uncommitted";
const TURN: Duration = Duration::from_millis(100);

fn consumer(bootstrap: &str, isolation: &str) -> anyhow::Result<BaseConsumer> {
    let mut config = ClientConfig::new();
    let settings = [
        ("bootstrap.servers", bootstrap),
        ("group.id", GROUP), // never joined: for its offsets, and because librdkafka wants one
        ("isolation.level", isolation),
        ("enable.partition.eof", "true"),
        ("enable.auto.commit", "false"),
        ("auto.offset.reset", "error"),
    ];
    for (key, value) in settings {
        config.set(key, value);
    }
    Ok(config.set_log_level(RDKafkaLogLevel::Emerg).create()?)
}

// === the topic ===

/// A record as it stands on a topic.
pub struct Stood {
    pub place: Place,
    pub at: Timestamp,
    pub key: Vec<u8>,
    pub value: Vec<u8>,
    /// What intake says of a dead letter: where it came from.
    pub source: Option<String>,
}

/// All of `topic`, to the end as this isolation sees it. Blocks.
pub fn topic(bootstrap: &str, topic: &str, isolation: &str) -> anyhow::Result<Vec<Stood>> {
    let (consumer, mut assignment) = (consumer(bootstrap, isolation)?, TopicPartitionList::new());
    let metadata = consumer.fetch_metadata(Some(topic), ASK_MAX)?;
    let partitions = metadata.topics().first().map_or(0, |topic| topic.partitions().len());
    for partition in 0..partitions {
        assignment.add_partition_offset(topic, i32::try_from(partition)?, KafkaOffset::Offset(0))?;
    }
    consumer.assign(&assignment)?;
    let (mut records, mut ended, deadline) = (Vec::new(), HashSet::new(), Instant::now() + READ_MAX);
    while ended.len() < partitions {
        ensure!(Instant::now() < deadline, "{topic} cannot be read to its end ({isolation})");
        match consumer.poll(TURN) {
            Some(Ok(message)) => records.push(Stood::read(&message)?),
            Some(Err(KafkaError::PartitionEOF(partition))) => drop(ended.insert(partition)),
            Some(Err(_)) | None => {} // it goes on, or the deadline comes
        }
    }
    Ok(records)
}

/// All of `payments`.
pub fn log(bootstrap: &str, isolation: &str) -> anyhow::Result<Vec<LogRecord>> {
    let record = |Stood { place, at, key, value, .. }| {
        let key = String::from_utf8_lossy(&key).into_owned();
        LogRecord { place, appended_at: at, key, value, producer: None }
    };
    Ok(topic(bootstrap, TOPIC, isolation)?.into_iter().map(record).collect())
}

impl Stood {
    fn read(message: &impl Message) -> anyhow::Result<Self> {
        let headers = message.headers().into_iter().flat_map(|headers| headers.iter());
        let sources = headers.filter(|header| header.key == SOURCE).filter_map(|header| header.value);
        let ms = message.timestamp().to_millis().context("a record without a time")?;
        Ok(Self {
            place: Place { partition: message.partition().try_into()?, offset: message.offset().try_into()? },
            at: Timestamp::from_micros(ms * 1_000).context("a record of another age")?,
            key: message.key().unwrap_or_default().to_vec(),
            value: message.payload().unwrap_or_default().to_vec(),
            source: sources.last().map(|source| String::from_utf8_lossy(source).into_owned()),
        })
    }
}

pub fn ends(bootstrap: &str) -> anyhow::Result<Vec<PartitionEnds>> {
    let (committed, uncommitted) = (consumer(bootstrap, COMMITTED)?, consumer(bootstrap, UNCOMMITTED)?);
    let of = |partition: u32| {
        let (start, end) = committed.fetch_watermarks(TOPIC, partition.cast_signed(), ASK_MAX)?;
        let (_, high) = uncommitted.fetch_watermarks(TOPIC, partition.cast_signed(), ASK_MAX)?;
        let (start, committed, uncommitted) = (u64::try_from(start)?, u64::try_from(end)?, u64::try_from(high)?);
        Ok(PartitionEnds { partition, start, committed, uncommitted })
    };
    (0..PARTITIONS).map(of).collect()
}

/// What the group has committed, if the cluster answers now.
pub fn group_offsets(bootstrap: &str) -> anyhow::Result<Vec<GroupOffset>> {
    let (consumer, mut asked) = (consumer(bootstrap, COMMITTED)?, TopicPartitionList::new());
    for partition in 0..PARTITIONS {
        asked.add_partition(TOPIC, partition.cast_signed());
    }
    let (at, answered) = (Timestamp::now(), consumer.committed_offsets(asked, ASK_MAX)?);
    let known = answered.elements().into_iter().filter_map(|one| match (one.offset(), one.error()) {
        (KafkaOffset::Offset(offset), Ok(())) => {
            Some((u32::try_from(one.partition()).ok()?, u64::try_from(offset).ok()?))
        }
        _ => None,
    });
    let offset = |(partition, offset)| GroupOffset { at, group: GROUP.to_owned(), partition, offset, reset: false };
    Ok(known.map(offset).collect())
}

// === the brokers' disks ===

/// Who wrote what, as one broker has it on its disk: a consumer is not told.
pub fn producers(brokers: &Path) -> anyhow::Result<HashMap<Place, Producer>> {
    let mut files = Vec::new();
    for partition in 0..PARTITIONS {
        for file in std::fs::read_dir(brokers.join(format!("data-1/{TOPIC}-{partition}")))? {
            let path = file?.path();
            if path.extension().is_some_and(|extension| extension == "log") {
                files.push(path.display().to_string());
            }
        }
    }
    let cache = std::env::var("PAYLOG_KAFKA_CACHE").or_else(|_| {
        let home =
            std::env::var("XDG_CACHE_HOME").or_else(|_| std::env::var("HOME").map(|home| format!("{home}/.cache")));
        home.map(|home| format!("{home}/paylog/kafka-4.3.1"))
    });
    let classes = format!("{}/lib/*", cache.context("no home for Kafka's jars: set PAYLOG_KAFKA_CACHE")?);
    let tool =
        ["-cp", &classes, "org.apache.kafka.tools.DumpLogSegments", "--deep-iteration", "--files", &files.join(",")];
    let dump = Command::new("java").args(tool).output().context("cannot run java")?;
    ensure!(dump.status.success(), "the brokers' disks cannot be read: {}", String::from_utf8_lossy(&dump.stderr));
    Ok(read_dump(&String::from_utf8_lossy(&dump.stdout)))
}

fn read_dump(text: &str) -> HashMap<Place, Producer> {
    let mut producers = HashMap::new();
    let (mut partition, mut producer) = (0, None);
    for line in text.lines() {
        if let Some(path) = line.strip_prefix("Dumping ") {
            let name = path.rsplit('/').nth(1).and_then(|folder| folder.rsplit('-').next());
            partition = name.and_then(|number| number.parse().ok()).unwrap_or_default();
        } else if line.starts_with("baseOffset:") {
            let number = |name: &str| field(line, name)?.parse::<i64>().ok();
            let transactional = field(line, "isTransactional") == Some("true");
            producer = number("producerId")
                .zip(number("producerEpoch"))
                .and_then(|(id, epoch)| Some(Producer { id, epoch: i16::try_from(epoch).ok()?, transactional }));
        } else if let (Some(offset), Some(producer)) = (field(line, "offset"), producer)
            && let Ok(offset) = offset.parse()
        {
            producers.insert(Place { partition, offset }, producer);
        }
    }
    producers
}

/// The word after `name: ` in a line of Kafka's dump.
fn field<'l>(line: &'l str, name: &str) -> Option<&'l str> {
    let mut words = line.split_whitespace();
    words.find(|word| word.strip_suffix(':') == Some(name))?;
    words.next()
}

// === the provider ===

pub async fn ledger(url: &str) -> anyhow::Result<Vec<LedgerEntry>> {
    let answer = reqwest::get(format!("{url}/ledger")).await?.error_for_status()?;
    answer.json().await.context("the provider's ledger is not what it should be")
}

// === the services' stores ===

/// What a stopped service holds, and what a store that is built anew holds. Blocks.
pub fn projections(services: &[(String, ServiceArgs)], ids: &[PaymentId]) -> anyhow::Result<Vec<ProjectionDigest>> {
    let mut digests = Vec::new();
    for (name, args) in services {
        let config = args.kafka.config("history").context("no bootstrap servers")?;
        let (journal, codec) = (KafkaJournal::open(config)?, Arc::new(Codec::new()?));
        let store = Store::open(&args.data_dir.join("store").join(versioned_name::<Payments>()))?;
        let (mut folder, view) = Folder::open(store, journal.as_ref(), codec, Clocks::system())?;
        if view.folded().as_slice().iter().all(|offset| *offset == Offset(0)) {
            rebuild(&mut folder, &view, journal.as_ref())?;
        }
        digests.push(digest_of(name, &view, ids)?);
    }
    Ok(digests)
}

fn rebuild(folder: &mut Folder, view: &View, journal: &dyn Journal) -> anyhow::Result<()> {
    let (mut tail, deadline) = (folder.tail(journal)?, Instant::now() + READ_MAX);
    for partition in (0..PARTITIONS).map(Partition) {
        let end = journal.ends(partition)?.committed;
        while view.folded_to(partition) < end {
            ensure!(Instant::now() < deadline, "a projection cannot be rebuilt");
            folder.turn(tail.as_mut(), TURN)?;
        }
    }
    Ok(())
}

fn digest_of(name: &str, view: &View, ids: &[PaymentId]) -> anyhow::Result<ProjectionDigest> {
    let mut payments = Vec::with_capacity(ids.len());
    for id in ids {
        payments.extend(view.payment(*id)?.map(|row| row.payment));
    }
    Ok(ProjectionDigest {
        instance: name.to_owned(),
        kind: PAYMENTS.to_owned(),
        offsets: view.folded().as_slice().iter().map(|offset| offset.0).collect(),
        digest: digest(&payments),
    })
}
