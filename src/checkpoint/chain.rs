//! The chain of digests. Its bytes are part of the format and never change (docs/decisions/0011).

use sha2::{Digest as _, Sha256};

use crate::archive::Digest;

const BEGINNING: &[u8] = b"paylog/checkpoint/1";

/// The links so far: the last one stands for all.
pub struct Chain {
    last: Digest,
}

impl Chain {
    /// Begins with the header, as its text stands in the file.
    #[must_use]
    pub fn begin(header: &[u8]) -> Self {
        let mut hash = Sha256::new();
        hash.update(BEGINNING);
        hash.update(header);
        Self { last: Digest(hash.finalize().into()) }
    }

    /// The next link: over the one before, and a block as it stands in the file.
    pub fn add(&mut self, head: &[u8], stored: &[u8]) -> Digest {
        let mut hash = Sha256::new();
        hash.update(self.last.0);
        hash.update(head);
        hash.update(stored);
        self.last = Digest(hash.finalize().into());
        self.last
    }

    #[must_use]
    pub fn last(&self) -> Digest {
        self.last
    }
}

#[cfg(test)]
mod tests {
    use super::Chain;

    /// Computed with Python's hashlib, once and for all.
    #[test]
    fn golden_links() {
        let mut chain = Chain::begin(br#"{"paylog_checkpoint":1}"#);
        assert_eq!(chain.last().to_string(), GOLDEN_BEGINNING);
        assert_eq!(chain.add(&[0, 0, 0, 7], b"rows").to_string(), GOLDEN_LINK);
    }

    const GOLDEN_BEGINNING: &str = "94d3686548807714bea7aaeb10ae2e26b08af9833fa32bcd5361c9a16705926a";
    const GOLDEN_LINK: &str = "ed0eeb8de7c8d3d12b8519455bcf877ae87d2658e2a8b91e1389e11b0f242c60";
}
