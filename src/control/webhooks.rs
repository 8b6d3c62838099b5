//! Endpoints on the control log, webhooks and others ([`EndpointKind`]), and what was asked of them once: resend, recover, test.
//!
//! ```json
//! {"type": "WebhookEndpointCreated", "entity": "webhook-endpoint/we_...", "version": 1, "log": "<log>", "state": "enabled",
//!  "url": "https://...", "events": ["PaymentSuccessful"], "ordered": false, "payload": "full", "from": [0, 7], ...}
//! {"type": "WebhookRecoveryRequested", "entity": "webhook-request/wr_...", "version": 1, "log": "<log>",
//!  "endpoint": "we_...", "recover": {"ranges": [{"partition": 0, "from": 0, "to": 5}]}, "at": "..."}
//! ```
//!
//! Every version of an endpoint is the whole of it. `from` is where the log ended when it was created, or enabled again: what
//! stands before is not for it, so that nobody who folds this anew floods anyone.

use std::collections::BTreeMap;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

use rand::RngCore;

use super::ids::{EndpointId, RequestId};
use super::kinds::{EndpointKind, PayloadKind};
use super::requests::Requests;
use super::seal::{SealError, Sealed, SecretsKey};
use super::telling::Document;
use super::{Control, Decided};
use crate::journal::{AppendError, LogId, Offset, Partition, Position};
use crate::payment::{MerchantId, Timestamp};

/// Endpoints of one merchant that are not deleted.
pub const ENDPOINTS_MAX: usize = 100;

const ENDPOINT: &str = "webhook-endpoint/";
const REQUEST: &str = "webhook-request/";

/// What a secret of an endpoint begins with, as it is given out.
const SECRET_PREFIX: &str = "whsec_";
/// Between the 24 and 64 that Standard Webhooks asks for.
const SECRET_BYTES: usize = 32;

/// What has become of an endpoint. On the control log by these names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    Created,
    Rotated,
    Enabled,
    Disabled,
    Deleted,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EndpointState {
    Enabled,
    Disabled,
    Deleted,
}

/// Somebody who is told of payments, at a URL.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Endpoint {
    pub id: EndpointId,
    pub merchant_id: String,
    pub url: String,
    /// Names of events; `None` for all there are and will be.
    pub events: Option<Vec<String>>,
    /// Is the next event of a payment sent only when the one before has been delivered, or given up?
    pub ordered: bool,
    pub payload: PayloadKind,
    pub state: EndpointState,
    /// Why it is disabled, for people and programs: `operator`, `gone`, `failing`.
    pub reason: Option<String>,
    /// By partition: what stands before is not for it.
    pub from: Vec<u64>,
    /// Every secret that was ever given out and not yet let go; the newest first.
    pub secrets: Vec<EndpointSecret>,
    pub created_at: String,
    pub enabled_at: String,
    /// What stands without it is a webhook.
    #[serde(default, skip_serializing_if = "EndpointKind::is_webhook")]
    pub kind: EndpointKind,
    /// What opens its service to us; of a webhook `None`, which has secrets.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub credential: Option<Sealed>,
}

#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct EndpointSecret {
    #[serde(flatten)]
    pub sealed: Sealed,
    /// Signs until then; for ever if it is `null`.
    pub until: Option<String>,
}

/// An endpoint as it is now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KnownEndpoint {
    pub endpoint: Endpoint,
    pub version: u64,
    /// Where on the control log it was enabled last.
    pub enabled_offset: Offset,
    /// Where each version stands.
    offsets: BTreeMap<u64, Offset>,
}

/// What was asked of an endpoint, once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    pub id: RequestId,
    pub endpoint: EndpointId,
    pub asks: Asks,
    pub control_offset: Offset,
}

#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Asks {
    /// Send this event of a payment, delivered or not.
    Resend { partition: u32, offset: u64, payment_id: String, version: u64 },
    /// Send whatever of these ranges was not delivered.
    Recover { ranges: Vec<Range> },
    /// Send something that says it is a test.
    Test,
    /// Say that another endpoint of the same merchant is disabled, and why.
    Disabled { disabled: EndpointId, reason: String },
}

/// `from <= offset < to` of one partition of the log of payments.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize, utoipa::ToSchema)]
pub struct Range {
    pub partition: u32,
    pub from: u64,
    pub to: u64,
}

/// Everything about webhooks that stands on the control log.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KnownWebhooks {
    pub endpoints: BTreeMap<EndpointId, Arc<KnownEndpoint>>,
    pub requests: Requests,
}

#[derive(serde::Serialize, serde::Deserialize)]
struct RequestBody {
    endpoint: EndpointId,
    #[serde(flatten)]
    asks: Asks,
}

impl Change {
    fn kind(self) -> &'static str {
        match self {
            Self::Created => "WebhookEndpointCreated",
            Self::Rotated => "WebhookEndpointRotated",
            Self::Enabled => "WebhookEndpointEnabled",
            Self::Disabled => "WebhookEndpointDisabled",
            Self::Deleted => "WebhookEndpointDeleted",
        }
    }

    fn of(kind: &str) -> Option<Self> {
        [Self::Created, Self::Rotated, Self::Enabled, Self::Disabled, Self::Deleted]
            .into_iter()
            .find(|change| change.kind() == kind)
    }
}

impl Asks {
    fn kind(&self) -> &'static str {
        match self {
            Self::Resend { .. } => "WebhookResendRequested",
            Self::Recover { .. } => "WebhookRecoveryRequested",
            Self::Test => "WebhookTestRequested",
            Self::Disabled { .. } => "WebhookNoticeRequested",
        }
    }
}

impl Endpoint {
    #[must_use]
    pub fn is_enabled(&self) -> bool {
        self.state == EndpointState::Enabled
    }

    /// Does it want to hear of events of this name?
    #[must_use]
    pub fn wants(&self, merchant: &MerchantId, event: &str) -> bool {
        let named = self.events.as_ref().is_none_or(|names| names.iter().any(|name| name == event));
        named && self.merchant_id == merchant.as_str()
    }

    #[must_use]
    pub fn from_of(&self, partition: Partition) -> Offset {
        Offset(self.from.get(partition.0 as usize).copied().unwrap_or_default())
    }
}

impl EndpointSecret {
    /// A new one, and its text, which is given out once.
    pub fn mint(endpoint: EndpointId, key: &SecretsKey) -> Result<(Self, String), SealError> {
        let mut bytes = [0; SECRET_BYTES];
        rand::rng().fill_bytes(&mut bytes);
        let sealed = key.seal(&endpoint.to_string(), &bytes)?;
        Ok((Self { sealed, until: None }, format!("{SECRET_PREFIX}{}", data_encoding::BASE64.encode(&bytes))))
    }

    #[must_use]
    pub fn signs_at(&self, now: Timestamp) -> bool {
        self.until.as_deref().is_none_or(|until| Timestamp::parse(until).is_some_and(|until| now < until))
    }
}

impl KnownWebhooks {
    /// Is this a type of ours?
    pub(super) fn knows(kind: &str) -> bool {
        let requests =
            ["WebhookResendRequested", "WebhookRecoveryRequested", "WebhookTestRequested", "WebhookNoticeRequested"];
        Change::of(kind).is_some() || requests.contains(&kind)
    }

    /// Folds a document whose version is the next of its entity. `false` if it is about another log.
    pub(super) fn fold(&mut self, log: LogId, offset: Offset, kind: &str, value: &[u8]) -> Result<bool, String> {
        match Change::of(kind) {
            Some(change) => self.fold_endpoint(log, offset, change, value),
            None => self.fold_request(log, offset, value),
        }
    }

    fn fold_endpoint(&mut self, log: LogId, offset: Offset, change: Change, value: &[u8]) -> Result<bool, String> {
        let Some(document) = Document::<Endpoint>::read(log, value)? else { return Ok(false) };
        let (endpoint, version) = (document.body, document.version);
        if document.entity != format!("{ENDPOINT}{}", endpoint.id) {
            return Err("it names one endpoint as its entity and tells of another".to_owned());
        }
        let before = self.endpoints.get(&endpoint.id);
        let mut offsets = before.map(|known| known.offsets.clone()).unwrap_or_default();
        offsets.insert(version, offset);
        let enables = matches!(change, Change::Created | Change::Enabled);
        let enabled_offset = before.filter(|_| !enables).map_or(offset, |known| known.enabled_offset);
        let known = KnownEndpoint { endpoint, version, enabled_offset, offsets };
        if change != Change::Rotated {
            self.requests.let_go(known.endpoint.id); // it was asked of what it was before
        }
        self.endpoints.insert(known.endpoint.id, Arc::new(known));
        Ok(true)
    }

    fn fold_request(&mut self, log: LogId, offset: Offset, value: &[u8]) -> Result<bool, String> {
        let Some(document) = Document::<RequestBody>::read(log, value)? else { return Ok(false) };
        let id = document.entity.strip_prefix(REQUEST).and_then(RequestId::parse);
        let id = id.ok_or_else(|| "its entity is no request about webhooks".to_owned())?;
        let RequestBody { endpoint, asks } = document.body;
        let request = Request { id, endpoint, asks, control_offset: offset };
        if self.is_open(&request) {
            self.requests.push(request);
        }
        Ok(true)
    }

    /// Is it still to be heeded? Only by an endpoint that is enabled, and was when it was asked.
    #[must_use]
    pub fn is_open(&self, request: &Request) -> bool {
        self.endpoints
            .get(&request.endpoint)
            .is_some_and(|known| known.endpoint.is_enabled() && known.enabled_offset < request.control_offset)
    }
}

// === for those who follow ===

/// What is known of webhooks, for those who deliver. Cheap to clone; all clones are one.
#[derive(Clone, Default)]
pub struct Webhooks(Arc<Board>);

#[derive(Default)]
struct Board {
    known: Mutex<(u64, Arc<KnownWebhooks>)>,
    changed: Condvar,
}

impl Webhooks {
    #[must_use]
    pub fn known(&self) -> Arc<KnownWebhooks> {
        self.changes().1
    }

    /// How often it has changed, and what it is now.
    #[must_use]
    pub fn changes(&self) -> (u64, Arc<KnownWebhooks>) {
        self.0.known.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Waits for another change than `seen`, for `wait` at most.
    pub fn wait(&self, seen: u64, wait: Duration) {
        let known = self.0.known.lock().unwrap_or_else(PoisonError::into_inner);
        drop(self.0.changed.wait_timeout_while(known, wait, |(changes, _)| *changes == seen));
    }

    pub(super) fn tell(&self, known: Arc<KnownWebhooks>) {
        let mut board = self.0.known.lock().unwrap_or_else(PoisonError::into_inner);
        *board = (board.0 + 1, known);
        drop(board);
        self.0.changed.notify_all();
    }
}

// === for those who decide ===

impl Control {
    #[must_use]
    pub fn webhooks(&self) -> Webhooks {
        self.shared.webhooks.clone()
    }

    /// Makes `endpoint` version `version` of itself.
    pub async fn change_endpoint(
        &self,
        change: Change,
        endpoint: Endpoint,
        version: u64,
        at: Timestamp,
        patience: Duration,
    ) -> Result<Decided<Arc<KnownEndpoint>>, AppendError> {
        let (id, entity) = (endpoint.id, format!("{ENDPOINT}{}", endpoint.id));
        let value = self.document(change.kind(), &entity, version, at, endpoint)?;
        let Some(offset) = self.decide(entity, value, patience).await? else { return Ok(Decided::Unconfirmed) };
        let known = self.webhooks().known().endpoints.get(&id).cloned();
        let mine = known.filter(|known| known.offsets.get(&version) == Some(&offset));
        Ok(mine.map_or(Decided::Late, Decided::Effective))
    }

    /// Asks something of an endpoint.
    pub async fn ask_of_endpoint(
        &self,
        endpoint: EndpointId,
        asks: Asks,
        at: Timestamp,
        patience: Duration,
    ) -> Result<RequestId, AppendError> {
        let id = RequestId::mint();
        let entity = format!("{REQUEST}{id}");
        let value = self.document(asks.kind(), &entity, 1, at, RequestBody { endpoint, asks })?;
        self.decide(entity, value, patience).await?;
        Ok(id)
    }
}

impl Range {
    #[must_use]
    pub fn has(&self, position: Position) -> bool {
        self.partition == position.partition.0 && (self.from..self.to).contains(&position.offset.0)
    }
}

#[cfg(test)]
#[path = "webhooks_tests.rs"]
mod tests;
