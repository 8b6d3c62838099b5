//! What goes over a WebSocket: JSON objects, one a message, told apart by their `type`.
//!
//! | from the client | |
//! |---|---|
//! | `{"type": "subscribe", "id", "payment_id" or "customer_id" or neither, "cursor", "at_least", "types": []}` | all but `type` and `id` optional |
//! | `{"type": "unsubscribe", "id"}` | |
//!
//! | from the server | |
//! |---|---|
//! | `{"type": "subscribed", "id"}`, `{"type": "unsubscribed", "id"}` | done; after the second nothing more comes with this id |
//! | `{"type": "frame", "id", "event", "cursor", "data"}` | `event` and `data` as Server-Sent Events have them; a `cursor` of `null` moves none |
//! | `{"type": "cursor", "id", "cursor"}` | a place to come back to |
//! | `{"type": "end", "id"}` | the payment has ended, and all of it was told: the subscription is over |
//! | `{"type": "error", "id", "error"}` | a problem as HTTP answers it; `id` is `null` where none could be read. What had begun and fails is over |
//! | `{"type": "going_away", "retry_ms"}` | the last message, before a close with 1001 |

use warp::http::StatusCode;

use super::feed::{Block, Body};
use crate::contract::text;
use crate::http::{Problem, ProblemBody};
use crate::journal::LogId;

/// The longest id of a subscription.
const ID_MAX_BYTES: usize = 64;

#[derive(Debug, PartialEq, serde::Deserialize, utoipa::ToSchema)]
#[serde(tag = "type", rename_all = "snake_case", deny_unknown_fields)]
#[schema(as = SocketAsked)]
pub(super) enum Asked {
    Subscribe(Subscribe),
    Unsubscribe { id: String },
}

#[derive(Debug, PartialEq, serde::Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Subscribe {
    #[schema(min_length = 1, max_length = 64)]
    pub(super) id: String,
    #[schema(value_type = Option<text::PaymentId>)]
    pub(super) payment_id: Option<String>,
    #[schema(value_type = Option<text::CustomerId>)]
    pub(super) customer_id: Option<String>,
    pub(super) cursor: Option<String>,
    pub(super) at_least: Option<String>,
    pub(super) types: Option<Vec<String>>,
}

#[derive(serde::Serialize, utoipa::ToSchema)]
#[serde(tag = "type", rename_all = "snake_case")]
#[schema(as = SocketTold)]
pub(super) enum Told<'a> {
    Subscribed {
        id: &'a str,
    },
    Unsubscribed {
        id: &'a str,
    },
    Frame {
        id: &'a str,
        #[schema(value_type = text::FrameName)]
        event: &'static str,
        #[schema(value_type = Option<text::Cursor>, required)]
        cursor: Option<&'a str>,
        data: Body<'a>,
    },
    Cursor {
        id: &'a str,
        #[schema(value_type = Option<text::Cursor>, required)]
        cursor: Option<&'a str>,
    },
    End {
        id: &'a str,
    },
    Error {
        #[schema(required)]
        id: Option<&'a str>,
        error: ProblemBody<'a>,
    },
    GoingAway {
        retry_ms: u64,
    },
}

impl Asked {
    pub(super) fn parse(text: &str) -> Result<Self, Problem> {
        let asked: Self = serde_json::from_str(text).map_err(|_| invalid())?;
        let id = match &asked {
            Self::Subscribe(subscribe) => &subscribe.id,
            Self::Unsubscribe { id } => id,
        };
        if id.is_empty() || id.len() > ID_MAX_BYTES {
            let detail = format!("id must be a text of 1 to {ID_MAX_BYTES} bytes");
            return Err(Problem::new(StatusCode::BAD_REQUEST, "invalid_subscription_id", detail));
        }
        Ok(asked)
    }
}

/// Repeats nothing that was sent.
fn invalid() -> Problem {
    let detail = "a message is {\"type\": \"subscribe\", \"id\": \"...\"} with payment_id or customer_id, cursor, at_least and \
                  types as it likes, or {\"type\": \"unsubscribe\", \"id\": \"...\"}; each field once, and no others";
    Problem::new(StatusCode::BAD_REQUEST, "invalid_message", detail)
}

impl<'a> Told<'a> {
    pub(super) fn block(id: &'a str, block: &'a Block, log: LogId) -> Self {
        let cursor = block.id.as_deref();
        match block.body(log) {
            Some((event, data)) => Self::Frame { id, event, cursor, data },
            None => Self::Cursor { id, cursor },
        }
    }

    pub(super) fn text(&self) -> String {
        // Structs of texts and numbers always serialise.
        serde_json::to_string(self).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::{Asked, Told};
    use crate::http::Problem;
    use crate::journal::LogId;
    use crate::stream::feed::Block;
    use warp::http::StatusCode;

    #[test]
    fn what_is_asked_is_taken_as_documented_or_not_at_all() {
        let subscribe = r#"{"type":"subscribe","id":"a","customer_id":"cus_1","cursor":"c","types":["PaymentFailed"]}"#;
        assert!(matches!(Asked::parse(subscribe), Ok(Asked::Subscribe(asked)) if asked.id == "a"));
        let unsubscribe = r#"{"type":"unsubscribe","id":"a"}"#;
        assert!(matches!(Asked::parse(unsubscribe), Ok(Asked::Unsubscribe { id }) if id == "a"));
        let long = format!(r#"{{"type":"unsubscribe","id":"{}"}}"#, "x".repeat(65));
        for wrong in [
            "",
            "null",
            "[]",
            "{}",
            r#"{"type":"subscribe"}"#,
            r#"{"type":"pay","id":"a"}"#,
            r#"{"type":"subscribe","id":1}"#,
            r#"{"type":"subscribe","id":"a","id":"b"}"#,
            r#"{"type":"subscribe","id":"a","payment":"b"}"#,
            r#"{"type":"subscribe","id":"a"} x"#,
            r#"{"type":"unsubscribe","id":""}"#,
            &long,
        ] {
            assert!(Asked::parse(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn what_is_told_reads_as_documented() {
        let log = LogId([7; 16]);
        let told = |told: Told<'_>| told.text();
        assert_eq!(told(Told::Subscribed { id: "a\"" }), r#"{"type":"subscribed","id":"a\""}"#);
        assert_eq!(told(Told::GoingAway { retry_ms: 5 }), r#"{"type":"going_away","retry_ms":5}"#);
        let reset = r#"{"type":"frame","id":"a","event":"reset","cursor":null,"data":{"log":"07070707"}}"#;
        assert_eq!(told(Told::block("a", &Block::reset(), log)), reset);
        let cursor = r#"{"type":"cursor","id":"a","cursor":"07070707.AA"}"#;
        assert_eq!(told(Told::block("a", &Block::cursor("07070707.AA".to_owned()), log)), cursor);
        let problem = Problem::new(StatusCode::NOT_FOUND, "gone", "it is not there");
        let error = told(Told::Error { id: None, error: problem.body() });
        assert!(error.starts_with(r#"{"type":"error","id":null,"error":{"#) && error.contains(r#""code":"gone""#));
    }
}
