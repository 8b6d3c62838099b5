//! Which tickets were taken: each once, by this instance. What is remembered of one goes when the ticket itself is over.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use super::token::TICKET_LIFETIME;

/// Tickets that are remembered at once; one more is not taken.
const TAKEN_MAX: usize = 100_000;

#[derive(Default)]
pub(super) struct Tickets(Mutex<Taken>);

#[derive(Default)]
struct Taken {
    /// When each is over, in seconds since 1970.
    by_id: HashMap<String, u64>,
    swept_at_s: u64,
}

#[derive(Debug, PartialEq, Eq)]
pub(super) enum NotTaken {
    Before,
    TooMany,
}

impl Tickets {
    /// Takes one, which is known to be good.
    pub(super) fn take(&self, id: &str, now_s: u64) -> Result<(), NotTaken> {
        let mut taken = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if taken.swept_at_s != now_s {
            taken.swept_at_s = now_s;
            taken.by_id.retain(|_, over_at_s| *over_at_s >= now_s);
        }
        if taken.by_id.contains_key(id) {
            return Err(NotTaken::Before);
        }
        if taken.by_id.len() >= TAKEN_MAX {
            return Err(NotTaken::TooMany);
        }
        // However much of its life it has had: it has no more than this left, and a second for the clock.
        taken.by_id.insert(id.to_owned(), now_s + TICKET_LIFETIME.as_secs() + 1);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::{NotTaken, TAKEN_MAX, Tickets};

    #[test]
    fn a_ticket_is_taken_once_and_remembered_for_its_life() {
        let tickets = Tickets::default();
        assert_eq!(tickets.take("a", 100), Ok(()));
        assert_eq!(tickets.take("a", 100), Err(NotTaken::Before));
        assert_eq!(tickets.take("a", 131), Err(NotTaken::Before));
        assert_eq!(tickets.take("b", 131), Ok(()));
        assert_eq!(tickets.take("c", 132), Ok(()));
        assert_eq!(tickets.0.lock().unwrap().by_id.len(), 2, "what is over is forgotten");
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let tickets = Tickets::default();
        for n in 0..TAKEN_MAX {
            assert_eq!(tickets.take(&n.to_string(), 100), Ok(()));
        }
        assert_eq!(tickets.take("one more", 100), Err(NotTaken::TooMany));
        assert_eq!(tickets.take("one more", 200), Ok(()));
    }
}
