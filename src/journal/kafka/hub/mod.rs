//! A topic of a cluster that is not ours: of Azure Event Hubs, a hub. It is never a log: what it keeps it keeps for days, and
//! nothing here asks for transactions, nor for what only an administrator may see. Requests are read from it
//! ([`requests`]), and events are written to it ([`Producer`]).

mod outbox;
mod producer;
mod requests;

use std::fmt;
use std::sync::Arc;

use super::pulse::Pulse;
use super::{KafkaConfig, settings};
use crate::journal::{Journal, JournalError, Requests};

pub use producer::{Producer, Unsent};

/// The port of Event Hubs for Kafka's protocol.
const PORT: u16 = 9093;
/// With a partition and an offset it names a request.
const PLACE_BYTES_MAX: usize = 255;

/// What Microsoft recommends to clients that are built on librdkafka ("Recommended configurations for Apache Kafka clients", Azure
/// Event Hubs), and what does no harm anywhere else: the user's settings come after these.
const RECOMMENDED: &[(&str, &str)] = &[
    // A connection of which nothing is heard for 240 s is closed by Azure, without a word.
    ("socket.keepalive.enable", "true"),
    ("connections.max.idle.ms", "180000"),
    ("metadata.max.age.ms", "180000"),
    ("topic.metadata.refresh.interval.ms", "180000"),
    // It answers after 20 s at the earliest when it is slow.
    ("socket.timeout.ms", "60000"),
];
const RECOMMENDED_TO_READERS: &[(&str, &str)] = &[("session.timeout.ms", "30000"), ("heartbeat.interval.ms", "3000")];

/// Where it is and how to log in there. May hold secrets.
#[derive(Clone)]
pub struct Hub {
    servers: String,
    topic: String,
    settings: Vec<(String, String)>,
    /// Of whoever reads it in this process.
    pulse: Arc<Pulse>,
}

/// Whoever reads it.
impl PartialEq for Hub {
    fn eq(&self, other: &Self) -> bool {
        (&self.servers, &self.topic, &self.settings) == (&other.servers, &other.topic, &other.settings)
    }
}

impl Eq for Hub {}

impl Hub {
    /// `HOST:PORT/TOPIC`, where several hosts may stand with commas between.
    pub fn parse(place: &str) -> Result<Self, String> {
        let Some((servers, topic)) = place.trim().rsplit_once('/') else {
            return Err("it must be HOST:PORT/TOPIC".to_owned());
        };
        let is_server = |server: &str| {
            let (host, port) = server.rsplit_once(':').unwrap_or_default();
            !host.is_empty() && !host.contains(['/', '@', ' ']) && port.parse::<u16>().is_ok_and(|port| port > 0)
        };
        if !servers.split(',').all(is_server) {
            return Err("it must be HOST:PORT/TOPIC, with commas between several hosts".to_owned());
        }
        let is_good = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
        if topic.is_empty() || !topic.chars().all(is_good) {
            return Err("a topic, or a hub, has a name of letters, digits, '.', '_' and '-'".to_owned());
        }
        if place.len() > PLACE_BYTES_MAX {
            return Err(format!("it has {PLACE_BYTES_MAX} characters at most"));
        }
        Ok(Self { servers: servers.to_owned(), topic: topic.to_owned(), settings: Vec::new(), pulse: Arc::default() })
    }

    /// A hub of an Event Hubs namespace.
    pub fn of_namespace(host: &str, hub: &str) -> Result<Self, String> {
        Self::parse(&format!("{host}:{PORT}/{hub}"))
    }

    /// Logs in with a connection string, as Event Hubs asks for it. Who else's settings it needs: [`Self::with`].
    #[must_use]
    pub fn logged_in(self, connection_string: &str) -> Self {
        let login = [
            ("security.protocol", "SASL_SSL"),
            ("sasl.mechanism", "PLAIN"),
            ("sasl.username", "$ConnectionString"),
            ("sasl.password", connection_string),
        ];
        self.with(login.map(|(key, value)| (key.to_owned(), value.to_owned())))
    }

    /// With these settings of librdkafka: later ones beat earlier ones.
    #[must_use]
    pub fn with(mut self, settings: impl IntoIterator<Item = (String, String)>) -> Self {
        self.settings.extend(settings);
        self
    }

    #[must_use]
    pub fn topic(&self) -> &str {
        &self.topic
    }

    /// The hosts, without their ports.
    pub fn hosts(&self) -> impl Iterator<Item = &str> {
        self.servers.split(',').filter_map(|server| Some(server.rsplit_once(':')?.0))
    }

    /// Does librdkafka take the settings, and are they the user's to choose? Connects to nobody.
    pub fn validate(&self) -> Result<(), JournalError> {
        settings::validate(&self.config("check", &[]))
    }

    /// Joins `group` there, to have what it reads appended to `log`. What is refused goes to the dead letters of `ours`, or
    /// where there is no Kafka of ours, into the log of this process. Blocks.
    pub fn requests(
        &self,
        group: &str,
        log: Arc<dyn Journal>,
        ours: Option<&KafkaConfig>,
    ) -> Result<Box<dyn Requests>, JournalError> {
        Ok(Box::new(requests::HubRequests::join(self, group, log, ours)?))
    }

    /// Is it still read by who has joined there by this hub, or a clone of it? As [`Journal::check_members`] has it.
    pub fn check_member(&self) -> Result<(), JournalError> {
        let interval = settings::poll_interval(&self.config("check", RECOMMENDED_TO_READERS));
        self.pulse.must_be_served("hub", interval)
    }

    /// Names it for ever, among all that requests come from: our own topic has no host.
    fn name(&self) -> String {
        format!("{}/{}", self.hosts().next().unwrap_or_default(), self.topic)
    }

    fn config(&self, group: &str, recommended: &[(&str, &str)]) -> KafkaConfig {
        let ours = RECOMMENDED.iter().chain(recommended).map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
        KafkaConfig {
            topic_prefix: self.topic.clone(),
            group: group.to_owned(),
            overrides: ours.chain(self.settings.iter().cloned()).collect(),
            ..KafkaConfig::new(self.servers.clone(), "hub")
        }
    }
}

impl fmt::Display for Hub {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.servers, self.topic)
    }
}

impl fmt::Debug for Hub {
    /// Without the values of its settings.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Hub({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::Hub;

    #[test]
    fn a_hub_is_named_by_its_hosts_and_its_topic() {
        let hub = Hub::of_namespace("shop.servicebus.windows.net", "orders").unwrap();
        assert_eq!(hub.to_string(), "shop.servicebus.windows.net:9093/orders");
        assert_eq!(hub.name(), "shop.servicebus.windows.net/orders");
        assert_eq!(Hub::parse("a:1,b:2/t").unwrap().hosts().collect::<Vec<_>>(), ["a", "b"]);
        for wrong in
            ["", "orders", "host/orders", "host:0/orders", "host:9093/", "host:9093/a b", "k:s@host:1/t", ":1/t"]
        {
            assert!(Hub::parse(wrong).is_err(), "{wrong}");
        }
        assert!(Hub::parse(&format!("host:9093/{}", "t".repeat(255))).is_err());
    }

    #[test]
    fn whoever_has_a_copy_of_it_hears_its_pulse() {
        let hub = Hub::parse("h:1/t").unwrap().with([("max.poll.interval.ms".to_owned(), "0".to_owned())]);
        let watched = hub.clone();
        assert!(watched.check_member().is_ok(), "nobody has joined");
        hub.pulse.beat();
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(10);
        while watched.check_member().is_ok() {
            // From the first look on it is silent.
            assert!(std::time::Instant::now() < deadline, "nobody is missed");
        }
        hub.pulse.end();
        assert!(watched.check_member().is_ok());
    }

    #[test]
    fn a_hub_that_is_printed_shows_no_secret() {
        let hub = Hub::parse("host:9093/orders").unwrap().logged_in("Endpoint=sb://host/;SharedAccessKey=s3cret");
        assert!(!format!("{hub:?} {hub}").contains("s3cret"));
        hub.validate().expect("librdkafka takes all of it");
        let readers = hub.config("group", super::RECOMMENDED_TO_READERS);
        super::settings::validate(&readers).expect("and what readers have");
    }

    #[test]
    fn what_correctness_needs_is_not_the_users_to_choose_there_either() {
        let hub = |key: &str, value: &str| Hub::parse("h:1/t").unwrap().with([(key.to_owned(), value.to_owned())]);
        assert!(hub("client.id", "shop").validate().is_ok());
        for (key, value) in [("enable.auto.commit", "true"), ("acks", "1"), ("no.such.setting", "1")] {
            assert!(hub(key, value).validate().is_err(), "{key}");
        }
    }
}
