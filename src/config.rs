//! Flags, environment and help, all from the structs below: a flag `--some-thing` is `PAYLOG_SOME_THING` too. Secrets come
//! by the environment only. Nothing here does I/O.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::access::AccessArgs;
use crate::api::EventGridArgs;
use crate::bench::BenchArgs;
use crate::client::operator::{
    CheckpointCommand, KeysCommand, ParkedCommand, ProjectionCommand, RebuildArgs, RejectedCommand, RequestsCommand,
};
use crate::client::{PayArgs, PushCommand, ShowArgs, TailArgs, TokenArgs, WebhookCommand};
use crate::gateway::GatewayArgs;
use crate::gateway_simulator::GatewaySimulatorArgs;
use crate::import::ArchiveCommand;
use crate::intake::service_bus::ServiceBusArgs;
use crate::intake::{DeadLetterCommand, HubArgs, IntakeArgs};
use crate::journal::kafka::{DEFAULT_GROUP, DEFAULT_PARTITIONS, DEFAULT_TOPIC_PREFIX, KafkaConfig};
use crate::lane::Bounds;
use crate::notifier::WebhookArgs;
use crate::processor::{Backoff, Bulkheads, Policy};
use crate::projection::versions::Effort;
use crate::reconcile::ReconcileArgs;
use crate::replay::VerifyArgs;
use crate::schema::registry::{RegistryArgs, SchemasCommand};
use crate::topics::TopicsCommand;

/// How long a stop may take before it is over, done or not.
pub const DRAIN_SECONDS: u64 = 20;

#[derive(Debug, Parser)]
#[command(name = "paylog", version, about, max_term_width = 110)]
pub struct Cli {
    #[command(subcommand)]
    pub command: Command,
    /// How to write the log.
    #[arg(long, global = true, env = "PAYLOG_LOG_FORMAT", value_enum, default_value = "text")]
    pub log_format: LogFormat,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    Text,
    Json,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Everything in one process: API, processor, projection, streams and the page; on the embedded journal, unless
    /// --bootstrap-servers is given.
    Up(ServiceArgs),
    /// API, projection and streams, on Kafka.
    Serve(ServiceArgs),
    /// The processor, on Kafka; any number of them share the partitions.
    Process(ServiceArgs),
    /// Sends webhooks and Web Push, on Kafka; any number of them share the partitions.
    Notify(ServiceArgs),
    /// Pay, as a client of a running paylog.
    Pay(PayArgs),
    /// Follow one payment, one customer or all payments, as a client.
    Tail(TailArgs),
    /// Show one payment and its history, as a client.
    Show(ShowArgs),
    /// Ask for a stream token, with which a browser follows one payment or one customer.
    Token(TokenArgs),
    /// Who is told of payments by webhook, and what came of it.
    Webhook {
        #[command(subcommand)]
        command: WebhookCommand,
    },
    /// Which browsers are told of payments by Web Push, and what came of it.
    Push {
        #[command(subcommand)]
        command: PushCommand,
    },
    /// Payments that wait for a person: look, and decide.
    Parked {
        #[command(subcommand)]
        command: ParkedCommand,
    },
    /// Records that cannot be folded, and so halt their partition: look, and have them passed over.
    Rejected {
        #[command(subcommand)]
        command: RejectedCommand,
    },
    /// Requests from Kafka that wait, and so hold up their partition: look, and refuse what can never be read.
    Requests {
        #[command(subcommand)]
        command: RequestsCommand,
    },
    /// Versions of the projections: which is served, and which is built beside it.
    Projection {
        #[command(subcommand)]
        command: ProjectionCommand,
    },
    /// Consistent copies of a projection: make one, verify it, start from it.
    Checkpoint {
        #[command(subcommand)]
        command: CheckpointCommand,
    },
    /// API keys of merchants and of operators: create, list, rotate, revoke.
    Keys {
        #[command(subcommand)]
        command: KeysCommand,
    },
    /// Create the topics on Kafka, or look whether they are as they must be, or say how to make them.
    Topics {
        #[command(subcommand)]
        command: TopicsCommand,
    },
    /// The schemas of events in a schema registry: register them, or look whether they are as they must be.
    Schemas {
        #[command(subcommand)]
        command: SchemasCommand,
    },
    /// Work on the whole log: judge it, copy it, and make a log of a copy.
    Replay {
        #[command(subcommand)]
        command: ReplayCommand,
    },
    /// Look at the requests from Kafka that were refused.
    DeadLetter {
        #[command(subcommand)]
        command: DeadLetterCommand,
    },
    /// Check a configuration without starting anything.
    Config {
        #[command(subcommand)]
        command: ConfigCommand,
    },
    /// Compare the gateway's ledger with the log, and raise an alarm where they do not agree; nothing is changed.
    Reconcile(ReconcileArgs),
    /// A payment provider to test against, over HTTP: a durable ledger, Stripe's rules, and every fault on demand.
    GatewaySimulator(GatewaySimulatorArgs),
    /// Measure this machine: results per second, latency, rebuild.
    Bench(BenchArgs),
    /// Check a recorded history of a run against what paylog promises; exits with 1 if a promise was broken.
    CheckHistory {
        /// The directory with the history's files, as the chaos run writes it.
        dir: PathBuf,
    },
}

#[derive(Clone, Debug, Args)]
pub struct ServiceArgs {
    /// Where to listen for HTTP; port 0 takes a free one.
    #[arg(long, env = "PAYLOG_LISTEN", default_value = "127.0.0.1:8080")]
    pub listen: std::net::SocketAddr,
    /// Where this process keeps its data. One directory serves one process.
    #[arg(long, env = "PAYLOG_DATA_DIR", default_value = "./paylog-data")]
    pub data_dir: PathBuf,
    #[command(flatten)]
    pub kafka: KafkaArgs,
    #[command(flatten)]
    pub bounds: BoundsArgs,
    #[command(flatten)]
    pub gateway: GatewayArgs,
    #[command(flatten)]
    pub intake: IntakeArgs,
    #[command(flatten)]
    pub hub: HubArgs,
    #[command(flatten)]
    pub service_bus: ServiceBusArgs,
    #[command(flatten)]
    pub access: AccessArgs,
    #[command(flatten)]
    pub webhooks: WebhookArgs,
    #[command(flatten)]
    pub event_grid: EventGridArgs,
    /// How long the simulated gateway takes for an answer, in milliseconds.
    #[arg(long, env = "PAYLOG_SIMULATOR_LATENCY_MS", default_value_t = 100)]
    pub simulator_latency_ms: u64,
    /// The shortest pause before a failed try is repeated, in milliseconds.
    #[arg(long, env = "PAYLOG_RETRY_MIN_MS", default_value_t = 500, value_parser = clap::value_parser!(u64).range(1..))]
    pub retry_min_ms: u64,
    /// The longest, in milliseconds; a gateway that asks for more patience (Retry-After) gets it.
    #[arg(long, env = "PAYLOG_RETRY_MAX_MS", default_value_t = 300_000, value_parser = clap::value_parser!(u64).range(1..))]
    pub retry_max_ms: u64,
    /// For how long the gateway is asked about a payment whose answer was lost, in seconds, before it is parked for a person.
    #[arg(long, env = "PAYLOG_UNKNOWN_PARK_AFTER_SECONDS", default_value_t = 900)]
    pub unknown_park_after_seconds: u64,
    /// After how long a silent stream sends a comment, in milliseconds, so that proxies and clients know it lives.
    #[arg(long, env = "PAYLOG_STREAM_HEARTBEAT_MS", default_value_t = 15_000, value_parser = clap::value_parser!(u64).range(1..))]
    pub stream_heartbeat_ms: u64,
    /// How long one stream may last, in seconds, or up to a fifth less; clients come back with their id, and spread over the instances again.
    #[arg(long, env = "PAYLOG_STREAM_MAX_AGE_SECONDS", default_value_t = 3_600, value_parser = clap::value_parser!(u64).range(1..))]
    pub stream_max_age_seconds: u64,
    /// How often to look whether the topic on Kafka is still as it must be, in seconds. What is wrong ends the process.
    #[arg(long, env = "PAYLOG_GUARD_SECONDS", default_value_t = 60, value_parser = clap::value_parser!(u64).range(1..))]
    pub guard_seconds: u64,
    /// Keep the totals of all payments by day, currency and status, for GET /v1/totals; `process` has none.
    #[arg(long, env = "PAYLOG_TOTALS", default_value_t = true, action = clap::ArgAction::Set)]
    pub totals: bool,
    /// In how much of the time a version of a projection may be built beside the one that is served, or a checkpoint be made, in
    /// percent, unless the command that begins it says otherwise.
    #[arg(long, env = "PAYLOG_REBUILD_EFFORT", default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=100))]
    pub rebuild_effort: u32,
    /// Where a projection has no rows yet, begin with those in its checkpoint, and fold only what the log has since. May be
    /// repeated (in one word, and in the environment: `,` between), with one for each projection. Ignored where there are rows;
    /// what is damaged, or of another log, ends the start.
    #[arg(long, env = "PAYLOG_FROM_CHECKPOINT", value_name = "FILE", value_delimiter = ',')]
    pub from_checkpoint: Vec<PathBuf>,
    /// How long a stop may take, in seconds, before it is over, done or not.
    #[arg(long, env = "PAYLOG_DRAIN_SECONDS", default_value_t = DRAIN_SECONDS)]
    pub drain_seconds: u64,
}

#[derive(Clone, Args)]
pub struct KafkaArgs {
    /// Kafka's bootstrap servers, `host:port` with commas between. Without them the journal is embedded.
    #[arg(long, env = "PAYLOG_BOOTSTRAP_SERVERS")]
    pub bootstrap_servers: Option<String>,
    /// The event topic; the others are `<prefix>.requests`, `.deliveries`, `.dead-letter` and `.control`.
    #[arg(long, env = "PAYLOG_TOPIC_PREFIX", default_value = DEFAULT_TOPIC_PREFIX)]
    pub topic_prefix: String,
    /// The processors' consumer group.
    #[arg(long, env = "PAYLOG_GROUP", default_value = DEFAULT_GROUP)]
    pub group: String,
    /// Partitions of the log. Chosen once: a key's partition can never change.
    #[arg(long, env = "PAYLOG_PARTITIONS", default_value_t = DEFAULT_PARTITIONS, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub partitions: u32,
    /// Accept a topic with one replica: for trying things out, for its log is lost with one disk.
    #[arg(long, env = "PAYLOG_ALLOW_SINGLE_REPLICA", value_parser = clap::builder::BoolishValueParser::new())]
    pub allow_single_replica: bool,
    /// Any librdkafka setting, `key=value`; may be repeated (in one word, and in the environment: `;` between). Those that
    /// correctness needs cannot be overridden. For secrets use the environment.
    #[arg(long = "kafka", env = "PAYLOG_KAFKA", hide_env_values = true, value_parser = key_value, value_delimiter = ';', value_name = "KEY=VALUE")]
    pub settings: Vec<(String, String)>,
    #[command(flatten)]
    pub registry: RegistryArgs,
}

#[derive(Clone, Copy, Debug, Args)]
pub struct BoundsArgs {
    /// Payments on their way in one lane, until their outcome is folded.
    #[arg(long, env = "PAYLOG_LANE_IN_FLIGHT", default_value_t = 256, value_parser = positive)]
    pub lane_in_flight: usize,
    /// Calls under way at the gateway.
    #[arg(long, env = "PAYLOG_GATEWAY_IN_FLIGHT", default_value_t = 1024, value_parser = positive)]
    pub gateway_in_flight: usize,
    /// Calls under way for one merchant.
    #[arg(long, env = "PAYLOG_MERCHANT_IN_FLIGHT", default_value_t = 64, value_parser = positive)]
    pub merchant_in_flight: usize,
    /// HTTP connections; one more is closed at once.
    #[arg(long, env = "PAYLOG_CONNECTIONS_MAX", default_value_t = 10_000, value_parser = positive)]
    pub connections_max: usize,
    /// The same of one address (of IPv6: of one /64), other than this machine. Behind proxies, as many as --connections-max.
    #[arg(long, env = "PAYLOG_CONNECTIONS_EACH", default_value_t = 5_000, value_parser = positive)]
    pub connections_each: usize,
    /// Streams and sockets of one merchant, by keys and tokens: fewer than connections, where several share them.
    #[arg(long, env = "PAYLOG_STREAMS_EACH_MERCHANT", default_value_t = 10_000, value_parser = positive)]
    pub streams_each_merchant: usize,
    /// Of these of one payment, and of one customer, by stream tokens.
    #[arg(long, env = "PAYLOG_STREAMS_EACH_TOKEN", default_value_t = 100, value_parser = positive)]
    pub streams_each_token: usize,
}

#[derive(Debug, Args)]
pub struct ClientArgs {
    /// Where paylog listens.
    #[arg(long, env = "PAYLOG_URL", default_value = "http://127.0.0.1:8080")]
    pub url: String,
}

#[derive(Debug, Subcommand)]
pub enum ReplayCommand {
    #[command(flatten)]
    Archive(ArchiveCommand),
    Verify(Box<VerifyArgs>),
    /// Build a version of a projection from the log, beside the one that is served, and compare the two.
    Rebuild(Box<RebuildArgs>),
}

#[derive(Debug, Subcommand)]
pub enum ConfigCommand {
    /// Exits with 0 if a service would start with these settings, as far as that can be told without I/O.
    Check(ServiceArgs),
}

impl ServiceArgs {
    #[must_use]
    pub fn drain(&self) -> Duration {
        Duration::from_secs(self.drain_seconds)
    }

    #[must_use]
    pub fn guard_every(&self) -> Duration {
        Duration::from_secs(self.guard_seconds)
    }

    #[must_use]
    pub fn rebuild_effort(&self) -> Effort {
        Effort::percent(self.rebuild_effort).unwrap_or(Effort::FULL)
    }

    #[must_use]
    pub fn lane_bounds(&self) -> Bounds {
        Bounds { in_flight_max: self.bounds.lane_in_flight, drain: self.drain() / 2, ..Bounds::default() }
    }

    #[must_use]
    pub fn policy(&self) -> Policy {
        let BoundsArgs { gateway_in_flight, merchant_in_flight, .. } = self.bounds;
        let max = Duration::from_millis(self.retry_max_ms);
        Policy {
            bulkheads: Bulkheads { gateway_max: gateway_in_flight, merchant_max: merchant_in_flight },
            backoff: Backoff { min: Duration::from_millis(self.retry_min_ms).min(max), max },
            unknown_park_after: Duration::from_secs(self.unknown_park_after_seconds),
        }
    }
}

impl KafkaArgs {
    /// Kafka's bootstrap servers, if there are any: an empty variable is none.
    #[must_use]
    pub fn servers(&self) -> Option<&str> {
        self.bootstrap_servers.as_deref().map(str::trim).filter(|servers| !servers.is_empty())
    }

    /// `None` without bootstrap servers. `instance_id` names this process among its group's.
    #[must_use]
    pub fn config(&self, instance_id: &str) -> Option<KafkaConfig> {
        Some(KafkaConfig {
            bootstrap_servers: self.servers()?.to_owned(),
            topic_prefix: self.topic_prefix.clone(),
            group: self.group.clone(),
            instance_id: instance_id.to_owned(),
            partitions: self.partitions,
            allow_single_replica: self.allow_single_replica,
            overrides: self.settings.clone(),
        })
    }
}

/// Without the values of the settings: one of them may be a password.
impl std::fmt::Debug for KafkaArgs {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let keys: Vec<&str> = self.settings.iter().map(|(key, _)| key.as_str()).collect();
        f.debug_struct("KafkaArgs")
            .field("bootstrap_servers", &self.bootstrap_servers)
            .field("topic_prefix", &self.topic_prefix)
            .field("group", &self.group)
            .field("partitions", &self.partitions)
            .field("settings", &keys)
            .field("registry", &self.registry)
            .finish()
    }
}

pub(crate) fn key_value(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.trim().to_owned(), value.to_owned())),
        _ => Err("must be key=value".to_owned()),
    }
}

pub(crate) fn positive(text: &str) -> Result<usize, String> {
    text.parse().ok().filter(|n| *n > 0).ok_or_else(|| "must be a whole number from 1".to_owned())
}

#[cfg(test)]
mod tests {
    use clap::{CommandFactory, Parser};

    use super::{Cli, Command};

    #[test]
    fn the_command_line_is_well_formed_and_up_needs_nothing() {
        Cli::command().debug_assert();
        let cli = Cli::try_parse_from(["paylog", "up"]).unwrap();
        let Command::Up(args) = cli.command else { panic!("not up") };
        assert!(args.listen.ip().is_loopback());
    }

    #[test]
    fn bad_values_are_refused() {
        for wrong in [
            &["paylog", "up", "--partitions", "0"][..],
            &["paylog", "up", "--lane-in-flight", "0"],
            &["paylog", "up", "--kafka", "no-equals-sign"],
            &["paylog", "up", "--listen", "8080"],
            &["paylog", "tail", "--payment", "a", "--customer", "b"],
        ] {
            assert!(Cli::try_parse_from(wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn settings_keep_their_commas_and_show_no_value() {
        let cli = Cli::try_parse_from(["paylog", "up", "--kafka", "sasl.password=hunter2,1;client.id=x"]).unwrap();
        let shown = format!("{cli:?}");
        assert!(shown.contains("sasl.password") && !shown.contains("hunter2"), "{shown}");
        let Command::Up(args) = cli.command else { panic!("not up") };
        assert_eq!(args.kafka.settings[0].1, "hunter2,1");
    }
}
