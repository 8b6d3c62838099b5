//! What others could write to the log: a torn transaction's repeat, a zombie, a foreign hand with the right to write. The
//! fold meets each of them (DESIGN.md 6), and nothing is charged or told twice.

use paylog::journal::{NewRecord, Partition, partition_of};
use paylog::payment::event::{PaymentFailed, PaymentSuccessful};
use paylog::payment::{Event, EventData, PaymentId, Timestamp};
use paylog::schema::Codec;

use crate::client::body;
use crate::cluster::{Bed, PARTITIONS, Running, until};

pub async fn append(front: &Running, partition: Partition, value: Vec<u8>) {
    let record = NewRecord { partition, key: b"foreign".to_vec(), headers: Vec::new(), value };
    let position = front.journal.append(record).await.unwrap();
    front.view.wait_folded(position).await;
}

pub async fn append_event(front: &Running, id: PaymentId, data: EventData) {
    let value = Codec::new().unwrap().encode(&Event::new(id, Timestamp::now(), data)).unwrap();
    append(front, partition_of(id.to_string().as_bytes(), PARTITIONS), value).await;
}

pub async fn a_second_end_changes_nothing_and_is_shown(bed: &Bed) {
    let system = bed.start().await;
    let client = &system.front.client;
    let paid = client.pay_to_the_end("order-1", &body("cus_1", "pm_card_visa")).await;
    let gateway_reference = paid.body["gateway"]["reference"].as_str().unwrap().to_owned();
    let again = PaymentSuccessful { gateway: "simulator".to_owned(), gateway_reference, attempt: 1 };
    append_event(&system.front, paid.id(), EventData::PaymentSuccessful(again)).await;
    let (code, message) = ("card_declined".to_owned(), "no".to_owned());
    append_event(&system.front, paid.id(), EventData::PaymentFailed(PaymentFailed { code, message, attempt: 9 })).await;

    let now = client.get(&format!("/v1/payments/{}", paid.text("id"))).await;
    assert_eq!(now.body, paid.body, "the first end stands");
    let history = client.get(&format!("/v1/payments/{}/events?all=true", paid.text("id"))).await;
    let versions: Vec<_> = history.body["data"].as_array().unwrap().iter().map(|e| e["version"].as_u64()).collect();
    assert_eq!(versions, [Some(1), Some(2), None, None]);
    let effective = client.get(&format!("/v1/payments/{}/events", paid.text("id"))).await;
    assert_eq!(effective.body["data"].as_array().unwrap().len(), 2);
    let stream = client.whole_stream(&format!("payment_id={}", paid.text("id")), None).await;
    assert_eq!(stream.len(), 1, "and no stream tells of it");
    system.stop().await;
}

pub async fn a_later_initiation_with_the_same_id_is_no_effect(bed: &Bed) {
    let system = bed.start().await;
    let client = &system.front.client;
    let paid = client.pay_to_the_end("order-1", &body("cus_1", "pm_card_visa")).await;
    let log = system.front.log().await;
    let first = log.into_iter().find(|e| matches!(e.data, EventData::PaymentInProgress(_))).unwrap();
    append_event(&system.front, paid.id(), first.data.clone()).await;
    let EventData::PaymentInProgress(mut other) = first.data else { unreachable!() };
    other.fingerprint.0[0] ^= 1;
    append_event(&system.front, paid.id(), EventData::PaymentInProgress(other)).await;
    let now = client.get(&format!("/v1/payments/{}", paid.text("id"))).await;
    assert_eq!(now.body, paid.body);
    system.stop().await;
}

/// A key whose payment is on this partition.
pub fn key_on(partition: u32) -> String {
    let keys = (0..).map(|n| format!("order-{n}"));
    let id = |key: &String| {
        let key = paylog::payment::IdempotencyKey::parse(key).unwrap();
        PaymentId::derive(&paylog::payment::MerchantId::default(), &key).to_string()
    };
    keys.into_iter().find(|key| partition_of(id(key).as_bytes(), PARTITIONS) == Partition(partition)).unwrap()
}

pub async fn an_unreadable_record_halts_its_partition_and_no_other(bed: &Bed) {
    let system = bed.start().await;
    let client = &system.front.client;
    let record =
        NewRecord { partition: Partition(1), key: Vec::new(), headers: Vec::new(), value: b"{garbage}".to_vec() };
    system.front.journal.append(record).await.unwrap();
    until("the instance says that it has halted", async || {
        let ready = client.get("/readyz").await;
        // Ready all the same: the other partitions go on, and every instance has met the same record.
        ready.status == 200 && ready.body["halted"].as_str().is_some_and(|reason| reason.contains("partition 1"))
    })
    .await;
    let elsewhere = client.pay_to_the_end(&key_on(0), &body("cus_1", "pm_card_visa")).await;
    assert_eq!((elsewhere.status, elsewhere.text("status")), (200, "successful"));
    let end = system.front.log_end().await;
    let here = client.pay(&key_on(1), &body("cus_1", "pm_card_visa")).await;
    assert_eq!((here.status, here.text("code"), here.header("retry-after").is_empty()), (503, "halted", false));
    assert_eq!(system.front.log_end().await, end, "nothing is accepted behind it");
    system.stop().await;
}
