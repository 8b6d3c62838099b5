//! Streams: a payment, or all payments of a customer, followed as they happen (Server-Sent Events, WHATWG HTML 9.2).
//!
//! A stream is a cursor and nothing else. It is woken when something of its own was folded, reads what comes next from the
//! view, and reads on only when the socket has taken that: there is no queue that could overflow, a slow reader costs what a
//! quick one costs, and where it left off is in the id of the last frame it got. So nothing is skipped or repeated over
//! any disconnect (promise 5).
//!
//! How many there may be is bounded by the number of connections ([`crate::http::Limits`]) and by nothing else: a refusal
//! with 503 would end a browser's EventSource for ever, a refused connection it tries again.

mod customer;
mod payment;
mod sse;

use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;
use warp::Filter;
use warp::filters::BoxedFilter;
use warp::http::{HeaderMap, StatusCode};
use warp::reply::{Reply, Response};

use crate::contract::{AtLeast, bad_parameter, bad_place};
use crate::http::{Problem, Query, query};
use crate::payment::{CustomerId, MerchantId, PaymentId};
use crate::projection::{BadOffsets, View};

use customer::CustomerFeed;
use payment::PaymentFeed;

pub struct Streams {
    pub view: View,
    pub config: StreamConfig,
    pub shutdown: CancellationToken,
}

#[derive(Clone, Debug)]
pub struct StreamConfig {
    /// How long a stream may be silent: then a comment goes out, so that proxies and clients know it lives.
    pub heartbeat: Duration,
    /// How long one response may last: clients come back with their id, and spread over the instances again.
    pub max_age: Duration,
}

impl Default for StreamConfig {
    fn default() -> Self {
        Self { heartbeat: Duration::from_secs(15), max_age: Duration::from_secs(3600) }
    }
}

pub fn routes(streams: &Arc<Streams>) -> BoxedFilter<(Response,)> {
    let streams = Arc::clone(streams);
    let path = || warp::path!("v1" / "stream");
    let open = path().and(warp::get()).and(warp::header::headers_cloned()).and(query()).map(
        move |headers: HeaderMap, query: Query| streams.open(&headers, &query).unwrap_or_else(Problem::into_response),
    );
    let otherwise = path().map(|| Problem::method_not_allowed("GET").into_response());
    open.or(otherwise).unify().boxed()
}

/// Where a client wants to begin.
struct Start {
    /// The id of the last frame it got.
    last_event_id: Option<String>,
    /// Wait for this before anything is said.
    at_least: Option<AtLeast>,
    /// It came with something of another log: what it knows is no longer true.
    reset: bool,
}

impl Streams {
    fn open(&self, headers: &HeaderMap, query: &Query) -> Result<Response, Problem> {
        query.only(&["payment_id", "customer_id", "last_event_id", "at_least"])?;
        let start = self.start(headers, query)?;
        match (query.get("payment_id"), query.get("customer_id")) {
            (Some(id), None) => self.of_payment(id, start),
            (None, Some(id)) => self.of_customer(id, start),
            _ => {
                let detail = "name one of payment_id and customer_id, and only one";
                Err(Problem::new(StatusCode::BAD_REQUEST, "invalid_stream", detail))
            }
        }
    }

    fn start(&self, headers: &HeaderMap, query: &Query) -> Result<Start, Problem> {
        let header = headers.get("last-event-id").map(|value| value.to_str().map_err(|_| malformed_id()));
        let last_event_id = header.transpose()?.or(query.get("last_event_id")).filter(|id| !id.is_empty());
        let decode = |text| AtLeast::decode(text, self.view.log_id(), self.view.partitions());
        let (at_least, reset) = match query.get("at_least").map(decode).transpose() {
            Ok(at_least) => (at_least, false),
            // Elsewhere this is a 409; here it comes with every reconnect, for it is in the URL, and must not end a browser's
            // EventSource before it has been told of the reset.
            Err(BadOffsets::OtherLog) => (None, true),
            Err(bad) => return Err(bad_place(bad, "invalid_position", "at_least")),
        };
        Ok(Start { last_event_id: last_event_id.map(str::to_owned), at_least, reset })
    }

    fn of_payment(&self, id: &str, start: Start) -> Result<Response, Problem> {
        let id = PaymentId::parse(id).ok_or_else(|| {
            Problem::new(StatusCode::BAD_REQUEST, "invalid_payment_id", "payment_id is not the id of a payment")
        })?;
        match PaymentFeed::open(&self.view, id, start)? {
            Some(feed) => Ok(sse::respond(self, sse::Feed::Payment(feed))),
            // "A client can be told to stop reconnecting" (9.2.1).
            None => Ok(StatusCode::NO_CONTENT.into_response()),
        }
    }

    fn of_customer(&self, id: &str, start: Start) -> Result<Response, Problem> {
        let customer = CustomerId::parse(id).map_err(bad_parameter)?;
        let feed = CustomerFeed::open(&self.view, MerchantId::default(), customer, start)?;
        Ok(sse::respond(self, sse::Feed::Customer(feed)))
    }
}

fn malformed_id() -> Problem {
    bad_place(BadOffsets::Malformed, "invalid_last_event_id", "the last event id")
}
