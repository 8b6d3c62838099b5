//! `GET /v1/events`: what has happened since a cursor, a page at a time, for a backend that polls. It is the feed and the
//! cursor of the streams, so that a client may go from one to the other.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use tokio::time::Instant;
use warp::Filter;
use warp::filters::BoxedFilter;
use warp::http::header::CACHE_CONTROL;
use warp::http::{HeaderMap, HeaderName, HeaderValue};
use warp::reply::{Reply, Response};

use super::Streams;
use super::event_types::Types;
use crate::access::Caller;
use crate::contract::{FrameBody, bad_parameter, bad_place, text};
use crate::http::{Problem, Query, page_limit, prefer, query};
use crate::payment::{CustomerId, EventData};
use crate::projection::{Changes, Offsets, Scope};

/// Changes of one page, unless the client says how many.
const PAGE: usize = 100;
/// So often is read on for what is asked for, among much that is not, although nobody waits.
const READS_MIN: usize = 40;

const POSITION: HeaderName = HeaderName::from_static("paylog-position");

#[derive(serde::Serialize, utoipa::ToSchema)]
#[schema(as = ChangePage)]
pub(super) struct PageBody<'a> {
    data: Vec<FrameBody<'a>>,
    /// Where to go on; never `null`, for there will be more.
    #[schema(value_type = text::Cursor)]
    next_cursor: String,
    /// Is there more by now? It may be something that was not asked for.
    has_more: bool,
}

/// What was asked for.
struct Asked {
    scope: Scope,
    types: Types,
    after: Offsets,
    limit: usize,
}

pub(super) fn route(streams: &Arc<Streams>) -> BoxedFilter<(Response,)> {
    let streams = Arc::clone(streams);
    let path = || warp::path!("v1" / "events");
    let get = warp::get().or(warp::head()).unify();
    let page = path().and(get).and(warp::header::headers_cloned()).and(query()).then(
        move |headers: HeaderMap, query: Query| {
            let streams = Arc::clone(&streams);
            async move { streams.page(&headers, &query).await.unwrap_or_else(Problem::into_response) }
        },
    );
    let otherwise = path().map(|| Problem::method_not_allowed("GET, HEAD").into_response());
    page.or(otherwise).unify().boxed()
}

impl Streams {
    async fn page(&self, headers: &HeaderMap, query: &Query) -> Result<Response, Problem> {
        let caller = self.access.caller(headers)?;
        let asked = self.asked(&caller, query)?;
        let wait = prefer::wait(headers);
        let changes = self.changes(&caller, &asked, wait.unwrap_or_default()).await?;
        let log = self.view.log_id();
        let body = PageBody {
            data: changes.entries.iter().map(|entry| FrameBody::new(entry, log)).collect(),
            next_cursor: changes.next.encode(log),
            has_more: changes.more,
        };
        let mut response = warp::reply::json(&body).into_response();
        if let Some(wait) = wait {
            prefer::applied(&mut response, wait);
        }
        // Never less than the client has seen elsewhere, which this instance may not have yet.
        let mut position = self.view.visible();
        asked.after.positions().for_each(|seen| position.advance(seen));
        let headers = response.headers_mut();
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        if let Ok(position) = HeaderValue::from_str(&position.encode(log)) {
            headers.insert(POSITION, position);
        }
        Ok(response)
    }

    fn asked(&self, caller: &Caller, query: &Query) -> Result<Asked, Problem> {
        query.only(&["after", "limit", "types", "customer_id"])?;
        let customer = query.get("customer_id").map(CustomerId::parse).transpose().map_err(bad_parameter)?;
        let after = |text| Offsets::decode(text, self.view.log_id(), self.view.partitions());
        let after =
            query.get("after").map(after).transpose().map_err(|bad| bad_place(bad, "invalid_cursor", "after"))?;
        Ok(Asked {
            scope: caller.scope(customer)?,
            types: query.get("types").map(Types::listed).transpose()?.unwrap_or_default(),
            after: after.unwrap_or_else(|| Offsets::start(self.view.partitions())),
            limit: query.get("limit").map_or(Ok(PAGE), page_limit)?,
        })
    }

    /// Something, as soon as there is something; nothing when the wait is over, or this instance stops, or the caller may no
    /// longer ask.
    async fn changes(&self, caller: &Caller, asked: &Asked, wait: Duration) -> Result<Changes, Problem> {
        // Made before the first read, so that nothing happens unseen between the two.
        let mut watch = self.view.watch(&asked.scope);
        let (mut after, deadline) = (asked.after.clone(), Instant::now() + wait);
        let mut permit = pin!(caller.permit().clone().ended());
        let wanted = |data: &EventData| asked.types.has(data);
        let mut reads = 0;
        loop {
            reads += 1;
            let changes = self.view.changes(&asked.scope, &wanted, &after, asked.limit)?;
            if !changes.entries.is_empty() || self.shutdown.is_cancelled() {
                return Ok(changes);
            }
            if Instant::now() >= deadline && (!changes.more || reads >= READS_MIN) {
                return Ok(changes);
            }
            after = changes.next.clone();
            if changes.more {
                tokio::task::yield_now().await;
                if permit.as_mut().now_or_never().is_some() {
                    return Ok(changes);
                }
                continue;
            }
            let woken = tokio::select! {
                biased;
                () = self.shutdown.cancelled() => false,
                () = permit.as_mut() => false,
                woken = tokio::time::timeout_at(deadline, watch.changed()) => woken.is_ok(),
            };
            if !woken {
                return Ok(changes);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{Asked, Types};
    use crate::access::Caller;
    use crate::payment::MerchantId;
    use crate::payment::samples::at;
    use crate::projection::{Offsets, Scope};
    use crate::stream::tests::{Growing, begun_and_tried_again};

    #[tokio::test]
    async fn a_page_that_is_held_looks_at_the_stop_and_at_its_permit_while_it_reads() {
        let directory = tempfile::tempdir().unwrap();
        let mut log = Growing::open(directory.path());
        log.grow(begun_and_tried_again(400)).await;
        let streams = log.streams();
        let caller = Caller::of(MerchantId::default());
        let asked = || Asked {
            scope: Scope { merchant: MerchantId::default(), customer: None },
            types: Types::listed("PaymentParked").unwrap(),
            after: Offsets::start(1),
            limit: 1,
        };
        let whole = streams.changes(&caller, &asked(), Duration::ZERO).await.ok().unwrap();
        assert!(!whole.more && whole.next.covers(&streams.view.folded()), "who does not wait is spared the pieces");
        let left_off = async |caller: &Caller| {
            let some = streams.changes(caller, &asked(), Duration::from_secs(60)).await.ok().unwrap();
            assert!(some.more && some.entries.is_empty(), "it left off, and says where: {:?}", some.next);
        };
        left_off(&Caller::until(MerchantId::default(), Some(at(0)))).await;
        streams.shutdown.cancel();
        left_off(&caller).await;
    }
}
