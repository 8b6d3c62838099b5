//! What stands on the control log about webhooks and browsers: a body, and what every document says beside it.

use super::document::reason_of;
use super::{Control, not_encoded};
use crate::journal::{AppendError, LogId};
use crate::payment::Timestamp;

#[derive(serde::Serialize, serde::Deserialize)]
pub(super) struct Document<T> {
    #[serde(rename = "type")]
    pub(super) kind: String,
    pub(super) entity: String,
    pub(super) version: u64,
    pub(super) log: String,
    pub(super) at: String,
    #[serde(flatten)]
    pub(super) body: T,
}

impl<T: serde::de::DeserializeOwned> Document<T> {
    /// `None` if it is about another log of payments.
    pub(super) fn read(log: LogId, value: &[u8]) -> Result<Option<Self>, String> {
        let document: Self = serde_json::from_slice(value).map_err(|e| reason_of(&e))?;
        Ok((document.log == log.to_string()).then_some(document))
    }
}

impl Control {
    pub(super) fn document<T: serde::Serialize>(
        &self,
        kind: &str,
        entity: &str,
        version: u64,
        at: Timestamp,
        body: T,
    ) -> Result<Vec<u8>, AppendError> {
        let (kind, entity, log) = (kind.to_owned(), entity.to_owned(), self.shared.payments.to_string());
        let document = Document { kind, entity, version, log, at: at.to_string(), body };
        serde_json::to_vec(&document).map_err(not_encoded)
    }
}
