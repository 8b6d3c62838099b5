//! Keys and stream tokens, as those see them who asked for them.

use super::{Shown, text};
use crate::control::{Holder, Key, KeyId};
use crate::payment::Timestamp;

/// A key without what makes it one.
#[derive(serde::Serialize, utoipa::ToSchema)]
#[schema(as = Key)]
pub struct KeyBody<'a> {
    #[schema(value_type = text::KeyId)]
    id: Shown<&'a KeyId>,
    /// What the key begins with.
    prefix: String,
    #[schema(value_type = text::Scope)]
    scope: &'static str,
    #[schema(required)]
    merchant_id: Option<&'a str>,
    #[schema(value_type = text::KeyStatus)]
    status: &'static str,
    #[schema(value_type = text::Time)]
    created_at: &'a str,
    created_by: &'a str,
    reason: &'a str,
    #[schema(value_type = Option<text::Time>, required)]
    expires_at: Option<Shown<Timestamp>>,
    #[schema(value_type = Option<text::Time>, required)]
    revoked_at: Option<&'a str>,
    #[schema(required)]
    revoked_by: Option<&'a str>,
}

/// A key that was just made: the only time that it is told.
#[derive(serde::Serialize, utoipa::ToSchema)]
#[schema(as = NewKey)]
pub struct NewKeyBody<'a> {
    key: &'a str,
    #[serde(flatten)]
    of: KeyBody<'a>,
    /// The one that it takes the place of.
    #[serde(skip_serializing_if = "Option::is_none")]
    replaces: Option<KeyBody<'a>>,
}

impl<'a> KeyBody<'a> {
    #[must_use]
    pub fn new(key: &'a Key, now: Timestamp) -> Self {
        let status = match &key.revoked {
            Some(_) => "revoked",
            None if !key.is_good(now) => "expired",
            None if key.expires_at.is_some() => "expiring",
            None => "good",
        };
        let prefix = match key.holder {
            Holder::Merchant(_) => "plk",
            Holder::Operator => "plo",
        };
        Self {
            id: Shown(&key.id),
            prefix: format!("{prefix}_{}_", key.id),
            scope: key.holder.scope(),
            merchant_id: key.holder.merchant().map(|merchant| merchant.as_str()),
            status,
            created_at: &key.created.at,
            created_by: &key.created.operator,
            reason: &key.created.reason,
            expires_at: key.expires_at.map(Shown),
            revoked_at: key.revoked.as_ref().map(|mark| mark.at.as_str()),
            revoked_by: key.revoked.as_ref().map(|mark| mark.operator.as_str()),
        }
    }
}

impl<'a> NewKeyBody<'a> {
    #[must_use]
    pub fn new(key: &'a str, of: &'a Key, replaces: Option<&'a Key>, now: Timestamp) -> Self {
        Self { key, of: KeyBody::new(of, now), replaces: replaces.map(|key| KeyBody::new(key, now)) }
    }
}
