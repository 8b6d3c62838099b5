//! What was asked of webhook endpoints, once, in the order of the control log. It only grows at its end, so that a snapshot of it
//! is a count; what no endpoint is to heed any more is let go.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::ids::{EndpointId, RequestId};
use super::webhooks::{Asks, Request};
use crate::payment::Timestamp;

/// Over which time what is asked of one endpoint is bounded.
pub const ASKS_PERIOD: Duration = Duration::from_secs(60 * 60);
/// And how much it may be: everything that is asked stands on the control log for ever, and every start reads it.
pub const ASKS_MAX: usize = 500;
/// Of these so many recoveries, each of which reads the log.
pub const RECOVERIES_MAX: usize = 20;

/// As many as there were when it was cloned. Cheap to clone.
#[derive(Clone, Default)]
pub struct Requests {
    all: Arc<Mutex<All>>,
    count: usize,
}

#[derive(Default)]
struct All {
    /// By order; `None` where one was let go.
    list: Vec<Option<Arc<Request>>>,
    at: HashMap<RequestId, usize>,
    of: HashMap<EndpointId, Vec<usize>>,
}

impl Requests {
    pub(super) fn push(&mut self, request: Request) {
        let mut all = self.all();
        let at = all.list.len();
        all.at.insert(request.id, at);
        all.of.entry(request.endpoint).or_default().push(at);
        all.list.push(Some(Arc::new(request)));
        drop(all);
        self.count = at + 1;
    }

    /// The endpoint heeds nothing that it was asked so far.
    pub(super) fn let_go(&self, endpoint: EndpointId) {
        let mut all = self.all();
        for at in all.of.remove(&endpoint).unwrap_or_default() {
            if let Some(request) = all.list.get_mut(at).and_then(Option::take) {
                all.at.remove(&request.id);
            }
        }
    }

    /// How many there were, with those that were let go.
    #[must_use]
    pub fn count(&self) -> usize {
        self.count
    }

    /// Those behind the first `seen`.
    #[must_use]
    pub fn since(&self, seen: usize) -> Vec<Arc<Request>> {
        self.all().list.get(seen..self.count).unwrap_or_default().iter().flatten().cloned().collect()
    }

    #[must_use]
    pub fn get(&self, id: RequestId) -> Option<Arc<Request>> {
        let all = self.all();
        let at = all.at.get(&id).copied().filter(|at| *at < self.count)?;
        all.list.get(at).cloned().flatten()
    }

    /// Has so much been asked of the endpoint lately that this is not taken as well?
    #[must_use]
    pub fn is_full(&self, endpoint: EndpointId, asks: &Asks, now: Timestamp) -> bool {
        let all = self.all();
        let of = all.of.get(&endpoint).map(Vec::as_slice).unwrap_or_default();
        let asked = of.iter().rev().filter_map(|at| all.list.get(*at)?.as_ref());
        let lately = asked.take_while(|request| now.since(request.id.minted_at()) < ASKS_PERIOD);
        match asks {
            Asks::Recover { .. } => {
                let recoveries = lately.filter(|request| matches!(request.asks, Asks::Recover { .. }));
                recoveries.take(RECOVERIES_MAX).count() >= RECOVERIES_MAX
            }
            Asks::Resend { .. } | Asks::Test | Asks::Disabled { .. } => lately.take(ASKS_MAX).count() >= ASKS_MAX,
        }
    }

    fn all(&self) -> MutexGuard<'_, All> {
        self.all.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Of one log the count says it all.
impl PartialEq for Requests {
    fn eq(&self, other: &Self) -> bool {
        self.count == other.count
    }
}

impl Eq for Requests {}

impl std::fmt::Debug for Requests {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} requests", self.count)
    }
}

#[cfg(test)]
mod tests {
    use super::{ASKS_MAX, ASKS_PERIOD, RECOVERIES_MAX, Requests};
    use crate::control::webhooks::{Asks, Request};
    use crate::control::{EndpointId, RequestId};
    use crate::journal::Offset;
    use crate::payment::Timestamp;

    const ENDPOINT: EndpointId = EndpointId([1; 16]);

    fn ask(requests: &mut Requests, asks: Asks) -> RequestId {
        let id = RequestId::mint();
        requests.push(Request { id, endpoint: ENDPOINT, asks, control_offset: Offset(0) });
        id
    }

    #[test]
    fn a_snapshot_stays_as_it_was_and_what_is_let_go_is_gone() {
        let mut requests = Requests::default();
        let first = ask(&mut requests, Asks::Test);
        let before = requests.clone();
        let second = ask(&mut requests, Asks::Test);
        assert_eq!((before.count(), before.since(0).len(), requests.since(1).len()), (1, 1, 1));
        assert!(before.get(first).is_some() && before.get(second).is_none() && requests.get(second).is_some());
        requests.let_go(ENDPOINT);
        assert!(requests.get(first).is_none() && requests.since(0).is_empty());
        assert_eq!(requests.count(), 2, "whoever has seen these goes on behind them");
        let third = ask(&mut requests, Asks::Test);
        assert_eq!(requests.since(2).iter().map(|request| request.id).collect::<Vec<_>>(), [third]);
    }

    #[test]
    fn no_more_is_asked_of_an_endpoint_within_an_hour_than_a_start_can_read() {
        let (mut requests, now) = (Requests::default(), Timestamp::now());
        let recover = Asks::Recover { ranges: Vec::new() };
        for _ in 0..RECOVERIES_MAX {
            assert!(!requests.is_full(ENDPOINT, &recover, now));
            ask(&mut requests, recover.clone());
        }
        assert!(requests.is_full(ENDPOINT, &recover, now) && !requests.is_full(ENDPOINT, &Asks::Test, now));
        while requests.count() < ASKS_MAX {
            ask(&mut requests, Asks::Test);
        }
        assert!(requests.is_full(ENDPOINT, &Asks::Test, now));
        assert!(!requests.is_full(EndpointId([2; 16]), &Asks::Test, now));
        let later = now.plus(ASKS_PERIOD + ASKS_PERIOD);
        assert!(!requests.is_full(ENDPOINT, &recover, later) && !requests.is_full(ENDPOINT, &Asks::Test, later));
    }
}
