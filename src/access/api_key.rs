//! How a key is written: `plk_<id>_<secret and checksum>` for a merchant, `plo_...` for an operator.
//!
//! The prefix is what scanners of repositories and logs look for (`pl[ko]_[a-z2-7]{16}_[a-z2-7]{59}`), and it says what the key
//! opens. The id finds the key without a search. The secret is 256 random bits, and the last seven characters are a CRC-32 of
//! all before them, by which a scanner knows a key from a text that looks like one, and a person hears of a bad copy. One
//! case and no signs, so that a double click takes all of it. There is no `live` and `test`: which gateway charges is a
//! property of the installation, and a key that promised otherwise would lie.

use std::fmt;

use data_encoding::BASE32_NOPAD;
use sha2::{Digest, Sha256};

use crate::control::{Holder, KEY_ID_CHARS, KeyDigest, KeyId};

const OF_MERCHANTS: &str = "plk_";
const OF_OPERATORS: &str = "plo_";
const ID_BYTES: usize = 10;
const SECRET_BYTES: usize = 32;
const SECRET_CHARS: usize = 52;
const CHECK_CHARS: usize = 7;
const CHARS: usize = OF_MERCHANTS.len() + KEY_ID_CHARS + 1 + SECRET_CHARS + CHECK_CHARS;

/// A whole key, which is shown once.
pub struct ApiKey {
    text: String,
    pub id: KeyId,
    pub digest: KeyDigest,
}

/// A key that came with a request: well formed, and perhaps nobody's.
#[derive(Debug)]
pub(super) struct Presented {
    pub(super) id: KeyId,
    pub(super) digest: KeyDigest,
}

/// Not even a key.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct NotWhole;

impl ApiKey {
    /// A new one, from the system's random numbers.
    pub fn generate(holder: &Holder) -> Self {
        let (id, secret): ([u8; ID_BYTES], [u8; SECRET_BYTES]) = (rand::random(), rand::random());
        Self::of(holder, &id, &secret)
    }

    fn of(holder: &Holder, id: &[u8; ID_BYTES], secret: &[u8; SECRET_BYTES]) -> Self {
        let prefix = match holder {
            Holder::Merchant(_) => OF_MERCHANTS,
            Holder::Operator => OF_OPERATORS,
        };
        let mut text = format!("{prefix}{}_{}", base32(id), base32(secret));
        text += &check(&text);
        let digest = digest(&text);
        let id = KeyId::parse(&text[prefix.len()..prefix.len() + KEY_ID_CHARS]);
        Self { id: id.unwrap_or_else(|| unreachable!("sixteen characters of base32 are an id")), digest, text }
    }

    /// The key itself: for whoever asked for it, and for nobody and nothing else.
    #[must_use]
    pub fn reveal(&self) -> &str {
        &self.text
    }
}

/// Without its secret.
impl fmt::Debug for ApiKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ApiKey({}, ..)", self.id)
    }
}

/// Does it look like one, whole or not?
pub(super) fn is_key(text: &str) -> bool {
    text.starts_with(OF_MERCHANTS) || text.starts_with(OF_OPERATORS)
}

pub(super) fn parse(text: &str) -> Result<Presented, NotWhole> {
    if text.len() != CHARS || !text.is_ascii() {
        return Err(NotWhole);
    }
    let (body, given) = text.split_at(CHARS - CHECK_CHARS);
    let id = KeyId::parse(&body[OF_MERCHANTS.len()..OF_MERCHANTS.len() + KEY_ID_CHARS]).ok_or(NotWhole)?;
    if given != check(body) {
        return Err(NotWhole);
    }
    Ok(Presented { id, digest: digest(text) })
}

fn digest(text: &str) -> KeyDigest {
    KeyDigest(Sha256::digest(text.as_bytes()).into())
}

fn check(body: &str) -> String {
    let mut crc = flate2::Crc::new();
    crc.update(body.as_bytes());
    base32(&crc.sum().to_be_bytes())
}

fn base32(bytes: &[u8]) -> String {
    BASE32_NOPAD.encode(bytes).to_ascii_lowercase()
}

#[cfg(test)]
mod tests {
    use super::{ApiKey, CHARS, NotWhole, is_key, parse};
    use crate::control::Holder;
    use crate::payment::MerchantId;

    fn acme() -> Holder {
        Holder::Merchant(MerchantId::parse("acme").unwrap())
    }

    #[test]
    fn a_key_is_found_by_its_id_and_known_by_all_of_it() {
        let key = ApiKey::generate(&acme());
        let presented = parse(key.reveal()).unwrap();
        assert!(presented.id == key.id && presented.digest == key.digest);
        let other = ApiKey::generate(&acme());
        assert!(other.id != key.id && other.digest != key.digest);
        assert!(!format!("{key:?}").contains(&key.reveal()[22..]), "{key:?}");
    }

    /// They are in people's hands, and scanners know them by this form: it never changes.
    #[test]
    fn golden_keys() {
        let merchant = ApiKey::of(&acme(), &[1; 10], &[2; 32]);
        let operator = ApiKey::of(&Holder::Operator, &[1; 10], &[2; 32]);
        for (key, prefix) in [(&merchant, "plk_"), (&operator, "plo_")] {
            let text = key.reveal();
            let body = "aeaqcaibaeaqcaib_aibaeaqcaibaeaqcaibaeaqcaibaeaqcaibaeaqcaibaeaqcaiba";
            assert!(text.len() == CHARS && text[..CHARS - 7] == format!("{prefix}{body}"), "{text}");
            assert!(parse(text).is_ok() && is_key(text));
        }
        // python3 -c 'import zlib,base64;print(base64.b32encode(zlib.crc32(b"plk_...").to_bytes(4,"big")).decode().lower()[:7])'
        assert!(merchant.reveal().ends_with("ygz5tqi"), "{}", merchant.reveal());
        assert_ne!(merchant.digest, operator.digest, "what it opens is a part of it");
    }

    #[test]
    fn a_key_that_was_copied_badly_is_none() {
        let good = ApiKey::generate(&acme()).reveal().to_owned();
        let mut bad = vec![good[..CHARS - 1].to_owned(), format!("{good}a"), good.to_uppercase(), String::new()];
        for at in [0, 3, 4, 19, 20, 21, 50, CHARS - 1] {
            let mut bytes = good.clone().into_bytes();
            bytes[at] = if bytes[at] == b'b' { b'c' } else { b'b' };
            bad.push(String::from_utf8(bytes).unwrap());
        }
        for text in bad {
            assert_eq!(parse(&text).map(|_| ()), Err(NotWhole), "{text}");
        }
    }
}
