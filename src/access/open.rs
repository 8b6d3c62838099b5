//! What a page of another origin may be shown, where its origin is allowed: what a stream token opens, and how a browser comes
//! to a stream with it, or is told by Web Push. What is made with a key is not among it, for a key has no place in a browser.

const READ: &str = "GET, HEAD";

/// The methods of a path that are open.
#[must_use]
pub fn open_to_origins(path: &str) -> Option<&'static str> {
    let segments: Vec<&str> = path.strip_prefix("/v1/")?.split('/').collect();
    match segments[..] {
        ["stream"] => Some("GET"),
        ["events" | "payments"] | ["payments", _] | ["payments", _, "events"] => Some(READ),
        ["push"] => Some("GET"),
        ["push_subscriptions"] | ["stream_tokens", "ticket"] => Some("POST"),
        ["push_subscriptions", _] => Some("DELETE"),
        ["stream_tokens", "cookie"] => Some("POST, DELETE"),
        _ => None,
    }
}
