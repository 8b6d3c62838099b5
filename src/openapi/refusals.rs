//! The codes of problems that several operations answer with, each list by what an operation does that can come to them.

/// A status, and the codes that it is answered with.
pub type Codes = (u16, &'static [&'static str]);

/// Of whoever takes parameters, or refuses them.
pub const QUERY: &[Codes] = &[(400, &["unknown_parameter", "repeated_parameter", "bad_request"])];

/// Of whoever reads a body of JSON.
pub const BODY: &[Codes] = &[
    (400, &["body_unreadable", "malformed_json"]),
    (408, &["body_timeout"]),
    (413, &["body_too_large"]),
    (415, &["unsupported_media_type"]),
];

/// Of whoever waits for a position that was named.
pub const AT_LEAST: &[Codes] = &[(400, &["invalid_position"]), (409, &["other_log"]), (503, &["behind"])];

/// Of whoever writes something down on a log.
pub const RECORDED: &[Codes] = &[(503, &["shutting_down", "not_appended", "append_unknown"])];

/// Of whoever takes a decision that somebody signs with a name and a reason.
pub const DECISION: &[Codes] = &[
    (400, &["duplicate_field", "unknown_field"]),
    (422, &["missing_field", "not_a_string", "invalid_operator", "invalid_reason", "card_number"]),
];

/// Of whoever looks at who asks.
pub(super) const KEYED: &[Codes] = &[
    (400, &["invalid_authorization"]),
    (401, &["authentication_required", "invalid_key", "key_revoked", "key_expired"]),
    (403, &["insufficient_scope"]),
];
pub(super) const BY_TOKEN: &[Codes] = &[(401, &["invalid_token", "token_expired"])];
pub(super) const BY_TICKET: &[Codes] = &[(401, &["ticket_used"]), (503, &["too_many_tickets"])];
pub(super) const OPERATOR: &[Codes] = &[(403, &["loopback_only"])];

/// Of everybody.
pub(super) const ALWAYS: &[Codes] = &[(500, &["internal_error"])];
