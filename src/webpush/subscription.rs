//! What a browser's `PushSubscription` comes to: where its push service takes messages for it, and the keys with which it alone
//! can read them. Whoever has all of it can write to the browser; it is kept sealed, and shown to nobody.

use std::fmt;

use super::BASE64;
use crate::payment::Invalid;

/// An uncompressed point of P-256.
const PUBLIC_KEY_BYTES: usize = 65;
const AUTH_BYTES: usize = 16;
/// More than either key can have in base64.
const KEY_TEXT_MAX: usize = 128;

/// Checked: `p256dh` is a point on the curve.
#[derive(Clone, PartialEq, Eq)]
pub struct Subscription {
    endpoint: String,
    p256dh: [u8; PUBLIC_KEY_BYTES],
    auth: [u8; AUTH_BYTES],
}

/// As it is sealed. Also what the browser says, without what is not needed.
#[derive(serde::Serialize, serde::Deserialize)]
struct Kept {
    endpoint: String,
    p256dh: String,
    auth: String,
}

impl Subscription {
    /// Whether the endpoint may be written to is for the caller to judge.
    pub fn parse(endpoint: &str, p256dh: &str, auth: &str) -> Result<Self, Invalid> {
        let detail = "keys.p256dh must be a point of P-256, uncompressed: 65 bytes in base64url";
        let p256dh = bytes::<PUBLIC_KEY_BYTES>(p256dh).filter(|point| p256::PublicKey::from_sec1_bytes(point).is_ok());
        let p256dh = p256dh.ok_or_else(|| invalid("keys.p256dh", detail))?;
        let auth = bytes::<AUTH_BYTES>(auth);
        let auth = auth.ok_or_else(|| invalid("keys.auth", "keys.auth must be 16 bytes in base64url"))?;
        Ok(Self { endpoint: endpoint.to_owned(), p256dh, auth })
    }

    #[must_use]
    pub fn endpoint(&self) -> &str {
        &self.endpoint
    }

    pub(super) fn p256dh(&self) -> &[u8] {
        &self.p256dh
    }

    pub(super) fn auth(&self) -> [u8; AUTH_BYTES] {
        self.auth
    }

    /// All of it, to be sealed.
    pub fn to_secret(&self) -> serde_json::Result<Vec<u8>> {
        let (p256dh, auth) = (BASE64.encode(&self.p256dh), BASE64.encode(&self.auth));
        serde_json::to_vec(&Kept { endpoint: self.endpoint.clone(), p256dh, auth })
    }

    #[must_use]
    pub fn of_secret(secret: &[u8]) -> Option<Self> {
        let Kept { endpoint, p256dh, auth } = serde_json::from_slice(secret).ok()?;
        Self::parse(&endpoint, &p256dh, &auth).ok()
    }
}

/// A log is no place for it.
impl fmt::Debug for Subscription {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Subscription(..)")
    }
}

/// With or without padding.
fn bytes<const N: usize>(text: &str) -> Option<[u8; N]> {
    let text = Some(text.trim_end_matches('=')).filter(|text| text.len() <= KEY_TEXT_MAX)?;
    BASE64.decode(text.as_bytes()).ok()?.try_into().ok()
}

fn invalid(field: &'static str, detail: &str) -> Invalid {
    Invalid::field("invalid_push_key", field, detail.to_owned())
}

#[cfg(test)]
mod tests {
    use super::Subscription;

    /// RFC 8291, appendix A.
    const P256DH: &str = "BCVxsr7N_eNgVRqvHtD0zTZsEc6-VV-JvLexhqUzORcxaOzi6-AYWXvTBHm4bjyPjs7Vd8pZGH6SRpkNtoIAiw4";
    const AUTH: &str = "BTBZMqHH6r4Tts7J_aSIgg";

    #[test]
    fn a_subscription_is_kept_as_it_came() {
        let one = Subscription::parse("https://push.example/1", P256DH, AUTH).unwrap();
        assert_eq!(Subscription::of_secret(&one.to_secret().unwrap()), Some(one.clone()));
        assert_eq!(Subscription::parse("https://push.example/1", &format!("{P256DH}="), AUTH).unwrap(), one);
        assert!(!format!("{one:?}").contains("push.example"));
        assert_eq!(Subscription::of_secret(b"{}"), None);
    }

    #[test]
    fn keys_that_are_none_are_refused_by_their_name() {
        let field =
            |p256dh: &str, auth: &str| Subscription::parse("https://push.example/1", p256dh, auth).unwrap_err().field;
        let off_the_curve = P256DH.replace("Aiw4", "Aiw5").replace("OiwA", "OiwB");
        for wrong in ["", "!", &P256DH[..84], &off_the_curve, &P256DH.replace("BCV", "AyV"), &"A".repeat(4_096)] {
            assert_eq!(field(wrong, AUTH), Some("keys.p256dh"), "{wrong}");
        }
        for wrong in ["", "BTBZMqHH6r4Tts7J_aSI", "BTBZMqHH6r4Tts7J_aSIggAA", "BTBZMqHH6r4Tts7J/aSIgg"] {
            assert_eq!(field(P256DH, wrong), Some("keys.auth"), "{wrong}");
        }
    }
}
