//! The query of a request, strictly: a parameter that nobody knows, or that comes twice, is a mistake of the caller.

use warp::Filter;
use warp::http::StatusCode;
use warp::reject::Rejection;

use crate::http::Problem;

/// The most that one page holds.
const PAGE_MAX: usize = 200;

/// The parameters of one request, decoded.
pub struct Query(Vec<(String, String)>);

/// Takes whatever query there is.
pub fn query() -> impl Filter<Extract = (Query,), Error = Rejection> + Copy {
    warp::query::<Vec<(String, String)>>().map(Query)
}

impl Query {
    /// Refuses all but `known`, and each of those if it comes twice.
    pub fn only(&self, known: &[&str]) -> Result<(), Problem> {
        let refuse = |code, detail| Err(Problem::new(StatusCode::BAD_REQUEST, code, detail));
        if self.0.iter().any(|(name, _)| !known.contains(&name.as_str())) {
            let detail = match known {
                [] => "this resource takes no parameters".to_owned(),
                _ => format!("a parameter is not one of {}", known.join(", ")),
            };
            return refuse("unknown_parameter", detail);
        }
        if known.iter().any(|name| self.0.iter().filter(|(n, _)| n == name).count() > 1) {
            return refuse("repeated_parameter", "a parameter is given more than once".to_owned());
        }
        Ok(())
    }

    #[must_use]
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(n, _)| n == name).map(|(_, value)| value.as_str())
    }
}

/// How many a page is to hold.
pub fn page_limit(digits: &str) -> Result<usize, Problem> {
    let plain = digits.bytes().all(|b| b.is_ascii_digit());
    match digits.parse() {
        Ok(limit @ 1..=PAGE_MAX) if plain => Ok(limit),
        _ => {
            let detail = format!("limit must be a whole number from 1 to {PAGE_MAX}");
            Err(Problem::new(StatusCode::BAD_REQUEST, "invalid_limit", detail))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::page_limit as limit;

    #[test]
    fn a_limit_is_taken_as_documented_or_not_at_all() {
        assert_eq!((limit("1").ok(), limit("200").ok()), (Some(1), Some(200)));
        for wrong in ["", "0", "201", "-1", "+1", "1.0", "ten", "99999999999999999999999"] {
            assert!(limit(wrong).is_err(), "{wrong}");
        }
    }
}
