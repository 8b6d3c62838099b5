//! Connections to brokers: one for each endpoint, opened when something is sent to it, used by all that is sent there at once,
//! and closed when nothing has been sent for a while, when it fails, or when there are too many.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, Weak};
use std::time::Duration;

use tokio::time::Instant;

use crate::amqp::{Address, AmqpError, Answer, Connection, Credential, Outgoing, Sender, connections_cut};
use crate::control::EndpointId;
use crate::lock::lock;
use crate::telemetry;

/// Connections that are kept; beyond that the one that was used least lately gives way.
const KEPT_MAX: usize = 256;
/// Azure Service Bus ends a link on which nothing was sent for ten minutes.
const IDLE_MAX: Duration = Duration::from_secs(4 * 60);

#[derive(Default)]
pub(super) struct Buses {
    places: Mutex<HashMap<EndpointId, Arc<Place>>>,
}

/// Where the connection of an endpoint is. Held while one is opened: of many that are sent at once, one opens it.
struct Place {
    bus: tokio::sync::Mutex<Option<Arc<Bus>>>,
    used: Mutex<Instant>,
}

struct Bus {
    /// What it was opened to, and as whom: another credential is another connection.
    to: (Address, Credential),
    sender: Sender,
    /// Something that was sent on it came to nothing: it is not used again.
    broken: AtomicBool,
}

impl Buses {
    /// Sends on the endpoint's connection, after `open` if there is none to this address with this credential. Whoever stops
    /// waiting does not know whether it was taken.
    pub async fn send(
        self: &Arc<Self>,
        endpoint: EndpointId,
        to: (Address, Credential),
        open: impl AsyncFnOnce(&(Address, Credential)) -> Result<Connection, AmqpError>,
        message: Outgoing,
    ) -> Result<Answer, AmqpError> {
        let place = self.place(endpoint);
        // Whatever happens, also that nobody waits any more: what has not worked is not used again.
        let mut bus = Using { place: Arc::clone(&place), bus: Some(self.bus(&place, to, open).await?) };
        let Some(used) = &bus.bus else { return Err(AmqpError::TimedOut) };
        let answer = Arc::clone(used).sender.send(message).await;
        if answer.is_ok() {
            bus.bus = None;
            place.touch();
        }
        answer
    }

    async fn bus(
        self: &Arc<Self>,
        place: &Arc<Place>,
        to: (Address, Credential),
        open: impl AsyncFnOnce(&(Address, Credential)) -> Result<Connection, AmqpError>,
    ) -> Result<Arc<Bus>, AmqpError> {
        let mut kept = place.bus.lock().await;
        if let Some(bus) = kept.as_ref().filter(|bus| bus.to == to && bus.is_well()) {
            return Ok(Arc::clone(bus));
        }
        *kept = None;
        telemetry::amqp_connections_cut(connections_cut());
        let sender = Sender::attach(open(&to).await?, to.0.node()).await?;
        let bus = Arc::new(Bus { to, sender, broken: AtomicBool::new(false) });
        *kept = Some(Arc::clone(&bus));
        place.touch();
        tokio::spawn(end_when_idle(Arc::downgrade(place), Arc::downgrade(&bus)));
        Ok(bus)
    }

    fn place(&self, endpoint: EndpointId) -> Arc<Place> {
        let mut places = self.lock();
        if !places.contains_key(&endpoint) && places.len() >= KEPT_MAX {
            let oldest = places.iter().min_by_key(|(_, place)| place.used_at()).map(|(id, _)| *id);
            oldest.map(|id| places.remove(&id));
        }
        Arc::clone(places.entry(endpoint).or_insert_with(|| {
            Arc::new(Place { bus: tokio::sync::Mutex::default(), used: Mutex::new(Instant::now()) })
        }))
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<EndpointId, Arc<Place>>> {
        lock(&self.places)
    }
}

impl Bus {
    fn is_well(&self) -> bool {
        !self.broken.load(Ordering::Acquire) && !self.sender.is_over()
    }
}

impl Place {
    fn touch(&self) {
        *lock(&self.used) = Instant::now();
    }

    fn used_at(&self) -> Instant {
        *lock(&self.used)
    }
}

/// A connection that something is being sent on. If that comes to nothing it is let go of, by all who come after.
struct Using {
    place: Arc<Place>,
    bus: Option<Arc<Bus>>,
}

impl Drop for Using {
    fn drop(&mut self) {
        let Some(bus) = self.bus.take() else { return };
        bus.broken.store(true, Ordering::Release);
        // At once, unless somebody holds the place, who may only have looked: whoever comes next lets go of it then.
        if let Ok(mut kept) = self.place.bus.try_lock()
            && kept.as_ref().is_some_and(|kept| Arc::ptr_eq(kept, &bus))
        {
            *kept = None;
        }
    }
}

/// One for each connection that was opened; it ends with it, whoever has closed it.
async fn end_when_idle(place: Weak<Place>, bus: Weak<Bus>) {
    loop {
        let Some(until) = place.upgrade().map(|place| place.used_at() + IDLE_MAX) else { return };
        tokio::time::sleep_until(until).await;
        let (Some(place), Some(bus)) = (place.upgrade(), bus.upgrade()) else { return };
        let mut kept = place.bus.lock().await;
        if kept.as_ref().is_none_or(|kept| !Arc::ptr_eq(kept, &bus)) {
            return;
        }
        if place.used_at().elapsed() >= IDLE_MAX {
            *kept = None;
            return;
        }
    }
}
