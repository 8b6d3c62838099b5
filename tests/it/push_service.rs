//! A push service, and the browsers behind it, written for the tests: it takes what RFC 8030 lets a server send, verifies the
//! VAPID token with a library that is not the one that signed it, decrypts with the browser's own key by Mozilla's library, and
//! answers as it is told.

use std::collections::HashMap;
use std::time::Duration;

use data_encoding::BASE64URL_NOPAD as BASE64;
use ece::EcKeyComponents;
use p256::ecdsa::signature::Verifier;
use p256::ecdsa::{Signature, VerifyingKey};
use serde_json::{Value, json};

pub use crate::answering::Says;
use crate::answering::{Answering, Came};

/// A browser that has subscribed: what it gives to a page, and what it keeps for itself.
#[derive(Clone)]
pub struct Browser {
    pub endpoint: String,
    keys: EcKeyComponents,
    auth: Vec<u8>,
}

/// One message, as it came.
#[derive(Clone, Debug)]
pub struct Pushed {
    pub path: String,
    pub headers: HashMap<String, String>,
    pub body: Vec<u8>,
    pub at: std::time::Instant,
}

impl Browser {
    pub fn subscribed_at(endpoint: String) -> Self {
        let (key, auth) = ece::generate_keypair_and_auth_secret().unwrap();
        Self { endpoint, keys: key.raw_components().unwrap(), auth: auth.to_vec() }
    }

    /// `PushSubscription.toJSON()`, and what it is for.
    pub fn asks(&self, more: Value) -> Value {
        let mut asked = json!({
            "endpoint": self.endpoint,
            "expirationTime": null,
            "keys": {"p256dh": BASE64.encode(self.keys.public_key()), "auth": BASE64.encode(&self.auth)},
        });
        asked.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        asked
    }

    /// What the service worker is given.
    pub fn reads(&self, pushed: &Pushed) -> Value {
        let plain = ece::decrypt(&self.keys, &self.auth, &pushed.body).unwrap();
        serde_json::from_slice(&plain).unwrap()
    }

    pub fn cannot_read(&self, pushed: &Pushed) -> bool {
        ece::decrypt(&self.keys, &self.auth, &pushed.body).is_err()
    }

    /// Its messages among these.
    pub fn mine(&self, pushed: &[Pushed]) -> Vec<Pushed> {
        pushed.iter().filter(|one| self.endpoint.ends_with(&one.path)).cloned().collect()
    }
}

impl Pushed {
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", String::as_str)
    }

    /// The claims of its VAPID token, whose signature is by the key that it names, which must be `public`.
    pub fn claims(&self, public: &str) -> Value {
        let (token, key) = self.header("authorization").strip_prefix("vapid t=").unwrap().split_once(",k=").unwrap();
        assert_eq!(key, public);
        let (signed, signature) = token.rsplit_once('.').unwrap();
        let signature = Signature::from_slice(&BASE64.decode(signature.as_bytes()).unwrap()).unwrap();
        let verifying = VerifyingKey::from_sec1_bytes(&BASE64.decode(key.as_bytes()).unwrap()).unwrap();
        verifying.verify(signed.as_bytes(), &signature).unwrap();
        let part = |text: &str| -> Value { serde_json::from_slice(&BASE64.decode(text.as_bytes()).unwrap()).unwrap() };
        let (header, claims) = signed.split_once('.').unwrap();
        assert_eq!(part(header)["alg"], "ES256");
        part(claims)
    }
}

pub type PushService = Answering<Pushed>;

impl From<Came> for Pushed {
    fn from(came: Came) -> Self {
        Self { path: came.path, headers: came.headers, body: came.body, at: came.at }
    }
}

impl PushService {
    /// Takes everything.
    pub async fn start() -> Self {
        Self::saying(|_, _| Says::status(201)).await
    }

    /// Takes everything, and never says so.
    pub async fn stalling() -> Self {
        Self::saying(|_, _| Says { after: Duration::from_secs(600), ..Says::status(201) }).await
    }

    pub fn origin(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// A browser of this service.
    pub fn browser(&self) -> Browser {
        Browser::subscribed_at(format!("{}/send/{}", self.origin(), uuid::Uuid::new_v4().simple()))
    }

    pub fn pushed(&self) -> Vec<Pushed> {
        self.received()
    }
}

/// For a wait in whole seconds.
pub fn at_least(pushed: &[Pushed], n: usize, wait: Duration) -> bool {
    pushed[n].at - pushed[n - 1].at >= wait
}
