//! The flags of `paylog replay verify`.

use std::path::PathBuf;

use clap::Args;

use super::Selection;
use crate::config::KafkaArgs;
use crate::journal::{Offset, Partition};
use crate::payment::{CustomerId, MerchantId, PaymentId, Timestamp};
use crate::schema::Kind;

/// Flags that do not go together, or do not say enough: exit code 2.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct WrongFlags(pub String);

/// Judges every record of the log, folds the log twice into payments and totals, compares the two folds, counts the totals
/// again from the payments, and compares all of it with the rows of a stopped instance, at the offsets at which these stand.
/// Changes nothing and charges nothing: it can run beside a live system, and from cron.
///
/// Exits with 0 if everything is as it must be, with 1 if not (or if it could not be found out), with 2 if the flags are
/// wrong. Warnings alone are no violation.
///
/// --payment, --customer, --partition, --from, --to, --since, --until and --type choose payments, not events: what a payment
/// is depends on all its events, so each payment that is chosen is judged and folded whole, from its first record to the
/// end of the log. One is chosen if it is that payment, or of that customer, and if at least one of its records meets all the
/// other flags. Totals are not looked at then, for they are of all payments. Try a choice with --dry-run first.
#[derive(Debug, Args)]
pub struct VerifyArgs {
    #[command(flatten)]
    pub kafka: KafkaArgs,
    /// The data directory of a stopped instance: its rows are compared with the log and, without --bootstrap-servers, its
    /// journal is the log. Not taken from the environment, so that a running instance's is not taken by mistake.
    #[arg(long)]
    pub data_dir: Option<PathBuf>,
    /// Compare with the rows of this data directory instead, for example a copy.
    #[arg(long, value_name = "DIR")]
    pub against: Option<PathBuf>,
    /// Where to keep what does not fit into memory: about three times the size of the log. What is in
    /// it is deleted at the end; a run that is killed leaves a directory paylog-verify-... behind.
    #[arg(long, env = "PAYLOG_WORK_DIR", value_name = "DIR")]
    pub work_dir: Option<PathBuf>,
    #[command(flatten)]
    pub chosen: ChosenArgs,
    /// Say what would be read, and read nothing.
    #[arg(long)]
    pub dry_run: bool,
    /// Write the report as one JSON document.
    #[arg(long)]
    pub json: bool,
    /// Findings shown of each invariant; all are counted.
    #[arg(long, default_value_t = 100)]
    pub show_max: usize,
}

#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Which payments")]
pub struct ChosenArgs {
    /// One payment; only its partition is read.
    #[arg(long, value_parser = payment_id, conflicts_with_all = ["customer", "partition", "from", "to", "since", "until", "event"])]
    pub payment: Option<PaymentId>,
    /// All of one customer.
    #[arg(long, value_parser = customer_id)]
    pub customer: Option<CustomerId>,
    /// The customer's merchant.
    #[arg(long, value_parser = merchant_id, requires = "customer", default_value_t)]
    pub merchant: MerchantId,
    /// Those with a record on this partition; only this is read.
    #[arg(long)]
    pub partition: Option<u32>,
    /// Those with a record at this offset of the partition or later.
    #[arg(long, value_name = "OFFSET", requires = "partition")]
    pub from: Option<u64>,
    /// Those with a record before this offset of the partition.
    #[arg(long, value_name = "OFFSET", requires = "partition")]
    pub to: Option<u64>,
    /// Those with a record that the log took at this time or later, like 2026-11-25T10:00:00Z.
    #[arg(long, value_name = "TIME", value_parser = timestamp)]
    pub since: Option<Timestamp>,
    /// Those with a record that the log took before this time.
    #[arg(long, value_name = "TIME", value_parser = timestamp)]
    pub until: Option<Timestamp>,
    /// Those with an event of this type, like PaymentFailed.
    #[arg(long = "type", value_name = "TYPE", value_parser = event_name)]
    pub event: Option<&'static str>,
}

impl ChosenArgs {
    /// For a log of `partitions`.
    pub fn selection(&self, partitions: u32) -> Result<Selection, WrongFlags> {
        let Self { payment, customer, merchant, partition, from, to, since, until, event } = self.clone();
        if let Some(partition) = partition.filter(|partition| *partition >= partitions) {
            return Err(WrongFlags(format!("there is no partition {partition}: the log has 0 to {}", partitions - 1)));
        }
        if from.zip(to).is_some_and(|(from, to)| from >= to)
            || since.zip(until).is_some_and(|(since, until)| since >= until)
        {
            return Err(WrongFlags(
                "an empty range: --from must be less than --to, and --since before --until".to_owned(),
            ));
        }
        Ok(Selection {
            payment,
            customer: customer.map(|customer| (merchant, customer)),
            partition: partition.map(Partition),
            from: from.map(Offset),
            to: to.map(Offset),
            since,
            until,
            event,
        })
    }
}

pub(crate) fn payment_id(text: &str) -> Result<PaymentId, String> {
    PaymentId::parse(text).ok_or_else(|| "is no payment's id, which is pay_ and 26 letters and digits".to_owned())
}

fn customer_id(text: &str) -> Result<CustomerId, String> {
    CustomerId::parse(text).map_err(|invalid| invalid.detail)
}

fn merchant_id(text: &str) -> Result<MerchantId, String> {
    MerchantId::parse(text).map_err(|invalid| invalid.detail)
}

pub(crate) fn timestamp(text: &str) -> Result<Timestamp, String> {
    Timestamp::parse(text).ok_or_else(|| "is no time between 2000 and 2100, like 2026-11-25T10:00:00Z".to_owned())
}

fn event_name(text: &str) -> Result<&'static str, String> {
    let names = Kind::ALL.map(Kind::name);
    names.into_iter().find(|name| *name == text).ok_or_else(|| format!("must be one of {}", names.join(", ")))
}
