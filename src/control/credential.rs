//! What opens somebody's service to us: the access key of a topic, a connection string. Given in once, kept sealed on the control
//! log in its endpoint's place, and given out to nobody: it is opened where something is sent and nowhere else.

use std::fmt;

use super::seal::{SealError, Sealed, SecretsKey};
use super::webhooks::Endpoint;

/// The longest, in bytes: connection strings have a few hundred.
const MAX_BYTES: usize = 2_048;

/// Never shown, never logged.
#[derive(Clone, PartialEq, Eq)]
pub struct Credential(String);

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("it must have from 1 to {MAX_BYTES} characters, of visible ASCII, without spaces")]
pub struct BadCredential;

impl Credential {
    /// What goes into a header or a handshake as it is: nothing that could end a line.
    pub fn parse(text: &str) -> Result<Self, BadCredential> {
        let is_good = (1..=MAX_BYTES).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic());
        if is_good { Ok(Self(text.to_owned())) } else { Err(BadCredential) }
    }

    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Credential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Credential(..)")
    }
}

impl Endpoint {
    /// In the place of the one before, which is forgotten at once.
    pub fn set_credential(&mut self, credential: &Credential, key: &SecretsKey) -> Result<(), SealError> {
        self.credential = Some(key.seal(&self.id.to_string(), credential.as_str().as_bytes())?);
        Ok(())
    }

    /// `None` if it has none.
    pub fn open_credential(&self, key: &SecretsKey) -> Result<Option<Credential>, SealError> {
        let Some(sealed) = &self.credential else { return Ok(None) };
        let text = String::from_utf8(key.open(&self.id.to_string(), sealed)?).map_err(|_| SealError::Damaged)?;
        Credential::parse(&text).map(Some).map_err(|_| SealError::Damaged)
    }

    /// Everything of it that is sealed.
    pub fn sealed(&self) -> impl Iterator<Item = &Sealed> {
        self.secrets.iter().map(|secret| &secret.sealed).chain(&self.credential)
    }
}

#[cfg(test)]
mod tests {
    use super::Credential;

    #[test]
    fn a_credential_ends_no_line_and_is_shown_nowhere() {
        for good in ["a", "Endpoint=sb://x.servicebus.windows.net/;SharedAccessKey=a/b+c=", &"k".repeat(2_048)] {
            let credential = Credential::parse(good).unwrap();
            assert_eq!(credential.as_str(), good);
            assert_eq!(format!("{credential:?}"), "Credential(..)");
        }
        for bad in ["", " ", "a b", "a\r\nx: y", "caf\u{e9}", &"k".repeat(2_049)] {
            assert!(Credential::parse(bad).is_err(), "{bad:?}");
        }
    }
}
