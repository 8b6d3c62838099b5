//! The rebuild from Kafka that `bench/rebuild` measures, a step at a time and each in a process of its own: a topic is
//! filled, read with nothing but librdkafka, or folded into an empty store.

use std::collections::VecDeque;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use anyhow::{Context, ensure};
use clap::{Args, ValueEnum};
use tokio_util::sync::CancellationToken;

use super::backlog::{append, initiation, success};
use super::{BenchArgs, figure, per_second};
use crate::journal::kafka::{self, KafkaConfig, KafkaJournal, bare};
use crate::payment::{Event, Payment};
use crate::projection::bulk::{self, Bulk, Done};
use crate::projection::kept::Kept;
use crate::projection::{ApplyError, Fold, Offsets, Payments, Projection, Recorded};
use crate::schema::Codec;
use crate::store::{Batch, Store, StoreError};

/// So many other payments are accepted until one ends: a second's worth at a thousand a second.
const OPEN_AT_ONCE: u64 = 1_000;
/// Where the pace and the memory so far are told, in percent of the log.
const TOLD_AT: [u64; 5] = [10, 20, 50, 90, 100];

#[derive(Clone, Debug, Args)]
pub struct StepArgs {
    /// Instead of all figures, one step of `bench/rebuild`, on the topic that --topic-prefix names.
    #[arg(long, value_enum, requires = "bootstrap_servers")]
    pub step: Option<Step>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Step {
    /// Makes the topic, with as many events as --rebuild says: of each payment that it began, and that it was charged.
    Fill,
    /// Reads the topic with nothing but librdkafka.
    Consume,
    /// Folds the topic into an empty store, as a version that is built beside another.
    Fold,
    /// Folds it into one table, of the payments as they are now: what Kafka Streams restores, but decoded and folded.
    FoldTable,
}

/// One table, payment id to [`Payment`].
struct States(Kept<Payment>);

impl Projection for States {
    const NAME: &'static str = "states";
    const VERSION: u32 = 1;
    const BY_PAYMENT: Option<&'static [&'static str]> = Some(&["states"]);

    fn open(store: &Store) -> Result<Self, StoreError> {
        Ok(Self(Kept::new(store.table("states")?)))
    }

    fn apply(&mut self, recorded: &Recorded, _: &mut Batch) -> Result<(), ApplyError> {
        let payment = self.0.row(recorded.event.payment_id.as_bytes())?;
        let folded = Payment::fold(payment, &recorded.event, recorded.appended_at);
        folded.map(drop).map_err(|lost| ApplyError::Unfoldable(lost.to_string()))
    }

    fn flush(&mut self, batch: &mut Batch) -> Result<(), StoreError> {
        self.0.flush(batch)
    }
}

/// Blocks; within a tokio runtime.
pub(super) fn run(step: Step, args: &BenchArgs) -> anyhow::Result<()> {
    let config = args.kafka.config("bench").context("--step needs --bootstrap-servers")?;
    let config = KafkaConfig { allow_single_replica: true, ..config };
    match step {
        Step::Fill => fill(config, args.rebuild / 2),
        Step::Consume => {
            let consumed = bare::consume(&config)?;
            let (seconds, megabytes) = (consumed.took.as_secs_f64(), consumed.bytes as f64 / 1e6);
            let rate = per_second(consumed.records, consumed.took);
            println!("consumed: {rate:.0}/s ({} in {seconds:.2} s, {megabytes:.0} MB)", consumed.records);
            Ok(())
        }
        Step::Fold => fold::<Payments>(config, args.rebuild),
        Step::FoldTable => fold::<States>(config, args.rebuild),
    }
}

fn fill(config: KafkaConfig, payments: u64) -> anyhow::Result<()> {
    kafka::ensure(&config, 1)?;
    let journal = KafkaJournal::open(config)?;
    let began = Instant::now();
    append(journal.as_ref(), &Codec::new()?, events(payments))?;
    figure("events appended", payments * 2, began);
    Ok(())
}

fn events(payments: u64) -> impl Iterator<Item = Event> {
    (0..payments + OPEN_AT_ONCE).flat_map(move |n| {
        let begins = (n < payments).then(|| initiation(n));
        begins.into_iter().chain(n.checked_sub(OPEN_AT_ONCE).map(success))
    })
}

fn fold<P: Projection>(config: KafkaConfig, events: u64) -> anyhow::Result<()> {
    let directory = std::env::temp_dir().join(format!("bench-fold-{}", uuid::Uuid::new_v4().simple()));
    let folded = fold_into::<P>(&directory, config, events);
    std::fs::remove_dir_all(&directory).context("cannot delete the bench's directory")?;
    folded
}

fn fold_into<P: Projection>(directory: &Path, config: KafkaConfig, events: u64) -> anyhow::Result<()> {
    let (journal, codec) = (kafka::reader(config)?, Arc::new(Codec::new()?));
    let marks = Mutex::new(Marks::new(events));
    let began = Instant::now();
    let bulk = Bulk {
        log: journal.as_ref(),
        codec: &codec,
        to: &Offsets::ends_of(journal.as_ref())?,
        store: directory,
        stop: &CancellationToken::new(),
        batch_max: bulk::BATCH_MAX,
        run_bytes: bulk::RUN_BYTES,
        after: &|_, done| marks.lock().unwrap_or_else(PoisonError::into_inner).passed(done),
    };
    let done = bulk.build(|store, _| P::open(store))?;
    ensure!(done == Done::Whole, "the log cannot be sorted: {done:?}");
    let mut fold = Fold::<P>::new(Store::open(directory)?, journal.as_ref(), codec)?;
    let progress = fold.progress();
    progress.speak(false);
    fold.follow(journal.as_ref(), &CancellationToken::new(), &mut |_| !progress.caught_up())?;
    let folded = progress.folded().sum();
    marks.lock().unwrap_or_else(PoisonError::into_inner).passed(folded);
    figure("events folded", folded, began);
    Ok(())
}

/// Tells the pace, and the memory so far, at some places on the way.
struct Marks {
    at: VecDeque<u64>,
    last: (Instant, u64),
}

impl Marks {
    fn new(events: u64) -> Self {
        let at = TOLD_AT.iter().map(|percent| events * percent / 100).collect();
        Self { at, last: (Instant::now(), 0) }
    }

    fn passed(&mut self, done: u64) {
        while self.at.front().is_some_and(|mark| done >= *mark) {
            self.at.pop_front();
            let rate = per_second(done - self.last.1, self.last.0.elapsed());
            let resident = resident_max().map_or_else(|| "unknown".to_owned(), |kb| format!("{} MB", kb / 1000));
            println!("  at {done}: {rate:.0}/s since the mark before, resident at most {resident}");
            self.last = (Instant::now(), done);
        }
    }
}

/// How much of the process has been in memory at once at most, in kB.
fn resident_max() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    line.trim().strip_suffix(" kB")?.parse().ok()
}
