//! The flags of Web Push.

use std::time::Duration;

use clap::Args;

use super::Subject;

/// The longest that push services are asked to keep a message: what most of them allow.
const TTL_MAX_S: u64 = 28 * 24 * 60 * 60;

#[derive(Clone, Debug, Args)]
pub struct PushArgs {
    /// Whom a push service may turn to, `mailto:` or `https:`: it is told with every message (RFC 8292). `serve` and `notify`
    /// do Web Push only if it is given; `up` has one that names nobody, which some push services refuse.
    #[arg(long, env = "PAYLOG_VAPID_SUBJECT", value_name = "URI")]
    pub vapid_subject: Option<Subject>,
    /// How long a browser may be told of an event after it happened, in seconds: push services keep a message for as long, and
    /// what could not be handed to one is tried again for as long.
    #[arg(long, env = "PAYLOG_PUSH_TTL_SECONDS", default_value_t = 24 * 60 * 60, value_parser = clap::value_parser!(u64).range(1..=TTL_MAX_S))]
    pub push_ttl_seconds: u64,
}

impl PushArgs {
    /// That of the flags; where there is none, and nothing but one's own machine to try things out on, one that names nobody.
    #[must_use]
    pub fn subject(&self, on_ones_own: bool) -> Option<Subject> {
        self.vapid_subject.clone().or_else(|| on_ones_own.then(Subject::nobody))
    }

    #[must_use]
    pub fn ttl(&self) -> Duration {
        Duration::from_secs(self.push_ttl_seconds)
    }
}
