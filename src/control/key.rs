//! A key of the HTTP face, as it stands on the control log: created, perhaps given an end, perhaps revoked. What stands there
//! is the SHA-256 of the key and never the key itself.
//!
//! ```json
//! {"type": "KeyCreated", "entity": "key/<id>", "version": 1, "scope": "merchant", "merchant": "acme", "sha256": "<hex>",
//!  "operator": "ada", "reason": "...", "at": "..."}
//! {"type": "KeyExpires", "entity": "key/<id>", "version": 2, "expires_at": "...", ...}
//! {"type": "KeyRevoked", "entity": "key/<id>", "version": 3, ...}
//! ```
//!
//! A plain hash is enough, and a slow one would be a mistake: a key is 256 random bits, so that there is nothing to guess,
//! and it is hashed with every request, whoever sends it.

use std::fmt;

use data_encoding::HEXLOWER;
use subtle::ConstantTimeEq;

use super::document::reason_of;
use super::import::Mark;
use crate::payment::{MerchantId, Signed, Timestamp};

pub(super) const KEY_CREATED: &str = "KeyCreated";
pub(super) const KEY_EXPIRES: &str = "KeyExpires";
pub(super) const KEY_REVOKED: &str = "KeyRevoked";

/// Characters of an id: 80 random bits in base32.
pub const KEY_ID_CHARS: usize = 16;

/// Which key: the part of it that is no secret, and by which it is found.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KeyId(String);

/// What is kept of a key.
#[derive(Clone, Copy)]
pub struct KeyDigest(pub [u8; 32]);

/// Whose key it is, and so what it opens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Holder {
    /// A merchant's backend.
    Merchant(MerchantId),
    /// Those who run this.
    Operator,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Key {
    pub id: KeyId,
    pub holder: Holder,
    pub digest: KeyDigest,
    pub created: Mark,
    /// It is good until then; `None` has no end.
    pub expires_at: Option<Timestamp>,
    pub revoked: Option<Mark>,
    version: u64,
    last: Mark,
}

/// What becomes of a key.
#[derive(Clone, Debug)]
pub enum KeyStep {
    Create { holder: Holder, digest: KeyDigest },
    Expire(Timestamp),
    Revoke,
}

#[derive(serde::Serialize, serde::Deserialize)]
struct Document {
    #[serde(rename = "type")]
    kind: String,
    entity: String,
    version: u64,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    scope: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    merchant: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    sha256: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    expires_at: Option<String>,
    operator: String,
    reason: String,
    at: String,
}

impl KeyId {
    /// Lower-case letters and the digits 2 to 7.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let known = |b: u8| b.is_ascii_lowercase() || (b'2'..=b'7').contains(&b);
        (text.len() == KEY_ID_CHARS && text.bytes().all(known)).then(|| Self(text.to_owned()))
    }

    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// In the same time wherever they differ: how much of it was guessed right is nobody's to measure.
impl PartialEq for KeyDigest {
    fn eq(&self, other: &Self) -> bool {
        self.0.ct_eq(&other.0).into()
    }
}

impl Eq for KeyDigest {}

/// A log is no place for it, though nobody comes to the key from there.
impl fmt::Debug for KeyDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("KeyDigest(..)")
    }
}

impl Holder {
    /// As it is written down and shown.
    #[must_use]
    pub fn scope(&self) -> &'static str {
        match self {
            Self::Merchant(_) => "merchant",
            Self::Operator => "operator",
        }
    }

    #[must_use]
    pub fn merchant(&self) -> Option<&MerchantId> {
        match self {
            Self::Merchant(merchant) => Some(merchant),
            Self::Operator => None,
        }
    }
}

impl Key {
    /// A key that stands on no log: of one process, and gone with it.
    #[must_use]
    pub fn of_this_process(id: KeyId, holder: Holder, digest: KeyDigest, at: Timestamp) -> Self {
        let mark = Mark { operator: "paylog".to_owned(), reason: "for trying out".to_owned(), at: at.to_string() };
        Self { id, holder, digest, created: mark.clone(), expires_at: None, revoked: None, version: 0, last: mark }
    }

    #[must_use]
    pub fn is_good(&self, now: Timestamp) -> bool {
        self.revoked.is_none() && self.expires_at.is_none_or(|end| now < end)
    }

    /// Is it more than a key of one process?
    pub(super) fn stands_on_the_log(&self) -> bool {
        self.version > 0
    }

    #[cfg(test)]
    pub(crate) fn with_end(&self, end: Timestamp) -> Self {
        Self { expires_at: Some(end), ..self.clone() }
    }

    #[cfg(test)]
    pub(crate) fn revoked(&self) -> Self {
        Self { revoked: Some(self.created.clone()), ..self.clone() }
    }

    /// Is its last step this one?
    pub(super) fn is_by(&self, version: u64, signed: &Signed, at: Timestamp) -> bool {
        let Mark { operator, reason, at: marked } = &self.last;
        self.version == version
            && operator == signed.operator()
            && reason == signed.reason()
            && *marked == at.to_string()
    }
}

pub(super) fn entity_of(id: &KeyId) -> String {
    format!("key/{id}")
}

/// The version that the next step makes.
pub(super) fn next_version(before: Option<&Key>) -> u64 {
    before.map_or(0, |key| key.version).saturating_add(1)
}

pub(super) fn encode(
    id: &KeyId,
    version: u64,
    step: &KeyStep,
    signed: &Signed,
    at: Timestamp,
) -> serde_json::Result<Vec<u8>> {
    let mut document = Document {
        kind: String::new(),
        entity: entity_of(id),
        version,
        scope: None,
        merchant: None,
        sha256: None,
        expires_at: None,
        operator: signed.operator().to_owned(),
        reason: signed.reason().to_owned(),
        at: at.to_string(),
    };
    document.kind = match step {
        KeyStep::Create { holder, digest } => {
            document.scope = Some(holder.scope().to_owned());
            document.merchant = holder.merchant().map(|merchant| merchant.as_str().to_owned());
            document.sha256 = Some(HEXLOWER.encode(&digest.0));
            KEY_CREATED
        }
        KeyStep::Expire(end) => {
            document.expires_at = Some(end.to_string());
            KEY_EXPIRES
        }
        KeyStep::Revoke => KEY_REVOKED,
    }
    .to_owned();
    serde_json::to_vec(&document)
}

/// The key that a document is about; `None` if it is about none.
pub(super) fn id_in(entity: &str) -> Option<KeyId> {
    KeyId::parse(entity.strip_prefix("key/")?)
}

/// What a document makes of the key that was known before.
pub(super) fn fold(before: Option<&Key>, value: &[u8]) -> Result<Key, String> {
    let document: Document = serde_json::from_slice(value).map_err(|e| reason_of(&e))?;
    let id = id_in(&document.entity).ok_or_else(|| "its entity is no key".to_owned())?;
    let holder = holder(&document);
    let Document { kind, version, sha256, expires_at, operator, reason, at, .. } = document;
    let mark = Mark { operator, reason, at };
    let key = match (kind.as_str(), before) {
        (KEY_CREATED, None) => Key {
            id,
            holder: holder.ok_or_else(|| "it does not say whose key it is".to_owned())?,
            digest: sha256.as_deref().and_then(digest).ok_or_else(|| "its sha256 is none".to_owned())?,
            created: mark.clone(),
            expires_at: None,
            revoked: None,
            version,
            last: mark,
        },
        (KEY_EXPIRES, Some(key)) if key.revoked.is_none() => {
            let end = expires_at.as_deref().and_then(Timestamp::parse);
            let end = end.ok_or_else(|| "its expires_at is no time".to_owned())?;
            Key { expires_at: Some(end), version, last: mark, ..key.clone() }
        }
        (KEY_REVOKED, Some(key)) if key.revoked.is_none() => {
            Key { revoked: Some(mark.clone()), version, last: mark, ..key.clone() }
        }
        _ => return Err("it is no next step of a key".to_owned()),
    };
    Ok(key)
}

fn holder(document: &Document) -> Option<Holder> {
    match (document.scope.as_deref()?, document.merchant.as_deref()) {
        ("merchant", Some(merchant)) => Some(Holder::Merchant(MerchantId::parse(merchant).ok()?)),
        ("operator", None) => Some(Holder::Operator),
        _ => None,
    }
}

fn digest(hex: &str) -> Option<KeyDigest> {
    HEXLOWER.decode(hex.as_bytes()).ok()?.try_into().ok().map(KeyDigest)
}

#[cfg(test)]
mod tests {
    use super::{Holder, Key, KeyDigest, KeyId, KeyStep, encode, fold};
    use crate::payment::samples::at;
    use crate::payment::{MerchantId, Signed};

    fn id() -> KeyId {
        KeyId::parse("abcdefghijklmn27").unwrap()
    }

    fn document(version: u64, step: &KeyStep) -> Vec<u8> {
        encode(&id(), version, step, &Signed::new("ada", "a new shop").unwrap(), at(0)).unwrap()
    }

    fn create() -> KeyStep {
        let holder = Holder::Merchant(MerchantId::parse("acme").unwrap());
        KeyStep::Create { holder, digest: KeyDigest([7; 32]) }
    }

    fn folded(steps: &[KeyStep]) -> Result<Key, String> {
        let mut key = None;
        for (step, version) in steps.iter().zip(1..) {
            key = Some(fold(key.as_ref(), &document(version, step))?);
        }
        key.ok_or_else(String::new)
    }

    #[test]
    fn a_key_is_good_from_its_creation_to_its_end() {
        let key = folded(&[create()]).unwrap();
        assert!(key.is_good(at(0)) && key.is_good(at(1_000_000)));
        let ends = folded(&[create(), KeyStep::Expire(at(10))]).unwrap();
        assert!(ends.is_good(at(9)) && !ends.is_good(at(10)), "its end is not a part of it");
        let sooner = folded(&[create(), KeyStep::Expire(at(10)), KeyStep::Expire(at(5))]).unwrap();
        assert!(!sooner.is_good(at(5)));
        let revoked = folded(&[create(), KeyStep::Expire(at(10)), KeyStep::Revoke]).unwrap();
        assert!(!revoked.is_good(at(0)), "for all time");
        for wrong in [
            &[KeyStep::Revoke][..],
            &[KeyStep::Expire(at(1))],
            &[create(), create()],
            &[create(), KeyStep::Revoke, KeyStep::Revoke],
            &[create(), KeyStep::Revoke, KeyStep::Expire(at(1))],
        ] {
            assert!(folded(wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn an_id_is_of_sixteen_characters() {
        for wrong in
            ["", "abcdefghijklmn2", "abcdefghijklmn278", "ABCDEFGHIJKLMN27", "abcdefghijklmn21", "../abcdefghijklm"]
        {
            assert_eq!(KeyId::parse(wrong), None, "{wrong}");
        }
    }

    /// As they stand on somebody's log: these bytes never change their meaning.
    #[test]
    fn golden_documents() {
        let golden = [
            r#"{"type":"KeyCreated","entity":"key/abcdefghijklmn27","version":1,"scope":"merchant","merchant":"acme","sha256":"0707070707070707070707070707070707070707070707070707070707070707","operator":"ada","reason":"a new shop","at":"2025-11-24T16:00:00.000000Z"}"#,
            r#"{"type":"KeyExpires","entity":"key/abcdefghijklmn27","version":2,"expires_at":"2025-11-24T16:00:10.000000Z","operator":"ada","reason":"a new shop","at":"2025-11-24T16:00:00.000000Z"}"#,
            r#"{"type":"KeyRevoked","entity":"key/abcdefghijklmn27","version":3,"operator":"ada","reason":"a new shop","at":"2025-11-24T16:00:00.000000Z"}"#,
        ];
        let mut key = None;
        for ((golden, step), version) in
            golden.iter().zip([create(), KeyStep::Expire(at(10)), KeyStep::Revoke]).zip(1..)
        {
            assert_eq!(String::from_utf8(document(version, &step)).unwrap(), *golden);
            key = Some(fold(key.as_ref(), golden.as_bytes()).unwrap());
        }
        assert!(key.unwrap().revoked.is_some());
        let bad = golden[0].replace("\"merchant\":\"acme\",", "");
        assert!(fold(None, bad.as_bytes()).is_err(), "a merchant's key without a merchant");
        let bad = golden[0].replace("0707", "07");
        assert!(fold(None, bad.as_bytes()).is_err_and(|reason| !reason.contains("0707")));
    }
}
