//! Where events are said to come from, to everybody who knows CloudEvents: the same in the headers of a record and in what somebody
//! is told, so that `source` and `id` are one event wherever it is met.

use std::fmt;

/// Where events come from: what `source` says, a URI reference (CloudEvents 1.0, 3.1.1).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EventSource(String);

#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error(
    "a source is a URI such as https://pay.example.org/paylog or urn:example:paylog: from 1 to {} characters of visible ASCII",
    EventSource::MAX_BYTES
)]
pub struct BadSource;

impl EventSource {
    pub const MAX_BYTES: usize = 256;

    pub fn parse(text: &str) -> Result<Self, BadSource> {
        // What a URI may not have in it (RFC 3986, 2), and what would not survive a header.
        let is_good = |byte: u8| byte.is_ascii_graphic() && !b"\"<>\\^`{|}%".contains(&byte);
        let fits = (1..=Self::MAX_BYTES).contains(&text.len());
        if fits && text.bytes().all(is_good) { Ok(Self(text.to_owned())) } else { Err(BadSource) }
    }

    /// Of a log, where nobody has said another.
    #[must_use]
    pub fn of_log(log: impl fmt::Display) -> Self {
        Self(format!("/paylog/{log}"))
    }

    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl std::str::FromStr for EventSource {
    type Err = BadSource;

    fn from_str(text: &str) -> Result<Self, BadSource> {
        Self::parse(text)
    }
}

impl fmt::Display for EventSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::EventSource;

    #[test]
    fn a_source_is_what_may_stand_in_a_uri_and_in_a_header() {
        for good in ["/paylog", "https://pay.example.org/paylog?x=1#y", "urn:example:paylog"] {
            assert!(EventSource::parse(good).is_ok(), "{good}");
        }
        for bad in ["", "a b", "caf\u{e9}", "a\nb", "a\"b", &"a".repeat(257)] {
            assert!(EventSource::parse(bad).is_err(), "{bad:?}");
        }
    }
}
