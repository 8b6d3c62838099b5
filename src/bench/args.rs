//! The flags of `paylog bench`.

use clap::Args;

use super::StepArgs;
use crate::config::KafkaArgs;

#[derive(Clone, Debug, Args)]
pub struct BenchArgs {
    #[command(flatten)]
    pub kafka: KafkaArgs,
    /// Initiations in the backlog that is drained.
    #[arg(long, default_value_t = 200_000)]
    pub backlog: u64,
    /// Payments a second for the latency from POST to SSE.
    #[arg(long, default_value_t = 200)]
    pub rate: u64,
    /// For how many seconds.
    #[arg(long, default_value_t = 20)]
    pub seconds: u64,
    /// Also measure how much slower payments become while the provider hangs for another merchant.
    #[arg(long)]
    pub bulkhead: bool,
    /// Also measure how much slower payments become while a version of the projection is built from a log of --rebuild events.
    #[arg(long)]
    pub beside: bool,
    /// Measure that, and nothing else.
    #[arg(long)]
    pub beside_only: bool,
    /// Also measure webhooks, to so many endpoints.
    #[arg(long, default_value_t = 0, value_name = "ENDPOINTS")]
    pub webhooks: u64,
    /// Events of which the projection is rebuilt.
    #[arg(long, default_value_t = 1_000_000)]
    pub rebuild: u64,
    #[command(flatten)]
    pub step: StepArgs,
}
