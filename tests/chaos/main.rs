//! The chaos run: paylog as it is run, on three real brokers, against a provider that fails, under everything that can be
//! done to processes, brokers and links, for a bounded time; then the history checker.
//!
//!   cargo test --test chaos -- --seconds 120 --seed 1 --out DIR
//!
//! Exits with 1 if a promise was broken, or a service that had started well ended by itself. Needs Java 17, Maven and python3 (Kafka) and Go (toxiproxy). Everything is on
//! 127.0.0.1 and on ports that were free, and what was started is stopped, by its own pid.

mod api;
mod brokers;
mod evidence;
mod fleet;
mod foreign;
mod gather;
mod nemesis;
mod payers;
mod process;
mod readers;
mod recorder;
mod run;
mod sse;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;

/// Words of `cargo test` that mean nothing here are refused, so that nobody believes they did.
#[derive(Clone, Debug, Parser)]
#[command(name = "chaos")]
pub struct Args {
    /// For how long things go wrong.
    #[arg(long, default_value_t = 120)]
    seconds: u64,
    /// What goes wrong, and when, and who pays what.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Payments a second that are tried.
    #[arg(long, default_value_t = 25.0)]
    rate: f64,
    /// Where history, logs and data go; a new directory that is deleted after a clean run, if it is left out.
    #[arg(long)]
    out: Option<PathBuf>,
}

fn main() -> ExitCode {
    let args = Args::parse();
    let runtime = match tokio::runtime::Runtime::new() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("chaos: cannot start the runtime: {error}");
            return ExitCode::FAILURE;
        }
    };
    let done = runtime.block_on(run::run(&args));
    runtime.shutdown_background();
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("chaos: {error:#}");
            ExitCode::FAILURE
        }
    }
}
