//! Ids of the schema registry that requests wait for no longer, as they stand on the control log: an operator has refused what
//! is written by one, or has taken that back.
//!
//! ```json
//! {"type": "RequestSchemaRefused", "entity": "request_schema/<log>/17", "version": 1, "log": "<log>", "schema_id": 17,
//!  "operator": "ada", "reason": "...", "at": "..."}
//! {"type": "RequestSchemaAwaited", "entity": "request_schema/<log>/17", "version": 2, ...}
//! ```

use std::time::Duration;

use super::document::reason_of;
use super::import::Mark;
use super::{Control, Decided, not_encoded};
use crate::holding::RefusedIds;
use crate::journal::{AppendError, LogId};
use crate::payment::{Signed, Timestamp};

const REFUSED: &str = "RequestSchemaRefused";
const AWAITED: &str = "RequestSchemaAwaited";

/// What was decided of one id last.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SchemaDecision {
    pub schema_id: u32,
    /// What is written by it becomes a dead letter; otherwise it waits, as if nothing had ever been decided.
    pub refused: bool,
    pub version: u64,
    pub mark: Mark,
}

#[derive(serde::Serialize, serde::Deserialize)]
struct Document {
    #[serde(rename = "type")]
    kind: String,
    entity: String,
    version: u64,
    log: String,
    schema_id: u32,
    operator: String,
    reason: String,
    at: String,
}

impl SchemaDecision {
    /// Is it this operator's, at this time?
    pub(super) fn is_by(&self, refused: bool, signed: &Signed, at: Timestamp) -> bool {
        let Mark { operator, reason, at: marked } = &self.mark;
        let theirs = operator == signed.operator() && reason == signed.reason();
        self.refused == refused && theirs && *marked == at.to_string()
    }
}

impl Control {
    /// Of which ids of the schema registry no request waits to be explained, for those who read requests.
    #[must_use]
    pub fn refused_ids(&self) -> RefusedIds {
        self.shared.refused_ids.clone()
    }

    /// What was decided of ids of the schema registry, by id.
    #[must_use]
    pub fn schema_decisions(&self) -> Vec<SchemaDecision> {
        self.shared.state().schemas().cloned().collect()
    }

    /// Has requests by this id refused, or waited for again.
    pub async fn decide_schema(
        &self,
        schema_id: u32,
        refused: bool,
        signed: &Signed,
        at: Timestamp,
        patience: Duration,
    ) -> Result<Decided<SchemaDecision>, AppendError> {
        let key = entity_of(self.shared.payments, schema_id);
        let version = self.shared.state().version(&key).saturating_add(1);
        let value = encode(self.shared.payments, schema_id, version, refused, signed, at);
        Ok(match self.decide(key, value.map_err(not_encoded)?, patience).await? {
            None => Decided::Unconfirmed,
            Some(_) => match self.shared.state().schemas().find(|known| known.schema_id == schema_id) {
                Some(now) if now.version == version && now.is_by(refused, signed, at) => {
                    Decided::Effective(now.clone())
                }
                _ => Decided::Late,
            },
        })
    }
}

pub(super) fn knows(kind: &str) -> bool {
    matches!(kind, REFUSED | AWAITED)
}

pub(super) fn entity_of(log: LogId, schema_id: u32) -> String {
    format!("request_schema/{log}/{schema_id}")
}

pub(super) fn encode(
    log: LogId,
    schema_id: u32,
    version: u64,
    refused: bool,
    signed: &Signed,
    at: Timestamp,
) -> serde_json::Result<Vec<u8>> {
    serde_json::to_vec(&Document {
        kind: if refused { REFUSED } else { AWAITED }.to_owned(),
        entity: entity_of(log, schema_id),
        version,
        log: log.to_string(),
        schema_id,
        operator: signed.operator().to_owned(),
        reason: signed.reason().to_owned(),
        at: at.to_string(),
    })
}

/// `None` if it is about another log than `log`.
pub(super) fn decode(log: LogId, value: &[u8]) -> Result<Option<SchemaDecision>, String> {
    let document: Document = serde_json::from_slice(value).map_err(|e| reason_of(&e))?;
    let Document { kind, entity, version, schema_id, operator, reason, at, .. } = document;
    if document.log != log.to_string() {
        return Ok(None);
    }
    if entity != entity_of(log, schema_id) {
        return Err("it names one id as its entity and decides about another".to_owned());
    }
    let mark = Mark { operator, reason, at };
    Ok(Some(SchemaDecision { schema_id, refused: kind == REFUSED, version, mark }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::state::{Folded, State};
    use crate::journal::Offset;
    use crate::payment::samples::at;

    const OURS: LogId = LogId([7; 16]);

    fn decision(id: u32, version: u64, refused: bool) -> Vec<u8> {
        encode(OURS, id, version, refused, &Signed::new("ada", "no rights").unwrap(), at(0)).unwrap()
    }

    #[test]
    fn an_id_is_refused_and_awaited_again_and_of_two_the_first_wins() {
        let mut state = State::default();
        for (version, refused, late) in [(1, true, false), (1, false, true), (2, false, false), (2, true, true)] {
            let folded = state.fold(OURS, Offset(version), &decision(17, version, refused));
            assert_eq!(matches!(folded, Folded::Late), late, "{version} {folded:?}");
        }
        assert_eq!(state.schemas().map(|known| (known.schema_id, known.refused)).collect::<Vec<_>>(), [(17, false)]);
        let other = encode(LogId([8; 16]), 3, 1, true, &Signed::new("ada", "x").unwrap(), at(0)).unwrap();
        assert_eq!(state.fold(OURS, Offset(9), &other), Folded::NotForUs);
    }

    /// As it stands on somebody's log: these bytes never change their meaning.
    #[test]
    fn a_golden_document() {
        let golden = r#"{"type":"RequestSchemaRefused","entity":"request_schema/07070707070707070707070707070707/17","version":1,"log":"07070707070707070707070707070707","schema_id":17,"operator":"ada","reason":"no rights","at":"2025-11-24T16:00:00.000000Z"}"#;
        assert_eq!(String::from_utf8(decision(17, 1, true)).unwrap(), golden);
        let read = decode(OURS, golden.as_bytes()).unwrap().unwrap();
        assert!(read.refused && read.mark.operator == "ada");
        assert!(decode(OURS, golden.replace("/17\"", "/18\"").as_bytes()).is_err());
    }
}
