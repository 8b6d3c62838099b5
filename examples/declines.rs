//! A projection of one's own: which declines there were, by day and code. It folds the log of a stopped `paylog up`, or one on
//! Kafka beside everything that runs there, into a store of its own; run again, it goes on where it stopped.
//!
//!   cargo run --example declines -- --data-dir paylog-data
//!   cargo run --example declines -- --bootstrap-servers localhost:9092

use std::path::PathBuf;
use std::sync::Arc;

use anyhow::Context;
use clap::Parser;
use paylog::config::KafkaArgs;
use paylog::journal::Reader;
use paylog::journal::embedded::EmbeddedJournal;
use paylog::journal::kafka::KafkaJournal;
use paylog::payment::EventData;
use paylog::projection::kept::{Kept, read};
use paylog::projection::{ApplyError, Fold, Projection, Recorded, versioned_name};
use paylog::schema::Codec;
use paylog::store::{Batch, Store, StoreError};

const DAY_US: i64 = 24 * 60 * 60 * 1_000_000;

/// `ended` has the payments that have ended, so that a later end of one is not counted; `declines` the counts.
struct Declines {
    ended: Kept<()>,
    declines: Kept<u64>,
}

impl Projection for Declines {
    const NAME: &'static str = "declines";
    // Whoever changes what `apply` writes counts this up: the log is then folded anew, into a store of its own.
    const VERSION: u32 = 1;

    fn open(store: &Store) -> Result<Self, StoreError> {
        Ok(Self { ended: Kept::new(store.table("ended")?), declines: Kept::new(store.table("declines")?) })
    }

    fn apply(&mut self, recorded: &Recorded, _: &mut Batch) -> Result<(), ApplyError> {
        let code = match &recorded.event.data {
            EventData::PaymentFailed(failed) => Some(&failed.code),
            EventData::PaymentSuccessful(_) => None,
            _ => return Ok(()),
        };
        // The first end of a payment on the log is its end.
        let ended = self.ended.row(recorded.event.payment_id.as_bytes())?;
        if ended.replace(()).is_some() {
            return Ok(());
        }
        if let Some(code) = code {
            let day = u32::try_from(recorded.event.occurred_at.as_micros() / DAY_US).unwrap_or_default();
            let key = [day.to_be_bytes().as_slice(), code.as_bytes()].concat();
            *self.declines.row(&key)?.get_or_insert_default() += 1;
        }
        Ok(())
    }

    fn flush(&mut self, batch: &mut Batch) -> Result<(), StoreError> {
        self.ended.flush(batch)?;
        self.declines.flush(batch)
    }
}

#[derive(Parser)]
struct Args {
    #[command(flatten)]
    kafka: KafkaArgs,
    /// Of a stopped `paylog up`, unless the log is on Kafka.
    #[arg(long, default_value = "paylog-data")]
    data_dir: PathBuf,
    /// Where the counts are kept.
    #[arg(long, default_value = "declines-data")]
    store: PathBuf,
}

fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    let journal: Arc<dyn Reader> = match args.kafka.config("declines") {
        Some(kafka) => KafkaJournal::open(kafka)?,
        None => EmbeddedJournal::open(&args.data_dir.join("journal"), args.kafka.partitions)
            .context("is there a stopped `paylog up` in --data-dir?")?,
    };
    let store = Store::open(&args.store.join(versioned_name::<Declines>()))?;
    Fold::<Declines>::new(store.clone(), journal.as_ref(), Arc::new(Codec::new()?))?.catch_up(journal.as_ref())?;
    for row in read::<u64>(&store.table("declines")?, &[], &[0xFF; 5]) {
        let (key, count) = row?;
        let (day, code) = key.split_first_chunk::<4>().context("a key is too short")?;
        println!("day {} {}: {count}", u32::from_be_bytes(*day), String::from_utf8_lossy(code));
    }
    Ok(())
}
