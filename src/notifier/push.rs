//! A browser told by Web Push (RFC 8030): how its payment ended, encrypted for it alone; and what becomes of its subscription.

use std::sync::Arc;
use std::time::Duration;

use reqwest::StatusCode;
use tokio_util::sync::CancellationToken;

use super::attempt::{APPEND_PAUSE, Attempts, DECIDE_PATIENCE, Sent};
use super::client::{Answer, Post};
use super::message::Unsendable;
use super::schedule::Disable;
use crate::contract::PushBody;
use crate::control::{
    Decided, KnownSubscription, PushRemoval, PushScope, SealError, SecretsKey, SubscriptionId, TargetId,
};
use crate::deliveries::Due;
use crate::deliveries::outcome::Failure;
use crate::payment::{PaymentId, Timestamp};
use crate::telemetry::Seldom;
use crate::webpush::{BASE64, Subject, Subscription, VapidKey, encrypt};

/// Somebody waits for it.
const URGENCY: &str = "high";
/// The longest that a topic may be is 32 characters (RFC 8030, 5.4), which these are.
const TOPIC_BYTES: usize = 24;

static REFUSED: Seldom = Seldom::new();

/// Who we are to push services.
pub(super) struct Push {
    pub key: VapidKey,
    /// `None` if this process was not told: then it tells no browser.
    pub subject: Option<Subject>,
    /// How long after an event a browser may be told of it.
    pub ttl: Duration,
}

impl Attempts {
    pub async fn push(&self, due: &Due, known: &KnownSubscription, at: Timestamp) -> Result<Sent, Unsendable> {
        let (id, sealed) = (known.subscription.id, &known.subscription.sealed);
        let entry = self.entry(due)?;
        let until = entry.event.occurred_at.plus(self.push.ttl);
        let is_ours = sealed.key_id == self.key.id();
        if until <= at {
            let failure = if is_ours { Failure::Expired } else { Failure::OtherKey };
            return Ok(Sent { answer: Answer::without(failure), until: Some(until) });
        }
        // Whoever was started in a wrong way can be started in the right one until then: nobody is given up for it.
        if !is_ours {
            return Err(Unsendable::OtherKey { sealed: sealed.key_id.clone(), ours: self.key.id().to_owned(), until });
        }
        let subject = self.push.subject.as_ref().ok_or(Unsendable::NoSubject { until })?;
        let browser =
            Subscription::of_secret(&self.key.open(&id.to_string(), sealed)?).ok_or(Unsendable::Unreadable)?;
        let message = serde_json::to_string(&PushBody::new(&entry, due.work.message_id(&due.what)))?;
        let body = encrypt(&browser, &message)?;
        let url = browser.endpoint();
        let authorization = self.push.key.authorization(url, subject, at).ok_or(Unsendable::Sign)?;
        let (ttl_s, topic) = (until.since(at).as_secs().to_string(), topic(&self.key, id, entry.event.payment_id)?);
        let headers = [
            ("authorization", authorization.as_str()),
            ("content-encoding", "aes128gcm"),
            ("content-type", "application/octet-stream"),
            ("ttl", &ttl_s),
            ("topic", &topic),
            ("urgency", URGENCY),
        ];
        let answer = self.means.posts.post(Post { url, headers: &headers, body, judge }).await;
        if answer.status.is_some_and(|status| (400..404).contains(&status)) && REFUSED.now() {
            let (service, status) = (&known.subscription.service, answer.status);
            tracing::warn!(service, status, %subject, "a push service refuses what it is sent: does it take this subject?");
        }
        Ok(Sent { answer, until: Some(until) })
    }

    /// Once at a time for each, and no attempt waits for it.
    pub fn begin_to_remove(
        self: &Arc<Self>,
        known: Arc<KnownSubscription>,
        why: PushRemoval,
        stop: &CancellationToken,
    ) {
        let (attempts, stop) = (Arc::clone(self), stop.clone());
        self.means.executor.spawn(Box::pin(async move { attempts.remove_once(&known, why, &stop).await }));
    }

    pub async fn remove_once(&self, known: &KnownSubscription, why: PushRemoval, stop: &CancellationToken) {
        let id = TargetId::from(known.subscription.id);
        if self.deciding().insert(id) {
            self.remove(known, why, stop).await;
            self.deciding().remove(&id);
        }
    }

    /// Until it is decided, or the stop. What was created anew meanwhile is another.
    async fn remove(&self, known: &KnownSubscription, why: PushRemoval, stop: &CancellationToken) {
        let id = known.subscription.id;
        loop {
            match self.control.unsubscribe(known, why, self.clocks.machine(), DECIDE_PATIENCE).await {
                Ok(Decided::Effective(()) | Decided::Late) => {
                    tracing::debug!(subscription = %id, why = why.name(), "a push subscription is over");
                    return;
                }
                Ok(Decided::Unconfirmed) => {} // as it is now, or will be, it is looked at again
                Err(error) => tracing::warn!(subscription = %id, %error, "a push subscription could not be ended yet"),
            }
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(APPEND_PAUSE) => {}
            }
        }
    }
}

/// Is the subscription over with this?
pub(super) fn removal(known: &KnownSubscription, is_over: bool, disable: Option<Disable>) -> Option<PushRemoval> {
    match disable {
        Some(Disable::Gone) => Some(PushRemoval::Gone),
        // Of one that hears something once a week, one bad day and a single failure of today are five days of nothing but
        // failure. What is not given up may still be told.
        Some(Disable::Failing) if is_over => Some(PushRemoval::Failing),
        _ => {
            let ends = is_over && matches!(known.subscription.scope, PushScope::Payment(_));
            ends.then_some(PushRemoval::Told)
        }
    }
}

/// A later message about the payment takes the place of one that the browser has not got yet. Push services see it, and come to
/// know nothing by it: not which payment it is, nor that two browsers hear of one.
fn topic(key: &SecretsKey, browser: SubscriptionId, payment: PaymentId) -> Result<String, SealError> {
    let derived = key.derive(&format!("paylog/push-topic/1/{browser}/{payment}"))?;
    Ok(BASE64.encode(&derived[..TOPIC_BYTES]))
}

/// What a push service's answer means (RFC 8030, 5 and 7.3).
fn judge(status: StatusCode) -> Option<Failure> {
    match status {
        status if status.is_success() => None,
        StatusCode::NOT_FOUND | StatusCode::GONE => Some(Failure::Gone),
        StatusCode::PAYLOAD_TOO_LARGE => Some(Failure::TooLarge),
        // Of who we say that we are, or of our clock: somebody may set it right before it is of no use.
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => Some(Failure::Status),
        StatusCode::TOO_MANY_REQUESTS | StatusCode::REQUEST_TIMEOUT => Some(Failure::Status),
        status if status.is_client_error() => Some(Failure::Refused),
        status if status.is_redirection() => Some(Failure::Redirect),
        _ => Some(Failure::Status),
    }
}

#[cfg(test)]
mod tests {
    use reqwest::StatusCode;

    use super::{judge, removal, topic};
    use crate::control::{
        KnownSubscription, NewSubscription, PushFrom, PushRemoval, PushScope, SecretsKey, SubscriptionId,
    };
    use crate::deliveries::outcome::Failure;
    use crate::journal::Offset;
    use crate::notifier::schedule::Disable;
    use crate::payment::samples::{at, payment_id};
    use crate::payment::{CustomerId, MerchantId};

    #[test]
    fn who_does_nothing_but_fail_is_over_when_it_could_not_be_told_and_not_while_it_may_be() {
        let known = |scope| {
            let sealed = serde_json::from_str(r#"{"key_id":"01020304","sealed":"AAAA"}"#).unwrap();
            let (id, service) = (SubscriptionId([1; 16]), "https://push.example".to_owned());
            let (merchant, from) = (MerchantId::default(), PushFrom::One(Offset(0)));
            let subscription = NewSubscription { id, merchant, scope, from, service, sealed, lease: None };
            KnownSubscription {
                subscription,
                created_at: at(0),
                version: 1,
                control_offset: Offset(0),
                since: Offset(0),
            }
        };
        let customer = known(PushScope::Customer(CustomerId::parse("cus_1").unwrap()));
        let payment = known(PushScope::Payment(payment_id("a")));
        for (known, is_over, disable, expected) in [
            (&customer, false, Some(Disable::Failing), None),
            (&customer, true, Some(Disable::Failing), Some(PushRemoval::Failing)),
            (&customer, true, None, None),
            (&customer, true, Some(Disable::Gone), Some(PushRemoval::Gone)),
            (&payment, false, Some(Disable::Failing), None),
            (&payment, true, None, Some(PushRemoval::Told)),
        ] {
            assert_eq!(removal(known, is_over, disable), expected, "{is_over} {disable:?}");
        }
    }

    #[test]
    fn a_push_services_answer_means_what_the_standard_says() {
        for (status, means) in [
            (200, None),
            (201, None),
            (202, None),
            (204, None),
            (302, Some(Failure::Redirect)),
            (400, Some(Failure::Refused)),
            (401, Some(Failure::Status)),
            (402, Some(Failure::Refused)),
            (403, Some(Failure::Status)),
            (404, Some(Failure::Gone)),
            (408, Some(Failure::Status)),
            (410, Some(Failure::Gone)),
            (413, Some(Failure::TooLarge)),
            (429, Some(Failure::Status)),
            (500, Some(Failure::Status)),
            (503, Some(Failure::Status)),
        ] {
            assert_eq!(judge(StatusCode::from_u16(status).unwrap()), means, "{status}");
        }
    }

    #[test]
    fn a_payment_has_one_topic_for_a_browser_and_it_says_nothing_of_it() {
        let key = SecretsKey::parse(&SecretsKey::generate()).unwrap();
        let of = |browser, payment| topic(&key, SubscriptionId([browser; 16]), payment_id(payment)).unwrap();
        let one = of(1, "a");
        assert!(one.len() == 32 && one == of(1, "a") && one != of(1, "b") && one != of(2, "a"));
        assert!(one.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_'), "{one}");
    }
}
