//! `/v1/operator/import`: what the log has from another, and the word that this log alone acts for it now.

use bytes::Buf;
use futures_util::Stream;
use warp::http::{HeaderMap, StatusCode};
use warp::reply::Response;

use super::super::{json, not_acknowledged};
use super::{Operator, document};
use crate::contract::ImportBody;
use crate::control::{Decided, Import, Step};
use crate::http::{Problem, Query};
use crate::payment::{Invalid, Signed};

#[derive(serde::Serialize, utoipa::ToSchema)]
#[schema(as = ShownImport)]
pub(in crate::api) struct ShownBody<'a> {
    /// `null` for a log into which nothing was imported.
    #[schema(required)]
    import: Option<ImportBody<'a>>,
}

#[derive(serde::Serialize, utoipa::ToSchema)]
#[schema(as = UnconfirmedAdoption)]
pub(in crate::api) struct UnconfirmedBody {
    confirmed: bool,
}

pub(super) async fn show(operator: &Operator, query: &Query) -> Result<Response, Problem> {
    query.only(&[])?;
    let import = operator.control.import();
    Ok(json(StatusCode::OK, &ShownBody { import: import.as_ref().map(ImportBody::new) }))
}

/// The digest says that the operator has looked at what is adopted.
pub(super) async fn adopt<S, B>(operator: &Operator, headers: &HeaderMap, body: S) -> Result<Response, Problem>
where
    S: Stream<Item = Result<B, warp::Error>>,
    B: Buf,
{
    let api = &operator.api;
    let (digest, signed) = parse(&document(api, headers, body).await?)?;
    may_adopt(operator.control.import().as_ref(), &digest)?;
    let (now, patience) = (api.view.clocks().machine(), api.config.confirm_wait);
    let decided = operator.control.step_import(&Step::Adopt, &signed, now, patience).await;
    let decided = decided.map_err(|e| {
        tracing::warn!(error = %e, "an adoption was not recorded");
        not_acknowledged(&e, "the adoption may or may not have been recorded: look at the import, then repeat")
    });
    match decided? {
        Decided::Effective(import) => {
            Ok(json(StatusCode::CREATED, &ShownBody { import: Some(ImportBody::new(&import)) }))
        }
        Decided::Late => Err(adopted()),
        Decided::Unconfirmed => Ok(json(StatusCode::ACCEPTED, &UnconfirmedBody { confirmed: false })),
    }
}

fn parse(body: &[u8]) -> Result<(String, Signed), Invalid> {
    let (digest, despite, signed) = Signed::parse_about(body, "digest", "despite")?;
    match despite {
        None => Ok((digest, signed)),
        Some(_) => Err(Invalid::field("invalid_despite", "despite", "nothing can be set aside here".to_owned())),
    }
}

fn may_adopt(import: Option<&Import>, digest: &str) -> Result<(), Problem> {
    let refuse = |code, detail| Err(Problem::new(StatusCode::CONFLICT, code, detail));
    match import {
        None => refuse("nothing_imported", "nothing was recorded: nothing was ever imported into this log"),
        Some(import) if import.archive.digest != digest => {
            refuse("other_archive", "nothing was recorded: another archive was imported into this log; look at it")
        }
        Some(import) if import.adopted.is_some() => Err(adopted()),
        Some(_) => Ok(()),
    }
}

fn adopted() -> Problem {
    Problem::new(StatusCode::CONFLICT, "already_adopted", "the import was adopted before")
}
