//! The flags of `parked` and `rejected`.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};

use crate::config::{ClientArgs, KafkaArgs};
use crate::payment::PaymentId;

#[derive(Debug, Subcommand)]
pub enum ParkedCommand {
    /// List what is parked, with counts by reason.
    Ls(ParkedLs),
    /// Show one payment and its history.
    Show(ParkedShow),
    /// Let parked payments go on: ask the gateway for their outcome, or charge them again.
    Resume(ParkedResume),
    /// Say how a parked payment ended.
    Settle(ParkedSettle),
    /// Say that this log alone acts for what was imported into it: its open payments go on, and are charged.
    Adopt(ParkedAdopt),
}

#[derive(Debug, Subcommand)]
pub enum ProjectionCommand {
    /// List the versions of every projection: the one that is served, and the one beside it.
    Ls {
        #[command(flatten)]
        place: Place,
    },
    /// Serve a version that was built beside the one that is served, and found to be the same.
    Promote {
        #[command(flatten)]
        wish: Wish,
        /// Serve it though it has other rows, or was not compared: for one that is meant to differ.
        #[arg(long)]
        accept_differences: bool,
    },
    /// Serve the version again that was served before.
    Rollback {
        #[command(flatten)]
        wish: Wish,
    },
    /// Let go of a version that is not served, and delete it.
    Cancel {
        #[command(flatten)]
        wish: Wish,
    },
}

/// What is wished of a version.
#[derive(Debug, Args)]
pub struct Wish {
    #[command(flatten)]
    pub place: Place,
    #[command(flatten)]
    pub signed: Signed,
    /// As `projection ls` shows it: `payments@4.2`.
    pub version: String,
}

#[derive(Debug, Args)]
pub struct RebuildArgs {
    /// The projection: `payments`.
    pub projection: String,
    #[command(flatten)]
    pub place: Place,
    /// In how much of the time it may work, in percent; what the instance was told if it is left out, all of it offline.
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=100))]
    pub effort: Option<u32>,
    /// Do not wait for it.
    #[arg(long, conflicts_with = "offline")]
    pub detach: bool,
}

/// A running instance, or the data directory of one that does not run.
#[derive(Debug, Args)]
pub struct Place {
    #[command(flatten)]
    pub client: ClientArgs,
    /// Open the data directory of an instance that does not run, in place of asking one that does.
    #[arg(long)]
    pub offline: bool,
    /// Which, with --offline.
    #[arg(long, env = "PAYLOG_DATA_DIR", default_value = "./paylog-data")]
    pub data_dir: PathBuf,
    #[command(flatten)]
    pub kafka: KafkaArgs,
}

#[derive(Debug, Args)]
pub struct ParkedAdopt {
    #[command(flatten)]
    pub client: ClientArgs,
    #[command(flatten)]
    pub signed: Signed,
    /// Do it. Without this, it is only shown what was imported.
    #[arg(long)]
    pub apply: bool,
}

#[derive(Debug, Args)]
pub struct ParkedLs {
    #[command(flatten)]
    pub client: ClientArgs,
    /// Only those that are parked for this reason.
    #[arg(long, value_name = "REASON")]
    pub reason: Option<String>,
}

#[derive(Debug, Args)]
pub struct ParkedShow {
    #[command(flatten)]
    pub client: ClientArgs,
    /// The payment's id.
    #[arg(value_parser = payment_id)]
    pub payment: PaymentId,
}

#[derive(Debug, Args)]
pub struct ParkedResume {
    #[command(flatten)]
    pub client: ClientArgs,
    /// The payments' ids.
    #[arg(value_parser = payment_id, required_unless_present = "reason_is", conflicts_with = "reason_is")]
    pub payments: Vec<PaymentId>,
    /// All that are parked for this reason.
    #[arg(long, value_name = "REASON")]
    pub reason_is: Option<String>,
    /// What to do with them.
    #[arg(long, value_enum)]
    pub decision: Resumption,
    #[command(flatten)]
    pub decided: Decided,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Resumption {
    /// Ask the gateway what became of it, and never charge.
    Inquire,
    /// Charge with the same key, in a new window of the gateway. Only who knows that there was no charge may say so.
    #[value(name = "charge_again", alias = "charge-again")]
    ChargeAgain,
}

#[derive(Debug, Args)]
pub struct ParkedSettle {
    #[command(flatten)]
    pub client: ClientArgs,
    /// The payment's id.
    #[arg(value_parser = payment_id)]
    pub payment: PaymentId,
    /// It was charged, and this is the gateway's reference of the charge.
    #[arg(long, value_name = "REFERENCE", conflicts_with = "failed", required_unless_present = "failed")]
    pub successful: Option<String>,
    /// It was not charged, and never will be, for this reason: a code that the customer is told.
    #[arg(long, value_name = "CODE")]
    pub failed: Option<String>,
    #[command(flatten)]
    pub decided: Decided,
}

/// What every decision about parked payments has.
#[derive(Debug, Args)]
pub struct Decided {
    #[command(flatten)]
    pub signed: Signed,
    /// Only if the payment is still at this version. Without it: at the version that is listed now.
    #[arg(long, value_name = "VERSION", value_parser = clap::value_parser!(u64).range(1..))]
    pub at_version: Option<u64>,
    /// Do it. Without this, it is only shown what would be done.
    #[arg(long)]
    pub apply: bool,
}

#[derive(Debug, Args)]
pub struct Signed {
    /// Why: kept for ever with the decision.
    #[arg(long, value_name = "TEXT")]
    pub reason: String,
    /// Who decides.
    #[arg(long, env = "USER", value_name = "NAME")]
    pub operator: String,
}

#[derive(Debug, Subcommand)]
pub enum RejectedCommand {
    /// Pass over a record at which folding has halted, in every instance and for ever. Not for a record of a newer paylog:
    /// upgrade the instance that cannot read it.
    Add(RejectedAdd),
    /// List where the instance has halted, and everything that was rejected.
    Ls(RejectedLs),
}

#[derive(Debug, Args)]
pub struct RejectedAdd {
    #[command(flatten)]
    pub client: ClientArgs,
    /// The record: its partition and its offset, as `rejected ls` shows them.
    #[arg(value_name = "PARTITION:OFFSET")]
    pub position: String,
    /// Even though it names a schema that the instance does not know, as an event of a later version of paylog does: a payment
    /// is lost with such an event. Only who knows that no paylog wrote the record may say so.
    #[arg(long, value_enum)]
    pub despite: Option<Despite>,
    #[command(flatten)]
    pub signed: Signed,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Despite {
    #[value(name = "unknown_schema", alias = "unknown-schema")]
    UnknownSchema,
}

#[derive(Debug, Args)]
pub struct RejectedLs {
    #[command(flatten)]
    pub client: ClientArgs,
}

fn payment_id(text: &str) -> Result<PaymentId, String> {
    PaymentId::parse(text).ok_or_else(|| "is not the id of a payment (pay_ and 26 letters and digits)".to_owned())
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use crate::config::Cli;

    const ID: &str = "pay_py4e5muxaklg75g4chpkn2gms4";

    fn takes(words: &[&str]) -> bool {
        Cli::try_parse_from(["paylog"].iter().chain(words).chain(&["--operator", "ada"])).is_ok()
    }

    #[test]
    fn nothing_is_decided_without_a_reason_and_each_decision_says_about_what() {
        let why = ["--reason", "x"];
        let with = |words: &[&'static str]| [words, &why].concat();
        assert!(takes(&with(&["parked", "resume", ID, "pay_nwf2o5gqhv2nvlumolmhw4ji6i", "--decision", "inquire"])));
        assert!(takes(&with(&["parked", "resume", "--reason-is", "r", "--decision", "charge_again", "--apply"])));
        assert!(takes(&with(&["parked", "settle", ID, "--successful", "ch_1", "--at-version", "3"])));
        assert!(takes(&with(&["parked", "settle", ID, "--failed", "fraud"])));
        assert!(takes(&with(&["rejected", "add", "1:42"])));
        for wrong in [
            &["parked", "resume", ID, "--decision", "inquire"][..],
            &["parked", "settle", ID, "--failed", "fraud"],
            &["rejected", "add", "1:42"],
        ] {
            assert!(!takes(wrong), "no reason: {wrong:?}");
        }
        for wrong in [
            &["parked", "resume", "--decision", "inquire"][..],
            &["parked", "resume", ID, "--reason-is", "r", "--decision", "inquire"],
            &["parked", "resume", ID],
            &["parked", "resume", "../payments", "--decision", "inquire"],
            &["parked", "resume", ID, "--decision", "settle_failed"],
            &["parked", "settle", ID],
            &["parked", "settle", ID, "--failed", "x", "--successful", "y"],
            &["parked", "settle", ID, "--failed", "x", "--at-version", "0"],
        ] {
            assert!(!takes(&with(wrong)), "{wrong:?}");
        }
    }
}
