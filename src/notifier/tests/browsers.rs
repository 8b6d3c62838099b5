//! The same of browsers.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::{Bed, PATIENCE, append, end, turn_until};
use crate::control::{Decided, Lease, NewSubscription, PushFrom, PushScope, SubscriptionId};
use crate::journal::{Journal, NewRecord, Offset, Partition};
use crate::notifier::Running;
use crate::payment::samples::{event, in_progress, successful};
use crate::payment::{CustomerId, Event, MerchantId, Timestamp};
use crate::schema::Codec;

/// Started without `--vapid-subject`, which nothing but another start mends: what it is to send does not come back at once, again
/// and again, and holds nothing that others could use.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_process_cannot_send_as_it_was_started_is_looked_at_seldom() {
    let bed = Bed::new();
    let control = bed.deciding();
    let new = NewSubscription {
        id: SubscriptionId([1; 16]),
        merchant: MerchantId::default(),
        scope: PushScope::Customer(CustomerId::parse("cus_42").unwrap()),
        from: PushFrom::Each(vec![Offset(0)]),
        service: "https://push.example".to_owned(),
        sealed: bed.key.seal("any", b"{}").unwrap(),
        lease: None,
    };
    let (subscribed, now) = (control.subscribe(&new, Timestamp::now(), PATIENCE).await, Timestamp::now());
    assert!(matches!(subscribed.unwrap(), Decided::Effective(_)));
    for (sequence, data) in [(1, in_progress(1999)), (2, successful("ch_1"))] {
        let event = Event { occurred_at: now, ..event(sequence, data) };
        let value = Codec::new().unwrap().encode(&event).unwrap();
        let record = NewRecord { partition: Partition(0), key: Vec::new(), headers: Vec::new(), value };
        bed.payments.append(record).await.unwrap();
    }
    let (folder, view) = bed.view("rows-of-payments");
    bed.fold(folder);
    let (notifier, deliveries) = bed.notifier(control, view.clone());
    let scanner = deliveries.scanner(Arc::clone(&bed.payments) as _, view, Arc::new(Codec::new().unwrap()));
    bed.follow(move |stop| scanner.run(stop).unwrap());
    let lanes = bed.deliveries.lanes().unwrap();
    let mut running = Running::new(notifier.attempts, notifier.bounds, lanes);
    let later = now.plus(Duration::from_secs(5 * 60));
    turn_until(&mut running, "it is put off", |running| running.next_look().is_some_and(|at| at > later));
    assert!(!running.waits_for_another_try());
    assert_eq!(
        (deliveries.open_count(new.id, 9).unwrap(), end(&bed.deliveries)),
        (Some(1), 0),
        "and it is still to be told"
    );
}

/// Of a browser that is told longer nothing is read again: what it was to be told is known, or was.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lease_that_is_renewed_goes_on_from_where_it_stood() {
    let bed = Bed::new();
    let control = bed.deciding();
    let now = Timestamp::now();
    let new = |n: u8, hours: u64| NewSubscription {
        id: SubscriptionId([n; 16]),
        merchant: MerchantId::default(),
        scope: PushScope::Customer(CustomerId::parse("cus_42").unwrap()),
        from: PushFrom::Each(vec![Offset(0)]),
        service: "https://push.example".to_owned(),
        sealed: bed.key.seal("any", b"{}").unwrap(),
        lease: Some(Lease { ends_at: now.plus(Duration::from_secs(hours * 3_600)), key: None }),
    };
    let subscribe = async |new: &NewSubscription| {
        let subscribed = control.subscribe(new, Timestamp::now(), PATIENCE).await.unwrap();
        assert!(matches!(subscribed, Decided::Effective(_)));
    };
    subscribe(&new(1, 720)).await;
    for (sequence, data) in [(1, in_progress(1999)), (2, successful("ch_1"))] {
        append(&bed.payments, Partition(0), Codec::new().unwrap().encode(&event(sequence, data)).unwrap()).await;
    }
    let (folder, view) = bed.view("rows-of-payments");
    bed.fold(folder);
    let (_, deliveries) = bed.notifier(Arc::clone(&control), view.clone());
    let mut scanner = deliveries.scanner(Arc::clone(&bed.payments) as _, view, Arc::new(Codec::new().unwrap()));
    let open = |n: u8| deliveries.open_count(SubscriptionId([n; 16]), 9).unwrap();
    let mut scan_until = |what: &str, fact: &dyn Fn() -> bool| {
        let deadline = Instant::now() + PATIENCE;
        while !fact() {
            assert!(Instant::now() < deadline, "waited in vain: {what}");
            scanner.turn(Duration::from_millis(1)).unwrap();
        }
    };
    scan_until("it is to be told", &|| open(1) == Some(1));
    // So that it shows if it is read for again.
    deliveries.drop_all(SubscriptionId([1; 16]).into()).unwrap();
    subscribe(&new(1, 1_440)).await;
    subscribe(&new(2, 720)).await;
    scan_until("another that has come behind it is to be told", &|| open(2) == Some(1));
    assert_eq!(open(1), Some(0), "of what it was to be told before nothing is read again");
    subscribe(&NewSubscription { from: PushFrom::Each(vec![Offset(1)]), ..new(1, 1_440) }).await;
    scan_until("one that begins anew is read for", &|| open(1) == Some(1));
    // Who has a clock that is ahead may have dropped it before it was renewed.
    subscribe(&new(3, 1)).await;
    scan_until("it is to be told", &|| open(3) == Some(1));
    deliveries.drop_all(SubscriptionId([3; 16]).into()).unwrap();
    subscribe(&new(3, 720)).await;
    scan_until("one that was renewed while it ended is read for", &|| open(3) == Some(1));
}
