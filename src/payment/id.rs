//! Ids. Each is parsed once, at the edge, and cannot be wrong afterwards; two of them are derived and can never change.

use std::fmt;

use data_encoding::{BASE32_NOPAD, Specification};
use sha2::{Digest, Sha256};

use crate::payment::request::Invalid;

/// The longest idempotency key, in bytes (DESIGN.md 9).
pub const IDEMPOTENCY_KEY_MAX: usize = 255;
/// The longest id of a merchant or a customer, in bytes.
pub const PARTY_ID_MAX: usize = 128;

/// The longest id of a request, in bytes: a topic's name may have 249, and partition and offset follow.
pub const REQUEST_ID_MAX: usize = 320;

/// The merchant on whose behalf a payment is made.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
pub struct MerchantId(String);

/// The merchant's own name for its customer: opaque to us.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
pub struct CustomerId(String);

/// The sender's name for one payment, unquoted. The same key of the same merchant is the same payment, for ever.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct IdempotencyKey(String);

/// Which payment: derived from merchant and idempotency key, so that every instance agrees without asking anyone.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
pub struct PaymentId(#[serde(with = "serde_bytes")] [u8; 16]);

/// Which request brought a `PaymentInProgress`: random for HTTP, `<topic>/<partition>/<offset>` for Kafka.
#[derive(Clone, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
pub struct RequestId(String);

/// Which event: a UUIDv7 (RFC 9562) minted by its writer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
pub struct EventId(uuid::Uuid);

// === impl MerchantId, CustomerId, RequestId ===

macro_rules! text_id {
    ($name:ident, $max:ident, $code:literal, $what:literal) => {
        impl $name {
            #[doc = concat!("From 1 to [`", stringify!($max), "`] visible ASCII characters.")]
            pub fn parse(text: &str) -> Result<Self, Invalid> {
                if is_visible_ascii(text, $max) {
                    return Ok(Self(text.to_owned()));
                }
                Err(Invalid::field($code, $what, format!("{} must be 1 to {} visible ASCII characters", $what, $max)))
            }

            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

text_id!(MerchantId, PARTY_ID_MAX, "invalid_merchant_id", "merchant_id");
text_id!(CustomerId, PARTY_ID_MAX, "invalid_customer_id", "customer_id");
text_id!(RequestId, REQUEST_ID_MAX, "invalid_request_id", "request_id");

impl Default for MerchantId {
    /// The merchant of an installation without keys (DESIGN.md 9).
    fn default() -> Self {
        Self("default".to_owned())
    }
}

impl RequestId {
    /// A new random id, for a request that came over HTTP.
    #[must_use]
    pub fn random() -> Self {
        Self(format!("req_{}", uuid::Uuid::new_v4().simple()))
    }

    /// The id of a request that came as a record: its place names it for ever.
    pub fn of_record(topic: &str, partition: u32, offset: u64) -> Result<Self, Invalid> {
        Self::parse(&format!("{topic}/{partition}/{offset}"))
    }

    /// Was the request a record? Those that came over HTTP have no slash in them, and a topic's name has none.
    #[must_use]
    pub fn is_of_record(&self) -> bool {
        let mut parts = self.0.rsplitn(3, '/');
        let numbers = parts.by_ref().take(2).filter(|part| part.parse::<u64>().is_ok()).count();
        numbers == 2 && parts.next().is_some_and(|topic| !topic.is_empty())
    }
}

// === impl IdempotencyKey ===

impl IdempotencyKey {
    /// Takes the bare form or the quoted one (an RFC 8941 string, as draft-ietf-httpapi-idempotency-key-header asks): both
    /// name the same key.
    pub fn parse(header: &str) -> Result<Self, Invalid> {
        let refuse = |detail: &str| Err(Invalid::new("invalid_idempotency_key", detail.to_owned()));
        let header = header.trim_matches(' ');
        let key = match header.strip_prefix('"') {
            None => header.to_owned(),
            Some(rest) => match unquote(rest) {
                Some(key) => key,
                None => return refuse("the idempotency key opens with a quote and is not a quoted string"),
            },
        };
        if !is_visible_ascii(&key, IDEMPOTENCY_KEY_MAX) {
            return refuse("the idempotency key must be 1 to 255 visible ASCII characters, bare or in double quotes");
        }
        Ok(Self(key))
    }

    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// A key often is an order number: it does not belong in a log.
impl fmt::Debug for IdempotencyKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("IdempotencyKey(..)")
    }
}

/// The rest of an RFC 8941 string after its opening quote: `\"` and `\\` are the only escapes.
fn unquote(rest: &str) -> Option<String> {
    let mut key = String::with_capacity(rest.len());
    let mut chars = rest.chars();
    loop {
        match chars.next()? {
            '"' => return chars.as_str().is_empty().then_some(key),
            '\\' => key.push(chars.next().filter(|c| matches!(c, '"' | '\\'))?),
            c => key.push(c),
        }
    }
}

fn is_visible_ascii(text: &str, max: usize) -> bool {
    (1..=max).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_graphic())
}

// === impl PaymentId ===

const PREFIX: &str = "pay_";

impl PaymentId {
    /// The first 16 bytes of SHA-256(`paylog/id/1`, merchant, key), each part prefixed by its length. Frozen: another rule
    /// would let an old key charge again.
    #[must_use]
    pub fn derive(merchant: &MerchantId, key: &IdempotencyKey) -> Self {
        let mut hash = Parts::new("paylog/id/1");
        hash.text(&merchant.0);
        hash.text(&key.0);
        let digest = hash.finish();
        let mut id = [0; 16];
        id.copy_from_slice(&digest[..16]);
        Self(id)
    }

    /// From `pay_` and 26 characters of lower-case base32.
    pub fn parse(text: &str) -> Option<Self> {
        let digits = text.strip_prefix(PREFIX)?;
        let mut id = [0; 16];
        if digits.len() != 26 || base32_lower().decode_mut(digits.as_bytes(), &mut id).ok()? != id.len() {
            return None;
        }
        Some(Self(id))
    }

    #[must_use]
    pub fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }

    /// Before every other in the order of bytes; nobody's id.
    pub const ZERO: Self = Self([0; 16]);

    #[must_use]
    pub fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }
}

impl fmt::Display for PaymentId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut digits = [0; 26];
        base32_lower().encode_mut(&self.0, &mut digits);
        f.write_str(PREFIX)?;
        f.write_str(std::str::from_utf8(&digits).map_err(|_| fmt::Error)?)
    }
}

impl fmt::Debug for PaymentId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// RFC 4648 base32 in lower case, without padding.
fn base32_lower() -> &'static data_encoding::Encoding {
    static ENCODING: std::sync::LazyLock<data_encoding::Encoding> = std::sync::LazyLock::new(|| {
        let mut spec = Specification::new();
        spec.symbols.push_str("abcdefghijklmnopqrstuvwxyz234567");
        spec.encoding().unwrap_or(BASE32_NOPAD)
    });
    &ENCODING
}

// === impl EventId ===

impl EventId {
    #[must_use]
    pub fn mint() -> Self {
        Self(uuid::Uuid::now_v7())
    }

    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        uuid::Uuid::try_parse(text).ok().map(Self)
    }
}

impl fmt::Display for EventId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.hyphenated().fmt(f)
    }
}

// === the hash of a list of parts ===

/// SHA-256 over a label and then parts, each prefixed by its length as u32 big-endian, so that no two lists collide.
pub(crate) struct Parts(Sha256);

impl Parts {
    pub(crate) fn new(label: &str) -> Self {
        let mut parts = Self(Sha256::new());
        parts.text(label);
        parts
    }

    pub(crate) fn text(&mut self, text: &str) {
        self.count(text.len());
        self.0.update(text.as_bytes());
    }

    /// Every part is bounded far below 4 GiB by the limits on requests.
    pub(crate) fn count(&mut self, count: usize) {
        self.0.update(u32::try_from(count).unwrap_or(u32::MAX).to_be_bytes());
    }

    /// A part that is not there: a length that no part can have.
    pub(crate) fn absent(&mut self) {
        self.0.update(u32::MAX.to_be_bytes());
    }

    pub(crate) fn finish(self) -> [u8; 32] {
        self.0.finalize().into()
    }
}

#[cfg(test)]
mod tests {
    use super::{IdempotencyKey, MerchantId, PaymentId};

    fn key(text: &str) -> IdempotencyKey {
        IdempotencyKey::parse(text).unwrap()
    }

    /// Computed by another program (Python's hashlib and base64) from DESIGN.md 5: these may never change.
    #[test]
    fn golden_payment_ids() {
        let id =
            |merchant: &str, k: &str| PaymentId::derive(&MerchantId::parse(merchant).unwrap(), &key(k)).to_string();
        assert_eq!(id("default", "order-1001"), "pay_py4e5muxaklg75g4chpkn2gms4");
        assert_eq!(id("default", "order-1002"), "pay_nwf2o5gqhv2nvlumolmhw4ji6i");
        assert_eq!(id("acme", "order-1001"), "pay_eldbaybxhukoxkaf6w763rkmxi");
    }

    #[test]
    fn a_payment_id_survives_a_round_trip_and_nothing_else_parses() {
        let id = PaymentId::derive(&MerchantId::default(), &key("k"));
        assert_eq!(PaymentId::parse(&id.to_string()), Some(id));
        let text = id.to_string();
        for wrong in [
            "",
            "pay_",
            &text[4..],
            &text.to_uppercase(),
            &text[..29],
            &format!("{text}a"),
            "pay_1111111111111111111111111a",
        ] {
            assert_eq!(PaymentId::parse(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn a_key_is_the_same_bare_and_quoted() {
        assert_eq!(key("\"a-1\""), key("a-1"));
        assert_eq!(key(r#""a\"b""#).as_str(), "a\"b");
    }

    #[test]
    fn keys_that_are_refused() {
        let long = "k".repeat(256);
        for wrong in ["", " ", "\"", "\"a", "\"a\"b", "a b", "ä", "a\tb", "a\u{7f}", &long, "\"\"", r#""a\b""#] {
            assert!(IdempotencyKey::parse(wrong).is_err(), "{wrong:?}");
        }
        assert!(IdempotencyKey::parse(&"k".repeat(255)).is_ok());
    }
}
