//! `POST /v1/operator/parked/{id}/resume`: a person's decision about a parked payment. It goes to the log like everything
//! else, and has its effect only if the payment is still as that person saw it; the fold says which.

use bytes::Buf;
use futures_util::Stream;
use warp::http::{HeaderMap, StatusCode};
use warp::reply::{Reply, Response};

use super::super::create::halted;
use super::super::{Api, POSITION, header_value, json, not_found};
use super::document;
use crate::contract::{FrameBody, partition, position_text, text};
use crate::http::Problem;
use crate::payment::{Event, EventData, NewDecision, Payment, PaymentId, Phase};

/// On the log, and that is all that this instance knows.
#[derive(serde::Serialize, utoipa::ToSchema)]
#[schema(as = UnconfirmedDecision)]
pub(in crate::api) struct UnconfirmedBody {
    #[schema(value_type = text::PaymentId)]
    id: String,
    confirmed: bool,
    #[schema(value_type = text::Position)]
    position: String,
}

pub(super) async fn resume<S, B>(api: &Api, id: &str, headers: &HeaderMap, body: S) -> Result<Response, Problem>
where
    S: Stream<Item = Result<B, warp::Error>>,
    B: Buf,
{
    let decision = NewDecision::parse(&document(api, headers, body).await?)?;
    let id = PaymentId::parse(id).ok_or_else(not_found)?;
    let row = api.view.payment(id)?.ok_or_else(not_found)?;
    if api.view.is_halted(partition(id, api.view.partitions())) {
        return Err(halted());
    }
    let at_version = decision.at_version;
    if !is_parked_at(&row.payment, at_version) {
        return Err(moved_on(&row.payment, "nothing was recorded"));
    }
    let resumed = EventData::PaymentResumed(decision.into_event());
    let position = api.append(&Event::new(id, api.view.clocks().machine(), resumed), headers).await?;
    let text = position_text(api.view.log_id(), position);
    let folded = api.until_shutdown(api.view.wait_folded(position));
    if tokio::time::timeout(api.config.confirm_wait, folded).await != Ok(true) {
        let body = UnconfirmedBody { id: id.to_string(), confirmed: false, position: text.clone() };
        return Ok(at(json(StatusCode::ACCEPTED, &body), &text));
    }
    let made = api.view.events_after(id, at_version, 1)?;
    let answer = match made.iter().find(|entry| entry.position == position) {
        Some(entry) => json(StatusCode::OK, &FrameBody::new(entry, api.view.log_id())),
        None => {
            let now = api.view.payment(id)?.ok_or_else(not_found)?;
            moved_on(&now.payment, "the decision is on the log and has no effect").into_response()
        }
    };
    Ok(at(answer, &text))
}

fn is_parked_at(payment: &Payment, version: u64) -> bool {
    matches!(payment.phase, Phase::Parked { .. }) && payment.version == version
}

fn moved_on(now: &Payment, what: &str) -> Problem {
    let (version, phase) = (now.version, now.phase.name());
    let detail = format!("{what}: the payment is no longer parked at that version, it is {phase} at version {version}");
    let problem = Problem::new(StatusCode::CONFLICT, "not_parked_at_version", detail);
    problem.member("version", version.to_string()).member("phase", phase)
}

fn at(mut response: Response, position: &str) -> Response {
    response.headers_mut().insert(POSITION, header_value(position));
    response
}
