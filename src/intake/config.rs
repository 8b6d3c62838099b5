//! The flags of the intake and of the commands that look at dead letters.

use clap::{Args, Subcommand};

use super::Bounds;
use crate::config::KafkaArgs;

#[derive(Clone, Copy, Debug, Args)]
pub struct IntakeArgs {
    /// Dead letters of one partition of requests, a minute: one that makes more is slowed to that rate.
    #[arg(
        long,
        env = "PAYLOG_DEAD_LETTERS_PER_MINUTE",
        default_value_t = Bounds::DEAD_LETTERS_PER_MINUTE,
        value_parser = clap::value_parser!(u32).range(1..)
    )]
    pub dead_letters_per_minute: u32,
}

#[derive(Debug, Subcommand)]
pub enum DeadLetterCommand {
    /// The newest dead letters, the newest last: where each stands, when and why it was refused, and where it came from.
    Ls {
        #[command(flatten)]
        kafka: KafkaArgs,
        /// How many.
        #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..))]
        limit: u32,
    },
    /// One dead letter with everything in it, as JSON. By design it shows what was sent, be it a card number.
    Show {
        #[command(flatten)]
        kafka: KafkaArgs,
        /// Its place on the topic of dead letters, `PARTITION:OFFSET`.
        place: String,
        /// Nothing but the bytes of its value.
        #[arg(long)]
        raw: bool,
    },
}

impl IntakeArgs {
    #[must_use]
    pub fn bounds(&self) -> Bounds {
        Bounds { dead_letters_per_minute: self.dead_letters_per_minute, ..Bounds::default() }
    }
}
