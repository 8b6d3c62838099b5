//! The API as a client sees it. Every answer becomes an operation of the history: done, certainly not done, or nobody knows.

use std::sync::OnceLock;
use std::time::Duration;

use paylog::checker::{Answer, Body, Kind, Operation, Outcome, Place};
use paylog::payment::Timestamp;
use reqwest::{RequestBuilder, Response};
use serde_json::Value;

use crate::sse::place;

/// A client that has waited this long gives up, and does not know.
const PATIENCE: Duration = Duration::from_secs(15);
const CONNECT_MAX: Duration = Duration::from_secs(2);
pub const MERCHANT: &str = "default";
/// The refusals after which it is certain that nothing was recorded, besides those of 4xx.
const CERTAIN: [&str; 2] = ["not_appended", "halted"];

/// The instances of the API.
pub struct Api {
    http: reqwest::Client,
    pub urls: Vec<String>,
    /// The first part of every position, once it is known.
    log8: OnceLock<String>,
}

/// What was asked for, before the answer.
struct Asked {
    client: String,
    instance: usize,
    kind: Kind,
    key: Option<String>,
    body: Option<Body>,
    payment_id: Option<String>,
    at_least: Option<Place>,
}

impl Api {
    pub fn new(urls: Vec<String>) -> anyhow::Result<Self> {
        let http = reqwest::Client::builder().timeout(PATIENCE).connect_timeout(CONNECT_MAX).build()?;
        Ok(Self { http, urls, log8: OnceLock::new() })
    }

    pub fn name(instance: usize) -> String {
        format!("api-{}", instance + 1)
    }

    /// Asks for a payment. Answers with what the client may follow afterwards, too.
    pub async fn pay(&self, client: &str, instance: usize, key: &str, body: &Body) -> Operation {
        let request = self.http.post(format!("{}/v1/payments", self.urls[instance]));
        let request = request.header("idempotency-key", key).json(body);
        let (client, key, body) = (client.to_owned(), Some(key.to_owned()), Some(body.clone()));
        let asked = Asked { client, instance, kind: Kind::Pay, key, body, payment_id: None, at_least: None };
        asked.send(request, &self.log8).await
    }

    /// Reads a payment; `at_least` is the text of a position, as an answer gave it.
    pub async fn get(&self, client: &str, instance: usize, id: &str, at_least: Option<&str>) -> Operation {
        let query = at_least.map(|position| format!("?at_least={position}")).unwrap_or_default();
        let request = self.http.get(format!("{}/v1/payments/{id}{query}", self.urls[instance]));
        let (payment_id, at_least) = (Some(id.to_owned()), at_least.and_then(place));
        let (client, key, body) = (client.to_owned(), None, None);
        Asked { client, instance, kind: Kind::Get, key, body, payment_id, at_least }.send(request, &self.log8).await
    }

    pub async fn history(&self, client: &str, instance: usize, id: &str) -> Operation {
        let request = self.http.get(format!("{}/v1/payments/{id}/events", self.urls[instance]));
        let (client, payment_id) = (client.to_owned(), Some(id.to_owned()));
        let (key, body, at_least) = (None, None, None);
        Asked { client, instance, kind: Kind::History, key, body, payment_id, at_least }.send(request, &self.log8).await
    }

    /// A stream, and the connection it goes over, which is nobody else's.
    pub async fn stream(&self, instance: usize, query: &str, last_event_id: Option<&str>) -> reqwest::Result<Response> {
        let http = reqwest::Client::builder().connect_timeout(CONNECT_MAX).read_timeout(PATIENCE * 2).build()?;
        let mut request = http.get(format!("{}/v1/stream?{query}", self.urls[instance]));
        if let Some(id) = last_event_id {
            request = request.header("last-event-id", id);
        }
        request.send().await
    }

    /// The text of a position.
    pub fn position(&self, place: Place) -> Option<String> {
        self.log8.get().map(|log8| format!("{log8}.{}.{}", place.partition, place.offset))
    }

    pub async fn ready(&self, instance: usize) -> bool {
        let answer = self.http.get(format!("{}/readyz", self.urls[instance])).send().await;
        answer.is_ok_and(|answer| answer.status().is_success())
    }
}

impl Asked {
    async fn send(self, request: RequestBuilder, log8: &OnceLock<String>) -> Operation {
        let invoked_at = Timestamp::now();
        let outcome = match read(request).await {
            Ok((status, position, body)) => {
                if let Some((first, _)) = position.as_deref().and_then(|position| position.split_once('.')) {
                    log8.get_or_init(|| first.to_owned());
                }
                self.outcome(status, position.as_deref(), &body)
            }
            Err(error) => Outcome::Indeterminate { reason: error.without_url().to_string() },
        };
        let Self { client, instance, kind, key, body, payment_id, at_least } = self;
        let (instance, merchant) = (Api::name(instance), MERCHANT.to_owned());
        let completed_at = Timestamp::now();
        Operation {
            client,
            instance,
            kind,
            merchant,
            key,
            body,
            payment_id,
            at_least,
            invoked_at,
            completed_at,
            outcome,
        }
    }

    fn outcome(&self, status: u16, position: Option<&str>, body: &Value) -> Outcome {
        let code = body["code"].as_str().unwrap_or_default().to_owned();
        match status {
            200..300 => Outcome::Ok(Box::new(self.answer(status, position, body))),
            400..500 if !code.is_empty() => Outcome::Fail { status, code },
            _ if CERTAIN.contains(&code.as_str()) => Outcome::Fail { status, code },
            _ => Outcome::Indeterminate { reason: format!("{status} {code}") },
        }
    }

    fn answer(&self, status: u16, position: Option<&str>, body: &Value) -> Answer {
        let text = |name: &str| body[name].as_str().map(str::to_owned);
        let listed = body["data"].as_array().map_or(&[][..], Vec::as_slice);
        let event = |event: &Value| Some((event["version"].as_u64()?, event["type"].as_str()?.to_owned()));
        Answer {
            status,
            payment_id: text("id").or_else(|| self.payment_id.clone()).unwrap_or_default(),
            confirmed: body["confirmed"] != Value::Bool(false),
            replayed: false,
            request_id: text("request_id").filter(|_| self.kind == Kind::Pay),
            appended_at: position.filter(|_| self.kind == Kind::Pay).and_then(place),
            version: body["version"].as_u64(),
            payment_status: text("status"),
            events: listed.iter().filter_map(event).collect(),
        }
    }
}

async fn read(request: RequestBuilder) -> reqwest::Result<(u16, Option<String>, Value)> {
    let response = request.send().await?;
    let position = response.headers().get("paylog-position").and_then(|value| value.to_str().ok()).map(str::to_owned);
    let status = response.status().as_u16();
    let bytes = response.bytes().await?;
    Ok((status, position, serde_json::from_slice(&bytes).unwrap_or_default()))
}
