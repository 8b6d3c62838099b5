//! A producer and a reader as anybody could write them with their Kafka client: nothing of paylog's own is in between.

use std::time::{Duration, Instant};

use apache_avro::types::Value as Avro;
use paylog::payment::{IdempotencyKey, MerchantId, PaymentId};
use rdkafka::admin::{AdminClient, AdminOptions, AlterConfig, ResourceSpecifier};
use rdkafka::client::DefaultClientContext;
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::message::{BorrowedMessage, Header, Headers, Message, OwnedHeaders};
use rdkafka::producer::{FutureProducer, FutureRecord};
use rdkafka::{Offset, TopicPartitionList};

use crate::cluster::{Bed, PATIENCE, until};

pub const GOOD: &str = r#"{"amount":1999,"currency":"EUR","customer_id":"cus_1","payment_method":"pm_card_visa"}"#;

pub struct Foreign {
    producer: FutureProducer,
    bootstrap: String,
    pub prefix: String,
    group: String,
}

/// A record as it stands on some topic.
#[derive(Clone, Debug, PartialEq)]
pub struct Stood {
    pub partition: i32,
    pub offset: i64,
    pub at_ms: i64,
    pub key: Option<Vec<u8>>,
    pub headers: Vec<(String, Option<Vec<u8>>)>,
    pub value: Option<Vec<u8>>,
}

/// What to send, in the words of Kafka.
#[derive(Clone, Debug, Default)]
pub struct Sent {
    pub partition: Option<i32>,
    pub key: Option<Vec<u8>>,
    pub headers: Vec<(String, Option<Vec<u8>>)>,
    pub value: Option<Vec<u8>>,
}

impl Sent {
    pub fn json(key: &str) -> Self {
        Self::bytes(key, GOOD.as_bytes())
    }

    pub fn bytes(key: &str, value: &[u8]) -> Self {
        Self { key: Some(key.as_bytes().to_vec()), value: Some(value.to_vec()), ..Self::default() }
    }

    pub fn to(self, partition: i32) -> Self {
        Self { partition: Some(partition), ..self }
    }

    pub fn header(mut self, name: &str, value: Option<&[u8]>) -> Self {
        self.headers.push((name.to_owned(), value.map(<[u8]>::to_vec)));
        self
    }
}

impl Foreign {
    pub fn new(bed: &Bed) -> Self {
        let kafka = bed.args("serve", "foreign", &[]).kafka;
        let bootstrap = kafka.bootstrap_servers.expect("foreign producers need Kafka");
        let mut settings = ClientConfig::new();
        settings.set("bootstrap.servers", &bootstrap).set("linger.ms", "0").set("message.max.bytes", "20000000");
        Self { producer: settings.create().unwrap(), bootstrap, prefix: bed.prefix.clone(), group: kafka.group }
    }

    pub fn requests(&self) -> String {
        format!("{}.requests", self.prefix)
    }

    fn dead_letter(&self) -> String {
        format!("{}.dead-letter", self.prefix)
    }

    /// Answers with partition and offset.
    pub async fn send(&self, sent: &Sent) -> (i32, i64) {
        let topic = self.requests();
        let mut record: FutureRecord<'_, [u8], [u8]> = FutureRecord::to(&topic);
        record.partition = sent.partition;
        record.key = sent.key.as_deref();
        record.payload = sent.value.as_deref();
        let headers = sent
            .headers
            .iter()
            .fold(OwnedHeaders::new(), |headers, (key, value)| headers.insert(Header { key, value: value.as_deref() }));
        record.headers = (!sent.headers.is_empty()).then_some(headers);
        let delivered = self.producer.send(record, PATIENCE).await.map_err(|(error, _)| error).unwrap();
        (delivered.partition, delivered.offset)
    }

    pub fn client(&self) -> ClientConfig {
        let mut settings = ClientConfig::new();
        settings.set("bootstrap.servers", &self.bootstrap);
        settings
    }

    pub fn admin(&self) -> AdminClient<DefaultClientContext> {
        self.client().create().unwrap()
    }

    /// Lets anybody send records of this size.
    pub async fn allow_requests_of(&self, bytes: &str) {
        let topic = self.requests();
        let change = AlterConfig::new(ResourceSpecifier::Topic(&topic)).set("max.message.bytes", bytes);
        let results = self.admin().alter_configs([&change], &AdminOptions::new()).await.unwrap();
        assert!(results.iter().all(Result::is_ok), "{results:?}");
    }

    /// Waits until intake has moved past everything that stands on the topic of requests.
    pub async fn all_taken(&self) {
        let topic = self.requests();
        until("everything on the topic of requests is taken in", async || {
            let behind = self.behind(&topic).await;
            behind.is_empty()
        })
        .await;
    }

    /// The partitions in which the intake's group is not at the end, and where it is.
    pub async fn behind(&self, topic: &str) -> Vec<(i32, Option<i64>)> {
        let (mut settings, topic, group) = (self.client(), topic.to_owned(), format!("{}-intake", self.group));
        tokio::task::spawn_blocking(move || {
            let consumer: BaseConsumer = settings.set("group.id", group).create().unwrap();
            let metadata = consumer.fetch_metadata(Some(&topic), PATIENCE).unwrap();
            let mut list = TopicPartitionList::new();
            for partition in metadata.topics()[0].partitions() {
                list.add_partition(&topic, partition.id());
            }
            let Ok(committed) = consumer.committed_offsets(list, PATIENCE) else {
                return vec![(-1, None)]; // a transaction is open over them
            };
            let mut behind = Vec::new();
            for element in committed.elements() {
                let (low, high) = consumer.fetch_watermarks(&topic, element.partition(), PATIENCE).unwrap();
                let at = match element.offset() {
                    Offset::Offset(offset) => Some(offset),
                    _ => None,
                };
                if at.unwrap_or(low) < high {
                    behind.push((element.partition(), at));
                }
            }
            behind
        })
        .await
        .unwrap()
    }

    pub async fn dead_letters(&self) -> Vec<Stood> {
        self.read(&self.dead_letter()).await
    }

    /// Every committed record of a topic, in the order of each partition.
    pub async fn read(&self, topic: &str) -> Vec<Stood> {
        let (mut settings, topic) = (self.client(), topic.to_owned());
        settings.set("group.id", "a reader").set("enable.auto.commit", "false").set("enable.partition.eof", "true");
        tokio::task::spawn_blocking(move || read_all(&settings, &topic)).await.unwrap()
    }
}

fn read_all(settings: &ClientConfig, topic: &str) -> Vec<Stood> {
    let consumer: BaseConsumer = settings.create().unwrap();
    let metadata = consumer.fetch_metadata(Some(topic), PATIENCE).unwrap();
    let mut list = TopicPartitionList::new();
    for partition in metadata.topics()[0].partitions() {
        list.add_partition_offset(topic, partition.id(), Offset::Beginning).unwrap();
    }
    let mut open = list.count();
    consumer.assign(&list).unwrap();
    let (mut all, deadline) = (Vec::new(), Instant::now() + PATIENCE);
    while open > 0 {
        assert!(Instant::now() < deadline, "{topic} cannot be read to its end");
        match consumer.poll(Duration::from_millis(100)) {
            Some(Ok(message)) => all.push(stood(&message)),
            Some(Err(KafkaError::PartitionEOF(_))) => open -= 1,
            Some(Err(error)) => panic!("{topic}: {error}"),
            None => {}
        }
    }
    all.sort_by_key(|stood| (stood.partition, stood.offset));
    all
}

fn stood(message: &BorrowedMessage<'_>) -> Stood {
    let header = |header: Header<'_, &[u8]>| (header.key.to_owned(), header.value.map(<[u8]>::to_vec));
    Stood {
        partition: message.partition(),
        offset: message.offset(),
        at_ms: message.timestamp().to_millis().unwrap(),
        key: message.key().map(<[u8]>::to_vec),
        headers: message.headers().map(|headers| headers.iter().map(header).collect()).unwrap_or_default(),
        value: message.payload().map(<[u8]>::to_vec),
    }
}

impl Stood {
    /// The last header of this name, as text.
    pub fn says(&self, name: &str) -> &str {
        let last = self.headers.iter().rev().find(|(other, _)| other == name);
        last.and_then(|(_, value)| std::str::from_utf8(value.as_deref()?).ok()).unwrap_or("")
    }
}

/// A `PaymentRequested` in single-object encoding, written by a library that paylog does not read it with.
pub fn avro(merchant: &str, key: &str, amount: i64) -> Vec<u8> {
    let schema = include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/schemas/PaymentRequested.avsc"));
    let schema = apache_avro::Schema::parse_str(schema).unwrap();
    let text = |value: &str| Avro::String(value.to_owned());
    let record = Avro::Record(vec![
        ("merchant_id".to_owned(), text(merchant)),
        ("idempotency_key".to_owned(), text(key)),
        ("amount".to_owned(), Avro::Long(amount)),
        ("currency".to_owned(), text("EUR")),
        ("customer_id".to_owned(), text("cus_1")),
        ("payment_method".to_owned(), text("pm_card_visa")),
        ("description".to_owned(), Avro::Union(0, Box::new(Avro::Null))),
        ("metadata".to_owned(), Avro::Union(0, Box::new(Avro::Null))),
    ]);
    let datum = apache_avro::writer::datum::GenericDatumWriter::builder(&schema).build().unwrap();
    let fingerprint = schema.fingerprint::<apache_avro::rabin::Rabin>().bytes;
    [&[0xC3, 0x01], fingerprint.as_slice(), &datum.write_value_to_vec(record).unwrap()].concat()
}

pub fn id(merchant: &str, key: &str) -> PaymentId {
    PaymentId::derive(&MerchantId::parse(merchant).unwrap(), &IdempotencyKey::parse(key).unwrap())
}
