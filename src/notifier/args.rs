//! The flags of webhooks and of Web Push, of those who send and of those who take endpoints and browsers in.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

use super::schedule::Schedule;
use crate::config::positive;
use crate::control::hubs::{AZURE, HubHosts};
use crate::schema::EventSource;
use crate::webpush::PushArgs;

#[derive(Clone, Debug, Args)]
pub struct WebhookArgs {
    /// Where the key is that webhook secrets are kept with: 32 bytes in base64, as `openssl rand -base64 32` makes them. In its
    /// place PAYLOG_SECRETS_KEY may hold the key itself. Without either, `up` on the embedded journal makes a key file in its
    /// data directory.
    #[arg(long, env = "PAYLOG_SECRETS_KEY_FILE", value_name = "FILE")]
    pub secrets_key_file: Option<PathBuf>,
    /// For development: let webhooks go to http:// and to addresses of private networks, this machine's too. Whoever can create
    /// an endpoint can then reach them through paylog.
    #[arg(long, env = "PAYLOG_ALLOW_PRIVATE_WEBHOOKS", value_parser = clap::builder::BoolishValueParser::new())]
    pub allow_private_webhooks: bool,
    /// Webhooks on their way at once, over all endpoints. Beside them half as many messages to browsers may be on their way, of
    /// one push service half of what the others leave, and a quarter of all to those that have not answered well.
    #[arg(long, env = "PAYLOG_WEBHOOKS_IN_FLIGHT", default_value_t = 256, value_parser = positive)]
    pub webhooks_in_flight: usize,
    /// And of one endpoint.
    #[arg(long, env = "PAYLOG_WEBHOOKS_IN_FLIGHT_EACH", default_value_t = 16, value_parser = positive)]
    pub webhooks_in_flight_each: usize,
    /// How long an endpoint may take for its answer, in milliseconds.
    #[arg(long, env = "PAYLOG_WEBHOOK_TIMEOUT_MS", default_value_t = 15_000, value_parser = clap::value_parser!(u64).range(10..=60_000))]
    pub webhook_timeout_ms: u64,
    /// The pauses after each attempt that has failed, in milliseconds; each grows by up to a fifth, by chance. After the last one
    /// a delivery is given up.
    #[arg(long, env = "PAYLOG_WEBHOOK_RETRY_MS", value_delimiter = ',', default_values_t = Schedule::DEFAULT_MS, value_parser = clap::value_parser!(u64).range(1..=2_592_000_000))]
    pub webhook_retry_ms: Vec<u64>,
    /// After so much time of nothing but failure an endpoint is disabled, in seconds.
    #[arg(long, env = "PAYLOG_WEBHOOK_DISABLE_AFTER_SECONDS", default_value_t = 5 * 24 * 60 * 60, value_parser = clap::value_parser!(u64).range(1..))]
    pub webhook_disable_after_seconds: u64,
    /// Where events are said to come from, to those who know CloudEvents: a URI, the same at every process. Without it, `/paylog/`
    /// and the id of the log.
    #[arg(long, env = "PAYLOG_CLOUDEVENTS_SOURCE", value_name = "URI")]
    pub cloudevents_source: Option<EventSource>,
    /// The hosts that a hub of Event Hubs may be told at: names, or with a dot in front what they end in; `,` between.
    #[arg(long, env = "PAYLOG_EVENT_HUBS_HOSTS", value_delimiter = ',', value_name = "HOST", default_value = AZURE)]
    pub event_hubs_hosts: Vec<String>,
    /// The CA whose certificates are believed there, as PEM, in place of the system's.
    #[arg(long, env = "PAYLOG_EVENT_HUBS_CA", value_name = "FILE")]
    pub event_hubs_ca: Option<PathBuf>,
    #[command(flatten)]
    pub push: PushArgs,
}

impl WebhookArgs {
    #[must_use]
    pub fn hub_hosts(&self) -> HubHosts {
        HubHosts::new(&self.event_hubs_hosts)
    }

    #[must_use]
    pub fn schedule(&self) -> Schedule {
        Schedule {
            pauses: self.webhook_retry_ms.iter().copied().map(Duration::from_millis).collect(),
            disable_after: Duration::from_secs(self.webhook_disable_after_seconds),
        }
    }

    #[must_use]
    pub fn timeout(&self) -> Duration {
        Duration::from_millis(self.webhook_timeout_ms)
    }
}
