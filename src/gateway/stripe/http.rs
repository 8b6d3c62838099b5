//! One request and one answer, and which of three things became of it: answered, certainly not sent, or lost. It follows no
//! redirect, unpacks nothing, repeats nothing, reads only so much, and waits only so long.
//!
//! hyper takes a request to another connection when the one from the pool turns out to be closed, but only while it has not
//! begun to write it: what is handed back to it was never taken from its queue (`proto/h1/dispatch.rs`, `recv_msg`). A byte
//! that was written is never written again; `a_request_that_was_begun_is_never_repeated` holds it to that.

use std::error::Error as _;
use std::time::Duration;

use anyhow::Context;
use reqwest::header::{AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, RETRY_AFTER};
use reqwest::{RequestBuilder, Response, Url};

use super::request::STRIPE_VERSION;

/// For a connection to be there, TLS and all: until then nothing has been sent.
const CONNECT_MAX: Duration = Duration::from_secs(5);
/// Idle connections that are kept, and for how long: shorter than the 60 s after which most servers close them.
const IDLE_CONNECTIONS_MAX: usize = 64;
const IDLE_MAX: Duration = Duration::from_secs(30);
/// An answer about one intent. Real ones have some 3 KiB.
pub(super) const ANSWER_BYTES_MAX: usize = 64 * 1024;
/// A page of a hundred intents.
pub(super) const PAGE_BYTES_MAX: usize = 1024 * 1024;
/// Whoever wants us to come back later than this is asked earlier all the same.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(60 * 60);

/// Never shown, never logged.
#[derive(Clone)]
pub struct SecretKey(String);

pub(super) struct Http {
    client: reqwest::Client,
    base: String,
    /// For the whole of one request.
    deadline: Duration,
}

/// An answer that came whole.
#[derive(Debug, Default)]
pub(super) struct Answered {
    pub(super) status: u16,
    pub(super) retry_after: Option<Duration>,
    pub(super) body: Vec<u8>,
}

/// Why there is no answer.
#[derive(Debug)]
pub(super) enum NoAnswer {
    /// No byte of the request has left.
    NotSent(String),
    Lost(String),
}

impl SecretKey {
    /// Only what can stand in a header.
    pub fn parse(text: &str) -> anyhow::Result<Self> {
        let text = text.trim();
        let good = !text.is_empty() && text.bytes().all(|b| b.is_ascii_graphic());
        anyhow::ensure!(good, "the gateway's secret key must be visible ASCII characters");
        Ok(Self(text.to_owned()))
    }

    /// Takes real money.
    pub(crate) fn is_live(&self) -> bool {
        self.0.starts_with("sk_live_") || self.0.starts_with("rk_live_")
    }
}

impl std::fmt::Debug for SecretKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SecretKey(..)")
    }
}

impl Http {
    pub(super) fn new(base: &Url, key: &SecretKey, deadline: Duration) -> anyhow::Result<Self> {
        let mut authorization = HeaderValue::from_str(&format!("Bearer {}", key.0)).context("the secret key")?;
        authorization.set_sensitive(true);
        let version = HeaderValue::from_static(STRIPE_VERSION);
        let headers = [(AUTHORIZATION, authorization), (HeaderName::from_static("stripe-version"), version)];
        let mut builder = reqwest::Client::builder()
            .default_headers(HeaderMap::from_iter(headers))
            .user_agent(concat!("paylog/", env!("CARGO_PKG_VERSION")))
            .connect_timeout(CONNECT_MAX.min(deadline / 2))
            .redirect(reqwest::redirect::Policy::none())
            .retry(reqwest::retry::never())
            .referer(false)
            .pool_max_idle_per_host(IDLE_CONNECTIONS_MAX)
            .pool_idle_timeout(IDLE_MAX)
            .http1_only();
        if base.scheme() == "http" {
            // A proxy on the way of a request in the clear would read it, and might repeat it; through TLS it can do neither.
            builder = builder.no_proxy();
        }
        let client = builder.build().context("cannot set up the gateway's HTTP client")?;
        Ok(Self { client, base: base.as_str().trim_end_matches('/').to_owned(), deadline })
    }

    pub(super) async fn post(&self, path: &str, key: &str, body: String) -> Result<Answered, NoAnswer> {
        let request = self.client.post(format!("{}{path}", self.base)).header("idempotency-key", key);
        let request = request.header(CONTENT_TYPE, "application/x-www-form-urlencoded").body(body);
        self.exchange(request, ANSWER_BYTES_MAX).await
    }

    pub(super) async fn get(&self, path: &str, bytes_max: usize) -> Result<Answered, NoAnswer> {
        self.exchange(self.client.get(format!("{}{path}", self.base)), bytes_max).await
    }

    async fn exchange(&self, request: RequestBuilder, bytes_max: usize) -> Result<Answered, NoAnswer> {
        let answer = async {
            let response = request.send().await.map_err(|error| no_answer(&error))?;
            read(response, bytes_max).await
        };
        let late = |_| Err(NoAnswer::Lost(format!("the gateway did not answer within {:?}", self.deadline)));
        tokio::time::timeout(self.deadline, answer).await.unwrap_or_else(late)
    }
}

/// That a connection was not made is the only proof that nothing was sent.
fn no_answer(error: &reqwest::Error) -> NoAnswer {
    let reason = reason(error);
    if error.is_connect() || error.is_builder() { NoAnswer::NotSent(reason) } else { NoAnswer::Lost(reason) }
}

/// The innermost cause says most, and no cause names the address, which may hold a password.
fn reason(error: &reqwest::Error) -> String {
    let mut cause = error.source();
    while let Some(inner) = cause.and_then(|cause| cause.source()) {
        cause = Some(inner);
    }
    let what = if error.is_connect() { "cannot connect to the gateway" } else { "the gateway's answer was lost" };
    cause.map_or_else(|| what.to_owned(), |cause| format!("{what}: {cause}"))
}

async fn read(mut response: Response, bytes_max: usize) -> Result<Answered, NoAnswer> {
    let status = response.status().as_u16();
    let retry_after = response.headers().get(RETRY_AFTER).and_then(|value| value.to_str().ok()?.trim().parse().ok());
    let retry_after = retry_after.map(|seconds| Duration::from_secs(seconds).min(RETRY_AFTER_MAX));
    let mut body = Vec::new();
    while let Some(piece) = response.chunk().await.map_err(|error| NoAnswer::Lost(reason(&error)))? {
        if body.len() + piece.len() > bytes_max {
            return Err(NoAnswer::Lost(format!("an answer larger than {bytes_max} bytes")));
        }
        body.extend_from_slice(&piece);
    }
    Ok(Answered { status, retry_after, body })
}
