//! The flags of a topic of another Kafka cluster, or of a hub of Azure Event Hubs, that requests are taken from too. Its
//! connection string comes by the environment only.

use std::fmt;

use anyhow::{Context, anyhow, bail, ensure};
use clap::Args;

use crate::amqp::ConnectionString;
use crate::config::key_value;
use crate::journal::kafka::hub::Hub;

const FROM: &str = "PAYLOG_REQUESTS_FROM";
const CONNECTION_STRING: &str = "PAYLOG_REQUESTS_CONNECTION_STRING";

#[derive(Clone, Args)]
pub struct HubArgs {
    /// Take requests from a topic of another Kafka too, `HOST:PORT/TOPIC`: of Azure Event Hubs,
    /// `NAMESPACE.servicebus.windows.net:9093/HUB`, to which PAYLOG_REQUESTS_CONNECTION_STRING opens, and which may name the hub
    /// itself (EntityPath).
    #[arg(long, env = FROM, value_name = "PLACE")]
    pub requests_from: Option<String>,
    /// The consumer group there; without it, --group with `-hub` behind it.
    #[arg(long, env = "PAYLOG_REQUESTS_GROUP", value_name = "GROUP")]
    pub requests_group: Option<String>,
    /// Settings of librdkafka for that cluster, `key=value`, as --kafka has them for ours.
    #[arg(long, env = "PAYLOG_REQUESTS_KAFKA", hide_env_values = true, value_parser = key_value, value_delimiter = ';', value_name = "KEY=VALUE")]
    pub requests_kafka: Vec<(String, String)>,
}

impl HubArgs {
    /// `None` if none is named. What can be judged without asking anybody is judged.
    pub fn hub(&self) -> anyhow::Result<Option<Hub>> {
        self.hub_by(std::env::var(CONNECTION_STRING).ok().as_deref())
    }

    /// The group there, of processors whose own is `group`.
    #[must_use]
    pub fn group(&self, group: &str) -> String {
        let said = self.requests_group.as_deref().map(str::trim).filter(|group| !group.is_empty());
        said.map_or_else(|| format!("{group}-hub"), str::to_owned)
    }

    fn hub_by(&self, secret: Option<&str>) -> anyhow::Result<Option<Hub>> {
        let place = self.requests_from.as_deref().map(str::trim).filter(|place| !place.is_empty());
        let named = place.map(Hub::parse).transpose().map_err(|why| anyhow!("--requests-from ({FROM}): {why}"))?;
        let Some(secret) = secret.map(str::trim).filter(|secret| !secret.is_empty()) else {
            let hub = named.map(|hub| hub.with(self.requests_kafka.clone()));
            return checked(hub);
        };
        let read = ConnectionString::parse(secret).map_err(|why| anyhow!("{CONNECTION_STRING}: {why}"))?;
        let Some(host) = read.host else {
            bail!("{CONNECTION_STRING}: it needs its Endpoint, for the whole of it is what opens the hub")
        };
        let hub = match (named, read.node) {
            (Some(hub), node) => {
                let same_host = hub.hosts().all(|other| other.eq_ignore_ascii_case(&host));
                ensure!(
                    same_host && node.is_none_or(|node| node == hub.topic()),
                    "{CONNECTION_STRING} is of another namespace or hub than --requests-from ({FROM})"
                );
                hub
            }
            (None, Some(node)) => {
                Hub::of_namespace(&host, &node).map_err(|why| anyhow!(why)).context(CONNECTION_STRING)?
            }
            (None, None) => {
                bail!("{CONNECTION_STRING} names no hub: add EntityPath to it, or give --requests-from ({FROM})")
            }
        };
        checked(Some(hub.logged_in(secret).with(self.requests_kafka.clone())))
    }
}

fn checked(hub: Option<Hub>) -> anyhow::Result<Option<Hub>> {
    if let Some(hub) = &hub {
        hub.validate().context("--requests-kafka (PAYLOG_REQUESTS_KAFKA)")?;
    }
    Ok(hub)
}

/// Without the values of the settings: one of them may be a password.
impl fmt::Debug for HubArgs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let keys: Vec<&str> = self.requests_kafka.iter().map(|(key, _)| key.as_str()).collect();
        f.debug_struct("HubArgs")
            .field("requests_from", &self.requests_from)
            .field("requests_group", &self.requests_group)
            .field("requests_kafka", &keys)
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::HubArgs;

    const WHOLE: &str = "Endpoint=sb://shop.servicebus.windows.net/;SharedAccessKeyName=paylog;SharedAccessKey=s3cret;EntityPath=orders";

    fn hub(from: Option<&str>, secret: Option<&str>, setting: Option<(&str, &str)>) -> Result<String, String> {
        let requests_kafka = setting.into_iter().map(|(key, value)| (key.to_owned(), value.to_owned())).collect();
        let args = HubArgs { requests_from: from.map(str::to_owned), requests_group: None, requests_kafka };
        match args.hub_by(secret) {
            Ok(found) => Ok(found.map_or_else(|| "none".to_owned(), |hub| hub.to_string())),
            Err(error) => Err(format!("{error:#}")),
        }
    }

    #[test]
    fn a_hub_is_named_by_its_place_or_its_connection_string() {
        let orders = Ok("shop.servicebus.windows.net:9093/orders".to_owned());
        let short = WHOLE.replace(";EntityPath=orders", "");
        assert_eq!(hub(None, None, None), Ok("none".to_owned()));
        assert_eq!(hub(Some(""), Some(" "), None), Ok("none".to_owned()));
        assert_eq!(hub(None, Some(WHOLE), None), orders);
        assert_eq!(hub(Some("shop.servicebus.windows.net:9093/orders"), Some(&short), None), orders);
        assert_eq!(hub(Some("a:9092,b:9092/t"), None, Some(("client.id", "x"))), Ok("a:9092,b:9092/t".to_owned()));
    }

    #[test]
    fn what_is_missing_or_contradicts_is_said_without_the_key() {
        let short = WHOLE.replace(";EntityPath=orders", "");
        let nowhere = WHOLE.replace("Endpoint=sb://shop.servicebus.windows.net/;", "");
        for (from, secret, setting, says) in [
            (Some("orders"), None, None, "HOST:PORT/TOPIC"),
            (Some("shop.servicebus.windows.net:9093/others"), Some(WHOLE), None, "another namespace or hub"),
            (Some("elsewhere.example.org:9093/orders"), Some(WHOLE), None, "another namespace or hub"),
            (None, Some(short.as_str()), None, "EntityPath"),
            (None, Some(nowhere.as_str()), None, "Endpoint"),
            (None, Some("s3cret"), None, "no connection string"),
            (Some("a:1/t"), None, Some(("enable.auto.commit", "true")), "enable.auto.commit"),
            (Some("a:1/t"), None, Some(("sasl.password.of", "s3cret")), "no such setting"),
        ] {
            let why = hub(from, secret, setting).expect_err(says);
            assert!(why.contains(says) && !why.contains("s3cret"), "{why}");
        }
    }

    #[test]
    fn settings_show_no_value() {
        let requests_kafka = vec![("sasl.password".to_owned(), "s3cret".to_owned())];
        let args = HubArgs { requests_from: None, requests_group: Some(" ".to_owned()), requests_kafka };
        let shown = format!("{args:?}");
        assert!(shown.contains("sasl.password") && !shown.contains("s3cret"), "{shown}");
        assert_eq!(args.group("paylog-processor"), "paylog-processor-hub");
    }
}
