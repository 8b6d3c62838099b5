//! What operations share and refer to: headers, and how a caller says who it is.

use serde_json::{Value, json};

/// The cookie that a stream token is in.
pub const COOKIE: &str = "__Secure-paylog-stream";

/// A header of answers: its name, its form and what it says.
pub type Header = (&'static str, &'static str, &'static str);

/// Every header of an answer that a client may count on. An answer that bears one has to say so in its description.
pub const HEADERS: &[Header] = &[
    (
        "Paylog-Position",
        "string",
        "How far the answer had seen the log, opaque: of the append on a POST, else what was folded. To be given as `at_least`.",
    ),
    ("Location", "string", "Where the payment is, with the position from which on it may be asked for."),
    ("ETag", "string", "The version that this is of, in quotes; to be sent in `If-None-Match`."),
    ("Retry-After", "integer", "When to come back, in seconds."),
    ("Idempotent-Replayed", "string", "`true`: the payment is of an earlier request with the same key."),
    ("Preference-Applied", "string", "The wait that was honoured, as `wait=10`."),
    ("WWW-Authenticate", "string", "What is missing or not good about what was shown (RFC 6750)."),
    ("Allow", "string", "The methods that there are."),
    ("Set-Cookie", "string", "The stream token, out of the reach of scripts; or nothing, and the cookie is forgotten."),
    ("Upgrade", "string", "`websocket`."),
    ("Sec-WebSocket-Accept", "string", "RFC 6455, 4.2.2."),
    ("Sec-WebSocket-Version", "string", "`13`."),
    ("WebHook-Allowed-Origin", "string", "Whose events are taken: who has asked."),
    ("WebHook-Allowed-Rate", "string", "`*`: as fast as they come; who is too fast is answered with 503."),
    (
        "Content-Security-Policy",
        "string",
        "What a browser may run and load for the page: files of this origin, and nothing inline.",
    ),
];

pub(super) fn of(schemas: Value) -> Value {
    let headers: serde_json::Map<String, Value> = HEADERS
        .iter()
        .map(|(name, kind, says)| ((*name).to_owned(), json!({"description": says, "schema": {"type": kind}})))
        .collect();
    json!({"schemas": schemas, "headers": headers, "securitySchemes": schemes()})
}

fn schemes() -> Value {
    let bearer = |format: &str, says: &str| json!({"type": "http", "scheme": "bearer", "bearerFormat": format, "description": says});
    json!({
        "merchantKey": bearer("plk_...", "A merchant's API key: all that is the merchant's. Made with `paylog keys create`; no browser has one."),
        "operatorKey": bearer("plo_...", "An operator's API key: everything under `/v1/operator/`, and nothing else."),
        "streamToken": bearer("JWT", "What a merchant's backend asks for at `/v1/stream_tokens` and gives to a page: it reads and follows one payment or one customer, until its end."),
        "streamCookie": {"type": "apiKey", "in": "cookie", "name": COOKIE, "description": "The stream token in a cookie, for a browser's EventSource."},
        "streamTicket": {"type": "apiKey", "in": "query", "name": "ticket", "description": "A ticket for a stream token, good once and for seconds, where a browser can send neither header nor cookie."},
    })
}
