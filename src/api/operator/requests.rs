//! `/v1/operator/requests`: which partitions of requests wait, and for what; and which ids of the schema registry they wait for no
//! longer. A process that takes requests in answers this beside health and metrics, for only it knows what waits there.

use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Buf;
use futures_util::Stream;
use warp::Filter;
use warp::filters::BoxedFilter;
use warp::http::{HeaderMap, StatusCode};
use warp::reply::Response;

use super::super::{get, json, not_acknowledged, otherwise};
use super::{Asked, Operator, document, with};
use crate::contract::{HeldRequestBody, SchemaDecisionBody};
use crate::control::Decided;
use crate::http::{Problem, Query, query};
use crate::payment::Signed;
use crate::schema::IdStanding;

#[derive(serde::Serialize, utoipa::ToSchema)]
#[schema(as = HeldRequests)]
pub(in crate::api) struct HeldBody {
    /// Does this instance take requests in? Of another it does not know what waits there.
    takes_requests: bool,
    held: Vec<HeldRequestBody>,
    /// Ids of schemas that are refused now.
    refused: Vec<SchemaDecisionBody>,
}

#[derive(serde::Serialize, utoipa::ToSchema)]
#[schema(as = UnconfirmedSchemaDecision)]
pub(in crate::api) struct UnconfirmedBody {
    schema_id: u32,
    confirmed: bool,
}

/// How long the schema registry is asked before a decision about one of its ids: it may be slow, or have several URLs.
const INQUIRY_MAX: Duration = Duration::from_secs(10);

/// What becomes of requests by one id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Change {
    Refuse,
    Readmit,
}

impl FromStr for Change {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        match text {
            "refuse" => Ok(Self::Refuse),
            "readmit" => Ok(Self::Readmit),
            _ => Err(()),
        }
    }
}

/// Of this module alone.
pub fn routes(operator: &Arc<Operator>) -> BoxedFilter<(Response,)> {
    let held = || warp::path!("v1" / "operator" / "requests");
    let list = held()
        .and(get())
        .and(with(operator))
        .and(query())
        .then(async |asked: Asked, query: Query| asked.answer(list(&asked.operator, &query)).await)
        .or(otherwise(held(), "GET, HEAD"))
        .unify();
    let schema = || warp::path!("v1" / "operator" / "requests" / "schemas" / String / Change);
    let change = schema()
        .and(warp::post())
        .and(with(operator))
        .and(warp::body::stream())
        .then(async |id: String, to: Change, asked: Asked, body| {
            asked.answer(change(&asked.operator, &id, to, &asked.headers, body)).await
        })
        .or(otherwise(schema().map(|_, _| ()).untuple_one(), "POST"))
        .unify();
    list.or(change).unify().boxed()
}

async fn list(operator: &Operator, query: &Query) -> Result<Response, Problem> {
    query.only(&[])?;
    let (requests, held) = (operator.api.codec.requests(), operator.holding.all());
    let takes_requests = held.is_some();
    let held = held.unwrap_or_default().into_iter();
    let held = held.map(|(topic, one)| HeldRequestBody::new(topic, one, |id| requests.standing(id))).collect();
    let refused = operator.control.schema_decisions().into_iter().filter(|decision| decision.refused);
    let refused = refused.map(SchemaDecisionBody::new).collect();
    Ok(json(StatusCode::OK, &HeldBody { takes_requests, held, refused }))
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
    let api = &operator.api;
    let id: u32 = id.parse().map_err(|_| {
        let detail = "the id of a schema in a registry is a whole number, as `GET /v1/operator/requests` shows it";
        Problem::new(StatusCode::BAD_REQUEST, "invalid_schema_id", detail)
    })?;
    let signed = Signed::parse_alone(&document(api, headers, body).await?)?;
    let (now, patience, refused) = (api.view.clocks().machine(), api.config.confirm_wait, to == Change::Refuse);
    if operator.control.refused_ids().contains(id) == refused {
        return Err(no_change(to));
    }
    if refused {
        may_be_refused(api.codec.requests().inquire(id, INQUIRY_MAX).await)?;
    }
    let decided = operator.control.decide_schema(id, refused, &signed, now, patience).await.map_err(|e| {
        tracing::warn!(schema_id = id, error = %e, "a decision about requests was not recorded");
        not_acknowledged(&e, "the decision may or may not have been recorded: look at the list, then repeat")
    });
    match decided? {
        Decided::Effective(decision) => Ok(json(StatusCode::CREATED, &SchemaDecisionBody::new(decision))),
        Decided::Late => Err(no_change(to)),
        Decided::Unconfirmed => Ok(json(StatusCode::ACCEPTED, &UnconfirmedBody { schema_id: id, confirmed: false })),
    }
}

/// Only what the registry says nothing of, while it answers for others. Nobody's request is refused because it is away, and what
/// it has explained waits for nothing.
fn may_be_refused(standing: IdStanding) -> Result<(), Problem> {
    let (code, why) = match standing {
        IdStanding::Withheld(_) => return Ok(()),
        IdStanding::NoRegistry => (
            "no_registry",
            "no schema registry is configured here, so that no request waits for one: ask an instance that has it",
        ),
        IdStanding::Explained => (
            "schema_explained",
            "the schema registry has said what this id is, or that there is none, so that no request waits for it",
        ),
        IdStanding::Away => (
            "registry_away",
            "the schema registry does not answer, for this id or any other, or not in time: see to it, for with its answer the \
             requests go on; if it answers again and says nothing of this id, repeat",
        ),
    };
    Err(Problem::new(StatusCode::CONFLICT, code, format!("nothing was recorded: {why}")))
}

fn no_change(to: Change) -> Problem {
    let (code, detail) = match to {
        Change::Refuse => ("already_refused", "requests by this id are refused already"),
        Change::Readmit => ("not_refused", "requests by this id are not refused"),
    };
    Problem::new(StatusCode::CONFLICT, code, detail)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::payment::Invalid;

    #[test]
    fn only_what_the_registry_alone_says_nothing_of_is_refused() {
        assert!(may_be_refused(IdStanding::Withheld("403".to_owned())).is_ok());
        for (standing, code) in [
            (IdStanding::NoRegistry, "no_registry"),
            (IdStanding::Explained, "schema_explained"),
            (IdStanding::Away, "registry_away"),
        ] {
            let refused = format!("{:?}", may_be_refused(standing).unwrap_err());
            assert!(refused.contains(code), "{refused}");
        }
    }

    #[test]
    fn a_decision_about_an_id_is_signed() {
        let code = |body: &str| Signed::parse_alone(body.as_bytes()).map_err(|Invalid { code, .. }| code).err();
        assert_eq!(code(r#"{"operator":"ada","reason":"no rights"}"#), None);
        assert_eq!(code(r#"{"operator":"ada"}"#), Some("missing_field"));
        assert_eq!(code(r#"{"operator":"ada","reason":"x","id":7}"#), Some("unknown_field"));
    }
}
