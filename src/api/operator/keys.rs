//! `/v1/operator/keys`: keys of merchants and of operators. A key itself is in one answer, that to its making.

use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Buf;
use futures_util::Stream;
use warp::Filter;
use warp::filters::BoxedFilter;
use warp::http::{HeaderMap, StatusCode};
use warp::reply::Response;

use super::super::{RETRY_AFTER, get, json, otherwise};
use super::{Asked, Operator, document, with};
use crate::access::custody::{Hand, NotDone, OVERLAP, OVERLAP_MAX};
use crate::contract::{KeyBody, NewKeyBody, text};
use crate::control::{Holder, KeyId};
use crate::http::{Problem, Query, query, read_object};
use crate::payment::{Invalid, MerchantId, Signed};

/// What is to become of a key: the last part of the path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Change {
    Rotate,
    Revoke,
}

#[derive(serde::Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = KeyAsked)]
pub(in crate::api) struct CreateBody {
    #[schema(value_type = text::Scope)]
    scope: String,
    #[schema(value_type = Option<text::MerchantId>)]
    merchant_id: Option<String>,
    #[schema(value_type = text::OperatorName)]
    operator: String,
    #[schema(value_type = text::Reason)]
    reason: String,
}

#[derive(serde::Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = KeyChange)]
pub(in crate::api) struct ChangeBody {
    #[schema(maximum = 2_592_000)]
    overlap_seconds: Option<u64>,
    #[schema(value_type = text::OperatorName)]
    operator: String,
    #[schema(value_type = text::Reason)]
    reason: String,
}

#[derive(serde::Serialize, utoipa::ToSchema)]
#[schema(as = Keys)]
pub(in crate::api) struct ListBody<'a> {
    data: Vec<KeyBody<'a>>,
}

impl FromStr for Change {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        match text {
            "rotate" => Ok(Self::Rotate),
            "revoke" => Ok(Self::Revoke),
            _ => Err(()),
        }
    }
}

pub(super) fn route(operator: &Arc<Operator>) -> BoxedFilter<(Response,)> {
    let path = || warp::path!("v1" / "operator" / "keys");
    let create = path()
        .and(warp::post())
        .and(with(operator))
        .and(warp::body::stream())
        .then(async |asked: Asked, body| asked.answer(create(&asked.operator, &asked.headers, body)).await);
    let list = path()
        .and(get())
        .and(with(operator))
        .and(query())
        .then(async |asked: Asked, query: Query| asked.answer(list(&asked.operator, &query)).await);
    create.or(list).unify().or(otherwise(path(), "GET, HEAD, POST")).unify().boxed()
}

pub(super) fn change_route(operator: &Arc<Operator>) -> BoxedFilter<(Response,)> {
    let path = || warp::path!("v1" / "operator" / "keys" / String / Change);
    path()
        .and(warp::post())
        .and(with(operator))
        .and(warp::body::stream())
        .then(async |id: String, to: Change, asked: Asked, body| {
            asked.answer(change(&asked.operator, &id, to, &asked.headers, body)).await
        })
        .or(otherwise(path().map(|_, _| ()).untuple_one(), "POST"))
        .unify()
        .boxed()
}

async fn list(operator: &Operator, query: &Query) -> Result<Response, Problem> {
    query.only(&[])?;
    let (keys, now) = (operator.control.keys().all(), operator.api.view.clocks().machine());
    let data = keys.iter().map(|key| KeyBody::new(key, now)).collect();
    Ok(json(StatusCode::OK, &ListBody { data }))
}

async fn create<S, B>(operator: &Operator, headers: &HeaderMap, body: S) -> Result<Response, Problem>
where
    S: Stream<Item = Result<B, warp::Error>>,
    B: Buf,
{
    let (holder, signed) = new_key(&document(&operator.api, headers, body).await?)?;
    let hand = hand(operator, &signed);
    let (made, key) = hand.create(holder).await.map_err(|error| not_done(&error))?;
    Ok(json(StatusCode::CREATED, &NewKeyBody::new(made.reveal(), &key, None, hand.now)))
}

async fn change<S, B>(
    operator: &Operator,
    id: &str,
    to: Change,
    headers: &HeaderMap,
    body: S,
) -> Result<Response, Problem>
where
    S: Stream<Item = Result<B, warp::Error>>,
    B: Buf,
{
    let (overlap, signed) = changed(to, &document(&operator.api, headers, body).await?)?;
    let id = KeyId::parse(id).ok_or_else(|| not_done(&NotDone::NoSuchKey))?;
    let hand = hand(operator, &signed);
    match to {
        Change::Rotate => {
            let (made, key, before) = hand.rotate(&id, overlap).await.map_err(|error| not_done(&error))?;
            let body = NewKeyBody::new(made.reveal(), &key, Some(&before), hand.now);
            Ok(json(StatusCode::CREATED, &body))
        }
        Change::Revoke => {
            let key = hand.revoke(&id).await.map_err(|error| not_done(&error))?;
            Ok(json(StatusCode::OK, &KeyBody::new(&key, hand.now)))
        }
    }
}

fn hand<'a>(operator: &'a Operator, signed: &'a Signed) -> Hand<'a> {
    let api = &operator.api;
    let (now, patience) = (api.view.clocks().machine(), api.config.confirm_wait);
    Hand { control: &operator.control, signed, now, patience }
}

// === what is asked ===

fn new_key(body: &[u8]) -> Result<(Holder, Signed), Invalid> {
    let what =
        "{\"scope\": \"merchant\", \"merchant_id\", \"operator\", \"reason\"}, or scope operator without merchant_id";
    let CreateBody { scope, merchant_id, operator, reason } = read_object(body).map_err(|e| malformed(what, &e))?;
    let holder = match (scope.as_str(), merchant_id) {
        ("merchant", Some(id)) => Holder::Merchant(MerchantId::parse(&id)?),
        ("operator", None) => Holder::Operator,
        _ => {
            let detail = "scope must be merchant, with a merchant_id, or operator, without one".to_owned();
            return Err(Invalid::field("invalid_scope", "scope", detail));
        }
    };
    Ok((holder, Signed::new(&operator, &reason)?))
}

fn changed(to: Change, body: &[u8]) -> Result<(Duration, Signed), Invalid> {
    let what = "{\"operator\", \"reason\"}, and overlap_seconds where a key is rotated";
    let ChangeBody { overlap_seconds, operator, reason } = read_object(body).map_err(|e| malformed(what, &e))?;
    let overlap = overlap_seconds.map_or(OVERLAP, Duration::from_secs);
    if overlap > OVERLAP_MAX || (to == Change::Revoke && overlap_seconds.is_some()) {
        let max = OVERLAP_MAX.as_secs();
        let detail = format!("overlap_seconds is at most {max}, and only where a key is rotated");
        return Err(Invalid::field("invalid_overlap", "overlap_seconds", detail));
    }
    Ok((overlap, Signed::new(&operator, &reason)?))
}

/// Repeats nothing that was sent, as what the library says might.
fn malformed(what: &str, error: &serde_json::Error) -> Invalid {
    let place = format!("line {} column {}", error.line(), error.column());
    Invalid::malformed("malformed_json", format!("the body must be {what}: see {place}"))
}

fn not_done(error: &NotDone) -> Problem {
    let (status, code) = match error {
        NotDone::NoSuchKey => (StatusCode::NOT_FOUND, "key_not_found"),
        NotDone::Over => (StatusCode::CONFLICT, "key_over"),
        NotDone::Late => (StatusCode::CONFLICT, "key_changed"),
        NotDone::Unconfirmed => (StatusCode::SERVICE_UNAVAILABLE, "unconfirmed"),
        NotDone::NotAppended => (StatusCode::SERVICE_UNAVAILABLE, "not_appended"),
        NotDone::Unknown => (StatusCode::SERVICE_UNAVAILABLE, "append_unknown"),
    };
    let problem = Problem::new(status, code, error.to_string());
    if status == StatusCode::SERVICE_UNAVAILABLE { problem.retry_after(RETRY_AFTER) } else { problem }
}

#[cfg(test)]
mod tests {
    use super::{Change, changed, new_key};

    #[test]
    fn a_key_is_asked_for_as_documented_or_not_at_all() {
        let code = |body: &str| new_key(body.as_bytes()).map(|_| ()).map_err(|e| e.code).err();
        assert_eq!(code(r#"{"scope":"merchant","merchant_id":"acme","operator":"ada","reason":"x"}"#), None);
        assert_eq!(code(r#"{"scope":"operator","operator":"ada","reason":"x"}"#), None);
        for (body, expected) in [
            (r#"{"scope":"operator","merchant_id":"acme","operator":"ada","reason":"x"}"#, "invalid_scope"),
            (r#"{"scope":"merchant","operator":"ada","reason":"x"}"#, "invalid_scope"),
            (r#"{"scope":"all","operator":"ada","reason":"x"}"#, "invalid_scope"),
            (r#"{"scope":"merchant","merchant_id":"","operator":"ada","reason":"x"}"#, "invalid_merchant_id"),
            (r#"{"scope":"operator","operator":"ada","reason":""}"#, "invalid_reason"),
            (r#"{"scope":"operator","operator":"ada"}"#, "malformed_json"),
            (r#"{"scope":"operator","operator":"ada","reason":"x","key":"plk_1"}"#, "malformed_json"),
        ] {
            assert_eq!(code(body), Some(expected), "{body}");
        }
    }

    #[test]
    fn an_overlap_is_for_a_rotation_and_has_an_end() {
        let code =
            |to, body: &str| changed(to, body.as_bytes()).map(|(overlap, _)| overlap.as_secs()).map_err(|e| e.code);
        let plain = r#"{"operator":"ada","reason":"x"}"#;
        let with = |seconds: u64| format!(r#"{{"operator":"ada","reason":"x","overlap_seconds":{seconds}}}"#);
        assert_eq!(code(Change::Rotate, plain), Ok(86_400));
        assert_eq!(code(Change::Rotate, &with(0)), Ok(0));
        assert_eq!(code(Change::Rotate, &with(2_592_001)), Err("invalid_overlap"));
        assert_eq!(code(Change::Revoke, &with(1)), Err("invalid_overlap"));
        assert!(code(Change::Revoke, plain).is_ok());
    }
}
