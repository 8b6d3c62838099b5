//! `/v1/operator/rejected`: records at which the fold cannot go on, and those that an operator has told it to pass over.

use std::time::Duration;

use bytes::Buf;
use futures_util::Stream;
use warp::http::{HeaderMap, StatusCode};
use warp::reply::Response;

use super::super::{json, not_acknowledged};
use super::{Operator, document};
use crate::contract::{HaltBody, RejectionBody, text};
use crate::control::{Decided, NewRejection};
use crate::http::{Problem, Query};
use crate::journal::{Offset, Partition, Position};
use crate::payment::{Invalid, Signed, Timestamp};
use crate::projection::Halt;

/// What an operator says who knows that a record of an unknown schema is no event of a later version of paylog.
const UNKNOWN_SCHEMA: &str = "unknown_schema";

/// What was asked for, checked.
struct Asked {
    rejection: NewRejection,
    despite_unknown_schema: bool,
}

#[derive(serde::Serialize, utoipa::ToSchema)]
#[schema(as = Rejected)]
pub(in crate::api) struct RejectedBody<'a> {
    /// Where this instance has halted now.
    halted: Vec<HaltBody>,
    /// Every rejection there ever was, by position.
    data: Vec<RejectionBody<'a>>,
}

#[derive(serde::Serialize, utoipa::ToSchema)]
#[schema(as = AddedRejection)]
pub(in crate::api) struct AddedBody<'a> {
    #[serde(flatten)]
    rejection: RejectionBody<'a>,
    /// Has this instance passed over the record already?
    passed: bool,
}

#[derive(serde::Serialize, utoipa::ToSchema)]
#[schema(as = UnconfirmedRejection)]
pub(in crate::api) struct UnconfirmedBody {
    #[schema(value_type = text::Place)]
    position: String,
    confirmed: bool,
}

pub(super) async fn list(operator: &Operator, query: &Query) -> Result<Response, Problem> {
    query.only(&[])?;
    let rejections = operator.control.rejections();
    let halted = operator.api.view.halts().into_iter().map(HaltBody::new).collect();
    let data = rejections.iter().map(RejectionBody::new).collect();
    Ok(json(StatusCode::OK, &RejectedBody { halted, data }))
}

/// Only where this very instance has halted: what some instance can read is not garbage. Nor is what a later version may
/// read, unless the operator knows better: with it a payment would be lost.
pub(super) async fn add<S, B>(operator: &Operator, headers: &HeaderMap, body: S) -> Result<Response, Problem>
where
    S: Stream<Item = Result<B, warp::Error>>,
    B: Buf,
{
    let api = &operator.api;
    let Asked { rejection: new, despite_unknown_schema } =
        parse(&document(api, headers, body).await?, api.view.clocks().machine())?;
    let position = new.position;
    may_be_rejected(&api.view.halts(), position, despite_unknown_schema)?;
    let patience = api.config.confirm_wait;
    let decided = operator.control.reject(new, patience).await.map_err(|e| {
        tracing::warn!(%position, error = %e, "a rejection was not recorded");
        not_acknowledged(&e, "the rejection may or may not have been recorded: look at the list, then repeat")
    });
    match decided? {
        Decided::Effective(rejection) => {
            let passed = passes(operator, position, patience).await;
            Ok(json(StatusCode::CREATED, &AddedBody { rejection: RejectionBody::new(&rejection), passed }))
        }
        Decided::Late => {
            let detail = "the record was rejected before, and the fold goes on behind it";
            Err(Problem::new(StatusCode::CONFLICT, "already_rejected", detail))
        }
        Decided::Unconfirmed => {
            let body = UnconfirmedBody { position: position.to_string(), confirmed: false };
            Ok(json(StatusCode::ACCEPTED, &body))
        }
    }
}

async fn passes(operator: &Operator, position: Position, patience: Duration) -> bool {
    let api = &operator.api;
    let folded = api.until_shutdown(api.view.wait_folded(position));
    tokio::time::timeout(patience, folded).await == Ok(true)
}

fn parse(body: &[u8], at: Timestamp) -> Result<Asked, Invalid> {
    let (text, despite, signed) = Signed::parse_about(body, "position", "despite")?;
    let position = position(&text).ok_or_else(|| {
        let detail = "position must be <partition>:<offset>, as the halt says it";
        Invalid::field("invalid_position", "position", detail.to_owned())
    })?;
    let despite_unknown_schema = match despite.as_deref() {
        None => false,
        Some(UNKNOWN_SCHEMA) => true,
        Some(_) => {
            let detail = format!("despite can only be {UNKNOWN_SCHEMA}");
            return Err(Invalid::field("invalid_despite", "despite", detail));
        }
    };
    Ok(Asked { rejection: NewRejection { position, signed, at }, despite_unknown_schema })
}

fn position(text: &str) -> Option<Position> {
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    let (partition, offset) = text.split_once(':').filter(|(p, o)| digits(p) && digits(o))?;
    Some(Position::new(Partition(partition.parse().ok()?), Offset(offset.parse().ok()?)))
}

/// What only waits for the schema registry is rejected by nobody: it may be read when the registry answers.
fn may_be_rejected(halts: &[Halt], position: Position, despite_unknown_schema: bool) -> Result<(), Problem> {
    match halts.iter().find(|halt| halt.position == position) {
        None => Err(not_halted(halts)),
        Some(halt) if halt.waits => Err(registry_away()),
        Some(halt) if halt.may_be_newer && !despite_unknown_schema => Err(may_be_newer()),
        Some(_) => Ok(()),
    }
}

fn registry_away() -> Problem {
    let detail = "nothing was recorded: the schema registry has not said yet what the record's schema is, and with its answer \
                  the partition goes on: see to the registry";
    Problem::new(StatusCode::CONFLICT, "registry_away", detail)
}

fn may_be_newer() -> Problem {
    let detail = format!(
        "nothing was recorded: the record names a schema that this version of paylog does not know, as an event of a later \
         version does, and a payment would be lost with it: upgrade this instance, and its partition goes on; only if you \
         know that no paylog wrote the record, reject it despite {UNKNOWN_SCHEMA}"
    );
    Problem::new(StatusCode::CONFLICT, UNKNOWN_SCHEMA, detail)
}

fn not_halted(halts: &[Halt]) -> Problem {
    let detail = match halts {
        [] => "nothing was recorded: this instance has not halted anywhere".to_owned(),
        _ => {
            let halts: Vec<String> = halts.iter().map(|halt| halt.position.to_string()).collect();
            format!("nothing was recorded: this instance has not halted there, but at {}", halts.join(", "))
        }
    };
    Problem::new(StatusCode::CONFLICT, "not_halted_there", detail)
}

#[cfg(test)]
mod tests {
    use super::{may_be_rejected, parse, position};
    use crate::journal::{Offset, Partition, Position};
    use crate::payment::samples::at;
    use crate::projection::Halt;

    #[test]
    fn a_position_is_two_plain_numbers() {
        assert_eq!(position("1:42"), Some(Position::new(Partition(1), Offset(42))));
        for wrong in ["", "1", "1:", ":42", "1:-2", "+1:2", "1:2:3", "a:b", "1: 2", "4294967296:0"] {
            assert_eq!(position(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn what_waits_for_the_registry_is_rejected_by_nobody() {
        let here = Position::new(Partition(1), Offset(42));
        let said = |may_be_newer, waits, despite, at| {
            let halt = Halt { position: here, reason: "it has its reason".to_owned(), may_be_newer, waits };
            may_be_rejected(&[halt], at, despite).map_err(|problem| format!("{problem:?}"))
        };
        for despite in [false, true] {
            let refused = said(true, true, despite, here).unwrap_err();
            assert!(refused.contains("registry_away"), "{refused}");
            assert_eq!(said(false, false, despite, here), Ok(()));
        }
        assert!(said(true, false, false, here).unwrap_err().contains("unknown_schema"));
        assert_eq!(said(true, false, true, here), Ok(()));
        assert!(said(false, false, false, here.next()).unwrap_err().contains("not_halted_there"));
    }

    #[test]
    fn a_rejection_is_signed() {
        let code = |body: &str| parse(body.as_bytes(), at(0)).map_err(|e| e.code).err();
        assert_eq!(code(r#"{"position":"1:42","operator":"ada","reason":"garbage"}"#), None);
        assert_eq!(code(r#"{"position":"1:42","operator":"ada"}"#), Some("missing_field"));
        assert_eq!(code(r#"{"position":"1:42","reason":"garbage"}"#), Some("missing_field"));
        assert_eq!(code(r#"{"position":142,"operator":"ada","reason":"garbage"}"#), Some("not_a_string"));
        assert_eq!(code(r#"{"position":"1/42","operator":"ada","reason":"garbage"}"#), Some("invalid_position"));
        assert_eq!(code(r#"{"position":"1:42","operator":"ada","reason":"x","by":1}"#), Some("unknown_field"));
        let despite = |what| {
            let body = format!(r#"{{"position":"1:42","operator":"ada","reason":"x","despite":{what}}}"#);
            parse(body.as_bytes(), at(0)).map(|asked| asked.despite_unknown_schema).map_err(|e| e.code)
        };
        assert_eq!((despite("null"), despite(r#""unknown_schema""#)), (Ok(false), Ok(true)));
        assert_eq!((despite(r#""everything""#), despite("true")), (Err("invalid_despite"), Err("not_a_string")));
    }
}
