//! A server that is told of payments, written for the tests: it keeps what it was sent, verifies it with a library that is not
//! ours, and answers as it is told.

use std::collections::HashMap;

use serde_json::Value;
use standardwebhooks::Webhook;

pub use crate::answering::Says;
use crate::answering::{Answering, Came};
use crate::described::hold_webhook;

/// One webhook, as it came.
#[derive(Clone, Debug)]
pub struct Received {
    pub headers: HashMap<String, String>,
    pub raw: String,
    pub body: Value,
    pub at: std::time::Instant,
}

impl Received {
    pub fn id(&self) -> &str {
        self.headers.get("webhook-id").map_or("", String::as_str)
    }

    /// Looked at by the test, and not while its sender waits for the answer.
    fn held(&self) -> &Value {
        hold_webhook(&self.body);
        &self.body
    }

    pub fn kind(&self) -> &str {
        self.held()["type"].as_str().unwrap_or_default()
    }

    pub fn payment(&self) -> &str {
        self.held()["data"]["payment"]["id"].as_str().unwrap_or_default()
    }

    pub fn sequence(&self) -> u64 {
        self.body["data"]["sequence"].as_u64().unwrap_or_default()
    }

    /// By the library of the standard.
    pub fn is_signed_with(&self, secret: &str) -> bool {
        let mut headers = http::HeaderMap::new();
        for name in ["webhook-id", "webhook-timestamp", "webhook-signature"] {
            let value = self.headers.get(name).unwrap_or_else(|| panic!("no {name} in {:?}", self.headers));
            headers.insert(name, value.parse().unwrap());
        }
        Webhook::new(secret).unwrap().verify(self.raw.as_bytes(), &headers).is_ok()
    }
}

pub type Receiver = Answering<Received>;

impl From<Came> for Received {
    fn from(came: Came) -> Self {
        let raw = String::from_utf8(came.body).unwrap();
        let body = serde_json::from_str(&raw).unwrap();
        Self { headers: came.headers, raw, body, at: came.at }
    }
}

impl Receiver {
    /// Takes everything.
    pub async fn start() -> Self {
        Self::saying(|_, _| Says::status(204)).await
    }

    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}/hook", self.port)
    }

    /// How many different ones have come.
    pub fn messages(&self) -> usize {
        self.received().iter().map(Received::id).collect::<std::collections::HashSet<_>>().len()
    }
}
