//! A producer that is not ours: it asks for payments on `payments.requests`, now and then with a key that was used over HTTP,
//! and now and then sends what nobody can pay. What then stands on the topic, and not what it believes to have sent, is
//! held against the log and the dead letters.

use std::sync::Arc;
use std::time::Duration;

use paylog::checker::{Answer, Body, DeadLetter, Kind, Operation, Outcome};
use paylog::payment::{IdempotencyKey, MerchantId, PaymentId, Timestamp};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use rdkafka::ClientConfig;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::producer::{BaseRecord, DefaultProducerContext, ThreadedProducer};
use tokio_util::sync::CancellationToken;

use crate::api::MERCHANT;
use crate::gather::Stood;
use crate::payers::Payers;

pub const REQUESTS: &str = "payments.requests";
pub const DEAD_LETTERS: &str = "payments.dead-letter";
/// Requests a second.
const RATE: f64 = 4.0;
/// Of a hundred records, those that nobody can pay: fewer in a minute than intake takes without slowing down.
const POISON_SHARE: u32 = 10;
/// What nobody can pay.
const POISON: [&[u8]; 5] = [
    b"{\"amount\": 1999, \"curr",
    b"\xff\xfe\x00\x01",
    b"{\"amount\":-5,\"currency\":\"EUR\",\"customer_id\":\"cus_1\",\"payment_method\":\"pm_card_visa\"}",
    b"{\"amount\":5,\"currency\":\"EUR\",\"customer_id\":\"cus_1\",\"payment_method\":\"4242424242424242\"}",
    b"\xc3\x01 no schema has this fingerprint",
];

/// Produces until `stop`.
pub async fn produce(bootstrap: String, payers: Arc<Payers>, seed: u64, stop: CancellationToken) -> anyhow::Result<()> {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", bootstrap).set("enable.idempotence", "true").set("partitioner", "murmur2_random");
    let producer: ThreadedProducer<DefaultProducerContext> = config.set_log_level(RDKafkaLogLevel::Emerg).create()?;
    let mut dice = StdRng::seed_from_u64(seed ^ 0xf0e1);
    for n in 0.. {
        tokio::select! {
            () = stop.cancelled() => break,
            () = tokio::time::sleep(Duration::from_secs_f64(1.0 / RATE)) => {}
        }
        let (mut key, mut body) = (format!("foreign-{seed}-{n}"), payers.body(&mut dice));
        if dice.random_bool(0.3)
            && let Some((used, asked)) = payers.recall(&mut dice)
        {
            body = Body { amount: asked.amount + i64::from(dice.random_bool(0.3)), ..asked };
            key = used;
        }
        let value = match dice.random_range(0..100) < POISON_SHARE {
            true => POISON[dice.random_range(0..POISON.len())].to_vec(),
            false => serde_json::to_vec(&body)?,
        };
        // A full queue means that the cluster is away: what was not sent is on no topic.
        drop(producer.send(BaseRecord::to(REQUESTS).key(&key).payload(&value)));
    }
    Ok(())
}

/// The records of `payments.requests` as what they ask for: payments, and what must be refused.
pub fn asked(requests: Vec<Stood>, completed_at: Timestamp) -> (Vec<Operation>, Vec<DeadLetter>) {
    let (mut operations, mut injected) = (Vec::new(), Vec::new());
    for Stood { place, at, key, value, .. } in requests {
        if POISON.contains(&value.as_slice()) {
            injected.push(DeadLetter { source: format!("{REQUESTS}/{}/{}", place.partition, place.offset), value });
            continue;
        }
        let key = String::from_utf8_lossy(&key).into_owned();
        let payment_id = id_of(&key).map(|id| id.to_string()).unwrap_or_default();
        operations.push(Operation {
            client: "foreign".to_owned(),
            instance: REQUESTS.to_owned(),
            kind: Kind::Pay,
            merchant: MERCHANT.to_owned(),
            key: Some(key),
            body: serde_json::from_slice(&value).ok(),
            payment_id: None,
            at_least: None,
            invoked_at: at,
            completed_at,
            outcome: Outcome::Ok(Box::new(Answer { status: 202, payment_id, ..Answer::default() })),
        });
    }
    (operations, injected)
}

/// The payment that this key of the merchant is, for ever.
pub fn id_of(key: &str) -> Option<PaymentId> {
    Some(PaymentId::derive(&MerchantId::parse(MERCHANT).ok()?, &IdempotencyKey::parse(key).ok()?))
}

pub fn refused(letters: Vec<Stood>) -> Vec<DeadLetter> {
    let letter = |Stood { place, value, source, .. }: Stood| {
        let source = source.unwrap_or_else(|| format!("{DEAD_LETTERS} at {place}, which names none"));
        DeadLetter { source, value }
    };
    letters.into_iter().map(letter).collect()
}
