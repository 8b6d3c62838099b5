//! An import of another log's records into this one, as it stands on the control log: begun before the first record was
//! appended, finished when all of them stand there, adopted when an operator says that they may be acted on.
//!
//! ```json
//! {"type": "ImportBegun", "entity": "import/<log>", "version": 1, "log": "<log>", "archive": {"log": "...", "digest": "...",
//!  "records": 5}, "ranges": [{"partition": 0, "from": 0, "to": 5}], "operator": "ada", "reason": "...", "at": "..."}
//! {"type": "ImportFinished", "entity": "import/<log>", "version": 2, ...}
//! {"type": "ImportAdopted", "entity": "import/<log>", "version": 3, ...}
//! ```
//!
//! A log is imported into once: only while it is empty.

use std::sync::{Arc, PoisonError, RwLock};

use super::document::reason_of;
use crate::journal::{LogId, Offset, Partition, Position};
use crate::payment::{Signed, Timestamp};

pub(super) const IMPORT_BEGUN: &str = "ImportBegun";
pub(super) const IMPORT_FINISHED: &str = "ImportFinished";
pub(super) const IMPORT_ADOPTED: &str = "ImportAdopted";

/// One import, as far as it has come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Import {
    pub archive: ImportedArchive,
    pub ranges: Vec<ImportedRange>,
    pub begun: Mark,
    pub finished: bool,
    pub adopted: Option<Mark>,
}

/// What was imported.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize, utoipa::ToSchema)]
pub struct ImportedArchive {
    /// The log that it was made of.
    pub log: String,
    /// The last link of its chain.
    pub digest: String,
    pub records: u64,
}

/// `from <= offset < to` of one partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize, utoipa::ToSchema)]
pub struct ImportedRange {
    pub partition: u32,
    pub from: u64,
    pub to: u64,
}

/// Who did something, why, and when by the clock of the process that wrote it down.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mark {
    pub operator: String,
    pub reason: String,
    pub at: String,
}

/// What became of an import.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    Begin { archive: ImportedArchive, ranges: Vec<ImportedRange> },
    Finish,
    Adopt,
}

#[derive(serde::Serialize, serde::Deserialize)]
struct Document {
    #[serde(rename = "type")]
    kind: String,
    entity: String,
    version: u64,
    log: String,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    archive: Option<ImportedArchive>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    ranges: Option<Vec<ImportedRange>>,
    operator: String,
    reason: String,
    at: String,
}

/// The import into one log.
pub(super) fn entity_of(log: LogId) -> String {
    format!("import/{log}")
}

pub(super) fn encode(log: LogId, step: &Step, signed: &Signed, at: Timestamp) -> serde_json::Result<Vec<u8>> {
    let (kind, version, archive, ranges) = match step {
        Step::Begin { archive, ranges } => (IMPORT_BEGUN, 1, Some(archive.clone()), Some(ranges.clone())),
        Step::Finish => (IMPORT_FINISHED, 2, None, None),
        Step::Adopt => (IMPORT_ADOPTED, 3, None, None),
    };
    serde_json::to_vec(&Document {
        kind: kind.to_owned(),
        entity: entity_of(log),
        version,
        log: log.to_string(),
        archive,
        ranges,
        operator: signed.operator().to_owned(),
        reason: signed.reason().to_owned(),
        at: at.to_string(),
    })
}

/// What a document makes of the import that was known before; `None` if it is one into another log.
pub(super) fn fold(log: LogId, before: Option<&Import>, value: &[u8]) -> Result<Option<Import>, String> {
    let document: Document = serde_json::from_slice(value).map_err(|e| reason_of(&e))?;
    if document.log != log.to_string() {
        return Ok(None);
    }
    if document.entity != entity_of(log) {
        return Err("it names one log as its entity and tells of another".to_owned());
    }
    let Document { kind, archive, ranges, operator, reason, at, .. } = document;
    let mark = Mark { operator, reason, at };
    let import = match (kind.as_str(), before, archive, ranges) {
        (IMPORT_BEGUN, None, Some(archive), Some(ranges)) => {
            Import { archive, ranges, begun: mark, finished: false, adopted: None }
        }
        (IMPORT_FINISHED, Some(begun), ..) if !begun.finished => Import { finished: true, ..begun.clone() },
        (IMPORT_ADOPTED, Some(done), ..) if done.finished && done.adopted.is_none() => {
            Import { adopted: Some(mark), ..done.clone() }
        }
        _ => return Err("it is no next step of an import".to_owned()),
    };
    Ok(Some(import))
}

impl Import {
    /// Is its last step this one?
    pub(super) fn is_by(&self, step: &Step, signed: &Signed, at: Timestamp) -> bool {
        let is = |mark: &Mark| {
            mark.operator == signed.operator() && mark.reason == signed.reason() && mark.at == at.to_string()
        };
        match step {
            Step::Begin { archive, .. } => !self.finished && *archive == self.archive && is(&self.begun),
            Step::Finish => self.finished && self.adopted.is_none(),
            Step::Adopt => self.adopted.as_ref().is_some_and(is),
        }
    }
}

// === for those who act ===

/// Where a payment began, as far as who acts for it must know.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Origin {
    /// On this log.
    #[default]
    Ours,
    /// On another, and nobody has said that this one acts for it now: somebody else may.
    Imported,
    /// On another, and an operator has said that nobody acts for it any more but this log. This process heard it then.
    Adopted { heard_at: Timestamp },
}

/// The imported ranges of one log, for those who act. Cheap to clone; all clones are one.
#[derive(Clone, Default)]
pub struct Imports(Arc<RwLock<Option<Known>>>);

struct Known {
    ranges: Vec<ImportedRange>,
    adopted: Option<Timestamp>,
}

impl Imports {
    /// Where the payment began whose initiation is this record.
    #[must_use]
    pub fn origin(&self, initiation: Position) -> Origin {
        let known = self.0.read().unwrap_or_else(PoisonError::into_inner);
        match &*known {
            Some(known) if known.ranges.iter().any(|range| range.has(initiation)) => {
                known.adopted.map_or(Origin::Imported, |heard_at| Origin::Adopted { heard_at })
            }
            _ => Origin::Ours,
        }
    }

    pub(super) fn tell(&self, import: &Import, now: Timestamp) {
        let adopted = import.adopted.is_some().then_some(now);
        let known = Known { ranges: import.ranges.clone(), adopted };
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = Some(known);
    }
}

impl ImportedRange {
    fn has(&self, position: Position) -> bool {
        let Position { partition: Partition(partition), offset: Offset(offset) } = position;
        self.partition == partition && (self.from..self.to).contains(&offset)
    }
}

#[cfg(test)]
mod tests {
    use super::{Import, ImportedArchive, ImportedRange, Imports, Origin, Step, encode, fold};
    use crate::journal::{LogId, Offset, Partition, Position};
    use crate::payment::Signed;
    use crate::payment::samples::at;

    const OURS: LogId = LogId([7; 16]);

    fn document(step: &Step) -> Vec<u8> {
        encode(OURS, step, &Signed::new("ada", "restored").unwrap(), at(0)).unwrap()
    }

    fn begin() -> Step {
        let archive = ImportedArchive { log: "08".repeat(16), digest: "09".repeat(32), records: 5 };
        Step::Begin { archive, ranges: vec![ImportedRange { partition: 1, from: 0, to: 5 }] }
    }

    fn folded(steps: &[Step]) -> Result<Option<Import>, String> {
        let mut import = None;
        for step in steps {
            import = fold(OURS, import.as_ref(), &document(step))?;
        }
        Ok(import)
    }

    #[test]
    fn an_import_is_begun_finished_and_adopted_in_this_order_alone() {
        let whole = folded(&[begin(), Step::Finish, Step::Adopt]).unwrap().unwrap();
        assert!(whole.finished && whole.adopted.is_some_and(|mark| mark.operator == "ada"));
        assert!(!folded(&[begin()]).unwrap().unwrap().finished);
        for wrong in [
            &[Step::Finish][..],
            &[Step::Adopt],
            &[begin(), begin()],
            &[begin(), Step::Adopt],
            &[begin(), Step::Finish, Step::Finish],
            &[begin(), Step::Finish, Step::Adopt, Step::Adopt],
        ] {
            assert!(folded(wrong).is_err(), "{wrong:?}");
        }
        assert_eq!(fold(LogId([8; 16]), None, &document(&begin())), Ok(None), "into another log");
    }

    #[test]
    fn who_acts_knows_where_a_payment_began() {
        let imports = Imports::default();
        let position = |partition, offset| Position::new(Partition(partition), Offset(offset));
        assert_eq!(imports.origin(position(1, 0)), Origin::Ours);
        imports.tell(&folded(&[begin(), Step::Finish]).unwrap().unwrap(), at(10));
        let heard = [(1, 0), (1, 4), (1, 5), (0, 0)].map(|(p, o)| imports.origin(position(p, o)));
        assert_eq!(heard, [Origin::Imported, Origin::Imported, Origin::Ours, Origin::Ours]);
        imports.tell(&folded(&[begin(), Step::Finish, Step::Adopt]).unwrap().unwrap(), at(20));
        assert_eq!(imports.origin(position(1, 4)), Origin::Adopted { heard_at: at(20) });
        assert_eq!(imports.origin(position(1, 5)), Origin::Ours);
    }

    /// As they stand on somebody's log: these bytes never change their meaning.
    #[test]
    fn golden_documents() {
        let golden = [
            r#"{"type":"ImportBegun","entity":"import/07070707070707070707070707070707","version":1,"log":"07070707070707070707070707070707","archive":{"log":"08080808080808080808080808080808","digest":"0909090909090909090909090909090909090909090909090909090909090909","records":5},"ranges":[{"partition":1,"from":0,"to":5}],"operator":"ada","reason":"restored","at":"2025-11-24T16:00:00.000000Z"}"#,
            r#"{"type":"ImportFinished","entity":"import/07070707070707070707070707070707","version":2,"log":"07070707070707070707070707070707","operator":"ada","reason":"restored","at":"2025-11-24T16:00:00.000000Z"}"#,
            r#"{"type":"ImportAdopted","entity":"import/07070707070707070707070707070707","version":3,"log":"07070707070707070707070707070707","operator":"ada","reason":"restored","at":"2025-11-24T16:00:00.000000Z"}"#,
        ];
        let mut import = None;
        for (golden, step) in golden.iter().zip([begin(), Step::Finish, Step::Adopt]) {
            assert_eq!(String::from_utf8(document(&step)).unwrap(), *golden);
            import = fold(OURS, import.as_ref(), golden.as_bytes()).unwrap();
        }
        assert!(import.unwrap().adopted.is_some());
    }
}
