//! A webhook as it is sent: its body, the same at every attempt, and its headers, signed anew at each (Standard Webhooks 1.0).

use std::time::Duration;

use standardwebhooks::Webhook;

use crate::contract::{FrameBody, ThinBody, text};
use crate::control::{Endpoint, EndpointId, PayloadKind, SecretsKey};
use crate::deliveries::Due;
use crate::deliveries::outcome::{Cause, What};
use crate::journal::LogId;
use crate::payment::Timestamp;
use crate::projection::Entry;

/// Before work is looked at again that this process cannot do as it was started.
const STARTED_WRONG_PAUSE: Duration = Duration::from_secs(10 * 60);
const MOMENT: Duration = Duration::from_secs(1);

/// One message, and who it says it is.
pub(super) struct Message {
    /// The same over all attempts, resendings and endpoints: a receiver that has seen it has seen it all.
    pub id: String,
    pub body: String,
}

#[derive(serde::Serialize)]
struct Body<'a, D> {
    #[serde(rename = "type")]
    kind: &'a str,
    timestamp: String,
    data: D,
}

/// What is told of an event.
#[derive(serde::Serialize)]
pub(super) struct Sequenced<D> {
    /// The payment's version: 1, 2, 3, with no gap.
    pub sequence: u64,
    #[serde(flatten)]
    pub frame: D,
}

/// What is told of what is about no payment.
#[derive(serde::Serialize)]
#[serde(untagged)]
pub(super) enum NoEvent<'a> {
    Disabled(DisabledData<'a>),
    Test(TestData),
}

#[derive(serde::Serialize, utoipa::ToSchema)]
#[schema(as = WebhookTestData)]
pub(super) struct TestData {
    message: &'static str,
}

#[derive(serde::Serialize, utoipa::ToSchema)]
#[schema(as = WebhookEndpointDisabledData)]
pub(super) struct DisabledData<'a> {
    #[schema(value_type = text::EndpointId)]
    endpoint: EndpointId,
    reason: &'a str,
}

/// Why a message cannot be sent. Says nothing of a secret.
#[derive(Debug, thiserror::Error)]
pub(super) enum Unsendable {
    #[error("its body cannot be written: {0}")]
    Body(#[from] serde_json::Error),
    #[error("a secret of its endpoint cannot be opened: {0}")]
    Secret(#[from] crate::control::SealError),
    #[error("a secret of its endpoint cannot sign")]
    Sign,
    #[error("its endpoint has no secret")]
    NoSecret,
    #[error("its endpoint has no credential")]
    NoCredential,
    #[error("the rows of payments have not come to its event")]
    NotFolded,
    #[error("the rows of payments cannot be read: {0}")]
    Rows(#[from] crate::store::StoreError),
    #[error("its event is not in the rows of this instance")]
    NotThere,
    #[error("this process has no --vapid-subject (PAYLOG_VAPID_SUBJECT), without which no browser can be told")]
    NoSubject { until: Timestamp },
    #[error(
        "the browser subscribed at a process whose key for secrets is {sealed}, and this one has {ours}: give all of them the \
         same; if the key was exchanged on purpose, browsers come again by themselves"
    )]
    OtherKey { sealed: String, ours: String, until: Timestamp },
    #[error("what was sealed is no subscription")]
    Unreadable,
    #[error("it cannot be encrypted for its browser: {0}")]
    Encrypt(#[from] crate::webpush::Unencryptable),
}

impl Unsendable {
    /// When it is looked at again, of what only another start of this process can mend: seldom, and when it is of no use any
    /// more. `None`, of what may be mended in a moment.
    pub fn again_at(&self, now: Timestamp) -> Option<Timestamp> {
        match self {
            Self::NoSubject { until } | Self::OtherKey { until, .. } => {
                let (first, last) = (now.plus(MOMENT), now.plus(STARTED_WRONG_PAUSE));
                Some((*until).clamp(first, last))
            }
            _ => None,
        }
    }
}

impl Message {
    pub fn of_event(due: &Due, entry: &Entry, payload: PayloadKind, log: LogId) -> Result<Self, Unsendable> {
        let (kind, timestamp) = (entry.event.data.name(), entry.event.occurred_at.to_string());
        let sequence = entry.version.unwrap_or_default();
        let body = match payload {
            PayloadKind::Full | PayloadKind::CloudEvents => {
                let data = Sequenced { sequence, frame: FrameBody::new(entry, log) };
                serde_json::to_string(&Body { kind, timestamp, data })?
            }
            PayloadKind::Thin => {
                let data = Sequenced { sequence, frame: ThinBody::new(entry, log) };
                serde_json::to_string(&Body { kind, timestamp, data })?
            }
        };
        Ok(Self { id: due.work.message_id(&due.what), body })
    }

    /// Of what is about no payment.
    pub fn of_no_event(due: &Due) -> Result<Self, Unsendable> {
        let (kind, timestamp) = (due.what.name(), asked_at(due).to_string());
        let body = serde_json::to_string(&Body { kind, timestamp, data: told_of_no_event(&due.what) })?;
        Ok(Self { id: due.work.message_id(&due.what), body })
    }

    /// Everything in `webhook-signature`: one signature of each secret that signs `now`.
    pub fn signatures(&self, endpoint: &Endpoint, key: &SecretsKey, now: Timestamp) -> Result<String, Unsendable> {
        let about = endpoint.id.to_string();
        let mut signatures = Vec::new();
        for secret in endpoint.secrets.iter().filter(|secret| secret.signs_at(now)) {
            let bytes = key.open(&about, &secret.sealed)?;
            let webhook = Webhook::from_bytes(bytes).map_err(|_| Unsendable::Sign)?;
            let seconds = now.as_micros() / 1_000_000;
            signatures.push(webhook.sign(&self.id, seconds, self.body.as_bytes()).map_err(|_| Unsendable::Sign)?);
        }
        if signatures.is_empty() { Err(Unsendable::NoSecret) } else { Ok(signatures.join(" ")) }
    }
}

/// The same however often it is told.
pub(super) fn asked_at(due: &Due) -> Timestamp {
    match due.work.cause {
        Cause::Asked(request) => request.minted_at(),
        Cause::Live => due.at,
    }
}

pub(super) fn told_of_no_event(what: &What) -> NoEvent<'_> {
    match what {
        What::Disabled { endpoint, reason } => NoEvent::Disabled(DisabledData { endpoint: *endpoint, reason }),
        What::Test | What::Event { .. } => {
            NoEvent::Test(TestData { message: "a test of this endpoint: no payment has changed" })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Message, Unsendable};
    use crate::control::{
        Endpoint, EndpointId, EndpointKind, EndpointSecret, EndpointState, PayloadKind, RequestId, SecretsKey,
    };
    use crate::deliveries::Due;
    use crate::deliveries::outcome::{Cause, What, WorkId};
    use crate::journal::{Offset, Partition};
    use crate::payment::samples::at;

    fn endpoint(key: &SecretsKey, secrets: &[(&[u8], Option<i64>)]) -> Endpoint {
        let id = EndpointId([1; 16]);
        let sealed = |(secret, until): &(&[u8], Option<i64>)| EndpointSecret {
            sealed: key.seal(&id.to_string(), secret).unwrap(),
            until: until.map(|until| at(until).to_string()),
        };
        Endpoint {
            id,
            merchant_id: "default".to_owned(),
            url: String::new(),
            events: None,
            ordered: false,
            payload: PayloadKind::Full,
            state: EndpointState::Enabled,
            reason: None,
            from: Vec::new(),
            secrets: secrets.iter().map(sealed).collect(),
            created_at: String::new(),
            enabled_at: String::new(),
            kind: EndpointKind::Webhook,
            credential: None,
        }
    }

    /// The vector of the specification's own libraries.
    #[test]
    fn a_known_answer_is_signed_as_the_standard_says() {
        let key = SecretsKey::parse(&SecretsKey::generate()).unwrap();
        let secret = data_encoding::BASE64.decode(b"C2FVsBQIhrscChlQIMV+b5sSYspob7oD").unwrap();
        let message = Message {
            id: "msg_27UH4WbU6Z5A5EzD8u03UvzRbpk".to_owned(),
            body: r#"{"email":"test@example.com","username":"test_user"}"#.to_owned(),
        };
        let now = crate::payment::Timestamp::from_micros(1_649_367_553_000_000).unwrap();
        let signed = message.signatures(&endpoint(&key, &[(&secret, None)]), &key, now).unwrap();
        assert_eq!(signed, "v1,tZ1I4/hDygAJgO5TYxiSd6Sd0kDW6hPenDe+bTa3Kkw=");
    }

    /// Retried hours later, it is the same.
    #[test]
    fn a_test_says_when_it_was_asked_for() {
        let request = RequestId::parse("wr_0197a4c0000070008000000000000000").unwrap();
        let work = WorkId {
            target: EndpointId([1; 16]).into(),
            partition: Partition(0),
            offset: Offset(0),
            cause: Cause::Asked(request),
        };
        let message = |at, attempts| Message::of_no_event(&Due { work, what: What::Test, at, attempts }).unwrap();
        assert_eq!(message(at(0), 0).body, message(at(9), 3).body);
        assert!(
            message(at(0), 0).body.contains(r#""timestamp":"2025-06-25T01:42:15.808"#),
            "{}",
            message(at(0), 0).body
        );
    }

    #[test]
    fn every_secret_that_is_live_signs_and_no_other() {
        let key = SecretsKey::parse(&SecretsKey::generate()).unwrap();
        let rotated = endpoint(&key, &[(&[1; 32], None), (&[2; 32], Some(60))]);
        let message = Message { id: "msg_1".to_owned(), body: "{}".to_owned() };
        let count = |seconds| message.signatures(&rotated, &key, at(seconds)).unwrap().split(' ').count();
        assert_eq!((count(0), count(59), count(60)), (2, 2, 1));
        let none = message.signatures(&endpoint(&key, &[(&[2; 32], Some(0))]), &key, at(1));
        assert!(matches!(none, Err(Unsendable::NoSecret)));
        let other = SecretsKey::parse(&SecretsKey::generate()).unwrap();
        assert!(matches!(message.signatures(&rotated, &other, at(0)), Err(Unsendable::Secret(_))));
    }

    #[test]
    fn what_this_process_cannot_send_as_it_was_started_is_looked_at_seldom_and_when_it_is_of_no_use() {
        let again = |until| Unsendable::NoSubject { until: at(until) }.again_at(at(100));
        assert_eq!((again(86_400), again(130), again(50)), (Some(at(700)), Some(at(130)), Some(at(101))));
        let other = Unsendable::OtherKey { sealed: "a".to_owned(), ours: "b".to_owned(), until: at(86_400) };
        assert_eq!((other.again_at(at(0)), Unsendable::NotFolded.again_at(at(0))), (Some(at(600)), None));
        let said = other.to_string();
        assert!(said.contains("secrets is a") && said.contains("has b"), "{said}");
    }
}
