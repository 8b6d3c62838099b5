//! A provider that hangs for one merchant: how much slower do the payments of the others become? The same load twice on the
//! same machine, first without and then with a merchant whose calls are never answered. Open loop.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until, timeout_at};
use tokio_util::sync::CancellationToken;

use super::{Bed, Lanes, backlog};
use crate::gateway::simulator::Simulator;
use crate::gateway::{Answer, Charge, Gateway, Inquiry, Outcome, Terms};
use crate::journal::Journal;
use crate::payment::{Event, MerchantId, Payment};
use crate::projection::View;

/// How long an ordinary answer takes.
const LATENCY: Duration = Duration::from_millis(20);
/// Merchants that share the ordinary load.
const MERCHANTS: u64 = 10;
/// Payments of the merchant that hangs: there before the load begins, and then as many a second.
const HUNG_BACKLOG: u64 = 2_000;
const HUNG_RATE: u64 = 20;
const HUNG: &str = "hangs";
/// At the beginning, and not counted.
const WARM_UP: Duration = Duration::from_secs(2);
/// How long after the last payment its end is waited for.
const PATIENCE: Duration = Duration::from_secs(10);

/// Answers everybody but one.
struct Uneven(Simulator);

impl Gateway for Uneven {
    fn name(&self) -> &'static str {
        self.0.name()
    }

    fn terms(&self) -> Terms {
        self.0.terms()
    }

    fn charge(&self, charge: Charge) -> Answer<Outcome> {
        if charge.merchant.as_str() == HUNG { Box::pin(std::future::pending()) } else { self.0.charge(charge) }
    }

    fn inquire(&self, charge: Charge) -> Answer<Inquiry> {
        if charge.merchant.as_str() == HUNG { Box::pin(std::future::pending()) } else { self.0.inquire(charge) }
    }
}

/// What the load is put on.
#[derive(Clone)]
struct Target {
    journal: Arc<dyn Journal>,
    view: View,
    codec: Arc<crate::schema::Codec>,
}

/// Prints both 99th percentiles and how they compare.
pub(super) async fn measure(bed: &Bed) -> anyhow::Result<()> {
    let journal = tokio::task::block_in_place(|| bed.open())?;
    let fold_stop = CancellationToken::new();
    let (view, fold) = tokio::task::block_in_place(|| bed.fold(&journal, &bed.store(), &fold_stop))?;
    let lanes = Lanes::start(bed, &journal, &view, Arc::new(Uneven(Simulator { latency: LATENCY })))?;
    let target = Target { journal, view, codec: Arc::clone(&bed.codec) };
    let alone = load(&target, &bed.args, "alone").await?;
    let hung = CancellationToken::new();
    let hanging = tokio::spawn(hang(target.clone(), hung.clone()));
    let beside = load(&target, &bed.args, "beside").await?;
    hung.cancel();
    hanging.await.context("the merchant that hangs panicked")??;
    println!(
        "one merchant's provider hangs: p99 of the others {:.1} ms, alone {:.1} ms, ratio {:.2}",
        beside.as_secs_f64() * 1000.0,
        alone.as_secs_f64() * 1000.0,
        beside.as_secs_f64() / alone.as_secs_f64()
    );
    tokio::task::spawn_blocking(move || lanes.end()).await??;
    fold_stop.cancel();
    tokio::task::spawn_blocking(move || fold.join()).await?.map_err(|_| anyhow::anyhow!("the fold panicked"))?
}

/// The 99th percentile of the time from when a payment was due to be appended until its end was folded.
async fn load(target: &Target, args: &super::BenchArgs, name: &str) -> anyhow::Result<Duration> {
    let counted_from = WARM_UP.as_secs() * args.rate;
    let count = counted_from + args.seconds * args.rate;
    let began = Instant::now();
    let at = |n: u64| began + Duration::from_secs(1).mul_f64(n as f64 / args.rate as f64);
    let mut paying = JoinSet::new();
    for n in 0..count {
        sleep_until(at(n)).await;
        let (target, key, due) = (target.clone(), format!("{name}-{n}"), at(n));
        let merchant = format!("merchant-{}", n % MERCHANTS);
        paying.spawn(async move { anyhow::Ok((n, pay(&target, &merchant, &key, due).await?)) });
    }
    let mut latencies = Vec::new();
    while let Some(paid) = paying.join_next().await {
        let (n, latency) = paid.context("a payment panicked")??;
        if n >= counted_from {
            latencies.push(latency);
        }
    }
    latencies.sort_unstable();
    Ok(latencies[latencies.len() * 99 / 100])
}

async fn pay(target: &Target, merchant: &str, key: &str, due: Instant) -> anyhow::Result<Duration> {
    let event = initiation(merchant, key)?;
    let mut watch = target.view.watch_payment(event.payment_id);
    target.journal.append(backlog::record(&event, &target.codec, target.view.partitions())?).await?;
    let deadline = Instant::now() + PATIENCE;
    while !target.view.payment(event.payment_id)?.is_some_and(|row| Payment::is_terminal(&row.payment)) {
        timeout_at(deadline, watch.changed()).await.context("a payment of another merchant did not end")?;
    }
    Ok(due.elapsed())
}

/// The merchant whose provider hangs has a backlog, and goes on paying.
async fn hang(target: Target, stop: CancellationToken) -> anyhow::Result<()> {
    for n in 0.. {
        if stop.is_cancelled() {
            break;
        }
        let event = initiation(HUNG, &format!("hung-{n}"))?;
        target.journal.append(backlog::record(&event, &target.codec, target.view.partitions())?).await?;
        if n >= HUNG_BACKLOG {
            sleep(Duration::from_secs(1) / HUNG_RATE as u32).await;
        }
    }
    Ok(())
}

fn initiation(merchant: &str, key: &str) -> anyhow::Result<Event> {
    let merchant = MerchantId::parse(merchant).map_err(|invalid| anyhow::anyhow!(invalid.detail))?;
    Ok(backlog::initiation_of(&merchant, key, 0))
}
