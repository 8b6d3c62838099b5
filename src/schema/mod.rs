//! Events to bytes and back: the only module that knows Avro and the schema registry.
//!
//! A value on the log is either in Avro's single-object encoding (0xC3 0x01 and the schema's fingerprint; every released
//! schema is compiled in) or in the frame of Confluent's registry (0x00 and a 4-byte id); the first byte tells them apart.
//! Both are read, whichever is written. Decoding never allocates by what a record claims: it reads out of the record's own
//! bytes, which are bounded first; and it asks nobody (see [`ids`]).

pub mod described;
#[cfg(test)]
pub(crate) mod evolution_tests;
mod headers;
mod ids;
mod meaning;
pub mod registry;
mod requested;
mod source;
#[cfg(test)]
mod tests;
mod trace;
mod wire;

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::{Arc, OnceLock};

use serde_avro_fast::de::{DeserializerState, read::SliceRead};
use serde_avro_fast::ser::SerializerConfig;
use tokio_util::task::AbortOnDropHandle;

use crate::holding::RefusedIds;
use crate::payment::Event;
use ids::{Asking, Ids, Meaning};
use meaning::Known;

pub use headers::headers;
pub use requested::{IdStanding, RequestCodec, Requested, Unreadable};
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
/// How much longer the one frame is than the other. A value counts as if it were in the longer one, which rows are kept in.
const LONGER: usize = 5;

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
    #[error("the schema registry has not said yet what its id {0} is")]
    NotRegistered(u32),
    #[error("its schema is the id {0} of a schema registry, and none is configured here (--schema-registry)")]
    NoRegistry(u32),
    #[error("the schema registry has no schema with the id {0}: is it another registry than the writer's?")]
    NoSuchId(u32),
    #[error("the schema with the id {0} in the schema registry is none of an event that this version of paylog knows")]
    OtherSchema(u32),
    #[error("not a valid {0}: {1}")]
    Invalid(&'static str, String),
}

impl DecodeError {
    /// May this be an event of a later version of paylog, or of this one beside another registry, which can be read then?
    #[must_use]
    pub fn may_be_newer(&self) -> bool {
        matches!(self, Self::UnknownSchema(_)) || self.id().is_some()
    }

    /// The registry's id of which this is said, and which may mean something else when the registry has been heard.
    #[must_use]
    pub fn id(&self) -> Option<u32> {
        match self {
            Self::NotRegistered(id) | Self::NoRegistry(id) | Self::NoSuchId(id) | Self::OtherSchema(id) => Some(*id),
            _ => None,
        }
    }
}

/// Every released schema, by fingerprint, and what the ids of a registry mean.
pub struct Codec {
    schemas: Vec<Released>,
    known: Arc<Known>,
    ids: Arc<Ids>,
    source: OnceLock<EventSource>,
    /// Asks the registry as long as this is there.
    _asker: Option<AbortOnDropHandle<()>>,
}

struct Released {
    kind: Kind,
    fast: serde_avro_fast::Schema,
    /// That a registry has given it: it is written by it.
    id: Option<u32>,
    /// Where it is, or what it is, as a URI.
    uri: String,
}

impl Codec {
    /// Without a registry: of those who have none, and of those who read nothing that was framed by one.
    pub fn new() -> anyhow::Result<Self> {
        Self::asking(Asking::Nobody)
    }

    /// Parses the compiled-in schemas. Their fingerprints are the fast library's, which are those of Avro's reference
    /// implementation; apache-avro 0.22 keeps `{"type":"string"}` in the canonical form of a logical type, where the
    /// specification ("Parsing Canonical Form", PRIMITIVES) and Java write `"string"`. It still has to accept each schema.
    /// What is written is said to come from there. Heard once: whoever writes is of one log.
    pub fn is_from(&self, source: EventSource) {
        drop(self.source.set(source));
    }

    pub(crate) fn source(&self) -> Option<&EventSource> {
        self.source.get()
    }

    fn asking(asking: Asking) -> anyhow::Result<Self> {
        Self::of(wire::RELEASED, asking)
    }

    fn of(released: &[(Kind, &str)], asking: Asking) -> anyhow::Result<Self> {
        apache_avro::util::max_allocation_bytes(ALLOCATION_MAX);
        let (mut schemas, mut events) = (Vec::new(), HashMap::new());
        for (kind, text) in released {
            let fast: serde_avro_fast::Schema = text.parse()?;
            apache_avro::Schema::parse_str(text)?;
            let fingerprint = *fast.rabin_fingerprint();
            let uri = format!("urn:avro:{}:{}", kind.full_name(), data_encoding::HEXLOWER.encode(&fingerprint));
            events.insert(fingerprint, schemas.len());
            schemas.push(Released { kind: *kind, fast, id: None, uri });
        }
        let requests = requested::RELEASED.iter().map(|text| Ok(Arc::new(text.parse()?)));
        let requests = requests.collect::<anyhow::Result<Vec<_>>>()?;
        let reader = apache_avro::Schema::parse_str(requested::RELEASED[requested::RELEASED.len() - 1])?;
        let (known, ids) = (Arc::new(Known { events, requests, reader }), Arc::new(Ids::new(asking)));
        Ok(Self { schemas, known, ids, source: OnceLock::new(), _asker: None })
    }

    /// The registry at `url` has these schemas by these ids: what is written is written by them from now on.
    fn is_registered(&mut self, registered: &[(u32, &str)], url: &str) {
        for (id, text) in registered {
            let meaning = self.known.meaning(text);
            if let Meaning::Event(index) = meaning {
                let released = &mut self.schemas[index];
                (released.id, released.uri) = (Some(*id), format!("{url}/schemas/ids/{id}"));
            }
            self.ids.is(*id, meaning);
        }
    }

    fn keep(&mut self, asker: AbortOnDropHandle<()>) {
        self._asker = Some(asker);
    }

    fn ids(&self) -> Arc<Ids> {
        Arc::clone(&self.ids)
    }

    fn known(&self) -> Arc<Known> {
        Arc::clone(&self.known)
    }

    /// No request waits for an id that is refused there.
    pub fn heed(&self, refused: RefusedIds) {
        self.ids.heed(refused);
    }

    /// What reads requests, by the same registry.
    #[must_use]
    pub fn requests(&self) -> RequestCodec {
        RequestCodec::new(self.known(), self.ids())
    }

    /// The fingerprint (CRC-64-AVRO, little-endian) of the newest schema of `kind`.
    #[must_use]
    pub fn fingerprint(&self, kind: Kind) -> [u8; 8] {
        *self.newest(kind).fast.rabin_fingerprint()
    }

    /// The schema by which an event of `kind` is written, as CloudEvents' `dataschema` has it: its place in the registry, or
    /// a name with its fingerprint.
    #[must_use]
    pub fn schema_uri(&self, kind: Kind) -> &str {
        &self.newest(kind).uri
    }

    /// The event by the newest schema of its kind: in the registry's frame if there is one, else in single-object encoding.
    pub fn encode(&self, event: &Event) -> Result<Vec<u8>, DecodeError> {
        let released = self.newest(Kind::of(&event.data));
        let (mut bytes, mut max) = (Vec::with_capacity(256), RECORD_MAX);
        match released.id {
            Some(id) => {
                bytes.push(CONFLUENT);
                bytes.extend_from_slice(&id.to_be_bytes());
                max -= LONGER;
            }
            None => {
                bytes.extend_from_slice(&SINGLE_OBJECT);
                bytes.extend_from_slice(released.fast.rabin_fingerprint());
            }
        }
        wire::write(event, &mut bytes, &mut SerializerConfig::new(&released.fast))
            .map_err(|_| DecodeError::Invalid(event.data.name(), "it does not fit its schema".to_owned()))?;
        if bytes.len() <= max { Ok(bytes) } else { Err(DecodeError::TooLarge(bytes.len())) }
    }

    /// The event that these bytes are, by the schema that they name.
    pub fn decode(&self, value: &[u8]) -> Result<Event, DecodeError> {
        let (released, datum) = self.unframe(value)?;
        let mut state = DeserializerState::from_slice(datum, &released.fast);
        let event = wire::read(released.kind, &mut state)
            .map_err(|reason| DecodeError::Invalid(released.kind.name(), reason))?;
        match bytes_left(state.into_reader()) {
            false => Ok(event),
            true => Err(DecodeError::Invalid(released.kind.name(), "bytes are left over after it".to_owned())),
        }
    }

    /// The same value in single-object encoding, which says by itself what it is: rows outlive what a process has heard of a
    /// registry, and are the same whoever folds. What cannot be read stays as it is.
    #[must_use]
    pub fn by_itself<'v>(&self, value: &'v [u8]) -> Cow<'v, [u8]> {
        match value.first() {
            Some(&CONFLUENT) => match self.unframe(value) {
                Ok((released, datum)) => [&SINGLE_OBJECT[..], released.fast.rabin_fingerprint(), datum].concat().into(),
                Err(_) => value.into(),
            },
            _ => value.into(),
        }
    }

    fn unframe<'v>(&self, value: &'v [u8]) -> Result<(&Released, &'v [u8]), DecodeError> {
        let longer = if value.first() == Some(&CONFLUENT) { LONGER } else { 0 };
        if value.len() + longer > RECORD_MAX {
            return Err(DecodeError::TooLarge(value.len()));
        }
        match value {
            [0xC3, 0x01, rest @ ..] => {
                let (fingerprint, datum) = rest.split_first_chunk::<8>().ok_or(DecodeError::UnknownFrame)?;
                let unknown = || DecodeError::UnknownSchema(data_encoding::HEXLOWER.encode(fingerprint));
                let index = self.known.events.get(fingerprint).ok_or_else(unknown)?;
                Ok((&self.schemas[*index], datum))
            }
            [CONFLUENT, rest @ ..] => {
                let (id, datum) = rest.split_first_chunk::<4>().ok_or(DecodeError::UnknownFrame)?;
                Ok((&self.schemas[self.event_of(u32::from_be_bytes(*id))?], datum))
            }
            _ => Err(DecodeError::UnknownFrame),
        }
    }

    fn event_of(&self, id: u32) -> Result<usize, DecodeError> {
        match self.ids.meaning(id) {
            Some(Meaning::Event(index)) => Ok(index),
            Some(Meaning::Missing { of_event: true, .. }) => Err(DecodeError::NoSuchId(id)),
            Some(Meaning::Missing { of_event: false, .. }) => Err(DecodeError::NotRegistered(id)),
            Some(Meaning::Request(_) | Meaning::Other(_)) => Err(DecodeError::OtherSchema(id)),
            None if self.ids.asking() == Asking::Nobody => Err(DecodeError::NoRegistry(id)),
            None => Err(DecodeError::NotRegistered(id)),
        }
    }

    // === for whoever waits for the registry ===

    /// How much was learnt from the registry so far: as long as it stays the same, no id means anything else.
    #[must_use]
    pub fn learnt(&self) -> u64 {
        self.ids.learnt()
    }

    /// Would what could not be read for this reason be read now, or be refused for another one?
    #[must_use]
    pub fn is_past(&self, error: &DecodeError) -> bool {
        error.id().is_some_and(|id| self.event_of(id).err().as_ref() != Some(error))
    }

    /// Has the registry asked for what this is about, until it is known.
    pub fn want(&self, error: &DecodeError) {
        if let DecodeError::NotRegistered(id) | DecodeError::NoSuchId(id) = error {
            self.ids.want(*id, true);
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
