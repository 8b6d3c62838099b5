//! `/v1/stream_tokens`: what a merchant's backend asks for, so that a browser can follow one payment or one customer; and how
//! a browser that can send no header comes to the stream with it, by a cookie or by a ticket.

use std::sync::Arc;
use std::time::Duration;

use bytes::Buf;
use futures_util::Stream;
use warp::Filter;
use warp::filters::BoxedFilter;
use warp::http::header::SET_COOKIE;
use warp::http::{HeaderMap, HeaderValue, StatusCode};
use warp::reply::{Reply, Response};

use super::create::require_json;
use super::{Api, json, otherwise, with};
use crate::access::{COOKIE_NAME, Issued, LIFETIME, LIFETIME_MAX, Named};
use crate::contract::text;
use crate::http::{Problem, read_body, read_object};
use crate::payment::{CustomerId, Invalid, PaymentId};

const BODY_MAX_BYTES: usize = 4 * 1024;
/// What every cookie of ours has. Sent to the API alone, by no script, over HTTPS (and to this machine), and with no request
/// that another site has caused.
const ATTRIBUTES: &str = "Path=/v1/; Secure; HttpOnly; SameSite=Strict";

#[derive(serde::Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = StreamTokenAsked)]
pub(in crate::api) struct AskedBody {
    #[schema(value_type = Option<text::PaymentId>)]
    payment_id: Option<String>,
    #[schema(value_type = Option<text::CustomerId>)]
    customer_id: Option<String>,
    #[schema(minimum = 1, maximum = 3600)]
    expires_in: Option<u64>,
}

#[derive(serde::Serialize, utoipa::ToSchema)]
#[schema(as = StreamToken)]
pub(in crate::api) struct TokenBody<'a> {
    token: &'a str,
    token_type: &'static str,
    #[schema(value_type = text::Time)]
    expires_at: String,
}

#[derive(serde::Serialize, utoipa::ToSchema)]
#[schema(as = Ticket)]
pub(in crate::api) struct TicketBody<'a> {
    ticket: &'a str,
    #[schema(value_type = text::Time)]
    expires_at: String,
}

pub(super) fn routes(api: &Arc<Api>) -> BoxedFilter<(Response,)> {
    let path = || warp::path!("v1" / "stream_tokens");
    let issue = path().and(warp::post()).and(with(api)).and(warp::header::headers_cloned()).and(warp::body::stream());
    let issue = issue.then(async |api: Arc<Api>, headers: HeaderMap, body| {
        api.answer(None, issue_token(&api, &headers, body)).await
    });
    issue.or(otherwise(path(), "POST")).unify().or(ticket(api)).unify().or(cookie(api)).unify().boxed()
}

fn ticket(api: &Arc<Api>) -> BoxedFilter<(Response,)> {
    let path = || warp::path!("v1" / "stream_tokens" / "ticket");
    path()
        .and(warp::post())
        .and(with(api))
        .and(warp::header::headers_cloned())
        .then(async |api: Arc<Api>, headers: HeaderMap| api.answer(None, async { issue_ticket(&api, &headers) }).await)
        .or(otherwise(path(), "POST"))
        .unify()
        .boxed()
}

fn cookie(api: &Arc<Api>) -> BoxedFilter<(Response,)> {
    let path = || warp::path!("v1" / "stream_tokens" / "cookie");
    let set =
        path().and(warp::post()).and(with(api)).and(warp::header::headers_cloned()).then(
            async |api: Arc<Api>, headers: HeaderMap| api.answer(None, async { set_cookie(&api, &headers) }).await,
        );
    let forget = path()
        .and(warp::delete())
        .and(with(api))
        .then(async |api: Arc<Api>| api.answer(None, async { Ok(with_cookie("", Duration::ZERO)) }).await);
    set.or(forget).unify().or(otherwise(path(), "POST, DELETE")).unify().boxed()
}

async fn issue_token<S, B>(api: &Api, headers: &HeaderMap, body: S) -> Result<Response, Problem>
where
    S: Stream<Item = Result<B, warp::Error>>,
    B: Buf,
{
    let caller = api.access.caller(headers)?;
    caller.merchant()?;
    require_json(headers)?;
    let (named, lifetime) = asked(&read_body(body, BODY_MAX_BYTES).await?)?;
    let issued = api.access.issue(&caller, named, lifetime)?;
    let body = TokenBody { token: issued.reveal(), token_type: "Bearer", expires_at: issued.expires_at.to_string() };
    Ok(json(StatusCode::CREATED, &body))
}

/// Whether there is such a payment is not looked at: a token can be asked for before its payment has been folded here, and
/// opens nothing of another merchant's.
fn asked(body: &[u8]) -> Result<(Named, Duration), Invalid> {
    let AskedBody { payment_id, customer_id, expires_in } = read_object(body).map_err(|e| {
        let place = format!("line {} column {}", e.line(), e.column());
        let detail = format!(
            "the body must be {{\"payment_id\"}} or {{\"customer_id\"}}, with expires_in if you like: see {place}"
        );
        Invalid::malformed("malformed_json", detail)
    })?;
    let named = match (payment_id, customer_id) {
        (Some(id), None) => Named::Payment(PaymentId::parse(&id).ok_or_else(|| {
            Invalid::field("invalid_payment_id", "payment_id", "payment_id is not the id of a payment".to_owned())
        })?),
        (None, Some(id)) => Named::Customer(CustomerId::parse(&id)?),
        _ => {
            let detail = "a token is for one payment_id or for one customer_id".to_owned();
            return Err(Invalid::new("invalid_stream_token", detail));
        }
    };
    let lifetime = expires_in.map_or(LIFETIME, Duration::from_secs);
    if lifetime.is_zero() || lifetime > LIFETIME_MAX {
        let detail = format!("expires_in must be 1 to {} seconds", LIFETIME_MAX.as_secs());
        return Err(Invalid::field("invalid_expires_in", "expires_in", detail));
    }
    Ok((named, lifetime))
}

fn issue_ticket(api: &Api, headers: &HeaderMap) -> Result<Response, Problem> {
    let issued: Issued = api.access.ticket(headers)?;
    let body = TicketBody { ticket: issued.reveal(), expires_at: issued.expires_at.to_string() };
    Ok(json(StatusCode::CREATED, &body))
}

fn set_cookie(api: &Api, headers: &HeaderMap) -> Result<Response, Problem> {
    let (token, lasts) = api.access.cookie(headers)?;
    Ok(with_cookie(token.reveal(), lasts))
}

fn with_cookie(value: &str, lasts: Duration) -> Response {
    let mut response = StatusCode::NO_CONTENT.into_response();
    let cookie = format!("{COOKIE_NAME}={value}; Max-Age={}; {ATTRIBUTES}", lasts.as_secs());
    // A token that was read is base64 and dots.
    if let Ok(mut cookie) = HeaderValue::from_str(&cookie) {
        cookie.set_sensitive(true);
        response.headers_mut().insert(SET_COOKIE, cookie);
    }
    response
}

#[cfg(test)]
mod tests {
    use super::asked;

    #[test]
    fn a_token_is_asked_for_as_documented_or_not_at_all() {
        let code = |body: &str| asked(body.as_bytes()).map(|(_, lifetime)| lifetime.as_secs()).map_err(|e| e.code);
        assert_eq!(code(r#"{"customer_id":"cus_1"}"#), Ok(900));
        assert_eq!(code(r#"{"payment_id":"pay_py4e5muxaklg75g4chpkn2gms4","expires_in":3600}"#), Ok(3600));
        for (body, expected) in [
            ("{}", "invalid_stream_token"),
            (r#"{"customer_id":"a","payment_id":"pay_py4e5muxaklg75g4chpkn2gms4"}"#, "invalid_stream_token"),
            (r#"{"payment_id":"x"}"#, "invalid_payment_id"),
            (r#"{"customer_id":""}"#, "invalid_customer_id"),
            (r#"{"customer_id":"a","expires_in":0}"#, "invalid_expires_in"),
            (r#"{"customer_id":"a","expires_in":3601}"#, "invalid_expires_in"),
            (r#"{"customer_id":"a","expires_in":-1}"#, "malformed_json"),
            (r#"{"customer_id":"a","merchant_id":"b"}"#, "malformed_json"),
            ("", "malformed_json"),
        ] {
            assert_eq!(code(body), Err(expected), "{body}");
        }
    }
}
