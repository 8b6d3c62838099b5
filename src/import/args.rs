//! The flags of `replay export`, `replay import` and `replay check-archive`.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use crate::archive::{Compression, Format};
use crate::config::KafkaArgs;

#[derive(Debug, Subcommand)]
pub enum ArchiveCommand {
    /// Copy the log, or a part of it, into an archive: from Kafka, beside whatever runs, or from the data directory of an
    /// instance that is stopped.
    Export(Box<ExportArgs>),
    /// Make a log of an archive, where there is none yet. Nothing is charged for its open payments until `parked adopt`.
    Import(Box<ImportArgs>),
    /// Read an archive from one end to the other, and say whether it is whole and unchanged.
    CheckArchive {
        /// The archive.
        file: PathBuf,
    },
}

#[derive(Debug, Args)]
pub struct ExportArgs {
    /// The archive; `-` is standard output, for JSON lines.
    pub file: PathBuf,
    #[command(flatten)]
    pub logs: LogsArgs,
    /// JSON lines for people, `jq` and `grep`, or an Avro file for every tool that reads those. Without it, by the name: Avro
    /// for `.avro`.
    #[arg(long, value_enum)]
    pub format: Option<Format>,
    /// How to compress. Without it, by the name: gzip for `.gz`, deflate for `.avro`.
    #[arg(long, value_enum)]
    pub compress: Option<Compression>,
    /// Only this partition; may be repeated.
    #[arg(long = "partition", value_name = "PARTITION")]
    pub only_partitions: Vec<u32>,
    /// Only this payment, by its id; may be repeated.
    #[arg(long = "payment", value_name = "ID")]
    pub payments: Vec<String>,
    /// Only the payments of this customer.
    #[arg(long, value_name = "ID")]
    pub customer: Option<String>,
    /// Only what the log took at this time or later, as 2026-11-25T10:00:00Z. Such an archive cannot be imported.
    #[arg(long, value_name = "TIME")]
    pub since: Option<jiff::Timestamp>,
    /// Only what the log took before this time. Such an archive cannot be imported.
    #[arg(long, value_name = "TIME")]
    pub until: Option<jiff::Timestamp>,
    /// Begin a partition at this offset; may be repeated. Such an archive cannot be imported.
    #[arg(long = "from", value_name = "PARTITION:OFFSET")]
    pub from: Vec<String>,
    /// End a partition before this offset; may be repeated. Such an archive cannot be imported.
    #[arg(long = "to", value_name = "PARTITION:OFFSET")]
    pub to: Vec<String>,
}

#[derive(Debug, Args)]
pub struct ImportArgs {
    /// The archive.
    pub file: PathBuf,
    #[command(flatten)]
    pub logs: LogsArgs,
    /// Replicas of each topic that is made.
    #[arg(long, default_value_t = 3)]
    pub replication: u16,
    /// Also an archive that holds the histories of some payments only. The keys of all others are new to the log then: a request
    /// that is repeated charges again.
    #[arg(long)]
    pub partial: bool,
    /// Why: kept for ever on the control log.
    #[arg(long, value_name = "TEXT")]
    pub reason: String,
    /// Who imports.
    #[arg(long, env = "USER", value_name = "NAME")]
    pub operator: String,
}

/// Where the logs are.
#[derive(Debug, Args)]
pub struct LogsArgs {
    /// The data directory, if the log is embedded.
    #[arg(long, env = "PAYLOG_DATA_DIR", default_value = "./paylog-data")]
    pub data_dir: PathBuf,
    #[command(flatten)]
    pub kafka: KafkaArgs,
}
