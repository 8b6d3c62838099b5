//! Parses, wires, waits for the signal, answers with an exit code: 0 done, 1 failed, 2 used wrongly.

use std::io::Write;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context;
use clap::Parser;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use paylog::client::{PayArgs, TailArgs};
use paylog::config::{Cli, Command, ConfigCommand, ReplayCommand, ServiceArgs};
use paylog::gateway_simulator::{GatewaySimulator, GatewaySimulatorArgs};
use paylog::journal::kafka;
use paylog::replay::WrongFlags;
use paylog::schema::registry;
use paylog::service::{Role, Service, replay};
use paylog::{bench, checker, client, import, intake, reconcile, telemetry, topics};

/// Records are allocated on one thread and freed on another, where glibc's allocator took two thirds of the fold's time.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// As a shell reports a process that a second signal has ended.
const KILLED: i32 = 130;
/// As clap says it of flags that it judges itself.
const USED_WRONGLY: u8 = 2;

fn main() -> ExitCode {
    let cli = Cli::parse();
    telemetry::log_to_stderr(cli.log_format);
    let done = tokio::runtime::Runtime::new().context("cannot start the runtime").and_then(|runtime| {
        let done = runtime.block_on(run(cli.command));
        runtime.shutdown_background();
        done
    });
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("paylog: {error:#}");
            if error.is::<WrongFlags>() { ExitCode::from(USED_WRONGLY) } else { ExitCode::FAILURE }
        }
    }
}

async fn run(command: Command) -> anyhow::Result<()> {
    match command {
        Command::Up(args) => service(args, Role::All).await,
        Command::Serve(args) => service(args, Role::Serve).await,
        Command::Process(args) => service(args, Role::Process).await,
        Command::Notify(args) => service(args, Role::Notify).await,
        Command::Pay(args) => pay(args).await,
        Command::Tail(args) => tail(args).await,
        Command::Show(args) => client::show(&args, &mut std::io::stdout()).await,
        Command::Token(args) => client::token(&args, &mut std::io::stdout()).await,
        Command::Webhook { command } => client::webhook(command, &mut std::io::stdout()).await,
        Command::Push { command } => client::push(command, &mut std::io::stdout()).await,
        Command::Parked { command } => client::operator::parked(command, &mut std::io::stdout()).await,
        Command::Rejected { command } => client::operator::rejected(command, &mut std::io::stdout()).await,
        Command::Requests { command } => client::operator::requests(command, &mut std::io::stdout()).await,
        Command::Projection { command } => client::operator::projection(command, &mut std::io::stdout()).await,
        Command::Keys { command } => client::operator::keys(command, &mut std::io::stdout()).await,
        Command::Checkpoint { command } => client::operator::checkpoint(command, &mut std::io::stdout()).await,
        Command::Replay { command: ReplayCommand::Rebuild(args) } => {
            client::operator::rebuild(&args, &mut std::io::stdout()).await
        }
        Command::Schemas { command } => registry::run(command, &mut std::io::stdout()).await,
        Command::Topics { command } => {
            tokio::task::spawn_blocking(move || topics::run(command, &mut std::io::stdout())).await?
        }
        Command::Replay { command: ReplayCommand::Verify(args) } => {
            tokio::task::spawn_blocking(move || replay::verify(&args, &mut std::io::stdout())).await?
        }
        Command::Replay { command: ReplayCommand::Archive(command) } => {
            tokio::task::spawn_blocking(move || import::run(&command, &mut std::io::stdout())).await?
        }
        Command::DeadLetter { command } => {
            tokio::task::spawn_blocking(move || intake::command::run(command, &mut std::io::stdout())).await?
        }
        Command::Config { command: ConfigCommand::Check(args) } => check(&args),
        Command::Reconcile(args) => reconcile::run(&args, &mut std::io::stdout()).await,
        Command::GatewaySimulator(args) => gateway_simulator(&args).await,
        Command::Bench(args) => bench::run(args).await,
        Command::CheckHistory { dir } => tokio::task::spawn_blocking(move || check_history(&dir)).await?,
    }
}

async fn service(args: ServiceArgs, role: Role) -> anyhow::Result<()> {
    let stop = CancellationToken::new();
    stop_on_signal(stop.clone())?;
    let opened = tokio::select! {
        opened = Service::open(args.clone(), role) => Some(opened?),
        () = stop.cancelled() => None,
    };
    let Some(service) = opened else {
        tracing::info!("stopped before it had started");
        return Ok(());
    };
    announce(&args, role, &service)?;
    service.run(stop).await?;
    tracing::info!("stopped");
    Ok(())
}

async fn gateway_simulator(args: &GatewaySimulatorArgs) -> anyhow::Result<()> {
    let stop = CancellationToken::new();
    stop_on_signal(stop.clone())?;
    let simulator = GatewaySimulator::open(args, stop)?;
    let text = format!("listening on http://{}\nledger in {}\n", simulator.address()?, args.data_dir.display());
    drop(std::io::stdout().write_all(text.as_bytes()));
    simulator.run().await
}

/// The first SIGTERM or SIGINT drains, the second ends the process at once.
fn stop_on_signal(stop: CancellationToken) -> anyhow::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    tokio::spawn(async move {
        for first in [true, false] {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
            if !first {
                std::process::exit(KILLED);
            }
            tracing::info!("stopping; a second signal stops at once");
            stop.cancel();
        }
    });
    Ok(())
}

/// For people and for scripts: the first line is where it listens. Nobody has to read it.
fn announce(args: &ServiceArgs, role: Role, service: &Service) -> anyhow::Result<()> {
    let address = service.address()?;
    let mut text = format!("listening on http://{address}\n");
    text += &format!("data in {}, journal {}\n", args.data_dir.display(), service.journal().engine());
    if matches!(role, Role::All | Role::Serve) {
        text += &format!(
            "open http://{address}/ in a browser, or pay and watch with:

  curl -s http://{address}/v1/payments -H 'Content-Type: application/json' -H 'Idempotency-Key: order-1' \\
    -d '{{\"amount\": 1999, \"currency\": \"EUR\", \"customer_id\": \"cus_42\", \"payment_method\": \"pm_card_visa\"}}'
  curl -N 'http://{address}/v1/stream?customer_id=cus_42'

"
        );
    }
    if let Some(key) = service.demo_key() {
        let here = if args.access.require_keys { "" } else { "; from this machine none is needed" };
        text += &format!(
            "a key to try things out with, of the merchant default, good until this process ends{here}:

  curl -s http://{address}/v1/payments -H 'Authorization: Bearer {}'

",
            key.reveal()
        );
    }
    drop(std::io::stdout().write_all(text.as_bytes()));
    Ok(())
}

async fn pay(args: PayArgs) -> anyhow::Result<()> {
    let PayArgs { client: to, amount, currency, customer, method, key, wait } = args;
    let pay = client::Pay { amount, currency, customer, method, key, wait_s: wait };
    client::pay(&to.url, &pay, &mut std::io::stdout()).await
}

async fn tail(args: TailArgs) -> anyhow::Result<()> {
    let followed = match (args.payment, args.customer) {
        (Some(payment), _) => client::Followed::Payment(payment),
        (None, Some(customer)) => client::Followed::Customer(customer),
        (None, None) => client::Followed::All,
    };
    client::tail(&args.client.url, &followed, args.last_event_id, &mut std::io::stdout()).await
}

fn check(args: &ServiceArgs) -> anyhow::Result<()> {
    if let Some(kafka) = args.kafka.config("check") {
        kafka::validate(&kafka)?;
    }
    args.gateway.open(Duration::ZERO)?;
    args.service_bus.queue()?;
    args.kafka.registry.validate()?;
    println!("the configuration is sound:\n{args:#?}");
    Ok(())
}

fn check_history(dir: &Path) -> anyhow::Result<()> {
    let report = checker::Checker::new()?.check(&checker::files::load(dir)?);
    println!("{report}");
    anyhow::ensure!(report.is_clean(), "the history in {} breaks what paylog promises", dir.display());
    Ok(())
}
