//! Results from a backlog, and the rebuild.

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use tokio_util::sync::CancellationToken;

use super::{Bed, figure, wait_folded, wait_idle};
use crate::gateway::simulator::Simulator;
use crate::journal::{AppendError, Journal, NewRecord, partition_of};
use crate::lane::{Bounds, Driver};
use crate::payment::event::{PaymentInProgress, PaymentSuccessful};
use crate::payment::{Event, EventData, IdempotencyKey, MerchantId, NewPayment, PaymentId, RequestId, Timestamp};
use crate::processor::{Policy, Processor};
use crate::schema::{Codec, headers};

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

    let (stop, fold_stop) = (CancellationToken::new(), CancellationToken::new());
    let began = Instant::now();
    let (view, fold) = bed.fold(&journal, &bed.store(), &fold_stop)?;
    let gateway = Arc::new(Simulator { latency: Duration::ZERO });
    let worker = Arc::new(Processor::new(gateway, view.clocks().clone(), Policy::default()));
    let runtime = tokio::runtime::Handle::current();
    let driver = Driver {
        journal: Arc::clone(&journal),
        view: view.clone(),
        codec: Arc::clone(&bed.codec),
        worker,
        bounds: Bounds::default(),
        executor: Arc::new(runtime.clone()),
    };
    let lanes_stop = stop.clone();
    let lanes = std::thread::Builder::new().name("lanes".to_owned()).spawn(move || {
        let _context = runtime.enter();
        driver.run(&lanes_stop)
    })?;
    wait_folded(journal.as_ref(), &view)?;
    wait_idle(&view)?;
    figure("results from the backlog", count, began);
    stop.cancel();
    lanes.join().map_err(|_| anyhow::anyhow!("the lanes panicked"))??;
    fold_stop.cancel();
    fold.join().map_err(|_| anyhow::anyhow!("the fold panicked"))?
}

/// Fills a log with whole payments, then measures how fast an empty store is built from it.
pub(super) fn rebuild(bed: &Bed) -> anyhow::Result<()> {
    let journal = bed.open()?;
    let payments = bed.args.rebuild / 2;
    append(journal.as_ref(), &bed.codec, (0..payments).flat_map(|n| [initiation(n), success(n)]))?;
    let stop = CancellationToken::new();
    let began = Instant::now();
    let (view, fold) = bed.fold(&journal, &bed.store(), &stop)?;
    wait_folded(journal.as_ref(), &view)?;
    figure("events rebuilt", payments * 2, began);
    stop.cancel();
    fold.join().map_err(|_| anyhow::anyhow!("the fold panicked"))?
}

fn append(journal: &dyn Journal, codec: &Codec, events: impl Iterator<Item = Event>) -> anyhow::Result<()> {
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
    let key = event.payment_id.to_string().into_bytes();
    let partition = partition_of(&key, partitions);
    Ok(NewRecord { partition, key, headers: headers(codec, event, None), value: codec.encode(event)? })
}

/// The `n`th payment of the default merchant.
fn id(n: u64) -> PaymentId {
    id_of(&MerchantId::default(), &format!("bench-{n}"))
}

/// The bench's own keys are valid.
fn id_of(merchant: &MerchantId, key: &str) -> PaymentId {
    IdempotencyKey::parse(key).map_or(PaymentId::ZERO, |key| PaymentId::derive(merchant, &key))
}

fn initiation(n: u64) -> Event {
    initiation_of(&MerchantId::default(), &format!("bench-{n}"), n % CUSTOMERS)
}

pub(super) fn initiation_of(merchant: &MerchantId, key: &str, customer: u64) -> Event {
    let body =
        format!(r#"{{"amount":1999,"currency":"EUR","customer_id":"cus_{customer}","payment_method":"pm_card_visa"}}"#);
    let merchant_id = merchant.clone();
    let request = match NewPayment::parse(body.as_bytes()) {
        Ok(request) => request,
        Err(invalid) => unreachable!("the bench's own request is valid: {invalid:?}"),
    };
    let data = EventData::PaymentInProgress(PaymentInProgress {
        fingerprint: request.fingerprint(&merchant_id),
        merchant_id,
        customer_id: request.customer_id,
        money: request.money,
        payment_method: request.payment_method,
        gateway: "simulator".to_owned(),
        gateway_request_version: 1,
        request_id: RequestId::random(),
        private: None,
    });
    Event::new(id_of(merchant, key), Timestamp::now(), data)
}

fn success(n: u64) -> Event {
    let (gateway, gateway_reference) = ("simulator".to_owned(), format!("ch_{n}"));
    let data = EventData::PaymentSuccessful(PaymentSuccessful { gateway, gateway_reference, attempt: 1 });
    Event::new(id(n), Timestamp::now(), data)
}
