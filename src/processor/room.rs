//! How much may be asked of the gateway at once: calls in all and of one merchant, calls a second, and whether it is up to
//! any (its breaker). Nobody waits here: who finds no room is told for whom it is missing, and comes back.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use crate::gateway::breaker::{Admission, Breaker, Scope};
use crate::payment::MerchantId;

/// Calls that may go out together where a gateway limits calls a second: what it would take in a tenth of one.
const BURST: Duration = Duration::from_millis(100);

/// Calls under way at once.
#[derive(Clone, Copy, Debug)]
pub struct Bulkheads {
    pub gateway_max: usize,
    pub merchant_max: usize,
}

impl Default for Bulkheads {
    fn default() -> Self {
        Self { gateway_max: 1024, merchant_max: 64 }
    }
}

pub(super) struct Room {
    bulkheads: Bulkheads,
    inner: Mutex<Inner>,
}

struct Inner {
    calls: usize,
    /// Of each merchant that has a call under way.
    merchants: HashMap<MerchantId, usize>,
    breaker: Breaker,
    pace: Option<Pace>,
}

pub(super) enum Entry {
    Granted(Permit),
    Full,
    MerchantFull,
    /// Nobody enters for so long.
    Closed(Duration),
    MerchantClosed(Duration),
}

/// Room for one call, held while it is under way.
pub(super) struct Permit {
    room: Arc<Room>,
    merchant: MerchantId,
    probe: Option<Scope>,
}

/// So many calls a second (the generic cell rate algorithm, ITU-T I.371).
struct Pace {
    interval: Duration,
    next: Instant,
}

impl Room {
    pub fn new(bulkheads: Bulkheads, calls_per_second_max: Option<u32>) -> Self {
        let pace = calls_per_second_max
            .map(|max| Pace { interval: Duration::from_secs(1) / max.max(1), next: Instant::now() });
        let inner = Inner { calls: 0, merchants: HashMap::new(), breaker: Breaker::default(), pace };
        Self { bulkheads, inner: Mutex::new(inner) }
    }

    pub fn enter(self: &Arc<Self>, merchant: &MerchantId) -> Entry {
        let (now, mut inner) = (Instant::now(), self.lock());
        if inner.calls >= self.bulkheads.gateway_max {
            return Entry::Full;
        }
        if inner.merchants.get(merchant).is_some_and(|calls| *calls >= self.bulkheads.merchant_max) {
            return Entry::MerchantFull;
        }
        if let Some(wait) = inner.pace.as_ref().and_then(|pace| pace.wait(now)) {
            return Entry::Closed(wait);
        }
        let probe = match inner.breaker.admit(merchant, now) {
            Admission::Free => None,
            Admission::Probe(scope) => Some(scope),
            Admission::Closed(Scope::All, wait) => return Entry::Closed(wait),
            Admission::Closed(Scope::Merchant, wait) => return Entry::MerchantClosed(wait),
        };
        if let Some(pace) = &mut inner.pace {
            pace.take(now);
        }
        inner.calls += 1;
        *inner.merchants.entry(merchant.clone()).or_default() += 1;
        Entry::Granted(Permit { room: Arc::clone(self), merchant: merchant.clone(), probe })
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Permit {
    /// Does the breaker wait for this call's answer?
    pub fn is_probe(&self) -> bool {
        self.probe.is_some()
    }

    /// Tells the breaker how the gateway did; `None` says nothing about it.
    pub fn answered(&mut self, well: Option<bool>) {
        // An answer that says "not now" is an answer, where the breaker waits for one.
        let well = well.or(self.probe.map(|_| true));
        if let Some(well) = well {
            self.room.lock().breaker.answered(&self.merchant, !well, self.probe.take(), Instant::now());
        }
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        let mut inner = self.room.lock();
        if let Some(probe) = self.probe {
            inner.breaker.abandoned(&self.merchant, probe, Instant::now());
        }
        inner.calls = inner.calls.saturating_sub(1);
        if let Some(calls) = inner.merchants.get_mut(&self.merchant) {
            *calls = calls.saturating_sub(1);
            if *calls == 0 {
                inner.merchants.remove(&self.merchant);
            }
        }
    }
}

impl Pace {
    fn wait(&self, now: Instant) -> Option<Duration> {
        let early = self.next.saturating_duration_since(now);
        (early > BURST).then(|| early - BURST)
    }

    fn take(&mut self, now: Instant) {
        self.next = self.next.max(now) + self.interval;
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::{Bulkheads, Entry, Room};
    use crate::payment::MerchantId;

    #[tokio::test(start_paused = true)]
    async fn no_more_calls_a_second_than_the_gateway_takes() {
        let room = Arc::new(Room::new(Bulkheads::default(), Some(50)));
        let merchant = MerchantId::default();
        let (began, mut granted) = (tokio::time::Instant::now(), 0);
        while began.elapsed().as_secs() < 4 {
            match room.enter(&merchant) {
                Entry::Granted(_) => granted += 1,
                Entry::Closed(wait) => tokio::time::advance(wait).await,
                _ => panic!("nothing else holds it back"),
            }
        }
        assert!((200..=206).contains(&granted), "{granted} in 4 s at 50 a second");
    }
}
