//! Which hubs may be told. Whoever speaks Kafka's protocol for us connects by itself, to whatever its host's name leads to, and
//! cannot be stopped at a closed address: so only hosts of these names are told, Azure's unless somebody says otherwise.

use crate::amqp::ConnectionString;
use crate::journal::kafka::hub::Hub;
use crate::payment::Invalid;

/// Where every namespace of Event Hubs is.
pub const AZURE: &str = ".servicebus.windows.net";
const SCHEME: &str = "kafka://";

/// Names that a host is, or ends in if it begins with a dot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HubHosts(Vec<String>);

impl HubHosts {
    #[must_use]
    pub fn new(names: &[String]) -> Self {
        Self(names.iter().map(|name| name.trim().to_ascii_lowercase()).filter(|name| !name.is_empty()).collect())
    }

    /// The hub of an endpoint: `kafka://HOST:PORT/HUB`.
    pub fn hub(&self, url: &str) -> Result<Hub, Invalid> {
        let hub = hub(url)?;
        let is_open = |host: &str| {
            let host = host.to_ascii_lowercase();
            self.0.iter().any(|name| host == *name || (name.starts_with('.') && host.ends_with(name.as_str())))
        };
        if hub.hosts().all(is_open) {
            return Ok(hub);
        }
        let named: Vec<&str> = self.0.iter().map(String::as_str).collect();
        Err(invalid(format!(
            "url: a hub is told at a host of {} (--event-hubs-hosts), and at no other",
            named.join(", ")
        )))
    }
}

/// As far as it can be judged without knowing whom we may tell.
pub fn hub(url: &str) -> Result<Hub, Invalid> {
    let place = url.strip_prefix(SCHEME);
    let place = place.ok_or_else(|| invalid("url must be kafka://HOST:PORT/HUB".to_owned()))?;
    let hub = Hub::parse(place).map_err(|why| invalid(format!("url: {why}")))?;
    if hub.hosts().count() > 1 {
        return Err(invalid("url names one host".to_owned()));
    }
    Ok(hub)
}

/// Is this what opens that hub? Repeats nothing of it.
pub fn check_credential(hub: &Hub, credential: &str) -> Result<(), String> {
    let ConnectionString { host, node, .. } = ConnectionString::parse(credential)?;
    let Some(host) = host else {
        return Err("it needs its Endpoint, for the whole of it is what opens the hub".to_owned());
    };
    let same_host = hub.hosts().all(|other| other.eq_ignore_ascii_case(&host));
    if same_host && node.is_none_or(|node| node == hub.topic()) {
        Ok(())
    } else {
        Err("it is of another namespace or hub than url".to_owned())
    }
}

fn invalid(detail: String) -> Invalid {
    Invalid { code: "invalid_url", field: Some("url"), detail, malformed: false }
}

#[cfg(test)]
mod tests {
    use super::{AZURE, HubHosts, check_credential, hub};

    #[test]
    fn a_hub_is_told_at_the_hosts_that_were_named_and_nowhere_else() {
        let azure = HubHosts::new(&[AZURE.to_owned()]);
        let hub = azure.hub("kafka://Shop.servicebus.windows.net:9093/told").unwrap();
        assert_eq!(hub.topic(), "told");
        for wrong in [
            "kafka://127.0.0.1:9093/told",
            "kafka://localhost:9093/told",
            "kafka://servicebus.windows.net.example.org:9093/told",
            "kafka://xservicebus.windows.net:9093/told",
            "kafka://a.servicebus.windows.net:9093,10.0.0.1:9093/told",
            "https://shop.servicebus.windows.net/told",
            "kafka://shop.servicebus.windows.net/told",
            "kafka://user:key@shop.servicebus.windows.net:9093/told",
        ] {
            assert!(azure.hub(wrong).is_err(), "{wrong}");
        }
        assert!(HubHosts::new(&["127.0.0.1".to_owned()]).hub("kafka://127.0.0.1:9093/told").is_ok());
        assert!(HubHosts::new(&[" ".to_owned()]).hub("kafka://127.0.0.1:9093/told").is_err());
    }

    #[test]
    fn a_credential_opens_the_hub_that_it_names() {
        let hub = hub("kafka://shop.servicebus.windows.net:9093/told").unwrap();
        let of = |endpoint: &str, entity: &str| {
            format!("{endpoint}SharedAccessKeyName=paylog;SharedAccessKey=s3cret{entity}")
        };
        let here = "Endpoint=sb://shop.servicebus.windows.net/;";
        for good in [of(here, ""), of(here, ";EntityPath=told")] {
            check_credential(&hub, &good).unwrap();
        }
        for bad in [of("", ""), of(here, ";EntityPath=other"), of("Endpoint=sb://elsewhere/;", ""), "s3cret".to_owned()]
        {
            let why = check_credential(&hub, &bad).expect_err("it opens something else");
            assert!(!why.contains("s3cret"), "{why}");
        }
    }
}
