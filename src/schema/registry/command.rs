//! `schemas register` and `schemas check`.

use std::io::Write;

use anyhow::{Context, ensure};
use clap::Subcommand;

use super::Registry;
use super::subjects::{LEVEL, released};
use crate::config::KafkaArgs;

#[derive(Debug, Subcommand)]
pub enum SchemasCommand {
    /// Register every schema that was released, and set FULL_TRANSITIVE for each subject. What is there already stays.
    Register(KafkaArgs),
    /// Say which subjects are missing, differ, or are not FULL_TRANSITIVE; nothing is changed.
    Check(KafkaArgs),
}

pub async fn run(command: SchemasCommand, out: &mut impl Write) -> anyhow::Result<()> {
    match command {
        SchemasCommand::Register(args) => register(&args, out).await,
        SchemasCommand::Check(args) => check(&args, out).await,
    }
}

async fn register(args: &KafkaArgs, out: &mut impl Write) -> anyhow::Result<()> {
    let registry = registry(args)?;
    for subject in released(&args.topic_prefix) {
        let ids = subject.register(&registry).await?;
        let ids: Vec<String> = ids.iter().map(u32::to_string).collect();
        writeln!(out, "{} {} {LEVEL}", subject.name, ids.join(" "))?;
    }
    Ok(())
}

async fn check(args: &KafkaArgs, out: &mut impl Write) -> anyhow::Result<()> {
    let (registry, mut wrong) = (registry(args)?, 0);
    for subject in released(&args.topic_prefix) {
        for what in subject.check(&registry).await? {
            writeln!(out, "{} {what}", subject.name)?;
            wrong += 1;
        }
    }
    ensure!(wrong == 0, "the schemas in the registry are not as they must be: run `paylog schemas register`");
    writeln!(out, "the schemas are registered as they must be")?;
    Ok(())
}

fn registry(args: &KafkaArgs) -> anyhow::Result<Registry> {
    Registry::new(&args.registry)?.context("give --schema-registry (PAYLOG_SCHEMA_REGISTRY): where the registry is")
}
