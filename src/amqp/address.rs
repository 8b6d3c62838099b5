//! Where a queue is: `amqps://host/queue`.

use std::fmt;

use reqwest::Url;

/// The longest name of a queue, of Azure Service Bus too.
const NODE_MAX: usize = 260;
const PORT: u16 = 5672;
const PORT_TLS: u16 = 5671;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Address {
    host: String,
    port: u16,
    node: String,
    tls: bool,
}

impl Address {
    /// Of a whole URL, with the queue in it. The text of an error repeats nothing of it: there may be a password in it.
    pub fn parse(text: &str) -> Result<Self, String> {
        let refuse = |why: &str| Err(why.to_owned());
        let Ok(url) = Url::parse(text) else { return refuse("it is no URL: it must be amqps://HOST/QUEUE") };
        let tls = match url.scheme() {
            "amqps" => true,
            "amqp" => false,
            _ => return refuse("it must begin with amqps://, or with amqp:// where there is no TLS"),
        };
        if !url.username().is_empty() || url.password().is_some() {
            return refuse("it must hold no user and no password: they are given apart from it");
        }
        if url.query().is_some() || url.fragment().is_some() {
            return refuse("it must end with the name of the queue");
        }
        let host = url.host_str().unwrap_or_default();
        let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
        if host.is_empty() {
            return refuse("it must name a host");
        }
        let port = url.port().unwrap_or(if tls { PORT_TLS } else { PORT });
        Self::new(host, port, url.path().trim_start_matches('/'), tls)
    }

    /// Of a queue in a namespace of Azure Service Bus, or on a broker that answers where one would.
    pub fn of_namespace(host: &str, node: &str) -> Result<Self, String> {
        Self::new(host, PORT_TLS, node, true)
    }

    fn new(host: &str, port: u16, node: &str, tls: bool) -> Result<Self, String> {
        let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-' | b'/' | b':' | b'$');
        if !(1..=NODE_MAX).contains(&node.len()) || !node.bytes().all(plain) {
            return Err(format!(
                "it must name a queue: 1 to {NODE_MAX} letters, digits and . _ - / : $ after the host"
            ));
        }
        Ok(Self { host: host.to_ascii_lowercase(), port, node: node.to_owned(), tls })
    }

    #[must_use]
    pub fn host(&self) -> &str {
        &self.host
    }

    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The queue, or whatever else has a name there.
    #[must_use]
    pub fn node(&self) -> &str {
        &self.node
    }

    #[must_use]
    pub fn is_tls(&self) -> bool {
        self.tls
    }

    /// Is the host this machine, by its literal address or its usual name?
    #[must_use]
    pub fn is_this_machine(&self) -> bool {
        self.host == "localhost" || self.host.parse().is_ok_and(|ip: std::net::IpAddr| ip.is_loopback())
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.tls { "amqps" } else { "amqp" };
        let (open, close) = if self.host.contains(':') { ("[", "]") } else { ("", "") };
        write!(f, "{scheme}://{open}{}{close}:{}/{}", self.host, self.port, self.node)
    }
}

#[cfg(test)]
mod tests {
    use super::Address;

    #[test]
    fn an_address_names_a_host_and_a_queue() {
        let shown = |text: &str| Address::parse(text).unwrap().to_string();
        assert_eq!(shown("amqps://NS.servicebus.windows.net/orders"), "amqps://ns.servicebus.windows.net:5671/orders");
        assert_eq!(shown("amqp://127.0.0.1:1234/a/b"), "amqp://127.0.0.1:1234/a/b");
        assert_eq!(shown("amqp://[::1]/DLQ::DLQ.q"), "amqp://[::1]:5672/DLQ::DLQ.q");
        assert!(Address::parse("amqp://[::1]/q").unwrap().is_this_machine());
        assert!(!Address::parse("amqp://10.0.0.1/q").unwrap().is_this_machine());
    }

    #[test]
    fn what_is_no_address_is_refused_and_not_repeated() {
        for wrong in [
            "",
            "orders",
            "https://ns.servicebus.windows.net/orders",
            "amqps://",
            "amqps:///orders",
            "amqps://ns.servicebus.windows.net",
            "amqps://ns.servicebus.windows.net/",
            "amqps://secret:secret@ns.servicebus.windows.net/orders",
            "amqps://ns.servicebus.windows.net/orders?secret=1",
            "amqps://ns.servicebus.windows.net/orders#secret",
            "amqps://ns.servicebus.windows.net/or ders",
            "amqps://ns.servicebus.windows.net/or%20ders",
            &format!("amqps://ns.servicebus.windows.net/{}", "q".repeat(261)),
        ] {
            let why = Address::parse(wrong).expect_err(wrong);
            assert!(!why.contains("secret"), "{why}");
        }
    }
}
