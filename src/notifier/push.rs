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
use crate::journal::{Offset, Partition, partition_of};
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
        if sealed.key_id != self.key.id() {
            return Ok(Sent { answer: Answer::without(Failure::OtherKey), until: None });
        }
        let subject = self.push.subject.as_ref().ok_or(Unsendable::NoSubject)?;
        let entry = self.entry(due)?;
        let until = entry.event.occurred_at.plus(self.push.ttl);
        if until <= at {
            return Ok(Sent { answer: Answer::without(Failure::Expired), until: Some(until) });
        }
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
        let answer = self.client.send(Post { url, headers: &headers, body, judge }).await;
        if answer.failure == Some(Failure::Refused) && REFUSED.now() {
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
        let (attempts, id, stop) = (Arc::clone(self), TargetId::from(known.subscription.id), stop.clone());
        if self.deciding().insert(id) {
            drop(self.runtime.spawn(async move {
                attempts.remove(&known, why, &stop).await;
                attempts.deciding().remove(&id);
            }));
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

    /// Subscriptions to payments whose end was told by somebody who stopped before they could end the subscription.
    pub fn remove_told(self: &Arc<Self>, taken: &[Partition], stop: &CancellationToken) {
        let partitions = self.view.partitions();
        for known in self.control.subscriptions().since(Offset(0), usize::MAX) {
            let PushScope::Payment(payment) = &known.subscription.scope else { continue };
            let home = partition_of(payment.to_string().as_bytes(), partitions);
            if taken.contains(&home) && self.deliveries.has_ended(known.subscription.id.into()).unwrap_or(false) {
                self.begin_to_remove(known, PushRemoval::Told, stop);
            }
        }
    }
}

/// Is the subscription over with this?
pub(super) fn removal(
    known: &KnownSubscription,
    failure: Option<Failure>,
    is_over: bool,
    disable: Option<Disable>,
) -> Option<PushRemoval> {
    match (failure, disable) {
        (Some(Failure::OtherKey), _) => Some(PushRemoval::OtherKey),
        (_, Some(Disable::Gone)) => Some(PushRemoval::Gone),
        (_, Some(Disable::Failing)) => Some(PushRemoval::Failing),
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
        StatusCode::TOO_MANY_REQUESTS | StatusCode::REQUEST_TIMEOUT => Some(Failure::Status),
        status if status.is_client_error() => Some(Failure::Refused),
        status if status.is_redirection() => Some(Failure::Redirect),
        _ => Some(Failure::Status),
    }
}

#[cfg(test)]
mod tests {
    use reqwest::StatusCode;

    use super::{judge, topic};
    use crate::control::{SecretsKey, SubscriptionId};
    use crate::deliveries::outcome::Failure;
    use crate::payment::samples::payment_id;

    #[test]
    fn a_push_services_answer_means_what_the_standard_says() {
        for (status, means) in [
            (200, None),
            (201, None),
            (202, None),
            (204, None),
            (302, Some(Failure::Redirect)),
            (400, Some(Failure::Refused)),
            (403, Some(Failure::Refused)),
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
