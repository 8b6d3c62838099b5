//! `/v1/push_subscriptions`: browsers that are told by Web Push how a payment has ended. A merchant's page subscribes with what
//! its backend gave it, a stream token, and for no more than that names. Everything is decided on the control log; a notifier
//! tells, wherever it runs.

mod body;
mod changes;
mod described;
mod pushes;
mod turns;

use std::sync::Arc;

use warp::Filter;
use warp::filters::BoxedFilter;
use warp::http::{HeaderMap, StatusCode};
use warp::reply::Response;

pub use described::{TAG, described};
use turns::Turns;

use super::webhooks::{ListBody, WebhookApi, attempts_of};
use super::{get, json, otherwise};
use crate::access::Caller;
use crate::contract::SubscriptionBody;
use crate::control::{KnownSubscription, PushScope, SubscriptionId};
use crate::deliveries::outcome::What;
use crate::http::{Problem, Query, query};
use crate::webpush::VapidKey;

/// Subscriptions on one page.
const PAGE: usize = 100;

pub struct PushApi {
    /// What endpoints are taken in with.
    pub told: Arc<WebhookApi>,
    /// `None` if this instance does no Web Push.
    pub vapid: Option<VapidKey>,
    turns: Turns,
}

#[derive(serde::Serialize, utoipa::ToSchema)]
#[schema(as = ApplicationServerKey)]
pub(in crate::api) struct KeyBody<'a> {
    application_server_key: &'a str,
}

/// Every route of this module. What none of them matches is rejected, so that others may follow with `or`.
pub fn routes(push: &Arc<PushApi>) -> BoxedFilter<(Response,)> {
    let others = [subscriptions(push), subscription(push), attempts(push), of_payment(push)];
    others.into_iter().fold(key(push), |all, one| all.or(one).unify().boxed())
}

/// Asked for without a key: it is public, and says nothing of a merchant.
fn key(push: &Arc<PushApi>) -> BoxedFilter<(Response,)> {
    let path = || warp::path!("v1" / "push");
    path()
        .and(get())
        .and(with(push))
        .and(query())
        .then(async |push: Arc<PushApi>, query: Query| push.told.answer(async { show_key(&push, &query) }).await)
        .or(otherwise(path(), "GET, HEAD"))
        .unify()
        .boxed()
}

fn subscriptions(push: &Arc<PushApi>) -> BoxedFilter<(Response,)> {
    let path = || warp::path!("v1" / "push_subscriptions");
    let asked = |push| with(push).and(warp::header::headers_cloned()).and(query());
    let create = path().and(warp::post()).and(asked(push)).and(warp::body::stream()).then(
        async |push: Arc<PushApi>, headers: HeaderMap, query: Query, body| {
            push.told.answer(changes::create(&push, &headers, &query, body)).await
        },
    );
    let list = path().and(get()).and(asked(push)).then(async |push: Arc<PushApi>, headers: HeaderMap, query: Query| {
        push.told.answer(async { list(&push, &headers, &query) }).await
    });
    create.or(list).unify().or(otherwise(path(), "GET, HEAD, POST")).unify().boxed()
}

fn subscription(push: &Arc<PushApi>) -> BoxedFilter<(Response,)> {
    let path = || warp::path!("v1" / "push_subscriptions" / String);
    path()
        .and(warp::delete())
        .and(with(push))
        .and(warp::header::headers_cloned())
        .then(async |id: String, push: Arc<PushApi>, headers: HeaderMap| {
            push.told.answer(changes::delete(&push, &headers, &id)).await
        })
        .or(otherwise(path().map(drop).untuple_one(), "DELETE"))
        .unify()
        .boxed()
}

fn attempts(push: &Arc<PushApi>) -> BoxedFilter<(Response,)> {
    let path = || warp::path!("v1" / "push_subscriptions" / String / "attempts");
    path()
        .and(get())
        .and(with(push))
        .and(warp::header::headers_cloned())
        .and(query())
        .then(async |id: String, push: Arc<PushApi>, headers: HeaderMap, query: Query| {
            push.told.answer(async { show_attempts(&push, &headers, &id, &query) }).await
        })
        .or(otherwise(path().map(drop).untuple_one(), "GET, HEAD"))
        .unify()
        .boxed()
}

fn of_payment(push: &Arc<PushApi>) -> BoxedFilter<(Response,)> {
    let path = || warp::path!("v1" / "payments" / String / "pushes");
    path()
        .and(get())
        .and(with(push))
        .and(warp::header::headers_cloned())
        .and(query())
        .then(async |id: String, push: Arc<PushApi>, headers: HeaderMap, query: Query| {
            push.told.answer(async { pushes::show(&push, &headers, &id, &query) }).await
        })
        .or(otherwise(path().map(drop).untuple_one(), "GET, HEAD"))
        .unify()
        .boxed()
}

fn show_key(push: &PushApi, query: &Query) -> Result<Response, Problem> {
    query.only(&[])?;
    Ok(json(StatusCode::OK, &KeyBody { application_server_key: push.vapid()?.public() }))
}

fn list(push: &PushApi, headers: &HeaderMap, query: &Query) -> Result<Response, Problem> {
    let merchant = push.told.merchant(headers)?;
    query.only(&["cursor"])?;
    let after = query.get("cursor").map(|text| SubscriptionId::parse(text).ok_or_else(bad_cursor)).transpose()?;
    let mut mine = push.told.control.subscriptions().of_merchant(&merchant, after, PAGE + 1);
    let more = mine.len() > PAGE;
    mine.truncate(PAGE);
    let next_cursor = mine.last().filter(|_| more).map(|last| last.subscription.id.to_string());
    // One that has ended is not there, even before anybody has taken it off the log: so a page may be short.
    let (keys, now) = (push.told.control.keys(), push.told.api.view.clocks().machine());
    let open = mine.iter().filter(|known| !known.subscription.has_ended(&keys, now));
    let data = open.map(|known| SubscriptionBody::new(known)).collect();
    Ok(json(StatusCode::OK, &ListBody { data, next_cursor }))
}

/// For the merchant alone: what became of an attempt says something of the server that it went to.
fn show_attempts(push: &PushApi, headers: &HeaderMap, id: &str, query: &Query) -> Result<Response, Problem> {
    let caller = push.told.api.access.caller(headers)?;
    let merchant = caller.merchant()?;
    query.only(&["cursor"])?;
    let id = SubscriptionId::parse(id).ok_or_else(not_found)?;
    let is_open = push.told.control.subscriptions().find(id).map(|known| known.subscription.merchant == *merchant);
    if !is_open.map_or_else(|| push.was_of(&caller, id), Ok)? {
        return Err(not_found());
    }
    attempts_of(&push.told.deliveries, id.into(), query)
}

fn with(
    push: &Arc<PushApi>,
) -> impl Filter<Extract = (Arc<PushApi>,), Error = std::convert::Infallible> + Clone + use<> {
    let push = Arc::clone(push);
    warp::any().map(move || Arc::clone(&push))
}

impl PushApi {
    #[must_use]
    pub fn new(told: Arc<WebhookApi>, vapid: Option<VapidKey>) -> Self {
        Self { told, vapid, turns: Turns::default() }
    }

    fn vapid(&self) -> Result<&VapidKey, Problem> {
        self.vapid.as_ref().ok_or_else(|| {
            let detail = "this instance does no Web Push: start it with PAYLOG_SECRETS_KEY or --secrets-key-file, and with \
                          --vapid-subject (PAYLOG_VAPID_SUBJECT), the same at every instance and notifier";
            Problem::new(StatusCode::NOT_IMPLEMENTED, "push_not_configured", detail)
        })
    }

    /// Of one that is over nothing is known but what it was told of, or was to be: whose payments those are.
    fn was_of(&self, caller: &Caller, id: SubscriptionId) -> Result<bool, Problem> {
        match self.told.deliveries.told_first(id)? {
            Some(What::Event { payment, .. }) => Ok(self.told.api.row(caller, payment)?.is_some()),
            Some(What::Test | What::Disabled { .. }) | None => Ok(false),
        }
    }

    /// What the caller may not see is not there.
    fn find(&self, caller: &Caller, id: &str) -> Result<Arc<KnownSubscription>, Problem> {
        let known = SubscriptionId::parse(id).and_then(|id| self.told.control.subscriptions().find(id));
        let (keys, now) = (self.told.control.keys(), self.told.api.view.clocks().machine());
        let known = known.filter(|known| !known.subscription.has_ended(&keys, now)).ok_or_else(not_found)?;
        let subscription = &known.subscription;
        let is_mine = match (caller.merchant(), &subscription.scope) {
            (Ok(merchant), _) => *merchant == subscription.merchant,
            (Err(_), PushScope::Customer(customer)) => {
                caller.scope(Some(customer.clone())).is_ok_and(|scope| scope.merchant == subscription.merchant)
            }
            (Err(_), PushScope::Payment(id)) => self.told.api.row(caller, *id)?.is_some(),
        };
        if is_mine { Ok(known) } else { Err(not_found()) }
    }
}

fn not_found() -> Problem {
    Problem::new(StatusCode::NOT_FOUND, "push_subscription_not_found", "there is no such push subscription")
}

fn bad_cursor() -> Problem {
    Problem::new(StatusCode::BAD_REQUEST, "invalid_cursor", "cursor is not one that paylog gave out")
}
