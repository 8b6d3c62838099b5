//! Who writes to push services: a key of ours, which a browser names when it subscribes, so that nobody else can write to it;
//! and a short-lived token that is signed with it (RFC 8292).

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use jsonwebtoken::{Algorithm, EncodingKey, Header};
use p256::SecretKey;
use p256::elliptic_curve::sec1::ToEncodedPoint;
use p256::pkcs8::EncodePrivateKey;
use reqwest::Url;

use super::BASE64;
use crate::control::SecretsKey;
use crate::payment::Timestamp;

/// Half of what is allowed, so that no clock that is off makes it too long.
const TOKEN_LIFETIME: Duration = Duration::from_secs(12 * 60 * 60);
/// One in 2^32 seeds is no key; nobody will see the second try.
const TRIES: u32 = 8;
/// For trying things out: a domain that belongs to nobody (RFC 2606).
const NOBODY: &str = "mailto:paylog@example.com";
const SUBJECT_MAX: usize = 256;

/// Signs. Made of the key for secrets, so that it is the same on every instance and after every restart, and there is nothing
/// more to be kept.
#[derive(Clone)]
pub struct VapidKey {
    signs: EncodingKey,
    public: String,
}

/// Whom a push service may turn to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subject(String);

#[derive(Debug, thiserror::Error)]
#[error("no key for Web Push can be made of the key for secrets")]
pub struct NoKey;

#[derive(serde::Serialize)]
struct Claims<'a> {
    aud: &'a str,
    exp: i64,
    sub: &'a str,
}

impl VapidKey {
    pub fn of(secrets: &SecretsKey) -> Result<Self, NoKey> {
        let derived = (0..TRIES).filter_map(|n| secrets.derive(&format!("paylog/vapid/1/{n}")).ok());
        let secret = derived.into_iter().find_map(|seed| SecretKey::from_slice(&seed).ok()).ok_or(NoKey)?;
        let signs = EncodingKey::from_ec_der(secret.to_pkcs8_der().map_err(|_| NoKey)?.as_bytes());
        let public = BASE64.encode(secret.public_key().to_encoded_point(false).as_bytes());
        Ok(Self { signs, public })
    }

    /// What a page gives to `pushManager.subscribe` as `applicationServerKey`.
    #[must_use]
    pub fn public(&self) -> &str {
        &self.public
    }

    /// `Authorization` for a message to this endpoint; `None` if it names no origin.
    #[must_use]
    pub fn authorization(&self, endpoint: &str, subject: &Subject, now: Timestamp) -> Option<String> {
        let origin = Url::parse(endpoint).ok()?.origin();
        let aud = origin.is_tuple().then(|| origin.ascii_serialization())?;
        let exp = now.plus(TOKEN_LIFETIME).as_micros() / 1_000_000;
        let claims = Claims { aud: &aud, exp, sub: &subject.0 };
        let token = jsonwebtoken::encode(&Header::new(Algorithm::ES256), &claims, &self.signs).ok()?;
        Some(format!("vapid t={token},k={}", self.public))
    }
}

impl fmt::Debug for VapidKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "VapidKey({})", self.public)
    }
}

impl Subject {
    #[must_use]
    pub fn nobody() -> Self {
        Self(NOBODY.to_owned())
    }
}

impl FromStr for Subject {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let address = |rest: &str| rest.split_once('@').is_some_and(|(who, at)| !who.is_empty() && !at.is_empty());
        let is_page = || Url::parse(text).is_ok_and(|url| url.scheme() == "https" && url.has_host());
        let plain = text.len() <= SUBJECT_MAX && text.bytes().all(|b| b.is_ascii_graphic());
        if plain && text.strip_prefix("mailto:").map_or_else(is_page, address) {
            return Ok(Self(text.to_owned()));
        }
        Err("must be mailto: and an address, or an https: URL")
    }
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use p256::ecdsa::signature::Verifier;
    use p256::ecdsa::{Signature, VerifyingKey};
    use serde_json::{Value, json};

    use super::{BASE64, Subject, VapidKey};
    use crate::control::SecretsKey;
    use crate::payment::samples::at;

    const KEY: &str = "cGF5bG9nIHRlc3Qga2V5IHBheWxvZyB0ZXN0IGtleSE=";

    fn key() -> VapidKey {
        VapidKey::of(&SecretsKey::parse(KEY).unwrap()).unwrap()
    }

    /// Browsers have subscribed with it: it never changes.
    #[test]
    fn the_key_is_always_the_same_of_the_same_key_for_secrets() {
        let golden = "BPdWDuswfGUcntvOcAMlJlCZ6MMvDrxEvtu9XKVuaxX9qwjwgsMuMwNjsweuZ9Fs941dhIJxvpdSyIAV6o4cT1A";
        assert_eq!(key().public(), golden);
        let other = SecretsKey::parse(&SecretsKey::generate()).unwrap();
        assert_ne!(VapidKey::of(&other).unwrap().public(), key().public());
    }

    #[test]
    fn a_token_says_to_whom_until_when_and_from_whom_and_is_signed() {
        let subject: Subject = "mailto:ops@shop.example".parse().unwrap();
        let header = key().authorization("https://push.example:8443/send/x?y", &subject, at(0)).unwrap();
        let (token, public) = header.strip_prefix("vapid t=").unwrap().split_once(",k=").unwrap();
        assert_eq!(public, key().public());
        let (signed, signature) = token.rsplit_once('.').unwrap();
        let verifying = VerifyingKey::from_sec1_bytes(&BASE64.decode(public.as_bytes()).unwrap()).unwrap();
        let signature = Signature::from_slice(&BASE64.decode(signature.as_bytes()).unwrap()).unwrap();
        verifying.verify(signed.as_bytes(), &signature).unwrap();
        let part = |text: &str| -> Value { serde_json::from_slice(&BASE64.decode(text.as_bytes()).unwrap()).unwrap() };
        let (header, claims) = signed.split_once('.').unwrap();
        assert_eq!(part(header), json!({"typ": "JWT", "alg": "ES256"}));
        let exp = at(12 * 60 * 60).as_micros() / 1_000_000;
        let expected = json!({"aud": "https://push.example:8443", "exp": exp, "sub": "mailto:ops@shop.example"});
        assert_eq!(part(claims), expected);
        assert_eq!(key().authorization("nowhere", &subject, at(0)), None);
    }

    #[test]
    fn a_subject_is_an_address_or_a_page() {
        for good in ["mailto:a@b", "https://shop.example/contact", "mailto:paylog@example.com"] {
            assert!(good.parse::<Subject>().is_ok(), "{good}");
        }
        for wrong in
            ["", "a@b", "mailto:", "mailto:a", "http://shop.example/", "https://", "mailto:a@b c", "mailto:é@b"]
        {
            assert!(wrong.parse::<Subject>().is_err(), "{wrong}");
        }
    }
}
