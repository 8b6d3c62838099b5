//! Events to bytes and back: the only module that knows Avro.
//!
//! A value on the log is either in Avro's single-object encoding (0xC3 0x01 and the schema's fingerprint; every released
//! schema is compiled in) or in the frame of Confluent's registry (0x00 and a 4-byte id); the first byte tells them apart.
//! Decoding never allocates by what a record claims: it reads out of the record's own bytes, which are bounded first.

pub mod described;
mod headers;
mod requested;
mod source;
#[cfg(test)]
mod tests;
mod trace;
mod wire;

use std::collections::HashMap;
use std::sync::OnceLock;

use serde_avro_fast::de::{DeserializerState, read::SliceRead};
use serde_avro_fast::ser::SerializerConfig;

use crate::payment::Event;

pub use headers::headers;
pub use requested::{RequestCodec, Requested, Unreadable};
pub use source::{BadSource, EventSource};
pub use trace::traceparent;
pub use wire::Kind;

/// The largest record, value and headers, in bytes (DESIGN.md 5).
pub const RECORD_MAX: usize = 64 * 1024;

/// What apache-avro may allocate at once, wherever it decodes: five bytes can ask for 500 MiB (its own default). As much as a
/// block of an archive takes; what stands on the log, and what others send, is decoded by the other library.
pub const ALLOCATION_MAX: usize = 4 * 1024 * 1024;

const SINGLE_OBJECT: [u8; 2] = [0xC3, 0x01];
const CONFLUENT: u8 = 0x00;

/// Why bytes are not an event. All but `NotRegistered` are verdicts about the bytes. The texts repeat nothing of them.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    #[error("a record of {0} bytes is larger than {RECORD_MAX}")]
    TooLarge(usize),
    #[error("the first bytes are neither Avro's single-object marker nor a registry frame")]
    UnknownFrame,
    #[error("the schema with fingerprint {0} is not one that this version of paylog knows")]
    UnknownSchema(String),
    /// The registry has not said what this id is. Never a verdict: wait for it (DESIGN.md 4).
    #[error("the registry's schema id {0} is not known here")]
    NotRegistered(u32),
    #[error("not a valid {0}: {1}")]
    Invalid(&'static str, String),
}

impl DecodeError {
    /// May this be an event of a later version of paylog, which that one can read?
    #[must_use]
    pub fn may_be_newer(&self) -> bool {
        matches!(self, Self::UnknownSchema(_) | Self::NotRegistered(_))
    }
}

/// Every released schema, by fingerprint, and the ids that a registry has given to them.
pub struct Codec {
    schemas: Vec<Released>,
    by_fingerprint: HashMap<[u8; 8], usize>,
    by_id: HashMap<u32, usize>,
    source: OnceLock<EventSource>,
}

struct Released {
    kind: Kind,
    fast: serde_avro_fast::Schema,
}

impl Codec {
    /// Parses the compiled-in schemas. Their fingerprints are the fast library's, which are those of Avro's reference
    /// implementation; apache-avro 0.22 keeps `{"type":"string"}` in the canonical form of a logical type, where the
    /// specification ("Parsing Canonical Form", PRIMITIVES) and Java write `"string"`. It still has to accept each schema.
    pub fn new() -> anyhow::Result<Self> {
        apache_avro::util::max_allocation_bytes(ALLOCATION_MAX);
        let mut codec = Self {
            schemas: Vec::new(),
            by_fingerprint: HashMap::new(),
            by_id: HashMap::new(),
            source: OnceLock::new(),
        };
        for (kind, text) in wire::RELEASED {
            let fast: serde_avro_fast::Schema = text.parse()?;
            apache_avro::Schema::parse_str(text)?;
            codec.by_fingerprint.insert(*fast.rabin_fingerprint(), codec.schemas.len());
            codec.schemas.push(Released { kind: *kind, fast });
        }
        Ok(codec)
    }

    /// What is written is said to come from there. Heard once: whoever writes is of one log.
    pub fn is_from(&self, source: EventSource) {
        drop(self.source.set(source));
    }

    pub(crate) fn source(&self) -> Option<&EventSource> {
        self.source.get()
    }

    /// Remembers the id that a registry gave to the schema with this fingerprint. `false` if we do not know the schema.
    pub fn register(&mut self, id: u32, fingerprint: [u8; 8]) -> bool {
        let known = self.by_fingerprint.get(&fingerprint).copied();
        if let Some(index) = known {
            self.by_id.insert(id, index);
        }
        known.is_some()
    }

    /// The fingerprint (CRC-64-AVRO, little-endian) of the newest schema of `kind`.
    #[must_use]
    pub fn fingerprint(&self, kind: Kind) -> [u8; 8] {
        *self.newest(kind).fast.rabin_fingerprint()
    }

    /// The event in single-object encoding, by the newest schema of its kind.
    pub fn encode(&self, event: &Event) -> Result<Vec<u8>, DecodeError> {
        let schema = &self.newest(Kind::of(&event.data)).fast;
        let mut bytes = Vec::with_capacity(256);
        bytes.extend_from_slice(&SINGLE_OBJECT);
        bytes.extend_from_slice(schema.rabin_fingerprint());
        wire::write(event, &mut bytes, &mut SerializerConfig::new(schema))
            .map_err(|_| DecodeError::Invalid(event.data.name(), "it does not fit its schema".to_owned()))?;
        match bytes.len() {
            0..=RECORD_MAX => Ok(bytes),
            len => Err(DecodeError::TooLarge(len)),
        }
    }

    /// The event that these bytes are, by the schema that they name.
    pub fn decode(&self, value: &[u8]) -> Result<Event, DecodeError> {
        if value.len() > RECORD_MAX {
            return Err(DecodeError::TooLarge(value.len()));
        }
        let (released, datum) = self.unframe(value)?;
        let mut state = DeserializerState::from_slice(datum, &released.fast);
        let event = wire::read(released.kind, &mut state)
            .map_err(|reason| DecodeError::Invalid(released.kind.name(), reason))?;
        match bytes_left(state.into_reader()) {
            false => Ok(event),
            true => Err(DecodeError::Invalid(released.kind.name(), "bytes are left over after it".to_owned())),
        }
    }

    fn unframe<'v>(&self, value: &'v [u8]) -> Result<(&Released, &'v [u8]), DecodeError> {
        match value {
            [0xC3, 0x01, rest @ ..] => {
                let (fingerprint, datum) = rest.split_first_chunk::<8>().ok_or(DecodeError::UnknownFrame)?;
                let unknown = || DecodeError::UnknownSchema(data_encoding::HEXLOWER.encode(fingerprint));
                let index = self.by_fingerprint.get(fingerprint).ok_or_else(unknown)?;
                Ok((&self.schemas[*index], datum))
            }
            [CONFLUENT, rest @ ..] => {
                let (id, datum) = rest.split_first_chunk::<4>().ok_or(DecodeError::UnknownFrame)?;
                let id = u32::from_be_bytes(*id);
                let index = self.by_id.get(&id).ok_or(DecodeError::NotRegistered(id))?;
                Ok((&self.schemas[*index], datum))
            }
            _ => Err(DecodeError::UnknownFrame),
        }
    }

    /// `wire::RELEASED` names every kind, the newest schema of each last.
    fn newest(&self, kind: Kind) -> &Released {
        let newest = self.schemas.iter().rev().find(|released| released.kind == kind);
        newest.unwrap_or(&self.schemas[0])
    }
}

fn bytes_left(mut reader: SliceRead<'_>) -> bool {
    std::io::Read::read(&mut reader, &mut [0; 1]).is_ok_and(|read| read > 0)
}
