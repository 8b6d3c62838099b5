//! What happens, told as it happens: a payment, or all payments of a customer or a merchant. One feed and one cursor, over
//! Server-Sent Events (WHATWG HTML 9.2), WebSocket (RFC 6455) and, for backends that poll, a page at a time.
//!
//! A stream is a cursor and nothing else. It is woken when something of its own was folded, reads what comes next from the
//! view, and reads on only when the socket has taken that: there is no queue that could overflow, a slow reader costs what a
//! quick one costs, and where it left off is in the id of the last frame it got. So nothing is skipped or repeated over
//! any disconnect (promise 5).
//!
//! How many there may be is bounded by the number of connections ([`crate::http::Limits`]), on each by how many requests
//! HTTP/2 may have at once, or by the subscriptions of a socket, and of each merchant and token by [`StreamConfig`]. A stream is
//! never refused for it with a status: anything but 200 would end a browser's EventSource for ever. A refused connection it
//! tries again, and who has too many streams is told so in one, with the time to come back at. A socket is refused with 429.

mod described;
mod event_types;
mod feed;
mod flow;
mod message;
mod payment;
mod poll;
mod recent;
mod returning;
mod socket;
mod sse;
mod step;
#[cfg(test)]
mod tests;
mod websocket;
mod wide;

use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;
use warp::Filter;
use warp::filters::BoxedFilter;
use warp::http::header::RETRY_AFTER;
use warp::http::{HeaderMap, HeaderValue, StatusCode};
use warp::reply::{Reply, Response};

use crate::access::{Access, Caller, Follower};
use crate::contract::{AtLeast, bad_parameter, bad_place};
use crate::http::{Origins, Problem, Query, query};
use crate::payment::{CustomerId, PaymentId};
use crate::projection::{BadOffsets, View};
use crate::quota::{Held, Quota};

pub use described::{TAG, channels, described};
use event_types::Types;
use feed::Feed;
use payment::PaymentFeed;
pub use recent::Recents;
use wide::WideFeed;

pub struct Streams {
    pub view: View,
    pub access: Arc<Access>,
    pub config: StreamConfig,
    pub shutdown: CancellationToken,
    /// Who has how many.
    pub open: Arc<Quota<Follower>>,
    /// What has just happened, for all who follow it.
    pub recents: Arc<Recents>,
}

#[derive(Clone, Debug)]
pub struct StreamConfig {
    /// How long a stream may be silent: then a comment goes out, so that proxies and clients know it lives.
    pub heartbeat: Duration,
    /// How long one response may last: clients come back with their id, and spread over the instances again.
    pub max_age: Duration,
    /// Whose pages may open a WebSocket, besides those that come from the host itself.
    pub origins: Origins,
    /// Streams and sockets at once of one merchant, by keys and by tokens.
    pub each_merchant: usize,
    /// Of these of one payment, and of one customer, by stream tokens.
    pub each_token: usize,
}

impl Default for StreamConfig {
    fn default() -> Self {
        Self {
            heartbeat: Duration::from_secs(15),
            max_age: Duration::from_secs(3600),
            origins: Origins::default(),
            each_merchant: 10_000,
            each_token: 100,
        }
    }
}

pub fn routes(streams: &Arc<Streams>) -> BoxedFilter<(Response,)> {
    drop(tokio::spawn(wake_at_the_end(streams.view.clone(), streams.shutdown.clone())));
    let (streams, sockets) = (Arc::clone(streams), Arc::clone(streams));
    let path = || warp::path!("v1" / "stream");
    let open = path().and(warp::get()).and(warp::header::headers_cloned()).and(query()).map(
        move |headers: HeaderMap, query: Query| streams.sse(&headers, &query).unwrap_or_else(Problem::into_response),
    );
    let otherwise = path().map(|| Problem::method_not_allowed("GET").into_response());
    open.or(otherwise).unify().or(websocket::route(&sockets)).unify().or(poll::route(&sockets)).unify().boxed()
}

/// Streams wait for their watch alone, and look for the end when they are woken: ten thousand that waited for it too would each
/// enter and leave its list with every wake.
async fn wake_at_the_end(view: View, shutdown: CancellationToken) {
    shutdown.cancelled().await;
    view.wake_all();
}

/// What a client wants to follow, and from where on, in its own words.
#[derive(Default)]
struct Wish<'a> {
    payment_id: Option<&'a str>,
    customer_id: Option<&'a str>,
    /// The id of the last frame it got.
    cursor: Option<&'a str>,
    /// Wait for this before anything is said.
    at_least: Option<&'a str>,
    types: Types,
}

/// Held for as long as its stream lives: among all of its merchant, and among those to whom tokens show the same.
type Place = Vec<Held<Follower>>;

/// Where it begins.
struct Start {
    last_event_id: Option<String>,
    at_least: Option<AtLeast>,
    /// It came with something of another log: what it knows is no longer true.
    reset: bool,
    types: Types,
}

impl Streams {
    fn sse(&self, headers: &HeaderMap, query: &Query) -> Result<Response, Problem> {
        query.only(&["payment_id", "customer_id", "types", "last_event_id", "at_least", "ticket"])?;
        let (caller, place) = self.access.follower(headers, query.get("ticket"), |caller| self.place(caller))?;
        let header = headers.get("last-event-id").map(|value| value.to_str().map_err(|_| malformed_id()));
        let wish = Wish {
            payment_id: query.get("payment_id"),
            customer_id: query.get("customer_id"),
            cursor: header.transpose()?.or(query.get("last_event_id")).filter(|id| !id.is_empty()),
            at_least: query.get("at_least"),
            types: query.get("types").map(Types::listed).transpose()?.unwrap_or_default(),
        };
        match self.feed(&caller, wish)? {
            Some(feed) => Ok(match place {
                Ok(place) => sse::respond(self, feed, caller.permit(), place),
                Err(problem) => sse::turn_away(&problem),
            }),
            // "A client can be told to stop reconnecting" (9.2.1).
            None => Ok(StatusCode::NO_CONTENT.into_response()),
        }
    }

    /// 429 for who has as many as there may be.
    fn place(&self, caller: &Caller) -> Result<Place, Problem> {
        let take = |follower: Follower| {
            let (max, of) = match follower {
                Follower::Merchant(_) => (self.config.each_merchant, "this merchant has"),
                Follower::Named(..) => (self.config.each_token, "what this token shows has"),
            };
            self.open.take(follower, max).ok_or_else(|| {
                let detail = format!("{of} {max} streams open, and may have no more: close some, or come back later, with another ticket if it was by one");
                let seconds = returning::full_retry_ms().div_ceil(1000);
                Problem::new(StatusCode::TOO_MANY_REQUESTS, "too_many_streams", detail)
                    .header(RETRY_AFTER, HeaderValue::from(seconds))
            })
        };
        caller.followers().into_iter().map(take).collect()
    }

    /// `None` if it is a payment that has ended and whose end the client has seen.
    fn feed(&self, caller: &Caller, wish: Wish<'_>) -> Result<Option<Feed>, Problem> {
        let (payment, customer) = (wish.payment_id, wish.customer_id);
        let start = self.start(wish)?;
        match (payment, customer) {
            (Some(id), None) => {
                let id = PaymentId::parse(id).ok_or_else(|| {
                    let detail = "payment_id is not the id of a payment";
                    Problem::new(StatusCode::BAD_REQUEST, "invalid_payment_id", detail)
                })?;
                let feed = PaymentFeed::open(&self.view, caller, id, start)?;
                Ok(feed.map(|feed| Feed::Payment(Box::new(feed))))
            }
            (None, customer) => {
                let customer = customer.map(CustomerId::parse).transpose().map_err(bad_parameter)?;
                let feed = WideFeed::open(&self.view, self.recents.follow(caller.scope(customer)?), start)?;
                Ok(Some(Feed::Wide(Box::new(feed))))
            }
            (Some(_), Some(_)) => {
                let detail = "name payment_id or customer_id, or neither of them for all payments; not both";
                Err(Problem::new(StatusCode::BAD_REQUEST, "invalid_stream", detail))
            }
        }
    }

    fn start(&self, wish: Wish<'_>) -> Result<Start, Problem> {
        let decode = |text| AtLeast::decode(text, self.view.log_id(), self.view.partitions());
        let (at_least, reset) = match wish.at_least.map(decode).transpose() {
            Ok(at_least) => (at_least, false),
            // Elsewhere this is a 409; here it comes with every reconnect, for it is in the URL, and must not end a browser's
            // EventSource before it has been told of the reset.
            Err(BadOffsets::OtherLog) => (None, true),
            Err(bad) => return Err(bad_place(bad, "invalid_position", "at_least")),
        };
        Ok(Start { last_event_id: wish.cursor.map(str::to_owned), at_least, reset, types: wish.types })
    }
}

fn malformed_id() -> Problem {
    bad_place(BadOffsets::Malformed, "invalid_last_event_id", "the last event id")
}
