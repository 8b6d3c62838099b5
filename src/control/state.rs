//! The fold of the control log. Pure and total: whatever stands there, every instance comes to the same.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use super::document::{Envelope, RECORD_REJECTED, Rejection, decode, entity_of, reason_of};
use super::import::{self, IMPORT_ADOPTED, IMPORT_BEGUN, IMPORT_FINISHED, Import};
use super::key::{self, KEY_CREATED, KEY_EXPIRES, KEY_REVOKED, Key, KeyId};
use super::push::{self, PushStep};
use super::schemas::{self, SchemaDecision};
use super::webhooks::KnownWebhooks;
use crate::journal::{LogId, Offset, Partition, Position};

#[derive(Default)]
pub(super) struct State {
    /// The newest version of each entity.
    versions: HashMap<String, u64>,
    rejections: BTreeMap<(Partition, Offset), Rejection>,
    import: Option<Import>,
    keys: HashMap<KeyId, Key>,
    webhooks: Arc<KnownWebhooks>,
    schemas: BTreeMap<u32, SchemaDecision>,
}

/// What one record of the control log did.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Folded {
    /// It rejects this record of our log.
    Rejected(Rejection),
    /// The import into our log is this now.
    Imported(Import),
    /// This key is so now.
    Key(Key),
    /// What is known of webhooks is this now.
    Webhooks(Arc<KnownWebhooks>),
    /// This becomes of a push subscription. What they come to is kept where they are looked for: there are many.
    Push(PushStep),
    /// This was decided of an id of the schema registry.
    Schema(SchemaDecision),
    /// It is of a type, or about a log, that is not for this fold.
    NotForUs,
    /// Another has made that version, at a lower offset, or the one before was never made.
    Late,
    /// It is no document, or one that this version cannot read: no effect, and nothing is decided by it, so that the same can
    /// still be decided by one that can be read.
    Unreadable(String),
}

impl State {
    pub fn fold(&mut self, payments: LogId, offset: Offset, value: &[u8]) -> Folded {
        let envelope: Envelope = match serde_json::from_slice(value) {
            Ok(envelope) => envelope,
            Err(e) => return Folded::Unreadable(reason_of(&e)),
        };
        // By the envelope alone, so that a reader which does not know a type still counts its versions like all others.
        let version = self.versions.get(&envelope.entity).copied().unwrap_or(0);
        if version.checked_add(1) != Some(envelope.version) {
            return Folded::Late;
        }
        let folded = match envelope.kind.as_str() {
            RECORD_REJECTED => decode(payments, value, offset).map(|new| new.map(Folded::Rejected)),
            IMPORT_BEGUN | IMPORT_FINISHED | IMPORT_ADOPTED => {
                import::fold(payments, self.import.as_ref(), value).map(|now| now.map(Folded::Imported))
            }
            KEY_CREATED | KEY_EXPIRES | KEY_REVOKED => {
                let before = key::id_in(&envelope.entity).and_then(|id| self.keys.get(&id));
                key::fold(before, value).map(|now| Some(Folded::Key(now)))
            }
            kind if KnownWebhooks::knows(kind) => {
                let folded = Arc::make_mut(&mut self.webhooks).fold(payments, offset, kind, value);
                folded.map(|ours| ours.then(|| Folded::Webhooks(Arc::clone(&self.webhooks))))
            }
            kind if schemas::knows(kind) => schemas::decode(payments, value).map(|new| new.map(Folded::Schema)),
            kind if push::knows(kind) => push::fold(payments, offset, kind, value).map(|step| step.map(Folded::Push)),
            _ => Ok(None),
        };
        let folded = match folded {
            Ok(folded) => folded.unwrap_or(Folded::NotForUs),
            Err(reason) => return Folded::Unreadable(reason),
        };
        self.versions.insert(envelope.entity, envelope.version);
        match &folded {
            Folded::Rejected(rejection) => {
                let Position { partition, offset } = rejection.position;
                self.rejections.insert((partition, offset), rejection.clone());
            }
            Folded::Imported(import) => self.import = Some(import.clone()),
            Folded::Key(key) => drop(self.keys.insert(key.id.clone(), key.clone())),
            Folded::Schema(decision) => drop(self.schemas.insert(decision.schema_id, decision.clone())),
            Folded::Webhooks(_) | Folded::Push(_) | Folded::NotForUs | Folded::Late | Folded::Unreadable(_) => {}
        }
        folded
    }

    /// The import into our log, if there ever was one.
    pub fn import(&self) -> Option<&Import> {
        self.import.as_ref()
    }

    /// The newest version of an entity; 0 if there is none.
    pub fn version(&self, entity: &str) -> u64 {
        self.versions.get(entity).copied().unwrap_or(0)
    }

    pub fn key(&self, id: &KeyId) -> Option<&Key> {
        self.keys.get(id)
    }

    /// By position.
    pub fn rejections(&self) -> impl Iterator<Item = &Rejection> {
        self.rejections.values()
    }

    /// What was decided of ids of the schema registry, by id.
    pub fn schemas(&self) -> impl Iterator<Item = &SchemaDecision> {
        self.schemas.values()
    }

    /// Has anything been decided about this record?
    pub fn is_decided(&self, log: LogId, position: Position) -> bool {
        self.versions.contains_key(&entity_of(log, position))
    }
}

#[cfg(test)]
mod tests {
    use super::{Folded, State};
    use crate::control::document::{NewRejection, encode};
    use crate::journal::{LogId, Offset, Partition, Position};
    use crate::payment::Signed;
    use crate::payment::samples::at;

    const OURS: LogId = LogId([7; 16]);

    fn rejected(log: LogId, position: Position, operator: &str) -> Vec<u8> {
        let signed = Signed::new(operator, "garbage").unwrap();
        encode(log, &NewRejection { position, signed, at: at(0) }).unwrap()
    }

    fn position(offset: u64) -> Position {
        Position::new(Partition(1), Offset(offset))
    }

    #[test]
    fn the_lower_offset_wins() {
        let mut state = State::default();
        let Folded::Rejected(first) = state.fold(OURS, Offset(3), &rejected(OURS, position(42), "ada")) else {
            panic!("the first has no effect")
        };
        assert_eq!((first.position, first.operator.as_str(), first.control_offset), (position(42), "ada", Offset(3)));
        assert_eq!(state.fold(OURS, Offset(4), &rejected(OURS, position(42), "bob")), Folded::Late);
        assert_eq!(state.rejections().collect::<Vec<_>>(), [&first]);
        assert!(state.is_decided(OURS, position(42)) && !state.is_decided(OURS, position(43)));
    }

    #[test]
    fn what_is_of_another_log_or_of_a_later_version_of_paylog_has_no_effect() {
        let mut state = State::default();
        let other = rejected(LogId([8; 16]), position(42), "ada");
        assert_eq!(state.fold(OURS, Offset(0), &other), Folded::NotForUs);
        let later = br#"{"type":"WebhookEndpointSet","entity":"webhook/1","version":1,"url":"https://example.org"}"#;
        assert_eq!(state.fold(OURS, Offset(1), later), Folded::NotForUs);
        assert_eq!(state.fold(OURS, Offset(2), later), Folded::Late, "its versions are counted all the same");
        assert_eq!(state.rejections().count(), 0);
    }

    #[test]
    fn what_cannot_be_read_has_no_effect() {
        let mut state = State::default();
        let good = String::from_utf8(rejected(OURS, position(42), "ada")).unwrap();
        let bad = [
            String::new(),
            "garbage".to_owned(),
            "[]".to_owned(),
            good.replace("\"type\"", "\"kind\""),
            good.replace("\"offset\":42", "\"offset\":-1"),
            good.replace("\"offset\":42", "\"offset\":\"4242424242424242\""),
            good.replace("\"offset\":42", "\"offset\":43").replace("/1/42", "/1/44"),
        ];
        for value in &bad {
            let folded = state.fold(OURS, Offset(0), value.as_bytes());
            assert!(matches!(&folded, Folded::Unreadable(reason) if !reason.contains("4242")), "{value}: {folded:?}");
        }
        assert_eq!(state.rejections().count(), 0);
        assert!(!state.is_decided(OURS, position(42)));
        let folded = state.fold(OURS, Offset(8), good.as_bytes());
        assert!(matches!(folded, Folded::Rejected(_)), "by one that can be read: {folded:?}");
        let skips = good.replace("\"version\":1", "\"version\":3").replace("42", "50");
        assert_eq!(state.fold(OURS, Offset(9), skips.as_bytes()), Folded::Late, "a version that nothing led to");
    }

    /// As it stands on somebody's log: these bytes never change their meaning.
    #[test]
    fn a_golden_document() {
        let golden = r#"{"type":"RecordRejected","entity":"record/07070707070707070707070707070707/1/42","version":1,"log":"07070707070707070707070707070707","partition":1,"offset":42,"operator":"ada","reason":"garbage","at":"2025-11-24T16:00:00.000000Z"}"#;
        assert_eq!(String::from_utf8(rejected(OURS, position(42), "ada")).unwrap(), golden);
        let mut state = State::default();
        let Folded::Rejected(read) = state.fold(OURS, Offset(0), golden.as_bytes()) else { panic!("not read") };
        assert_eq!((read.position, read.reason.as_str()), (position(42), "garbage"));
    }
}
