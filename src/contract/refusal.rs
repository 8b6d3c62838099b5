//! What is refused or fails the same way on every route: from an error of ours to a [`Problem`].

use warp::http::StatusCode;

use crate::http::Problem;
use crate::payment::Invalid;
use crate::projection::BadOffsets;
use crate::store::StoreError;

impl From<Invalid> for Problem {
    /// 400 for what cannot be read, 422 for what can be and is wrong.
    fn from(invalid: Invalid) -> Self {
        let status = if invalid.malformed { StatusCode::BAD_REQUEST } else { StatusCode::UNPROCESSABLE_ENTITY };
        refused(status, invalid)
    }
}

impl From<StoreError> for Problem {
    /// A store that fails is for the operator: the client learns that it is not its fault, and nothing more.
    fn from(error: StoreError) -> Self {
        tracing::error!(error = %error, "a request failed: the store cannot be read");
        Self::internal()
    }
}

/// An invalid parameter or header: 400 whatever is wrong with it, for there the line between the two cannot be drawn.
#[must_use]
pub fn bad_parameter(invalid: Invalid) -> Problem {
    refused(StatusCode::BAD_REQUEST, invalid)
}

/// A parameter that is a position, a cursor or an id of ours, and is not one of this log.
#[must_use]
pub fn bad_place(bad: BadOffsets, code: &'static str, name: &str) -> Problem {
    match bad {
        BadOffsets::Malformed => {
            let detail = format!("{name} is not one that paylog gave out");
            Problem::new(StatusCode::BAD_REQUEST, code, detail)
        }
        BadOffsets::OtherLog => {
            let detail = format!("{name} is of another log: this one was created anew; leave it away and start again");
            Problem::new(StatusCode::CONFLICT, "other_log", detail)
        }
    }
}

fn refused(status: StatusCode, invalid: Invalid) -> Problem {
    let problem = Problem::new(status, invalid.code, invalid.detail);
    match invalid.field {
        Some(field) => problem.member("field", field),
        None => problem,
    }
}
