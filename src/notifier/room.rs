//! How much may be on its way: webhooks and messages to browsers apart, so that neither takes the room of the other; of one
//! target; and of one push service, which is thousands of browsers. A service that does nothing but fail is asked by one
//! message at a time, and one that wants patience by none; and all of those that have not answered well here, for anybody may
//! name a server of theirs, have a part of the room that leaves the rest to the others.

use std::collections::HashMap;
use std::time::Duration;

use super::Bounds;
use crate::control::TargetId;
use crate::deliveries::outcome::{Failure, WorkId};
use crate::payment::Timestamp;

/// Outcomes of one target that the fold has not come to yet.
const UNFOLDED_MAX: usize = 1_000;
/// On their way to one target, or one push service, that does nothing but fail: it holds no slot that others could use.
const FAILING_MAX: usize = 1;
/// So many failures of a push service, with nothing between, are no accident of one message.
const FAILURES_MAX: u32 = 8;
/// Of the room for browsers, what push services that have not answered well have together: one part in so many.
const DOUBTFUL_PART: usize = 4;
/// Whatever it asks for, a push service is asked again after this: what it said to one message keeps all its browsers waiting.
const SERVICE_PAUSE_MAX: Duration = Duration::from_secs(5 * 60);
/// Push services that are remembered before those are let go of which nothing is to be remembered.
const SERVICES_MIN: usize = 1_000;

/// What is bounded apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Pool {
    Webhooks,
    Browsers,
}

/// What an attempt says of who was asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Answered {
    /// Nobody was asked.
    Not,
    Well,
    Badly,
}

/// How much of one target is on its way.
#[derive(Clone, Copy, Default)]
struct Count {
    /// Sent, and not answered yet: this is what bounds are about.
    sending: usize,
    /// Until the fold has the outcome: it still stands among what is due.
    known: usize,
}

#[derive(Clone, Copy, Default)]
struct Service {
    sending: usize,
    /// Has it ever answered well here?
    is_known: bool,
    /// Failures since it answered well last.
    failures: u32,
    paused_until: Option<Timestamp>,
}

pub(super) struct Room {
    bounds: Bounds,
    of_target: HashMap<TargetId, Count>,
    services: HashMap<String, Service>,
    /// Which push service has what is on its way to browsers.
    service_of: HashMap<WorkId, String>,
    webhooks: usize,
    browsers: usize,
    /// Of these, to push services that have not answered well.
    doubtful: usize,
    /// With so many services it is looked which are of no interest any more.
    tidy_at: usize,
}

impl Pool {
    pub fn of(target: TargetId) -> Self {
        if target.endpoint().is_some() { Self::Webhooks } else { Self::Browsers }
    }
}

impl Answered {
    /// That there is no such browser, or that a message is not taken, is an answer too.
    pub fn of(failure: Option<Failure>) -> Self {
        match failure {
            Some(Failure::Expired | Failure::OtherKey | Failure::NotSendable) => Self::Not,
            None | Some(Failure::Gone | Failure::Refused | Failure::TooLarge) => Self::Well,
            Some(_) => Self::Badly,
        }
    }
}

impl Service {
    fn is_failing(&self) -> bool {
        self.failures >= FAILURES_MAX
    }

    fn is_doubtful(&self) -> bool {
        !self.is_known || self.is_failing()
    }

    fn doubtful(&self) -> usize {
        if self.is_doubtful() { self.sending } else { 0 }
    }
}

impl Room {
    pub fn new(bounds: Bounds) -> Self {
        Self {
            bounds,
            of_target: HashMap::new(),
            services: HashMap::new(),
            service_of: HashMap::new(),
            webhooks: 0,
            browsers: 0,
            doubtful: 0,
            tidy_at: SERVICES_MIN,
        }
    }

    /// All that is sent, and not answered yet.
    pub fn sending(&self) -> usize {
        self.webhooks + self.browsers
    }

    /// How much more may be on its way.
    pub fn left(&self, pool: Pool) -> usize {
        match pool {
            Pool::Webhooks => self.bounds.in_flight_max.saturating_sub(self.webhooks),
            Pool::Browsers => self.browsers_max().saturating_sub(self.browsers),
        }
    }

    /// And to this target, of this push service if it is a browser; `is_failing` of the target.
    pub fn for_target(&self, target: TargetId, service: Option<&str>, is_failing: bool) -> usize {
        let count = self.of_target.get(&target).copied().unwrap_or_default();
        let room = self.left(Pool::of(target)).min(UNFOLDED_MAX.saturating_sub(count.known));
        let room =
            room.min(if is_failing { FAILING_MAX } else { self.bounds.of_target_max }.saturating_sub(count.sending));
        service.map_or(room, |service| room.min(self.of_service(service)))
    }

    /// To anybody at this push service; without one, to anybody by webhook.
    pub fn in_line(&self, service: Option<&str>, now: Timestamp) -> usize {
        match service {
            None => self.left(Pool::Webhooks),
            Some(service) if self.paused_until(service).is_some_and(|until| until > now) => 0,
            Some(service) => self.left(Pool::Browsers).min(self.of_service(service)),
        }
    }

    /// Half of what the others leave; of one that has not answered well, half of what its like leave of their part.
    fn of_service(&self, service: &str) -> usize {
        let service = self.services.get(service).copied().unwrap_or_default();
        let (all, most) = if service.is_doubtful() {
            (self.doubtful, self.browsers_max().div_ceil(DOUBTFUL_PART))
        } else {
            (self.browsers, self.browsers_max())
        };
        let others = all.saturating_sub(service.sending);
        let most = most.saturating_sub(others).div_ceil(2);
        let most = if service.is_failing() { FAILING_MAX } else { most };
        most.saturating_sub(service.sending)
    }

    /// Until when nothing is sent to any browser of this push service.
    pub fn paused_until(&self, service: &str) -> Option<Timestamp> {
        self.services.get(service)?.paused_until
    }

    pub fn begin(&mut self, work: WorkId, service: Option<&str>) {
        let count = self.of_target.entry(work.target).or_default();
        (count.sending, count.known) = (count.sending + 1, count.known + 1);
        match service {
            None => self.webhooks += 1,
            Some(service) => {
                self.browsers += 1;
                self.change(service, |service| service.sending += 1);
                self.service_of.insert(work, service.to_owned());
            }
        }
    }

    /// It is answered, or not to be answered any more.
    pub fn end(&mut self, work: &WorkId, answered: Answered, pause_until: Option<Timestamp>, now: Timestamp) {
        if let Some(count) = self.of_target.get_mut(&work.target) {
            count.sending = count.sending.saturating_sub(1);
        }
        let Some(name) = self.service_of.remove(work) else {
            self.webhooks = self.webhooks.saturating_sub(1);
            return;
        };
        self.browsers = self.browsers.saturating_sub(1);
        self.change(&name, |service| {
            service.sending = service.sending.saturating_sub(1);
            match answered {
                Answered::Not => {}
                Answered::Well => (service.is_known, service.failures) = (true, 0),
                Answered::Badly => service.failures = service.failures.saturating_add(1),
            }
            let pause_until = pause_until.map(|until| until.min(now.plus(SERVICE_PAUSE_MAX)));
            service.paused_until = service.paused_until.max(pause_until);
        });
        self.tidy(now);
    }

    fn change(&mut self, service: &str, change: impl FnOnce(&mut Service)) {
        let service = self.services.entry(service.to_owned()).or_default();
        let before = service.doubtful();
        change(service);
        self.doubtful = self.doubtful - before + service.doubtful();
    }

    /// The fold has its outcome, or there is none.
    pub fn let_go(&mut self, target: TargetId) {
        if let Some(count) = self.of_target.get_mut(&target) {
            count.known = count.known.saturating_sub(1);
            if count.known == 0 {
                self.of_target.remove(&target);
            }
        }
    }

    /// Half as many as webhooks, beside them.
    fn browsers_max(&self) -> usize {
        self.bounds.in_flight_max.div_ceil(2)
    }

    /// Anybody may name a server of theirs as push service. One that is let go while it fails is asked a little more at once.
    fn tidy(&mut self, now: Timestamp) {
        if self.services.len() >= self.tidy_at {
            self.services.retain(|_, known| known.sending > 0 || known.paused_until.is_some_and(|until| until > now));
            self.tidy_at = (2 * self.services.len()).max(SERVICES_MIN);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{Answered, FAILURES_MAX, Pool, Room, SERVICE_PAUSE_MAX, SERVICES_MIN};
    use crate::control::{EndpointId, SubscriptionId, TargetId};
    use crate::deliveries::outcome::{Cause, Failure, WorkId};
    use crate::journal::{Offset, Partition};
    use crate::notifier::Bounds;
    use crate::payment::samples::at;

    const SLOW: &str = "https://slow.example";
    const GOOD: &str = "https://good.example";

    fn room() -> Room {
        Room::new(Bounds { in_flight_max: 16, of_target_max: 16, drain: Duration::ZERO })
    }

    fn work(target: impl Into<TargetId>, offset: u64) -> WorkId {
        WorkId { target: target.into(), partition: Partition(0), offset: Offset(offset), cause: Cause::Live }
    }

    fn browser(n: u8) -> TargetId {
        SubscriptionId([n; 16]).into()
    }

    fn answers_well(room: &mut Room, service: &str) {
        let work = work(browser(255), 0);
        room.begin(work, Some(service));
        room.end(&work, Answered::Well, None, at(0));
        room.let_go(work.target);
    }

    /// Begins whatever there is room for.
    fn fill(room: &mut Room, browsers: std::ops::Range<u8>, service: &str) -> Vec<WorkId> {
        let mut begun = Vec::new();
        for n in browsers {
            if room.for_target(browser(n), Some(service), false) > 0 {
                begun.push(work(browser(n), 0));
                room.begin(begun[begun.len() - 1], Some(service));
            }
        }
        begun
    }

    #[test]
    fn browsers_leave_the_room_of_webhooks_and_one_push_service_that_of_the_others() {
        let mut room = room();
        let endpoint = EndpointId([1; 16]);
        [SLOW, GOOD, "https://third"].into_iter().for_each(|service| answers_well(&mut room, service));
        assert_eq!(fill(&mut room, 0..100, SLOW).len(), 4, "of one service");
        assert_eq!(fill(&mut room, 100..200, GOOD).len(), 2, "half of what is left");
        assert_eq!(room.in_line(Some(SLOW), at(0)), 0);
        assert_eq!(fill(&mut room, 200..201, "https://third").len(), 1, "of three that stall the third is told, too");
        assert_eq!(room.left(Pool::Browsers), 1);
        assert_eq!(room.for_target(endpoint.into(), None, false), 16, "as if there were no browser");
        (0..16).for_each(|n| room.begin(work(endpoint, n), None));
        assert_eq!((room.left(Pool::Webhooks), room.sending()), (0, 23));
    }

    #[test]
    fn a_push_service_that_does_nothing_but_fail_is_asked_by_one_message_until_it_answers() {
        let mut room = room();
        [SLOW, GOOD].into_iter().for_each(|service| answers_well(&mut room, service));
        for _ in 0..FAILURES_MAX.div_ceil(4) {
            for work in fill(&mut room, 0..100, SLOW) {
                room.end(&work, Answered::of(Some(Failure::Timeout)), None, at(0));
                room.let_go(work.target);
            }
        }
        assert_eq!(fill(&mut room, 0..100, SLOW).len(), 1, "whichever browser it is");
        assert_eq!(fill(&mut room, 100..200, GOOD).len(), 4);
        room.end(&work(browser(0), 0), Answered::of(Some(Failure::Gone)), None, at(0));
        assert_eq!(fill(&mut room, 1..100, SLOW).len(), 2, "that there is no such browser is an answer");
    }

    #[test]
    fn a_push_service_that_wants_patience_gets_it_for_all_its_browsers_and_not_for_ever() {
        let mut room = room();
        answers_well(&mut room, SLOW);
        let sent = fill(&mut room, 0..2, SLOW);
        room.end(&sent[0], Answered::Badly, Some(at(60)), at(0));
        assert_eq!((room.paused_until(SLOW), room.paused_until(GOOD)), (Some(at(60)), None));
        room.end(&sent[1], Answered::Badly, Some(at(86_400)), at(10));
        assert_eq!(room.paused_until(SLOW), Some(at(10).plus(SERVICE_PAUSE_MAX)));
        let over = at(11).plus(SERVICE_PAUSE_MAX);
        assert_eq!((room.in_line(Some(SLOW), at(11)), room.in_line(Some(SLOW), over)), (0, 4));
    }

    /// Anybody may name a server that takes a message and never says so: of as many of those as there are, with as many browsers
    /// as they like, the ones that answer keep three quarters of the room.
    #[test]
    fn however_many_push_services_stall_those_that_answer_have_room() {
        let mut room = Room::new(Bounds { in_flight_max: 256, of_target_max: 16, drain: Duration::ZERO });
        answers_well(&mut room, GOOD);
        let name = |n: usize| format!("https://{n}.example");
        let stalled: Vec<WorkId> =
            (0..9u8).flat_map(|n| fill(&mut room, 20 * n..20 * (n + 1), &name(n.into()))).collect();
        assert_eq!((stalled.len(), fill(&mut room, 200..201, GOOD).len()), (32, 1));
        // They fail by and by, and each of them that has not failed often enough is asked again, and no more at once.
        for work in &stalled {
            room.end(work, Answered::Badly, None, at(0));
            room.let_go(work.target);
        }
        let begun: usize = (0..200).map(|n| fill(&mut room, n..n + 1, &name(n.into())).len()).sum();
        assert_eq!((begun, fill(&mut room, 201..255, GOOD).len()), (32, 47), "half of what the others leave");
        assert_eq!(
            fill(&mut room, 200..201, "https://new").len(),
            0,
            "one that nobody knows waits until one of them has failed"
        );
    }

    #[test]
    fn services_of_which_nothing_is_to_be_remembered_are_forgotten() {
        let mut room = room();
        for n in 0..3 * SERVICES_MIN as u64 {
            let work = work(browser(1), n);
            room.begin(work, Some(&format!("https://{n}.example")));
            room.end(&work, Answered::Badly, None, at(0));
            room.let_go(work.target);
        }
        assert!(room.services.len() < SERVICES_MIN, "{}", room.services.len());
        assert!(room.of_target.is_empty() && room.service_of.is_empty());
    }
}
