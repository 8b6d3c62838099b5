//! One change at a time of who is told of one payment or one customer, so that each is judged by what the one before has come to.
//! Of several instances, each has turns of its own; what they agree on is the fold of the control log.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::OwnedMutexGuard;
use warp::http::StatusCode;

use crate::control::PushScope;
use crate::http::Problem;
use crate::payment::MerchantId;

/// Requests about the same payment or customer that wait for each other.
const WAITING_MAX: usize = 16;
/// Before another request where too many wait.
const PAUSE: Duration = Duration::from_secs(1);

type Whose = (MerchantId, PushScope);

#[derive(Clone, Default)]
pub(super) struct Turns(Arc<Mutex<HashMap<Whose, Line>>>);

#[derive(Default)]
struct Line {
    turn: Arc<tokio::sync::Mutex<()>>,
    /// With the one whose turn it is.
    requests: usize,
}

/// Held until the change is decided.
pub(super) struct Turn {
    _held: OwnedMutexGuard<()>,
    _place: Place,
}

/// In the line, also of a request that nobody waits for any more.
struct Place {
    turns: Turns,
    whose: Whose,
}

impl Turns {
    pub async fn take(&self, merchant: &MerchantId, scope: &PushScope) -> Result<Turn, Problem> {
        let whose = (merchant.clone(), scope.clone());
        let turn = {
            let mut lines = self.lines();
            let line = lines.entry(whose.clone()).or_default();
            if line.requests >= WAITING_MAX {
                let detail = format!("{WAITING_MAX} requests about it wait for each other: try again in a moment");
                let problem = Problem::new(StatusCode::TOO_MANY_REQUESTS, "too_many_push_changes", detail);
                return Err(problem.retry_after(PAUSE));
            }
            line.requests += 1;
            Arc::clone(&line.turn)
        };
        let place = Place { turns: self.clone(), whose };
        Ok(Turn { _held: turn.lock_owned().await, _place: place })
    }

    fn lines(&self) -> MutexGuard<'_, HashMap<Whose, Line>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut lines = self.turns.lines();
        if let Some(line) = lines.get_mut(&self.whose) {
            line.requests -= 1;
            if line.requests == 0 {
                lines.remove(&self.whose);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::{Turns, WAITING_MAX};
    use crate::control::PushScope;
    use crate::payment::MerchantId;
    use crate::payment::samples::payment_id;

    #[tokio::test]
    async fn requests_about_the_same_come_one_after_the_other_and_nothing_stays_of_them() {
        let (turns, merchant) = (Turns::default(), MerchantId::default());
        let (one, other) = (PushScope::Payment(payment_id("a")), PushScope::Payment(payment_id("b")));
        let first = turns.take(&merchant, &one).await.unwrap();
        drop(turns.take(&merchant, &other).await.unwrap());
        let mut waiting: Vec<_> = (1..WAITING_MAX).map(|_| Box::pin(turns.take(&merchant, &one))).collect();
        assert!(waiting.iter_mut().all(|turn| turn.now_or_never().is_none()));
        assert!(turns.take(&merchant, &one).await.is_err(), "no more of them");
        drop(waiting.pop()); // its client has gone
        drop(first);
        for turn in waiting {
            drop(turn.await.unwrap());
        }
        assert!(turns.lines().is_empty());
    }
}
