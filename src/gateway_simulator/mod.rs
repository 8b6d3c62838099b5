//! A provider with an HTTP face, for tests and for trying paylog out: it speaks the part of Stripe's Payment Intents API that
//! paylog uses, keeps a durable ledger of its own, is idempotent as Stripe documents it, and fails on demand. It shares no
//! code with the client that is tested against it, so that the two do not agree on a mistake.
//!
//! Idempotency: the first answer to a key is stored once its work has begun, and replayed, 500s included; the key with other
//! parameters is refused, and while the first request is worked on, 409. What is refused before that (401, 429, invalid
//! parameters) stores nothing. After the key window a key is new, and charges again.

mod answer;
mod book;
mod fault;
mod http;
mod intent;
mod ledger;
mod request;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use clap::Args;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::clock::{Clock, SystemClock};
use crate::http::{Limits, bind, serve};
use book::{Book, Terms};
use ledger::{Ended, Ledger};

pub use fault::{Fault, Rate, Rates};

/// How long what is being answered may take at a stop.
const DRAIN: Duration = Duration::from_secs(5);

#[derive(Clone, Debug, Args)]
#[command(after_help = fault::help())]
pub struct GatewaySimulatorArgs {
    /// Where to listen for HTTP; port 0 takes a free one.
    #[arg(long, env = "PAYLOG_GATEWAY_SIMULATOR_LISTEN", default_value = "127.0.0.1:4010")]
    pub listen: SocketAddr,
    /// Where the ledger is kept.
    #[arg(long, env = "PAYLOG_GATEWAY_SIMULATOR_DATA_DIR", default_value = "./paylog-gateway-simulator")]
    pub data_dir: PathBuf,
    /// For how long a key is recognised, in seconds; used again after that, it charges again.
    #[arg(long, default_value_t = 24 * 60 * 60)]
    pub key_window_seconds: u64,
    /// A fault that strikes by itself, at this share of the requests; may be repeated.
    #[arg(long = "fault", value_name = "NAME=RATE")]
    pub faults: Vec<Rate>,
    /// The dice: the same seed gives the same request of the same key the same fault.
    #[arg(long, default_value_t = 0)]
    pub seed: u64,
    /// How long a delayed answer takes, in milliseconds.
    #[arg(long, default_value_t = 3_000)]
    pub delay_ms: u64,
    /// After how long what comes late comes, in milliseconds.
    #[arg(long, default_value_t = 2_000)]
    pub late_ms: u64,
    /// For how long lists and searches do not show a new charge, in milliseconds.
    #[arg(long, default_value_t = 0)]
    pub listing_lag_ms: u64,
    /// Open connections.
    #[arg(long, default_value_t = 10_000)]
    pub connections_max: usize,
}

/// A simulator that is ready to run: its ledger is open, and it listens.
pub struct GatewaySimulator {
    listener: TcpListener,
    simulator: Arc<http::Simulator>,
    limits: Limits,
    ended: Ended,
}

impl GatewaySimulator {
    pub fn open(args: &GatewaySimulatorArgs, stop: CancellationToken) -> anyhow::Result<Self> {
        Self::open_at(args, stop, Arc::new(SystemClock))
    }

    /// As [`GatewaySimulator::open`], with a clock of one's own.
    pub fn open_at(
        args: &GatewaySimulatorArgs,
        stop: CancellationToken,
        clock: Arc<dyn Clock>,
    ) -> anyhow::Result<Self> {
        let rates = Rates { rates: args.faults.clone(), seed: args.seed };
        ensure!(rates.sum() <= 1.0, "the rates of --fault are more than 1 together: nothing would be left to go well");
        let milliseconds = Duration::from_millis;
        let terms = Terms {
            rates,
            key_window: Duration::from_secs(args.key_window_seconds),
            delay: milliseconds(args.delay_ms),
            late: milliseconds(args.late_ms),
            listing_lag: milliseconds(args.listing_lag_ms),
        };
        let listener = bind(args.listen).with_context(|| format!("cannot listen on {}", args.listen))?;
        let (ledger, ended) = Ledger::open(&args.data_dir, Book::new(terms), stop.clone())?;
        let simulator = Arc::new(http::Simulator { ledger, clock, stop });
        let limits = Limits { connections: args.connections_max, ..Limits::default() };
        Ok(Self { listener, simulator, limits, ended })
    }

    pub fn address(&self) -> anyhow::Result<SocketAddr> {
        Ok(self.listener.local_addr()?)
    }

    /// Until `stop`, or until the ledger can no more be written.
    pub async fn run(self) -> anyhow::Result<()> {
        let Self { listener, simulator, limits, ended } = self;
        let stop = simulator.stop.clone();
        serve(listener, http::routes(&simulator), limits, stop, DRAIN).await;
        drop(simulator);
        match tokio::time::timeout(DRAIN, ended).await {
            Ok(Ok(written)) => written.context("the ledger could not be written: see to the disk, then start again"),
            Ok(Err(_)) => bail!("the ledger panicked"),
            Err(_) => bail!("the ledger did not end in time"),
        }
    }
}
