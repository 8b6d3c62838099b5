//! The flags of a queue whose messages start payments. Its key comes by the environment only.

use anyhow::{Context, anyhow, bail, ensure};
use clap::Args;

use crate::amqp::{Address, ConnectionString, Credential};

const URL: &str = "PAYLOG_SERVICE_BUS";
const KEY_NAME: &str = "PAYLOG_SERVICE_BUS_KEY_NAME";
const KEY: &str = "PAYLOG_SERVICE_BUS_KEY";
const CONNECTION_STRING: &str = "PAYLOG_SERVICE_BUS_CONNECTION_STRING";

#[derive(Clone, Debug, Args)]
pub struct ServiceBusArgs {
    /// A queue of Azure Service Bus, or of another AMQP 1.0 broker, whose messages start payments: `amqps://HOST/QUEUE`. The
    /// name and the key of a shared access policy come by the environment: PAYLOG_SERVICE_BUS_KEY_NAME and
    /// PAYLOG_SERVICE_BUS_KEY, or PAYLOG_SERVICE_BUS_CONNECTION_STRING, which may name the queue too (EntityPath).
    #[arg(long = "service-bus", env = URL, value_name = "URL")]
    pub service_bus: Option<String>,
}

/// Where to take messages, and as whom.
#[derive(Clone, Debug)]
pub struct Queue {
    pub address: Address,
    pub credential: Credential,
}

/// What the environment says.
#[derive(Default)]
struct Secrets {
    key_name: Option<String>,
    key: Option<String>,
    connection_string: Option<String>,
}

impl ServiceBusArgs {
    /// `None` if no queue is named.
    pub fn queue(&self) -> anyhow::Result<Option<Queue>> {
        let said = |name| std::env::var(name).ok().filter(|text: &String| !text.trim().is_empty());
        let secrets = Secrets { key_name: said(KEY_NAME), key: said(KEY), connection_string: said(CONNECTION_STRING) };
        self.queue_by(secrets)
    }

    fn queue_by(&self, secrets: Secrets) -> anyhow::Result<Option<Queue>> {
        let url = self.service_bus.as_deref().map(str::trim).filter(|url| !url.is_empty());
        let named = url.map(Address::parse).transpose().map_err(|why| anyhow!("--service-bus ({URL}): {why}"))?;
        match (named, secrets) {
            (_, Secrets { connection_string: Some(_), key_name, key }) if key_name.is_some() || key.is_some() => {
                bail!("give {CONNECTION_STRING}, or {KEY_NAME} and {KEY}, but not both")
            }
            (named, Secrets { connection_string: Some(text), .. }) => {
                let read = ConnectionString::parse(&text).map_err(|why| anyhow!("{CONNECTION_STRING}: {why}"))?;
                Ok(Some(of_connection_string(named, read)?))
            }
            (Some(address), Secrets { key_name: Some(name), key: Some(key), .. }) => {
                let credential = Credential::new(name.trim(), key.trim()).map_err(|why| anyhow!("{KEY}: {why}"))?;
                Ok(Some(Queue { address, credential }))
            }
            (Some(_), _) => bail!(
                "--service-bus needs the name and the key of a shared access policy: set {KEY_NAME} and {KEY}, or \
                 {CONNECTION_STRING}"
            ),
            (None, Secrets { key_name: None, key: None, .. }) => Ok(None),
            (None, _) => bail!("{KEY_NAME} or {KEY} is set, and no queue is named: give --service-bus ({URL})"),
        }
    }
}

fn of_connection_string(named: Option<Address>, read: ConnectionString) -> anyhow::Result<Queue> {
    let address = match named {
        Some(address) => {
            ensure!(
                read.is_of(&address),
                "{CONNECTION_STRING} is of another namespace or queue than --service-bus ({URL})"
            );
            address
        }
        None => {
            let (Some(host), Some(node)) = (&read.host, &read.node) else {
                bail!("{CONNECTION_STRING} names no queue: add EntityPath to it, or give --service-bus ({URL})")
            };
            Address::of_namespace(host, node).map_err(|why| anyhow!(why)).context(CONNECTION_STRING)?
        }
    };
    Ok(Queue { address, credential: read.credential })
}

#[cfg(test)]
mod tests {
    use super::{Secrets, ServiceBusArgs};

    const ORDERS: &str = "amqps://shop.servicebus.windows.net/orders";
    const WHOLE: &str = "Endpoint=sb://shop.servicebus.windows.net/;SharedAccessKeyName=paylog;SharedAccessKey=s3cret;EntityPath=orders";
    const SHORT: &str = "SharedAccessKeyName=paylog;SharedAccessKey=s3cret";

    fn queue(url: Option<&str>, name: Option<&str>, key: Option<&str>, whole: Option<&str>) -> Result<String, String> {
        let text = |said: Option<&str>| said.map(str::to_owned);
        let args = ServiceBusArgs { service_bus: text(url) };
        let secrets = Secrets { key_name: text(name), key: text(key), connection_string: text(whole) };
        match args.queue_by(secrets) {
            Ok(found) => Ok(found.map_or_else(|| "none".to_owned(), |queue| queue.address.to_string())),
            Err(error) => Err(format!("{error:#}")),
        }
    }

    #[test]
    fn a_queue_is_named_by_its_url_or_its_connection_string() {
        let orders = Ok("amqps://shop.servicebus.windows.net:5671/orders".to_owned());
        assert_eq!(queue(None, None, None, None), Ok("none".to_owned()));
        assert_eq!(queue(Some(" "), None, None, None), Ok("none".to_owned()));
        assert_eq!(queue(Some(ORDERS), Some("paylog"), Some("s3cret"), None), orders);
        assert_eq!(queue(Some(ORDERS), None, None, Some(WHOLE)), orders);
        assert_eq!(queue(Some(ORDERS), None, None, Some(SHORT)), orders);
        assert_eq!(queue(None, None, None, Some(WHOLE)), orders);
    }

    #[test]
    fn what_is_missing_or_contradicts_is_said_without_the_key() {
        let other = WHOLE.replace("orders", "others");
        for (url, name, key, whole, says) in [
            (Some(ORDERS), None, None, None, "PAYLOG_SERVICE_BUS_KEY"),
            (Some(ORDERS), Some("paylog"), None, None, "PAYLOG_SERVICE_BUS_KEY"),
            (None, None, Some("s3cret"), None, "no queue is named"),
            (Some(ORDERS), Some("paylog"), Some("s3cret"), Some(WHOLE), "not both"),
            (None, None, None, Some(SHORT), "EntityPath"),
            (Some(ORDERS), None, None, Some(other.as_str()), "another namespace or queue"),
            (Some("https://s3cret@host/q"), Some("paylog"), Some("s3cret"), None, "amqps://"),
            (Some(ORDERS), None, None, Some("s3cret"), "connection string"),
        ] {
            let why = queue(url, name, key, whole).expect_err(says);
            assert!(why.contains(says) && !why.contains("s3cret"), "{why}");
        }
    }
}
