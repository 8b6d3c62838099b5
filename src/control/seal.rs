//! Secrets on the control log: sealed with a key that is not there (AES-256-GCM). Everybody who can read the log can copy a
//! sealed secret; only who has the key can open it, and only in the place that it was made for.

use std::fmt;

use aes_gcm::aead::{Aead, KeyInit, Payload};
use aes_gcm::{Aes256Gcm, Nonce};
use data_encoding::BASE64;
use hkdf::Hkdf;
use rand::RngCore;
use sha2::{Digest, Sha256};

/// As `openssl rand -base64 32` prints it.
const KEY_BYTES: usize = 32;
const NONCE_BYTES: usize = 12;
/// Enough of the key's hash to tell one key from another.
const ID_BYTES: usize = 4;

/// Opens and seals. Never shown, never logged.
#[derive(Clone)]
pub struct SecretsKey {
    cipher: Aes256Gcm,
    derives: Hkdf<Sha256>,
    id: String,
}

/// A secret that only the key named can open.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Sealed {
    pub key_id: String,
    /// The nonce and what it was encrypted to, in base64.
    sealed: String,
}

#[derive(Debug, thiserror::Error)]
pub enum SealError {
    #[error("the key for secrets must be 32 bytes in base64: make one with `openssl rand -base64 32`")]
    BadKey,
    #[error(
        "it was sealed with the key {0}, and the key here is {1}: start with the key that the secrets were sealed with"
    )]
    OtherKey(String, String),
    #[error("it was changed after it was sealed, or stands in another's place")]
    Damaged,
}

impl SecretsKey {
    pub fn parse(text: &str) -> Result<Self, SealError> {
        let bytes = BASE64.decode(text.trim().as_bytes()).map_err(|_| SealError::BadKey)?;
        let cipher = Aes256Gcm::new_from_slice(&bytes).map_err(|_| SealError::BadKey)?;
        let digest = Sha256::digest([b"paylog/secrets-key/1".as_slice(), &bytes].concat());
        let derives = Hkdf::new(None, &bytes);
        Ok(Self { cipher, derives, id: data_encoding::HEXLOWER.encode(&digest[..ID_BYTES]) })
    }

    /// A new key, as it is written down.
    #[must_use]
    pub fn generate() -> String {
        let mut bytes = [0; KEY_BYTES];
        rand::rng().fill_bytes(&mut bytes);
        BASE64.encode(&bytes)
    }

    /// Which key it is, without saying anything of it.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Another key that hangs on this one, so that whoever has this one has it too, on every instance and after every restart
    /// (RFC 5869).
    pub fn derive(&self, label: &str) -> Result<[u8; KEY_BYTES], SealError> {
        let mut derived = [0; KEY_BYTES];
        self.derives.expand(label.as_bytes(), &mut derived).map_err(|_| SealError::Damaged)?;
        Ok(derived)
    }

    /// `about` is what the secret belongs to: under another name it cannot be opened.
    pub fn seal(&self, about: &str, secret: &[u8]) -> Result<Sealed, SealError> {
        let mut nonce = [0; NONCE_BYTES];
        rand::rng().fill_bytes(&mut nonce);
        let payload = Payload { msg: secret, aad: about.as_bytes() };
        let encrypted = self.cipher.encrypt(Nonce::from_slice(&nonce), payload).map_err(|_| SealError::Damaged)?;
        Ok(Sealed { key_id: self.id.clone(), sealed: BASE64.encode(&[nonce.as_slice(), &encrypted].concat()) })
    }

    pub fn open(&self, about: &str, sealed: &Sealed) -> Result<Vec<u8>, SealError> {
        if sealed.key_id != self.id {
            return Err(SealError::OtherKey(sealed.key_id.clone(), self.id.clone()));
        }
        let bytes = BASE64.decode(sealed.sealed.as_bytes()).map_err(|_| SealError::Damaged)?;
        let (nonce, encrypted) = bytes.split_at_checked(NONCE_BYTES).ok_or(SealError::Damaged)?;
        let payload = Payload { msg: encrypted, aad: about.as_bytes() };
        self.cipher.decrypt(Nonce::from_slice(nonce), payload).map_err(|_| SealError::Damaged)
    }
}

impl fmt::Debug for SecretsKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SecretsKey({})", self.id)
    }
}

#[cfg(test)]
mod tests {
    use super::{SealError, Sealed, SecretsKey};

    #[test]
    fn what_was_sealed_is_opened_by_its_key_in_its_place_alone() {
        let (key, other) = (SecretsKey::generate(), SecretsKey::generate());
        let (key, other) = (SecretsKey::parse(&key).unwrap(), SecretsKey::parse(&other).unwrap());
        let sealed = key.seal("we_1", b"hunter2").unwrap();
        assert_ne!(sealed, key.seal("we_1", b"hunter2").unwrap(), "no two are alike");
        assert_eq!(key.open("we_1", &sealed).unwrap(), b"hunter2");
        assert!(matches!(key.open("we_2", &sealed), Err(SealError::Damaged)));
        assert!(matches!(other.open("we_1", &sealed), Err(SealError::OtherKey(..))));
        for cut in ["", "AAAA", "!"] {
            let cut = Sealed { sealed: cut.to_owned(), ..sealed.clone() };
            assert!(matches!(key.open("we_1", &cut), Err(SealError::Damaged)), "{cut:?}");
        }
    }

    #[test]
    fn a_key_is_32_bytes_and_is_shown_nowhere() {
        for wrong in ["", "secret", "AAAA", &"A".repeat(44)] {
            let refused = SecretsKey::parse(wrong);
            assert!(refused.is_err(), "{wrong}");
        }
        let text = SecretsKey::generate();
        let shown = format!("{:?}", SecretsKey::parse(&format!(" {text}\n")).unwrap());
        assert!(!shown.contains(&text), "{shown}");
    }
}
