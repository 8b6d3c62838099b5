//! One POST to somebody's server, of whom nothing is believed: it goes to no address but one that was checked, follows no
//! redirect, knows no proxy, reads only so much of an answer, and waits only so long.

use std::error::Error as StdError;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use reqwest::header::RETRY_AFTER;
use reqwest::{Response, StatusCode, Url};

use super::names::Names;
use crate::deliveries::outcome::Failure;
use crate::deliveries::target;
use crate::payment::Timestamp;

/// For a connection to be there, TLS and all.
const CONNECT_MAX: Duration = Duration::from_secs(5);
/// How long an idle connection is kept: each is an open file.
const IDLE_MAX: Duration = Duration::from_secs(10);
/// Of an answer no more than this is read; what it says is nobody's to know.
const ANSWER_BYTES_MAX: usize = 16 * 1024;
/// And no longer than this.
const DRAIN_MAX: Duration = Duration::from_secs(1);

pub(super) struct Client {
    http: reqwest::Client,
    checked: Arc<Checked>,
    timeout: Duration,
    allow_private: bool,
}

/// What is sent.
pub struct Post<'a> {
    pub url: &'a str,
    pub headers: &'a [(&'static str, &'a str)],
    pub body: Vec<u8>,
    /// What an answer means; `None` if it was taken.
    pub judge: fn(StatusCode) -> Option<Failure>,
}

/// What came of it.
#[derive(Clone, Copy, Debug)]
pub struct Answer {
    pub took: Duration,
    pub status: Option<u16>,
    pub retry_after: Option<Duration>,
    /// `None` if it was taken.
    pub failure: Option<Failure>,
}

impl Answer {
    /// Nothing was sent, and for this reason nothing will be.
    pub fn without(failure: Failure) -> Self {
        Self { took: Duration::ZERO, status: None, retry_after: None, failure: Some(failure) }
    }
}

/// Resolves a name, and gives out its addresses only if every one of them may be told. The connection goes to one of them, and
/// the name is not asked about again.
struct Checked {
    names: Arc<Names>,
    allow_private: bool,
}

#[derive(Debug, thiserror::Error)]
#[error("the name leads to an address that only a private network knows")]
struct NotAllowed;

#[derive(Debug, thiserror::Error)]
#[error("the name could not be resolved")]
struct NotResolved;

impl Resolve for Checked {
    fn resolve(&self, name: Name) -> Resolving {
        let (names, allow_private) = (Arc::clone(&self.names), self.allow_private);
        Box::pin(async move {
            let found = checked(&names, allow_private, name.as_str()).await;
            let addresses = found.map_err(|failure| match failure {
                Failure::AddressNotAllowed => Box::<dyn StdError + Send + Sync>::from(NotAllowed),
                _ => NotResolved.into(),
            })?;
            Ok(Box::new(addresses.into_iter()) as Addrs)
        })
    }
}

async fn checked(names: &Names, allow_private: bool, name: &str) -> Result<Vec<SocketAddr>, Failure> {
    let addresses = names.addresses(name).await.map_err(|_| Failure::Dns)?;
    if addresses.is_empty() {
        return Err(Failure::Dns);
    }
    let closed = |address: &SocketAddr| !target::is_public(address.ip());
    if !allow_private && addresses.iter().any(closed) {
        return Err(Failure::AddressNotAllowed);
    }
    Ok(addresses)
}

impl Client {
    /// Keeps `idle_max` idle connections to one endpoint: as many as send to it at once, for of those that are not kept each is
    /// made anew, TLS and all.
    pub fn new(timeout: Duration, allow_private: bool, idle_max: usize) -> anyhow::Result<Self> {
        let checked = Arc::new(Checked { names: Arc::new(Names::new()), allow_private });
        let http = reqwest::Client::builder()
            .user_agent(concat!("paylog-webhooks/", env!("CARGO_PKG_VERSION")))
            .dns_resolver(Arc::clone(&checked))
            .connect_timeout(CONNECT_MAX.min(timeout))
            .redirect(reqwest::redirect::Policy::none())
            .retry(reqwest::retry::never())
            .referer(false)
            .https_only(!allow_private)
            .no_proxy()
            .pool_max_idle_per_host(idle_max)
            .pool_idle_timeout(IDLE_MAX)
            .http1_only()
            .build()
            .context("cannot set up the HTTP client of webhooks")?;
        Ok(Self { http, checked, timeout, allow_private })
    }

    /// How long somebody may take for an answer.
    pub fn timeout(&self) -> Duration {
        self.timeout
    }

    pub fn allows_private(&self) -> bool {
        self.allow_private
    }

    /// The addresses of a host, name or literal, if every one of them may be told: whoever connects goes to one of these.
    pub async fn addresses(&self, host: &str) -> Result<Vec<SocketAddr>, Failure> {
        checked(&self.checked.names, self.allow_private, host).await
    }

    pub async fn send(&self, post: Post<'_>) -> Answer {
        let (began, judge) = (Instant::now(), post.judge);
        let answered = tokio::time::timeout(self.timeout, self.exchange(post)).await;
        let took = began.elapsed();
        let failed = |failure| Answer { took, status: None, retry_after: None, failure: Some(failure) };
        let response = match answered {
            Ok(Ok(response)) => response,
            Ok(Err(failure)) => return failed(failure),
            Err(_) => return failed(Failure::Timeout),
        };
        let (status, retry_after) = (response.status(), retry_after(&response));
        // Read, so that the connection can be used again. What it says, or whether it ends, changes nothing any more.
        drop(tokio::time::timeout(DRAIN_MAX, drain(response)).await);
        Answer { took, status: Some(status.as_u16()), retry_after, failure: judge(status) }
    }

    /// The head of the answer.
    async fn exchange(&self, post: Post<'_>) -> Result<Response, Failure> {
        // An address in the URL is not resolved, and so not checked by the resolver. What was taken in under other rules, or
        // by another version, is judged again.
        let url = target::parse(post.url, self.allow_private).map_err(|_| refusal(post.url))?;
        let headers = post.headers.iter();
        let request = headers.fold(self.http.post(url), |request, (name, value)| request.header(*name, *value));
        let request = request.body(post.body);
        request.send().await.map_err(|error| failure_of(&error))
    }
}

fn refusal(url: &str) -> Failure {
    let literal = Url::parse(url).ok().and_then(|url| target::literal(&url));
    let closed = literal.is_some_and(|address: IpAddr| !target::is_public(address));
    if closed { Failure::AddressNotAllowed } else { Failure::NotSendable }
}

/// What a webhook's answer means.
pub(super) fn judge_webhook(status: StatusCode) -> Option<Failure> {
    match status {
        StatusCode::GONE => Some(Failure::Gone),
        status if status.is_success() => None,
        status if status.is_redirection() => Some(Failure::Redirect),
        _ => Some(Failure::Status),
    }
}

/// Of the two answers that mean it for whoever sends: of others it says when to look for something else (RFC 9110, 10.2.3).
fn retry_after(response: &Response) -> Option<Duration> {
    if !matches!(response.status(), StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE) {
        return None;
    }
    patience(response.headers().get(RETRY_AFTER)?.to_str().ok()?, Timestamp::now())
}

/// In seconds, or until a time.
fn patience(text: &str, now: Timestamp) -> Option<Duration> {
    if let Ok(seconds) = text.trim().parse() {
        return Some(Duration::from_secs(seconds));
    }
    let at = jiff::fmt::rfc2822::parse(text.trim()).ok()?.timestamp();
    Timestamp::from_micros(at.as_microsecond()).map(|at| at.since(now))
}

async fn drain(mut response: Response) {
    let mut read = 0;
    while let Ok(Some(piece)) = response.chunk().await {
        read += piece.len();
        if read > ANSWER_BYTES_MAX {
            return;
        }
    }
}

fn failure_of(error: &reqwest::Error) -> Failure {
    let mut cause: Option<&(dyn StdError + 'static)> = Some(error);
    let mut tls = false;
    while let Some(e) = cause {
        if e.is::<NotAllowed>() {
            return Failure::AddressNotAllowed;
        }
        if e.is::<NotResolved>() {
            return Failure::Dns;
        }
        tls |= e.to_string().to_ascii_lowercase().contains("ssl") || e.to_string().contains("certificate");
        cause = e.source();
    }
    match error {
        error if error.is_timeout() => Failure::Timeout,
        error if error.is_connect() && tls => Failure::Tls,
        error if error.is_connect() => Failure::Connect,
        error if error.is_builder() => Failure::NotSendable,
        _ => Failure::Broken,
    }
}

#[cfg(test)]
#[path = "client_tests.rs"]
mod tests;
