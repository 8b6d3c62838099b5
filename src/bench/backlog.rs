//! Results from a backlog, and the rebuild.

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use tokio_util::sync::CancellationToken;

use super::{Bed, Lanes, checkpoint, figure, wait_folded, wait_idle};
use crate::gateway::simulator::Simulator;
use crate::journal::{AppendError, Journal, NewRecord};
use crate::payment::event::PaymentSuccessful;
use crate::payment::{Event, EventData, IdempotencyKey, MerchantId, NewPayment, PaymentId, RequestId, Timestamp};
use crate::projection::home_of;
use crate::recording::event_record;
use crate::schema::Codec;

/// Appends under way at once.
const APPENDS_MAX: usize = 8_192;
/// Customers over which the payments are spread.
const CUSTOMERS: u64 = 10_000;

/// Fills a log with initiations, then measures how fast they are folded, charged and recorded.
pub(super) fn drain(bed: &Bed) -> anyhow::Result<()> {
    let journal = bed.open()?;
    let count = bed.args.backlog;
    let began = Instant::now();
    append(journal.as_ref(), &bed.codec, (0..count).map(initiation))?;
    figure("initiations appended", count, began);

    let fold_stop = CancellationToken::new();
    let began = Instant::now();
    let (view, fold) = bed.fold(&journal, &bed.store(), &fold_stop)?;
    let lanes = Lanes::start(bed, &journal, &view, Arc::new(Simulator { latency: Duration::ZERO }))?;
    wait_folded(journal.as_ref(), &view)?;
    wait_idle(&view)?;
    figure("results from the backlog", count, began);
    lanes.end()?;
    fold_stop.cancel();
    fold.join().map_err(|_| anyhow::anyhow!("the fold panicked"))?
}

/// Fills a log with whole payments, then measures how fast an empty store is built from it.
pub(super) fn rebuild(bed: &Bed) -> anyhow::Result<()> {
    let payments = bed.args.rebuild / 2;
    fill(bed, payments)?;
    let journal = bed.open()?;
    let stop = CancellationToken::new();
    let began = Instant::now();
    let (view, fold) = bed.fold(&journal, &bed.store(), &stop)?;
    wait_folded(journal.as_ref(), &view)?;
    figure("events rebuilt", payments * 2, began);
    let live = view.live().built();
    checkpoint::measure(bed, journal.as_ref(), &live)?;
    stop.cancel();
    fold.join().map_err(|_| anyhow::anyhow!("the fold panicked"))?
}

/// With whole payments.
pub(super) fn fill(bed: &Bed, payments: u64) -> anyhow::Result<()> {
    let journal = bed.open()?;
    append(journal.as_ref(), &bed.codec, (0..payments).flat_map(|n| [initiation(n), success(n)]))
}

pub(super) fn append(journal: &dyn Journal, codec: &Codec, events: impl Iterator<Item = Event>) -> anyhow::Result<()> {
    tokio::runtime::Handle::current().block_on(async {
        let mut appending = FuturesUnordered::new();
        for event in events {
            appending.push(journal.append(record(&event, codec, journal.partitions())?));
            if appending.len() >= APPENDS_MAX {
                appending.next().await.transpose()?;
            }
        }
        while let Some(appended) = appending.next().await {
            appended.map_err(|e: AppendError| anyhow::anyhow!(e))?;
        }
        Ok(())
    })
}

pub(super) fn record(event: &Event, codec: &Codec, partitions: u32) -> anyhow::Result<NewRecord> {
    Ok(event_record(event, home_of(event.payment_id, partitions), codec, None)?)
}

/// The `n`th payment of the default merchant.
fn id(n: u64) -> PaymentId {
    id_of(&MerchantId::default(), &format!("bench-{n}"))
}

/// The bench's own keys are valid.
fn id_of(merchant: &MerchantId, key: &str) -> PaymentId {
    IdempotencyKey::parse(key).map_or(PaymentId::ZERO, |key| PaymentId::derive(merchant, &key))
}

pub(super) fn initiation(n: u64) -> Event {
    initiation_of(&MerchantId::default(), &format!("bench-{n}"), n % CUSTOMERS)
}

pub(super) fn initiation_of(merchant: &MerchantId, key: &str, customer: u64) -> Event {
    let body =
        format!(r#"{{"amount":1999,"currency":"EUR","customer_id":"cus_{customer}","payment_method":"pm_card_visa"}}"#);
    let request = match NewPayment::parse(body.as_bytes()) {
        Ok(request) => request,
        Err(invalid) => unreachable!("the bench's own request is valid: {invalid:?}"),
    };
    let data = EventData::PaymentInProgress(request.accept(merchant.clone(), "simulator", RequestId::random()));
    Event::new(id_of(merchant, key), Timestamp::now(), data)
}

pub(super) fn success(n: u64) -> Event {
    let (gateway, gateway_reference) = ("simulator".to_owned(), format!("ch_{n}"));
    let data = EventData::PaymentSuccessful(PaymentSuccessful { gateway, gateway_reference, attempt: 1 });
    Event::new(id(n), Timestamp::now(), data)
}
