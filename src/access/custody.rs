//! What an operator does with keys: make one, exchange one for another with an overlap, revoke one. The same over HTTP and in
//! the directory of an instance that does not run.

use std::time::Duration;

use super::ApiKey;
use crate::control::{Control, Decided, Holder, Key, KeyId, KeyStep};
use crate::journal::AppendError;
use crate::payment::{Signed, Timestamp};

/// How long the key that is exchanged stays good beside its successor, unless somebody says otherwise.
pub const OVERLAP: Duration = Duration::from_secs(24 * 60 * 60);
/// The longest.
pub const OVERLAP_MAX: Duration = Duration::from_secs(30 * 24 * 60 * 60);

/// Who decides, when, and how long the control log is waited for.
pub struct Hand<'a> {
    pub control: &'a Control,
    pub signed: &'a Signed,
    pub now: Timestamp,
    pub patience: Duration,
}

/// Why nothing was done, or nobody knows whether it was.
#[derive(Debug, thiserror::Error)]
pub enum NotDone {
    #[error("there is no key with this id: see `paylog keys ls`")]
    NoSuchKey,
    #[error("this key is not good any more: see `paylog keys ls`")]
    Over,
    #[error("somebody else has changed this key at the same time: look, then repeat")]
    Late,
    #[error("the control log has not confirmed it in time: look, revoke a key that nobody has, and repeat")]
    Unconfirmed,
    #[error("nothing was recorded: repeat it later")]
    NotAppended,
    #[error("it may or may not have been recorded: look, revoke a key that nobody has, and repeat")]
    Unknown,
}

impl Hand<'_> {
    /// The key itself is in the answer, and nowhere else.
    pub async fn create(&self, holder: Holder) -> Result<(ApiKey, Key), NotDone> {
        let made = ApiKey::generate(&holder);
        let key = self.step(&made.id, KeyStep::Create { holder, digest: made.digest }).await?;
        Ok((made, key))
    }

    /// Another key for the same holder, and an end for this one. Its successor is there first, so that at no moment there is
    /// none; if this one cannot be given an end, its successor goes again, for nobody would have been told it.
    pub async fn rotate(&self, id: &KeyId, overlap: Duration) -> Result<(ApiKey, Key, Key), NotDone> {
        let before = self.good(id)?;
        let (made, key) = self.create(before.holder.clone()).await?;
        let end = self.now.plus(overlap.min(OVERLAP_MAX));
        let end = before.expires_at.map_or(end, |earlier| earlier.min(end));
        match self.step(id, KeyStep::Expire(end)).await {
            Ok(before) => Ok((made, key, before)),
            Err(error) => {
                if let Err(kept) = self.step(&made.id, KeyStep::Revoke).await {
                    tracing::warn!(key = %made.id, error = %kept, "a key that nobody has could not be revoked: revoke it");
                }
                Err(error)
            }
        }
    }

    /// From now on it opens nothing: here at once, elsewhere as soon as the control log has been read.
    pub async fn revoke(&self, id: &KeyId) -> Result<Key, NotDone> {
        let key = self.control.keys().find(id).ok_or(NotDone::NoSuchKey)?;
        if key.revoked.is_some() {
            return Err(NotDone::Over);
        }
        self.step(id, KeyStep::Revoke).await
    }

    fn good(&self, id: &KeyId) -> Result<Key, NotDone> {
        let key = self.control.keys().find(id).ok_or(NotDone::NoSuchKey)?;
        if key.is_good(self.now) { Ok((*key).clone()) } else { Err(NotDone::Over) }
    }

    async fn step(&self, id: &KeyId, step: KeyStep) -> Result<Key, NotDone> {
        let decided = self.control.step_key(id, &step, self.signed, self.now, self.patience).await;
        match decided {
            Ok(Decided::Effective(key)) => Ok(key),
            Ok(Decided::Late) => Err(NotDone::Late),
            Ok(Decided::Unconfirmed) => Err(NotDone::Unconfirmed),
            Err(error) => {
                tracing::warn!(key = %id, %error, "what becomes of a key was not recorded");
                Err(match error {
                    AppendError::NotAppended(_) => NotDone::NotAppended,
                    AppendError::Unknown(_) => NotDone::Unknown,
                })
            }
        }
    }
}
