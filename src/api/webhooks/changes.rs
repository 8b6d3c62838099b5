//! Endpoints made, rotated, disabled, enabled and deleted.

use std::sync::Arc;
use std::time::Duration;

use bytes::Buf;
use futures_util::Stream;
use warp::http::{HeaderMap, StatusCode};
use warp::reply::{Reply, Response};

use super::{WebhookApi, body, not_recorded};
use crate::api::json;
use crate::contract::{EndpointBody, text};
use crate::control::{
    Change, Decided, ENDPOINTS_MAX, Endpoint, EndpointId, EndpointKind, EndpointSecret, EndpointState, KnownEndpoint,
    SecretsKey,
};
use crate::deliveries::Standing;
use crate::http::Problem;
use crate::payment::Timestamp;

/// Secrets of one endpoint that sign at once: rotating more often than they end is refused.
const SECRETS_MAX: usize = 10;

/// It is on the control log, and this instance has not folded it yet.
#[derive(serde::Serialize, utoipa::ToSchema)]
#[schema(as = UnconfirmedWebhookEndpoint)]
pub(in crate::api) struct UnconfirmedBody<'a> {
    #[schema(value_type = text::EndpointId)]
    id: EndpointId,
    confirmed: bool,
    /// Given out once.
    #[serde(skip_serializing_if = "Option::is_none")]
    secret: Option<&'a str>,
}

pub(super) async fn create<S, B>(webhooks: &WebhookApi, headers: &HeaderMap, body: S) -> Result<Response, Problem>
where
    S: Stream<Item = Result<B, warp::Error>>,
    B: Buf,
{
    let merchant = webhooks.merchant(headers)?;
    let asked = webhooks.document(headers, body).await?;
    let new = body::new_endpoint(&asked, webhooks.allow_private)?;
    if new.kind == EndpointKind::EventHubs {
        webhooks.hub_hosts.hub(&new.url)?;
    }
    let key = key(webhooks)?;
    if webhooks.mine(&merchant).len() >= ENDPOINTS_MAX {
        let detail = format!("there are {ENDPOINTS_MAX} webhook endpoints already: delete one first");
        return Err(Problem::new(StatusCode::CONFLICT, "too_many_webhook_endpoints", detail));
    }
    let (id, at) = (EndpointId::mint(), now(webhooks));
    let mut endpoint = Endpoint {
        id,
        merchant_id: merchant.as_str().to_owned(),
        url: new.url,
        events: new.events,
        ordered: new.ordered,
        payload: new.payload,
        state: EndpointState::Enabled,
        reason: None,
        from: webhooks.ends().await?,
        secrets: Vec::new(),
        created_at: at.to_string(),
        enabled_at: at.to_string(),
        kind: new.kind,
        credential: None,
    };
    let secret = match &new.credential {
        Some(credential) => endpoint.set_credential(credential, key).map(|()| None),
        None => EndpointSecret::mint(id, key).map(|(secret, text)| {
            endpoint.secrets.push(secret);
            Some(text)
        }),
    };
    let secret = secret.map_err(|_| Problem::internal())?;
    let decided = decide(webhooks, Change::Created, endpoint, 1).await?;
    Ok(answer(StatusCode::CREATED, &decided, secret.as_deref()))
}

/// The new secret signs at once, those before for as long as they are told to. A credential takes the place of the one before.
pub(super) async fn rotate(webhooks: &WebhookApi, known: &KnownEndpoint, asked: &[u8]) -> Result<Response, Problem> {
    if known.endpoint.kind != EndpointKind::Webhook {
        return exchange(webhooks, known, asked).await;
    }
    let overlap = Duration::from_secs(body::overlap(asked)?);
    let (key, now) = (key(webhooks)?, now(webhooks));
    let mut endpoint = known.endpoint.clone();
    endpoint.secrets.retain(|secret| secret.signs_at(now));
    let until = now.plus(overlap);
    for secret in &mut endpoint.secrets {
        let ends = secret.until.as_deref().and_then(Timestamp::parse);
        secret.until = Some(ends.map_or(until, |ends| ends.min(until)).to_string());
    }
    if overlap.is_zero() {
        endpoint.secrets.clear();
    }
    if endpoint.secrets.len() >= SECRETS_MAX {
        let detail =
            format!("{SECRETS_MAX} secrets sign already: wait until one of them ends, or give overlap_seconds 0");
        return Err(Problem::new(StatusCode::CONFLICT, "too_many_secrets", detail));
    }
    let (secret, text) = EndpointSecret::mint(endpoint.id, key).map_err(|_| Problem::internal())?;
    endpoint.secrets.insert(0, secret);
    let decided = decide(webhooks, Change::Rotated, endpoint, known.version + 1).await?;
    Ok(answer(StatusCode::OK, &decided, Some(&text)))
}

async fn exchange(webhooks: &WebhookApi, known: &KnownEndpoint, asked: &[u8]) -> Result<Response, Problem> {
    let credential = body::credential(asked, known.endpoint.kind, &known.endpoint.url)?;
    let key = key(webhooks)?;
    let mut endpoint = known.endpoint.clone();
    endpoint.set_credential(&credential, key).map_err(|_| Problem::internal())?;
    let decided = decide(webhooks, Change::Rotated, endpoint, known.version + 1).await?;
    Ok(answer(StatusCode::OK, &decided, None))
}

pub(super) async fn disable(webhooks: &WebhookApi, known: &KnownEndpoint, asked: &[u8]) -> Result<Response, Problem> {
    body::nothing(asked)?;
    if !known.endpoint.is_enabled() {
        return Ok(json(StatusCode::OK, &webhooks.body(known, false)?));
    }
    let mut endpoint = known.endpoint.clone();
    (endpoint.state, endpoint.reason) = (EndpointState::Disabled, Some("operator".to_owned()));
    let decided = decide(webhooks, Change::Disabled, endpoint, known.version + 1).await?;
    Ok(answer(StatusCode::OK, &decided, None))
}

/// It is told of what happens from now on; of what happened meanwhile only if somebody asks (`recover`).
pub(super) async fn enable(webhooks: &WebhookApi, known: &KnownEndpoint, asked: &[u8]) -> Result<Response, Problem> {
    body::nothing(asked)?;
    if known.endpoint.is_enabled() {
        return Ok(json(StatusCode::OK, &webhooks.body(known, false)?));
    }
    let mut endpoint = known.endpoint.clone();
    (endpoint.state, endpoint.reason) = (EndpointState::Enabled, None);
    endpoint.from = webhooks.ends().await?;
    endpoint.enabled_at = now(webhooks).to_string();
    let decided = decide(webhooks, Change::Enabled, endpoint, known.version + 1).await?;
    Ok(answer(StatusCode::OK, &decided, None))
}

/// Its secrets go with it.
pub(super) async fn delete(webhooks: &WebhookApi, headers: &HeaderMap, id: &str) -> Result<Response, Problem> {
    let known = webhooks.find(&webhooks.merchant(headers)?, id)?;
    let mut endpoint = known.endpoint.clone();
    endpoint.state = EndpointState::Deleted;
    endpoint.secrets.clear();
    endpoint.credential = None;
    decide(webhooks, Change::Deleted, endpoint, known.version + 1).await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

/// What became of a change.
enum Changed {
    Done(Arc<KnownEndpoint>),
    Unconfirmed(EndpointId),
}

async fn decide(webhooks: &WebhookApi, change: Change, endpoint: Endpoint, version: u64) -> Result<Changed, Problem> {
    let (id, at, patience) = (endpoint.id, now(webhooks), webhooks.api.config.confirm_wait);
    let decided = webhooks.control.change_endpoint(change, endpoint, version, at, patience).await;
    match decided.map_err(|error| not_recorded(&error))? {
        Decided::Effective(known) => Ok(Changed::Done(known)),
        Decided::Unconfirmed => Ok(Changed::Unconfirmed(id)),
        Decided::Late => {
            let detail = "somebody else has changed the endpoint at the same time: look at it, then repeat";
            Err(Problem::new(StatusCode::CONFLICT, "changed_meanwhile", detail))
        }
    }
}

fn answer(status: StatusCode, changed: &Changed, secret: Option<&str>) -> Response {
    match changed {
        Changed::Done(known) => {
            let body = EndpointBody::new(known, &Standing::default(), None, Timestamp::MAX);
            match secret {
                Some(secret) => json(status, &body.with_secret(secret)),
                None => json(status, &body),
            }
        }
        Changed::Unconfirmed(id) => {
            let body = UnconfirmedBody { id: *id, confirmed: false, secret };
            json(StatusCode::ACCEPTED, &body)
        }
    }
}

fn key(webhooks: &WebhookApi) -> Result<&SecretsKey, Problem> {
    webhooks.key.as_ref().ok_or_else(|| {
        let detail = "this instance has no key to keep secrets with: start it with PAYLOG_SECRETS_KEY or \
                      --secrets-key-file, the same at every instance and notifier";
        Problem::new(StatusCode::SERVICE_UNAVAILABLE, "no_secrets_key", detail)
    })
}

fn now(webhooks: &WebhookApi) -> Timestamp {
    webhooks.api.view.clocks().machine()
}
