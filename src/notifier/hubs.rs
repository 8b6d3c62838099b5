//! Producers for hubs: one for each endpoint, made when something is sent there, and closed when nothing has been for a while, or
//! when there are too many: each has threads of its own.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, Weak};
use std::time::Duration;

use tokio::time::Instant;

use crate::control::EndpointId;
use crate::control::hubs::HubHosts;
use crate::executor::Executor;
use crate::journal::JournalError;
use crate::journal::kafka::hub::{Hub, Producer};
use crate::lock::lock;

/// Producers that are kept; beyond that the one that was used least lately gives way.
const KEPT_MAX: usize = 32;
const IDLE_MAX: Duration = Duration::from_secs(5 * 60);

pub(super) struct Hubs {
    hosts: HubHosts,
    /// Whose certificates are believed there, in place of the system's.
    ca: Option<PathBuf>,
    /// How long one record may take.
    timeout: Duration,
    executor: Arc<dyn Executor>,
    kept: Mutex<HashMap<EndpointId, Kept>>,
}

struct Kept {
    /// What it was made for: another credential is another producer.
    to: Hub,
    producer: Arc<Producer>,
    used: Instant,
}

impl Hubs {
    pub fn new(hosts: HubHosts, ca: Option<PathBuf>, timeout: Duration, executor: Arc<dyn Executor>) -> Arc<Self> {
        Arc::new(Self { hosts, ca, timeout, executor, kept: Mutex::default() })
    }

    /// Whom we may tell.
    pub fn hosts(&self) -> &HubHosts {
        &self.hosts
    }

    /// The endpoint's, made if there is none for this hub with this credential. Connects to nobody yet.
    pub fn producer(
        self: &Arc<Self>,
        endpoint: EndpointId,
        hub: Hub,
        connection_string: &str,
    ) -> Result<Arc<Producer>, JournalError> {
        let ca = self.ca.iter().map(|file| ("ssl.ca.location".to_owned(), file.to_string_lossy().into_owned()));
        let to = hub.logged_in(connection_string).with(ca);
        let (mut kept, used) = (self.lock(), Instant::now());
        if let Some(known) = kept.get_mut(&endpoint).filter(|known| known.to == to) {
            known.used = used;
            return Ok(Arc::clone(&known.producer));
        }
        let producer = Arc::new(Producer::open(&to, self.timeout)?);
        if !kept.contains_key(&endpoint) && kept.len() >= KEPT_MAX {
            let least = kept.iter().min_by_key(|(_, known)| known.used).map(|(id, _)| *id);
            // Whoever still sends with it has it until that is answered.
            least.map(|id| kept.remove(&id));
        }
        if kept.is_empty() {
            self.executor.spawn(Box::pin(close_the_idle(Arc::downgrade(self), IDLE_MAX)));
        }
        kept.insert(endpoint, Kept { to, producer: Arc::clone(&producer), used });
        Ok(producer)
    }

    /// Answers whether there are any left.
    fn close_idle(&self, now: Instant, idle_max: Duration) -> bool {
        let mut kept = self.lock();
        kept.retain(|_, known| now.saturating_duration_since(known.used) < idle_max);
        !kept.is_empty()
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<EndpointId, Kept>> {
        lock(&self.kept)
    }
}

/// Until there are none.
async fn close_the_idle(hubs: Weak<Hubs>, idle_max: Duration) {
    loop {
        tokio::time::sleep(idle_max / 4).await;
        let Some(hubs) = hubs.upgrade() else { return };
        if !hubs.close_idle(Instant::now(), idle_max) {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECRET: &str = "Endpoint=sb://127.0.0.1/;SharedAccessKeyName=a;SharedAccessKey=b";

    #[tokio::test]
    async fn an_endpoint_has_one_producer_until_it_is_idle_or_has_another_credential() {
        let hosts = HubHosts::new(&["127.0.0.1".to_owned()]);
        let hubs = Hubs::new(hosts, None, Duration::from_secs(1), Arc::new(tokio::runtime::Handle::current()));
        let (one, hub) = (EndpointId::mint(), Hub::parse("127.0.0.1:1/told").unwrap());
        let first = hubs.producer(one, hub.clone(), SECRET).unwrap();
        assert!(Arc::ptr_eq(&first, &hubs.producer(one, hub.clone(), SECRET).unwrap()));
        let rotated = hubs.producer(one, hub.clone(), &SECRET.replace("Key=b", "Key=c")).unwrap();
        assert!(!Arc::ptr_eq(&first, &rotated));
        for _ in 0..KEPT_MAX {
            hubs.producer(EndpointId::mint(), hub.clone(), SECRET).unwrap();
        }
        assert_eq!(hubs.lock().len(), KEPT_MAX);
        assert!(!hubs.lock().contains_key(&one), "it was used least lately");
        assert!(hubs.close_idle(Instant::now(), IDLE_MAX));
        assert!(!hubs.close_idle(Instant::now() + IDLE_MAX, IDLE_MAX) && hubs.lock().is_empty());
    }
}
