//! What stands on the control log: JSON documents, each about one entity, each with the version that it makes of it.
//!
//! ```json
//! {"type": "RecordRejected", "entity": "record/<log>/1/42", "version": 1, "log": "<log>", "partition": 1, "offset": 42,
//!  "operator": "ada", "reason": "...", "at": "2026-11-25T10:00:00.000000Z"}
//! ```
//!
//! A document replaces the version before its own. If another has done so already, at a lower offset, it has no effect.
//! Readers pass over types and members that they do not know; what is here never changes its meaning.

use crate::journal::{LogId, Offset, Partition, Position};
use crate::payment::{Signed, Timestamp};

/// The name of the only type so far.
pub(super) const RECORD_REJECTED: &str = "RecordRejected";

/// What every document has.
#[derive(serde::Deserialize)]
pub(super) struct Envelope {
    #[serde(rename = "type")]
    pub kind: String,
    pub entity: String,
    pub version: u64,
}

#[derive(serde::Serialize, serde::Deserialize)]
struct RecordRejected {
    #[serde(rename = "type")]
    kind: String,
    entity: String,
    version: u64,
    log: String,
    partition: u32,
    offset: u64,
    operator: String,
    reason: String,
    at: String,
}

/// An operator's wish to pass over one record, checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewRejection {
    pub position: Position,
    pub signed: Signed,
    pub at: Timestamp,
}

/// A record that every fold passes over, and who said so.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rejection {
    pub position: Position,
    pub operator: String,
    pub reason: String,
    /// By the clock of the instance that wrote it down.
    pub at: String,
    /// Where on the control log it stands.
    pub control_offset: Offset,
}

/// The entity that is one record of one log.
pub(super) fn entity_of(log: LogId, position: Position) -> String {
    format!("record/{log}/{}/{}", position.partition, position.offset)
}

/// A record is rejected once, so its only version is the first.
pub(super) fn encode(log: LogId, new: &NewRejection) -> serde_json::Result<Vec<u8>> {
    serde_json::to_vec(&RecordRejected {
        kind: RECORD_REJECTED.to_owned(),
        entity: entity_of(log, new.position),
        version: 1,
        log: log.to_string(),
        partition: new.position.partition.0,
        offset: new.position.offset.0,
        operator: new.signed.operator().to_owned(),
        reason: new.signed.reason().to_owned(),
        at: new.at.to_string(),
    })
}

/// Why a document cannot be read, in words of our own: those of the library may quote it.
pub(super) fn reason_of(error: &serde_json::Error) -> String {
    let what = match error.classify() {
        serde_json::error::Category::Data => "a member is missing or not of its type",
        _ => "it is not JSON",
    };
    format!("{what}: see line {} column {}", error.line(), error.column())
}

/// `None` for a record of another log than `log`.
pub(super) fn decode(log: LogId, value: &[u8], control_offset: Offset) -> Result<Option<Rejection>, String> {
    let document: RecordRejected = serde_json::from_slice(value).map_err(|e| reason_of(&e))?;
    let RecordRejected { entity, partition, offset, operator, reason, at, .. } = document;
    let position = Position::new(Partition(partition), Offset(offset));
    if document.log != log.to_string() {
        return Ok(None);
    }
    if entity != entity_of(log, position) {
        return Err("it names one record as its entity and rejects another".to_owned());
    }
    Ok(Some(Rejection { position, operator, reason, at, control_offset }))
}
