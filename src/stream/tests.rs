//! Whose events are whose.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::feed::{Data, Next, Reading};
use super::{StreamConfig, Streams, Wish};
use crate::clock::Clocks;
use crate::journal::embedded::EmbeddedJournal;
use crate::journal::{Journal, NewRecord, Partition, Reader};
use crate::payment::samples::{event, in_progress, payment_id};
use crate::payment::{Event, EventData, MerchantId};
use crate::projection::{Folder, View};
use crate::schema::Codec;
use crate::store::Store;

/// A log of these events, on one partition, folded.
pub(super) async fn folded(directory: &Path, events: Vec<Event>) -> View {
    let journal = EmbeddedJournal::open(&directory.join("journal"), 1).unwrap();
    let codec = Arc::new(Codec::new().unwrap());
    for event in events {
        let value = codec.encode(&event).unwrap();
        let record = NewRecord { partition: Partition(0), key: Vec::new(), headers: Vec::new(), value };
        journal.append(record).await.unwrap();
    }
    let store = Store::open(&directory.join("store")).unwrap();
    let (mut folder, view) = Folder::open(store, journal.as_ref(), codec, Clocks::system()).unwrap();
    let (mut tail, end) = (folder.tail(journal.as_ref()).unwrap(), journal.ends(Partition(0)).unwrap().committed);
    while view.folded_to(Partition(0)) < end {
        folder.turn(tail.as_mut(), Duration::from_millis(50)).unwrap();
    }
    view
}

fn of(merchant: &MerchantId, key: &str) -> Event {
    let mut event = event(1, in_progress(1999));
    event.payment_id = payment_id(key);
    if let EventData::PaymentInProgress(data) = &mut event.data {
        data.merchant_id = merchant.clone();
    }
    event
}

/// The payments that a feed begins with, and those of its changes from the beginning of the log.
fn told(streams: &Streams, merchant: &MerchantId, wish: impl Fn() -> Wish<'static>) -> [Vec<String>; 2] {
    let start = crate::projection::Offsets::start(1).encode(streams.view.log_id());
    [None, Some(start.as_str())].map(|cursor| {
        let feed = streams.feed(merchant.clone(), Wish { cursor, ..wish() }).unwrap().unwrap();
        let (mut reading, mut payments) = (Reading::new(feed), Vec::new());
        while let Next::Block(block) = reading.next() {
            match block.data {
                Data::Snapshot { payment, .. } => payments.push(payment.id.to_string()),
                Data::Change(entry) => payments.push(entry.payment.id.to_string()),
                Data::Reset | Data::Nothing => {}
            }
        }
        payments
    })
}

#[tokio::test]
async fn nothing_of_another_merchant_is_told() {
    let directory = tempfile::tempdir().unwrap();
    // The name of the one begins with that of the other, and the customer is of the same name.
    let (one, other) = (MerchantId::parse("m").unwrap(), MerchantId::parse("m1").unwrap());
    let view = folded(directory.path(), vec![of(&one, "a"), of(&other, "b"), of(&one, "c")]).await;
    let streams = Streams { view, config: StreamConfig::default(), shutdown: CancellationToken::new() };
    let ids = |keys: &[&str]| keys.iter().map(|key| payment_id(key).to_string()).collect::<Vec<_>>();
    for customer_id in [None, Some("cus_42")] {
        let wish = || Wish { customer_id, ..Wish::default() };
        assert_eq!(told(&streams, &one, wish), [ids(&["c", "a"]), ids(&["a", "c"])]);
        assert_eq!(told(&streams, &other, wish), [ids(&["b"]), ids(&["b"])]);
        assert_eq!(told(&streams, &MerchantId::parse("m11").unwrap(), wish), [ids(&[]), ids(&[])]);
    }
    let id = payment_id("b").to_string();
    let of_payment = || Wish { payment_id: Some(&id), ..Wish::default() };
    assert!(streams.feed(other, of_payment()).is_ok());
    let refused = streams.feed(one, of_payment()).err().unwrap();
    assert!(serde_json::to_string(&refused.body()).unwrap().contains("payment_not_found"));
}
