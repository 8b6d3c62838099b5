//! What went wrong, told to a client: RFC 9457 with a stable `code`.

use std::convert::Infallible;
use std::time::Duration;

use warp::http::header::{CACHE_CONTROL, CONTENT_TYPE, RETRY_AFTER};
use warp::http::{HeaderName, HeaderValue, StatusCode};
use warp::reject::{
    InvalidHeader, InvalidQuery, LengthRequired, MethodNotAllowed, MissingHeader, PayloadTooLarge, Rejection,
    UnsupportedMediaType,
};
use warp::reply::{Reply, Response};

/// An answer of `application/problem+json`. `code` is for programs and never changes; `detail` is for people and repeats
/// nothing that was sent.
#[derive(Clone, Debug)]
pub struct Problem {
    status: StatusCode,
    code: &'static str,
    detail: String,
    members: Vec<(&'static str, String)>,
    headers: Vec<(HeaderName, HeaderValue)>,
}

/// As it is written. `type` is `about:blank`, whose title has to be that of the status (RFC 9457, 4.2.1): the difference
/// between two problems is their `code`.
#[derive(serde::Serialize, utoipa::ToSchema)]
#[schema(as = Problem)]
pub struct ProblemBody<'a> {
    /// `about:blank`: the difference between two problems is their `code`.
    #[serde(rename = "type")]
    kind: &'static str,
    title: &'a str,
    status: u16,
    /// For people; it may change, and repeats nothing that was sent.
    detail: &'a str,
    /// For programs; it never changes.
    code: &'static str,
    #[serde(flatten)]
    #[schema(value_type = MembersBody)]
    members: Members<'a>,
}

/// What some problems say besides.
#[derive(utoipa::ToSchema)]
#[schema(as = ProblemMembers)]
#[expect(dead_code, reason = "a description of what `Members` writes")]
struct MembersBody {
    /// What is wrong in the body.
    field: Option<String>,
    /// Where the payment is now, in digits.
    version: Option<String>,
    /// What it waits for now.
    phase: Option<String>,
}

struct Members<'a>(&'a [(&'static str, String)]);

impl Problem {
    pub fn new(status: StatusCode, code: &'static str, detail: impl Into<String>) -> Self {
        Self { status, code, detail: detail.into(), members: Vec::new(), headers: Vec::new() }
    }

    /// Whoever calls has logged why: the client is told nothing of our inside.
    #[must_use]
    pub fn internal() -> Self {
        Self::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            "internal_error",
            "paylog could not do this; the reason is in its log",
        )
    }

    /// Says which methods there are, as RFC 9110 15.5.6 demands.
    #[must_use]
    pub fn method_not_allowed(allow: &'static str) -> Self {
        Self::new(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", format!("this resource knows {allow}"))
            .header(HeaderName::from_static("allow"), HeaderValue::from_static(allow))
    }

    /// One more member beside the standard ones.
    #[must_use]
    pub fn member(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.members.push((name, value.into()));
        self
    }

    #[must_use]
    pub fn header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.headers.push((name, value));
        self
    }

    #[must_use]
    pub fn status(&self) -> StatusCode {
        self.status
    }

    #[must_use]
    pub fn code(&self) -> &'static str {
        self.code
    }

    #[must_use]
    pub fn detail(&self) -> &str {
        &self.detail
    }

    /// As it is written, for where an answer is no HTTP response.
    #[must_use]
    pub fn body(&self) -> ProblemBody<'_> {
        ProblemBody {
            kind: "about:blank",
            title: self.status.canonical_reason().unwrap_or("Error"),
            status: self.status.as_u16(),
            detail: &self.detail,
            code: self.code,
            members: Members(&self.members),
        }
    }

    /// When to try again, in whole seconds, at least one.
    #[must_use]
    pub fn retry_after(self, wait: Duration) -> Self {
        self.header(RETRY_AFTER, HeaderValue::from(wait.as_secs().max(1)))
    }
}

impl serde::Serialize for Members<'_> {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().map(|(name, value)| (name, value)))
    }
}

impl Reply for Problem {
    fn into_response(self) -> Response {
        let mut response = warp::reply::json(&self.body()).into_response();
        *response.status_mut() = self.status;
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        headers.extend(self.headers);
        response
    }
}

/// What warp itself rejects. Handlers never reject: they answer.
pub async fn recover(rejection: Rejection) -> Result<Response, Infallible> {
    Ok(problem_of(&rejection).into_response())
}

fn problem_of(rejection: &Rejection) -> Problem {
    let problem = |status, code, detail: &str| Problem::new(status, code, detail);
    if rejection.is_not_found() {
        return problem(StatusCode::NOT_FOUND, "not_found", "there is no such resource");
    }
    if rejection.find::<MethodNotAllowed>().is_some() {
        return problem(
            StatusCode::METHOD_NOT_ALLOWED,
            "method_not_allowed",
            "this resource does not know that method",
        );
    }
    if rejection.find::<PayloadTooLarge>().is_some() {
        return problem(StatusCode::PAYLOAD_TOO_LARGE, "body_too_large", "the body is too large");
    }
    if rejection.find::<UnsupportedMediaType>().is_some() {
        let detail = "the body must be of another type";
        return problem(StatusCode::UNSUPPORTED_MEDIA_TYPE, "unsupported_media_type", detail);
    }
    let asked_wrongly = rejection.find::<InvalidQuery>().is_some()
        || rejection.find::<InvalidHeader>().is_some()
        || rejection.find::<MissingHeader>().is_some()
        || rejection.find::<LengthRequired>().is_some();
    if asked_wrongly {
        return problem(StatusCode::BAD_REQUEST, "bad_request", "a header or the query is missing or malformed");
    }
    tracing::error!(?rejection, "a rejection that nothing expects");
    Problem::internal()
}
