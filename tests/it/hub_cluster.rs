//! A Kafka that is met as Azure Event Hubs is: SASL PLAIN over TLS, with a connection string. Started by
//! `scripts/kafka up --sasl-tls --dir DIR`, which `PAYLOG_TEST_SASL_KAFKA` names. Tests stop and start it, so one runs at a time.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use rdkafka::Offset;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::message::{BorrowedMessage, Header, Headers, Message, OwnedHeaders};
use rdkafka::producer::{FutureProducer, FutureRecord};
use rdkafka::topic_partition_list::TopicPartitionList;

use crate::cluster::{PATIENCE, until};

pub const PARTITIONS: i32 = 3;

/// A hub of a test's own on it.
pub struct HubCluster {
    directory: PathBuf,
    pub hub: String,
}

/// A record as it stands on the hub.
#[derive(Clone, Debug)]
pub struct Told {
    pub partition: i32,
    pub key: String,
    pub headers: Vec<(String, String)>,
    pub value: Vec<u8>,
}

impl Told {
    fn from(message: &BorrowedMessage<'_>) -> Self {
        let text = |bytes: Option<&[u8]>| String::from_utf8(bytes.unwrap_or_default().to_vec()).unwrap();
        let headers = message.headers().into_iter().flat_map(Headers::iter);
        Self {
            partition: message.partition(),
            key: text(message.key()),
            headers: headers.map(|header| (header.key.to_owned(), text(header.value))).collect(),
            value: message.payload().unwrap_or_default().to_vec(),
        }
    }

    pub fn says(&self, name: &str) -> &str {
        let found = self.headers.iter().find(|(other, _)| other == name);
        found.map(|(_, value)| value.as_str()).unwrap_or_else(|| panic!("no {name}: {self:?}"))
    }
}

impl HubCluster {
    pub async fn new() -> Self {
        let directory = std::env::var("PAYLOG_TEST_SASL_KAFKA")
            .expect("PAYLOG_TEST_SASL_KAFKA is not set: start a Kafka with scripts/kafka up --sasl-tls --dir DIR");
        let cluster = Self { directory: directory.into(), hub: format!("hub-{}", uuid::Uuid::new_v4().simple()) };
        let admin: AdminClient<DefaultClientContext> = cluster.client().create().unwrap();
        let new = NewTopic::new(&cluster.hub, PARTITIONS, TopicReplication::Fixed(1));
        let made = admin.create_topics([&new], &AdminOptions::new().operation_timeout(Some(PATIENCE))).await.unwrap();
        assert!(made.iter().all(Result::is_ok), "{made:?}");
        until("the hub is there", async || cluster.ends().is_some()).await;
        cluster
    }

    fn file(&self, name: &str) -> String {
        std::fs::read_to_string(self.directory.join(name)).unwrap().trim().to_owned()
    }

    pub fn connection_string(&self) -> String {
        self.file("connection-string")
    }

    /// Where nobody asks who we are: for what is ours in a test.
    pub fn plaintext(&self) -> String {
        let said = std::fs::read_to_string(self.directory.join("broker-1.properties")).unwrap();
        let listeners = said.lines().find_map(|line| line.strip_prefix("advertised.listeners=PLAINTEXT://")).unwrap();
        listeners.split(',').next().unwrap().to_owned()
    }

    pub fn place(&self) -> String {
        format!("{}/{}", self.file("sasl-servers"), self.hub)
    }

    pub fn ca(&self) -> String {
        format!("ssl.ca.location={}", self.directory.join("ca.pem").display())
    }

    /// Its flags, for a service that takes requests from it. The connection string comes by the environment.
    pub fn flags(&self) -> Vec<String> {
        ["--requests-from", &self.place(), "--requests-kafka", &self.ca(), "--requests-group", &self.group()]
            .map(str::to_owned)
            .to_vec()
    }

    pub fn group(&self) -> String {
        format!("{}-readers", self.hub)
    }

    fn client(&self) -> ClientConfig {
        let mut client = ClientConfig::new();
        client
            .set("bootstrap.servers", self.file("sasl-servers"))
            .set("security.protocol", "SASL_SSL")
            .set("sasl.mechanism", "PLAIN")
            .set("sasl.username", "$ConnectionString")
            .set("sasl.password", self.connection_string())
            .set("ssl.ca.location", self.directory.join("ca.pem").to_str().unwrap())
            .set("reconnect.backoff.max.ms", "500");
        client
    }

    pub fn producer(&self) -> FutureProducer {
        self.client().set("message.timeout.ms", "60000").create().unwrap()
    }

    pub async fn send(&self, producer: &FutureProducer, key: &str, value: &[u8]) -> (i32, i64) {
        let headers = OwnedHeaders::new().insert(Header { key: "sent-by", value: Some("a test") });
        let record = FutureRecord::to(&self.hub).key(key).payload(value).headers(headers);
        let delivered = producer.send(record, PATIENCE).await.map_err(|(error, _)| error).unwrap();
        (delivered.partition, delivered.offset)
    }

    /// The end of each partition; `None` if it does not say.
    fn ends(&self) -> Option<Vec<i64>> {
        let consumer: BaseConsumer = self.client().create().unwrap();
        let end = |partition| consumer.fetch_watermarks(&self.hub, partition, Duration::from_secs(5)).ok().map(|w| w.1);
        (0..PARTITIONS).map(end).collect()
    }

    /// How many records of the hub the group has not moved past.
    pub fn lag(&self) -> i64 {
        let consumer: BaseConsumer = self.client().set("group.id", self.group()).create().unwrap();
        let mut asked = TopicPartitionList::new();
        for partition in 0..PARTITIONS {
            asked.add_partition(&self.hub, partition);
        }
        let committed = consumer.committed_offsets(asked, Duration::from_secs(10)).unwrap();
        let stands = |partition| match committed.find_partition(&self.hub, partition).unwrap().offset() {
            Offset::Offset(offset) => offset,
            _ => 0,
        };
        let ends = self.ends().expect("the hub answers");
        (0..PARTITIONS).map(|partition| ends[usize::try_from(partition).unwrap()] - stands(partition)).sum()
    }

    /// Everything that stands on the hub, by partition.
    pub fn all(&self) -> Vec<Told> {
        let consumer: BaseConsumer = self.client().set("group.id", "nobody").create().unwrap();
        let ends = self.ends().expect("the hub answers");
        let mut list = TopicPartitionList::new();
        (0..PARTITIONS).for_each(|p| list.add_partition_offset(&self.hub, p, Offset::Beginning).unwrap());
        consumer.assign(&list).unwrap();
        let (mut told, wanted) = (Vec::new(), usize::try_from(ends.iter().sum::<i64>()).unwrap());
        let deadline = std::time::Instant::now() + PATIENCE;
        while told.len() < wanted {
            assert!(std::time::Instant::now() < deadline, "{} of {wanted} records were read", told.len());
            if let Some(message) = consumer.poll(Duration::from_millis(100)) {
                told.push(Told::from(&message.unwrap()));
            }
        }
        told
    }

    /// As a power cut would stop it.
    pub fn kill(&self) {
        let pid = self.file("broker-1.pid");
        assert!(Command::new("kill").args(["-9", &pid]).status().unwrap().success());
    }

    /// Until it answers.
    pub async fn start(&self) {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/kafka");
        let words = ["start", "--broker", "1", "--dir", self.directory.to_str().unwrap()];
        let output = Command::new(script).args(words).output().unwrap();
        assert!(output.status.success(), "{output:?}");
        until("the hub answers again", async || self.ends().is_some()).await;
    }
}
