//! Why somebody is not let in, as RFC 6750 wants it told: what is missing or not good with 401, what is not enough with 403,
//! and a `WWW-Authenticate` that says which. Nothing that was sent is repeated.

use warp::http::header::WWW_AUTHENTICATE;
use warp::http::{HeaderValue, StatusCode};

use super::door::NotHere;
use super::ticket::NotTaken;
use super::token::BadToken;
use crate::http::Problem;

/// Nothing was given: RFC 6750 wants no error named then.
const BARE: &str = "Bearer realm=\"paylog\"";
const INVALID: &str = "Bearer realm=\"paylog\", error=\"invalid_token\"";
const INSUFFICIENT: &str = "Bearer realm=\"paylog\", error=\"insufficient_scope\"";
const MALFORMED: &str = "Bearer realm=\"paylog\", error=\"invalid_request\"";

fn refusal(status: StatusCode, code: &'static str, challenge: &'static str, detail: impl Into<String>) -> Problem {
    Problem::new(status, code, detail).header(WWW_AUTHENTICATE, HeaderValue::from_static(challenge))
}

pub(super) fn no_key(why: NotHere) -> Problem {
    let why = match why {
        NotHere::Closed => "",
        NotHere::Proxied => " (through a proxy nobody is let in without)",
        NotHere::OtherName => " (only under localhost, 127.0.0.1 or [::1] somebody is let in without)",
        NotHere::OtherPage => {
            " (a page of another origin is not let in without, and has a stream token instead of a key)"
        }
    };
    let detail = format!("an API key is needed{why}: send Authorization: Bearer and the key");
    refusal(StatusCode::UNAUTHORIZED, "authentication_required", BARE, detail)
}

pub(super) fn there_are_keys() -> Problem {
    let detail = "an API key is needed, for there are keys now: send Authorization: Bearer and the key";
    refusal(StatusCode::UNAUTHORIZED, "authentication_required", BARE, detail)
}

/// Of routes for those who run this.
pub(super) fn no_operator(why: NotHere) -> Problem {
    let loopback_only = |detail| Problem::new(StatusCode::FORBIDDEN, "loopback_only", detail);
    match why {
        NotHere::Closed => {
            let detail =
                "an operator's key is needed: send Authorization: Bearer and the key (PAYLOG_API_KEY for the commands)";
            refusal(StatusCode::UNAUTHORIZED, "authentication_required", BARE, detail)
        }
        NotHere::Proxied => loopback_only(
            "without an operator's key, operator routes are not answered through a proxy: run the command on the machine itself, \
             straight to paylog's own port, and let the proxy pass on nothing under /v1/operator/",
        ),
        NotHere::OtherName => loopback_only(
            "without an operator's key, operator routes are answered under localhost, 127.0.0.1 or [::1] only, and Host names \
             another",
        ),
        NotHere::OtherPage => {
            loopback_only("without an operator's key, operator routes are not answered to a page of another origin")
        }
    }
}

pub(super) fn malformed(detail: &str) -> Problem {
    refusal(StatusCode::BAD_REQUEST, "invalid_authorization", MALFORMED, detail)
}

pub(super) fn not_whole() -> Problem {
    let detail = "this is not a whole API key: was all of it copied?";
    refusal(StatusCode::UNAUTHORIZED, "invalid_key", INVALID, detail)
}

pub(super) fn unknown_key() -> Problem {
    refusal(StatusCode::UNAUTHORIZED, "invalid_key", INVALID, "there is no such API key")
}

pub(super) fn revoked_key() -> Problem {
    refusal(StatusCode::UNAUTHORIZED, "key_revoked", INVALID, "this API key was revoked: ask for a new one")
}

pub(super) fn expired_key() -> Problem {
    let detail = "this API key is over, for another has taken its place: use that one";
    refusal(StatusCode::UNAUTHORIZED, "key_expired", INVALID, detail)
}

pub(super) fn bad_token(bad: &BadToken) -> Problem {
    match bad {
        BadToken::Invalid => {
            refusal(StatusCode::UNAUTHORIZED, "invalid_token", INVALID, "this is no stream token of ours")
        }
        BadToken::Expired => token_expired(),
    }
}

pub(super) fn token_expired() -> Problem {
    let detail = "the stream token is over: ask your backend for another, and go on with the last id";
    refusal(StatusCode::UNAUTHORIZED, "token_expired", INVALID, detail)
}

pub(super) fn no_tokens() -> Problem {
    let detail =
        "this instance has no key to sign stream tokens with: set PAYLOG_TOKEN_KEY, the same for every instance";
    Problem::new(StatusCode::NOT_IMPLEMENTED, "no_token_key", detail)
}

pub(super) fn ticket_not_taken(why: &NotTaken) -> Problem {
    match why {
        NotTaken::Before => {
            let detail =
                "this ticket was used: each opens one stream; ask for another, or let the browser use the cookie";
            refusal(StatusCode::UNAUTHORIZED, "ticket_used", INVALID, detail)
        }
        NotTaken::TooMany => {
            let detail = "too many tickets are used just now: try again";
            Problem::new(StatusCode::SERVICE_UNAVAILABLE, "too_many_tickets", detail)
                .retry_after(std::time::Duration::from_secs(1))
        }
    }
}

pub(super) fn for_merchants() -> Problem {
    let detail = "this needs a merchant's key, and an operator's is none";
    refusal(StatusCode::FORBIDDEN, "insufficient_scope", INSUFFICIENT, detail)
}

pub(super) fn for_operators() -> Problem {
    refusal(StatusCode::FORBIDDEN, "insufficient_scope", INSUFFICIENT, "this needs an operator's key")
}

/// Asked with a token for more than it names.
pub(super) fn not_named() -> Problem {
    let detail = "the stream token names one payment or one customer, and is good for nothing else";
    refusal(StatusCode::FORBIDDEN, "insufficient_scope", INSUFFICIENT, detail)
}

pub(super) fn token_needed() -> Problem {
    let detail = "a stream token is needed: send Authorization: Bearer and the token";
    refusal(StatusCode::UNAUTHORIZED, "authentication_required", BARE, detail)
}
