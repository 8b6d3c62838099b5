//! Stops calling a gateway that does not answer ("Circuit Breaker", M. Nygard, Release It!). It trips on lost answers and
//! connections, never on declines; open means held, not failed.
//!
//! There is one breaker for each merchant, whose account or route may fail alone, and one over all of them. That one opens
//! only when several merchants fail, more than half of those that were seen: a provider that hangs for one merchant must not
//! stop the others.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use tokio::time::Instant;

use crate::payment::MerchantId;
use crate::telemetry;

/// How far back answers count.
const WINDOW: Duration = Duration::from_secs(10);
/// Answers that are remembered, at most.
const ANSWERS_MAX: usize = 1_024;
/// Fewer answers than this say nothing: of one merchant, of all.
const MERCHANT_ANSWERS_MIN: usize = 10;
const ANSWERS_MIN: usize = 20;
/// How long it stays open before one call is let through; twice as long after each that fails too.
const OPEN_MIN: Duration = Duration::from_secs(1);
const OPEN_MAX: Duration = Duration::from_secs(30);
/// A probe that has said nothing for this long has been lost: another may go.
const PROBE_MAX: Duration = Duration::from_secs(90);
/// The breaker of a merchant that has not called for so long is forgotten.
const FORGET_AFTER: Duration = Duration::from_secs(600);

#[derive(Default)]
pub struct Breaker {
    answers: VecDeque<Answered>,
    all: State,
    /// Only those that are not closed.
    merchants: HashMap<MerchantId, State>,
}

struct Answered {
    at: Instant,
    merchant: MerchantId,
    failed: bool,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    #[default]
    Closed,
    /// Until then; the pause that led there.
    Open(Instant, Duration),
    /// One call is under way to see whether it may close; not waited for any longer than then.
    Probing(Instant, Duration),
}

/// Whose breaker a call tries out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    All,
    Merchant,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Admission {
    Free,
    /// The one call whose answer decides.
    Probe(Scope),
    /// Nothing goes through for so long.
    Closed(Scope, Duration),
}

impl Breaker {
    pub fn admit(&mut self, merchant: &MerchantId, now: Instant) -> Admission {
        let own = self.merchants.get(merchant).map_or(Passage::Free, |state| state.passage(now));
        // A merchant whose own breaker is open would be a bad probe of them all.
        match (own, self.all.passage(now)) {
            (Passage::In(wait), _) => Admission::Closed(Scope::Merchant, wait),
            (_, Passage::In(wait)) => Admission::Closed(Scope::All, wait),
            (_, Passage::Probe) => {
                self.all = self.all.probing(now);
                Admission::Probe(Scope::All)
            }
            (Passage::Probe, Passage::Free) => {
                if let Some(state) = self.merchants.get_mut(merchant) {
                    *state = state.probing(now);
                }
                Admission::Probe(Scope::Merchant)
            }
            (Passage::Free, Passage::Free) => Admission::Free,
        }
    }

    /// A probe was let through and never sent: the next call may be the probe.
    pub fn abandoned(&mut self, merchant: &MerchantId, probe: Scope, now: Instant) {
        let state = match probe {
            Scope::All => Some(&mut self.all),
            Scope::Merchant => self.merchants.get_mut(merchant),
        };
        if let Some(state) = state {
            *state = state.reopened(now);
        }
    }

    /// A call has been answered, or its answer was lost.
    pub fn answered(&mut self, merchant: &MerchantId, failed: bool, probe: Option<Scope>, now: Instant) {
        match (probe, failed) {
            (Some(Scope::All), false) => {
                tracing::info!("the gateway answers again");
                self.all = State::Closed;
                self.answers.clear();
            }
            (Some(Scope::All), true) => self.all = self.all.longer(now),
            (Some(Scope::Merchant), false) => {
                self.merchants.remove(merchant);
                self.answers.retain(|answer| answer.merchant != *merchant);
            }
            (Some(Scope::Merchant), true) => {
                let state = self.merchants.entry(merchant.clone()).or_default();
                *state = state.longer(now);
            }
            (None, _) => {}
        }
        self.remember(merchant, failed, now);
        if failed && probe.is_none() {
            self.judge(merchant, now);
        }
    }

    fn remember(&mut self, merchant: &MerchantId, failed: bool, now: Instant) {
        while self.answers.len() >= ANSWERS_MAX
            || self.answers.front().is_some_and(|answer| now.duration_since(answer.at) > WINDOW)
        {
            self.answers.pop_front();
        }
        self.answers.push_back(Answered { at: now, merchant: merchant.clone(), failed });
    }

    fn judge(&mut self, merchant: &MerchantId, now: Instant) {
        let mut counts: HashMap<&MerchantId, (usize, usize)> = HashMap::new();
        for answer in &self.answers {
            let (all, failed) = counts.entry(&answer.merchant).or_default();
            *all += 1;
            *failed += usize::from(answer.failed);
        }
        let half_failed = |(all, failed): &(usize, usize)| failed * 2 >= *all;
        let failing = counts.values().filter(|count| half_failed(count)).count();
        let total = counts.values().fold((0, 0), |sum, count| (sum.0 + count.0, sum.1 + count.1));
        let mine = counts.get(merchant).copied().unwrap_or_default();
        let all_trip = total.0 >= ANSWERS_MIN && half_failed(&total) && failing >= 2 && failing * 2 > counts.len();
        let mine_trips = mine.0 >= MERCHANT_ANSWERS_MIN && half_failed(&mine);
        if all_trip && self.all == State::Closed {
            tracing::warn!(merchants = failing, "the gateway does not answer: its calls are held");
            telemetry::breaker_opened();
            self.all = State::Open(now + OPEN_MIN, OPEN_MIN);
        }
        if mine_trips && !self.merchants.contains_key(merchant) {
            tracing::warn!(
                merchant = merchant.as_str(),
                "the gateway does not answer for a merchant: its calls are held"
            );
            telemetry::breaker_opened();
            self.merchants.retain(|_, state| !state.is_stale(now));
            self.merchants.insert(merchant.clone(), State::Open(now + OPEN_MIN, OPEN_MIN));
        }
    }
}

/// What a state does to the next call.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Passage {
    Free,
    Probe,
    /// Shut for so long.
    In(Duration),
}

impl State {
    fn passage(self, now: Instant) -> Passage {
        match self {
            State::Closed => Passage::Free,
            State::Open(until, _) | State::Probing(until, _) if until <= now => Passage::Probe,
            State::Open(until, _) => Passage::In(until - now),
            State::Probing(until, _) => Passage::In((until - now).min(OPEN_MIN)),
        }
    }

    fn probing(self, now: Instant) -> State {
        match self {
            State::Closed => State::Closed,
            State::Open(_, pause) | State::Probing(_, pause) => State::Probing(now + PROBE_MAX, pause),
        }
    }

    fn reopened(self, now: Instant) -> State {
        match self {
            State::Closed => State::Closed,
            State::Open(_, pause) | State::Probing(_, pause) => State::Open(now, pause),
        }
    }

    /// Nobody has called for so long that nothing is known any more.
    fn is_stale(self, now: Instant) -> bool {
        matches!(self, State::Open(until, _) | State::Probing(until, _) if now.duration_since(until) > FORGET_AFTER)
    }

    fn longer(self, now: Instant) -> State {
        let pause = match self {
            State::Closed => OPEN_MIN,
            State::Open(_, pause) | State::Probing(_, pause) => (pause * 2).min(OPEN_MAX),
        };
        State::Open(now + pause, pause)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::Instant;

    use super::{Admission, Breaker, OPEN_MAX, OPEN_MIN, Scope};
    use crate::payment::MerchantId;

    fn merchant(name: &str) -> MerchantId {
        MerchantId::parse(name).unwrap()
    }

    fn answers(breaker: &mut Breaker, name: &str, failed: bool, count: usize, now: Instant) {
        for _ in 0..count {
            breaker.answered(&merchant(name), failed, None, now);
        }
    }

    #[test]
    fn answers_of_any_kind_keep_it_closed_and_lost_ones_open_it() {
        let (mut breaker, now) = (Breaker::default(), Instant::now());
        answers(&mut breaker, "a", false, 100, now);
        answers(&mut breaker, "a", true, 99, now);
        assert_eq!(breaker.admit(&merchant("a"), now), Admission::Free);
        answers(&mut breaker, "a", true, 1, now);
        assert_eq!(breaker.admit(&merchant("a"), now), Admission::Closed(Scope::Merchant, OPEN_MIN));
        assert_eq!(breaker.admit(&merchant("b"), now), Admission::Free, "another merchant goes on");
    }

    #[test]
    fn one_merchant_cannot_stop_the_others_but_many_can() {
        let (mut breaker, now) = (Breaker::default(), Instant::now());
        answers(&mut breaker, "hangs", true, 500, now);
        answers(&mut breaker, "b", false, 3, now);
        assert_eq!(breaker.admit(&merchant("b"), now), Admission::Free);
        for n in 0..20 {
            answers(&mut breaker, &format!("m{n}"), true, 1, now);
        }
        assert!(matches!(breaker.admit(&merchant("b"), now), Admission::Closed(Scope::All, _)));
    }

    #[test]
    fn one_call_tries_it_out_and_decides() {
        let (mut breaker, now) = (Breaker::default(), Instant::now());
        let a = merchant("a");
        answers(&mut breaker, "a", true, 10, now);
        let mut at = now + OPEN_MIN;
        let mut pause = OPEN_MIN;
        for _ in 0..8 {
            assert_eq!(breaker.admit(&a, at), Admission::Probe(Scope::Merchant));
            assert!(matches!(breaker.admit(&a, at), Admission::Closed(..)), "one at a time");
            breaker.answered(&a, true, Some(Scope::Merchant), at);
            pause = (pause * 2).min(OPEN_MAX);
            assert_eq!(breaker.admit(&a, at), Admission::Closed(Scope::Merchant, pause));
            at += pause;
        }
        assert_eq!(breaker.admit(&a, at), Admission::Probe(Scope::Merchant));
        breaker.answered(&a, false, Some(Scope::Merchant), at);
        assert_eq!(breaker.admit(&a, at), Admission::Free);
        answers(&mut breaker, "a", true, 1, at);
        assert_eq!(breaker.admit(&a, at), Admission::Free, "what was before is forgotten");
    }

    #[test]
    fn a_merchant_that_fails_alone_is_no_probe_of_them_all() {
        let (mut breaker, now) = (Breaker::default(), Instant::now());
        for n in 0..30 {
            answers(&mut breaker, &format!("m{n}"), true, 1, now);
        }
        let at = now + OPEN_MIN;
        breaker.merchants.insert(merchant("a"), super::State::Open(at + OPEN_MAX, OPEN_MAX));
        assert_eq!(breaker.admit(&merchant("a"), at), Admission::Closed(Scope::Merchant, OPEN_MAX));
        assert_eq!(breaker.admit(&merchant("b"), at), Admission::Probe(Scope::All));
    }

    #[test]
    fn old_answers_do_not_count_and_a_lost_probe_is_replaced() {
        let (mut breaker, now) = (Breaker::default(), Instant::now());
        answers(&mut breaker, "a", true, 9, now);
        let later = now + Duration::from_secs(11);
        answers(&mut breaker, "a", true, 1, later);
        assert_eq!(breaker.admit(&merchant("a"), later), Admission::Free);
        answers(&mut breaker, "a", true, 10, later);
        assert_eq!(breaker.admit(&merchant("a"), later + OPEN_MIN), Admission::Probe(Scope::Merchant));
        breaker.abandoned(&merchant("a"), Scope::Merchant, later + OPEN_MIN);
        assert_eq!(
            breaker.admit(&merchant("a"), later + OPEN_MIN),
            Admission::Probe(Scope::Merchant),
            "it was not sent"
        );
        let much_later = later + Duration::from_secs(600);
        assert_eq!(breaker.admit(&merchant("a"), much_later), Admission::Probe(Scope::Merchant));
    }
}
