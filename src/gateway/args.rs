//! Which gateway a service charges at, from its flags and its environment. The secret key comes by the environment alone.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, ensure};
use clap::{Args, ValueEnum};
use reqwest::Url;

use crate::gateway::simulator::Simulator;
use crate::gateway::stripe::{self, SecretKey, Stripe};
use crate::gateway::{Gateway, Terms};

const SECRET_KEY: &str = "PAYLOG_STRIPE_SECRET_KEY";
/// For a server on this machine, which cannot be Stripe.
const LOCAL_KEY: &str = "sk_test_paylog";
const STRIPE_HOST: &str = "api.stripe.com";
/// Stripe takes 100 a second of a live account.
const STRIPE_CALLS_PER_SECOND: u32 = 80;

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Kind {
    /// In this process; no money moves.
    Simulator,
    /// Stripe, or a server that speaks its API.
    Stripe,
}

#[derive(Clone, Debug, Args)]
pub struct GatewayArgs {
    /// Who charges new payments. One that was begun with another gateway is held until that one is configured again. Stripe's
    /// secret key comes by the environment: PAYLOG_STRIPE_SECRET_KEY.
    #[arg(long = "gateway", env = "PAYLOG_GATEWAY", value_enum, default_value = "simulator")]
    pub kind: Kind,
    /// Where the gateway is; for stripe.
    #[arg(long = "gateway-url", env = "PAYLOG_GATEWAY_URL", default_value = "https://api.stripe.com")]
    pub url: String,
    /// For how long the gateway recognises a repeated key, in seconds: past it nothing is sent that might charge twice.
    #[arg(long = "gateway-key-window-seconds", env = "PAYLOG_GATEWAY_KEY_WINDOW_SECONDS", default_value_t = 24 * 60 * 60, value_parser = clap::value_parser!(u64).range(1..))]
    pub key_window_seconds: u64,
    /// How long after a request the gateway's "not found" is final, in seconds: its lists lag behind.
    #[arg(
        long = "gateway-not-found-final-seconds",
        env = "PAYLOG_GATEWAY_NOT_FOUND_FINAL_SECONDS",
        default_value_t = 60
    )]
    pub not_found_final_seconds: u64,
    /// How long one answer of the gateway may take, in milliseconds: one that takes longer is lost, and has to be asked for.
    /// The processor's own patience is 30 s.
    #[arg(long = "gateway-deadline-ms", env = "PAYLOG_GATEWAY_DEADLINE_MS", default_value_t = 20_000, value_parser = clap::value_parser!(u64).range(10..=20_000))]
    pub deadline_ms: u64,
    /// Calls a second of this process, at most. [default: 80 for Stripe itself, else no limit]
    #[arg(long = "gateway-calls-per-second", env = "PAYLOG_GATEWAY_CALLS_PER_SECOND", value_parser = clap::value_parser!(u32).range(1..))]
    pub calls_per_second: Option<u32>,
}

impl GatewayArgs {
    /// As it is recorded with each new payment.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self.kind {
            Kind::Simulator => "simulator",
            Kind::Stripe => stripe::NAME,
        }
    }

    /// `simulator_latency` is how long the one in this process takes. Nothing is asked of anybody yet.
    pub fn open(&self, simulator_latency: Duration) -> anyhow::Result<Arc<dyn Gateway>> {
        Ok(match self.kind {
            Kind::Simulator => Arc::new(Simulator { latency: simulator_latency }),
            Kind::Stripe => Arc::new(self.stripe(std::env::var(SECRET_KEY).ok())?),
        })
    }

    fn stripe(&self, key: Option<String>) -> anyhow::Result<Stripe> {
        let url = Url::parse(&self.url).context("--gateway-url is no URL")?;
        ensure!(
            matches!(url.scheme(), "http" | "https") && url.has_host(),
            "--gateway-url must begin with http:// or https://"
        );
        let plain = url.username().is_empty() && url.password().is_none() && url.query().is_none();
        ensure!(
            plain && url.fragment().is_none(),
            "--gateway-url must be an address alone: no user, query or fragment"
        );
        let key = match key.filter(|key| !key.trim().is_empty()) {
            Some(key) => SecretKey::parse(&key).context(SECRET_KEY)?,
            None if is_local(&url) => SecretKey::parse(LOCAL_KEY)?,
            None => anyhow::bail!("--gateway stripe needs Stripe's secret key in the environment: set {SECRET_KEY}"),
        };
        let open = url.scheme() == "http" && !is_local(&url);
        ensure!(
            !(open && key.is_live()),
            "a live secret key is not sent in the clear: give --gateway-url with https://"
        );
        Stripe::new(&url, &key, Duration::from_millis(self.deadline_ms), self.terms(&url))
    }

    fn terms(&self, url: &Url) -> Terms {
        let of_stripe = (url.host_str() == Some(STRIPE_HOST)).then_some(STRIPE_CALLS_PER_SECOND);
        Terms {
            key_window: Duration::from_secs(self.key_window_seconds),
            not_found_final_after: Some(Duration::from_secs(self.not_found_final_seconds)),
            calls_per_second_max: self.calls_per_second.or(of_stripe),
        }
    }
}

fn is_local(url: &Url) -> bool {
    let host = url.host_str().unwrap_or_default();
    let address = host.trim_start_matches('[').trim_end_matches(']').parse::<std::net::IpAddr>();
    host == "localhost" || address.is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::GatewayArgs;
    use crate::gateway::Gateway;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        gateway: GatewayArgs,
    }

    fn args(words: &[&str]) -> GatewayArgs {
        Line::try_parse_from(["paylog"].iter().chain(words)).unwrap().gateway
    }

    fn refusal(words: &[&str], key: Option<&str>) -> String {
        match args(words).stripe(key.map(str::to_owned)) {
            Ok(_) => panic!("{words:?} was accepted"),
            Err(error) => format!("{error:#}"),
        }
    }

    #[test]
    fn the_gateway_is_the_simulator_unless_another_is_asked_for() {
        assert_eq!(args(&[]).name(), "simulator");
        assert_eq!(args(&["--gateway", "stripe"]).name(), "stripe");
        let stripe = args(&["--gateway", "stripe"]).stripe(Some("sk_test_1".to_owned())).unwrap();
        assert_eq!(stripe.terms().calls_per_second_max, Some(80));
    }

    #[test]
    fn a_key_is_needed_for_all_but_this_machine_and_is_shown_nowhere() {
        assert!(refusal(&[], None).contains("PAYLOG_STRIPE_SECRET_KEY"));
        assert!(refusal(&[], Some(" ")).contains("PAYLOG_STRIPE_SECRET_KEY"));
        for local in ["http://127.0.0.1:4010", "http://localhost:4010/", "http://[::1]:4010"] {
            assert!(args(&["--gateway-url", local]).stripe(None).is_ok(), "{local}");
        }
        let text = refusal(&[], Some("sk_live_se\u{7f}cret"));
        assert!(!text.contains("sk_live"), "{text}");
        let key = super::SecretKey::parse("sk_live_secret").unwrap();
        assert!(!format!("{key:?}").contains("secret"), "{key:?}");
    }

    #[test]
    fn an_address_that_would_give_the_key_away_or_cannot_be_is_refused() {
        let url = |url: &'static str| refusal(&["--gateway-url", url], Some("sk_live_1"));
        assert!(url("http://api.stripe.com").contains("https://"));
        assert!(url("ftp://api.stripe.com").contains("http://"));
        assert!(url("api.stripe.com").contains("is no URL"));
        assert!(url("https://me:secret@api.stripe.com").contains("no user"));
    }
}
