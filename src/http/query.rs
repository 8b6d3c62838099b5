//! The query of a request, strictly: a parameter that nobody knows, or that comes twice, is a mistake of the caller.

use warp::Filter;
use warp::http::StatusCode;
use warp::reject::Rejection;

use crate::http::Problem;

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
