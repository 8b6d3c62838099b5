//! What is answered, in Stripe's shapes, and in which manner: an answer may be late, broken or absent.

use std::time::Duration;

use serde_json::{Value, json};

use super::fault::Fault;
use super::intent::Decline;

#[derive(Clone, Debug, PartialEq)]
pub struct Answer {
    pub status: u16,
    pub body: Value,
    pub retry_after: Option<Duration>,
    /// The stored answer to an earlier request with this key.
    pub replayed: bool,
    pub manner: Manner,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Manner {
    Whole,
    After(Duration),
    Never,
    /// The connection ends in the middle.
    Broken,
    Truncated,
    WrongJson,
    NotUtf8,
    Huge,
    Redirect,
}

impl Manner {
    /// How a fault of the way back shows.
    #[must_use]
    pub fn of(fault: Fault) -> Self {
        match fault {
            Fault::Silent | Fault::ChargedThenSilent | Fault::Stall => Self::Never,
            Fault::Reset => Self::Broken,
            Fault::Truncated => Self::Truncated,
            Fault::WrongJson => Self::WrongJson,
            Fault::NotUtf8 => Self::NotUtf8,
            Fault::Huge => Self::Huge,
            Fault::Redirect => Self::Redirect,
            _ => Self::Whole,
        }
    }
}

impl Answer {
    #[must_use]
    pub fn new(status: u16, body: Value) -> Self {
        Self { status, body, retry_after: None, replayed: false, manner: Manner::Whole }
    }

    #[must_use]
    pub fn in_manner(self, manner: Manner) -> Self {
        Self { manner, ..self }
    }

    fn error(status: u16, kind: &str, code: &str, message: &str) -> Self {
        Self::new(status, json!({"error": {"type": kind, "code": code, "message": message}}))
    }

    /// A parameter is wrong: nothing was begun, and nothing is stored.
    #[must_use]
    pub fn invalid(code: &str, parameter: &str, message: &str) -> Self {
        let mut answer = Self::error(400, "invalid_request_error", code, message);
        answer.body["error"]["param"] = parameter.into();
        answer
    }

    #[must_use]
    pub fn missing(id: &str) -> Self {
        Self::error(404, "invalid_request_error", "resource_missing", &format!("No such payment_intent: '{id}'"))
    }

    #[must_use]
    pub fn unauthorized() -> Self {
        let message = "Invalid API key: give one that begins with sk_ as a bearer token.";
        Self::new(401, json!({"error": {"type": "invalid_request_error", "message": message}}))
    }

    #[must_use]
    pub fn declined(decline: &Decline, intent: Value) -> Self {
        let mut error = decline.body();
        error["payment_intent"] = intent;
        Self::new(402, json!({ "error": error }))
    }

    /// The key was used for something else.
    #[must_use]
    pub fn another_request() -> Self {
        let message =
            "Keys for idempotent requests can only be used with the same parameters they were first used with.";
        Self::new(400, json!({"error": {"type": "idempotency_error", "message": message}}))
    }

    #[must_use]
    pub fn in_progress() -> Self {
        let message = "There is currently another in-progress request using this Idempotency Key.";
        Self::error(409, "idempotency_error", "idempotency_key_in_use", message)
    }

    #[must_use]
    pub fn rate_limited() -> Self {
        let answer = Self::error(429, "invalid_request_error", "rate_limit", "Too many requests.");
        Self { retry_after: Some(Duration::from_secs(1)), ..answer }
    }

    #[must_use]
    pub fn unavailable() -> Self {
        Self::new(503, json!({"error": {"type": "api_error", "message": "The service is unavailable."}}))
    }

    #[must_use]
    pub fn failed() -> Self {
        Self::new(500, json!({"error": {"type": "api_error", "message": "An unknown error occurred."}}))
    }

    /// Nothing is told, or nothing that may be followed.
    #[must_use]
    pub fn nothing(manner: Manner) -> Self {
        let status = if manner == Manner::Redirect { 302 } else { 200 };
        Self::new(status, Value::Null).in_manner(manner)
    }
}
