//! The chain of digests. Its bytes are part of the format and never change: who has an archive can compute them with any
//! SHA-256 (docs/decisions/0009).

use std::fmt;

use sha2::{Digest as _, Sha256};

use crate::journal::SourceRecord;

const BEGINNING: &[u8] = b"paylog/archive/1";
/// The length of what is not there.
const ABSENT: u32 = u32::MAX;

/// One link.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Digest(pub [u8; 32]);

/// The links so far: the last one stands for all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Chain {
    last: Digest,
}

impl Chain {
    /// Begins with the header, as its text stands in the archive.
    #[must_use]
    pub fn begin(header: &[u8]) -> Self {
        let mut hash = Sha256::new();
        hash.update(BEGINNING);
        part(&mut hash, Some(header));
        Self { last: Digest(hash.finalize().into()) }
    }

    /// The next link: over the one before and everything that the record is.
    pub fn add(&mut self, record: &SourceRecord) -> Digest {
        let mut hash = Sha256::new();
        hash.update(self.last.0);
        hash.update(record.position.partition.0.to_be_bytes());
        hash.update(record.position.offset.0.to_be_bytes());
        hash.update(record.timestamp_us.to_be_bytes());
        part(&mut hash, record.key.as_deref());
        match &record.headers {
            None => hash.update(ABSENT.to_be_bytes()),
            Some(headers) => {
                hash.update(length(headers.len()));
                for (name, value) in headers {
                    part(&mut hash, Some(name.as_bytes()));
                    part(&mut hash, value.as_deref());
                }
            }
        }
        part(&mut hash, record.value.as_deref());
        self.last = Digest(hash.finalize().into());
        self.last
    }

    #[must_use]
    pub fn last(&self) -> Digest {
        self.last
    }
}

fn part(hash: &mut Sha256, bytes: Option<&[u8]>) {
    match bytes {
        None => hash.update(ABSENT.to_be_bytes()),
        Some(bytes) => {
            hash.update(length(bytes.len()));
            hash.update(bytes);
        }
    }
}

/// A record is bounded, far below the length of what is not there.
fn length(len: usize) -> [u8; 4] {
    u32::try_from(len).unwrap_or(ABSENT - 1).to_be_bytes()
}

impl Digest {
    /// Lower-case hexadecimal digits, and no other.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let bytes = data_encoding::HEXLOWER.decode(text.as_bytes()).ok()?;
        bytes.try_into().ok().map(Self)
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&data_encoding::HEXLOWER.encode(&self.0))
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Digest({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::Chain;
    use crate::journal::{Offset, Partition, Position, SourceRecord};

    fn record() -> SourceRecord {
        SourceRecord {
            position: Position::new(Partition(3), Offset(42)),
            timestamp_us: 1_764_000_000_000_000,
            key: Some(b"pay_x".to_vec()),
            headers: Some(vec![("ce_id".to_owned(), Some(b"1".to_vec()))]),
            value: Some(vec![0xC3, 1, 2]),
        }
    }

    /// Computed with Python's hashlib, once and for all.
    #[test]
    fn golden_links() {
        let mut chain = Chain::begin(br#"{"paylog_archive":1}"#);
        assert_eq!(chain.last().to_string(), GOLDEN_BEGINNING);
        assert_eq!(chain.add(&record()).to_string(), GOLDEN_LINK);
    }

    const GOLDEN_BEGINNING: &str = "f0d5e65ca9492739c74872efd4a6b598f96f190402dbca3ab4bae5a2fd7554b1";
    const GOLDEN_LINK: &str = "bf838cec0338e5704d19ac4ce4e8dc4335008f8fcab7b20bdd4e8f046c9befd8";

    #[test]
    fn nothing_of_a_record_is_left_out_and_absent_is_not_empty() {
        let link = |record: &SourceRecord| Chain::begin(b"x").add(record);
        let base = record();
        let header = |name: &str, value: Option<&[u8]>| Some(vec![(name.to_owned(), value.map(<[u8]>::to_vec))]);
        let others = [
            SourceRecord { position: Position::new(Partition(4), Offset(42)), ..record() },
            SourceRecord { position: Position::new(Partition(3), Offset(43)), ..record() },
            SourceRecord { timestamp_us: 1_764_000_000_000_001, ..record() },
            SourceRecord { key: None, ..record() },
            SourceRecord { key: Some(Vec::new()), ..record() },
            SourceRecord { headers: None, ..record() },
            SourceRecord { headers: Some(Vec::new()), ..record() },
            SourceRecord { headers: header("ce_ix", Some(b"1")), ..record() },
            SourceRecord { headers: header("ce_id", None), ..record() },
            SourceRecord { headers: header("ce_id", Some(b"")), ..record() },
            SourceRecord { headers: header("ce_i", Some(b"d1")), ..record() },
            SourceRecord { value: None, ..record() },
            SourceRecord { value: Some(Vec::new()), ..record() },
            SourceRecord { value: Some(vec![0xC3, 1, 3]), ..record() },
        ];
        let mut links: Vec<_> = others.iter().map(link).collect();
        links.push(link(&base));
        links.push(Chain::begin(b"y").add(&base));
        for (n, one) in links.iter().enumerate() {
            assert!(!links[n + 1..].contains(one), "two records with one link: {n}");
        }
    }
}
