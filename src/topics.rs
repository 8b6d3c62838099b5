//! `paylog topics`: makes the topics, looks at them, or says how they are to be made. Alters none that is there.

use std::io::Write;

use anyhow::Context;
use clap::Subcommand;

use crate::config::KafkaArgs;
use crate::journal::kafka::{self, KafkaConfig};

/// For topics that nobody is asked about.
const NO_SERVERS: &str = "none";

#[derive(Debug, Subcommand)]
pub enum TopicsCommand {
    /// Create what is missing; what exists is checked and never altered.
    Ensure {
        #[command(flatten)]
        kafka: KafkaArgs,
        /// Replicas of each topic.
        #[arg(long, default_value_t = 3)]
        replication: u16,
    },
    /// Say what is not as it must be, and how to mend it.
    Check(KafkaArgs),
    /// Print what `ensure` makes, as JSON, for whoever makes topics by other means. Asks no Kafka.
    Settings {
        #[command(flatten)]
        kafka: KafkaArgs,
        /// Replicas of each topic.
        #[arg(long, default_value_t = 3)]
        replication: u16,
    },
}

/// Blocks.
pub fn run(command: TopicsCommand, out: &mut impl Write) -> anyhow::Result<()> {
    match command {
        TopicsCommand::Ensure { kafka, replication } => {
            for topic in kafka::ensure(&config(&kafka)?, replicas(&kafka, replication))? {
                writeln!(out, "{topic}")?;
            }
        }
        TopicsCommand::Check(kafka) => {
            kafka::check(&config(&kafka)?)?;
            writeln!(out, "the topics are as they must be")?;
        }
        TopicsCommand::Settings { kafka, replication } => {
            let asked_of = KafkaArgs { bootstrap_servers: Some(NO_SERVERS.into()), ..kafka.clone() };
            let planned = kafka::plan(&config(&asked_of)?, replicas(&kafka, replication))?;
            writeln!(out, "{}", serde_json::to_string_pretty(&planned)?)?;
        }
    }
    Ok(())
}

fn config(kafka: &KafkaArgs) -> anyhow::Result<KafkaConfig> {
    kafka.config("topics").context("give --bootstrap-servers (PAYLOG_BOOTSTRAP_SERVERS): topics are Kafka's")
}

fn replicas(kafka: &KafkaArgs, replication: u16) -> u16 {
    if kafka.allow_single_replica { 1 } else { replication }
}
